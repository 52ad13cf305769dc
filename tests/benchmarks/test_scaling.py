"""The scaling script runs to its table; what it measures is not judged here."""

import concurrent.futures
import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class HereAndNow(contextlib.nullcontext):
    """A worker "process" that is this one, which has two devices."""

    def submit(self, function, *arguments):
        future = concurrent.futures.Future()
        future.set_result(function(*arguments))
        return future

    def __enter__(self):
        return self


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # This process has its devices; the scripts must not ask for others.
    monkeypatch.setattr("sgdsim.ensemble.use_host_devices", lambda devices="auto": None)
    monkeypatch.setenv("NPROC", str(os.cpu_count()))
    script = importlib.import_module("scaling")
    monkeypatch.setattr(script, "fresh_process", HereAndNow)
    monkeypatch.setattr(script, "DEVICES", (1, 2))
    return script


def test_devices_are_timed_in_turn_and_their_results_compared(scaling, monkeypatch, capsys):
    pinned = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: pinned.append(cores))
    scaling.main(["--quick", "--only", "devices"])
    printed = capsys.readouterr().out
    assert pinned == [[0], [0, 1], [0, 1]]
    lines = re.findall(
        r"^  (\d devices?, \d cores?) +[\d.]+ +[\d.]+ +[\d.]+ +(\w{16})$", printed, re.MULTILINE
    )
    assert [name for name, _ in lines] == [
        "1 device, 1 core",
        "1 device, 2 cores",
        "2 devices, 2 cores",
    ]
    assert len({digest for _, digest in lines}) == 1
    assert re.search(
        r"^\| small: 1, 2 devices, bit for bit +\| equal +\| equal +\| yes", printed, re.MULTILINE
    )
    assert re.search(
        r"^\| small: two devices / one device, one core +\| at least 1.7 ", printed, re.MULTILINE
    )
    assert str(BENCHMARKS) not in printed


def test_different_results_are_told(scaling, monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: None)
    monkeypatch.setattr(scaling, "start_worker", lambda *arguments: None)
    monkeypatch.setattr(scaling, "run_chunk", lambda setting: (1.0, 1.0, f"{setting.devices}" * 64))
    scaling.main(["--quick", "--only", "devices"])
    assert re.search(r"bit for bit +\| equal +\| differ +\| no ", capsys.readouterr().out)


def test_memory_is_told_for_every_number_of_steps(scaling, capsys):
    scaling.main(["--quick", "--only", "memory"])
    printed = capsys.readouterr().out
    lines = re.findall(
        r"^ +([\d,]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE
    )
    assert [steps for steps, *_ in lines] == ["100", "1,000"]
    for _, peak, before, _, arguments in lines:
        assert float(peak) >= float(before) > 10
        # 200 iterates of ten numbers in single precision, and as many keys and tracks.
        assert float(arguments) * 1e6 > 200 * 10 * 4 * 0.9
    assert re.search(r"^\| peak memory, 1,000 / 100 steps +\| at most 1.1 ", printed, re.MULTILINE)


def test_a_longer_sweep_is_told_to_need_no_further_program(scaling, monkeypatch, capsys):
    counted = {2: (1, 52, 0.1), 4: (2, 55, 0.2)}
    monkeypatch.setattr(scaling, "compiled_programs", counted.get)
    scaling.main(["--quick", "--only", "programs"])
    printed = capsys.readouterr().out
    assert re.search(r"^ +4 +2 +55 +0.2$", printed, re.MULTILINE)
    assert re.search(
        r"^\| 4 learning rates: programs of the loop +\| 1 +\| 2 +\| no ", printed, re.MULTILINE
    )
    assert re.search(r"programs more than for 2 +\| 0 +\| 3 +\| no ", printed)


def test_programs_are_counted_in_a_process_of_their_own():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "scaling.py", "--quick", "--only", "programs"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Compiling" not in done.stderr
    assert re.search(r"programs of the loop +\| 1 +\| 1 +\| yes", done.stdout)
    assert re.search(r"programs more than for 2 +\| 0 +\| 0 +\| yes", done.stdout)
