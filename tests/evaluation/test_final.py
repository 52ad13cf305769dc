"""Runs of a sweep at their end: what is compared, by which gap, with which rows."""

import numpy as np
import pytest

from sgdsim.evaluation import count_violations, final_bounds, kendall_tau
from sgdsim.scenario import load_scenario, sweep_dimensions
from sgdsim.store import SweepAxis, open_run
from sgdsim.testing import synthetic_sweep


@pytest.fixture
def swept(tmp_path):
    """Made-up points, three trajectories each; the gaps are drawn anew."""

    def build(sweep):
        scenario = load_scenario("bound-tightness", ["sweep={}"])
        values = scenario.model_dump(mode="json") | {"sweep": sweep}
        scenario = type(scenario).model_validate(values)
        axes = [SweepAxis(axis.name, axis.coords) for axis in sweep_dimensions(scenario)]
        tree = open_run(synthetic_sweep(tmp_path / "run", "bounds", axes)).load()
        tree.attrs["scenario"] = scenario.canonical_json()
        bounds, random = tree["bounds"].to_dataset(), np.random.default_rng(5)
        for name in ("zero_one_gap", "generalization_gap", "value"):
            noise = random.uniform(0.5, 1.5, bounds[name].shape)
            bounds[name] = bounds[name] * noise
        tree["bounds"] = bounds
        return tree

    return build


RATES = {"dynamics.learning_rate": [0.1, 0.2, 0.4]}
SPLITS = RATES | {"problem.data.split_seed": [0, 1, 2, 3]}


def test_networks_are_ranked_by_the_gap_of_the_error_rate(swept):
    tree = swept(RATES)
    bounds = tree["bounds"].to_dataset()
    bounds["reached"][0, 1, -1] = 0
    tree["bounds"] = bounds
    final = final_bounds(tree)
    last = bounds.isel(probe=-1)
    expected = last["zero_one_gap"].where(last["reached"] == 1)
    assert int(expected.isnull().sum()) == 1
    np.testing.assert_array_equal(final.data["ranking_gap"], expected)
    table = final.table(draws=3)
    tau = kendall_tau(last["value"], expected)["tau"]
    own = kendall_tau(last["value"], last["generalization_gap"])["tau"]
    np.testing.assert_array_equal(table["tau"], tau)
    assert bool((tau != own).all())
    assert int(table["runs"].max()) == 8


def test_runs_on_the_same_rows_have_no_p_value(swept):
    final = final_bounds(swept(RATES))
    assert final.independent_dim == ()
    table = final.table(draws=3)
    assert table["violation_p_value"].isnull().all()
    assert table["trials"].sel(bound="VC") == 9


def test_violations_are_counted_by_draws_of_the_rows(swept):
    tree = swept(SPLITS)
    bounds = tree["bounds"].to_dataset()
    gap = bounds["generalization_gap"]
    # Two networks on the rows of split 1 exceed VC, and one on those of split 2.
    for place in ((0, 1, 0), (2, 1, 2), (1, 2, 0)):
        gap[dict(zip(("learning_rate", "split_seed", "trajectory"), place, strict=True))] = 9.0
    tree["bounds"] = bounds
    final = final_bounds(tree)
    assert final.independent_dim == ("split_seed",)
    table = final.table(draws=3).sel(bound="VC")
    assert (int(table["violations"]), int(table["trials"])) == (2, 4)
    last = bounds.isel(probe=-1).sel(bound="VC")
    counts = count_violations(
        last["value"], last["generalization_gap"], 0.01, 0.01, independent_dim="split_seed"
    )
    p_value = float(counts["p_value"].sel(counted="clear"))
    assert p_value == pytest.approx(6 * 0.01**2, rel=0.02)  # two of four, nearly the whole tail
    assert float(table["violation_p_value"]) == pytest.approx(p_value, rel=1e-12)


@pytest.mark.parametrize(("seeds", "dims"), [([0, 0, 1], ()), ([0, 5, 1], ("zip",))])
def test_keys_that_change_together_draw_rows_if_every_seed_is_new(swept, seeds, dims):
    rates = [0.1, 0.2, 0.4]
    zipped = {"dynamics.learning_rate": rates, "problem.data.split_seed": seeds}
    assert final_bounds(swept({"zip": zipped})).independent_dim == dims
