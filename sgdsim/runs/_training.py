"""The bounds study: trajectories that end at one loss, with all bounds and measures on the way."""

import difflib
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array
from rich.console import Console

from sgdsim._errors import ScenarioError
from sgdsim.dynamics import UntilLoss, build_stepper, step_times, stopped_step
from sgdsim.ensemble import (
    NEVER,
    Ensemble,
    EnsembleState,
    Leg,
    Schedule,
    choose_layout,
    on_host,
)
from sgdsim.problems import build_task, cast, layer_count
from sgdsim.runs._assessment import Assessor, bound_labels, ingredient_labels
from sgdsim.runs._checkpoint import load_tree, save_tree
from sgdsim.runs._mean_gap import (
    INFORMATION,
    build_observer,
    expectation_labels,
    mean_gap_bounds,
    mean_gaps,
    why_none,
)
from sgdsim.runs._output import PointFiles
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._reference import Reference, find_reference, start_of
from sgdsim.runs._study import Dimensions, SingleEnsembleRun
from sgdsim.runs._training_report import print_training
from sgdsim.scenario import BoundsScenario
from sgdsim.stagnation import Ball
from sgdsim.store import PointStore

_RECORDED = (
    "loss",
    "test_risk",
    "error_rate",
    "test_error_rate",
    "gradient_norm",
    *INFORMATION,
)


