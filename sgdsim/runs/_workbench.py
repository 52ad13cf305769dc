"""What the processes of a dynamics study share: problem, start, observables, watched region."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import (
    AbstractLandscape,
    Problem,
    Rows,
    build_landscape,
    build_task,
    cast,
    error_rate,
    initial_network,
    squared_norm,
    stream,
)
from sgdsim.scenario import DynamicsScenario
from sgdsim.stagnation import Ball, Below


class Workbench(NamedTuple):
    """One start for all processes of a study.

    Attributes
    ----------
    problem
        What is minimised, in the precision of the simulation.
    theta
        Where every trajectory of every process starts.
    observer
        Observables at recorded steps.
    region
        What is watched at every step: the region before an escape, or everything.
    landscape
        The landscape, if the problem is one.
    """

    problem: Problem
    theta: PyTree
    observer: "ProcessObserver"
    region: AbstractRegion
    landscape: AbstractLandscape | None

    @property
    def coordinates(self) -> int:
        """Number of parameters of a landscape; 0 for a network, whose iterates are not kept."""
        return 0 if self.landscape is None else int(np.size(self.theta))


class ProcessObserver(eqx.Module):
    """Gradient norm everywhere; error rate of a classifier or position on a landscape.

    Parameters
    ----------
    held_out
        Rows that SGD never sees; ``None`` on a landscape.
    """

    held_out: Rows | None

    def __call__(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Observables of one iterate."""
        gradient = jax.grad(problem.empirical_risk)(theta)
        observed = {"gradient_norm": jnp.sqrt(squared_norm(gradient))}
        if self.held_out is None:
            return observed | {"position": jnp.ravel(theta)}
        return observed | {"test_error_rate": error_rate(theta, self.held_out)}


def build_workbench(scenario: DynamicsScenario) -> Workbench:
    """Make problem, start and observables of a scenario, in its precision."""
    dtype = jnp.dtype(scenario.compute.precision)
    problem, theta, held_out, landscape = _problem(scenario)
    theta = cast(theta, dtype)
    if scenario.escape is None:
        region: AbstractRegion = Ball(centre=theta, radius=jnp.asarray(jnp.inf, dtype))
    else:
        level = jnp.asarray(scenario.escape.level, dtype)
        region = Below(coordinate=scenario.escape.coordinate, level=level)
    observer = ProcessObserver(cast(held_out, dtype))
    return Workbench(problem.astype(dtype), theta, observer, region, landscape)


def _problem(scenario: DynamicsScenario) -> tuple[Problem, Any, Rows | None, Any]:
    table, start = scenario.problem, scenario.start
    if table.kind == "classification":
        task = build_task(table)
        assert start.kind == "random"  # the scenario demands it
        theta = initial_network(table, task, stream(start.seed, "start"))
        theta = jax.tree.map(lambda a: start.gain * a, theta)
        return task.problem(task.training), theta, task.held_out, None
    landscape = build_landscape(table.landscape)
    assert start.kind == "point"
    return landscape.problem(), jnp.asarray(start.theta), None, landscape
