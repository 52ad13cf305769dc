"""Before the first step: minima, constants on the stagnation set, its radius, its convexity."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from sgdsim._caching import remembered
from sgdsim._errors import SgdsimError
from sgdsim.bounds import auto_margin
from sgdsim.dynamics import AbstractGradientNoise, MinibatchNoise, build_noise
from sgdsim.problems import (
    ClassificationTask,
    Network,
    Problem,
    Rows,
    build_task,
    cast,
    initial_network,
    margins,
    squared_norm,
    stream,
)
from sgdsim.runs._constants import (
    BallConstants,
    noise_constants,
    noise_draws,
    sampled_noise,
)
from sgdsim.runs._motion import top_spaces
from sgdsim.runs._plain import is_plain
from sgdsim.runs._provenance import recorded_steps
from sgdsim.scenario import Classification, Minimum as MinimumTable, StagnationScenario
from sgdsim.stagnation import (
    CONDITIONS,
    ConvexityRatios,
    Minimum,
    auto_radius,
    delta_star,
    find_minimum,
    linearised_mean_squared_distance,
    noise_spectral_measure,
    sample_convexity,
    summarise_convexity,
)

Report = Callable[[str], None]
Values = dict[str, dict[str, Any]]

_RADIUS_ROUNDS = 3


class Setting(NamedTuple):
    r"""What the rest of the run needs of the preparation; saved, and reloaded on resume.

    Attributes
    ----------
    reference, centre
        Minimum on the reference rows, and minimum on the training rows found from there.
    margin
        Ramp parameter gamma, fixed by the reference rows.
    radius
        ``delta`` of the stagnation set.
    sampled
        Constants of the ball, as far as sampling it before the run tells.
    hessian_space
        Orthonormal rows that span the top Hessian eigenspace at the centre; zeros where there are
        fewer positive eigenvalues.
    """

    reference: Network
    centre: Network
    margin: float
    radius: float
    sampled: BallConstants
    hessian_space: Float[np.ndarray, "r p"]


def prepare(
    scenario: StagnationScenario, task: ClassificationTask, report: Report
) -> tuple[Setting, Values]:
    """Find the minima, choose the radius, sample the ball.

    Parameters
    ----------
    scenario, task
        What to run.
    report
        ``report(text)`` tells what goes on.

    Returns
    -------
    setting
        What the run needs.
    values
        What the dataset keeps, by group and variable.
    """
    report("searching the minima on the reference and the training rows")
    reference, centre = _minima(scenario.problem, scenario.minimum)
    problem = _float64(task, task.training)
    report("measuring the noise, choosing the radius")
    noise = build_noise(scenario.dynamics, centre.theta)
    at_minimum = noise_constants(noise, problem, centre.theta)
    linearised = _linearised(scenario, problem, centre.theta)
    modulus = _modulus(scenario, task, centre.theta, (at_minimum, float(linearised[-1])))
    radius, noisiest = _ball(scenario, noise, (problem, centre.theta), modulus)
    report("sampling the convexity of the ball")
    ratios = _convexity(scenario, (problem, centre), radius)
    sampled = noisiest.merge(_convexity_constants(ratios))
    report("comparing the sharpest directions with the noisiest ones")
    space, alignment = top_spaces(
        problem, centre.theta, noise, scenario.convexity.eigenvectors, scenario.convexity.seed
    )
    setting = Setting(
        reference=reference.theta,
        centre=centre.theta,
        margin=_margin(scenario, task, reference.theta),
        radius=radius,
        sampled=sampled,
        hessian_space=space,
    )
    values = {
        "stagnation": {
            "radius": radius,
            "noise_operator_norm_at_minimum": at_minimum.worst("noise_operator_norm"),
            "noise_trace_at_minimum": at_minimum.worst("noise_trace"),
            "linearised_mean_squared_distance": linearised,
            **_convexity_values(ratios, scenario.stagnation.confidence),
        },
        "curvature": _minimum_values(reference, centre) | alignment,
    }
    return setting, values


@remembered(8)
def _minima(problem: Classification, settings: MinimumTable) -> tuple[Minimum, Minimum]:
    """Minimum on the reference rows, and on the training rows found from there.

    Once for all points of a sweep that differ in other things.
    """
    task = build_task(problem)
    search = settings.tolerance, settings.max_iterations
    start = initial_network(problem, task, stream(settings.seed, "start"))
    reference = find_minimum(_float64(task, task.reference), start, *search)
    return reference, find_minimum(_float64(task, task.training), reference.theta, *search)


def start_network(scenario: StagnationScenario, task: ClassificationTask) -> Network:
    """Draw the network from which the search for a minimum starts."""
    return initial_network(scenario.problem, task, stream(scenario.minimum.seed, "start"))


def convexity_radii(radius: float, count: int) -> np.ndarray:
    """Radii at which the convexity is sampled, log-spaced up to the radius of the set."""
    return radius * np.geomspace(1.0, 0.05, count)[::-1]


def _float64(task: ClassificationTask, rows: Rows) -> Problem:
    return task.problem(rows).astype(jnp.float64)


def _margin(scenario: StagnationScenario, task: ClassificationTask, reference: Network) -> float:
    if scenario.bounds.margin != "auto":
        return float(scenario.bounds.margin)
    try:
        return auto_margin(np.asarray(margins(reference, task.reference)))
    except ValueError as error:
        raise SgdsimError(f"bounds.margin = 'auto' cannot be chosen: {error}") from error


def _linearised(
    scenario: StagnationScenario, problem: Problem, theta: Network
) -> Float[np.ndarray, " step"]:
    """Discrete Lyapunov value at every recorded step; NaN unless it is SGD with minibatch noise.

    An Euler substep of length ``h = eta/m`` is a step with learning rate ``h`` and ``m`` times
    the noise.
    """
    steps = recorded_steps(scenario)
    dynamics = scenario.dynamics
    noise = build_noise(dynamics, theta)
    if not (isinstance(noise, MinibatchNoise) and is_plain(dynamics)):
        return np.full(len(steps), np.nan)
    substeps = dynamics.substeps if dynamics.kind == "sde" else 1
    measure = noise_spectral_measure(problem, theta)
    batch_size = float(noise.equivalent_batch_size(problem.n)) / substeps
    return linearised_mean_squared_distance(
        measure, dynamics.learning_rate / substeps, batch_size, steps * substeps
    )


def _modulus(
    scenario: StagnationScenario,
    task: ClassificationTask,
    centre: Network,
    spread: tuple[BallConstants, float],
) -> float:
    r"""Curvature modulus for the automatic radius, NaN if there is no sensible one.

    It is the proved strong convexity where there is one. A network has none: in its flattest
    directions the modulus is nearly zero, and (6.3) would be of no use. There the modulus is the
    one that explains the stationary mean squared distance of the linearised dynamics,
    :math:`\mu = \eta\tau/(2 E\|u\|^2)`: a sensible set, not a guarantee. ``spread`` holds the noise
    at the minimum and that distance.
    """
    known = task.known_curvature(centre)
    if known:
        return known[0]
    noise, square = spread
    return scenario.dynamics.learning_rate * noise.worst("noise_trace") / (2 * square)


def _ball(
    scenario: StagnationScenario,
    noise: AbstractGradientNoise | None,
    around: tuple[Problem, Network],
    modulus: float,
) -> tuple[float, BallConstants]:
    """Radius of the set and the largest noise sampled in it.

    The radius is the number in the scenario or, for ``auto``, formula (6.3), iterated a few
    times because the noise on the ball depends on its radius.
    """
    problem, centre = around
    if scenario.stagnation.radius != "auto":
        radius = float(scenario.stagnation.radius)
        return radius, sampled_noise(noise, problem, centre, radius)
    constants = noise_constants(noise, problem, centre)
    if noise is None or not (math.isfinite(modulus) and modulus > 0):
        raise SgdsimError(
            "stagnation.radius = 'auto' needs gradient noise and a positive curvature modulus "
            "(a ridge for softmax, minibatch noise for a network); give the radius as a number."
        )
    radius = 0.0
    for _ in range(_RADIUS_ROUNDS):
        radius = auto_radius(
            scenario.dynamics.learning_rate,
            modulus,
            constants.worst("noise_operator_norm"),
            constants.worst("noise_trace"),
            scenario.ensemble.steps,
            scenario.stagnation.failure_probability,
        )
        constants = sampled_noise(noise, problem, centre, radius)
    return radius, constants


def _minimum_values(reference: Minimum, centre: Minimum) -> dict[str, Any]:
    (low, low_residual), (high, high_residual) = centre.spectrum.smallest, centre.spectrum.largest
    between = jax.tree.map(lambda a, b: a - b, centre.theta, reference.theta)
    return {
        "minimum_gradient_norm": centre.gradient_norm,
        "reference_minimum_gradient_norm": reference.gradient_norm,
        "minimum_hessian_eigenvalue": np.array([high, low]),
        "minimum_hessian_residual": np.array([high_residual, low_residual]),
        "minimum_distance": float(jnp.sqrt(squared_norm(between))),
    }


def _convexity_values(ratios: ConvexityRatios, confidence: float) -> dict[str, Any]:
    summary = summarise_convexity(ratios, confidence)
    reach = delta_star(ratios)
    return {
        "convexity_ratio_minimum": summary.minimum,
        "convexity_ratio_quantile_01": summary.quantile_01,
        "convexity_ratio_quantile_05": summary.quantile_05,
        "convexity_ratio_quantile_50": summary.quantile_50,
        "convexity_violation_fraction": summary.violation_fraction,
        "convexity_violation_fraction_high": summary.violation_fraction_high,
        "convexity_sample_size": summary.sample_size.astype(np.int32),
        "convexity_ratio_by_direction": summary.minimum_by_family,
        "delta_star": reach.value,
        "delta_star_bounded": np.int8(reach.bounded),
    }


def _convexity_constants(ratios: ConvexityRatios) -> BallConstants:
    index = CONDITIONS.index("RSI")
    return BallConstants.of(
        rsi=ratios.ratio[index][ratios.counted[index]],
        growth=ratios.growth,
        contraction=ratios.contraction,
    )


def _convexity(
    scenario: StagnationScenario,
    around: tuple[Problem, Minimum],
    radius: float,
) -> ConvexityRatios:
    """Sample the ratios along four families of directions at log-spaced radii up to ``radius``."""
    problem, centre = around
    settings = scenario.convexity
    flat = ravel_pytree(centre.theta)[0]
    keys = jax.random.split(stream(settings.seed, "convexity"), settings.directions + 1)
    vectors = np.asarray(centre.spectrum.vectors)
    vectors = vectors[np.linalg.norm(vectors, axis=1) > 0.5]  # Lanczos may have ended early
    ends = min(settings.eigenvectors, len(vectors))
    directions = {
        "random": np.asarray(
            jax.random.normal(keys[-1], (settings.directions, flat.size), flat.dtype)
        ),
        "noise": np.asarray(noise_draws(problem, centre.theta, keys[:-1])),
        "top": vectors[-ends:],
        "bottom": vectors[:ends],
    }
    return sample_convexity(
        _flat_value_and_grad(scenario.problem),
        problem,
        np.asarray(flat),
        np.concatenate(list(directions.values())),
        convexity_radii(radius, settings.radii),
        learning_rate=scenario.dynamics.learning_rate,
        families=[name for name, rows in directions.items() for _ in rows],
    )


@remembered(8)
def _flat_value_and_grad(table: Classification) -> Callable[[Problem, Array], tuple[Array, Array]]:
    """Risk and gradient at a flat vector; one function per model, so that it compiles once."""
    task = build_task(table)
    like = initial_network(table, task, stream(0, "start"))
    unravel = ravel_pytree(cast(like, jnp.float64))[1]

    def value_and_grad(problem: Problem, theta: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(lambda v: problem.empirical_risk(unravel(v)))(theta)

    return value_and_grad