class TrainingRun(SingleEnsembleRun[BoundsScenario]):
    """A run of the bounds study.

    Parameters
    ----------
    scenario
        What runs.
    reference
        What was fixed without the training rows.
    point
        Number of the point in a sweep.
    """

    def __init__(self, scenario: BoundsScenario, reference: Reference, point: int = 0):
        self.scenario, self.reference, self.point = scenario, reference, point
        self.task = task = build_task(scenario.problem)
        dtype = jnp.dtype(scenario.compute.precision)
        self.start_point = cast(reference.start, dtype)
        schedule = scenario.ensemble
        self.layout = choose_layout(scenario.compute.mapping, scenario.compute.devices)
        stepper = build_stepper(scenario.dynamics, self.start_point)
        self._process = stepper
        self._times = step_times(stepper, schedule.steps)
        if scenario.training.target is not None:
            stepper = UntilLoss(stepper, scenario.training.target)
        self.ensemble = Ensemble(
            problem=task.problem(task.training).astype(dtype),
            stepper=cast(stepper, dtype),
            region=Ball(centre=self.start_point, radius=jnp.asarray(jnp.inf, dtype)),
            observer=build_observer(scenario, task, dtype),
            schedule=Schedule(schedule.steps, schedule.record_every, schedule.chunk_steps),
            layout=self.layout,
        )
        self.step = 0
        self.state: EnsembleState = self.ensemble.start(self.start_point, schedule.trajectories)

    @classmethod
    def dimensions(cls, scenario: BoundsScenario) -> Dimensions:
        """Work out the size of the dataset."""
        schedule = scenario.ensemble
        labels = bound_labels()
        coords = {
            "trajectory": np.arange(schedule.trajectories),
            "step": recorded_steps(scenario),
            "probe": np.arange(0, schedule.steps + 1, schedule.chunk_steps),
            "bound": list(labels),
            "kind": list(labels.values()),
            "ingredient": ingredient_labels(),
            "expectation": expectation_labels(scenario),
            "layer": np.arange(layer_count(scenario.problem)),
        }
        return Dimensions(
            coords, {"step": schedule.chunk_steps // schedule.record_every, "probe": 1}
        )

    @classmethod
    def sketch(cls, scenario: BoundsScenario) -> list[Leg]:
        """Shape of the ensemble; the reference network is not trained for it."""
        _check_claims(scenario)
        start = start_of(scenario.problem, scenario.start)
        return [cls(scenario, Reference(start, start, 1.0)).leg]

    @classmethod
    def prepare(
        cls, scenario: BoundsScenario, point: int, stage: Callable[[str], None]
    ) -> "TrainingRun":
        """Train the reference network; nothing is written."""
        _check_claims(scenario)
        stage("training the reference network")
        return cls(scenario, find_reference(scenario), point)

    @classmethod
    def restore(cls, scenario: BoundsScenario, point: int, files: PointFiles) -> "TrainingRun":
        """Take up the reference network of an interrupted run."""
        start = start_of(scenario.problem, scenario.start)
        like = Reference(start, start, 0.0)
        reference, _ = load_tree(files.preparation, like, scenario.digest())
        return cls(scenario, reference, point)

    def create(self, files: PointFiles, store: PointStore) -> None:
        """Write what never changes, assess the start, make the first checkpoint."""
        self.files, self.store = files, store
        save_tree(files.preparation, self.reference, self.scenario.digest())
        store.write_coords({"time": self._times[recorded_steps(self.scenario)]})
        self.assessor = Assessor(self.scenario, self.task, self.reference)
        store.write("bounds", self.assessor.fixed)
        self.probe()
        self.checkpoint()

    def load(self, files: PointFiles, store: PointStore) -> None:
        """Take up the state of the last checkpoint."""
        self.files, self.store = files, store
        self.assessor = Assessor(self.scenario, self.task, self.reference)
        like = on_host(self.state, self.trajectories)
        members, scalars = load_tree(files.checkpoint, like, self.scenario.digest())
        self.state = self.layout.place(self.layout.pad(members))
        self.step = int(scalars["step"])

    def evaluate(self, stage: Callable[[str], None]) -> None:
        """Evaluate the bounds on the mean gap, and every bound after changes of the network."""
        stage("changing the final networks")
        theta = on_host(self.state.theta, self.trajectories)
        tree = self.store.tree()
        last = tree["bounds"].to_dataset()["log_value"].isel(probe=-1)
        before = np.asarray(last.transpose("trajectory", "bound"))
        self.store.write("bounds", self.assessor.changes(theta, self._diverged, before))
        self.store.set_attrs({"mean_gap_statement": why_none(self.scenario)})
        self.store.write("bounds", mean_gaps(tree))
        self.store.write("bounds", mean_gap_bounds(self.scenario, self._process, tree))

    @staticmethod
    def report(tree: xr.DataTree, console: Console) -> None:
        """Print one row per bound."""
        print_training(tree, console)

    @property
    def _stopped(self) -> np.ndarray:
        """Step at which each trajectory reached the target; -1: not yet."""
        if self.scenario.training.target is None:
            return np.full(self.trajectories, NEVER, np.int32)
        return np.asarray(on_host(stopped_step(self.state.memory), self.trajectories))

    @property
    def _diverged(self) -> np.ndarray:
        return on_host(self.state.track.diverged_step, self.trajectories) != NEVER

    def record(self, records: Mapping[str, Array | np.ndarray], rows: slice) -> None:
        found = {name: records[name] for name in _RECORDED if name in records}
        found["distance_from_start"] = records["distance"]
        values = on_host(found, self.trajectories)
        self.store.write("trajectory", values, {"step": rows})

    def probe(self) -> None:
        """Evaluate every bound and measure on the present iterates."""
        theta = on_host(self.state.theta, self.trajectories)
        values = self.assessor(theta, self._diverged, self.step)
        index = self.step // self.scenario.ensemble.chunk_steps
        reached = self._stopped >= 0
        if self.scenario.training.target is None:
            reached = np.full(reached.shape, self.step == self.total) & ~self._diverged
        values["reached"] = reached.astype(np.int8)
        here = {"probe": slice(index, index + 1)}
        self.store.write("bounds", {k: v[:, None] for k, v in values.items()}, here)

    def checkpoint(self) -> None:
        """Write what every trajectory has done so far, then the state to resume from."""
        diverged_step = on_host(self.state.track.diverged_step, self.trajectories)
        status = np.where(diverged_step != NEVER, 2, 1 if self.step == self.total else 0)
        self.store.write(
            "trajectory", {"status": status.astype(np.int8), "diverged_step": diverged_step}
        )
        self.store.write("bounds", {"stopped_step": self._stopped})
        members = on_host(self.state, self.trajectories)
        save_tree(self.files.checkpoint, members, self.scenario.digest(), step=self.step)


def _check_claims(scenario: BoundsScenario) -> None:
    """Refuse a claim about a bound that the study does not evaluate, before anything is trained."""
    labels = bound_labels()
    for number, claim in enumerate(scenario.claim):
        if claim.bound is not None and claim.bound not in labels:
            close = difflib.get_close_matches(claim.bound, labels, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ScenarioError(
                f"claim.{number}.bound: no bound or measure of this study is called "
                f"{claim.bound!r}.{hint}"
            )
