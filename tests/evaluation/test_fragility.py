"""Slope reversals by counting, and the interval of their share."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binomtest

from sgdsim.evaluation import slope_reversals

AXES = ("width", "depth")


@pytest.mark.parametrize("rounded", [False, True])
def test_reversals_by_counting(sweep, rounded):
    measure, gap = sweep(0, (4, 5), repetitions=3, rounded=rounded)
    gap[2, 3] = np.nan
    result = slope_reversals(measure, gap, AXES)
    known = (measure + gap).notnull()
    m, g = (a.where(known).mean("seed").values for a in (measure, gap))
    for k in range(2):
        product = np.sign(np.diff(m, axis=k)) * np.sign(np.diff(g, axis=k))
        assert int(result["reversals"][k]) == (product < 0).sum()
        assert int(result["pairs"][k]) == (np.abs(product) == 1).sum()
        assert int(result["ties"][k]) == (product == 0).sum()
        if k == 0:
            assert np.isnan(product).sum() == 2


def test_interval_is_that_of_another_library(sweep):
    measure, gap = sweep(1, (4, 5))
    result = slope_reversals(measure, gap, AXES, confidence=0.9)
    for k in range(2):
        x, n = int(result["reversals"][k]), int(result["pairs"][k])
        expected = binomtest(x, n).proportion_ci(0.9, method="exact")
        assert float(result["share_low"][k]) == pytest.approx(expected.low, abs=1e-12)
        assert float(result["share_high"][k]) == pytest.approx(expected.high, abs=1e-12)
        assert float(result["share"][k]) == x / n
    total = result["reversals"].sum() / result["pairs"].sum()
    assert float(result["total_share"]) == pytest.approx(float(total))


def test_perfect_reversed_and_constant_measures(sweep, bounds_of):
    _, gap = sweep(2, (3, 4))
    measures = bounds_of(np.exp(gap), -gap, 0 * gap)
    result = slope_reversals(measures, gap, AXES)
    np.testing.assert_array_equal(result["total_share"], [0, 1, np.nan])
    np.testing.assert_array_equal(result["share_low"][0], [0, 0])
    np.testing.assert_array_equal(result["share_high"][1], [1, 1])
    assert result["pairs"].values.tolist() == [[8, 9], [8, 9], [0, 0]]
    assert result["ties"].values.tolist() == [[0, 0], [0, 0], [8, 9]]
    assert (result["share_high"][2] - result["share_low"][2]).values.tolist() == [1, 1]


def test_across_a_missing_setting_there_are_no_neighbours():
    gap = xr.DataArray([0.1, np.nan, 0.3, 0.2], dims="width")
    result = slope_reversals(xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="width"), gap, ["width"])
    assert (int(result["pairs"][0]), int(result["reversals"][0])) == (1, 1)


def test_confidence_out_of_range(sweep):
    measure, gap = sweep(0)
    with pytest.raises(ValueError, match="confidence must be strictly between 0 and 1; got 0"):
        slope_reversals(measure, gap, AXES, confidence=0.0)
