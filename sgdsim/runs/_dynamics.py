"""The dynamics study: several processes side by side from one start with one set of keys."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from sgdsim._errors import ScenarioError
from sgdsim.dynamics import AbstractStepper, build_stepper, on_one_path, step_times
from sgdsim.ensemble import NEVER, Ensemble, EnsembleState, Schedule, choose_layout
from sgdsim.problems import cast
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._dynamics_finish import finish_dynamics
from sgdsim.runs._output import RunPaths
from sgdsim.runs._progress import Reporter
from sgdsim.runs._provenance import claim_coordinates, common_attributes, recorded_steps
from sgdsim.runs._signals import StopRequest
from sgdsim.runs._study import StudyRun
from sgdsim.runs._validity import build_validity_prober, probe_validity
from sgdsim.runs._workbench import Workbench, build_workbench
from sgdsim.scenario import DynamicsScenario
from sgdsim.store import RunStore


class Position(NamedTuple):
    """How far a study has come: steps of one process, all of those before it."""

    process: int
    step: int


class DynamicsRun(StudyRun[DynamicsScenario]):
    """A run of the dynamics study.

    The processes run one after another with the same keys: trajectory ``i`` of every algorithm sees
    the same batches, and that of every equation of one learning rate the same Brownian path.

    Parameters
    ----------
    scenario, bench
        What runs.
    steppers
        One per process.
    """

    def __init__(
        self, scenario: DynamicsScenario, bench: Workbench, steppers: list[AbstractStepper]
    ):
        self.scenario, self.bench, self.steppers = scenario, bench, steppers
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        schedule = scenario.ensemble
        self.schedule = Schedule(schedule.steps, schedule.record_every, schedule.chunk_steps)
        self.position = Position(0, 0)
        self.state: EnsembleState = self._start(0)

    @classmethod
    def prepare(cls, scenario: DynamicsScenario, stage: Callable[[str], None]) -> "DynamicsRun":
        """Build problem and processes; a process that cannot be is refused here."""
        stage("building the problem and the processes")
        bench = build_workbench(scenario)
        steppers = []
        for process in scenario.process:
            try:
                stepper = build_stepper(process.dynamics, bench.theta)
                stepper = cast(stepper, jnp.dtype(scenario.compute.precision))
                _rehearse(stepper, bench)
            except ValueError as error:
                raise ScenarioError(f"process {process.name!r}: {error}") from error
            steppers.append(stepper)
        return cls(scenario, bench, on_one_path(steppers))

    @classmethod
    def restore(cls, scenario: DynamicsScenario, paths: RunPaths) -> "DynamicsRun":
        """Build it again; nothing random was prepared."""
        return cls.prepare(scenario, lambda text: None)

    def create(self, paths: RunPaths) -> None:
        """Make the dataset, probe the first process at its start."""
        self.paths = paths
        self.store = _create_store(self)
        self._probe()
        self._checkpoint()

    def load(self, paths: RunPaths, store: RunStore) -> None:
        """Take up the last checkpoint."""
        self.paths, self.store = paths, store
        digest = self.scenario.digest()
        # Processes differ in what they remember, so the position must be known first.
        _, where = load_tree(paths.checkpoint, (), digest)
        self.position = Position(int(where["process"]), int(where["step"]))
        state, _ = load_tree(paths.checkpoint, self._start(self.position.process), digest)
        self.state = self.layout.place(state)

    def go(self, reporter: Reporter, stop: StopRequest, began: float) -> None:
        """Run what is left of every process, then finish."""
        steps, count = self.schedule.steps, len(self.steppers)
        how = f"stopped; continue with: sgdsim resume {self.paths.folder}"
        done = self.position.process * steps + self.position.step
        with reporter.steps(self.scenario.name, done, count * steps):
            for number in range(self.position.process, count):
                if number != self.position.process:
                    self.position, self.state = Position(number, 0), self._start(number)
                    self._probe()
                ensemble = self._ensemble(number)
                keys = ensemble.keys(self.scenario.ensemble.seed, self._trajectories)
                for chunk in ensemble.run(keys, self.state, self.position.step):
                    every = self.schedule.record_every
                    self._record(chunk.records, slice(chunk.start // every, chunk.stop // every))
                    self.position, self.state = Position(number, chunk.stop), chunk.state
                    self._probe()
                    self.store.set_attrs({"wall_seconds": time.monotonic() - began})
                    self._checkpoint()
                    reporter.reached(number * steps + chunk.stop)
                    stop.check(how)
                last = steps // self.schedule.record_every
                self._record(ensemble.observe(self.state), slice(last, last + 1))
        finish_dynamics(self.scenario, self.bench, self.steppers, self.paths, reporter, began)

    @property
    def _trajectories(self) -> int:
        return self.scenario.ensemble.trajectories

    @property
    def _here(self) -> dict[str, slice]:
        return {"process": slice(self.position.process, self.position.process + 1)}

    def _ensemble(self, number: int) -> Ensemble:
        bench = self.bench
        return Ensemble(
            problem=bench.problem,
            stepper=self.steppers[number],
            region=bench.region,
            observer=bench.observer,
            schedule=self.schedule,
            layout=self.layout,
        )

    def _start(self, number: int) -> EnsembleState:
        return self._ensemble(number).start(self.bench.theta, self._trajectories)

    def _record(self, records: dict[str, Array], rows: slice) -> None:
        known = ("loss", "gradient_norm", "test_error_rate", "position")
        values = {
            name: np.asarray(records[name])[None, : self._trajectories]
            for name in known
            if name in records
        }
        self.store.write("dynamics", values, {**self._here, "step": rows})

    def _probe(self) -> None:
        """Measure curvature and noise of the first few trajectories."""
        settings = self.scenario.validity
        members = min(settings.trajectories, self._trajectories)
        dynamics = self.scenario.process[self.position.process].dynamics
        prober = build_validity_prober(self.bench.problem, settings.eigenvalues, dynamics)
        theta = jax.tree.map(lambda a: a[:members], self.state.theta)
        diverged = self.state.track.diverged[:members]
        step = jnp.asarray(self.position.step, jnp.int32)
        measured = probe_validity(prober, theta, diverged, jnp.asarray(settings.seed), step)
        index = self.position.step // self.schedule.chunk_steps
        values = {name: np.asarray(value)[None, :, None] for name, value in measured.items()}
        self.store.write("dynamics", values, {**self._here, "probe": slice(index, index + 1)})

    def _checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = jax.tree.map(lambda a: np.asarray(a)[: self._trajectories], self.state.track)
        finished = self.position.step == self.schedule.steps
        status = np.where(track.diverged_step != NEVER, 2, 1 if finished else 0)
        values = {
            "status": status.astype(np.int8),
            "diverged_step": track.diverged_step,
        }
        if self.scenario.escape is not None:
            values["escape_step"] = track.exit_step
        values = {name: value[None] for name, value in values.items()}
        self.store.write("dynamics", values, self._here)
        where = self.position._asdict()
        save_tree(self.paths.checkpoint, self.state, self.scenario.digest(), **where)


def _rehearse(stepper: AbstractStepper, bench: Workbench) -> None:
    """Trace one step, so that what a process refuses to do is known before the first one runs."""

    def step(key: Key[Array, ""], theta: PyTree) -> PyTree:
        randomness = stepper.draw(key, jnp.asarray(0, jnp.int32), bench.problem, theta)
        return stepper.step(bench.problem, stepper.start(bench.problem, theta), randomness)[0]

    jax.eval_shape(step, jax.random.key(0), bench.theta)


def _create_store(run: DynamicsRun) -> RunStore:
    """Preallocate the dataset."""
    scenario, schedule = run.scenario, run.schedule
    steps = recorded_steps(scenario)
    rates = np.array([process.dynamics.learning_rate for process in scenario.process])
    store = RunStore.create(
        run.paths.partial,
        coords={
            "process": [process.name for process in scenario.process],
            "learning_rate": rates,
            "trajectory": np.arange(scenario.ensemble.trajectories),
            "step": steps,
            "probe": np.arange(0, schedule.steps + 1, schedule.chunk_steps),
            "member": np.arange(
                min(scenario.validity.trajectories, scenario.ensemble.trajectories)
            ),
            "rank": np.arange(scenario.validity.eigenvalues),
            "coordinate": np.arange(run.bench.coordinates),
            **claim_coordinates(scenario.claim),
        },
        attrs=common_attributes(scenario, run.layout),
        study=scenario.study,
        precision=scenario.compute.precision,
        chunk_sizes={"step": schedule.chunk_steps // schedule.record_every, "probe": 1},
    )
    for number, stepper in enumerate(run.steppers):
        here = {"process": slice(number, number + 1)}
        store.write("dynamics", {"time": step_times(stepper, schedule.steps)[None, steps]}, here)
    return store
