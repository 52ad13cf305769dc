"""Points of a sweep simulated together: one task of an executor."""

import itertools
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from sgdsim._errors import RunInterrupted, StoreError
from sgdsim.ensemble import Batch, Chunk, Leg, signature
from sgdsim.runs._claims import evaluate_claims
from sgdsim.runs._output import RunPaths, remove
from sgdsim.runs._session import layout_of, require_same_machine, session
from sgdsim.runs._studies import STUDIES, point_store, points_of
from sgdsim.runs._study import Simulation, StudyRun
from sgdsim.scenario import Scenario
from sgdsim.store import RunStore, as_location

#: These are about the run as a whole, not about a point of it.
_FATAL = (StoreError, RunInterrupted)


class Task(NamedTuple):
    """Points of one batch, and where their dataset is.

    Attributes
    ----------
    folder
        Run folder, as text: a worker may be another machine.
    points
        Numbers of the points; they share a program.
    capacity
        Points for which the program is compiled.
    run
        Which run it is of. A worker that was given up for lost must not write into the dataset of
        a later run in the same folder.
    """

    folder: str
    points: tuple[int, ...]
    capacity: int
    run: str


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


def require_same_run(paths: RunPaths, run: str) -> None:
    """Refuse to go on where another run has taken the folder."""
    if RunStore.open(paths.partial).attrs.get("run") != run:
        raise StoreError(f"another run has taken {paths.folder}; this one ends.")


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
            if self.store.point(number).status() == "done":
                self.done.append(number)
            else:
                self._try(number, self._take_up, number)
                reached(number, self._share(number))
        while self._legs:
            require_same_run(self.paths, self.task.run)
            together = self._next_together()
            for number, chunk in zip(together, self._advance(together), strict=False):
                self._try(number, self._hand_over, number, chunk)
                reached(number, self._share(number))

    def _take_up(self, number: int) -> None:
        """Prepare a point, or restore it from its checkpoint."""
        study, point = STUDIES[self.scenario.study], points_of(self.scenario)[number]
        files, store = self.paths.files(number), point_store(self.store, self.scenario, number)
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
        simulation = self._runs[number][1]
        try:
            leg = simulation.send(chunk)
        except StopIteration:
            leg = None
        self._ask(number, leg)

    def _ask(self, number: int, leg: Leg | None) -> None:
        """Note what a point wants next; one that wants nothing is finished."""
        if leg is not None:
            self._legs[number] = leg
            return
        self._legs.pop(number, None)
        run = self._runs[number][0]
        run.evaluate(lambda text: None)
        if self.scenario.claim:
            run.store.write("claims", evaluate_claims(run.store.tree(), run.scenario.claim))
        run.store.set_status("done")
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

    def _advance(self, together: tuple[int, ...]) -> list[Chunk]:
        """Advance points by one chunk; where memory does not suffice, fewer of them."""
        legs = [self._legs[number] for number in together]
        try:
            if self._batch is None or not self._batch.holds(legs):
                self._batch = None  # frees the former one first
                self._batch = Batch(legs, self._capacity(legs))
            return self._batch.advance(legs)
        except Exception as error:
            self._batch = None
            if _out_of_memory(error) and len(together) > 1:
                self._most = (len(together) + 1) // 2
                return self._advance(together[: self._most])
            for number in together:
                self._fail(number, _text(error))
            return []

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
            self._fail(number, _text(error))

    def _fail(self, number: int, reason: str) -> None:
        self._legs.pop(number, None)
        self._runs.pop(number, None)
        store = self.store.point(number)
        store.set_attrs({"failure": reason})
        store.set_status("failed")
        remove(self.paths.files(number).folder)
        self.failed[number] = reason


def _nobody_listens(point: int, share: float) -> None:
    pass


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
