"""Ascent against exact maxima: trust regions, corners of boxes, linear classifiers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from sgdsim.networks import (
    ascend,
    ascent_tolerance,
    average_sharpness,
    call_network,
    worst_sharpness,
)
from sgdsim.networks._ascent import Ball, _checkpoints
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64")


def quadratic(seed, low, high):
    """Slope and Hessian with eigenvalues between two numbers."""
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.normal(size=(6, 6)))
    return random.normal(size=6), basis @ np.diag(random.uniform(low, high, 6)) @ basis.T


@functools.partial(jax.jit, static_argnames="ball")
def maximise(slope, hessian, scales, radius, keys, ball: Ball = "l2"):
    """Ascend from several starting points."""
    function = lambda u: slope @ u + 0.5 * u @ hessian @ u  # noqa: E731
    start = jnp.zeros(6)
    return jax.lax.map(lambda key: ascend(function, start, scales, radius, key, ball), keys)


def exact_in_ball(slope, hessian, radius):
    """Trust-region problem by its secular equation: (m I - H) u = g, |u| = radius, m >= top."""
    values, vectors = np.linalg.eigh(-hessian)
    g = vectors.T @ slope
    excess = lambda m: np.linalg.norm(g / (values + m)) - radius  # noqa: E731
    low = max(-values[0], 0.0)
    if low == 0.0 and excess(1e-12) < 0:
        u = vectors @ (g / values)
    else:
        m = brentq(excess, low + 1e-10, low + 1e6)
        u = vectors @ (g / (values + m))
    return slope @ u + 0.5 * u @ hessian @ u


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eigenvalues", [(-4.0, -0.5), (-3.0, 3.0), (0.1, 3.0)])
def test_the_maximum_in_an_ellipsoid_is_reached(seed, eigenvalues):
    slope, hessian = quadratic(seed, *eigenvalues)
    scales = np.random.default_rng(seed).uniform(0.5, 2.0, 6)
    found = maximise(slope, hessian, scales, 0.7, jax.random.split(jax.random.key(seed), 6))
    exact = exact_in_ball(scales * slope, scales[:, None] * hessian * scales, 0.7)
    values = np.asarray(found.value)
    assert np.all(values <= exact * (1 + 1e-9))
    assert np.all(np.linalg.norm(np.asarray(found.point) / scales, axis=1) <= 0.7 * (1 + 1e-9))
    # Where the function is not concave there are other local maxima: then the best start counts.
    reached = values.min() if max(eigenvalues) < 0 else values.max()
    assert reached >= 0.995 * exact


@pytest.mark.parametrize("seed", range(6))
def test_a_corner_of_a_box_is_reached(seed):
    slope, hessian = quadratic(seed, 0.1, 3.0)
    keys = jax.random.split(jax.random.key(seed), 6)
    found = maximise(3 * slope, hessian, np.ones(6), 0.3, keys, "linf")
    corners = 0.3 * np.array(list(itertools.product((-1, 1), repeat=6)))
    values = 3 * corners @ slope + 0.5 * np.einsum("ci,ij,cj->c", corners, hessian, corners)
    assert float(found.value.max()) == pytest.approx(values.max(), rel=1e-9)


def test_the_centre_counts_and_an_unknown_ball_is_refused():
    found = ascend(lambda u: -jnp.sum(u**2), jnp.zeros(3), jnp.ones(3), 1.0, jax.random.key(0))
    assert float(found.value) == 0.0
    np.testing.assert_array_equal(found.point, 0.0)
    with pytest.raises(Exception, match="ball"):
        ascend(jnp.sum, jnp.zeros(3), jnp.ones(3), 1.0, jax.random.key(0), "l1")  # pyright: ignore[reportArgumentType]


def test_checkpoints_are_those_of_the_paper():
    # Shares 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of twenty steps.
    places = np.flatnonzero(_checkpoints(20))
    assert places.tolist() == [5, 9, 12, 14, 16, 18, 19]
    assert _checkpoints(20)[places].tolist() == np.diff(places, prepend=0).tolist()


def task():
    random = np.random.default_rng(3)
    weights = tuple(jnp.asarray(random.normal(size=s)) for s in [(8, 4), (3, 8)])
    inputs = jnp.asarray(random.normal(size=(40, 4)))
    network = Network(weights, "relu")
    return network, Rows(inputs, jnp.eye(3)[jnp.argmax(network(inputs), axis=1)])


@pytest.mark.parametrize("adaptive", [True, False])
def test_the_worst_is_worse_than_all_random_perturbations(adaptive):
    network, rows = task()
    worst = float(worst_sharpness(call_network, network, rows, jax.random.key(0), 0.5, adaptive))
    random = np.random.default_rng(5)

    def loss(weights):
        hidden = np.maximum(np.asarray(rows.inputs) @ weights[0].T, 0)
        logits = hidden @ weights[1].T
        right = np.sum(logits * np.asarray(rows.targets), axis=1)
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - right)

    plain = [np.asarray(a) for a in network.weights]
    risen = []
    for _ in range(2000):
        u = [random.normal(size=a.shape) for a in plain]
        length = np.sqrt(sum(np.sum(x**2) for x in u))
        moved = [
            a + 0.5 / length * x * (np.abs(a) if adaptive else 1.0)
            for a, x in zip(plain, u, strict=True)
        ]
        risen.append(loss(moved) - loss(plain))
    assert worst > 2 * max(risen) > 0
    mean = average_sharpness(call_network, network, rows, jax.random.key(1), 0.01, adaptive)
    assert worst > float(mean)


def test_adaptive_sharpness_is_invariant_under_rescaling_and_the_other_is_not():
    network, rows = task()
    first, second = network.weights
    factors = jnp.asarray(np.random.default_rng(0).uniform(0.2, 5.0, 8))
    rescaled = Network((factors[:, None] * first, second / factors[None]), "relu")
    for function in (average_sharpness, worst_sharpness):
        for adaptive in (True, False):
            values = [
                float(function(call_network, net, rows, jax.random.key(0), 0.1, adaptive))
                for net in (network, rescaled)
            ]
            assert (values[0] == pytest.approx(values[1], rel=1e-6)) == adaptive


@pytest.mark.parametrize("magnitude", [False, True])
def test_the_tolerated_box_of_a_classifier_of_numbers(magnitude):
    """One number as input: all answers flip where the difference of two weights changes sign."""
    network = Network((jnp.array([[1.0], [-0.5]]),))
    inputs = jnp.linspace(0.5, 2.0, 30)[:, None]
    rows = Rows(inputs, jnp.tile(jnp.array([[1.0, 0.0]]), (30, 1)))
    found = ascent_tolerance(call_network, network, rows, jax.random.key(0), magnitude, halvings=14)
    exact = (1.5 - 2e-3) / 1.5 if magnitude else 1.5 / 2
    assert float(found) == pytest.approx(exact, rel=2e-3)


def test_no_box_of_the_range_is_nan():
    network, rows = task()
    found = ascent_tolerance(call_network, network, rows, jax.random.key(0), drop=1.1)
    assert np.isnan(found)
