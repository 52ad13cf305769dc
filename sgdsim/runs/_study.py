"""What the run of every study can do: prepare, create, simulate, evaluate, be taken up again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import xarray as xr
from rich.console import Console

from sgdsim.ensemble import Chunk, Ensemble, EnsembleState, Layout, Leg
from sgdsim.runs._claims import evaluate_claims
from sgdsim.runs._output import PointFiles
from sgdsim.scenario import Scenario
from sgdsim.store import PointStore

S = TypeVar("S", bound=Scenario)

#: What a study asks for while it simulates, and what it is given: one time chunk after another.
Simulation = Generator[Leg, Chunk, None]


def next_leg(simulation: Simulation, chunk: Chunk) -> Leg | None:
    """Hand over a chunk; ``None`` if nothing is left to simulate."""
    try:
        return simulation.send(chunk)
    except StopIteration:
        return None


class Dimensions(NamedTuple):
    """Size of the dataset of a scenario, known before anything is computed.

    Attributes
    ----------
    coords
        Coordinates that do not depend on what is computed.
    chunk_sizes
        Chunk lengths along ``step`` and ``probe``, where the study has them.
    """

    coords: dict[str, Any]
    chunk_sizes: dict[str, int]


class StudyRun(ABC, Generic[S]):
    """One point in progress: its ensembles, their state, its part of the dataset.

    Attributes
    ----------
    scenario
        What runs.
    point
        Number of the point in its sweep; 0 without one.
    layout
        Devices and mapping.
    files, store
        Files and dataset; there once the run was created or loaded.
    """

    scenario: S
    point: int
    layout: Layout
    files: PointFiles
    store: PointStore

    @classmethod
    @abstractmethod
    def dimensions(cls, scenario: S) -> Dimensions:
        """Work out the size of the dataset."""

    @classmethod
    @abstractmethod
    def sketch(cls, scenario: S) -> list[Leg]:
        """First leg of every ensemble, for its shapes: numbers that must be searched are guessed.

        The plan of a sweep is made of it.
        """

    @classmethod
    @abstractmethod
    def prepare(cls, scenario: S, point: int, stage: Callable[[str], None]) -> "StudyRun[S]":
        """Do what comes before the first step and can fail; nothing is written."""

    @classmethod
    @abstractmethod
    def restore(cls, scenario: S, point: int, files: PointFiles) -> "StudyRun[S]":
        """Rebuild an interrupted run from its scenario and its preparation."""

    @abstractmethod
    def create(self, files: PointFiles, store: PointStore) -> None:
        """Write what never changes and the first checkpoint."""

    @abstractmethod
    def load(self, files: PointFiles, store: PointStore) -> None:
        """Take up the last checkpoint."""

    @property
    @abstractmethod
    def done(self) -> int:
        """Steps that have been made."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Steps of the whole run."""

    @abstractmethod
    def simulate(self) -> Simulation:
        """Ask for what is left, time chunk by time chunk; every chunk is written and checkpointed.

        Who drives it decides what computes a chunk: the ensemble alone, or together with those of
        other points.
        """

    @abstractmethod
    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Complete the dataset of the point from what was simulated."""

    def finish(self, stage: Callable[[str], None]) -> None:
        """Evaluate the point and its claims; it is done then."""
        self.evaluate(stage)
        if self.scenario.claim:
            self.store.write("claims", evaluate_claims(self.store.tree(), self.scenario.claim))
        self.store.set_status("done")

    @staticmethod
    @abstractmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print the few numbers that a reader wants after a run."""


class SingleEnsembleRun(StudyRun[S]):
    """A run of one ensemble that is probed and checkpointed after every time chunk.

    Attributes
    ----------
    ensemble
        What moves.
    state
        State at ``step``.
    step
        Steps that have been made.
    """

    ensemble: Ensemble
    state: EnsembleState
    step: int

    @abstractmethod
    def record(self, records: Mapping[str, Any], rows: slice) -> None:
        """Write the observables of one time chunk."""

    @abstractmethod
    def probe(self) -> None:
        """Measure the present iterates."""

    @abstractmethod
    def checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""

    @property
    def trajectories(self) -> int:
        """Members of the ensemble, without padding."""
        return self.scenario.ensemble.trajectories

    @property
    def leg(self) -> Leg:
        """What the next time chunk needs."""
        keys = self.ensemble.keys(self.scenario.ensemble.seed, self.trajectories, self.point)
        return Leg(self.ensemble, keys, self.state, self.step, self.trajectories)

    @property
    def done(self) -> int:
        """Steps that have been made."""
        return self.step

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.scenario.ensemble.steps

    def simulate(self) -> Simulation:
        """Ask for what is left, time chunk by time chunk."""
        every = self.scenario.ensemble.record_every
        while self.step < self.total:
            chunk = yield self.leg
            self.record(chunk.records, slice(chunk.start // every, chunk.stop // every))
            self.step, self.state = chunk.stop, chunk.state
            self.probe()
            self.checkpoint()
        last = self.total // every
        self.record(self.ensemble.observe(self.state), slice(last, last + 1))
