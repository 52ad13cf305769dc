"""The benchmark script runs and ends with its table; what it measures is not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "step_cost.py"
QUANTITIES = [
    "small: engine / bare GD",
    "small: two terms / engine",
    "small: dense / engine",
    "small: compilations",
    "two-device map / vmap, throughput",
    "one and two devices, bit for bit",
    "collectives in the compiled step",
]


def test_quick_run_prints_the_table():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--only", "small"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (.*?) *\| .*? *\| .*? *\| (yes|no ) \|$", done.stdout, re.MULTILINE)
    assert [quantity for quantity, _ in rows] == QUANTITIES
    assert re.search(r"equal +\| equal +\| yes", done.stdout)
    assert str(SCRIPT.parent) not in done.stdout
