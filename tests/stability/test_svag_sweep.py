"""The test of an l-sweep: against numpy's weighted fit, on exact SVAG laws and at its edges."""

import math

import numpy as np
import pytest

from sgdsim.stability import stationary_variance, svag_sweep_test

LS = np.array([1, 2, 4, 8, 16])


def test_fit_is_the_weighted_least_squares_of_numpy():
    random = np.random.default_rng(1)
    values, stderrs = 2 + 0.5 / LS + 0.01 * random.normal(size=5), 0.01 + 0.02 * random.random(5)
    test = svag_sweep_test(values[::-1], stderrs[::-1], LS[::-1])
    (trend, limit), covariance = np.polyfit(1 / LS, values, 1, w=1 / stderrs, cov="unscaled")
    np.testing.assert_allclose([test.trend, test.limit], [trend, limit], rtol=1e-9)
    np.testing.assert_allclose(
        [test.trend_stderr, test.limit_stderr], np.sqrt(np.diag(covariance)), rtol=1e-9
    )
    assert (test.smallest, test.largest, test.value) == (1, 16, values[0])
    assert test.difference == pytest.approx(values[4] - values[0])
    assert test.stderr == pytest.approx(math.hypot(stderrs[0], stderrs[4]))
    assert test.z == pytest.approx(test.difference / test.stderr)


@pytest.mark.parametrize(("product", "outcome"), [(0.02, "agrees"), (1.0, "changed")])
def test_sweep_of_a_quadratic(product, outcome):
    """Exact variances of SVAG(l) on a quadratic, with errors small beside the tolerance."""
    values = np.array([stationary_variance(product, 1.0, 1.0, substeps=float(l)) for l in LS])
    test = svag_sweep_test(values, 0.005 * values, LS)
    assert test.outcome(0.1) == outcome


def test_two_values_of_l_have_one_z():
    test = svag_sweep_test([1.0, 0.7], [0.1, 0.05], [1, 8])
    assert test.z == pytest.approx(-test.trend / test.trend_stderr)


@pytest.mark.parametrize(
    ("last", "stderr", "outcome"),
    [
        (1.2, 0.01, "changed"),  # significant and large
        (0.8, 0.01, "changed"),
        (1.05, 0.001, "agrees"),  # significant, but within the tolerance
        (1.05, 0.005, "agrees"),
        (1.2, 0.1, "inconclusive"),  # large, but not significant
        (1.0, 0.1, "inconclusive"),  # no change seen, but one of the tolerance is possible
        (1.09, 0.01, "inconclusive"),
    ],
)
def test_outcomes(last, stderr, outcome):
    assert svag_sweep_test([1.0, last], [stderr] * 2, [1, 4]).outcome(0.1, 3.0) == outcome


@pytest.mark.statistical
def test_false_alarms_are_as_rare_as_the_level_says():
    random = np.random.default_rng(8)
    draws = random.normal(size=(4000, 5))
    rate = np.mean([abs(svag_sweep_test(row, np.ones(5), LS).z) > 2 for row in draws])
    expected = math.erfc(2 / math.sqrt(2))
    error = math.sqrt(expected * (1 - expected) / 4000)
    assert abs(rate - expected) < 5 * error
    # Standard errors that are a tenth too small would show.
    small = np.mean([abs(svag_sweep_test(row, np.full(5, 0.8), LS).z) > 2 for row in draws])
    assert small - expected > 5 * error


@pytest.mark.parametrize(
    ("values", "stderrs", "l", "words"),
    [
        ([1.0], [0.1], [1], "at least two l"),
        ([1.0, 2.0], [0.1], [1, 2], "one value and one standard error"),
        ([1.0, 2.0], [0.1, 0.1], [2, 2], "all different"),
        ([1.0, 2.0], [0.1, 0.1], [0, 2], "positive"),
        ([1.0, np.nan], [0.1, 0.1], [1, 2], "diverged"),
        ([1.0, 2.0], [0.1, 0.0], [1, 2], "finite and positive"),
    ],
)
def test_refusals(values, stderrs, l, words):
    with pytest.raises(ValueError, match=words):
        svag_sweep_test(values, stderrs, l)
