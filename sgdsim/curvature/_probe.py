"""Curvature and noise of one iterate: what a probe of a running trajectory measures."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.curvature._lanczos import hessian_product, lanczos, random_direction
from sgdsim.dynamics import AbstractGradientNoise
from sgdsim.problems import Problem, inner, squared_norm


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


class Estimate(NamedTuple):
    """Mean of independent draws and its standard error."""

    value: Float[Array, ""]
    stderr: Float[Array, ""]


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


def hessian_trace(problem: Problem, theta: PyTree, key: Key[Array, ""], probes: int) -> Estimate:
    r"""Hutchinson estimate of the trace of the Hessian, with its standard error.

    Parameters
    ----------
    problem, theta
        Where.
    key
        Random key of the sign vectors.
    probes
        Number of Hessian products.
    """
    product = hessian_product(problem.empirical_risk, theta)

    def one(key: Array) -> Array:
        signs = jax.tree.map(jnp.sign, random_direction(key, theta))
        return inner(signs, product(signs))

    return _estimate(jax.lax.map(one, jax.random.split(key, probes)))


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


def batch_sharpness(
    problem: Problem, theta: PyTree, key: Key[Array, ""], batch_size: int, batches: int
) -> Estimate:
    r"""Batch sharpness :math:`E_b[g_b^\top H_b g_b/\|g_b\|^2]` of minibatches with replacement.

    Parameters
    ----------
    problem, theta
        Where.
    key
        Random key of the batches.
    batch_size, batches
        Rows per batch and number of batches.

    Notes
    -----
    SGD at the edge of stability holds it at :math:`2/\eta` (Andreyev and Beneventano 2024).
    """

    def one(key: Array) -> Array:
        rows = jax.random.randint(key, (batch_size,), 0, problem.n)
        risk = problem.take(rows).empirical_risk
        gradient = jax.grad(risk)(theta)
        curved = hessian_product(risk, theta)(gradient)
        return inner(gradient, curved) / squared_norm(gradient)

    return _estimate(jax.lax.map(one, jax.random.split(key, batches)))


def _estimate(draws: Float[Array, " draw"]) -> Estimate:
    return Estimate(jnp.mean(draws), jnp.std(draws, ddof=1) / draws.shape[0] ** 0.5)
