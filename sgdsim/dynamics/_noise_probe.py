"""Gradient noise at an iterate: operator norm, trace, alignment with the curvature."""

from typing import NamedTuple

from jaxtyping import Array, Float, Key, PyTree

from sgdsim.curvature import lanczos, random_direction
from sgdsim.dynamics._noise import AbstractGradientNoise
from sgdsim.problems import Problem, inner


class NoiseProbe(NamedTuple):
    r"""Covariance :math:`\Sigma(\theta)` of the gradient noise of one step.

    Attributes
    ----------
    operator_norm, operator_norm_residual
        Largest eigenvalue by Lanczos and the residual of its Ritz pair.
    trace
        Exact trace.
    """

    operator_norm: Float[Array, ""]
    operator_norm_residual: Float[Array, ""]
    trace: Float[Array, ""]


def probe_noise(
    noise: AbstractGradientNoise,
    problem: Problem,
    theta: PyTree,
    key: Key[Array, ""],
    depth: int = 12,
) -> NoiseProbe:
    """Operator norm and trace of the noise covariance at ``theta``; ``depth`` products."""
    product = noise.covariance(problem, theta)
    # One product turns the random start towards the range of the covariance.
    ritz = lanczos(product, product(random_direction(key, theta)), depth)
    return NoiseProbe(*ritz.largest, noise.trace(problem, theta))


def noise_alignment(
    noise: AbstractGradientNoise,
    problem: Problem,
    theta: PyTree,
    direction: PyTree,
    trace: Float[Array, ""],
) -> Float[Array, ""]:
    r"""Share of the noise along the sharpest direction.

    .. math:: v_1^\top\Sigma v_1 / \mathrm{tr}\,\Sigma

    ``direction`` is the unit eigenvector of the largest Hessian eigenvalue, ``trace`` the trace
    of the covariance. Isotropic noise gives ``1/p``.
    """
    return inner(direction, noise.covariance(problem, theta)(direction)) / trace
