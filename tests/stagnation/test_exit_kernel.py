import numpy as np
import pytest
from scipy import stats

from sgdsim.testing._exit_kernel import exact_exit_rate, exact_stay_probability

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
    stay = exact_stay_probability(RHO, SIGMA, dimension, radius, 0.0, 1000, nodes=150)
    assert 1 - stay[-1] == pytest.approx(exit_probability, rel=3e-6 if radius < 0.2 else 2e-3)


def test_stay_curve_matches_the_table():
    stay = exact_stay_probability(RHO, SIGMA, 1, 0.1, 0.0, 1000)
    np.testing.assert_allclose(
        stay[[0, 9, 99, 999]], [1.0, 0.999853, 0.958830, 0.603845], atol=6e-7
    )


@pytest.mark.parametrize(
    ("dimension", "radius", "rate"), [(1, 0.1, 5.13775e-4), (2, 0.15, 7.86362e-6)]
)
def test_rate_matches_the_table_and_the_slope_of_log_survival(dimension, radius, rate):
    assert exact_exit_rate(RHO, SIGMA, dimension, radius, nodes=150) == pytest.approx(
        rate, rel=2e-6
    )
    stay = exact_stay_probability(RHO, SIGMA, dimension, radius, 0.0, 1000, nodes=150)
    assert np.log(stay[799] / stay[999]) / 200 == pytest.approx(rate, rel=1e-5)


def test_one_step_is_the_noncentral_chi_squared_law():
    stay = exact_stay_probability(0.9, 0.2, 3, 0.7, 0.5, 1)
    law = stats.ncx2.cdf((0.7 / 0.2) ** 2, 3, (0.9 * 0.5 / 0.2) ** 2)
    assert stay[0] == pytest.approx(law, rel=1e-12)


def test_small_rates_do_not_drown_in_rounding():
    coarse = exact_exit_rate(0.99, 0.002, 3, 0.15, nodes=150)
    assert coarse == pytest.approx(1.96191078e-24, rel=1e-8)
    assert exact_exit_rate(0.99, 0.002, 3, 0.15, nodes=250) == pytest.approx(coarse, rel=1e-8)


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
