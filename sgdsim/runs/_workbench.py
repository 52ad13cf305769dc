"""What the processes of a dynamics study share: problem, start, observables, watched region."""

from typing import NamedTuple

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
    build_problem,
    build_start,
    cast,
    squared_norm,
    wrong_share,
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
    """Gradient norm everywhere; error rate on held-out classes or position on a landscape.

    Parameters
    ----------
    held_out
        Rows that SGD never sees; ``None`` where there are none.
    positions
        Whether the parameters are recorded.
    """

    held_out: Rows | None
    positions: bool = eqx.field(static=True)

    def __call__(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Observables of one iterate."""
        gradient = jax.grad(problem.empirical_risk)(theta)
        observed = {"gradient_norm": jnp.sqrt(squared_norm(gradient))}
        if self.positions:
            observed["position"] = jnp.ravel(theta)
        if self.held_out is not None:
            observed["test_error_rate"] = wrong_share(theta, self.held_out)
        return observed


def build_workbench(scenario: DynamicsScenario) -> Workbench:
    """Make problem, start and observables of a scenario, in its precision."""
    dtype = jnp.dtype(scenario.compute.precision)
    problem, held_out, landscape = build_problem(scenario.problem)
    theta = cast(build_start(scenario.problem, scenario.start), dtype)
    if scenario.escape is None:
        region: AbstractRegion = Ball(centre=theta, radius=jnp.asarray(jnp.inf, dtype))
    else:
        level = jnp.asarray(scenario.escape.level, dtype)
        region = Below(coordinate=scenario.escape.coordinate, level=level)
    observer = ProcessObserver(cast(held_out, dtype), landscape is not None)
    return Workbench(problem.astype(dtype), theta, observer, region, landscape)
