"""Second moment, mean exit time, burn-in, several basins: against exact laws and by hand."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from sgdsim.stagnation import (
    StayConstants,
    burn_in_steps,
    exact_stay_probability,
    log_exit_bound_s2,
    log_tail_from_second_moment,
    mean_exit_time_bound,
    multi_basin_stay_bound,
    second_moment_bound,
    stationary_radius,
)

BASE = StayConstants(
    learning_rate=0.1,
    contraction=0.9,
    noise_operator_norm=0.04,
    noise_trace=0.12,
    radius=0.35,
    start_distance=0.2,
)
STEPS = np.array([0, 1, 2, 10, 100, 10_000])


def test_second_moment_is_that_of_an_isotropic_quadratic():
    # d_t^2 / variance is non-central chi-squared, dimension 3.
    variance = 0.1**2 * 0.04 * np.cumsum(0.81 ** np.arange(10_000))
    bound = second_moment_bound(BASE, STEPS)
    log_tail = log_tail_from_second_moment(BASE, STEPS)
    assert bound[0] == pytest.approx(0.2**2, rel=1e-12)
    for at, step in enumerate(STEPS[1:], start=1):
        centre = (0.9**step * 0.2) ** 2 / variance[step - 1]
        exact = stats.ncx2(3, max(centre, 1e-300))
        assert bound[at] == pytest.approx(variance[step - 1] * exact.mean(), rel=1e-9)
        assert np.exp(log_tail[at]) >= exact.sf(0.35**2 / variance[step - 1])
        assert np.exp(log_tail[at]) == pytest.approx(bound[at] / 0.35**2, rel=1e-12)


@pytest.mark.parametrize("start", [0.0, 0.1, 0.35])
@pytest.mark.parametrize("bias", [0.001, 0.1, 1.0])
def test_second_moment_with_a_bias(start, bias):
    ball = dataclasses.replace(BASE, start_distance=start, gradient_bias=bias)
    steps = np.arange(400)
    bound = second_moment_bound(ball, steps)
    moment, recursion = start**2, []
    for _ in steps:
        recursion.append(moment)
        moment = (0.9 * np.sqrt(moment) + 0.1 * bias) ** 2 + 0.1**2 * 0.12
    assert np.all(bound >= np.array(recursion) * (1 - 1e-12))
    assert bound[-1] == pytest.approx(recursion[-1], rel=1e-6)
    # A constant force moves the mean by its own recursion.
    shift = 0.9**steps * start + bias * (1 - 0.9**steps)
    exact = shift**2 + 0.1**2 * 0.12 * (1 - 0.81**steps) / (1 - 0.81)
    assert np.all(bound >= exact * (1 - 1e-12))


@pytest.mark.parametrize(
    ("dimension", "radius", "start"),
    [(1, 0.1, 0.0), (1, 0.11, 0.05), (2, 0.12, 0.0), (10, 0.18, 0)],
)
def test_mean_exit_time_lies_below_the_exact_one(dimension, radius, start):
    ball = StayConstants(
        learning_rate=0.05,
        contraction=0.95,
        noise_operator_norm=0.04,
        noise_trace=0.04 * dimension,
        radius=radius,
        start_distance=start,
    )
    stay = exact_stay_probability(0.95, 0.01, dimension, radius, float(start), 4000, nodes=80)
    # P(tau > 0) = 1; beyond the last step the decay is geometric.
    exact = 1 + stay.sum() + stay[-1] / (stay[-2] / stay[-1] - 1)
    bound = float(mean_exit_time_bound(ball))
    assert exact / 40 < bound < exact
    # The bound for each T with its own kappa can only be better, and not by much.
    every = np.arange(int(3 * exact))
    better = np.maximum(1 - np.exp(log_exit_bound_s2(ball, every)), 0).sum()
    assert 0.8 * better < bound <= better


@pytest.mark.parametrize("bias", [0.0, 0.01])
def test_mean_exit_time_is_the_maximum_of_its_definition(bias):
    ball = dataclasses.replace(BASE, gradient_bias=bias)
    best = 0.0
    for alpha in np.geomspace(1e-3, 1, 60) if bias else [0.0]:
        limit = (1 - (1 + alpha) * 0.81) / (2 * 0.01 * 0.04)
        for kappa in limit * np.linspace(0.01, 0.99, 150) if limit > 0 else []:
            u = 1 - 2 * kappa * 0.01 * 0.04
            b = -1.5 * np.log(u) + (kappa * (1 + 1 / alpha) * (0.1 * bias) ** 2 / u if bias else 0)
            v = np.exp(np.linspace(0, kappa * 0.35**2 + 5, 3000))
            drift = np.max(np.exp(b) * v ** ((1 + alpha) * 0.81 / u) - v)
            start = np.exp(kappa * (0.2**2 - 0.35**2))
            best = max(best, (1 - start) ** 2 / (2 * drift * np.exp(-kappa * 0.35**2)))
    assert float(mean_exit_time_bound(ball)) == pytest.approx(best, rel=2e-2)
    assert float(mean_exit_time_bound(ball)) > 0.9999 * best


def test_mean_exit_time_of_many_settings_and_at_its_ends():
    radii = np.array([[0.2, 0.3], [0.35, 50.0]])
    times = mean_exit_time_bound(dataclasses.replace(BASE, radius=radii))
    assert times.shape == (2, 2)
    assert times[0, 0] == 0.0  # the start is on the sphere
    assert np.isfinite(times[1, 1])
    assert times[1, 1] > 1e300
    assert np.all(np.diff(times.reshape(-1)) > 0)


def test_violated_assumptions_give_nan():
    for change in ({"contraction": 1.0}, {"start_distance": 0.4}, {"radius": float("inf")}):
        ball = dataclasses.replace(BASE, **change)
        assert np.isnan(mean_exit_time_bound(ball))
        assert np.isnan(second_moment_bound(ball, STEPS)).all()
        assert np.isnan(log_tail_from_second_moment(ball, STEPS)).all()


def test_burn_in_forgets_the_start():
    spread = stationary_radius(0.1, 1.0, 0.12)
    steps = burn_in_steps(0.9, 0.2, spread)
    assert 0.9 ** (2 * steps) * 0.2**2 <= spread**2 < 0.9 ** (2 * (steps - 1)) * 0.2**2
    moment, limit = second_moment_bound(BASE, np.array([steps, 10**6]))
    assert moment <= spread**2 + limit
    assert burn_in_steps(0.9, 0.5 * spread, spread) == 0
    assert burn_in_steps(0.0, 0.2, spread) == 1
    with pytest.raises(ValueError, match=r"contraction must be in \[0, 1\), got 1"):
        burn_in_steps(1.0, 0.2, 0.1)
    with pytest.raises(ValueError, match="spread must be finite and positive, got 0"):
        burn_in_steps(0.5, 0.2, 0.0)


def test_basins_add_up():
    start = np.array([0.5, 0.3, 0.2])
    assert multi_basin_stay_bound(start, np.array([0.1, 0.0, 1e300])) == pytest.approx(0.75)
    assert multi_basin_stay_bound(start, np.zeros(3)) == pytest.approx(1.0)
    assert np.isnan(multi_basin_stay_bound(start, np.array([0.1, np.nan, 0.0])))
    with pytest.raises(ValueError, match="neighbourhoods must be disjoint"):
        multi_basin_stay_bound(start + 0.1, np.zeros(3))
    with pytest.raises(ValueError, match="exit bounds must not be negative"):
        multi_basin_stay_bound(start, np.array([0.0, -0.1, 0.0]))
