"""The study runs on a small made-up run, as a function and as a script."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sgdsim._errors import StoreError
from sgdsim.store import open_run
from sgdsim.testing import synthetic_exits_run, synthetic_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "analysis" / "stagnation.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study_stagnation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_and_the_figures(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = synthetic_run(tmp_path / "run")
    study.main(run, tmp_path / "figures")
    printed = capsys.readouterr().out
    # By hand from the made-up numbers: 1 - (1e-6 + 3e-3 * 200) > 0 > 1 - (0.02 + 0.02 * 200).
    rows = {
        "radius of the stagnation set": "0.22",
        "stay probability up to step 200": "0.5833 in [0.2767, 0.8483], 12 trajectories",
        "lower bound S2": "0.399999 (exit at most 10^-0.222)",
        "lower bound S1": "vacuous",
        "lower bound S0": "vacuous",
        "certificate pac_bayes": "not applicable: an assumption is violated",
    }
    lines = printed.splitlines()
    for what, value in rows.items():
        assert any(what in line and f" {value} " in line for line in lines), (what, printed)
    (vacuous,) = [line for line in lines if "spectral_entropy" in line]
    assert "times the gap, vacuous" in vacuous
    (good,) = [line for line in lines if "centre_lipschitz" in line]
    assert "vacuous" not in good
    assert "path_norm" not in printed
    stems = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert stems == {"survival", "distance", "bounds", "convexity", "convexity_map"}


def test_tables_of_an_exits_run(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = synthetic_exits_run(tmp_path / "run")
    study.main(run, tmp_path / "figures")
    printed = capsys.readouterr().out
    cases = open_run(run)["exits"].to_dataset()
    assert all(name in printed for name in cases.case.values.tolist())
    rows = dict(study.of_case(cases.sel(case="width 64")))
    assert rows["radius of the set"] == "0.2"
    assert rows["participation ratio of the final iterates"] == "1.4 in [1.3, 1.5]"
    # By hand: 0.02 + 0.15 = 0.17 is less than 0.03 + 0.05 * 8 and 0.032 + 0.3 * 8.
    assert rows["best bound on the gap"] == "G1 = 0.17, 88 % of it displacement"
    assert "exit probability, split" not in rows
    # log10(1e-4 * 2001), and the plug-in half a nat above it.
    assert rows["upper bound S2, certificate"] == "exit at most 10^-0.6988"
    assert rows["upper bound S2, plug-in"] == "exit at most 10^-0.4816"
    gap = cases.sel(case="width 64").gap.values
    assert rows["generalization gap"].startswith(f"{gap.mean():.4g} +- ")
    rare = dict(study.of_case(cases.sel(case="eta 0.05")))
    truth = 1 - (1 - 0.1 * np.exp(-6) * 0.05) ** 400
    split = f"{1.02 * truth:.4g} in [{0.9 * truth:.4g}, {1.15 * truth:.4g}]"
    assert rare["exit probability, split"] == split
    outside = dict(study.of_case(cases.sel(case="outside")))
    assert outside["exit probability"] == "not counted: no start inside, or not run yet"
    assert outside["upper bound S2, certificate"] == "not applicable"
    assert (tmp_path / "figures" / "arrhenius.png").exists()


def test_tightness_is_the_mean_of_the_stored_one(study, tmp_path):
    tree = open_run(synthetic_run(tmp_path / "run"))
    rows = dict(study.tightness(tree))
    stored = tree["bounds"].tightness.values[:11, -1, 0]
    assert rows["certificate centre_lipschitz"] == f"{stored.mean():.4g} times the gap"


def test_a_gap_that_is_not_positive_has_no_tightness(study, tmp_path):
    tree = open_run(synthetic_run(tmp_path / "run")).load()
    tree["bounds"].tightness.values[..., 0] = np.nan
    rows = dict(study.tightness(tree))
    assert rows["certificate centre_lipschitz"] == "no ratio: the measured gap is not positive"


def test_bounds_that_do_not_apply(study, tmp_path):
    tree = open_run(synthetic_run(tmp_path / "run", applicable=False, diverged=12))
    rows = dict(study.summary(tree))
    assert rows["lower bound S2"] == "not applicable"
    assert rows["certificate centre_lipschitz"] == "no trajectory left"


def test_as_a_script(tmp_path):
    run = synthetic_run(tmp_path / "run")
    command = [sys.executable, "-W", "error", str(SCRIPT), str(run), str(tmp_path / "figures")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lower bound S2" in done.stdout
    assert (tmp_path / "figures" / "convexity.svg").exists()


def test_a_missing_run(study, tmp_path):
    with pytest.raises(StoreError, match="there is no run at"):
        study.main(tmp_path / "absent", tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
