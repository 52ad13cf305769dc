"""Noise tolerances of linear classifiers, whose accuracy under noise has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from sgdsim.networks import (
    average_sharpness,
    call_network,
    noise_tolerance,
    published_noise_tolerance,
)
from sgdsim.networks._perturbation import bisect_log, perturbed
from sgdsim.problems import Network, Rows

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def linear(x64):
    """Two classes, all rows right, margins of many sizes."""
    random = np.random.default_rng(7)
    weights = random.normal(size=(2, 5))
    inputs = random.normal(size=(60, 5))
    labels = np.argmax(inputs @ weights.T, axis=1)
    rows = Rows(jnp.asarray(inputs), jnp.eye(2)[labels])
    return weights, inputs, Network((jnp.asarray(weights),)), rows


def exact_drop(linear, deviations):
    """Accuracy 1 minus the probability that a margin, which is normal, stays positive."""
    weights, inputs, _, _ = linear
    margins = np.abs(inputs @ (weights[0] - weights[1]))
    spread = np.sqrt(inputs**2 @ np.sum(deviations**2, axis=0))
    return 1 - np.mean(norm.cdf(margins / spread))


def deviations_of(linear, scale, magnitude):
    weights = linear[0]
    return np.sqrt(scale**2 * weights**2 + 1e-6) if magnitude else np.full_like(weights, scale)


def exact_tolerance(linear, magnitude, drop=0.1):
    curve = lambda s: exact_drop(linear, deviations_of(linear, s, magnitude)) - drop  # noqa: E731
    return float(brentq(curve, 1e-6, 1e3, full_output=True)[0])


@pytest.mark.statistical
@pytest.mark.parametrize("magnitude", [False, True])
def test_intervals_cover_the_closed_form_as_often_as_they_say(linear, magnitude):
    _, _, network, rows = linear
    truth = exact_tolerance(linear, magnitude)
    find = jax.jit(lambda key: noise_tolerance(call_network, network, rows, key, magnitude))
    found = jax.lax.map(find, jax.random.split(jax.random.key(1), 300))
    assert np.all((found.low <= found.value) & (found.value <= found.high))
    covered = int(np.sum((found.low <= truth) & (truth <= found.high)))
    # 20 draws have a normal quantile where Student's would be a little larger.
    assert 0.90 <= covered / 300 <= 0.985
    wrong = exact_tolerance(linear, magnitude, drop=0.2)
    assert np.sum((found.low <= wrong) & (wrong <= found.high)) < 60


@pytest.mark.statistical
@pytest.mark.parametrize("magnitude", [False, True])
def test_many_draws_come_close_to_the_closed_form(linear, magnitude):
    _, _, network, rows = linear
    found = noise_tolerance(
        call_network, network, rows, jax.random.key(2), magnitude, 0.1, 4000, 14
    )
    truth = exact_tolerance(linear, magnitude)
    stderr = float(np.log(found.high / found.low)) / 2 / 1.96
    assert stderr < 0.02
    assert abs(np.log(float(found.value) / truth)) < 4 * stderr


def test_the_tolerance_scales_with_the_weights(linear):
    _, _, network, rows = linear
    key = jax.random.key(3)
    one = noise_tolerance(call_network, network, rows, key)
    scaled = jax.tree.map(lambda w: 1e3 * w, network)
    many = noise_tolerance(call_network, scaled, rows, key)
    np.testing.assert_allclose(many, 1e3 * np.array(one), rtol=1e-9)


def test_where_no_noise_costs_that_much_the_tolerance_is_nan(linear):
    _, _, network, rows = linear
    # Two classes: noise alone cannot cost more than half of the accuracy.
    found = noise_tolerance(call_network, network, rows, jax.random.key(3), False, 0.9)
    assert np.isnan(found).all()
    half_wrong = Rows(rows.inputs, jnp.roll(rows.targets, 1, axis=1))
    found = noise_tolerance(call_network, network, half_wrong, jax.random.key(3))
    assert np.isnan(found).all()


@pytest.mark.statistical
@pytest.mark.parametrize("magnitude", [False, True])
def test_the_published_search_passes_a_variance_as_a_standard_deviation(linear, magnitude):
    weights, _, network, rows = linear
    search = jax.jit(
        lambda key: published_noise_tolerance(call_network, network, rows, key, magnitude)
    )
    found = np.array(jax.lax.map(search, jax.random.split(jax.random.key(5), 20)))
    drops, correct = [], []
    for sigma in found:
        as_coded = sigma**2 * weights**2 + 1e-6 if magnitude else np.full_like(weights, sigma**2)
        drops.append(exact_drop(linear, as_coded))
        correct.append(exact_drop(linear, deviations_of(linear, sigma, magnitude)))
    # Ten draws with a tolerance of 0.01, and no correct scale.
    assert abs(np.mean(drops) - 0.1) < 0.02
    assert np.mean(correct) > 0.13
    assert set(np.unique(found * 2**14 % 1)) == {0.0}  # halvings of [0, 2]


@pytest.mark.statistical
@pytest.mark.parametrize("adaptive", [False, True])
def test_average_sharpness_is_a_mean_over_noise(linear, adaptive):
    weights, inputs, network, rows = linear
    random = np.random.default_rng(11)
    labels = np.argmax(rows.targets, axis=1)

    def loss(weights):
        logits = inputs @ weights.T
        chosen = logits[np.arange(60), labels]
        return np.mean(np.log(np.sum(np.exp(logits), axis=1)) - chosen)

    scale = 0.3 * (np.abs(weights) if adaptive else 1.0)
    plain = [loss(weights + scale * random.normal(size=weights.shape)) for _ in range(4000)]
    plain = np.array(plain) - loss(weights)
    found = average_sharpness(call_network, network, rows, jax.random.key(6), 0.3, adaptive, 4000)
    stderr = np.std(plain) * np.sqrt(2 / 4000)
    assert abs(float(found) - plain.mean()) < 4 * stderr
    assert plain.mean() > 10 * stderr


def test_noise_has_the_deviation_of_every_leaf():
    theta = {"a": jnp.zeros(20_000), "b": jnp.ones((100, 200))}
    scales = {"a": jnp.full(20_000, 2.0), "b": jnp.full((100, 200), 0.5)}
    noisy = perturbed(theta, scales, jax.random.key(0))
    assert float(jnp.std(noisy["a"])) == pytest.approx(2.0, rel=0.02)
    assert float(jnp.std(noisy["b"])) == pytest.approx(0.5, rel=0.02)
    assert float(jnp.mean(noisy["b"])) == pytest.approx(1.0, abs=0.02)
    ends = np.array([noisy["a"][:100].mean(), noisy["b"].ravel()[:100].mean() - 1])
    assert abs(ends[0] - 4 * ends[1]) > 1e-6


@pytest.mark.parametrize("crossing", [-1.7, 0.0, 2.9])
def test_bisection_finds_the_crossing(crossing):
    found = bisect_log(lambda x: jnp.tanh(x - crossing), jnp.array(-3.0), jnp.array(4.0), 0.0, 40)
    assert float(found) == pytest.approx(crossing, abs=1e-10)


@pytest.mark.parametrize("crossing", [-5.0, 6.0])
def test_bisection_says_where_there_is_no_crossing(crossing):
    found = bisect_log(lambda x: jnp.tanh(x - crossing), jnp.array(-3.0), jnp.array(4.0), 0.0, 40)
    assert np.isnan(found)
