"""The exits study: one case after another, each an ensemble around a known minimum."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from sgdsim.ensemble import (
    NEVER,
    Ensemble,
    EnsembleState,
    Schedule,
    choose_layout,
    no_observables,
)
from sgdsim.runs._case_result import CaseResult
from sgdsim.runs._case_values import evaluate_case
from sgdsim.runs._cases import CaseBench, build_case
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._exits_finish import finish_exits
from sgdsim.runs._output import RunPaths
from sgdsim.runs._progress import Reporter
from sgdsim.runs._provenance import claim_coordinates, common_attributes
from sgdsim.runs._signals import StopRequest
from sgdsim.runs._study import StudyRun
from sgdsim.scenario import ExitsScenario
from sgdsim.store import GAP_BOUNDS, RunStore

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
    """

    def __init__(self, scenario: ExitsScenario, benches: list[CaseBench]):
        self.scenario, self.benches = scenario, benches
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        self.position = Position(0, 0)
        self.state: EnsembleState = self._start(0)

    @classmethod
    def prepare(cls, scenario: ExitsScenario, stage: Callable[[str], None]) -> "ExitsRun":
        """Build problem, process and set of every case; what cannot be is refused here."""
        stage("building the cases")
        return cls(scenario, [build_case(scenario, case) for case in scenario.case])

    @classmethod
    def restore(cls, scenario: ExitsScenario, paths: RunPaths) -> "ExitsRun":
        """Build it again; nothing random was prepared."""
        return cls.prepare(scenario, lambda text: None)

    def create(self, paths: RunPaths) -> None:
        """Make the dataset and the first checkpoint."""
        self.paths = paths
        self.store = _create_store(self)
        self._checkpoint()

    def load(self, paths: RunPaths, store: RunStore) -> None:
        """Take up the last checkpoint."""
        self.paths, self.store = paths, store
        digest = self.scenario.digest()
        # Cases differ in their parameters, so the position must be known first.
        _, where = load_tree(paths.checkpoint, (), digest)
        self.position = Position(int(where["case"]), int(where["step"]))
        state, _ = load_tree(paths.checkpoint, self._start(self.position.case), digest)
        self.state = self.layout.place(state)

    def go(self, reporter: Reporter, stop: StopRequest, began: float) -> None:
        """Run and evaluate what is left of every case, then finish."""
        scenario = self.scenario
        how = f"stopped; continue with: sgdsim resume {self.paths.folder}"
        steps = [scenario.steps_of(case) for case in scenario.case]
        before = np.concatenate([[0], np.cumsum(steps)])
        done = int(before[self.position.case]) + self.position.step
        with reporter.steps(scenario.name, done, int(before[-1])):
            for number in range(self.position.case, len(scenario.case)):
                if number != self.position.case:
                    self.position, self.state = Position(number, 0), self._start(number)
                    self._checkpoint()
                ensemble = self._ensemble(number)
                keys = ensemble.keys(scenario.ensemble.seed, self._trajectories, point=number)
                chunks = ensemble.run(keys, self.state, self.position.step)
                # Asked before every chunk, so that a resumed run ends a case where it would have.
                while not self._nobody_left and (chunk := next(chunks, None)) is not None:
                    self.position, self.state = Position(number, chunk.stop), chunk.state
                    self.store.set_attrs({"wall_seconds": time.monotonic() - began})
                    self._checkpoint()
                    reporter.reached(int(before[number]) + chunk.stop)
                    stop.check(how)
                self._evaluate(number)
                reporter.reached(int(before[number + 1]))
                stop.check(how)
        finish_exits(scenario, self.paths, reporter, began)

    @property
    def _trajectories(self) -> int:
        return self.scenario.ensemble.trajectories

    @property
    def _coordinates(self) -> int:
        """Parameters of the largest landscape; those of networks are not kept."""
        sizes = [np.size(b.centre) for b in self.benches if isinstance(b.centre, jax.Array)]
        return max(map(int, sizes), default=0)

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
        return jax.tree.map(lambda a: np.asarray(a)[: self._trajectories], tree)

    def _evaluate(self, number: int) -> None:
        """Work out everything about a case whose trajectories have run, and write it."""
        members = self._members(self.state)
        case = self.scenario.case[number]
        result = CaseResult(
            number, case, self.benches[number], self.position.step, members.theta, members.track
        )
        looks = np.unique(np.linspace(0, self.position.step, _LOOKS).round().astype(np.int32))
        looks = np.concatenate([looks, np.full(_LOOKS - looks.size, self.position.step, np.int32)])
        values, sentences = evaluate_case(self.scenario, result, looks)
        here = {"case": slice(number, number + 1)}
        for name in ("final_position", "quenched_position"):
            if name in values:  # as many coordinates as the largest landscape has
                missing = self._coordinates - values[name].shape[1]
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
        save_tree(self.paths.checkpoint, self.state, self.scenario.digest(), **where)


def _stored(value: Any) -> np.ndarray:
    """Array as the dataset holds it: counts are 32 bits there."""
    array = np.asarray(value)
    return array.astype(np.int32) if array.dtype == np.int64 else array


def _create_store(run: ExitsRun) -> RunStore:
    """Preallocate the dataset."""
    scenario = run.scenario
    return RunStore.create(
        run.paths.partial,
        coords={
            "case": [case.name for case in scenario.case],
            "series": [case.series for case in scenario.case],
            "learning_rate": np.array([float(c.dynamics.learning_rate) for c in scenario.case]),
            "trajectory": np.arange(scenario.ensemble.trajectories),
            "coordinate": np.arange(run._coordinates),
            "look": np.arange(_LOOKS),
            "shell": np.arange(scenario.evaluation.radii),
            "bound": list(GAP_BOUNDS),
            "kind": ["certificate"] * len(GAP_BOUNDS),
            **claim_coordinates(scenario.claim),
        },
        attrs=common_attributes(scenario, run.layout),
        study=scenario.study,
        precision=scenario.compute.precision,
        chunk_sizes={},
    )
