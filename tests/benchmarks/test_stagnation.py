"""The benchmark of the stagnation figures runs; what it measures is not judged here."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "stagnation.py"


@pytest.mark.slow
def test_quick_run_measures_every_section():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for said in ("ensemble: 2000 trajectories", "bound, with bias: 50", "rare: exact 1.26e-08"):
        assert said in done.stdout
    assert str(SCRIPT.parent) not in done.stdout
