"""Ratio of bound and gap, vacuous shares and violations."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binomtest, norm

from sgdsim.evaluation import count_violations, tightness_ratio, vacuity


def run(*values: float) -> xr.DataArray:
    return xr.DataArray(list(values), dims="run")


def test_exact_values_divide_by_the_ends_of_the_gap():
    gap = run(0.2, 0.2, 0.2, 0.01, -0.01, 0.0, -0.2, math.nan)
    value = run(0.4, math.inf, math.nan, 0.4, 0.4, 0.4, 0.4, 0.4)
    result = tightness_ratio(value, gap, 0.02, confidence=0.9)
    half = float(norm.ppf(0.95)) * 0.02
    nan, inf = math.nan, math.inf
    np.testing.assert_allclose(result["ratio"], [2, inf, nan, 40, nan, nan, nan, nan])
    low = [0.4 / (g + half) for g in (0.2, 0.01, -0.01, 0.0)]
    np.testing.assert_allclose(result["low"], [low[0], inf, nan, *low[1:], nan, nan])
    np.testing.assert_allclose(
        result["high"], [0.4 / (0.2 - half), inf, nan, inf, inf, inf, nan, nan]
    )


def test_interval_solves_the_inequality():
    """Search all ratios on a grid instead of solving for the ends."""
    random = np.random.default_rng(0)
    ratios = np.linspace(0, 60, 60_001)
    z = norm.ppf(0.975)
    kinds = set()
    for _ in range(200):
        v, g = random.uniform(0.1, 2), random.uniform(-0.05, 0.5)
        s, t = random.uniform(0.005, 0.1), random.uniform(0.0, 0.8)
        result = tightness_ratio(run(v), run(g), s, value_stderr=t)
        low, high = (float(result[name][0]) for name in ("low", "high"))
        if g <= -z * s:
            assert math.isnan(low)
            continue
        inside = (v - ratios * g) ** 2 <= z * z * (t * t + ratios**2 * s * s)
        # Round the ends the grid may decide either way.
        far = (abs(ratios - low) > 1e-6) & (abs(ratios - high) > 1e-6)
        pieces = g < 0.0 and v < z * t
        if pieces:
            assert (low, high) == (0.0, math.inf)
        else:
            np.testing.assert_array_equal(inside[far], ((ratios >= low) & (ratios <= high))[far])
        kinds.add((low > 0, math.isinf(high), pieces))
    flat = {(True, False), (True, True), (False, False), (False, True)}
    assert kinds == {(*kind, False) for kind in flat} | {(False, True, True)}


@pytest.mark.statistical
@pytest.mark.parametrize("value_stderr", [0.0, 0.04])
def test_coverage(value_stderr):
    random, draws, v, g, s = np.random.default_rng(1), 20_000, 0.5, 0.1, 0.03
    value = xr.DataArray(v + value_stderr * random.normal(size=draws), dims="run")
    gap = xr.DataArray(g + s * random.normal(size=draws), dims="run")
    result = tightness_ratio(value, gap, s, value_stderr=value_stderr)
    covered = float(((result["low"] <= v / g) & (v / g <= result["high"])).mean())
    assert abs(covered - 0.95) < 5 * math.sqrt(0.95 * 0.05 / draws)


def test_ratios_of_small_errors_and_large_values_are_exact():
    result = tightness_ratio(run(1e300, 1.0), run(0.1, 0.1), 1e-12)
    np.testing.assert_allclose(result["ratio"], [1e301, 10.0], rtol=1e-14)
    half = norm.ppf(0.975) * 1e-12
    np.testing.assert_allclose(result["high"] / result["low"] - 1, 20 * half, rtol=1e-3)


def test_vacuous_share_per_bound():
    value = xr.DataArray([[0.5, 2.0, math.inf, math.nan], [1.0] * 4, [math.nan] * 4])
    value = value.rename(dim_0="bound", dim_1="run")
    np.testing.assert_allclose(vacuity(value), [2 / 3, 0.0, math.nan])
    np.testing.assert_allclose(vacuity(value, 3.0), [1 / 3, 0.0, math.nan])


def test_violations_by_counting():
    random = np.random.default_rng(2)
    dims = ("bound", "sample", "run")
    gap = xr.DataArray(random.normal(size=(4, 5)), dims=dims[1:])
    value = xr.DataArray(random.uniform(0.5, 1.5, size=(2, 4, 5)), dims=dims)
    value[0, 0, 1] = np.nan
    stderr = xr.full_like(gap, 0.3)
    allowed = xr.DataArray([0.1, 0.3], dims="bound")
    for independent, trials in ((None, [19, 20]), ("sample", [4, 4]), (["sample"], [4, 4])):
        result = count_violations(value, gap, stderr, allowed, independent_dim=independent)
        assert result["trials"].values.tolist() == trials
        for k in range(2):
            for name, add in (("estimate", 0.0), ("clear", norm.ppf(0.95) * 0.3)):
                above = gap.values > value.values[k] + add
                expected = above.sum() if independent is None else above.any(axis=1).sum()
                got = result.sel(counted=name).isel(bound=k)
                assert int(got["violations"]) == expected
                test = binomtest(int(expected), trials[k], float(allowed[k]), "greater")
                assert float(got["p_value"]) == pytest.approx(test.pvalue)
                assert bool(got["compatible"]) == (test.pvalue >= 0.05)
                interval = binomtest(int(expected), trials[k]).proportion_ci(0.95, "exact")
                assert float(got["rate_low"]) == pytest.approx(interval.low, abs=1e-12)
                assert float(got["rate_high"]) == pytest.approx(interval.high, abs=1e-12)
                assert float(got["rate"]) == expected / trials[k]


@pytest.mark.statistical
def test_verdicts_on_bounds_that_hold_and_fail():
    """One draw of the gap per sample: a bound at the right quantile is accepted, a low one not."""
    random = np.random.default_rng(3)
    gap = xr.DataArray(random.normal(size=(300, 200)), dims=("bound", "sample"))
    for quantile, least, most in ((0.95, 0.0, 0.05), (0.85, 0.95, 1.0)):
        value = xr.full_like(gap, 5.0 + norm.ppf(quantile))
        verdict = count_violations(value, gap + 5.0, 0.0, 0.05, independent_dim="sample")
        refused = 1.0 - float(verdict["compatible"].sel(counted="estimate").mean())
        margin = 5 * math.sqrt(0.05 * 0.95 / 300)
        assert least - margin < refused < most + margin


def test_bounds_that_hold_with_no_stated_probability_have_no_p_value():
    result = count_violations(run(1.0, 1.0), run(0.5, 2.0), 0.1, xr.DataArray(math.nan))
    assert result["violations"].values.tolist() == [1, 1]
    assert np.isnan(result["p_value"]).all()
    assert result["compatible"].all()


def test_bad_input():
    value = run(1.0, 2.0)
    with pytest.raises(ValueError, match="must be positive to be compared with a gap; got -1"):
        tightness_ratio(-value / 2, value, 0.1)
    with pytest.raises(ValueError, match=r"^stderr must not be negative; got -0.1"):
        tightness_ratio(value, value, -0.1)
    with pytest.raises(ValueError, match=r"value_stderr must not be negative; got -0.1"):
        tightness_ratio(value, value, 0.1, value_stderr=-0.1)
    with pytest.raises(ValueError, match="loss_range must be positive and finite; got 0"):
        vacuity(value, 0)
    with pytest.raises(ValueError, match=r"failure_probability must be in \(0, 1\); got 0"):
        count_violations(value, value, 0.1, 0.0)
    with pytest.raises(ValueError, match=r"^stderr must not be negative"):
        count_violations(value, value, -0.1, 0.1)
    with pytest.raises(ValueError, match="names 'seed', which is no dimension"):
        count_violations(value, value, 0.1, 0.1, independent_dim="seed")
