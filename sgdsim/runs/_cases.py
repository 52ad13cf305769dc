"""From a case of an exits scenario to what runs: problem, process, start and watched set."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim._errors import ScenarioError
from sgdsim.dynamics import AbstractGradientNoise, AbstractStepper, build_noise, build_stepper
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import (
    AbstractLandscape,
    AbstractWells,
    KnownProblem,
    OutputLoss,
    PeriodicWells,
    Problem,
    Quadratic,
    build_known,
    cast,
)
from sgdsim.scenario import Case, ExitsScenario
from sgdsim.stagnation import (
    Ball,
    Below,
    FunctionBall,
    Sublevel,
    Tube,
    basins_of,
    ellipsoid_of_stationary_covariance,
)

#: Wells on either side of the middle that a union of balls holds on a periodic landscape.
_PERIODS = 3


class CaseBench(NamedTuple):
    """What a case runs.

    Attributes
    ----------
    known
        The problem with its known minimum, float64.
    problem
        What SGD descends, in the precision of the simulation.
    stepper, noise
        How theta moves, and the model of its gradient noise, if it has one.
    centre
        The population minimum around which the set lies, float64.
    starts
        Start of every trajectory, along a leading axis.
    region
        What is watched.
    """

    known: KnownProblem
    problem: Problem
    stepper: AbstractStepper
    noise: AbstractGradientNoise | None
    centre: PyTree
    starts: PyTree
    region: AbstractRegion

    @property
    def landscape(self) -> AbstractLandscape | None:
        """The landscape, if the problem is one or has its minima."""
        return self.known.minimum_set

    @property
    def start(self) -> PyTree:
        """Start of the first trajectory, float64."""
        return cast(jax.tree.map(lambda a: a[0], self.starts), jnp.float64)


def build_case(scenario: ExitsScenario, case: Case) -> CaseBench:
    """Build everything that a case needs, in the precision of the scenario.

    Raises
    ------
    ScenarioError
        If problem, process and set do not fit together.
    """
    try:
        return _build(scenario, case)
    except ValueError as error:
        raise ScenarioError(f"case {case.name!r}: {error}") from error


def _build(scenario: ExitsScenario, case: Case) -> CaseBench:
    dtype = jnp.dtype(scenario.compute.precision)
    known = build_known(case.problem)
    landscape, centre = known.minimum_set, cast(known.centre, jnp.float64)
    starts = known.starts(scenario.ensemble.trajectories)
    if starts is None:
        start = centre
        if case.start is not None:
            assert landscape is not None  # only landscapes have a start, says the scenario
            start = jnp.asarray(case.start, jnp.float64)
            centre = landscape.project(start)
        copies = scenario.ensemble.trajectories
        starts = jax.tree.map(lambda a: jnp.broadcast_to(a, (copies, *a.shape)), start)
    stepper = cast(build_stepper(case.dynamics, centre), dtype)
    noise = build_noise(case.dynamics, centre)
    region = _region(case, known, centre, noise)
    problem = known.training.astype(dtype)
    stepper.check(problem, cast(centre, dtype))
    return CaseBench(
        known, problem, stepper, noise, centre, cast(starts, dtype), cast(region, dtype)
    )


def _region(
    case: Case, known: KnownProblem, centre: PyTree, noise: AbstractGradientNoise | None
) -> AbstractRegion:
    table, landscape = case.region, known.minimum_set
    match table.kind:
        case "ball":
            return Ball(centre=centre, radius=table.radius)
        case "tube":
            if landscape is None or _is_point(landscape):
                return Ball(centre=centre, radius=table.radius)
            return Tube(landscape=landscape, radius=table.radius)
        case "ellipsoid":
            assert isinstance(landscape, Quadratic)  # the scenario demands it
            return _ellipsoid(landscape, noise, case.dynamics.learning_rate, table.radius)
        case "sublevel":
            problem = known.population
            lowest = problem.empirical_risk(centre)
            return Sublevel(  # its radius is a property, which pyright takes for a field
                problem=problem, minimum_risk=lowest, height=table.height
            )  # pyright: ignore[reportCallIssue]
        case "function":
            losses, rows = known.training.losses, known.training.data
            assert isinstance(losses, OutputLoss)  # only networks have this set, says the scenario
            reference = losses.outputs(centre, rows)
            return FunctionBall(
                outputs=losses.outputs, rows=rows, reference=reference, radius=table.radius
            )
        case "wells":
            assert isinstance(landscape, AbstractWells)  # the scenario demands it
            periods = _PERIODS if isinstance(landscape, PeriodicWells) else 0
            return basins_of(landscape, table.radius, periods=periods)
        case "half_space":
            return Below(coordinate=table.coordinate, level=table.level)


def _is_point(landscape: AbstractLandscape) -> bool:
    """Whether the minimum is one isolated point: a ball is then the cheaper tube."""
    return isinstance(landscape, Quadratic) and bool(np.all(np.asarray(landscape.eigenvalues) > 0))


def _ellipsoid(
    landscape: Quadratic, noise: AbstractGradientNoise | None, learning_rate: float, radius: float
) -> AbstractRegion:
    centre, curvatures = landscape.minima[0], landscape.eigenvalues
    if noise is None or not bool(jnp.all(curvatures > 0)):
        raise ValueError(
            "an ellipsoid has the shape of a stationary covariance, which needs noise and a "
            "positive curvature in every direction; take a tube."
        )
    variances = noise.diagonal(landscape.problem(), centre)
    return ellipsoid_of_stationary_covariance(
        centre,
        jnp.eye(centre.size),
        curvatures,
        variances,
        learning_rate,
        radius=radius,
    )
