"""The benchmark of all steppers runs on the small network; what it measures is not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "dynamics.py"
CONTENDERS = [
    "bare GD scan",
    "gradient descent",
    "Gaussian SGD",
    "SDE, 4 substeps",
    "gradient flow",
    "SGD",
    "SVAG(4)",
    "heavy ball, all rows",
    "Adam, all rows",
    "SAM, all rows",
    "heavy-ball SDE",
    "Student noise",
    "projected on a ball",
    "n x p gradients",
    "n x n covariance",
]


def test_quick_run_times_every_contender():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--only", "small"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^  (\S.*?)  +([\d.]+) +([\d.]+)$", done.stdout, re.MULTILINE)
    measured = {name: (float(time), float(ratio)) for name, time, ratio in rows}
    assert set(CONTENDERS) <= set(measured)
    assert measured["bare GD scan"][1] == 1
    assert all(time > 0 for time, _ in measured.values())
    assert "small: n = " in done.stdout
    assert "large" not in done.stdout
    assert str(SCRIPT.parent) not in done.stdout
