"""The exits study: one case after another, each an ensemble around a known minimum."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import PyTree
from rich.console import Console

from sgdsim.ensemble import (
    NEVER,
    Ensemble,
    EnsembleState,
    Leg,
    Schedule,
    choose_layout,
    no_observables,
    on_host,
    root_key,
)
from sgdsim.problems import coordinate_count
from sgdsim.runs._case_result import CaseResult
from sgdsim.runs._case_values import evaluate_case
from sgdsim.runs._cases import CaseBench, build_case
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._exits_report import print_cases
from sgdsim.runs._output import PointFiles
from sgdsim.runs._study import Dimensions, Simulation, StudyRun
from sgdsim.scenario import ExitsScenario
from sgdsim.store import GAP_BOUNDS, PointStore

#: Steps at which survival is tabulated.
_LOOKS = 65


class Position(NamedTuple):
    """How far a study has come: steps of one case, all of those before it."""

    case: int
    step: int


class ExitsRun(StudyRun[ExitsScenario]):
    """A run of the exits study.

    The cases run one after another. Every case ends with its own evaluation, written before the
    next one begins, so that an interrupted run loses at most one time chunk.

    Parameters
    ----------
    scenario, benches
        What runs, one bench per case.
    point
        Number of the point in a sweep.
    """

    def __init__(self, scenario: ExitsScenario, benches: list[CaseBench], point: int = 0):
        self.scenario, self.benches, self.point = scenario, benches, point
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        self.position = Position(0, 0)
        self.state: EnsembleState = self._start(0)

    @classmethod
    def dimensions(cls, scenario: ExitsScenario) -> Dimensions:
        """Work out the size of the dataset."""
        coords = {
            "case": [case.name for case in scenario.case],
            "series": [case.series for case in scenario.case],
            "trajectory": np.arange(scenario.ensemble.trajectories),
            "coordinate": np.arange(max(coordinate_count(case.problem) for case in scenario.case)),
            "look": np.arange(_LOOKS),
            "shell": np.arange(scenario.evaluation.radii),
            "bound": list(GAP_BOUNDS),
            "kind": ["certificate"] * len(GAP_BOUNDS),
        }
        return Dimensions(coords, {})

    @classmethod
    def sketch(cls, scenario: ExitsScenario) -> list[Leg]:
        """First leg of every case."""
        run = cls.prepare(scenario, 0, lambda text: None)
        return [
            run._leg(number, run._ensemble(number), run._start(number))
            for number in range(len(run.benches))
        ]

    @classmethod
    def prepare(
        cls, scenario: ExitsScenario, point: int, stage: Callable[[str], None]
    ) -> "ExitsRun":
        """Build problem, process and set of every case; what cannot be is refused here."""
        stage("building the cases")
        return cls(scenario, [build_case(scenario, case) for case in scenario.case], point)

    @classmethod
    def restore(cls, scenario: ExitsScenario, point: int, files: PointFiles) -> "ExitsRun":
        """Build it again; nothing random was prepared."""
        return cls.prepare(scenario, point, lambda text: None)

    def create(self, files: PointFiles, store: PointStore) -> None:
        """Write what never changes and the first checkpoint."""
        self.files, self.store = files, store
        rates = [float(case.dynamics.learning_rate) for case in self.scenario.case]
        store.write_coords({"learning_rate": np.array(rates)})
        self._checkpoint()

    def load(self, files: PointFiles, store: PointStore) -> None:
        """Take up the last checkpoint."""
        self.files, self.store = files, store
        digest = self.scenario.digest()
        # Cases differ in their parameters, so the position must be known first.
        _, where = load_tree(files.checkpoint, (), digest)
        self.position = Position(int(where["case"]), int(where["step"]))
        like = on_host(self._start(self.position.case), self._trajectories)
        members, _ = load_tree(files.checkpoint, like, digest)
        self.state = self.layout.place(self.layout.pad(members))

    @property
    def done(self) -> int:
        """Steps that have been made, those that an early end saved included."""
        return sum(self._steps[: self.position.case]) + self.position.step

    @property
    def total(self) -> int:
        """Steps of all cases."""
        return sum(self._steps)

    @property
    def _steps(self) -> list[int]:
        return [self.scenario.steps_of(case) for case in self.scenario.case]

    def simulate(self) -> Simulation:
        """Ask for what is left of every case, and evaluate each at its end."""
        for number in range(self.position.case, len(self.scenario.case)):
            if number != self.position.case:
                self.position, self.state = Position(number, 0), self._start(number)
                self._checkpoint()
            ensemble, steps = self._ensemble(number), self._steps[number]
            # Asked before every chunk, so that a resumed run ends a case where it would have.
            while self.position.step < steps and not self._nobody_left:
                chunk = yield self._leg(number, ensemble, self.state)
                self.position, self.state = Position(number, chunk.stop), chunk.state
                self._checkpoint()
            self._evaluate(number)

    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Do nothing: every case was evaluated at its end."""

    @staticmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print one row per case, and what was found beside it."""
        print_cases(tree, console)

    def _leg(self, number: int, ensemble: Ensemble, state: EnsembleState) -> Leg:
        keys = ensemble.keys(self.scenario.ensemble.seed, self._trajectories, self._stream(number))
        return Leg(ensemble, keys, state, self.position.step, self._trajectories)

    def _stream(self, number: int) -> int:
        """Give a case the number of its random numbers, which no case of another point has."""
        return self.point * len(self.scenario.case) + number

    @property
    def _trajectories(self) -> int:
        return self.scenario.ensemble.trajectories

    @property
    def _nobody_left(self) -> bool:
        track = self._members(self.state.track)
        return bool(np.all((track.exit_step != NEVER) | (track.diverged_step != NEVER)))

    def _ensemble(self, number: int) -> Ensemble:
        bench, steps = self.benches[number], self.scenario.steps_of(self.scenario.case[number])
        chunk = steps // self.scenario.ensemble.chunks
        return Ensemble(
            problem=bench.problem,
            stepper=bench.stepper,
            region=bench.region,
            observer=no_observables,
            schedule=Schedule(steps, chunk, chunk),
            layout=self.layout,
        )

    def _start(self, number: int) -> EnsembleState:
        return self._ensemble(number).start_each(self.benches[number].starts)

    def _members(self, tree: PyTree) -> PyTree:
        """Values of the trajectories without the padding of the layout."""
        return on_host(tree, self._trajectories)

    def _evaluate(self, number: int) -> None:
        """Work out everything about a case whose trajectories have run, and write it."""
        members = self._members(self.state)
        case = self.scenario.case[number]
        result = CaseResult(
            number, case, self.benches[number], self.position.step, members.theta, members.track
        )
        looks = np.unique(np.linspace(0, self.position.step, _LOOKS).round().astype(np.int32))
        looks = np.concatenate([looks, np.full(_LOOKS - looks.size, self.position.step, np.int32)])
        key = root_key(self.scenario.ensemble.seed, self._stream(number))
        values, sentences = evaluate_case(self.scenario, result, looks, key)
        here = {"case": slice(number, number + 1)}
        coordinates = len(self.dimensions(self.scenario).coords["coordinate"])
        for name in ("final_position", "quenched_position"):
            if name in values:  # as many coordinates as the largest landscape has
                missing = coordinates - values[name].shape[1]
                values[name] = np.pad(values[name], ((0, 0), (0, missing)), constant_values=np.nan)
        self.store.write("exits", {k: _stored(v)[None] for k, v in values.items()}, here)
        self.store.set_attrs({f"statement_{number}": sentences})

    def _checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = self._members(self.state.track)
        steps = self.scenario.steps_of(self.scenario.case[self.position.case])
        finished = self.position.step == steps or self._nobody_left
        status = np.where(track.diverged_step != NEVER, 2, 1 if finished else 0)
        values = {
            "status": status.astype(np.int8),
            "entry_step": track.entry_step,
            "exit_step": track.exit_step,
            "switch_step": track.switch_step,
            "hops": track.hops,
            "diverged_step": track.diverged_step,
            "occupancy": track.steps_inside / (self.position.step or np.nan),
            "max_distance": track.maximum.astype(np.float64),
        }
        here = {"case": slice(self.position.case, self.position.case + 1)}
        self.store.write("exits", {name: value[None] for name, value in values.items()}, here)
        where = self.position._asdict()
        members = on_host(self.state, self._trajectories)
        save_tree(self.files.checkpoint, members, self.scenario.digest(), **where)


def _stored(value: Any) -> np.ndarray:
    """Array as the dataset holds it: counts are 32 bits there."""
    array = np.asarray(value)
    return array.astype(np.int32) if array.dtype == np.int64 else array
