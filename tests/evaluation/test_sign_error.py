"""Robust sign error against another library and by its definition."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr

from sgdsim.evaluation import robust_sign_error

AXES = ("width", "depth")
INF = float("inf")


def slow_pair(m: float, n: float, g: float, h: float, samples: float) -> tuple[float, float]:
    """Weight and weighted error of one pair of runs."""
    if math.isnan(m + n + g + h):
        return 0.0, 0.0
    weight = max(0.0, 1.0 - 2.0 * math.exp(-2.0 * samples * ((g - h) / 2.0) ** 2)) ** 2
    weight = max(0.0, weight - 0.5)
    return weight, weight * (1.0 - np.sign(m - n) * np.sign(g - h)) / 2.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("samples", "fewest"), [(300, 12), (10_000, 12), (150, 3)])
def test_environments_are_those_of_another_library(sweep, table, seed, rounded, samples, fewest):
    oracle = pytest.importorskip("mbe_eval")
    measure, gap = sweep(seed, (3, 4), repetitions=7, rounded=rounded)
    result = robust_sign_error(measure, gap, AXES, samples, fewest)
    rows = oracle.robust_sign_error_environments(
        table(measure, gap, AXES),
        ["m"],
        list(AXES),
        target="g",
        test_size=samples,
        minimum_effective_sample_size=fewest,
    )
    summary = oracle.robust_sign_error_summary(rows, ["m"])
    overall = summary[summary["hyperparameter"] == "all"].iloc[0]
    assert int(result["environments"]) == len(rows) > 0
    for name in ("mean", "p90", "max"):
        assert float(result[name]) == pytest.approx(overall[f"{name}_sign_error"], abs=1e-12)
    kept = result["sign_error"].notnull()
    for column, name in (("m", "sign_error"), ("effective_sample_size", "effective_pairs")):
        ours = np.repeat(np.sort(result[name].values[kept]), 2)
        np.testing.assert_allclose(ours, np.sort(rows[column]), atol=1e-12, rtol=1e-12)
    for axis in AXES:
        part = kept & (result["axis"] == axis)
        assert 2 * int(part.sum()) == int((rows["hyperparameter"] == axis).sum())


@pytest.mark.parametrize("environments", ["configurations", "values"])
def test_environments_by_their_definition(sweep, environments):
    measure, gap = sweep(11, (3, 4), repetitions=3, bounds=2)
    gap[0, 1, 2] = np.nan
    measure[1, 2, 2, :] = np.nan
    samples, fewest = 200, 2.5
    result = robust_sign_error(measure, gap, AXES, samples, fewest, environments)
    for k in range(2):
        sums: dict[tuple, np.ndarray] = {}
        places = list(np.ndindex(3, 4))
        for one, two in itertools.combinations(places, 2):
            if (one[0] == two[0]) == (one[1] == two[1]):
                continue
            axis = int(one[0] == two[0])
            values = (axis, one[axis], two[axis])
            name = values if environments == "values" else (*values, one[1 - axis])
            for r, s in itertools.product(range(3), repeat=2):
                m, n = (float(measure[(k, *p)]) for p in ((*one, r), (*two, s)))
                g, h = (float(gap[p]) for p in ((*one, r), (*two, s)))
                w, e = slow_pair(m, n, g, h, samples)
                sums[name] = sums.get(name, 0.0) + np.array([w, w * w, e])
        order = sorted(sums) if environments == "values" else sums
        effective = {n: s[0] ** 2 / s[1] if s[1] else 0.0 for n, s in sums.items()}
        errors = [sums[n][2] / sums[n][0] for n in order if effective[n] >= fewest]
        ours = result["sign_error"][k].values
        np.testing.assert_allclose(
            np.sort(result["effective_pairs"][k]), sorted(effective.values()), atol=1e-12
        )
        np.testing.assert_allclose(np.sort(ours[~np.isnan(ours)]), sorted(errors), atol=1e-12)
        assert int(result["environments"][k]) == 2 * len(errors) > 0


def test_many_repetitions_are_cut_into_parts(sweep, monkeypatch):
    measure, gap = sweep(1, (3, 4), repetitions=4)
    whole = robust_sign_error(measure, gap, AXES, 500)
    monkeypatch.setattr("sgdsim.evaluation._sign_error._AT_ONCE", 40)
    xr.testing.assert_allclose(whole, robust_sign_error(measure, gap, AXES, 500), atol=1e-14)


def test_exact_gaps_weigh_every_pair_the_same(sweep, bounds_of):
    _, gap = sweep(0, (3, 4), repetitions=5)
    measures = bounds_of(np.exp(gap), -gap, 0 * gap)
    result = robust_sign_error(measures, gap, AXES, INF)
    for name in ("mean", "p90", "max"):
        assert result[name].values.tolist() == [0.0, 1.0, 0.5]
    # 4 x 3 pairs of widths and 3 x 6 pairs of depths, in both directions.
    assert result["environments"].values.tolist() == [60, 60, 60]
    np.testing.assert_allclose(result["effective_pairs"], 25.0)
    nearly = robust_sign_error(measures, gap, AXES, 1e18)
    xr.testing.assert_allclose(result, nearly)


def test_equal_gaps_have_no_weight_even_if_exact():
    gap = xr.DataArray([[0.5, 0.5], [0.5, 0.1]], dims=("width", "seed"))
    result = robust_sign_error(gap, gap, ["width"], INF, fewest=1)
    np.testing.assert_allclose(result["effective_pairs"], [2.0])


def test_one_run_per_configuration_needs_environments_of_values(sweep):
    measure, gap = sweep(0, (3, 14))
    published = robust_sign_error(measure, gap, AXES, INF)
    assert int(published["environments"]) == 0
    assert np.isnan(published["mean"])
    pooled = robust_sign_error(measure, gap, AXES, INF, environments="values")
    assert int(pooled["environments"]) == 6
    kept = pooled.isel(environment=pooled["sign_error"].notnull().values)
    assert kept["axis"].values.tolist() == ["width"] * 3
    assert kept["low"].values.tolist() == ["1.0", "1.0", "2.0"]
    assert kept["high"].values.tolist() == ["2.0", "4.0", "4.0"]


def test_monotone_transforms_of_the_measure_change_nothing(sweep):
    measure, gap = sweep(6, (3, 4), repetitions=4)
    before, after = (robust_sign_error(m, gap, AXES, 400) for m in (measure, np.exp(measure)))
    xr.testing.assert_identical(before, after)


@pytest.mark.statistical
def test_an_independent_measure_is_wrong_half_of_the_time():
    random = np.random.default_rng(3)
    gap = xr.DataArray(random.uniform(size=(4, 5, 4)), dims=(*AXES, "seed"))
    measures = xr.DataArray(random.normal(size=(400, 4, 5, 4)), dims=("bound", *AXES, "seed"))
    mean = robust_sign_error(measures, gap, AXES, INF)["mean"].values
    assert abs(mean.mean() - 0.5) < 5 * mean.std(ddof=1) / 20


def test_bad_input(sweep):
    measure, gap = sweep(0, (3, 4))
    with pytest.raises(ValueError, match="samples must be positive; got 0"):
        robust_sign_error(measure, gap, AXES, 0)
    with pytest.raises(ValueError, match="fewest must be positive; got nan"):
        robust_sign_error(measure, gap, AXES, 10, float("nan"))
