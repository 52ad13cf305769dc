"""Constants of the exit bounds: what is proved and what is sampled, against slow forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import Network, Rows, cross_entropies
from sgdsim.runs._constants import BallConstants
from sgdsim.runs._stay_statements import centre_noise, certified_radius
from sgdsim.stagnation import Proved, StayStatement, sampled_maximum


def test_the_noise_at_the_centre_is_the_covariance_of_the_gradients():
    random = np.random.default_rng(0)
    rows = Rows(random.normal(size=(7, 3)), np.eye(4)[random.integers(0, 4, 7)])
    centre = Network((jnp.asarray(random.normal(size=(4, 3))),))
    with jax.enable_x64(True):
        weights = jnp.asarray(np.asarray(centre.weights[0], np.float64))
        gradients = jax.jacobian(lambda w: cross_entropies(Network((w,)), rows))(weights)
    dense = np.cov(np.asarray(gradients).reshape(7, -1), rowvar=False, bias=True)
    norm, trace = centre_noise(centre, rows)
    assert norm == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-6)
    assert trace == pytest.approx(np.trace(dense), rel=1e-6)
    assert norm < 0.999 * trace, "one direction alone would not tell them apart"


def sources(radius: float) -> dict[str, Any]:
    """Noise that grows with the radius, as around a minimum of softmax."""
    return {
        "learning_rate": Proved(0.5, "chosen"),
        "contraction": Proved(0.99, "given"),
        "noise_operator_norm": Proved(1e-3 * (1 + 0.5 * radius) ** 2, "given"),
        "noise_trace": Proved(1e-2 * (1 + 0.2 * radius) ** 2, "given"),
        "radius": Proved(radius, "chosen"),
    }


@pytest.mark.parametrize("start", [0.05, 1.0, 40.0])
def test_the_certified_radius_is_the_first_that_keeps_the_promise(start):
    steps, target = np.array([2000]), 0.01
    radius = certified_radius(sources, steps, target, start)
    grid = radius * np.linspace(0.5, 1.2, 141)
    kept = [StayStatement(sources(r)).log_exit_bound(steps)[0] <= np.log(target) for r in grid]
    assert kept == (grid >= radius * (1 - 1e-9)).tolist()
    assert StayStatement(sources(radius)).log_exit_bound(steps)[0] <= np.log(target)


def test_without_contraction_no_radius_is_certified():
    def stuck(radius: float) -> dict[str, Any]:
        return sources(radius) | {"contraction": Proved(1.0, "given")}

    assert np.isnan(certified_radius(stuck, np.array([10]), 0.01, 1.0))


def test_worst_values_count_every_point_once():
    values = np.random.default_rng(1).normal(size=(3, 40))
    merged = BallConstants()
    for part in values:
        merged = merged.merge(BallConstants.of(contraction=part, rsi=part, noise_trace=part[:1]))
    found = merged.source("contraction", 0.95)
    expected = sampled_maximum(values.ravel(), 0.95)
    assert (found.value, found.high) == (expected.value, expected.high)
    assert found.sample_size == values.size
    assert merged.worst("rsi") == values.min()
    assert merged.source("noise_trace", 0.95).sample_size == 3
    alone = BallConstants.of(growth=2.0).source("growth", 0.95)
    assert (alone.value, alone.high, alone.sample_size) == (2.0, np.inf, 1)
    assert np.isnan(BallConstants().worst("growth"))


def test_a_failed_measurement_stays_visible():
    failed = BallConstants.of(contraction=[0.5, np.nan, 0.7])
    assert np.isnan(failed.merge(BallConstants.of(contraction=[0.9])).worst("contraction"))
    assert np.isnan(failed.source("contraction", 0.95).high)
