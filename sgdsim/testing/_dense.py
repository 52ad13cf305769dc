"""Slow and obvious: dense matrices that the library never forms, as oracles for its tests."""

import itertools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim.problems import OutputLoss, Problem


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


def dense_batch_covariance(
    problem: Problem, theta: PyTree, batch_size: int, replacement: bool
) -> Float[np.ndarray, "p p"]:
    """Covariance of the gradient of a batch, by going through all batches of that size."""
    gradients = dense_gradients(problem, theta)
    rows = range(len(gradients))
    if replacement:
        batches = itertools.product(rows, repeat=batch_size)
    else:
        batches = itertools.combinations(rows, batch_size)
    means = np.array([gradients[list(batch)].mean(axis=0) for batch in batches])
    return np.cov(means.T, bias=True)


def dense_low_rank(covariance: Float[np.ndarray, "p p"], rank: int) -> Float[np.ndarray, "p p"]:
    """Top eigenpairs of a covariance; the other eigenvalues replaced by their mean."""
    values, vectors = np.linalg.eigh(covariance)
    values[:-rank] = values[:-rank].mean()
    return vectors @ np.diag(values) @ vectors.T


def dense_hessian_aligned(
    problem: Problem, theta: PyTree, batch_size: float, form: Literal["mse", "cross_entropy"]
) -> Float[np.ndarray, "p p"]:
    r"""Gauss-Newton matrix :math:`\frac1n\sum_i J_i^\top(\partial_f^2\ell_i)J_i`, scaled.

    The second derivatives in the outputs are taken from the loss itself. The scale is ``1 / B``
    for cross-entropy and :math:`2L_n/(kB)` for half squared errors.
    """
    jacobian, outer = _output_derivatives(problem, theta)
    newton = np.einsum("ncp,ncd,ndq->pq", jacobian, outer, jacobian) / len(outer)
    if form == "cross_entropy":
        return newton / batch_size
    risk = float(jnp.mean(problem.losses(theta, problem.data)))
    return 2 * risk / (outer.shape[1] * batch_size) * newton


def dense_label_noise(
    relabelled: Callable[[Array], Problem], labels: Array, theta: PyTree, batch_size: float
) -> Float[np.ndarray, "p p"]:
    r"""Covariance of the gradient when labels get unit normal noise, from mixed derivatives.

    With :math:`D=\partial_y\nabla\ell` of one row it is the mean of :math:`DD^\top/B` over rows.
    ``relabelled`` makes the problem with other labels, an array with one row per row.
    """
    flat, unravel = ravel_pytree(theta)

    def gradients(labels: Array) -> Array:
        losses = lambda v: relabelled(labels).per_sample_losses(unravel(v))  # noqa: E731
        return jnp.sum(jax.jacrev(losses)(flat), axis=0)

    # A row's label moves that row's gradient only, so the derivative of the sum is enough.
    mixed = np.asarray(jax.jit(jax.jacfwd(gradients))(labels))
    return np.einsum("pnc,qnc->pq", mixed, mixed) / (len(labels) * batch_size)


def dense_root(
    root: Callable[[PyTree, PyTree], PyTree], theta: PyTree, normals: PyTree
) -> Float[np.ndarray, "p m"]:
    """Matrix of ``root(theta, .)``, which is linear in the normals, at ``theta``."""
    zero, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, normals))

    def column(unit: Array) -> Array:
        return ravel_pytree(root(theta, unravel(unit)))[0]

    return np.asarray(jax.jit(jax.vmap(column))(jnp.eye(zero.size, dtype=zero.dtype))).T


def dense_ito_correction(
    root: Callable[[PyTree, PyTree], PyTree],
    theta: PyTree,
    normals: PyTree,
    learning_rate: float,
) -> Float[np.ndarray, " p"]:
    r"""Sum :math:`\frac12\sum_k(D\sigma_k)\sigma_k` over the columns of the diffusion matrix.

    ``root(theta, normals)`` is linear in the normals; its matrix times
    :math:`\sqrt\eta` is the diffusion matrix.
    """
    flat, unravel_theta = ravel_pytree(theta)
    zero, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, normals))

    def matrix(v: Array) -> Array:
        noise = lambda xi: ravel_pytree(root(unravel_theta(v), unravel(xi)))[0]  # noqa: E731
        return jax.jacfwd(noise)(zero)

    columns, changes = jax.jit(lambda v: (matrix(v), jax.jacrev(matrix)(v)))(flat)
    return 0.5 * learning_rate * np.einsum("pkq,qk->p", np.asarray(changes), np.asarray(columns))


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


def _output_derivatives(problem: Problem, theta: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Jacobians of the outputs, shape (n, k, p), and Hessians of the losses in them, (n, k, k)."""
    loss = problem.losses
    assert isinstance(loss, OutputLoss)
    flat, unravel = ravel_pytree(theta)

    def of_loss(outputs: Array) -> Array:
        return jnp.sum(loss.loss(outputs, problem.data))

    @jax.jit
    def derivatives(v: Array) -> tuple[Array, Array]:
        jacobian = jax.jacrev(lambda v: loss.outputs(unravel(v), problem.data))(v)
        full = jax.hessian(of_loss)(loss.outputs(unravel(v), problem.data))
        return jacobian, jnp.einsum("ncnd->ncd", full)

    jacobian, outer = derivatives(flat)
    return np.asarray(jacobian), np.asarray(outer)


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
