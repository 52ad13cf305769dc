import numpy as np
import pytest
from scipy import stats

from sgdsim.stagnation import (
    exact_exit_probability,
    exact_exit_rate,
    exact_stay_probability,
    exact_stay_probability_interval,
    quadratic_stay_probability,
)

ETA, NOISE = 0.05, 0.04
RHO, SIGMA = 1 - ETA, ETA * NOISE**0.5


@pytest.mark.parametrize(
    ("dimension", "radius", "exit_probability"),
    [
        (1, 0.10, 0.396155),
        (1, 0.15, 1.31904e-3),
        (2, 0.15, 7.61956e-3),
        (10, 0.20, 1.21402e-2),
        (50, 0.30, 0.266971),
        (1, 0.20, 2.65e-7),
    ],
)
def test_exit_probability_matches_the_table(dimension, radius, exit_probability):
    leave = exact_exit_probability(RHO, SIGMA, dimension, radius, 0.0, 1000)
    assert leave[-1] == pytest.approx(exit_probability, rel=3e-6 if radius < 0.2 else 2e-3)
    stay = quadratic_stay_probability(ETA, 1.0, NOISE, dimension, radius, 0.0, 1000)
    np.testing.assert_allclose(1 - stay, leave, atol=1e-11)


def test_stay_curve_matches_the_table():
    stay = exact_stay_probability(RHO, SIGMA, 1, 0.1, 0.0, 1000)
    np.testing.assert_allclose(
        stay[[0, 9, 99, 999]], [1.0, 0.999853, 0.958830, 0.603845], atol=6e-7
    )


@pytest.mark.parametrize(
    ("dimension", "radius", "rate"), [(1, 0.1, 5.13775e-4), (2, 0.15, 7.86362e-6)]
)
def test_rate_matches_the_table_and_the_slope_of_log_survival(dimension, radius, rate):
    assert exact_exit_rate(RHO, SIGMA, dimension, radius) == pytest.approx(rate, rel=2e-6)
    stay = exact_stay_probability(RHO, SIGMA, dimension, radius, 0.0, 1000)
    assert np.log(stay[799] / stay[999]) / 200 == pytest.approx(rate, rel=1e-5)


def test_one_step_is_the_noncentral_chi_squared_law():
    stay = exact_stay_probability(0.9, 0.2, 3, 0.7, 0.5, 1)
    law = stats.ncx2.cdf((0.7 / 0.2) ** 2, 3, (0.9 * 0.5 / 0.2) ** 2)
    assert stay[0] == pytest.approx(law, rel=1e-12)
    # Nothing is forgotten between the steps of a chain without memory.
    assert exact_exit_rate(0.0, 0.2, 3, 0.7) == pytest.approx(
        -stats.chi2.logcdf((0.7 / 0.2) ** 2, 3), rel=1e-10
    )
    # Next to nobody stays.
    assert exact_exit_rate(0.0, 1.0, 400, 8.0) == pytest.approx(
        -stats.chi2.logcdf(64.0, 400), rel=1e-10
    )


def test_many_steps_follow_the_rate():
    stay = exact_stay_probability(RHO, SIGMA, 2, 0.15, 0.05, 100_000)
    rate = exact_exit_rate(RHO, SIGMA, 2, 0.15)
    # The quadrature gains or loses 1e-14 of the mass per step, at a rate of 8e-6.
    np.testing.assert_allclose(
        np.diff(np.log(stay[[1_000, 50_000, 99_999]])) / -rate, [49_000, 49_999], rtol=1e-8
    )
    # One step at a time, for a number of steps that is not a square.
    by_product = exact_stay_probability(RHO, SIGMA, 2, 0.15, 0.05, 150)
    np.testing.assert_allclose(by_product, stay[:150], rtol=1e-12)


