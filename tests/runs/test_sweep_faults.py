"""Faults that come from outside: killed processes, full and read-only disks, damaged files."""

import errno
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import pytest

import sgdsim
from sgdsim._errors import StoreError
from sgdsim.runs._lock import LOCK_NAME, OWNER_NAME, lock_run, who_holds
from sgdsim.scenario import load_scenario
from sgdsim.store import count_statuses, validate
from sgdsim.testing import assert_same_run

pytestmark = pytest.mark.slow

#: The command line on a disk that is full from the tenth write of a point on.
FULL = """
import resource
from sgdsim._cli import app
from sgdsim.store import PointStore
write, left = PointStore.write, [10]
def filling(self, *arguments, **options):
    left[0] -= 1
    if left[0] == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    return write(self, *arguments, **options)
PointStore.write = filling
app()
"""


class Killed(BaseException):
    pass


@pytest.fixture
def unfinished(sweep, tmp_path, monkeypatch, lean):
    """The same sweep, whose process died after its first time chunk."""
    from sgdsim.ensemble import Batch

    advance, calls = Batch.advance, []

    def dying(self, legs):
        calls.append(legs)
        if len(calls) > 1:
            raise Killed
        return advance(self, legs)

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "advance", dying)
        with pytest.raises(Killed):
            sgdsim.run(load_scenario(str(sweep)), tmp_path / "run", quiet=True)
    return tmp_path / "run"


@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_a_cluster_that_is_killed_whole_loses_nothing(sweep, swept, tmp_path, command, environment):
    pytest.importorskip("distributed")
    out = tmp_path / "run"
    arguments = command("run", str(sweep), "--cluster", "local:2", "--out", str(out), "--quiet")
    process = subprocess.Popen(
        arguments, start_new_session=True, env=environment, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not list(out.glob("state/*/ensemble.npz")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.7)  # of its seconds of compiling and computing
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (out / "run.zarr.partial").is_dir()
    assert validate(out) == []
    sgdsim.resume(out, quiet=True)
    assert count_statuses(out) == {"pending": 0, "done": 6, "failed": 0}
    assert_same_run(swept, out)


def test_a_full_disk_is_one_sentence_and_what_was_computed_is_kept(sweep, swept, tmp_path, finish):
    pytest.importorskip("resource")
    out = tmp_path / "run"
    filled = finish([sys.executable, "-c", FULL, "run", str(sweep), "--out", str(out), "--quiet"])
    assert filled.returncode == 1
    (sentence,) = filled.stderr.strip().splitlines()
    assert sentence.startswith(f"error: cannot write {out}")
    assert "File too large" in sentence
    assert validate(out) == []
    assert (out / "run.zarr.partial").is_dir()
    sgdsim.resume(out, quiet=True)
    assert_same_run(swept, out)


def test_a_read_only_disk_is_one_sentence(sweep, swept, unfinished, tmp_path, monkeypatch):
    opened, empty = io.open, tmp_path / "empty"
    empty.mkdir()

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    def only_reading(file, mode="r", *arguments, **options):
        return refuse() if set(mode) & set("wax+") else opened(file, mode, *arguments, **options)

    # Permissions would not do: some run the tests as a user who is above them.
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        patch.setattr(os, "mkdir", refuse)
        patch.setattr(io, "open", only_reading)
        with pytest.raises(StoreError, match=r"cannot lock .*: Read-only file system\.$"):
            sgdsim.resume(unfinished, quiet=True)
        for place in (tmp_path / "new", empty):
            with pytest.raises(StoreError, match=r"cannot write to .*: Read-only file system; "):
                sgdsim.run(load_scenario(str(sweep)), place, quiet=True)
        assert count_statuses(unfinished)["pending"] == 6
    assert not (tmp_path / "new").exists()
    sgdsim.resume(unfinished, quiet=True)
    assert_same_run(swept, unfinished)


def test_on_a_read_only_disk_a_dead_run_does_not_go_on(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / LOCK_NAME).touch()
    monkeypatch.setattr(os, "open", refuse)
    for host, process, lives in (
        (platform.node(), os.getpid(), True),
        (platform.node(), dead.pid, False),
        ("elsewhere", dead.pid, True),
    ):
        owner = {"host": host, "process": process, "started": "noon"}
        (tmp_path / OWNER_NAME).write_text(json.dumps(owner))
        assert who_holds(tmp_path) == (owner if lives else None)


def test_a_corrupted_chunk_is_named_with_its_point(swept, tmp_path, command, finish):
    out = shutil.copytree(swept, tmp_path / "run")
    assert finish(command("validate", str(out))).returncode == 0
    chunks = (out / "run.zarr" / "dynamics" / "loss" / "c" / "1" / "0").rglob("*")
    chunk = next(file for file in chunks if file.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    told = finish(command("validate", str(out)))
    assert told.returncode == 1
    (sentence,) = told.stderr.strip().splitlines()
    assert sentence.startswith("dynamics/loss: values of point 2 unreadable (")


def test_a_second_run_is_refused_while_the_first_lives(sweep, swept, unfinished):
    scenario = load_scenario(str(sweep))
    with lock_run(unfinished):
        with pytest.raises(StoreError, match=f"is in use by the run that process {os.getpid()}"):
            sgdsim.resume(unfinished, quiet=True)
        with pytest.raises(StoreError, match="is in use by the run"):
            sgdsim.run(scenario, unfinished, overwrite=True, quiet=True)
        with pytest.raises(StoreError, match="holds an unfinished run"):
            sgdsim.run(scenario, unfinished, quiet=True)
    sgdsim.resume(unfinished, quiet=True)
    assert_same_run(swept, unfinished)
