"""Points of a sweep simulated together: one task of an executor."""

import contextlib
import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from sgdsim._errors import RunInterrupted, StoreError
from sgdsim.ensemble import Batch, Chunk, Leg, signature
from sgdsim.runs._failures import reason_of, record_failure
from sgdsim.runs._output import RunPaths, remove
from sgdsim.runs._session import layout_of, require_same_machine, session
from sgdsim.runs._studies import STUDIES, point_store, points_of
from sgdsim.runs._study import Simulation, StudyRun, next_leg
from sgdsim.scenario import Scenario
from sgdsim.store import Location, RunStore, as_location
from sgdsim.store._files import read_metadata

#: These are about the run as a whole, not about a point of it.
_FATAL = (StoreError, RunInterrupted)


class Task(NamedTuple):
    """Points of one batch, and where their dataset is.

    Attributes
    ----------
    folder
        Run folder; absolute, because a worker may have been started elsewhere.
    points
        Numbers of the points; they share a program.
    capacity
        Points for which the program is compiled.
    session
        Who waits for it. A worker that was given up for lost must write nothing more once the run
        was resumed by another process, or replaced.
    """

    folder: str | Location
    points: tuple[int, ...]
    capacity: int
    session: str


class TaskResult(NamedTuple):
    """What became of the points of a task.

    Attributes
    ----------
    done
        Numbers of the points that are complete now.
    failed
        Why each of the others failed.
    seconds
        Wall time of the task.
    """

    done: tuple[int, ...]
    failed: dict[int, str]
    seconds: float


def run_task(task: Task, reached: Callable[[int, float], None] | None = None) -> TaskResult:
    """Bring all points of a task to their end; those that are done already are left alone.

    Parameters
    ----------
    task
        Which points.
    reached
        ``reached(point, share)`` hears after every chunk how much of a point is done; it may
        raise to stop the run.

    Raises
    ------
    StoreError
        If the dataset cannot be read or written, which no other point could either.
    """
    began = time.monotonic()
    paths = RunPaths(as_location(task.folder))
    store = RunStore.open(paths.partial)
    scenario = Scenario.from_json(str(store.attrs["scenario"]))
    with session(scenario):
        require_same_machine(store, layout_of(scenario))
        batch = _Points(scenario, paths, store, task)
        batch.run(reached or _nobody_listens)
    return TaskResult(tuple(batch.done), batch.failed, time.monotonic() - began)


class _Points:
    """Points in progress: each with what it asks for next."""

    def __init__(self, scenario: Scenario, paths: RunPaths, store: RunStore, task: Task):
        self.scenario, self.paths, self.store, self.task = scenario, paths, store, task
        self.done: list[int] = []
        self.failed: dict[int, str] = {}
        self._runs: dict[int, tuple[StudyRun, Simulation]] = {}
        self._legs: dict[int, Leg] = {}
        self._batch: Batch | None = None
        self._most = len(task.points)

    def run(self, reached: Callable[[int, float], None]) -> None:
        """Take up every point, then advance those together that can be."""
        for number in self.task.points:
            self._require_session()
            if self._is_wanted(number):
                self._try(number, self._take_up, number)
                reached(number, self._share(number))
        while self._legs:
            advanced = self._advance(self._next_together())
            self._require_session()
            for number, chunk in advanced:
                if self._is_wanted(number):
                    self._try(number, self._hand_over, number, chunk)
                    reached(number, self._share(number))

    def _require_session(self) -> None:
        """Write nothing more once nobody waits for this task."""
        attrs = read_metadata(self.paths.partial)["attributes"]  # of the disk, as it is now
        if attrs.get("session") != self.task.session:
            raise StoreError(f"another run has taken {self.paths.folder}; this one ends.")

    def _is_wanted(self, number: int) -> bool:
        """Whether a point is still to be computed: another worker may have done it."""
        status = self.store.point(number).status()
        if status != "pending":
            self._legs.pop(number, None)
            self._runs.pop(number, None)
            if status == "done" and number not in self.done:
                self.done.append(number)
        return status == "pending"

    def _take_up(self, number: int) -> None:
        """Prepare a point, or restore it from its checkpoint."""
        study, point = STUDIES[self.scenario.study], points_of(self.scenario)[number]
        files, store = self.paths.files(number), point_store(self.store, self.scenario, number)
        if "failure" in store.attrs:  # of an earlier try
            store.set_attrs({"failure": None})
        if files.checkpoint.exists():
            run = study.restore(point, number, files)
            run.load(files, store)
        else:
            run = study.prepare(point, number, lambda text: None)
            run.create(files, store)
        simulation = run.simulate()
        self._runs[number] = run, simulation
        self._ask(number, next(simulation, None))

    def _hand_over(self, number: int, chunk: Chunk) -> None:
        self._ask(number, next_leg(self._runs[number][1], chunk))

    def _ask(self, number: int, leg: Leg | None) -> None:
        """Note what a point wants next; one that wants nothing is finished."""
        if leg is not None:
            self._legs[number] = leg
            return
        self._legs.pop(number, None)
        run = self._runs[number][0]
        run.finish(lambda text: None)
        with contextlib.suppress(Exception):  # it is removed at the end of the run at the latest
            run.files.checkpoint.unlink(missing_ok=True)
        del self._runs[number]
        self.done.append(number)

    def _share(self, number: int) -> float:
        if number not in self._runs:
            return 1.0
        run = self._runs[number][0]
        return run.done / run.total

    def _next_together(self) -> tuple[int, ...]:
        """Points that one program call can advance: of the kind of the one furthest behind."""
        first = min(self._legs, key=lambda number: self._runs[number][0].done)

        def kind(leg: Leg) -> Hashable:
            return signature(leg), leg.start

        wanted = kind(self._legs[first])
        alike = (number for number, leg in self._legs.items() if kind(leg) == wanted)
        return tuple(itertools.islice(alike, self._most))

    def _advance(self, together: tuple[int, ...]) -> Iterator[tuple[int, Chunk]]:
        """Advance points by one chunk; where memory does not suffice, fewer of them."""
        while True:
            legs = [self._legs[number] for number in together]
            try:
                if self._batch is None or not self._batch.holds(legs):
                    self._batch = None  # frees the former one first
                    self._batch = Batch(legs, self._capacity(legs))
                return zip(together, self._batch.advance(legs), strict=True)
            except Exception as error:
                self._batch = None
                if not _out_of_memory(error) or len(together) == 1:
                    for number in together:
                        self._fail(number, reason_of(error))
                    return iter(())
            # Outside of the handler, whose traceback would hold what did not fit.
            self._most = (len(together) + 1) // 2
            together = together[: self._most]

    def _capacity(self, legs: list[Leg]) -> int:
        """Points of the program: as planned, halved as often as the legs still fit.

        Copies fill it up. Under ``vmap`` the size decides the last bits and stays as planned.
        """
        size = min(self.task.capacity, self._most)
        while legs[0].ensemble.layout.mapping == "map" and (size + 1) // 2 >= len(legs) < size:
            size = (size + 1) // 2
        return size

    def _try(self, number: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do something for a point; what goes wrong there must not stop the others."""
        try:
            action(*arguments)
        except _FATAL:
            raise
        except Exception as error:
            self._fail(number, reason_of(error))

    def _fail(self, number: int, reason: str) -> None:
        self._legs.pop(number, None)
        self._runs.pop(number, None)
        if not self._is_wanted(number):
            return
        record_failure(self.store.point(number), reason)
        remove(self.paths.files(number).folder)
        self.failed[number] = reason


def _nobody_listens(point: int, share: float) -> None:
    pass


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
