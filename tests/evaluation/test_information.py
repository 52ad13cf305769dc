"""Conditional information against another library and by its definition."""

import math
from collections import Counter

import numpy as np
import pytest
import xarray as xr

from sgdsim.evaluation import conditional_information

AXES = ("width", "depth", "rate")


def entropy(items: list) -> float:
    return -sum(n / len(items) * math.log(n / len(items)) for n in Counter(items).values())


def slow_information(rows: list[tuple], given: tuple[int, ...]) -> float:
    """I(V;G|U)/H(G|U) by counting pairs of rows ``(m, g, levels)``."""
    v, g, u = [], [], []
    for a in rows:
        for b in rows:
            if a is not b:
                v.append(a[0] > b[0])
                g.append(a[1] > b[1])
                u.append(tuple((a[2][s], b[2][s]) for s in given))
    joined = [entropy(list(zip(*parts, strict=True))) for parts in ((v, u), (g, u), (v, g, u))]
    return (joined[0] + joined[1] - joined[2] - entropy(u)) / (joined[1] - entropy(u))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_score_is_that_of_another_library(sweep, table, seed, rounded, most):
    oracle = pytest.importorskip("mbe_eval")
    measure, gap = sweep(seed, rounded=rounded)
    frame = table(measure, gap, AXES)
    expected, detail = oracle.jiang_normalized_cmi(frame, "m", "g", AXES, max_conditioning=most)
    result = conditional_information(measure, gap, AXES, most)
    assert float(result["score"]) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(
        result["information"], detail["normalized_cmi"], atol=1e-12, rtol=0, equal_nan=True
    )
    names = [name.replace("none", "") for name in detail["conditioning"]]
    assert result["given"].values.tolist() == names
    np.testing.assert_allclose(
        result["pairs_per_condition"], detail["ordered_pairs"] / detail["conditions"]
    )


def test_information_by_its_definition_without_missing_runs(sweep):
    measure, gap = sweep(9, (3, 3), rounded=True)
    measure[0, 1] = np.nan
    rows = [
        (float(measure[place]), float(gap[place]), place)
        for place in np.ndindex(3, 3)
        if place != (0, 1)
    ]
    result = conditional_information(measure, gap, AXES[:2], most=1)
    expected = [slow_information(rows, given) for given in ((), (0,), (1,))]
    np.testing.assert_allclose(result["information"], expected, atol=1e-13)
    assert int(result["configurations"]) == 8


def test_a_measure_that_repeats_a_hyper_parameter_scores_nothing():
    """Unconditioned it looks informative; given that hyper-parameter nothing is left."""
    random = np.random.default_rng(0)
    width = np.arange(5.0)
    gap = xr.DataArray(5 * width[:, None] + random.normal(size=(5, 6)), dims=("width", "depth"))
    measure = xr.zeros_like(gap) + xr.DataArray(width, dims="width")
    result = conditional_information(measure, gap, ("width", "depth"))
    information = dict(zip(result["given"].values, result["information"].values, strict=True))
    assert information[""] > 0.5
    # Only within a width is the order of the gap open, and there the measure is tied.
    assert information["width"] == pytest.approx(0.0, abs=1e-12)
    assert float(result["score"]) == pytest.approx(0.0, abs=1e-12)


def test_perfect_reversed_and_transformed_measures(sweep, bounds_of):
    measure, gap = sweep(2)
    both = bounds_of(gap**3, -gap, measure, np.exp(measure))
    score = conditional_information(both, gap, AXES)["score"].values
    # Information does not know a sign: a measure that is always wrong tells as much.
    np.testing.assert_allclose(score[:2], 1.0, atol=1e-12)
    assert 0.0 < score[2] == score[3] < 0.9
    assert float(conditional_information(gap, gap, AXES)["pgdl_score"]) == pytest.approx(100.0)


def test_mean_over_repetitions_is_that_of_another_library(sweep, table):
    oracle = pytest.importorskip("mbe_eval")
    measure, gap = sweep(3, (3, 4), repetitions=3)
    frame = table(measure, gap, AXES[:2])
    expected, _ = oracle.jiang_normalized_cmi(frame, "m", "g", AXES[:2], group_col="config_id")
    score = conditional_information(measure, gap, AXES[:2])["score"]
    assert float(score) == pytest.approx(expected, abs=1e-12)


def test_copies_of_a_configuration_are_no_pairs(sweep):
    measure, gap = sweep(5, (4, 4))
    listed_m, listed_g = (
        a.stack(configuration=AXES[:2]).reset_index("configuration") for a in (measure, gap)
    )
    every = np.repeat(np.arange(16), 2)
    once = conditional_information(listed_m, listed_g, AXES[:2])
    twice = conditional_information(listed_m[every], listed_g[every], AXES[:2])
    np.testing.assert_allclose(once["information"], twice["information"], atol=1e-12)
    np.testing.assert_allclose(4 * once["pairs_per_condition"], twice["pairs_per_condition"])


def test_too_few_configurations_have_no_score(sweep):
    measure, gap = sweep(0, (3, 4), bounds=2)
    measure[0] = np.nan
    result = conditional_information(measure, gap, AXES[:2])
    assert result["score"].isnull().values.tolist() == [True, False]
    assert result["configurations"].values.tolist() == [0, 12]
    with pytest.raises(ValueError, match="most must not be negative; got -1"):
        conditional_information(measure, gap, AXES[:2], -1)
