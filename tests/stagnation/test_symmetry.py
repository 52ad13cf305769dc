"""Symmetries leave the function alone; matchings are the best ones, by brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sgdsim.problems import Network, random_network
from sgdsim.stagnation import balance, canonical, symmetry_distance

pytestmark = pytest.mark.usefixtures("x64")

SHAPES = st.tuples(
    st.lists(st.integers(1, 5), min_size=2, max_size=5), st.sampled_from(["tanh", "relu"])
)


def draw_network(seed, widths, activation):
    random = np.random.default_rng(seed)
    shapes = [(rows, cols) for cols, rows in itertools.pairwise(widths)]
    return Network(tuple(jnp.asarray(random.normal(size=s)) for s in shapes), activation)


def moved_along_the_orbit(network, seed):
    """A random member of the orbit: permutations, and signs or rescalings."""
    random = np.random.default_rng(seed)
    weights = [np.asarray(weight) for weight in network.weights]
    for layer in range(len(weights) - 1):
        units = len(weights[layer])
        order = random.permutation(units)
        if network.activation == "tanh":
            factors = random.choice([-1.0, 1.0], units)
        else:
            factors = np.exp(random.normal(size=units))
        weights[layer] = factors[:, None] * weights[layer][order]
        weights[layer + 1] = weights[layer + 1][:, order] / factors
    return Network(tuple(jnp.asarray(weight) for weight in weights), network.activation)


def distance(a, b):
    pairs = zip(a.weights, b.weights, strict=True)
    return np.sqrt(sum(np.sum(np.square(np.asarray(x - y))) for x, y in pairs))


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
def test_the_function_does_not_change(shape, seed):
    network, reference = draw_network(seed, *shape), draw_network(seed + 1, *shape)
    inputs = np.random.default_rng(seed).normal(size=(7, shape[0][0]))

    def outputs(net):
        activation = np.tanh if net.activation == "tanh" else lambda z: np.maximum(z, 0)
        values = inputs
        for weight in net.weights[:-1]:
            values = activation(values @ np.asarray(weight).T)
        return values @ np.asarray(net.weights[-1]).T

    size = float(np.prod([1 + np.linalg.norm(weight) for weight in network.weights]))
    result = canonical(network, reference)
    np.testing.assert_allclose(outputs(result), outputs(network), atol=1e-12 * size, rtol=0)
    assert symmetry_distance(network, reference) == pytest.approx(
        distance(result, balance(reference) if shape[1] == "relu" else reference), abs=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(widths=st.lists(st.integers(1, 5), min_size=3, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_balanced_is_balanced_and_smallest_on_the_orbit(widths, seed):
    network = draw_network(seed, widths, "relu")
    balanced = balance(network)
    for below, above in itertools.pairwise(balanced.weights):
        incoming, outgoing = np.linalg.norm(below, axis=1), np.linalg.norm(above, axis=0)
        np.testing.assert_allclose(incoming, outgoing, rtol=1e-10)
    zero = Network(tuple(jnp.zeros_like(weight) for weight in network.weights), "relu")
    for other in (network, moved_along_the_orbit(network, seed)):
        assert distance(balanced, zero) <= distance(other, zero) * (1 + 1e-12)
        # Balancing forgets where on the orbit it began.
    again = balance(moved_along_the_orbit(balanced, seed))
    assert symmetry_distance(again, balanced) < 1e-7 * distance(balanced, zero)


def test_balance_in_closed_form_and_of_dead_units():
    network = Network(
        (jnp.array([[3.0, 4.0], [0.0, 0.0], [1.0, 1.0]]), jnp.array([[20.0, 5.0, 0.0]])), "relu"
    )
    balanced = balance(network)
    np.testing.assert_allclose(balanced.weights[0], [[6.0, 8.0], [0, 0], [0, 0]], rtol=1e-14)
    np.testing.assert_allclose(balanced.weights[1], [[10.0, 0.0, 0.0]], rtol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_one_hidden_layer_against_all_permutations_and_signs(activation):
    """Width 4: 24 permutations times 16 signs for tanh."""
    identity_is_best = 0
    for seed in range(12):
        network = draw_network(seed, (2, 4, 2), activation)
        reference = draw_network(100 + seed, (2, 4, 2), activation)
        if activation == "relu":
            network, reference = balance(network), balance(reference)
        signs = [1.0, -1.0] if activation == "tanh" else [1.0]
        rows, columns = (np.asarray(weight) for weight in network.weights)
        first, second = (np.asarray(weight) for weight in reference.weights)
        distances = [
            np.hypot(
                np.linalg.norm(np.asarray(sign)[:, None] * rows[list(order)] - first),
                np.linalg.norm(np.asarray(sign)[None] * columns[:, list(order)] - second),
            )
            for order in itertools.permutations(range(4))
            for sign in itertools.product(signs, repeat=4)
        ]
        np.testing.assert_allclose(
            symmetry_distance(network, reference), min(distances), rtol=1e-10
        )
        identity_is_best += distances[0] < min(distances) * (1 + 1e-9)
    assert identity_is_best < 6


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("widths", [(3, 6, 2), (3, 6, 5, 2), (2, 4, 4, 4, 1)])
def test_copies_of_one_network_are_found_to_be_one(widths, activation):
    for seed in range(8):
        network = random_network(jax.random.key(seed), widths, activation)
        network = jax.tree.map(lambda leaf: leaf.astype(float), network)
        copy = moved_along_the_orbit(network, seed)
        assert distance(network, copy) > 0.1
        assert symmetry_distance(copy, network) < 1e-6
        assert distance(canonical(copy, network), canonical(network, network)) < 1e-6


def test_refusals():
    tanh, relu = (draw_network(0, (2, 3, 1), name) for name in ("tanh", "relu"))
    with pytest.raises(ValueError, match="'tanh' does not commute with rescaling"):
        balance(tanh)
    with pytest.raises(ValueError, match="one architecture only"):
        symmetry_distance(tanh, relu)
    with pytest.raises(ValueError, match="one architecture only"):
        canonical(tanh, draw_network(0, (2, 4, 1), "tanh"))
