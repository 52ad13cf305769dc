"""The dynamics study: several processes side by side from one start with one set of keys."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from rich.console import Console

from sgdsim.dynamics import AbstractStepper, on_one_path
from sgdsim.ensemble import Ensemble, EnsembleState, Schedule, Track, choose_layout, on_host
from sgdsim.runs._dynamics_finish import evaluate_dynamics
from sgdsim.runs._processes import print_processes
from sgdsim.runs._processes_run import Position, ProcessesRun, checked_stepper
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._study import Dimensions
from sgdsim.runs._validity import build_validity_prober, probe_validity
from sgdsim.runs._workbench import Workbench, build_workbench
from sgdsim.scenario import DynamicsScenario, Landscape


class DynamicsRun(ProcessesRun[DynamicsScenario]):
    """A run of the dynamics study.

    Parameters
    ----------
    scenario, bench
        What runs.
    steppers
        One per process.
    point
        Number of the point in a sweep.
    """

    group = "dynamics"

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
        self.state: EnsembleState = self.fresh_start(0)

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
    def prepare(
        cls, scenario: DynamicsScenario, point: int, stage: Callable[[str], None]
    ) -> "DynamicsRun":
        """Build problem and processes; a process that cannot be is refused here."""
        stage("building the problem and the processes")
        bench = build_workbench(scenario)
        steppers = [
            checked_stepper(process, bench.problem, bench.theta, scenario.compute.precision)
            for process in scenario.process
        ]
        return cls(scenario, bench, on_one_path(steppers), point)

    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Evaluate means, verdicts and escapes."""
        stage("evaluating the processes")
        evaluate_dynamics(self.scenario, self.bench, self.steppers, self.store)

    @staticmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print one row per process, and the verdicts."""
        print_processes(tree, console)

    def ensemble_of(self, number: int) -> Ensemble:
        """Trajectories of one process."""
        bench = self.bench
        return Ensemble(
            problem=bench.problem,
            stepper=self.steppers[number],
            region=bench.region,
            observer=bench.observer,
            schedule=self.schedule,
            layout=self.layout,
        )

    def fresh_start(self, number: int) -> EnsembleState:
        """All trajectories at the one start."""
        return self.ensemble_of(number).start(self.bench.theta, self.trajectories)

    def record(self, records: Mapping[str, Array | np.ndarray], rows: slice) -> None:
        """Write the observables of one time chunk."""
        known = ("loss", "gradient_norm", "test_error_rate", "position")
        found = {name: records[name] for name in known if name in records}
        values = {k: v[None] for k, v in on_host(found, self.trajectories).items()}
        self.store.write("dynamics", values, {**self.here, "step": rows})

    def probe(self) -> None:
        """Measure curvature and noise of the first few trajectories."""
        settings = self.scenario.validity
        members = min(settings.trajectories, self.trajectories)
        dynamics = self.scenario.process[self.position.process].dynamics
        prober = build_validity_prober(self.bench.problem, settings.eigenvalues, dynamics)
        theta, diverged = on_host((self.state.theta, self.state.track.diverged), members)
        step = jnp.asarray(self.position.step, jnp.int32)
        measured = probe_validity(prober, theta, diverged, jnp.asarray(settings.seed), step)
        index = self.position.step // self.schedule.chunk_steps
        values = {name: np.asarray(value)[None, :, None] for name, value in measured.items()}
        self.store.write("dynamics", values, {**self.here, "probe": slice(index, index + 1)})

    def track_values(self, track: Track) -> dict[str, np.ndarray]:
        """Give the steps of escape, if escapes are watched."""
        return {} if self.scenario.escape is None else {"escape_step": np.asarray(track.exit_step)}
