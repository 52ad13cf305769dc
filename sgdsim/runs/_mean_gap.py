"""Bounds on the mean gap over training rows and noise, from the gradients along a run."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PyTree

from sgdsim.bounds import LOSS_RANGE, GradientStream, expectation_bounds, join_streams
from sgdsim.dynamics import AbstractStepper, build_stepper
from sgdsim.ensemble import (
    NEVER,
    ClassificationObserver,
    InformationObserver,
    Observer,
    injected_noise,
)
from sgdsim.problems import ClassificationTask, Problem, cast
from sgdsim.runs._reference import start_of
from sgdsim.scenario import (
    BoundsClaim,
    BoundsScenario,
    Scenario,
    sweep_dimensions,
    sweep_points,
)

#: What is recorded of the gradients of the rows.
INFORMATION = ("gradient_square", "covariance_trace", "deviation", "pair_square")

#: Bounds that these suffice for; the last one needs a ghost row for every training row.
_BOUNDS = ("population_chain", "gradient_entropy", "gradient_norm", "incoherence")
_OF_PAIRS = ("conditional",)


class TrainingObserver(eqx.Module):
    """Risks and error rates, and what the bounds on the mean gap need of the gradients.

    Parameters
    ----------
    classification, information
        Whose observables are recorded.
    """

    classification: ClassificationObserver
    information: InformationObserver

    def __call__(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Observables of one iterate."""
        return self.classification(problem, theta) | self.information(problem, theta)


def expectation_labels(scenario: BoundsScenario) -> list[str]:
    """Bounds on the mean gap that a scenario evaluates."""
    if why_none(scenario):
        return []
    data = scenario.problem.data
    return [*_BOUNDS, *(_OF_PAIRS if data.reference >= data.training else ())]


def why_none(scenario: BoundsScenario) -> str:
    """Say why a scenario has no bounds on the mean gap; empty if it has."""
    if not _injects(scenario):
        return (
            "No bound on the mean gap: noise that does not know the training rows must be injected "
            "at every step (sgld, or gaussian_sgd with isotropic or langevin noise)."
        )
    if scenario.training.target is not None:
        return (
            "No bound on the mean gap: training stops at a loss, and when it does depends on the "
            "training rows; leave training.target out."
        )
    if scenario.ensemble.record_every != 1:
        return (
            "No bound on the mean gap: the gradients of every step count; set "
            "ensemble.record_every = 1."
        )
    return ""


def _injects(scenario: BoundsScenario) -> bool:
    dynamics = scenario.dynamics
    noise = getattr(dynamics, "noise", None)
    isotropic = noise is not None and noise.kind in ("isotropic", "langevin")
    return dynamics.kind == "sgld" or (dynamics.kind == "gaussian_sgd" and isotropic)


def build_observer(scenario: BoundsScenario, task: ClassificationTask, dtype: Any) -> Observer:
    """Assemble the observer of a run; gradients of the rows only where a bound needs them."""
    classification = ClassificationObserver(cast(task.held_out, dtype))
    labels = expectation_labels(scenario)
    if not labels:
        return classification
    ghosts = None
    if set(_OF_PAIRS) <= set(labels):
        rows = len(task.training.inputs)
        ghosts = cast(jax.tree.map(lambda leaf: jnp.asarray(leaf[:rows]), task.reference), dtype)
    population = task.problem(task.held_out).astype(dtype)
    return TrainingObserver(classification, InformationObserver(population, ghosts))


