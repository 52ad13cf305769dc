"""Tasks of a run: in order in this process, or on the workers of a Dask cluster.

The serial order is the reference. On a cluster a task can run twice: after its worker or the
scheduler died it is submitted again, and the first attempt may have got far, or may even still be
running where nobody can reach it. Tasks therefore have to write equal things in any attempt, and
each file at once.
"""

import pickle
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sgdsim._errors import RunInterrupted, SgdsimError
from sgdsim.runs._connection import (
    ClusterError as ClusterError,
    check_cluster as check_cluster,
    open_cluster,
)

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

Task = TypeVar("Task")

#: Enough that a worker never waits for its next task, few enough that thousands of tasks do not
#: fill the scheduler and that new workers find something to do.
_TASKS_PER_THREAD = 2
_PAUSE = 0.05
_LOOK_ROUND = 1.0


class TaskLost(SgdsimError):
    """A task was given up because the workers that tried it died."""


def run_tasks(
    function: Callable[[Task], Any],
    tasks: Iterable[Task],
    cluster: str | None,
    finished: Callable[[Task, Any], None],
    *,
    stop: Callable[[], None] = lambda: None,
    time_limit: float = 10.0,
    patience: float = 300.0,
) -> None:
    """Apply a function to tasks, here or on a cluster; a failure never stops the others.

    Parameters
    ----------
    function
        Top-level function of an importable module; ``function(task)`` may run twice.
    tasks
        Small objects that can be pickled, as must be the results.
    cluster
        ``None``: in order in this process. ``"local:4"``: on four new processes of this machine.
        ``"tcp://host:port"``: on the workers of a running Dask scheduler, where sgdsim is
        installed.
    finished
        Called in this process as ``finished(task, outcome)`` when a task ends, in any order;
        the outcome is what the function returned or the exception that it raised, and `TaskLost`
        where its workers died.
    stop
        Called about every second, in this process between tasks; what it raises ends everything:
        tasks that wait are cancelled and local workers are closed. A task that runs on a worker
        of a cluster that was already there goes on to its end.
    time_limit
        Seconds to wait for the scheduler, and then for its first worker.
    patience
        The same after the connection was lost: somebody may be starting the scheduler again.

    Raises
    ------
    ClusterError
        If the cluster cannot be used.
    RunInterrupted
        If a task in this process was interrupted.

    Examples
    --------
    >>> import math
    >>> from sgdsim.runs._cluster import run_tasks
    >>> run_tasks(math.sqrt, [4, -1], None, print)
    4 2.0
    -1 math domain error
    """
    check_cluster(cluster)
    if cluster is None:
        for task in tasks:
            stop()
            finished(task, _attempt(function, task))
        stop()
        return
    dispatch = _Dispatch(function, deque(tasks), finished, stop)
    with open_cluster(cluster) as connect:
        # Another round only if the connection was lost; the scheduler forgets what a client had
        # submitted when it leaves.
        while dispatch.unfinished:
            with connect(stop, time_limit) as client:
                dispatch.until_lost(client)
            time_limit = patience


def _attempt(function: Callable[[Task], Any], task: Task) -> Any:
    """Return the result or the exception as an object, so that Dask's own errors stay apart."""
    try:
        return function(task)
    except RunInterrupted:
        raise  # no failure of the task: everything is to stop
    except Exception as error:
        return error


def _attempt_far(function: Callable[[Task], Any], task: Task) -> Any:
    """Do the same on a worker, with an exception that survives the way back."""
    try:
        outcome = _attempt(function, task)
    except RunInterrupted as error:
        outcome = error
    if not isinstance(outcome, Exception):
        return outcome
    outcome.add_note("".join(traceback.format_exception(outcome)))
    try:
        pickle.loads(pickle.dumps(outcome))
    except Exception:  # whatever an unusual exception does there
        return RuntimeError(f"{type(outcome).__name__}: {outcome}")
    return outcome


class _Running(NamedTuple):
    task: Any
    alone: bool


class _Dispatch(Generic[Task]):
    """Tasks on their way through a cluster.

    Dask counts a death of a worker against every task that was there, also those that only
    waited. So a task that Dask gives up is tried again when all others are done, with nothing
    beside it; only if its workers die again it is lost.
    """

    def __init__(
        self,
        function: Callable[[Task], Any],
        waiting: deque[Task],
        finished: Callable[[Task, Any], None],
        stop: Callable[[], None],
    ) -> None:
        self.function = function
        self.finished = finished
        self.stop = stop
        self.waiting = waiting
        self.blamed: deque[Task] = deque()
        self.running: dict[Future, _Running] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting or self.blamed or self.running)

    def until_lost(self, client: "Client") -> None:
        """Run until all tasks ended or the connection is lost; then nothing is running."""
        from distributed import as_completed

        done = as_completed(loop=client.loop)
        while self.unfinished and client.status == "running":
            self.stop()
            if client.cluster is not None:
                # Opens workers anew that died while they started; nobody else restarts those.
                client.cluster.scale(len(client.cluster.worker_spec))
            self._submit(client, done)
            self._collect(done)
        for future in list(self.running):
            self._again(future)

    def _submit(self, client: "Client", done: "as_completed") -> None:
        try:
            workers: Any = client.nthreads()
            threads = sum(workers.values())
        except OSError:  # the connection is being lost; until_lost will see it
            return
        for _ in range(max(threads, 1) * _TASKS_PER_THREAD - len(self.running)):
            if self.waiting:
                running = _Running(self.waiting.popleft(), alone=False)
            elif self.blamed and not self.running:
                running = _Running(self.blamed.popleft(), alone=True)
            else:
                return
            future = client.submit(
                _attempt_far, self.function, running.task, pure=False, key=_new_key()
            )
            self.running[future] = running
            done.add(future)

    def _collect(self, done: "as_completed") -> None:
        """Take what has ended; wait for it, but not long."""
        deadline = time.monotonic() + _LOOK_ROUND
        while not done.has_ready() and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        while done.has_ready():
            self._end(next(done))

    def _end(self, future: "Future") -> None:
        from distributed import CancelledError, KilledWorker

        try:
            outcome = future.result(timeout=_LOOK_ROUND)
        except (CancelledError, TimeoutError, OSError):  # the connection or the result was lost
            self._again(future)
            return
        except KilledWorker as error:
            if not self.running[future].alone:
                self.blamed.append(self.running.pop(future).task)
                return
            outcome = TaskLost(
                f"all workers that tried the task died while it ran, the last "
                f"{error.allowed_failures + 1} of them with nothing else to do (often: out of "
                "memory); look at the logs of the workers, or make the task smaller."
            )
        except Exception as error:  # the worker could not read the task or send the result
            outcome = error
        self.finished(self.running.pop(future).task, outcome)

    def _again(self, future: "Future") -> None:
        task, alone = self.running.pop(future)
        (self.blamed if alone else self.waiting).appendleft(task)


def _new_key() -> str:
    """Name one attempt, so that Dask never takes it for another."""
    return f"sgdsim-{uuid.uuid4().hex}"
