"""One run at a time in a folder; a crash releases it."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from sgdsim._errors import StoreError
from sgdsim.runs import _lock
from sgdsim.runs._lock import LOCK_NAME, OWNER_NAME, Lease, lock_run, who_holds

HOLD = """
import sys, time
from pathlib import Path
from sgdsim.runs._lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout as lines:
        assert lines.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def remote():
    """A new folder in memory; it is shared by all threads of this process only."""
    upath = pytest.importorskip("upath")
    return upath.UPath(f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns, and no waiting."""
    times = [1000.0]
    monkeypatch.setattr(_lock, "_now", lambda: times[0])
    monkeypatch.setattr(_lock, "SETTLING", 0.0)
    return times


def lease(folder, name, **options):
    return Lease(folder, {"host": name, "process": 1, "started": "noon", "token": name}, **options)


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path, holder):
    with pytest.raises(StoreError) as caught, lock_run(tmp_path / "run"):
        pass
    text = str(caught.value)
    assert f"process {holder.pid} on {os.uname().nodename} started at 20" in text
    assert "choose another --out" in text


def test_a_killed_process_releases_the_folder(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / OWNER_NAME).exists()  # the crash left it there, and it locks nothing
    with lock_run(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / OWNER_NAME).read_text())["process"] == os.getpid()


def test_status_sees_who_is_there_and_changes_nothing(tmp_path, remote, clock):
    for folder in (tmp_path / "run", remote):
        assert who_holds(folder) is None
        assert not folder.exists()
        with lock_run(folder):
            owner = who_holds(folder)
            assert owner is not None
            assert owner["process"] == os.getpid()
        assert who_holds(folder) is None
    (tmp_path / LOCK_NAME).touch()  # of a crash
    assert who_holds(tmp_path) is None
    lease(remote, "first").take()
    clock[0] += 31
    assert who_holds(remote) is None


def test_the_same_process_is_refused_too(tmp_path):
    with (
        lock_run(tmp_path) as lock,
        pytest.raises(StoreError, match=f"process {os.getpid()}"),
        lock_run(tmp_path),
    ):
        pass
    lock.check()


@pytest.mark.parametrize("created", [True, False])
def test_nothing_is_left_behind(tmp_path, created):
    folder = tmp_path / "a" / "run"
    if not created:
        folder.mkdir(parents=True)
    with contextlib.suppress(ZeroDivisionError), lock_run(folder):
        assert sorted(os.listdir(folder)) == [LOCK_NAME, OWNER_NAME]
        raise ZeroDivisionError
    assert folder.exists() is not created
    with lock_run(folder):
        (folder / "run.zarr").mkdir()
    assert os.listdir(folder) == ["run.zarr"]


def test_the_lock_file_is_removed_while_it_is_locked(tmp_path, monkeypatch):
    """Otherwise the next run could hold the file that is then removed, and a third a new one."""
    holders = []

    def remove(path):
        holders.append(who_holds(tmp_path))
        os.unlink(path)

    with lock_run(tmp_path) as lock:
        monkeypatch.setattr(Path, "unlink", remove)
    assert holders[-1] is not None
    assert os.listdir(tmp_path) == []
    lock.check()


def test_threads_that_compete_never_hold_it_together(tmp_path):
    inside, counts = [], {"most": 0, "held": 0}

    def compete():
        for _ in range(150):
            try:
                with lock_run(tmp_path):
                    inside.append(1)
                    counts["most"] = max(counts["most"], len(inside))
                    counts["held"] += 1
                    inside.pop()
            except StoreError:
                pass

    threads = [threading.Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts["most"] == 1
    assert counts["held"] > 10


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match=r"written there: Read-only file system\.$"):
        lock_run(tmp_path).__enter__()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="cannot lock"), lock_run(tmp_path / "out"):
        pass


def test_a_remote_folder_is_leased(remote, clock):
    with lock_run(remote) as lock:
        lock.check()
        with (
            pytest.raises(StoreError, match=rf"process {os.getpid()} .* free in 30 seconds\.$"),
            lock_run(remote),
        ):
            pass
    assert not (remote / OWNER_NAME).exists()
    with lock_run(remote):
        pass


def test_an_expired_lease_is_taken_over_and_the_old_owner_notices(remote, clock):
    first, second = lease(remote, "first"), lease(remote, "second")
    first.take()
    clock[0] += 29.9
    with pytest.raises(StoreError, match="on first started at noon"):
        second.take()
    first.check()
    clock[0] += 0.2
    with pytest.raises(StoreError, match="lost its lease"):
        first.check()
    second.take()
    first.renew()  # as when a suspended machine wakes up
    second.check()
    with pytest.raises(StoreError, match="lost its lease"):
        first.check()
    first.release()  # not its own any more
    assert (remote / OWNER_NAME).exists()
    second.release()
    assert not (remote / OWNER_NAME).exists()


def test_a_renewed_lease_lives_on(remote, clock):
    first = lease(remote, "first")
    first.take()
    for _ in range(5):
        clock[0] += 25
        first.renew()
        first.check()
    with pytest.raises(StoreError, match="free in 30 seconds"):
        lease(remote, "second").take()


def test_the_thread_renews(remote, monkeypatch):
    monkeypatch.setattr(_lock, "SETTLING", 0.0)
    monkeypatch.setattr(_lock, "RENEWAL", 0.01)
    renewed = threading.Event()
    monkeypatch.setattr(Lease, "renew", lambda self: renewed.set())
    with lock_run(remote):
        assert renewed.wait(5)
    assert not any(thread.name == "sgdsim-lease" for thread in threading.enumerate())


def test_of_two_starts_at_once_one_gives_up(remote, clock):
    second = lease(remote, "second")
    # The second one read before the first one wrote, and writes while the first one waits.
    first = lease(remote, "first", settle=second._write)
    with pytest.raises(StoreError, match="on second"):
        first.take()
    second._refuse_if_alive(second._read())


def test_a_store_that_does_not_answer_keeps_the_lease_until_it_expires(remote, clock, monkeypatch):
    first = lease(remote, "first")
    first.take()
    with monkeypatch.context() as broken:
        broken.setattr(type(remote.fs), "cat_file", lambda *_: 1 / 0)
        first.renew()
        first.check()
        with pytest.raises(StoreError, match="cannot lock"):
            lease(remote, "second").take()
    clock[0] += 20
    first.renew()
    clock[0] += 20
    first.check()


def test_a_damaged_lease_is_free(remote, clock):
    (remote / OWNER_NAME).write_text('{"expires":')
    lease(remote, "first").take()


def test_a_remote_folder_that_cannot_be_written_is_refused(remote, clock, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, "Access Denied")

    monkeypatch.setattr(type(remote.fs), "pipe_file", refuse)
    with pytest.raises(StoreError, match=r"cannot lock memory://.*Access Denied\.$"):
        lease(remote, "first").take()
