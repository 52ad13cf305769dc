"""The dynamics study: several processes side by side from one start with one set of keys."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Key, PyTree
from rich.console import Console

from sgdsim._errors import ScenarioError
from sgdsim.dynamics import AbstractStepper, build_stepper, on_one_path, step_times
from sgdsim.ensemble import NEVER, Ensemble, EnsembleState, Leg, Schedule, choose_layout, on_host
from sgdsim.problems import cast
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._dynamics_finish import evaluate_dynamics
from sgdsim.runs._output import PointFiles
from sgdsim.runs._processes import print_processes
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._study import Dimensions, Simulation, StudyRun
from sgdsim.runs._validity import build_validity_prober, probe_validity
from sgdsim.runs._workbench import Workbench, build_workbench
from sgdsim.scenario import DynamicsScenario, Landscape
from sgdsim.store import PointStore


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
    point
        Number of the point in a sweep.
    """

    def __init__(
        self,
        scenario: DynamicsScenario,
        bench: Workbench,
        steppers: list[AbstractStepper],
        point: int = 0,
    ):
        self.scenario, self.bench, self.steppers, self.point = scenario, bench, steppers, point
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        schedule = scenario.ensemble
        self.schedule = Schedule(schedule.steps, schedule.record_every, schedule.chunk_steps)
        self.position = Position(0, 0)
        self.state: EnsembleState = self._start(0)

    @classmethod
    def dimensions(cls, scenario: DynamicsScenario) -> Dimensions:
        """Work out the size of the dataset."""
        schedule, validity = scenario.ensemble, scenario.validity
        problem = scenario.problem
        size = problem.landscape.dimension if isinstance(problem, Landscape) else 0
        coords = {
            "process": [process.name for process in scenario.process],
            "trajectory": np.arange(schedule.trajectories),
            "step": recorded_steps(scenario),
            "probe": np.arange(0, schedule.steps + 1, schedule.chunk_steps),
            "member": np.arange(min(validity.trajectories, schedule.trajectories)),
            "rank": np.arange(validity.eigenvalues),
            "coordinate": np.arange(size),
        }
        return Dimensions(
            coords, {"step": schedule.chunk_steps // schedule.record_every, "probe": 1}
        )

    @classmethod
    def sketch(cls, scenario: DynamicsScenario) -> list[Leg]:
        """First leg of every process."""
        run = cls.prepare(scenario, 0, lambda text: None)
        return [
            run._leg(run._ensemble(number), run._start(number))
            for number in range(len(run.steppers))
        ]

    @classmethod
    def prepare(
        cls, scenario: DynamicsScenario, point: int, stage: Callable[[str], None]
    ) -> "DynamicsRun":
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
        return cls(scenario, bench, on_one_path(steppers), point)

    @classmethod
    def restore(cls, scenario: DynamicsScenario, point: int, files: PointFiles) -> "DynamicsRun":
        """Build it again; nothing random was prepared."""
        return cls.prepare(scenario, point, lambda text: None)

    def create(self, files: PointFiles, store: PointStore) -> None:
        """Write what never changes, probe the first process at its start."""
        self.files, self.store = files, store
        processes = self.scenario.process
        rates = [process.dynamics.learning_rate for process in processes]
        store.write_coords({"learning_rate": np.array(rates, np.float64)})
        steps = recorded_steps(self.scenario)
        for number, stepper in enumerate(self.steppers):
            here = {"process": slice(number, number + 1)}
            times = step_times(stepper, self.schedule.steps)[None, steps]
            store.write("dynamics", {"time": times}, here)
        self._probe()
        self._checkpoint()

    def load(self, files: PointFiles, store: PointStore) -> None:
        """Take up the last checkpoint."""
        self.files, self.store = files, store
        digest = self.scenario.digest()
        # Processes differ in what they remember, so the position must be known first.
        _, where = load_tree(files.checkpoint, (), digest)
        self.position = Position(int(where["process"]), int(where["step"]))
        like = on_host(self._start(self.position.process), self._trajectories)
        members, _ = load_tree(files.checkpoint, like, digest)
        self.state = self.layout.place(self.layout.pad(members))

    @property
    def done(self) -> int:
        """Steps that have been made."""
        return self.position.process * self.schedule.steps + self.position.step

    @property
    def total(self) -> int:
        """Steps of all processes."""
        return len(self.steppers) * self.schedule.steps

    def simulate(self) -> Simulation:
        """Ask for what is left of every process, one after another."""
        steps, every = self.schedule.steps, self.schedule.record_every
        for number in range(self.position.process, len(self.steppers)):
            if number != self.position.process:
                self.position, self.state = Position(number, 0), self._start(number)
                self._probe()
            ensemble = self._ensemble(number)
            while self.position.step < steps:
                chunk = yield self._leg(ensemble, self.state)
                self._record(chunk.records, slice(chunk.start // every, chunk.stop // every))
                self.position, self.state = Position(number, chunk.stop), chunk.state
                self._probe()
                self._checkpoint()
            last = steps // every
            self._record(ensemble.observe(self.state), slice(last, last + 1))

    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Evaluate means, verdicts and escapes."""
        stage("evaluating the processes")
        evaluate_dynamics(self.scenario, self.bench, self.steppers, self.store)

    @staticmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print one row per process, and the verdicts."""
        print_processes(tree, console)

    def _leg(self, ensemble: Ensemble, state: EnsembleState) -> Leg:
        keys = ensemble.keys(self.scenario.ensemble.seed, self._trajectories, self.point)
        return Leg(ensemble, keys, state, self.position.step, self._trajectories)

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

    def _record(self, records: Mapping[str, Array | np.ndarray], rows: slice) -> None:
        known = ("loss", "gradient_norm", "test_error_rate", "position")
        found = {name: records[name] for name in known if name in records}
        values = {k: v[None] for k, v in on_host(found, self._trajectories).items()}
        self.store.write("dynamics", values, {**self._here, "step": rows})

    def _probe(self) -> None:
        """Measure curvature and noise of the first few trajectories."""
        settings = self.scenario.validity
        members = min(settings.trajectories, self._trajectories)
        dynamics = self.scenario.process[self.position.process].dynamics
        prober = build_validity_prober(self.bench.problem, settings.eigenvalues, dynamics)
        theta, diverged = on_host((self.state.theta, self.state.track.diverged), members)
        step = jnp.asarray(self.position.step, jnp.int32)
        measured = probe_validity(prober, theta, diverged, jnp.asarray(settings.seed), step)
        index = self.position.step // self.schedule.chunk_steps
        values = {name: np.asarray(value)[None, :, None] for name, value in measured.items()}
        self.store.write("dynamics", values, {**self._here, "probe": slice(index, index + 1)})

    def _checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = on_host(self.state.track, self._trajectories)
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
        members = on_host(self.state, self._trajectories)
        save_tree(self.files.checkpoint, members, self.scenario.digest(), **where)


def _rehearse(stepper: AbstractStepper, bench: Workbench) -> None:
    """Trace one step, so that what a process refuses to do is known before the first one runs."""

    def step(key: Key[Array, ""], theta: PyTree) -> PyTree:
        randomness = stepper.draw(key, jnp.asarray(0, jnp.int32), bench.problem, theta)
        return stepper.step(bench.problem, stepper.start(bench.problem, theta), randomness)[0]

    jax.eval_shape(step, jax.random.key(0), bench.theta)
