"""A dynamics run that is killed at any write goes on to the same bits, also between processes."""

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import sgdsim
from sgdsim._errors import StoreError
from sgdsim.runs import RunPaths
from sgdsim.runs._dynamics import DynamicsRun
from sgdsim.scenario import load_scenario
from sgdsim.store import PointStore
from sgdsim.testing import assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lean")]


class Killed(BaseException):
    """What nothing catches, as nothing catches a kill."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, memories: Path, lean: None) -> Path:
    """The run without interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    sgdsim.run(load_scenario(memories), out, quiet=True)
    return out


def killed_at_write(monkeypatch, number: int, call) -> bool:
    """Whether ``call`` was killed just before its write of that number."""
    writes = 0
    original = PointStore.write

    def write(self, *arguments, **options):
        nonlocal writes
        writes += 1
        if writes == number:
            raise Killed
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(PointStore, "write", write)
        try:
            call()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("number", [6, 8, 11])
def test_killed_at_every_few_writes(tmp_path, monkeypatch, memories, whole, number):
    """Each session dies at its n-th write; five lie between two checkpoints at most."""
    out = tmp_path / "run"
    scenario = load_scenario(memories)
    sessions = 1
    dead = killed_at_write(monkeypatch, number, lambda: sgdsim.run(scenario, out, quiet=True))
    assert dead
    while dead:
        sessions += 1
        assert sessions < 20, "it does not come further"
        assert not RunPaths(out).store.exists()
        dead = killed_at_write(monkeypatch, number, lambda: sgdsim.resume(out, quiet=True))
    assert sessions > 3
    assert_same_run(whole, out)


def test_killed_between_two_processes(tmp_path, monkeypatch, memories, whole):
    """The first process is done, of the second only the start was probed."""
    out = tmp_path / "run"
    probe = DynamicsRun.probe

    def killed_after(self):
        probe(self)
        if self.position == (1, 0):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(DynamicsRun, "probe", killed_after)
        with pytest.raises(Killed):
            sgdsim.run(load_scenario(memories), out, quiet=True)
    with np.load(Path(str(RunPaths(out).files(0).checkpoint))) as stored:
        assert (int(stored["process"]), int(stored["step"])) == (0, 8)
    status = sgdsim.open_run(out)["dynamics"].to_dataset()["status"].values
    assert [set(row) for row in status.tolist()] == [{1}, {0}, {0}]
    sgdsim.resume(out, quiet=True)
    assert_same_run(whole, out)


def test_the_memory_is_part_of_the_state(tmp_path, monkeypatch, memories, whole):
    """Resumed without its momentum, heavy ball would go elsewhere."""
    out = tmp_path / "run"
    checkpoint = DynamicsRun.checkpoint

    def killed_after(self):
        checkpoint(self)
        if self.position == (1, 4):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(DynamicsRun, "checkpoint", killed_after)
        with pytest.raises(Killed):
            sgdsim.run(load_scenario(memories), out, quiet=True)
    path = Path(str(RunPaths(out).files(0).checkpoint))
    with np.load(path) as stored:
        arrays = dict(stored)
    # Weights and momentum of a softmax have one shape; the leaves are in the order of the state.
    theta, memory = (name for name in sorted(arrays) if arrays[name].ndim == 3)
    assert arrays[theta].shape == arrays[memory].shape
    assert np.any(arrays[memory] != 0)
    np.savez(path, allow_pickle=False, **arrays | {memory: np.zeros_like(arrays[memory])})
    sgdsim.resume(out, quiet=True)
    with pytest.raises(AssertionError):
        assert_same_run(whole, out)


def test_a_killed_process_resumes_to_the_same_bits(tmp_path, memories, command, environment):
    """From the command line, in the middle of the second process, which has a memory."""
    settings = ["ensemble.steps=300", "ensemble.chunk_steps=10", "ensemble.record_every=10"]
    settings.append("compute.devices=2")  # as many as the tests have in this process
    chosen = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "killed"
    arguments = command("run", str(memories), "--out", str(out), *chosen)
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    paths = RunPaths(out)
    deadline = time.monotonic() + 240
    while True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        checkpoint = Path(str(paths.files(0).checkpoint))
        if checkpoint.exists():
            with np.load(checkpoint) as stored:
                if (int(stored["process"]), int(stored["step"])) >= (1, 50):
                    break
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not paths.store.exists()
    partial = sgdsim.open_run(out)["dynamics"]["loss"]
    assert partial.isel(process=0).notnull().all()
    assert partial.isel(process=2).isnull().all()
    sgdsim.resume(out, quiet=True)
    whole = tmp_path / "whole"
    sgdsim.run(load_scenario(memories, settings), whole, quiet=True)
    assert_same_run(whole, out)


def test_the_state_of_another_scenario_is_refused(tmp_path, monkeypatch, memories):
    out = tmp_path / "run"
    scenario = load_scenario(memories)
    assert killed_at_write(monkeypatch, 12, lambda: sgdsim.run(scenario, out, quiet=True))
    path = Path(str(RunPaths(out).files(0).checkpoint))
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, allow_pickle=False, **arrays | {"digest": np.asarray("0" * 64)})
    with pytest.raises(StoreError, match="belongs to another scenario"):
        sgdsim.resume(out, quiet=True)
