"""A sweep of the bounds study: its points, and the claims that only the whole has."""

import functools
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import sgdsim
from sgdsim.evaluation import FinalBounds, final_bounds
from sgdsim.runs import QUANTITIES
from sgdsim.runs._bounds_table import print_run_bounds
from sgdsim.runs._claims import evaluate_sweep_claims
from sgdsim.scenario import KNOWN_QUANTITIES, BoundsClaim, load_scenario, sweep_points
from sgdsim.store import RunStore, validate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lean")]

SCENARIO = """study = "bounds"
name = "four"
title = "Four points"
[problem]
kind = "classification"
ridge = 0.0
[problem.data]
kind = "hypercube"
dimension = 4
training = 20
reference = 20
split_seed = 0
[problem.model]
kind = "mlp"
hidden = [4]
activation = "relu"
[start]
kind = "random"
[dynamics]
kind = "sgd"
learning_rate = 0.5
batch_size = 10
[training]
target = 0.6
[ensemble]
trajectories = 2
steps = 60
record_every = 30
chunk_steps = 60
seed = 0
[measuring]
draws = 2
deviations = [0.1]
[bounds]
failure_probability = 0.05
margin = 1.0
grid_low = 1e-3
grid_high = 1e4
grid_ratio = 1.5
[sweep]
"problem.data.training" = [20, 30]
random_labels = [0.0, 1.0]
"""
#: Quantity and bound of each claim.
CLAIMS = [
    ("reached", None),
    ("bound_value", "NBS"),
    ("kendall_tau", "NBS"),
    ("growth_with_rows", "VC"),
    ("ranked_right", "NBS"),
    ("ranked_right", "VC"),
    ("sign_error_max", "NBS"),
    ("granulated_tau", "NBS"),
]


def claim(quantity: str, bound: str | None) -> str:
    named = "" if bound is None else f'bound = "{bound}"\n'
    return f'[[claim]]\nquantity = "{quantity}"\n{named}at_least = 0.0\ntext = "t"\nsource = "s"\n'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "four.toml"
    path.write_text(SCENARIO + "".join(claim(*one) for one in CLAIMS))
    return path


@pytest.fixture(scope="module")
def swept(file: Path, tmp_path_factory: pytest.TempPathFactory, lean: None) -> Path:
    out = tmp_path_factory.mktemp("swept") / "run"
    sgdsim.run(load_scenario(file), out, quiet=True)
    return out


@pytest.fixture(scope="module")
def tree(swept: Path) -> xr.DataTree:
    return sgdsim.open_run(swept).load()


@pytest.fixture(scope="module")
def measured(tree: xr.DataTree) -> dict[tuple[str, str | None], np.ndarray]:
    """Measured values of each claim at every point."""
    claims = tree["claims"].to_dataset()
    return {one: claims["measured"].isel(claim=i).values for i, one in enumerate(CLAIMS)}


def last(tree: xr.DataTree, name: str, bound: str | None = None) -> xr.DataArray:
    """Last probe, NaN where the target was not reached."""
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    values = bounds[name] if bound is None else bounds[name].sel(bound=bound)
    return values.where(bounds["reached"] == 1)


def pairs(measure: np.ndarray, gap: np.ndarray) -> tuple[int, int]:
    """Number of pairs ordered alike and of those ordered contrarily, one by one."""
    alike = contrary = 0
    for i in range(measure.size):
        for j in range(i):
            product = np.sign(measure[i] - measure[j]) * np.sign(gap[i] - gap[j])
            alike, contrary = alike + (product > 0), contrary + (product < 0)
    return int(alike), int(contrary)


def test_every_point_is_there(swept, tree):
    assert validate(swept) == []
    assert (tree.to_dataset()["status"] == 1).all()
    bounds = tree["bounds"].to_dataset()
    assert {"training", "random_labels"} <= set(bounds["value"].dims)
    reached = bounds["reached"].isel(probe=-1)
    assert bool((reached.sum("trajectory") > 0).any(["training"]).all()), "nothing to compare"


def test_claims_about_a_sweep_are_the_same_at_every_point(tree, measured):
    for (quantity, _), values in measured.items():
        assert values.shape == (2, 2)
        of_sweep = quantity not in ("reached", "bound_value")
        assert (np.unique(values).size == 1) == of_sweep or quantity == "reached", quantity
    holds = tree["claims"]["holds"]
    stored = tree["claims"]["measured"]
    np.testing.assert_array_equal(holds == 1, stored >= 0.0)


def test_what_each_point_measures_is_its_own(tree, measured):
    bounds = tree["bounds"].to_dataset()
    expected = (bounds["stopped_step"] >= 0).mean("trajectory")
    np.testing.assert_allclose(measured["reached", None], expected)
    value = bounds["value"].isel(probe=-1).sel(bound="NBS").mean("trajectory")
    np.testing.assert_allclose(measured["bound_value", "NBS"], value)


