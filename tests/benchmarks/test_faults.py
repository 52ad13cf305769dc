"""The fault script counts what is lost and what differs, and runs to its table."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sgdsim.store import RunStore, open_run
from sgdsim.testing import synthetic_run

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.fixture
def datasets(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("_datasets")


def test_losses_and_differences_are_counted(datasets, tmp_path):
    reference = open_run(synthetic_run(tmp_path / "one")).load()
    out = synthetic_run(tmp_path / "two")
    assert datasets.compare(reference, out) == datasets.Comparison(points=1, lost=0, differing=0)
    point = RunStore.open(out / "run.zarr").point()
    whole = open_run(out)["trajectory"].to_dataset()["loss"].values
    loss = whole.copy()
    loss[0, 1] = np.nextafter(loss[0, 1], 2)
    point.write("trajectory", {"loss": loss})
    assert datasets.compare(reference, out) == datasets.Comparison(points=1, lost=0, differing=1)
    loss[0, :2] = np.nan
    point.write("trajectory", {"loss": loss})
    assert datasets.compare(reference, out) == datasets.Comparison(points=1, lost=1, differing=2)
    point.write("trajectory", {"loss": whole})
    point.set_attrs({"wall_seconds": 7.0})
    assert datasets.compare(reference, out).equal
    point.set_attrs({"verdict": "another one"})
    assert datasets.compare(reference, out).differing
    point.set_status("failed")
    assert datasets.compare(reference, out).lost == 1


def test_quick_run_prints_the_table():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--only", "damage"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^\| chunk files with a changed byte, of \d+ +\| 100 found +\| 100 found +\| yes \|$",
        done.stdout,
        re.MULTILINE,
    )
    assert str(SCRIPT.parent) not in done.stdout


def test_no_kills_are_refused():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "--kills must be at least 1, got 0" in done.stderr
