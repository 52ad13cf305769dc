"""Runs that are killed, stopped, or cannot write: nothing computed is lost."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import sgdsim
from sgdsim._errors import StoreError
from sgdsim.runs import RunPaths
from sgdsim.testing import assert_same_run

pytestmark = pytest.mark.slow

# Longer than the tiny run, so that a signal finds it in the middle.
LONG = ("ensemble.steps=200", "ensemble.chunk_steps=10", "ensemble.record_every=10")


def _wait_for_step(process: subprocess.Popen, paths: RunPaths, step: int) -> None:
    """Wait until the checkpoint has reached ``step``."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        checkpoint = Path(str(paths.files(0).checkpoint))
        if checkpoint.exists():
            with np.load(checkpoint) as stored:
                if int(stored["step"]) >= step:
                    return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached")


def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, finish, tiny) -> Path:
    """The long run without interruption."""
    out = tmp_path_factory.mktemp("long") / "whole"
    process = finish(tiny("stagnation", out, *LONG))
    assert process.returncode == 0, process.stderr
    return out


@pytest.fixture(scope="module")
def killed(tmp_path_factory, environment, tiny) -> Path:
    """A run that was killed after its first chunks; it stays so."""
    out = tmp_path_factory.mktemp("killed") / "run"
    process = _start(tiny("stagnation", out, *LONG), environment)
    _wait_for_step(process, RunPaths(out), 30)
    process.kill()
    process.communicate()
    return out


def test_a_killed_and_then_stopped_run_resumes_to_the_same_bits(
    tmp_path, whole: Path, killed: Path, environment, finish, command
):
    partial = sgdsim.open_run(killed)  # it opens, and holds what was computed
    assert int(partial["trajectory"]["loss"].notnull().all("trajectory").sum()) >= 3
    assert not RunPaths(killed).store.exists()

    out = shutil.copytree(killed, tmp_path / "run")
    paths = RunPaths(out)
    process = _start(command("resume", str(out)), environment)
    _wait_for_step(process, paths, 100)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"sgdsim resume {out}" in stderr.replace("\n", "")
    assert "Traceback" not in stderr
    assert not paths.store.exists()

    # Compiled anew: the same bits do not come from the programs that the tests keep.
    anew = ["env", "-u", "JAX_COMPILATION_CACHE_DIR"]
    resumed = finish([*anew, *command("resume", str(paths.partial))])
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(whole, out)


def test_a_disk_without_room_is_one_sentence(tmp_path, finish, tiny):
    out = tmp_path / "full"
    # No file may grow beyond 16 blocks of 1024 bytes: the first large one fails.
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *tiny("stagnation", out)]
    process = finish(limited)
    assert process.returncode == 1
    assert f"error: cannot create {out}" in process.stderr
    assert "File too large" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_finished_run_is_not_resumed(whole: Path):
    with pytest.raises(StoreError, match="finished already"):
        sgdsim.resume(whole, quiet=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenario_digest": "0" * 64}, "does not match its digest"),
        ({"conventions": "sgdsim-9"}, "sgdsim-9"),
        ({"mapping": "vmap"}, "mapping = vmap"),
        ({"versions": "jax 0.0.1"}, "versions = jax 0.0.1"),
    ],
)
def test_resuming_something_else_is_refused(killed: Path, change, message):
    metadata = RunPaths(killed).partial / "zarr.json"
    original = metadata.read_text()
    try:
        edited = json.loads(original)
        edited["attributes"] |= change
        metadata.write_text(json.dumps(edited))
        with pytest.raises(StoreError, match=message):
            sgdsim.resume(killed, quiet=True)
    finally:
        metadata.write_text(original)


def test_a_truncated_state_is_refused(killed: Path, finish, command):
    """In words of one line, also from the command line."""
    checkpoint = Path(str(RunPaths(killed).files(0).checkpoint))
    original = checkpoint.read_bytes()
    try:
        checkpoint.write_bytes(original[: len(original) // 2])
        process = finish(command("resume", str(killed)))
    finally:
        checkpoint.write_bytes(original)
    assert process.returncode == 1
    assert "cannot be read" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_lost_state_never_deletes_the_dataset(killed: Path):
    checkpoint = Path(str(RunPaths(killed).files(0).checkpoint))
    hidden = checkpoint.with_name("elsewhere")
    checkpoint.rename(hidden)
    try:
        with pytest.raises(StoreError, match="is gone"):
            sgdsim.resume(killed, quiet=True)
    finally:
        hidden.rename(checkpoint)
    assert sgdsim.open_run(killed)["trajectory"]["loss"].notnull().any()


def test_no_run_to_resume(tmp_path):
    with pytest.raises(StoreError, match="holds no run"):
        sgdsim.resume(tmp_path, quiet=True)
