"""Arrhenius fits against simulated counts and against exact exit rates."""

import numpy as np
import pytest
from scipy import optimize, stats

from sgdsim.stagnation import (
    arrhenius_fit,
    arrhenius_fit_log_rates,
    exact_exit_rate,
)

INVERSE = np.array([10.0, 20.0, 30.0, 45.0, 60.0])
SLOPE, INTERCEPT, POWER = 0.15, 2.0, 1.5
RATES = np.exp(-INTERCEPT - SLOPE * INVERSE + POWER * np.log(INVERSE))


def test_likelihood_is_at_its_maximum():
    exposure, exits = np.array([1e2, 1e2, 1e3, 1e3, 1e3]), np.array([60, 40, 90, 17, 0])
    fit = arrhenius_fit(INVERSE, exits, exposure, POWER)

    def minus_log_likelihood(line):
        rates = np.exp(-line[0] - line[1] * INVERSE + POWER * np.log(INVERSE))
        return -stats.poisson.logpmf(exits, exposure * rates).sum()

    best = np.array([fit.intercept, fit.slope])
    found = optimize.minimize(
        minus_log_likelihood, best, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    )
    np.testing.assert_allclose(best, found.x, rtol=1e-5)
    # Standard error of the slope from the curvature of the likelihood, by differences.
    h = np.array([1e-3, 1e-4])

    def second(i, j):
        a, b = np.eye(2)[i] * h[i], np.eye(2)[j] * h[j]
        f = minus_log_likelihood
        return (f(best + a + b) - f(best + a - b) - f(best - a + b) + f(best - a - b)) / (
            4 * h[i] * h[j]
        )

    information = np.array([[second(i, j) for j in range(2)] for i in range(2)])
    half = 1.959964 * np.linalg.inv(information)[1, 1] ** 0.5
    assert fit.high - fit.slope == pytest.approx(half, rel=1e-3)
    assert fit.slope - fit.low == pytest.approx(half, rel=1e-3)


def test_noiseless_counts_give_the_line():
    exits = np.array([10**6] * 5)
    fit = arrhenius_fit(INVERSE, exits, exits / RATES, POWER)
    assert fit.slope == pytest.approx(SLOPE, rel=1e-6)
    assert fit.intercept == pytest.approx(INTERCEPT, rel=1e-5)
    assert fit.chi2_per_dof == pytest.approx(0, abs=1e-3)


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["counts", "log rates"])
def test_interval_and_misfit_keep_their_levels(kind):
    random = np.random.default_rng(8)
    fits, mutants = [], []
    for _ in range(150):
        exits = random.poisson([400, 300, 200, 100, 50])
        exposure = np.array([400, 300, 200, 100, 50]) / RATES
        if kind == "counts":
            fits.append(arrhenius_fit(INVERSE, exits, exposure, POWER, confidence=0.8))
            mutants.append(arrhenius_fit(INVERSE, exits, exposure, 0.0, confidence=0.8))
        else:
            error = np.array([0.05, 0.06, 0.07, 0.1, 0.3])
            logs = np.log(RATES) + error * random.normal(size=5)
            fits.append(arrhenius_fit_log_rates(INVERSE, logs, error, POWER, confidence=0.8))
            mutants.append(arrhenius_fit_log_rates(INVERSE, logs, error, 0.0, confidence=0.8))
    covered = sum(fit.low < SLOPE < fit.high for fit in fits)
    assert abs(covered - 120) < 5 * (150 * 0.8 * 0.2) ** 0.5
    p_values = np.array([fit.p_value for fit in fits])
    assert stats.kstest(p_values, "uniform").pvalue > 1e-5
    # The wrong prefactor moves the slope out of its interval and is seen as misfit.
    assert sum(fit.low < SLOPE < fit.high for fit in mutants) < 5
    assert np.mean([fit.p_value < 0.01 for fit in mutants]) > 0.9


@pytest.mark.parametrize("m", [1, 2, 10])
def test_slope_of_exact_rates_is_the_quasi_potential(m):
    # Ball of radius delta, dθ = -θ dt + sqrt(eta s) dW: V = delta^2 / s, prefactor eta^(m/2),
    # another 1/eta because the kernel counts steps.
    noise, radius = 0.04, 0.2
    eta = np.array([0.03, 0.025, 0.02, 0.0175, 0.015])
    rates = np.array([exact_exit_rate(1 - e, e * noise**0.5, m, radius) for e in eta])
    power, error = m / 2 - 1, np.full(5, 0.01)
    fit = arrhenius_fit_log_rates(1 / eta, np.log(rates), error, power)
    assert fit.slope == pytest.approx(radius**2 / noise, rel=0.05)
    assert fit.chi2_per_dof < 1
    wrong = arrhenius_fit_log_rates(1 / eta, np.log(rates), error, power + 2)
    assert wrong.slope != pytest.approx(radius**2 / noise, rel=0.03)


def test_point_without_exits_pulls_the_slope_up():
    inverse, exposure = np.array([10.0, 20.0, 30.0]), np.array([1e3, 1e3, 1e3])
    two = arrhenius_fit(inverse[:2], np.array([100, 50]), exposure[:2])
    three = arrhenius_fit(inverse, np.array([100, 50, 0]), exposure)
    assert three.slope > two.slope
    assert three.p_value < 1e-4
    assert two.slope == pytest.approx(np.log(2) / 10)
    assert np.isnan(two.p_value)
    assert np.isnan(two.chi2_per_dof)


@pytest.mark.parametrize(
    ("exits", "exposure", "words"),
    [
        ([5, 0, 0], [1.0, 1.0, 1.0], "fewer than two learning rates have exits"),
        ([5, 5, 5], [1.0, 0.0, 1.0], "exposure must be positive"),
        ([5, 5, -5], [1.0, 1.0, 1.0], "exits not negative"),
    ],
)
def test_counts_refused(exits, exposure, words):
    with pytest.raises(ValueError, match=words):
        arrhenius_fit(np.array([1.0, 2.0, 3.0]), np.array(exits), np.array(exposure))


@pytest.mark.parametrize(
    ("inverse", "log_rate", "error", "words"),
    [
        ([1.0, 2.0], [-np.inf, 0.0], [1.0, 1.0], "log rates must be finite"),
        ([1.0, 2.0], [0.0, 0.0], [1.0, np.inf], "errors positive and finite"),
        ([1.0, 2.0], [0.0, 0.0], [1.0, 0.0], "errors positive and finite"),
        ([2.0, 2.0], [0.0, 0.0], [1.0, 1.0], "a slope needs at least two learning rates"),
        ([0.0, 2.0], [0.0, 0.0], [1.0, 1.0], "inverse_learning_rate must be positive"),
    ],
)
def test_log_rates_refused(inverse, log_rate, error, words):
    with pytest.raises(ValueError, match=words):
        arrhenius_fit_log_rates(np.array(inverse), np.array(log_rate), np.array(error))


def test_confidence_refused():
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1, got 0"):
        arrhenius_fit_log_rates(INVERSE, np.log(RATES), np.ones(5), confidence=0.0)
