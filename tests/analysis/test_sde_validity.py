"""The study of the verdict runs on a small made-up run, as a function and as a script."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdsim._errors import StoreError
from sgdsim.store import open_run
from sgdsim.testing import synthetic_dynamics_run, synthetic_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "analysis" / "sde_validity.py"
NAMES = ["SGD, small", "SDE, small", "SGD, large", "SDE, large"]
FIGURES = ["discrepancy.png", "discrepancy.svg", "validity.png", "validity.svg"]


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study_sde_validity", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return synthetic_dynamics_run(tmp_path_factory.mktemp("run"))


def test_the_table_the_verdicts_and_the_figures(study, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    study.main(run, tmp_path / "figures")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    data = open_run(run)["dynamics"].to_dataset()
    for number, name in enumerate(NAMES):
        assert f"{name}: A verdict on {name}." in lines
        (row,) = [line for line in lines if line.startswith(f"│ {name} ")]
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        late = data["late_loss"].values[number]
        late = late[~np.isnan(late)]
        assert len(late) == (10 if name == "SDE, large" else 12)
        error = late.std(ddof=1) / len(late) ** 0.5
        gauges = [
            max(data[gauge].values[number].ravel())
            for gauge in (
                "sde_gauge",
                "variance_ratio",
                "mean_square_gauge",
                "mean_square_gauge_sde",
                "noise_kurtosis",
            )
        ]
        assert cells == [
            name,
            f"{float(data['learning_rate'][number]):g}",
            *(f"{gauge:.3g}" for gauge in gauges),
            f"{late.mean():.5g} +- {error:.2g}",
        ]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == FIGURES
    assert all(str(tmp_path / "figures" / name) in lines for name in FIGURES)


def test_what_was_not_measured_is_a_dash(study, run):
    tree: Any = open_run(run).load()
    for name in ("sde_gauge", "noise_kurtosis"):
        tree["dynamics"][name][1] = np.nan
    table = study.rows(tree)
    assert [row[2] for row in table].count("-") == 1
    assert table[1][2] == table[1][6] == "-"


def test_a_process_that_diverged_altogether(study, run):
    tree: Any = open_run(run).load()
    tree["dynamics"]["late_loss"][2] = np.nan
    tree["dynamics"]["late_loss"][3, 1:] = np.nan  # one trajectory is left, without an error
    table = study.rows(tree)
    assert table[2][-1] == "-"
    assert table[3][-1] == f"{float(tree['dynamics']['late_loss'][3, 0]):.5g}"


def test_as_a_script(run, tmp_path):
    command = [sys.executable, "-W", "error", str(SCRIPT), str(run), str(tmp_path / "figures")]
    done = subprocess.run(
        [*command, "--reference", "sde"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "A verdict on SGD, small." in done.stdout
    assert "late mean loss over that of sde" in (
        (tmp_path / "figures" / "discrepancy.svg").read_text(encoding="utf-8")
    )


def test_other_runs_are_refused(study, tmp_path):
    with pytest.raises(StoreError, match="there is no run at"):
        study.main(tmp_path / "absent", tmp_path / "figures")
    run = synthetic_run(tmp_path / "run")
    with pytest.raises(SystemExit, match="is a stagnation run; give a run of the dynamics study"):
        study.main(run, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_on_a_real_run(study, side_by_side_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    study.main(side_by_side_run, tmp_path / "figures")
    printed = capsys.readouterr().out
    assert "SGD, large: SDE invalid from the start" in printed
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == FIGURES


@pytest.fixture(scope="module")
def side_by_side_run(tmp_path_factory):
    """SGD and its SDE on few digits, at a learning rate at which the SDE fails."""
    import sgdsim

    process = "{{name = 'SGD, large', dynamics = {{kind = '{}', learning_rate = 6.0, "
    process += "batch_size = 16{}}}}}"
    tables = [
        process.format("sgd", ""),
        process.format("sde", ", substeps = 2").replace("SGD", "SDE"),
    ]
    settings = [
        f"process = [{', '.join(tables)}]",
        "claim = []",
        "problem.data.training=60",
        "problem.model.hidden=[4]",
        "ensemble.trajectories=4",
        "ensemble.steps=20",
        "ensemble.record_every=5",
        "ensemble.chunk_steps=10",
    ]
    scenario = sgdsim.load_scenario("dynamics-digits", settings)
    return sgdsim.run(scenario, tmp_path_factory.mktemp("real") / "run", quiet=True)
