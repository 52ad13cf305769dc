"""The best line for the worst environment against general convex programming and by hand."""

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize

from sgdsim.evaluation import single_network_error

AXES = ("width", "depth")


def environments(gap: xr.DataArray) -> list[tuple[int, int]]:
    return [(axis, level) for axis, size in enumerate(gap.shape[:2]) for level in range(size)]


def worst(a: float, b: float, measure: np.ndarray, gap: np.ndarray, places: list) -> float:
    squares = (gap - a - b * measure) ** 2
    return max(np.nanmean(np.take(squares, level, axis)) for axis, level in places)


def solve(measure: np.ndarray, gap: np.ndarray, places: list) -> float:
    """Least bound t on all environments, by sequential quadratic programming."""

    def slack(x):
        squares = (gap - x[0] - x[1] * measure) ** 2
        return [x[2] - np.nanmean(np.take(squares, level, axis)) for axis, level in places]

    start = [np.nanmean(gap), 0.1, 4 * np.nanvar(gap) + 1.0]
    found = minimize(
        lambda x: x[2],
        start,
        constraints=[
            {"type": "ineq", "fun": slack},
            {"type": "ineq", "fun": lambda x: x[1]},
        ],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert min(slack(found.x)) > -1e-9
    return float(found.fun)


@pytest.mark.parametrize("seed", range(8))
def test_worst_error_is_that_of_convex_programming(sweep, seed):
    measure, gap = sweep(seed, (3, 4))
    gap = 10 * (gap + 0.03 * xr.DataArray(np.arange(3.0) ** 2, dims="width"))
    measure[0, 1] = np.nan
    result = single_network_error(measure, gap, AXES)
    m, g, places = measure.values, gap.where(measure.notnull()).values, environments(gap)
    a, b = float(result["intercept"]), float(result["slope"])
    assert b >= 0.0
    assert float(result["worst_rmse"]) == pytest.approx(np.sqrt(worst(a, b, m, g, places)))
    assert float(result["worst_rmse"]) == pytest.approx(np.sqrt(solve(m, g, places)), rel=1e-6)
    each = [np.nanmean(np.take((g - a - b * m) ** 2, level, axis)) for axis, level in places]
    np.testing.assert_allclose(result["rmse"], np.sqrt(each))
    assert float(result["mean_rmse"]) == pytest.approx(np.mean(np.sqrt(each)))
    assert int(result["runs"]) == 11


def test_no_step_away_from_the_answer_is_better(sweep):
    measure, gap = sweep(20, (4, 5))
    result = single_network_error(measure, gap, AXES)
    a, b = float(result["intercept"]), float(result["slope"])
    best = float(result["worst_rmse"]) ** 2
    for angle in np.linspace(0, 2 * np.pi, 64):
        for step in (1e-6, 1e-3, 1e-1):
            c, d = a + step * np.cos(angle), max(b + step * np.sin(angle), 0.0)
            near = worst(c, d, measure.values, gap.values, environments(gap))
            assert near >= best - 1e-13


def test_by_hand():
    """Two values with one run each: the line meets both; a falling gap leaves the middle."""
    measure = xr.DataArray([1.0, 3.0], dims="width")
    for gaps, expected in (([0.2, 0.6], (0.0, 0.2, 0.0)), ([0.6, 0.2], (0.4, 0.0, 0.2))):
        result = single_network_error(measure, measure.copy(data=gaps), ["width"])
        got = [float(result[name]) for name in ("intercept", "slope", "worst_rmse")]
        np.testing.assert_allclose(got, expected, atol=1e-9)
        assert float(result["worst_rmse_constant"]) == pytest.approx(0.2)


def test_the_worst_environment_decides_and_not_the_mean():
    """Nine runs at gap 0 and one at gap 1: the mean would be 0.1, the worst case asks for 1/2."""
    gap = xr.DataArray([[0.0] * 9 + [1.0]], dims=("width", "depth"))
    result = single_network_error(xr.zeros_like(gap), gap, ["depth"])
    assert float(result["intercept"]) == pytest.approx(0.5)
    assert float(result["slope"]) == 0.0


def test_scales_follow(sweep):
    measure, gap = sweep(4, (3, 4))
    one = single_network_error(measure, gap, AXES)
    two = single_network_error(1e9 * measure + 5e9, 1e-6 * gap, AXES)
    assert float(two["worst_rmse"]) == pytest.approx(1e-6 * float(one["worst_rmse"]), rel=1e-7)
    assert float(two["slope"]) == pytest.approx(1e-15 * float(one["slope"]), rel=1e-5)


def test_a_good_measure_beats_the_constant_and_a_reversed_one_does_not(sweep, bounds_of):
    _, gap = sweep(5, (3, 4))
    both = bounds_of(gap, -gap, gap * np.inf)
    result = single_network_error(both, gap, AXES)
    np.testing.assert_allclose(result["slope"][:2], [1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(result["worst_rmse"][0], 0.0, atol=1e-9)
    assert float(result["worst_rmse"][1]) == float(result["worst_rmse_constant"][1]) > 0.05
    assert np.isnan(result["worst_rmse"][2])
    assert result["runs"].values.tolist() == [12, 12, 0]