def mean_gaps(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Mean gap over trajectories, with the error of the held-out rows and of their number."""
    bounds = tree["bounds"].to_dataset()
    gap = bounds["zero_one_gap"]
    count = gap.notnull().sum("trajectory")
    spread = (gap.std("trajectory", ddof=1) / np.sqrt(count)).where(count > 1)
    held_out = bounds["zero_one_gap_stderr"].mean("trajectory")
    return {
        "mean_gap": np.asarray(gap.mean("trajectory")),
        "mean_gap_stderr": np.asarray(np.hypot(spread, held_out)),
    }


def mean_gap_bounds(
    scenario: BoundsScenario, stepper: AbstractStepper, tree: xr.DataTree
) -> dict[str, np.ndarray]:
    """Bounds on the mean gap of the error rate at every probe, with this one training set.

    NaN at the start, and from where a trajectory has diverged: a mean cannot leave out those that
    the training rows made diverge.

    Parameters
    ----------
    scenario, stepper
        What ran.
    tree
        Dataset of the point.
    """
    labels = expectation_labels(scenario)
    trajectory, bounds = tree["trajectory"].to_dataset(), tree["bounds"].to_dataset()
    probes = bounds["probe"].values
    value = np.full((probes.size, len(labels)), np.nan)
    stderr = np.full_like(value, np.nan)
    steps = _finite_steps(trajectory)
    if labels and steps:
        stream = _stream(scenario, stepper, (trajectory, bounds), steps)
        found = expectation_bounds(stream, LOSS_RANGE)
        known = (probes > 0) & (probes <= steps)
        for column, name in enumerate(labels):
            if name in found:  # a step that shrinks or projects is outside of some theorems
                value[known, column] = found[name].value[probes[known] - 1]
                stderr[known, column] = found[name].stderr[probes[known] - 1]
    return {"expected_gap_bound": value, "expected_gap_bound_stderr": stderr}


def mean_gap_slack(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Smallest bound on the mean gap minus the mean gap, over training sets, at the end.

    The training sets are the points of a sweep over ``split_seed`` alone; what the theorems average
    over rows and noise is averaged over all of them.
    """
    scenario = Scenario.from_json(str(tree.attrs["scenario"]))
    assert isinstance(scenario, BoundsScenario)  # whose claim it is
    if scenario.sweep is None or why_none(scenario):
        return math.nan
    axes = [axis.name for axis in sweep_dimensions(scenario)]
    if axes != ["split_seed"]:
        return math.nan
    groups = tree["trajectory"].to_dataset(), tree["bounds"].to_dataset()
    streams = []
    for number, point in enumerate(sweep_points(scenario)):
        assert isinstance(point, BoundsScenario)
        own = tuple(group.isel(split_seed=number) for group in groups)
        if _finite_steps(own[0]) != point.ensemble.steps:
            return math.nan
        stepper = build_stepper(point.dynamics, start_of(point.problem, point.start))
        streams.append(_stream(point, stepper, own, point.ensemble.steps))
    found = expectation_bounds(join_streams(streams), LOSS_RANGE)
    gap = float(groups[1]["zero_one_gap"].isel(probe=-1).mean())
    return min(float(bound.value[-1]) for bound in found.values()) - gap


def _finite_steps(trajectory: xr.Dataset) -> int:
    """Count the steps that all trajectories have made without diverging."""
    diverged = trajectory["diverged_step"].values
    last = int(trajectory["step"].values[-1])
    return int(min([last, *(diverged[diverged != NEVER] - 1)]))


def _stream(
    scenario: BoundsScenario,
    stepper: AbstractStepper,
    groups: tuple[xr.Dataset, ...],
    steps: int,
) -> GradientStream:
    """Put together what the bounds read of the first steps of a point."""
    trajectory, bounds = groups
    samples = scenario.problem.data.training
    noise = injected_noise(stepper, samples, scenario.ensemble.steps)
    recorded: dict[str, Any] = {
        name: trajectory[name].transpose("trajectory", "step").values[:, :steps].astype(np.float64)
        for name in INFORMATION
        if bool(trajectory[name].notnull().any())
    }
    if "pair_square" in recorded:
        recorded["pair_square"] = recorded["pair_square"][..., None]
    return GradientStream(
        step=np.arange(steps),
        learning_rate=noise.learning_rate[:steps],
        noise_variance=noise.variance[:steps],
        samples=samples,
        parameters=int(bounds["measured"].sel(ingredient="parameters").isel(probe=0).max()),
        batch_factor=noise.batch_factor,
        plain_steps=noise.plain_steps,
        **recorded,
    )
