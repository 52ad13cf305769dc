"""What the run of every study can do: prepare, create its dataset, go on, be taken up again."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

from sgdsim.ensemble import Layout
from sgdsim.runs._output import RunPaths
from sgdsim.runs._progress import Reporter
from sgdsim.runs._signals import StopRequest
from sgdsim.scenario import Scenario
from sgdsim.store import RunStore

S = TypeVar("S", bound=Scenario)


class StudyRun(ABC, Generic[S]):
    """One run in progress: compiled ensembles, their state, the dataset.

    Attributes
    ----------
    scenario
        What runs.
    layout
        Devices and mapping.
    paths, store
        Files and dataset; there once the run was created or loaded.
    """

    scenario: S
    layout: Layout
    paths: RunPaths
    store: RunStore

    @classmethod
    @abstractmethod
    def prepare(cls, scenario: S, stage: Callable[[str], None]) -> "StudyRun[S]":
        """Do what comes before the first step and can fail; nothing is written."""

    @classmethod
    @abstractmethod
    def restore(cls, scenario: S, paths: RunPaths) -> "StudyRun[S]":
        """Rebuild an interrupted run from its scenario and its preparation."""

    @abstractmethod
    def create(self, paths: RunPaths) -> None:
        """Make the dataset and the first checkpoint."""

    @abstractmethod
    def load(self, paths: RunPaths, store: RunStore) -> None:
        """Take up the last checkpoint."""

    @abstractmethod
    def go(self, reporter: Reporter, stop: StopRequest, began: float) -> None:
        """Simulate what is left and finish the dataset."""
