"""The study of the edge of stability on a small made-up run, as a function and as a script."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from sgdsim._errors import StoreError
from sgdsim.store import SweepAxis, open_run
from sgdsim.testing import synthetic_dynamics_run, synthetic_edge_run, synthetic_sweep

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "analysis" / "edge_of_stability.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study_edge_of_stability", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_edge_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def cells(study, run):
    """Rows of the table by process, cells by column."""
    found = study.rows(open_run(run).load())
    return {row[0]: dict(zip(study.COLUMNS, row, strict=True)) for row in found}


def test_the_table_tells_what_is_stored(cells, run):
    data = open_run(run)["edge"].to_dataset()
    assert list(cells) == data.process.values.tolist()
    gd, one = cells["GD"], data.sel(process="GD")
    assert (gd["eta"], gd["threshold"], gd["batch ratio"]) == ("0.5", "4 = 2/eta", "-")
    error = max(
        one.late_ratio.values.std(ddof=1) / 3**0.5,
        (one.late_ratio_stderr.values**2).sum() ** 0.5 / 3,
    )
    assert gd["late ratio"] == f"{float(one.late_ratio.mean()):.3f} +- {error:.1g}"
    assert gd["largest"] == f"{float(one.maximum_ratio.max()):.3f}"
    steps = np.sort(one.entry_step.values)
    interval = f"({one.entry_low.values.min():,} to {one.entry_high.values.max():,})"
    assert gd["entry step"] == f"{steps[1]:,} {interval}"
    assert (gd["state"], gd["why"], gd["break-even"]) == ("at the edge", "", "800")
    assert cells["SGD"]["state"] == "below the edge"
    assert cells["SGD"]["batch ratio"].startswith("0.9")
    assert cells["Adam"]["threshold"] == "38,000 = 38/eta"
    assert cells["SDE"]["why"] == "diverged (1)"
    flow = cells["gradient flow"]
    assert [flow[name] for name in ("threshold", "late ratio", "entry step")] == ["-", "-", "-"]
    assert (flow["state"], flow["why"]) == ("not judged", "no edge")


def test_a_threshold_that_moves_is_a_range(study):
    assert study.threshold(np.array([[4.0, np.nan], [2.0, 2.5]]), "2/eta") == "2 to 4 = 2/eta"
    assert study.threshold(np.array([[4.0, np.nan]]), "") == "4"
    assert study.threshold(np.array([[np.nan]]), "2/eta") == "-"


def test_states_that_differ_are_counted(study):
    names = ("none", "one_way", "another")
    assert study.shares(np.array([1, 2, 1]), names) == "one way (2), another (1)"
    assert study.shares(np.array([0, 0]), names) == ""
    assert study.shares(np.array([0, 2]), names) == "another (1)"


def test_errors_are_the_larger_of_within_and_between(study):
    assert (
        study.with_error(np.array([1.0, 2.0, np.nan]), np.array([0.1, 0.1, 9.0])) == "1.500 +- 0.5"
    )
    assert study.with_error(np.array([1.0, 1.0]), np.array([0.2, 0.2])) == "1.000 +- 0.1"
    assert study.with_error(np.array([1.0]), np.array([np.nan])) == "1.000 +- 0"
    assert study.with_error(np.array([np.nan]), np.array([0.1])) == "-"


def test_the_output_of_a_run(study, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    tree = open_run(run).load()
    # Of two processes there is neither a flow that predicts nor another learning rate.
    two = tree.copy()
    data = tree["edge"].to_dataset().sel(process=["GD", "SGD"])
    names = ["GD [fast]", "../SGD"]
    two["edge"] = xr.DataTree(data.assign_coords(process=names))
    monkeypatch.setattr(study, "open_run", lambda store: two)
    study.main(run, tmp_path / "figures")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert "GD: A sentence on GD." in lines
    assert "No figure predicted_loss: no flow predicts a loss." in lines
    sentence = "No figure break_even: no two processes of one kind differ in learning rate or"
    assert f"{sentence} batch size alone." in lines
    assert sum("GD [fast]" in line for line in lines) == 1
    stems = ["distances", "ratios", "sharpness-0-GD-fast", "sharpness-1-SGD", "spectrum"]
    found = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert found == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]
    assert all(str(tmp_path / "figures" / name) in lines for name in found)


def test_the_output_of_a_sweep(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    axes = [
        SweepAxis("learning_rate", {"learning_rate": [0.1, 0.25]}),
        SweepAxis("batch_size", {"batch_size": [8, 32]}),
    ]
    tree = open_run(synthetic_sweep(tmp_path / "run", "edge", axes, failed=[3])).load()
    tree.attrs["title"] = "Made-up sweep"
    tree["edge"] = xr.DataTree(tree["edge"].to_dataset().isel(process=[0, 3]))
    monkeypatch.setattr(study, "open_run", lambda store: tree)
    study.main(tmp_path / "run", tmp_path / "figures")
    printed = capsys.readouterr().out
    assert "Made-up sweep" in printed
    rows = study.sweep_rows(tree)
    assert len(rows) == 3 * 2
    labels = [tuple(row[:3]) for row in rows[::2]]
    assert labels == [("0.1", "8", "GD"), ("0.1", "32", "GD"), ("0.25", "8", "GD")]
    late = float(
        tree["edge"].late_ratio.sel(process="GD").isel(learning_rate=1, batch_size=0).mean()
    )
    last = dict(zip(study.COLUMNS, rows[4][2:], strict=True))
    assert last["late ratio"].startswith(f"{late:.3f} +- ")
    assert last["eta"] == "0.5"
    assert "phase_diagram.png" in printed
    stems = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert stems == {"phase_diagram", "break_even", "sweep"}


def test_as_a_script(tmp_path):
    run = synthetic_edge_run(tmp_path / "run", processes=1)
    command = [sys.executable, "-W", "error", str(SCRIPT), str(run), str(tmp_path / "figures")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "A sentence on GD." in done.stdout
    assert (tmp_path / "figures" / "sharpness-0-GD.svg").exists()


def test_other_runs_are_refused(study, tmp_path):
    with pytest.raises(StoreError, match="there is no run at"):
        study.main(tmp_path / "absent", tmp_path / "figures")
    run = synthetic_dynamics_run(tmp_path / "run")
    with pytest.raises(SystemExit, match="is a dynamics run; give a run of the edge study"):
        study.main(run, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
