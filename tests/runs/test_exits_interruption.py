"""An exits run that is killed or stopped anywhere goes on to the same bits, also between cases."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sgdsim
from sgdsim.runs import RunPaths
from sgdsim.runs._exits import ExitsRun
from sgdsim.scenario import load_scenario
from sgdsim.store import PointStore
from sgdsim.testing import assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lean")]

#: All leave the first set in the first chunk; the second has the most steps; nobody samples.
#: Five trajectories on the two devices of the tests: one is padding.
SCENARIO = """study = "exits"
name = "three"
title = "Three cases"
[ensemble]
trajectories = 5
steps = 40
chunks = 4
seed = 1
[evaluation]
directions = 0
quenches = 2
[compute]
devices = 2
[[case]]
name = "all leave at once"
problem = { kind = "landscape", landscape = { kind = "quadratic", eigenvalues = [1.0] } }
region = { kind = "ball", radius = 1e-4 }
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
noise = { kind = "isotropic", variance = 0.04 }
[[case]]
name = "bowl"
problem = { kind = "landscape", landscape = { kind = "quadratic", eigenvalues = [1.0, 1.0] } }
region = { kind = "ball", radius = 0.3 }
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
noise = { kind = "isotropic", variance = 0.04 }
[[case]]
name = "wells"
problem = { kind = "landscape", landscape = { kind = "double_well" } }
region = { kind = "wells", radius = 0.9, same_basin = true }
start = [-1.0]
[case.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
noise = { kind = "isotropic", variance = 4.0 }
[[claim]]
quantity = "exit_probability"
cases = ["bowl"]
at_most = 1.0
text = "t"
source = "s"
"""


class Killed(BaseException):
    """What nothing catches, as nothing catches a kill."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenario file."""
    file = tmp_path_factory.mktemp("scenario") / "three.toml"
    file.write_text(SCENARIO)
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, three: Path, lean: None) -> Path:
    """The run without interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    sgdsim.run(load_scenario(three), out, quiet=True)
    return out


def position(out: Path) -> tuple[int, int]:
    """Case and step of the last checkpoint."""
    with np.load(Path(str(RunPaths(out).files(0).checkpoint))) as stored:
        return int(stored["case"]), int(stored["step"])


def killed_at(
    monkeypatch: pytest.MonkeyPatch, method: str, number: int, call: Callable[[], object]
) -> bool:
    """Whether ``call`` was killed just before that call of a method of the store or the run."""
    count = 0
    owner = PointStore if hasattr(PointStore, method) else ExitsRun
    original = getattr(owner, method)

    def counted(self, *arguments, **options):
        nonlocal count
        count += 1
        if count == number:
            raise Killed
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, counted)
        try:
            call()
        except Killed:
            return True
    return False


def test_the_first_case_ends_early(whole: Path):
    """Else the tests below would not see what they are about."""
    exits = sgdsim.open_run(whole)["exits"].to_dataset()
    assert exits["steps"].values.tolist() == [10, 40, 40]
    assert exits["exit_count"].values[0] == 5
    assert (exits["status"] == 1).all()


@pytest.mark.parametrize("number", [4, 5])
def test_killed_at_every_few_writes(tmp_path, monkeypatch, three, whole, number):
    """Each session dies at its n-th write; between two checkpoints lies one at most."""
    out = tmp_path / "run"
    scenario = load_scenario(three)
    sessions = 1
    dead = killed_at(monkeypatch, "write", number, lambda: sgdsim.run(scenario, out, quiet=True))
    assert dead
    while dead:
        sessions += 1
        assert sessions < 20, "it does not come further"
        assert not RunPaths(out).store.exists()
        dead = killed_at(monkeypatch, "write", number, lambda: sgdsim.resume(out, quiet=True))
    assert sessions > 3
    assert_same_run(whole, out)


def test_killed_before_the_evaluation_of_a_case_that_ended_early(
    tmp_path, monkeypatch, three, whole
):
    """Resumed, it must not take the steps that were not needed."""
    out = tmp_path / "run"
    scenario = load_scenario(three)
    assert killed_at(monkeypatch, "_evaluate", 1, lambda: sgdsim.run(scenario, out, quiet=True))
    assert position(out) == (0, 10)
    assert sgdsim.open_run(out)["exits"]["stay_probability"].isnull().all()
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)


def test_killed_between_two_cases(tmp_path, monkeypatch, three, whole):
    """The second case is evaluated, the third was not begun; the second is evaluated again."""
    out = tmp_path / "run"
    scenario = load_scenario(three)
    assert killed_at(monkeypatch, "_start", 3, lambda: sgdsim.run(scenario, out, quiet=True))
    partial = sgdsim.open_run(out)["exits"].to_dataset()
    assert position(out) == (1, 40)
    assert partial["stay_probability"].isel(case=1).notnull().all()
    assert partial["stay_probability"].isel(case=2).isnull().all()
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)


def test_the_position_is_part_of_the_state(tmp_path, monkeypatch, three, whole):
    """Resumed with the state of another trajectory, it would go elsewhere."""
    out = tmp_path / "run"
    scenario = load_scenario(three)
    assert killed_at(monkeypatch, "_checkpoint", 6, lambda: sgdsim.run(scenario, out, quiet=True))
    assert position(out) == (1, 20)
    path = Path(str(RunPaths(out).files(0).checkpoint))
    with np.load(path) as stored:
        arrays = dict(stored)
    (theta,) = (n for n, a in arrays.items() if a.ndim == 2 and a.dtype == np.float32)
    np.savez(path, allow_pickle=False, **arrays | {theta: arrays[theta][::-1]})
    sgdsim.resume(out, quiet=True)
    with pytest.raises(AssertionError):
        assert_same_run(whole, out)


LONG = ["ensemble.steps=4000", "ensemble.chunks=100"]


def wait(process: subprocess.Popen, out: Path, step: int) -> None:
    """Wait until that step of the second case."""
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        if RunPaths(out).files(0).checkpoint.exists() and position(out) >= (1, step):
            return
        time.sleep(0.01)


def test_a_killed_and_then_stopped_process_resumes_to_the_same_bits(
    tmp_path, command, environment, three
):
    """From the command line: killed in the second case, then asked to stop there."""

    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            command(*arguments),
            env=environment,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    out = tmp_path / "run"
    chosen = [part for setting in LONG for part in ("--set", setting)]
    process = start("run", str(three), "--out", str(out), *chosen)
    wait(process, out, 200)
    process.kill()
    process.communicate()
    assert not RunPaths(out).store.exists()
    partial = sgdsim.open_run(out)["exits"]["stay_probability"]
    assert partial.isel(case=0).notnull().all()
    assert partial.isel(case=2).isnull().all()
    killed_at_step = position(out)[1]

    process = start("resume", str(out))
    wait(process, out, killed_at_step + 40)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT
    assert f"sgdsim resume {out}" in stderr.replace("\n", "")
    assert "Traceback" not in stderr

    whole = tmp_path / "whole"
    sgdsim.run(load_scenario(three, LONG), whole, quiet=True)
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)
