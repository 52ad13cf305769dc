"""The table of all bounds repeats what the single functions say."""

import numpy as np
import pytest
import xarray as xr

from sgdsim.evaluation import (
    bootstrap_interval,
    bound_table,
    conditional_information,
    count_violations,
    granulated_tau,
    kendall_tau,
    robust_sign_error,
    vacuity,
)

AXES = ("width", "depth")


def dataset(sweep, bounds_of, repetitions: int = 4) -> xr.Dataset:
    measure, gap = sweep(0, (3, 4), repetitions=repetitions, bounds=3)
    gaps = bounds_of(gap, gap - 0.3, gap)
    return xr.Dataset(
        {
            "value": np.exp(measure),
            "generalization_gap": gaps,
            "generalization_gap_stderr": xr.full_like(gaps, 0.02),
            "holds_with_probability": ("bound", [0.95, np.nan, np.nan]),
        },
        coords={
            "bound": ["A", "B", "C"],
            "kind": ("bound", ["certificate", "expectation", "measure"]),
        },
    )


def test_columns_are_those_of_the_functions(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    data["value"][0, 1, 1, 1] = np.nan
    value, gap = data["value"], data["generalization_gap"]
    table = bound_table(data, AXES, 400, draws=30, seed=3)
    assert table["bound"].values.tolist() == ["A", "B", "C"]
    assert table["kind"].values.tolist() == ["certificate", "expectation", "measure"]
    expected = {
        "runs": [47, 48, 48],
        "tau": kendall_tau(value, gap)["tau"],
        "granulated_tau": granulated_tau(value, gap, AXES)["granulated_tau"],
        "cmi_score": conditional_information(value, gap, AXES)["score"],
    }
    errors = robust_sign_error(value, gap, AXES, 400)
    expected |= {f"sign_error_{name}": errors[name] for name in ("mean", "p90", "max")}
    interval = bootstrap_interval(
        lambda m, g: kendall_tau(m, g)["tau"], value, gap, AXES, draws=30, seed=3
    )
    expected |= {"tau_low": interval.low, "tau_high": interval.high}
    for name, column in expected.items():
        np.testing.assert_array_equal(table[name], column, err_msg=name)
    assert table.attrs["environments"] == "configurations"


def test_what_is_no_bound_is_not_judged_as_one(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    table = bound_table(data, AXES, 400, draws=5, independent_dim="seed")
    value, gap = data["value"], data["generalization_gap"]
    ratio = (value / gap).where(gap > 0).median(["width", "depth", "seed"])
    np.testing.assert_allclose(table["tightness"], [*ratio[:2], np.nan])
    np.testing.assert_allclose(table["vacuous_share"], [*vacuity(value)[:2], np.nan])
    counts = count_violations(
        value, gap, data["generalization_gap_stderr"], 0.05, independent_dim="seed"
    )
    certificate = counts.isel(bound=0)
    for name, counted in (("violations", "estimate"), ("clear_violations", "clear")):
        number = int(certificate["violations"].sel(counted=counted))
        assert table[name].values.tolist() == [number, -1, -1]
        assert number > 0
    assert table["trials"].values.tolist() == [4, -1, -1]
    p_value = float(certificate["p_value"].sel(counted="clear"))
    np.testing.assert_allclose(table["violation_p_value"], [p_value, np.nan, np.nan])


def test_all_are_ranked_by_one_gap_and_judged_by_their_own(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    own = data["generalization_gap"]
    _, data["ranking_gap"] = sweep(7, (3, 4), repetitions=4)
    ranked_by, value = data["ranking_gap"], data["value"]
    table = bound_table(data, AXES, 100_000, draws=30, seed=3)
    interval = bootstrap_interval(
        lambda m, g: kendall_tau(m, g)["tau"], value, ranked_by, AXES, draws=30, seed=3
    )
    errors = robust_sign_error(value, ranked_by, AXES, 100_000)
    expected = {
        "tau": kendall_tau(value, ranked_by)["tau"],
        "tau_low": interval.low,
        "tau_high": interval.high,
        "granulated_tau": granulated_tau(value, ranked_by, AXES)["granulated_tau"],
        "cmi_score": conditional_information(value, ranked_by, AXES)["score"],
    }
    expected |= {f"sign_error_{name}": errors[name] for name in ("mean", "p90", "max")}
    by_own = bound_table(data.drop_vars("ranking_gap"), AXES, 100_000, draws=30, seed=3)
    assert (errors["environments"] > 0).all()
    for name, column in expected.items():
        np.testing.assert_array_equal(table[name], column, err_msg=name)
        if name != "sign_error_max":  # it is 1 for nearly every ranking
            assert (table[name] != by_own[name]).all(), name
    for name in ("gap", "tightness", "vacuous_share", "violations", "violation_p_value"):
        np.testing.assert_array_equal(table[name], by_own[name], err_msg=name)
    np.testing.assert_allclose(table["gap"], own.median(["width", "depth", "seed"]))


def test_a_run_without_the_ranking_gap_is_not_ranked(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    ranked_by = data["generalization_gap"].isel(bound=0)
    data["ranking_gap"] = ranked_by.where(ranked_by["width"] > 1)
    table = bound_table(data, AXES, 400, draws=3)
    assert table["runs"].values.tolist() == [32, 32, 32]


def test_the_range_of_the_loss_is_not_that_of_the_ranking_gap(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    data["ranking_gap"] = data["generalization_gap"].isel(bound=0, drop=True)
    one, two = (bound_table(data, AXES, 10_000, draws=3, loss_range=r) for r in (1, 8))
    assert (one["environments"] > 0).all()
    for name in ("sign_error_mean", "environments"):
        np.testing.assert_array_equal(one[name], two[name])


def test_gaps_of_a_wider_loss_are_scaled_for_the_sign_error(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    wide = data.copy()
    wide["generalization_gap"] = 8.0 * data["generalization_gap"]
    one, two = (bound_table(d, AXES, 400, draws=3, loss_range=r) for d, r in ((data, 1), (wide, 8)))
    for name in ("sign_error_mean", "sign_error_p90", "environments"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-12)
    plain = bound_table(wide, AXES, 400, draws=3)
    assert (plain["environments"] > one["environments"]).any()


def test_few_runs_take_environments_of_values(sweep, bounds_of):
    data = dataset(sweep, bounds_of, repetitions=3).drop_vars(["kind", "holds_with_probability"])
    table = bound_table(data, AXES, float("inf"), draws=3)
    assert table.attrs["environments"] == "values"
    # Pairs of values: 3 of widths and 6 of depths, both directions.
    assert table["environments"].values.tolist() == [18, 18, 18]
    assert table["kind"].values.tolist() == ["certificate"] * 3
    assert np.isnan(table["violation_p_value"]).all()


def test_a_table_needs_its_variables(sweep, bounds_of):
    data = dataset(sweep, bounds_of)
    with pytest.raises(ValueError, match="missing: value, generalization_gap_stderr"):
        bound_table(data.drop_vars(["value", "generalization_gap_stderr"]), AXES, 100)
    with pytest.raises(ValueError, match="missing: bound"):
        bound_table(data.isel(bound=0), AXES, 100)
    with pytest.raises(ValueError, match="loss_range must be positive and finite; got -1"):
        bound_table(data, AXES, 100, loss_range=-1)
