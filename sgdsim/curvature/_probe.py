"""Curvature of one iterate beyond its spectrum: estimates with standard errors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.curvature._lanczos import hessian_product, random_direction
from sgdsim.problems import Problem, inner, squared_norm


class Estimate(NamedTuple):
    """Mean of independent draws and its standard error."""

    value: Float[Array, ""]
    stderr: Float[Array, ""]


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
