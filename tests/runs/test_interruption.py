"""Runs that are killed, stopped, or cannot write: nothing computed is lost."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import sgdsim
from sgdsim.runs import RunPaths

pytestmark = pytest.mark.slow

# Longer than the tiny run, so that a signal finds it in the middle.
LONG = ("ensemble.steps=400", "ensemble.chunk_steps=10", "ensemble.record_every=10")


def _wait_for_step(process: subprocess.Popen, paths: RunPaths, step: int) -> None:
    """Wait until the checkpoint has reached ``step``."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        if paths.checkpoint.exists():
            with np.load(paths.checkpoint) as stored:
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


def assert_same_dataset(left: Path, right: Path) -> None:
    """Bit for bit, coordinates and all; attributes of time and place aside."""
    one, two = sgdsim.open_run(left), sgdsim.open_run(right)
    assert set(one.children) == set(two.children)
    for name in one.children:
        xr.testing.assert_identical(
            one[name].to_dataset().load().drop_attrs(), two[name].to_dataset().load().drop_attrs()
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, finish, tiny) -> Path:
    """The long run without interruption."""
    out = tmp_path_factory.mktemp("long") / "whole"
    process = finish(tiny("stagnation", out, *LONG))
    assert process.returncode == 0, process.stderr
    return out


def test_killed_runs_resume_to_the_same_bits(
    tmp_path, whole: Path, environment, finish, tiny, command
):
    out = tmp_path / "killed"
    paths = RunPaths(out)
    process = _start(tiny("stagnation", out, *LONG), environment)
    _wait_for_step(process, paths, 100)
    process.kill()
    process.communicate()
    partial = sgdsim.open_run(out)  # it opens, and holds what was computed
    assert int(partial["trajectory"]["loss"].notnull().all("trajectory").sum()) >= 10
    assert not paths.store.exists()

    process = _start(command("resume", str(out)), environment)
    _wait_for_step(process, paths, 200)
    process.kill()
    process.communicate()

    # Compiled anew: the same bits do not come from the programs that the tests keep.
    anew = ["env", "-u", "JAX_COMPILATION_CACHE_DIR"]
    resumed = finish([*anew, *command("resume", str(paths.partial))])
    assert resumed.returncode == 0, resumed.stderr
    assert_same_dataset(whole, out)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on(tmp_path, environment, tiny, number, status):
    out = tmp_path / "stopped"
    process = _start(tiny("stagnation", out, *LONG), environment)
    _wait_for_step(process, RunPaths(out), 50)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == status
    assert f"sgdsim resume {out}" in stderr.replace("\n", "")
    assert "Traceback" not in stderr
    assert sgdsim.open_run(out)["trajectory"]["loss"].notnull().any()


def test_a_disk_without_room_keeps_what_was_written(tmp_path, finish, tiny):
    out = tmp_path / "full"
    # No file may grow beyond 16 blocks of 1024 bytes: the first large one fails.
    limited = ["bash", "-c", 'ulimit -f 16; exec "$@"', "bash", *tiny("stagnation", out)]
    process = finish(limited)
    assert process.returncode == 1
    assert "error: cannot write" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_finished_run_is_not_resumed(whole: Path, finish, command):
    process = finish(command("resume", str(whole)))
    assert process.returncode == 1
    assert "finished already" in process.stderr


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, environment, tiny) -> Path:
    """A run that was killed after its first chunks."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    process = _start(tiny("stagnation", out, *LONG), environment)
    _wait_for_step(process, RunPaths(out), 20)
    process.kill()
    process.communicate()
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenario_digest": "0" * 64}, "does not match its digest"),
        ({"conventions": "sgdsim-9"}, "sgdsim-9"),
        ({"mapping": "vmap"}, "mapping = vmap"),
        ({"versions": "jax 0.0.1"}, "versions = jax 0.0.1"),
    ],
)
def test_resuming_something_else_is_refused(stopped: Path, finish, command, change, message):
    metadata = RunPaths(stopped).partial / "zarr.json"
    original = metadata.read_text()
    try:
        edited = json.loads(original)
        edited["attributes"] |= change
        metadata.write_text(json.dumps(edited))
        process = finish(command("resume", str(stopped)))
    finally:
        metadata.write_text(original)
    assert process.returncode == 1
    assert message in process.stderr.replace("\n", " ")
    assert "Traceback" not in process.stderr


def test_a_truncated_state_is_refused(stopped: Path, finish, command):
    checkpoint = RunPaths(stopped).checkpoint
    original = checkpoint.read_bytes()
    try:
        checkpoint.write_bytes(original[: len(original) // 2])
        process = finish(command("resume", str(stopped)))
    finally:
        checkpoint.write_bytes(original)
    assert process.returncode == 1
    assert "cannot be read" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_lost_state_never_deletes_the_dataset(stopped: Path, finish, command):
    paths = RunPaths(stopped)
    hidden = paths.checkpoint.with_name("elsewhere")
    paths.checkpoint.rename(hidden)
    try:
        process = finish(command("resume", str(stopped)))
    finally:
        hidden.rename(paths.checkpoint)
    assert process.returncode == 1
    assert "is gone" in process.stderr
    assert sgdsim.open_run(stopped)["trajectory"]["loss"].notnull().any()


def test_no_run_to_resume(tmp_path, finish, command):
    process = finish(command("resume", str(tmp_path)))
    assert process.returncode == 1
    assert "holds no run" in process.stderr.replace("\n", " ")
