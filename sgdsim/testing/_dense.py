"""Slow and obvious: dense matrices that the library never forms, as oracles for its tests."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim.problems import Problem


def dense_gradients(problem: Problem, theta: PyTree) -> Float[np.ndarray, "n p"]:
    """Per-sample gradients as the rows of a matrix."""
    return np.asarray(_gradients(problem, theta))


def dense_covariance(problem: Problem, theta: PyTree) -> Float[np.ndarray, "p p"]:
    r"""Covariance :math:`C=\frac1n\sum_i(g_i-\bar g)(g_i-\bar g)^\top` of a single row's gradient.

    The noise of a minibatch of ``B`` rows drawn with replacement has the covariance ``C / B``.
    """
    gradients = dense_gradients(problem, theta)
    centred = gradients - gradients.mean(axis=0)
    return centred.T @ centred / len(centred)


def dense_hessian(problem: Problem, theta: PyTree) -> Float[np.ndarray, "p p"]:
    """Hessian of the empirical risk."""
    return np.asarray(_hessian(problem, theta))


@jax.jit
def _gradients(problem: Problem, theta: PyTree) -> Array:
    flat, unravel = ravel_pytree(theta)
    return jax.jacrev(lambda v: problem.per_sample_losses(unravel(v)))(flat)


@jax.jit
def _hessian(problem: Problem, theta: PyTree) -> Array:
    flat, unravel = ravel_pytree(theta)
    return jax.hessian(lambda v: problem.empirical_risk(unravel(v)))(flat)


def discrete_lyapunov(
    hessian: Float[np.ndarray, "p p"], covariance: Float[np.ndarray, "p p"], learning_rate: float
) -> Float[np.ndarray, "p p"]:
    r"""Solve :math:`S=(I-\eta H)S(I-\eta H)+\eta^2\Sigma`, the stationary covariance of GD + noise.

    ``covariance`` is that of the noise of one step, i.e. ``C / B``.
    """
    transition = np.eye(len(hessian)) - learning_rate * hessian
    return scipy.linalg.solve_discrete_lyapunov(transition, learning_rate**2 * covariance)


def plain_gaussian_sgd(
    problem: Problem,
    theta: PyTree,
    normals: Float[np.ndarray, "step n"],
    numbers: tuple[float, float],
) -> list[PyTree]:
    r"""Gaussian SGD the long way: gradient and dense noise matrix apart, no diffrax.

    ``numbers`` are learning rate and batch size; the result holds the iterate after every step.
    """
    learning_rate, batch_size = numbers
    flat, unravel = ravel_pytree(theta)
    iterates = []
    for xi in normals:
        gradients = dense_gradients(problem, unravel(flat))
        centred = gradients - gradients.mean(axis=0)
        noise = centred.T @ xi / np.sqrt(len(xi) * batch_size)
        flat = flat - learning_rate * jnp.asarray(gradients.mean(axis=0) - noise)
        iterates.append(unravel(flat))
    return iterates