def test_tau_pair_by_pair(tree, measured):
    value, gap = last(tree, "value", "NBS"), last(tree, "zero_one_gap")
    known = (value.notnull() & gap.notnull()).values
    assert known.sum() >= 4
    x, y = value.values[known], gap.values[known]
    alike, contrary = pairs(x, y)
    ties = [sum(a[i] == a[j] for i in range(a.size) for j in range(i)) for a in (x, y)]
    total = x.size * (x.size - 1) / 2
    tau_b = (alike - contrary) / np.sqrt((total - ties[0]) * (total - ties[1]))
    plain = (alike - contrary) / total
    found = measured["kendall_tau", "NBS"][0, 0]
    assert any(found == pytest.approx(tau, abs=1e-12) for tau in (tau_b, plain))


def test_growth_with_rows_is_the_slope_of_logarithms(tree, measured):
    """VC depends on the number of rows alone: two points, one slope."""
    value = last(tree, "value", "VC").mean(["trajectory", "random_labels"]).values
    slope = np.log(value[1] / value[0]) / np.log(30 / 20)
    np.testing.assert_allclose(measured["growth_with_rows", "VC"], slope, rtol=1e-9)
    assert slope < 0


def test_ranked_right_counts_cells(tree, measured):
    for bound in ("NBS", "VC"):
        value = last(tree, "value", bound)
        true, random = (value.sel(random_labels=share) for share in (0.0, 1.0))
        known = true.notnull() & random.notnull()
        share = float(((random > true) & known).sum() / known.sum())
        np.testing.assert_allclose(measured["ranked_right", bound], share)
    assert measured["ranked_right", "VC"][0, 0] == 0.0, "it does not see the labels"


def test_every_quantity_of_the_study_is_a_number_or_not_measured(tree):
    for name in KNOWN_QUANTITIES["bounds"]:
        about = BoundsClaim.model_construct(quantity=name, bound="NBS")
        assert isinstance(QUANTITIES["bounds"][name](tree, about), float), name


def test_the_table_of_a_sweep(tree):
    final = final_bounds(tree)
    assert set(final.axes) == {"training", "random_labels"}
    assert final.samples == np.inf, "gaps are exact"
    table = final.table(draws=20)
    certified = table["kind"].values == "certificate"
    assert bool((table["violations"].values[certified] == 0).all())
    assert table["kind"].values.tolist() == tree["bounds"]["kind"].values.tolist()


def test_what_the_commands_print(swept, tree, monkeypatch):
    few = functools.partialmethod(FinalBounds.table, draws=20)
    monkeypatch.setattr(FinalBounds, "table", few)
    console = Console(file=io.StringIO(), width=200)
    print_run_bounds(str(swept), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "Four points" in text
    for name in tree["bounds"]["bound"].values.tolist():
        assert name in text


def test_a_point_is_what_it_would_be_alone(file, tree, tmp_path):
    """The first point has the random numbers of a run alone."""
    alone = sweep_points(load_scenario(file))[0]
    sgdsim.run(alone, tmp_path / "alone", quiet=True)
    mine = sgdsim.open_run(tmp_path / "alone").load()
    for group in ("trajectory", "bounds"):
        here = tree[group].to_dataset().isel(training=0, random_labels=0)
        for name, values in mine[group].to_dataset().data_vars.items():
            np.testing.assert_array_equal(here[name].values, values.values, err_msg=str(name))


def test_what_cannot_be_measured_does_not_hold(file, swept, tree, tmp_path):
    """Without a run that reached the target the sweep ends all the same."""
    out = shutil.copytree(swept, tmp_path / "run")
    none = tree.copy()
    bounds = tree["bounds"].to_dataset()
    none["bounds"] = bounds.assign(reached=xr.zeros_like(bounds["reached"]))
    evaluate_sweep_claims(none, load_scenario(file), RunStore.open(out / "run.zarr"))
    claims = sgdsim.open_run(out)["claims"].to_dataset().load()
    assert claims["measured"].isel(claim=slice(2, None)).isnull().all()
    assert bool((claims["holds"].isel(claim=slice(2, None)) == 0).all())
    before = tree["claims"]["measured"].isel(claim=slice(0, 2)).values
    np.testing.assert_array_equal(claims["measured"].isel(claim=slice(0, 2)).values, before)


def test_a_claim_without_its_axis_is_not_measured(tree):
    one = tree.copy()
    one["bounds"] = tree["bounds"].to_dataset().isel(random_labels=0, drop=True)
    about = BoundsClaim.model_construct(quantity="ranked_right", bound="NBS")
    assert np.isnan(QUANTITIES["bounds"]["ranked_right"](one, about))
