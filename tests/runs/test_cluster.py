"""Tasks in this process and on Dask: same outcomes, whatever dies in between."""

import contextlib
import itertools
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import pytest

from sgdsim._errors import RunInterrupted
from sgdsim.runs import _cluster
from sgdsim.runs._cluster import ClusterError, TaskLost, check_cluster, run_tasks
from sgdsim.testing._tasks import (
    devices_of_worker,
    exit_if_negative,
    raise_awkward,
    wait_for_permission,
)

pytestmark = pytest.mark.slow

pytest.importorskip("distributed")


class Outcomes(dict):
    """What `run_tasks` reported, each task once."""

    def __call__(self, task, outcome):
        assert task not in self
        self[task] = outcome


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def dask(role, *arguments):
    """A scheduler or a worker as a process of its own."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--no-dashboard", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def dask_scheduler(port):
    return dask("scheduler", "--host", "127.0.0.1", "--port", str(port))


def dask_worker(address, folder):
    return dask(
        "worker", address, "--nthreads", "1", "--local-directory", str(folder), "--no-nanny"
    )


def answers(port):
    """Wait until something listens there."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def started(folder: Path, count: int) -> list[Path]:
    """Wait until so many attempts of `wait_for_permission` have begun."""
    deadline = time.monotonic() + 60
    while len(found := sorted(folder.glob("started-*"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_in_this_process_in_order():
    done = []
    run_tasks(math.sqrt, [9, -1, 4], None, lambda *pair: done.append(pair))
    (first, second, third) = done
    assert (first, third) == ((9, 3.0), (4, 2.0))
    assert second[0] == -1
    assert isinstance(second[1], ValueError)


def test_stop_ends_it_between_tasks():
    done = Outcomes()

    def stop():
        if len(done) == 2:
            raise RunInterrupted("enough")

    with pytest.raises(RunInterrupted, match="enough"):
        run_tasks(math.sqrt, range(9), None, done, stop=stop)
    assert list(done) == [0, 1]


def test_an_interrupted_task_is_no_failed_task():
    def interrupted(task):
        raise RunInterrupted("stopped")

    done = Outcomes()
    with pytest.raises(RunInterrupted):
        run_tasks(interrupted, [1, 2], None, done)
    assert not done


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lokal:4", "unknown cluster 'lokal:4'. Did you mean 'local:4'?"),
        ("4", "Did you mean 'local:4'?"),
        ("local", "unknown cluster 'local'; give 'local:4' for 4 processes"),
        ("local:-1", "unknown cluster 'local:-1'; give"),
        ("local:0", "has no workers. Did you mean 'local:1'?"),
        ("localhost:8786", "Did you mean 'tcp://localhost:8786'?"),
        ("tcp:/node1:8786", "Did you mean 'tcp://node1:8786'?"),
        ("tpc://node1:8786", "Did you mean 'tcp://node1:8786'?"),
        ("http://node1:8786", "Did you mean 'tcp://node1:8786'?"),
        ("tcp://node1", "unknown cluster 'tcp://node1'; give"),
        ("", "'tcp://HOST:PORT'"),
    ],
)
def test_a_text_that_names_no_cluster_is_refused(given, message):
    with pytest.raises(ClusterError) as caught:
        run_tasks(math.sqrt, [1], given, print)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text", [None, "local:1", "tcp://10.0.0.1:8786", "tls://node-1.a.org:1", "ucx://[fe80::1]:80"]
)
def test_a_text_that_names_a_cluster_is_accepted(text):
    check_cluster(text)


def test_without_dask_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"pip install sgdsim\[cluster\]"):
        run_tasks(math.sqrt, [1], "local:2", print)
    run_tasks(math.sqrt, [1], None, Outcomes())


def test_importing_starts_neither_dask_nor_jax():
    code = "import sys, sgdsim.runs._cluster, sgdsim.runs._lock; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "sgdsim.runs._cluster" in loaded.split()
    assert not {"dask", "distributed", "jax"} & set(loaded.split())


def test_an_address_that_does_not_answer():
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (free_port(), silent.getsockname()[1]):
            address = f"tcp://127.0.0.1:{port}"
            began = time.monotonic()
            with pytest.raises(ClusterError) as caught:
                run_tasks(math.sqrt, [1], address, print, time_limit=0.5)
            assert time.monotonic() - began < 5
            assert f"no Dask scheduler answers at {address} within 0.5 seconds" in str(caught.value)


def test_local_workers_give_what_this_process_gives(monkeypatch):
    """Also: more tasks than fit in flight, and nothing of this process is changed."""
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.delenv("DASK_LOGGING__DISTRIBUTED", raising=False)
    level = logging.getLogger("distributed").level
    here, there = Outcomes(), Outcomes()
    tasks = [*range(40), -1]
    run_tasks(math.sqrt, tasks, None, here)
    run_tasks(math.sqrt, tasks, "local:2", there)
    assert {task: str(outcome) for task, outcome in there.items()} == {
        task: str(outcome) for task, outcome in here.items()
    }
    assert isinstance(there[-1], ValueError)
    assert "Traceback" in "".join(there[-1].__notes__)
    assert os.environ["PYTHONHASHSEED"] == "7"  # Dask has set both
    assert "DASK_LOGGING__DISTRIBUTED" not in os.environ
    assert logging.getLogger("distributed").level == level


