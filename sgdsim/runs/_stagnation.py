"""The stagnation study: one process, watched around a minimum, probed and certified."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key

from sgdsim.dynamics import build_stepper
from sgdsim.ensemble import (
    NEVER,
    ClassificationObserver,
    Ensemble,
    EnsembleState,
    Schedule,
    choose_layout,
)
from sgdsim.problems import ClassificationTask, Network, build_task, cast
from sgdsim.runs._bounds import Certifier
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._constants import BallConstants, visited_constants
from sgdsim.runs._dataset import create_store
from sgdsim.runs._finish import Outcome, finish_run
from sgdsim.runs._motion import Motion
from sgdsim.runs._output import RunPaths
from sgdsim.runs._prepare import Setting, Values, prepare, start_network
from sgdsim.runs._probe import CURVATURE_VARIABLES, build_prober, probe_ensemble
from sgdsim.runs._progress import Reporter
from sgdsim.runs._signals import StopRequest
from sgdsim.runs._study import StudyRun
from sgdsim.scenario import StagnationScenario
from sgdsim.stagnation import Ball
from sgdsim.store import RunStore


class StagnationRun(StudyRun[StagnationScenario]):
    """A run of the stagnation study: one process around a minimum, with bounds and certificates.

    Parameters
    ----------
    scenario, task, setting
        What runs.
    values
        What the preparation found for the dataset; empty for a restored run.
    """

    def __init__(
        self,
        scenario: StagnationScenario,
        task: ClassificationTask,
        setting: Setting,
        values: Values,
    ):
        self.scenario, self.task, self.setting = scenario, task, setting
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
    def prepare(cls, scenario: StagnationScenario, stage: Callable[[str], None]) -> "StagnationRun":
        """Find the minima and the radius; nothing is written."""
        task = build_task(scenario.problem)
        setting, values = prepare(scenario, task, stage)
        return cls(scenario, task, setting, values)

    @classmethod
    def restore(cls, scenario: StagnationScenario, paths: RunPaths) -> "StagnationRun":
        """Take up the preparation of an interrupted run."""
        task = build_task(scenario.problem)
        return cls(scenario, task, _load_setting(paths, scenario, task), {})

    @property
    def keys(self) -> Key[Array, " trajectory"]:
        """Keys of the trajectories."""
        ensemble = self.scenario.ensemble
        return self.ensemble.keys(ensemble.seed, ensemble.trajectories)

    def create(self, paths: RunPaths) -> None:
        """Write what never changes, probe the start, make the first checkpoint."""
        self.paths = paths
        save_tree(paths.preparation, self.setting, self.scenario.digest())
        self.store = create_store(
            self.scenario, paths.partial, self.setting, self._values, self.ensemble
        )
        self.store.write("bounds", self.certifier.fixed)
        self.probe()
        self.checkpoint()

    def go(self, reporter: Reporter, stop: StopRequest, began: float) -> None:
        """Simulate what is left and finish the dataset."""
        total = self.scenario.ensemble.steps
        how = f"stopped; continue with: sgdsim resume {self.paths.folder}"
        with reporter.steps(self.scenario.name, self.step, total):
            for chunk in self.ensemble.run(self.keys, self.state, self.step):
                every = self.scenario.ensemble.record_every
                self.record(chunk.records, slice(chunk.start // every, chunk.stop // every))
                self.step, self.state = chunk.stop, chunk.state
                self.probe()
                self.store.set_attrs({"wall_seconds": time.monotonic() - began})
                self.checkpoint()
                reporter.reached(self.step)
                stop.check(how)
        last = self.scenario.ensemble.steps // self.scenario.ensemble.record_every
        self.record(self.ensemble.observe(self.state), slice(last, last + 1))
        count = self.scenario.ensemble.trajectories
        outcome = Outcome(
            setting=self.setting,
            constants=self.setting.sampled.merge(self.visited),
            theta=jax.tree.map(lambda a: a[:count], self.state.theta),
            diverged=np.asarray(self.state.track.diverged)[:count],
        )
        finish_run(self.scenario, self.task, outcome, self.paths, reporter, began)

    def record(self, records: dict[str, Array], rows: slice) -> None:
        """Write the observables of one time chunk."""
        count = self.scenario.ensemble.trajectories
        values = {name: np.asarray(value)[:count] for name, value in records.items()}
        values["inside"] = values["inside"].astype(np.int8)
        self.store.write("trajectory", values, {"step": rows})

    def probe(self) -> None:
        """Measure curvature, noise and bounds of the present iterates."""
        count = self.scenario.ensemble.trajectories
        measured = probe_ensemble(
            self.ensemble.layout, self.prober, self.state, jnp.asarray(self.step, jnp.int32)
        )
        measured = {name: np.asarray(value)[:count] for name, value in measured.items()}
        self.visited = self.visited.merge(visited_constants(measured, float(self.setting.radius)))
        index = self.step // self.scenario.ensemble.chunk_steps
        region = {"probe": slice(index, index + 1)}
        known = {name: measured[name][:, None] for name in CURVATURE_VARIABLES if name in measured}
        self.store.write("curvature", known, region)
        theta = jax.tree.map(lambda a: a[:count], self.state.theta)
        margins = measured["training_margins"], measured["held_out_margins"]
        inside = measured["distance"] <= float(self.setting.radius)
        flat = jax.vmap(lambda one: ravel_pytree(one)[0])(theta)
        self.store.write("curvature", self.motion(np.asarray(flat)), region)
        bounds = self.certifier(theta, margins, inside)
        self.store.write("bounds", {k: v[:, None] for k, v in bounds.items()}, region)

    def checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        track = jax.tree.map(
            lambda a: np.asarray(a)[: self.scenario.ensemble.trajectories], self.state.track
        )
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
        save_tree(self.paths.checkpoint, (self.state, self.visited), digest, step=self.step)

    def load(self, paths: RunPaths, store: RunStore) -> None:
        """Take up the state of the last checkpoint."""
        self.paths, self.store = paths, store
        like = self.state, self.visited
        (self.state, visited), scalars = load_tree(
            self.paths.checkpoint, like, self.scenario.digest()
        )
        self.state = self.ensemble.layout.place(self.state)
        self.visited = BallConstants(*map(np.asarray, visited))
        self.step = int(scalars["step"])


def _load_setting(
    paths: RunPaths, scenario: StagnationScenario, task: ClassificationTask
) -> Setting:
    network = cast(start_network(scenario, task), jnp.float64)
    size = ravel_pytree(network)[0].size
    space = np.zeros((min(scenario.convexity.eigenvectors, size), size))
    like = Setting(network, network, 0.0, 0.0, BallConstants(), space)
    setting, _ = load_tree(paths.preparation, like, scenario.digest())
    return setting._replace(
        margin=float(setting.margin),
        radius=float(setting.radius),
        sampled=BallConstants(*map(np.asarray, setting.sampled)),
        hessian_space=np.asarray(setting.hessian_space),
    )
