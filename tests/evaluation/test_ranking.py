"""Rank correlations against another library, by hand and under monotone transforms."""

import itertools

import numpy as np
import pytest
import xarray as xr

from sgdsim.evaluation import granulated_tau, kendall_tau

AXES = ("width", "depth", "rate")


def slow_tau(measure: list[float], gap: list[float]) -> float:
    """Tau-b by its definition."""
    agreement = untied_m = untied_g = 0.0
    for i, j in itertools.combinations(range(len(measure)), 2):
        a, b = np.sign(measure[i] - measure[j]), np.sign(gap[i] - gap[j])
        agreement, untied_m, untied_g = agreement + a * b, untied_m + a * a, untied_g + b * b
    return float(agreement / np.sqrt(untied_m * untied_g)) if untied_m * untied_g else np.nan


@pytest.mark.parametrize("rounded", [False, True])
def test_tau_by_its_definition_without_runs_that_are_missing(sweep, rounded):
    measure, gap = sweep(0, bounds=2, rounded=rounded)
    measure[0, 1, 2, 0] = np.nan
    gap[0, 0, 0] = np.nan
    result = kendall_tau(measure, gap)
    assert result["runs"].values.tolist() == [34, 35]
    for k in range(2):
        m, g = measure[k].values.ravel(), gap.values.ravel()
        kept = ~np.isnan(m + g)
        assert float(result["tau"][k]) == pytest.approx(slow_tau(m[kept], g[kept]), abs=1e-14)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounded", [False, True])
def test_granulated_tau_is_that_of_another_library(sweep, table, seed, rounded):
    oracle = pytest.importorskip("mbe_eval")
    measure, gap = sweep(seed, rounded=rounded)
    expected, detail = oracle.granulated_kendall(table(measure, gap, AXES), "m", "g", AXES)
    result = granulated_tau(measure, gap, AXES)
    assert float(result["granulated_tau"]) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(result["psi"], detail["granulated_kendall"], atol=1e-12, rtol=0)
    np.testing.assert_array_equal(result["cells"], detail["finite_cells"])
    undefined = detail["eligible_cells"] - detail["finite_cells"]
    np.testing.assert_array_equal(result["cells_left_out"], undefined)


def test_mean_over_repetitions_is_that_of_another_library(sweep, table):
    oracle = pytest.importorskip("mbe_eval")
    measure, gap = sweep(7, (3, 4), repetitions=5)
    axes = AXES[:2]
    frame = table(measure, gap, axes)
    expected, _ = oracle.granulated_kendall(frame, "m", "g", axes, group_col="config_id")
    result = granulated_tau(measure, gap, axes)
    assert float(result["granulated_tau"]) == pytest.approx(expected, abs=1e-12)
    pooled, _ = oracle.granulated_kendall(frame, "m", "g", axes)
    assert abs(pooled - expected) > 0.01


def test_granulated_tau_sees_what_tau_does_not():
    """A measure that follows the width only, where the gap depends on both."""
    dims = ("width", "depth")
    width, depth = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    gap = xr.DataArray(10 * width + depth, dims=dims)
    measure = xr.DataArray(10 * width - depth, dims=dims)
    result = granulated_tau(measure, gap, dims)
    assert result["psi"].values.tolist() == [1.0, -1.0]
    assert float(result["granulated_tau"]) == 0.0
    # 40 of 190 pairs are within a width and disagree.
    assert float(kendall_tau(measure, gap)["tau"]) == pytest.approx((150 - 40) / 190)


@pytest.mark.parametrize("transform", [np.exp, lambda a: a**3, lambda a: np.arctan(a) / 9])
def test_monotone_transforms_change_nothing(sweep, transform):
    measure, gap = sweep(3)
    before, after = (granulated_tau(m, gap, AXES) for m in (measure, transform(measure)))
    xr.testing.assert_identical(before, after)
    assert float(kendall_tau(measure, gap)["tau"]) == float(
        kendall_tau(transform(measure), gap)["tau"]
    )


def test_perfect_reversed_and_constant_measures(sweep, bounds_of):
    _, gap = sweep(1)
    measures = bounds_of(np.exp(gap), -gap, 0 * gap)
    np.testing.assert_allclose(kendall_tau(measures, gap)["tau"], [1, -1, np.nan], atol=1e-14)
    result = granulated_tau(measures, gap, AXES)
    np.testing.assert_allclose(result["granulated_tau"], [1, -1, np.nan], atol=1e-14)
    assert result["cells"].values.tolist() == [[12, 9, 12], [12, 9, 12], [0, 0, 0]]
    assert result["cells_left_out"].values.tolist() == [[0, 0, 0], [0, 0, 0], [12, 9, 12]]


@pytest.mark.statistical
def test_mean_and_variance_for_an_independent_measure():
    random = np.random.default_rng(5)
    n, draws = 8, 1500
    measures = xr.DataArray(random.normal(size=(draws, n)), dims=("bound", "width"))
    gap = xr.DataArray(random.normal(size=n), dims="width")
    tau = kendall_tau(measures, gap)["tau"].values
    variance = 2 * (2 * n + 5) / (9 * n * (n - 1))
    assert abs(tau.mean()) < 5 * np.sqrt(variance / draws)
    assert abs(np.mean(tau**2) / variance - 1) < 5 * np.sqrt(2 / draws)


def test_infinite_measures_rank_highest(sweep):
    measure, gap = sweep(2)
    largest = measure == measure.max()
    infinite = measure.where(~largest, np.inf)
    for f in (lambda m: kendall_tau(m, gap)["tau"], lambda m: granulated_tau(m, gap, AXES)["psi"]):
        np.testing.assert_array_equal(f(measure), f(infinite))


def test_missing_runs_leave_their_pairs_out(sweep):
    measure, gap = sweep(4, (3, 4))
    gap[1, 2] = np.nan
    result = granulated_tau(measure, gap, AXES[:2])
    m, g = measure.values, gap.values
    columns = [slow_tau(m[:, j], g[:, j]) for j in (0, 1, 3)]
    columns.append(slow_tau(m[[0, 2], 2].tolist(), g[[0, 2], 2].tolist()))
    rows = [slow_tau(m[i], g[i]) for i in (0, 2)] + [slow_tau(m[1, [0, 1, 3]], g[1, [0, 1, 3]])]
    np.testing.assert_allclose(result["psi"], [np.mean(columns), np.mean(rows)], atol=1e-14)
