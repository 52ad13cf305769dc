"""Constants of the stagnation set: what is proved, what is sampled, what was visited."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from sgdsim.dynamics import AbstractGradientNoise, NoiseProbe, probe_noise
from sgdsim.problems import ClassificationTask, Network, Problem, stream
from sgdsim.scenario import Dynamics, GaussianSgd, Sde, Sgd, StagnationScenario
from sgdsim.stagnation import StayConstants, contraction_strongly_convex

_DIRECTIONS = 6  # of each random kind


class BallConstants(NamedTuple):
    r"""Worst values of what the stay bounds need, over the points looked at so far.

    Attributes
    ----------
    noise_operator_norm, noise_trace
        Largest :math:`\|\Sigma\|`, estimated as Ritz value plus residual, and largest
        :math:`\mathrm{tr}\,\Sigma`, of the noise of one step.
    contraction
        Largest :math:`\|u-\eta\nabla L\|/\|u\|`.
    rsi, growth
        Smallest :math:`\langle\nabla L,u\rangle/\|u\|^2` and largest :math:`\|\nabla L\|/\|u\|`.
    """

    noise_operator_norm: float = -math.inf
    noise_trace: float = -math.inf
    contraction: float = -math.inf
    rsi: float = math.inf
    growth: float = -math.inf

    def merge(self, other: "BallConstants") -> "BallConstants":
        """Worst of two; a failed measurement (NaN) in either stays visible."""
        larger = {
            name: float(np.maximum(getattr(self, name), getattr(other, name)))
            for name in self._fields
        }
        return BallConstants(**larger | {"rsi": float(np.minimum(self.rsi, other.rsi))})


def visited_constants(
    measured: dict[str, Float[np.ndarray, " trajectory"]], radius: float
) -> BallConstants:
    """Worst values over the probed iterates that lie inside the ball (and not at its centre)."""
    inside = (measured["distance"] <= radius) & (measured["distance"] > 1e-6 * radius)
    if not inside.any():
        return BallConstants()
    noise = {}
    if "noise_trace" in measured:
        upper = measured["noise_operator_norm"] + measured["noise_operator_norm_residual"]
        noise = {
            "noise_operator_norm": float(upper[inside].max()),
            "noise_trace": float(measured["noise_trace"][inside].max()),
        }
    return BallConstants(
        contraction=float(measured["contraction"][inside].max()),
        rsi=float(measured["rsi"][inside].min()),
        growth=float(measured["growth"][inside].max()),
        **noise,
    )


def stay_constants(
    scenario: StagnationScenario,
    task: ClassificationTask,
    constants: BallConstants,
    ball: tuple[Network, float, float],
) -> tuple[StayConstants, int, str]:
    r"""Constants of the exit bounds for the process that a scenario runs.

    Parameters
    ----------
    scenario, task
        What runs.
    constants
        Worst sampled and visited values.
    ball
        Centre, radius and start distance.

    Returns
    -------
    constants
        Of one step of the recursion; an Euler substep of length ``h = eta/m`` is a step with
        learning rate ``h`` and noise covariance ``m Sigma``.
    substeps
        Steps of the recursion per SGD step.
    origin
        Where the constants come from, for the reader of the dataset.
    """
    centre, radius, start_distance = ball
    dynamics = scenario.dynamics
    substeps = dynamics.substeps if dynamics.kind == "sde" else 1
    eta = dynamics.learning_rate / substeps
    known = task.known_curvature(centre)
    if known:
        contraction = contraction_strongly_convex(eta, *known)
        origin = "plug-in: contraction proved (strong convexity), noise sampled on the ball"
    elif substeps == 1:
        contraction = constants.contraction
        origin = "plug-in: contraction and noise sampled on the ball"
    else:  # the sampled contraction is that of a whole step, not of a substep
        contraction = math.nan
        origin = "not available: contraction of a substep is not sampled"
    norm, trace = constants.noise_operator_norm, constants.noise_trace
    if dynamics.kind == "sgd":
        # Minibatch noise is bounded, hence sub-Gaussian, but not with its covariance as proxy.
        norm, trace, origin = math.nan, math.nan, "not available: minibatch noise is not Gaussian"
    if dynamics.kind == "gd":
        norm, trace, origin = math.nan, math.nan, "not available: gradient descent has no noise"
    elif not is_plain(dynamics):
        norm, trace = math.nan, math.nan
        origin = "not available: the theorems are about SGD with Gaussian noise, nothing around it"
    return (
        StayConstants(
            learning_rate=eta,
            contraction=contraction,
            noise_operator_norm=substeps * norm,
            noise_trace=substeps * trace,
            radius=radius,
            start_distance=start_distance,
        ),
        substeps,
        origin,
    )


def is_plain(dynamics: Dynamics) -> bool:
    r"""Whether the recursion is :math:`\theta' = \theta - h(\nabla L_n + \xi)`, light-tailed."""
    if not dynamics.is_plain:
        return False
    if isinstance(dynamics, GaussianSgd | Sde) and dynamics.noise.kind in ("student", "stable"):
        return False
    if isinstance(dynamics, Sde):
        return dynamics.order == 1 and dynamics.solver == "euler"
    return isinstance(dynamics, Sgd | GaussianSgd)


def noise_constants(
    noise: AbstractGradientNoise | None, problem: Problem, theta: Network
) -> BallConstants:
    """Noise at one point."""
    if noise is None:
        return BallConstants()
    measured = _probe(noise, problem, theta)
    norm = measured.operator_norm + measured.operator_norm_residual
    return BallConstants(float(norm), float(measured.trace))


def sampled_noise(
    noise: AbstractGradientNoise | None, problem: Problem, theta: Network, radius: float
) -> BallConstants:
    """Largest noise over the centre and points at and half-way to the sphere: a sample, no proof.

    Directions: along the noise at the centre, random, and towards and away from the origin, where
    the scale of the outputs and with it the noise changes most.
    """
    largest = noise_constants(noise, problem, theta)
    if noise is None:
        return largest
    flat, unravel = ravel_pytree(theta)
    keys = jax.random.split(stream(0, "noise"), _DIRECTIONS + 1)
    aligned = noise_draws(problem, theta, keys[:-1])
    free = jax.random.normal(keys[-1], (_DIRECTIONS, flat.size), flat.dtype)
    directions = jnp.concatenate([aligned, free, flat[None], -flat[None]])
    unit = directions / jnp.linalg.norm(directions, axis=1, keepdims=True)
    for length in (0.5 * radius, radius):
        for direction in unit:
            point = unravel(flat + length * direction)
            largest = largest.merge(noise_constants(noise, problem, point))
    return largest


@jax.jit
def noise_draws(
    problem: Problem, theta: Network, keys: Key[Array, " draw"]
) -> Float[Array, "draw p"]:
    r"""Draws of :math:`C^{1/2}\xi` at ``theta`` as flat rows, one backward pass each."""
    losses, pullback = jax.vjp(problem.per_sample_losses, theta)

    def one(key: Array) -> Array:
        normals = jax.random.normal(key, losses.shape, losses.dtype)
        return ravel_pytree(pullback(normals - jnp.mean(normals))[0])[0]

    return jax.lax.map(one, keys)


@jax.jit
def _probe(noise: AbstractGradientNoise, problem: Problem, theta: Network) -> NoiseProbe:
    return probe_noise(noise, problem, theta, stream(1, "noise"))