def grid_chain(rho, shift, sigma, interval, start, steps, cells=4000):
    """Exit probabilities of the chain on the cells of a fine grid, by normal distribution."""
    edges = np.linspace(interval[0], interval[1], cells + 1)
    at = (edges[1:] + edges[:-1]) / 2

    def move(x):
        cdf = stats.norm.cdf((edges - (rho * x + shift)[:, None]) / sigma)
        return np.diff(cdf, axis=1)

    def leave(x):
        return stats.norm.sf((edges[-1] - rho * x - shift) / sigma) + stats.norm.cdf(
            (edges[0] - rho * x - shift) / sigma
        )

    first, matrix, lost = np.array([start]), move(at), leave(at)
    law, gone = move(first)[0], [leave(first)[0]]
    for _ in range(steps - 1):
        gone.append(law @ lost)
        law = law @ matrix
    return np.cumsum(gone), law.sum()


def test_exit_probabilities_down_to_1e_12_agree_with_a_fine_grid():
    leave = exact_exit_probability(0.9, 0.1, 1, 1.6, 0.3, 60)
    grid, _ = grid_chain(0.9, 0.0, 0.1, (-1.6, 1.6), 0.3, 60, cells=2000)
    assert 1e-13 < leave[-1] < 1e-9
    # Midpoints of cells are wrong by the second derivative in the far tail, of the first steps.
    seen = leave > 1e-17
    np.testing.assert_allclose(leave[seen], grid[seen], rtol=1e-3)


def test_biased_interval_agrees_with_a_fine_grid_and_with_the_ball():
    setting = (0.8, 0.2, (-0.7, 0.5), 0.3, 40)
    stay = exact_stay_probability_interval(*setting, shift=0.03)
    gone, left = grid_chain(0.8, 0.03, 0.2, (-0.7, 0.5), 0.3, 40, cells=1000)
    np.testing.assert_allclose(1 - stay, gone, rtol=2e-4)
    assert stay[-1] == pytest.approx(left, rel=2e-4)
    np.testing.assert_allclose(
        exact_stay_probability_interval(0.8, 0.2, (-0.6, 0.6), -0.3, 40),
        exact_stay_probability(0.8, 0.2, 1, 0.6, 0.3, 40),
        rtol=1e-11,
    )
    # The fixed point moves by shift / (1 - rho), the interval with it.
    moved = 0.03 / 0.2
    np.testing.assert_allclose(
        exact_stay_probability_interval(0.8, 0.2, (-0.7 - moved, 0.5 - moved), 0.3 - moved, 40),
        stay,
        rtol=1e-11,
    )


def test_small_rates_do_not_drown_in_rounding():
    coarse = exact_exit_rate(0.99, 0.002, 3, 0.15, nodes=150)
    assert coarse == pytest.approx(1.96191078e-24, rel=1e-8)
    assert exact_exit_rate(0.99, 0.002, 3, 0.15) == pytest.approx(coarse, rel=1e-8)


@pytest.mark.statistical
def test_simulation_agrees():
    rng = np.random.default_rng(0)
    runs, steps = 20_000, 60
    theta = np.zeros((runs, 3))
    theta[:, 0] = 0.4
    inside = np.ones(runs, bool)
    for _ in range(steps):
        theta = -0.8 * theta + 0.2 * rng.standard_normal(theta.shape)
        inside &= np.linalg.norm(theta, axis=1) <= 1.0
    stay = exact_stay_probability(0.8, 0.2, 3, 1.0, 0.4, steps)[-1]
    assert 0.05 < stay < 0.95
    deviation = (inside.mean() - stay) / np.sqrt(stay * (1 - stay) / runs)
    assert abs(deviation) < 5
    without_memory = stats.chi2.cdf(25.0, 3) ** steps
    assert abs(inside.mean() - without_memory) > 5 * np.sqrt(stay * (1 - stay) / runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.9, 0.1, 1, 1.0, 1.1, 5), "start must lie between"),
        ((0.9, 0.1, 1, 0.0, 0.0, 5), "radius must be a positive"),
        ((0.9, 0.0, 1, 1.0, 0.0, 5), "noise_scale must be a positive"),
        ((0.9, 0.1, 0, 1.0, 0.0, 5), "dimension must be at least 1"),
        ((0.9, 0.1, 1, 1.0, 0.0, 0), "steps must be at least 1"),
        ((0.9, 0.001, 1, 1.0, 0.0, 5, 50), "nodes lose a mass"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        exact_stay_probability(*arguments)
    with pytest.raises(ValueError, match="with the start in it"):
        exact_stay_probability_interval(0.9, 0.1, (-1.0, 1.0), 1.5, 5)
