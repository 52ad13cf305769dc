"""Options that all scripts share."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["dynamics", "scaling", "step_cost", "throughput"])
def test_no_rounds_is_refused(monkeypatch, capsys, name):
    script = str(BENCHMARKS / f"{name}.py")
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [script, "--rounds", "0"])
    with pytest.raises(SystemExit) as refused:
        runpy.run_path(script, run_name="__main__")
    assert refused.value.code == 2
    assert "--rounds must be at least 1, got 0" in capsys.readouterr().err
