"""Cushions of the layers against explicit Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.networks import log_compression
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")


def task(seed):
    random = np.random.default_rng(seed)
    weights = [random.normal(size=s) for s in [(9, 4), (7, 9), (6, 7), (3, 6)]]
    inputs = random.normal(size=(150, 4))
    # Rows for which every hidden layer has an active relu unit, or the measure is infinite.
    alive, hidden = np.ones(150, bool), inputs
    for matrix in weights[:-1]:
        hidden = np.maximum(hidden @ matrix.T, 0)
        alive &= hidden.any(axis=1)
    return weights, inputs[alive]


def explicit(weights, inputs, activation):
    """The definition of Arora et al. 2018, row by row, Jacobians as products of matrices."""
    depth = len(weights)
    phi = np.tanh if activation == "tanh" else lambda x: np.maximum(x, 0)
    slope = (lambda x: 1 - np.tanh(x) ** 2) if activation == "tanh" else lambda x: 1.0 * (x > 0)
    cushion, interlayer = np.full(depth, np.inf), np.full(depth, np.inf)
    contraction, largest = 1.0, 0.0
    for row in inputs:
        before, values = row, []
        for i, a in enumerate(weights):
            value = a @ before
            ratio = np.linalg.norm(value) / (np.linalg.norm(a) * np.linalg.norm(before))
            cushion[i] = min(cushion[i], ratio)
            values.append(value)
            before = phi(value)
            if i < depth - 1:
                contraction = max(contraction, np.linalg.norm(value) / np.linalg.norm(before))
        largest = max(largest, np.linalg.norm(values[-1]))
        for i in range(depth):
            interlayer[i] = min(interlayer[i], 1 / np.sqrt(len(values[i])))
            jacobian = np.eye(len(values[i]))
            for j in range(i + 1, depth):
                jacobian = weights[j] @ np.diag(slope(values[j - 1])) @ jacobian
                ratio = np.linalg.norm(jacobian @ values[i]) / (
                    np.linalg.norm(jacobian) * np.linalg.norm(values[i])
                )
                interlayer[i] = min(interlayer[i], ratio)
    total = np.sum(1 / (cushion * interlayer) ** 2)
    return np.log(contraction**2 * depth**2 * largest**2 * total)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_it_is_the_definition_row_by_row(activation):
    weights, inputs = task(1)
    network = Network(tuple(map(jnp.asarray, weights)), activation)
    rows = Rows(jnp.asarray(inputs), jnp.ones((len(inputs), 3)))
    found = float(jax.jit(log_compression)(network, rows))
    assert found == pytest.approx(explicit(weights, inputs, activation), rel=1e-10)


def test_dead_units_make_it_infinite():
    network = Network((-jnp.eye(2), jnp.eye(2)), "relu")
    rows = Rows(jnp.ones((3, 2)), jnp.ones((3, 2)))
    assert float(log_compression(network, rows)) == np.inf


def test_it_grows_with_the_width_only_where_the_number_of_units_limits_a_cushion():
    """With one output the Jacobian can be parallel to a layer, and 1/sqrt(h) is the smallest."""
    first, second = jnp.ones((2, 1)), jnp.ones((1, 2))
    rows = Rows(jnp.ones((3, 1)), jnp.ones((3, 1)))
    values = [
        float(log_compression(Network((a, b), "relu"), rows))
        for a, b in [(first, second), (jnp.ones((4, 1)), jnp.ones((1, 4)) / 2)]
    ]
    # c = 1, d = 2, |f| = 2, mu = 1 for both layers, mu_1-> = 1/sqrt(h), mu_2-> = 1.
    np.testing.assert_allclose(np.exp(values), [16 * (2 + 1), 16 * (4 + 1)])
