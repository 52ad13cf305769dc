"""The study of tightness on a made-up sweep."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sgdsim.evaluation import final_bounds
from sgdsim.scenario import load_scenario
from sgdsim.store import SweepAxis, open_run
from sgdsim.testing import synthetic_dynamics_run, synthetic_sweep

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "analysis" / "bound_tightness.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study_bound_tightness", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Six made-up points, larger values and gaps from point to point, said to be a real sweep."""
    axes = [
        SweepAxis("learning_rate", {"learning_rate": [0.1, 0.2]}),
        SweepAxis("training", {"training": [100, 200, 400]}),
    ]
    made_up = open_run(synthetic_sweep(tmp_path_factory.mktemp("sweep"), "bounds", axes))
    keys = ["problem.model.width", "problem.model.depth", "dynamics.batch_size"]
    scenario = load_scenario("bound-tightness")
    values = scenario.model_dump(mode="json")
    values["sweep"] = {
        key: given
        for key, given in values["sweep"].items()
        if key not in keys and not key.endswith("random_labels")
    }
    values["sweep"]["dynamics.learning_rate"] = [0.1, 0.2]
    values["sweep"]["problem.data.training"] = [100, 200, 400]
    made_up.attrs["title"] = scenario.title
    made_up.attrs["scenario"] = type(scenario).model_validate(values).canonical_json()
    return made_up


def test_what_can_be_compared(tree):
    final = final_bounds(tree)
    assert final.axes == ("learning_rate", "training")
    assert final.samples == np.inf  # the population is known
    reached = tree["bounds"].to_dataset().isel(probe=-1)["reached"] == 1
    assert bool((final.data["value"].notnull().any("bound") <= reached).all())


def test_the_tables_and_the_figures(study, tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(study, "open_run", lambda store: tree)
    study.main(tmp_path / "run", tmp_path / "figures")
    printed = capsys.readouterr().out
    table = final_bounds(tree).table()
    for name in table["bound"].values.tolist():
        rows = [line for line in printed.splitlines() if f" {name} " in line]
        assert len(rows) == 2, name  # one in each table
    (kl, _) = [line for line in printed.splitlines() if " PB-kl " in line]
    assert f"{float(table['value'].sel(bound='PB-kl')):.3g}" in kl
    assert " certificate " in kl
    assert " 0 % " in kl
    (vacuous, _) = [line for line in printed.splitlines() if " BFT " in line]
    assert " 100 % " in vacuous
    cells = [line.split("│")[2:-1] for line in printed.splitlines() if " gradient_norm " in line]
    assert [[cell.strip() for cell in row] for row in cells] == [["0.4", "0.01", "0.1"]]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("tightness", "ranking") for kind in ("png", "svg")
    }


def test_steps_with_the_wrong_sign_are_those_of_the_error_rate_gap(study, tree):
    """From point to point the values grow; so does the gap of the error rate here, or it falls."""
    final = final_bounds(tree)
    points = 1.0 + np.arange(6).reshape(2, 3)
    shares = []
    for gap in (points, 10.0 - points):
        data = final.data.copy()
        data["ranking_gap"] = data["ranking_gap"] * 0.0 + xr.DataArray(gap, dims=final.axes)
        found = {row[0]: row[-1] for row in study.falsifiers(tree, final._replace(data=data))}
        shares.append(found["VC"])
    assert shares == ["0", "1"]


def test_bounds_on_the_mean_gap_are_means_over_the_points(study):
    last = xr.Dataset(
        {
            "expected_gap_bound": (("rate", "expectation"), [[0.2, np.nan], [0.6, np.nan]]),
            "expected_gap_bound_stderr": (("rate", "expectation"), [[0.01, 0.1], [0.03, 0.1]]),
            "mean_gap": ("rate", [0.1, 0.3]),
        },
        coords={"expectation": ["one", "none"]},
    )
    both = xr.concat([last * np.nan, last], dim="probe")
    assert study.mean_gaps(xr.DataTree.from_dict({"bounds": both})) == [
        ("one", "0.4", "0.02", "0.2"),
        ("none", "not applicable", "", ""),
    ]
    assert study.mean_gaps(xr.DataTree.from_dict({"bounds": both[["mean_gap"]]})) == []


def test_a_run_of_another_study_is_refused(tmp_path):
    run = synthetic_dynamics_run(tmp_path / "run")
    other = open_run(run)
    other.attrs["scenario"] = load_scenario("phase-diagram").canonical_json()
    with pytest.raises(ValueError, match="phase-diagram is a run of the study 'dynamics'; bounds"):
        final_bounds(other)