def test_what_a_worker_knows_and_what_cannot_come_back(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    done = Outcomes()
    run_tasks(devices_of_worker, [1], "local:1", done)
    run_tasks(raise_awkward, [2], "local:1", done)
    assert done[1] == "8"
    assert isinstance(done[2], RuntimeError)
    assert str(done[2]) == "Awkward: failure at task 2"


def test_a_worker_killed_while_working_costs_nothing(tmp_path):
    tasks = [(str(tmp_path), number) for number in range(6)]
    done = Outcomes()

    def kill_one():
        victim = started(tmp_path, 2)[0]
        os.kill(int(victim.name.rsplit("-")[-1]), signal.SIGKILL)
        started(tmp_path, 3)  # it was tried again, or another one was begun
        (tmp_path / "go").touch()

    killer = threading.Thread(target=kill_one)
    killer.start()
    run_tasks(wait_for_permission, tasks, "local:2", done)
    killer.join()
    assert done == {task: task[1] for task in tasks}
    assert len(started(tmp_path, 7)) >= 7  # six tasks, at least one of them twice


def test_a_task_that_kills_its_workers_is_lost_and_the_others_are_not():
    done = Outcomes()
    run_tasks(exit_if_negative, [1, -2, 3, 4, 5], "local:2", done)
    lost = done.pop(-2)
    assert isinstance(lost, TaskLost)
    assert "all workers that tried the task died" in str(lost)
    assert done == {number: number**2 for number in (1, 3, 4, 5)}


def test_stop_cancels_what_waits_and_closes_the_workers(tmp_path):
    tasks = [(str(tmp_path), number) for number in range(30)]
    calls = []

    def stop():
        calls.append(time.monotonic())
        if len(list(tmp_path.glob("started-*"))) == 2:
            raise RunInterrupted("stopped")

    with pytest.raises(RunInterrupted, match="stopped"):
        run_tasks(wait_for_permission, tasks, "local:2", print, stop=stop)
    assert max(b - a for a, b in itertools.pairwise(calls)) < 3
    begun = started(tmp_path, 2)
    (tmp_path / "go").touch()
    assert len(begun) == 2
    for file in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name.rsplit("-")[-1]), 0)
    assert started(tmp_path, 2) == begun


def test_a_scheduler_killed_and_started_again_costs_only_what_was_in_flight(tmp_path):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    tasks = [(str(tmp_path), number) for number in range(8)]
    done = Outcomes()
    events = []

    def finished(task, outcome):
        done(task, outcome)
        if len(done) == 1:
            events.append("first")
            (tmp_path / "go").unlink()

    def break_it():
        with dask_scheduler(port), dask_worker(address, tmp_path):
            started(tmp_path, 1)
            (tmp_path / "go").touch()
            while not events:
                time.sleep(0.05)
            started(tmp_path, 2)
        with dask_scheduler(port), dask_worker(address, tmp_path):
            events.append("again")
            (tmp_path / "go").touch()
            over.wait(90)

    over = threading.Event()
    breaker = threading.Thread(target=break_it)
    breaker.start()
    try:
        run_tasks(wait_for_permission, tasks, address, finished, time_limit=30.0)
    finally:
        over.set()
        breaker.join()
    assert events == ["first", "again"]
    assert done == {task: task[1] for task in tasks}


def test_a_scheduler_that_does_not_come_back_is_named(tmp_path):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"

    def lose_it():
        with dask_scheduler(port), dask_worker(address, tmp_path):
            started(tmp_path, 1)

    loser = threading.Thread(target=lose_it)
    loser.start()
    answers(port)
    with pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address} within 8 sec"):
        run_tasks(wait_for_permission, [(str(tmp_path), 1)], address, print, patience=8.0)
    loser.join()


def test_a_scheduler_without_workers_and_workers_with_other_versions(tmp_path, monkeypatch):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with dask_scheduler(port):
        answers(port)
        with pytest.raises(ClusterError, match="has no workers after 3 seconds"):
            run_tasks(math.sqrt, [1], address, print, time_limit=3.0)
        with dask_worker(address, tmp_path):
            done = Outcomes()
            run_tasks(math.sqrt, [4], address, done, time_limit=30.0)
            assert done == {4: 2.0}
            from distributed import versions

            real = versions._version_cached
            other = {"jax": "0.1.0", "sgdsim": None}
            monkeypatch.setattr(
                versions, "_version_cached", lambda name: other.get(name, real(name))
            )
            with pytest.raises(ClusterError) as caught:
                run_tasks(math.sqrt, [4], address, print, time_limit=30.0)
    assert f"jax {real('jax')} (here 0.1.0)" in str(caught.value)
    assert f"sgdsim {real('sgdsim')} (here missing)" in str(caught.value)


def test_a_script_without_guard_is_told_to_have_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import math\nfrom sgdsim.runs._cluster import run_tasks\n"
        "run_tasks(math.sqrt, [4], 'local:1', print)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "if __name__ ==" in ended.stderr


def test_never_all_tasks_are_submitted_at_once(monkeypatch):
    """A fake client that counts; the real one is too quick to see."""
    most = []

    class Client:
        status = "running"
        loop = None
        cluster = None

        def nthreads(self):
            return {"a": 1, "b": 2}

        def submit(self, *arguments, **options):
            assert options["pure"] is False
            return Finished()

    class Finished:
        def result(self, timeout):
            return "ok"

    class Done(list):
        def has_ready(self):
            most.append(len(self))
            return bool(self)

        def __next__(self):
            return self.pop()

        add = list.append

    monkeypatch.setattr("distributed.as_completed", lambda loop: Done())
    done = Outcomes()
    dispatch = _cluster._Dispatch(math.sqrt, deque(range(1000)), done, lambda: None)
    dispatch.until_lost(cast(Any, Client()))
    assert len(done) == 1000
    assert max(most) == 6
