"""The stagnation study: one process, watched around a minimum, probed and certified."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from rich.console import Console

from sgdsim.dynamics import build_stepper, step_times
from sgdsim.ensemble import (
    NEVER,
    ClassificationObserver,
    Ensemble,
    EnsembleState,
    Leg,
    Schedule,
    choose_layout,
    on_host,
)
from sgdsim.problems import ClassificationTask, Network, build_task, cast, layer_count
from sgdsim.runs._bounds import ON_A_SET, Certifier
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._constants import BallConstants, visited_constants
from sgdsim.runs._finish import Outcome, evaluate_stagnation
from sgdsim.runs._motion import Motion
from sgdsim.runs._output import PointFiles
from sgdsim.runs._prepare import Setting, Values, convexity_radii, prepare, start_network
from sgdsim.runs._probe import CURVATURE_VARIABLES, build_prober, probe_ensemble
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._study import Dimensions, SingleEnsembleRun
from sgdsim.runs._summary import print_summary
from sgdsim.scenario import StagnationScenario
from sgdsim.stability import gradient_descent_threshold
from sgdsim.stagnation import Ball
from sgdsim.store import PointStore


class StagnationRun(SingleEnsembleRun[StagnationScenario]):
    """A run of the stagnation study: one process around a minimum, with bounds and certificates.

    Parameters
    ----------
    scenario, task, setting
        What runs.
    values
        What the preparation found for the dataset; empty for a restored run.
    point
        Number of the point in a sweep.
    """

    def __init__(
        self,
        scenario: StagnationScenario,
        task: ClassificationTask,
        setting: Setting,
        values: Values,
        point: int = 0,
    ):
        self.scenario, self.task, self.setting, self.point = scenario, task, setting, point
        self._values = values
        self.certifier = Certifier(scenario, task, setting)
        dtype = jnp.dtype(scenario.compute.precision)
        self.start_point: Network = cast(setting.centre, dtype)
        schedule = scenario.ensemble
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        self.ensemble = Ensemble(
            problem=task.problem(task.training).astype(dtype),
            stepper=cast(build_stepper(scenario.dynamics, self.start_point), dtype),
            region=Ball(centre=self.start_point, radius=jnp.asarray(setting.radius, dtype)),
            observer=ClassificationObserver(cast(task.held_out, dtype)),
            schedule=Schedule(schedule.steps, schedule.record_every, schedule.chunk_steps),
            layout=self.layout,
        )
        self.prober = build_prober(scenario, task, setting.centre)
        self.motion = Motion(setting.centre, setting.hessian_space, scenario.stagnation.confidence)
        self.step = 0
        self.state: EnsembleState = self.ensemble.start(self.start_point, schedule.trajectories)
        self.visited = BallConstants()

    @classmethod
    def dimensions(cls, scenario: StagnationScenario) -> Dimensions:
        """Work out the size of the dataset."""
        schedule = scenario.ensemble
        coords = {
            "trajectory": np.arange(schedule.trajectories),
            "step": recorded_steps(scenario),
            "probe": np.arange(0, schedule.steps + 1, schedule.chunk_steps),
            "shell": np.arange(scenario.convexity.radii),
            "bound": list(ON_A_SET),
            "kind": ["certificate"] * len(ON_A_SET),
            "layer": np.arange(layer_count(scenario.problem)),
        }
        return Dimensions(
            coords, {"step": schedule.chunk_steps // schedule.record_every, "probe": 1}
        )

    @classmethod
    def sketch(cls, scenario: StagnationScenario) -> list[Leg]:
        """Shape of the ensemble: around the start of the search instead of the minimum."""
        task = build_task(scenario.problem)
        start = cast(start_network(scenario, task), jnp.float64)
        setting = Setting(start, start, 1.0, 1.0, BallConstants(), np.zeros((0, 1)))
        return [cls(scenario, task, setting, {}).leg]

    @classmethod
    def prepare(
        cls, scenario: StagnationScenario, point: int, stage: Callable[[str], None]
    ) -> "StagnationRun":
        """Find the minima and the radius; nothing is written."""
        task = build_task(scenario.problem)
        setting, values = prepare(scenario, task, stage)
        return cls(scenario, task, setting, values, point)

    @classmethod
    def restore(
        cls, scenario: StagnationScenario, point: int, files: PointFiles
    ) -> "StagnationRun":
        """Take up the preparation of an interrupted run."""
        task = build_task(scenario.problem)
        return cls(scenario, task, _load_setting(files, scenario, task), {}, point)

    def create(self, files: PointFiles, store: PointStore) -> None:
        """Write what never changes, probe the start, make the first checkpoint."""
        self.files, self.store = files, store
        save_tree(files.preparation, self.setting, self.scenario.digest())
        times = step_times(self.ensemble.stepper, self.scenario.ensemble.steps)
        radii = convexity_radii(float(self.setting.radius), self.scenario.convexity.radii)
        store.write_coords(
            {"time": times[recorded_steps(self.scenario)], "convexity_radius": radii}
        )
        for group, found in self._values.items():
            store.write(group, found)
        threshold = gradient_descent_threshold(self.scenario.dynamics.learning_rate)
        store.write("curvature", {"threshold": threshold})
        store.write("bounds", self.certifier.fixed)
        self.probe()
        self.checkpoint()

    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Evaluate stay probabilities, bounds and claims."""
        outcome = Outcome(
            setting=self.setting,
            constants=self.setting.sampled.merge(self.visited),
            theta=on_host(self.state.theta, self.trajectories),
            diverged=on_host(self.state.track.diverged, self.trajectories),
        )
        evaluate_stagnation(self.scenario, self.task, outcome, self.store, stage)

    @staticmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print minimum, noise, ball, exit bounds and certificates."""
        print_summary(tree, console)

    def record(self, records: Mapping[str, Array | np.ndarray], rows: slice) -> None:
        """Write the observables of one time chunk."""
        values = on_host(records, self.trajectories)
        values["inside"] = values["inside"].astype(np.int8)
        self.store.write("trajectory", values, {"step": rows})

    def probe(self) -> None:
        """Measure curvature, noise and bounds of the present iterates."""
        measured = probe_ensemble(
            self.ensemble.layout, self.prober, self.state, jnp.asarray(self.step, jnp.int32)
        )
        measured = on_host(measured, self.trajectories)
        self.visited = self.visited.merge(visited_constants(measured, float(self.setting.radius)))
        index = self.step // self.scenario.ensemble.chunk_steps
        region = {"probe": slice(index, index + 1)}
        known = {name: measured[name][:, None] for name in CURVATURE_VARIABLES if name in measured}
        self.store.write("curvature", known, region)
        theta = on_host(self.state.theta, self.trajectories)
        margins = measured["training_margins"], measured["held_out_margins"]
        inside = measured["distance"] <= float(self.setting.radius)
        flat = jax.vmap(lambda one: ravel_pytree(one)[0])(theta)
        self.store.write("curvature", self.motion(np.asarray(flat)), region)
        bounds = self.certifier(theta, margins, inside)
        self.store.write("bounds", {k: v[:, None] for k, v in bounds.items()}, region)

    def checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = on_host(self.state.track, self.trajectories)
        # Nothing is measured yet where a count is zero: 0/0 is NaN, not 0.
        late = self.step - self.ensemble.schedule.halfway
        diverged = track.diverged_step != NEVER
        status = np.where(diverged, 2, 1 if self.step == self.scenario.ensemble.steps else 0)
        self.store.write(
            "stagnation",
            {
                "entry_step": track.entry_step,
                "exit_step": track.exit_step,
                "exited": (track.exit_step != NEVER).astype(np.int8),
                "occupancy": track.steps_inside / (self.step or np.nan),
                "max_distance": track.maximum.astype(np.float64),
                "mean_squared_distance": np.where(
                    diverged,
                    np.nan,
                    track.late_sum / (late if late > 0 else np.nan),
                ).astype(np.float64),
            },
        )
        self.store.write(
            "trajectory",
            {"status": status.astype(np.int8), "diverged_step": track.diverged_step},
        )
        digest = self.scenario.digest()
        members = on_host(self.state, self.trajectories)
        save_tree(self.files.checkpoint, (members, self.visited), digest, step=self.step)

    def load(self, files: PointFiles, store: PointStore) -> None:
        """Take up the state of the last checkpoint."""
        self.files, self.store = files, store
        like = on_host(self.state, self.trajectories), self.visited
        (members, visited), scalars = load_tree(files.checkpoint, like, self.scenario.digest())
        self.state = self.ensemble.layout.place(self.ensemble.layout.pad(members))
        self.visited = BallConstants(*map(np.asarray, visited))
        self.step = int(scalars["step"])


def _load_setting(
    files: PointFiles, scenario: StagnationScenario, task: ClassificationTask
) -> Setting:
    network = cast(start_network(scenario, task), jnp.float64)
    size = ravel_pytree(network)[0].size
    space = np.zeros((min(scenario.convexity.eigenvectors, size), size))
    like = Setting(network, network, 0.0, 0.0, BallConstants(), space)
    setting, _ = load_tree(files.preparation, like, scenario.digest())
    return setting._replace(
        margin=float(setting.margin),
        radius=float(setting.radius),
        sampled=BallConstants(*map(np.asarray, setting.sampled)),
        hessian_space=np.asarray(setting.hessian_space),
    )
