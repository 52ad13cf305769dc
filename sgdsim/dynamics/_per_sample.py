"""Sums over rows of what one row's gradient gives, never with all gradients in memory at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim.problems import Problem, squared_norm

_BLOCK_NUMBERS = 2**18


def per_sample_square_norms(
    problem: Problem, theta: PyTree, block: int | None = None
) -> Float[Array, " n"]:
    r"""Squared norms :math:`\|g_i\|^2` of the per-sample gradients, ``block`` rows at a time.

    Without ``block`` as many rows as keep a block of gradients below a quarter million numbers.
    """
    block = block or block_of_rows(theta)

    # Rematerialised, so that differentiating the norms keeps no per-sample gradient.
    @jax.checkpoint
    def of_row(row: PyTree) -> Float[Array, ""]:
        return squared_norm(jax.grad(problem.single(row).empirical_risk)(theta))

    return jax.lax.map(of_row, problem.data, batch_size=block)


def per_sample_scatter(problem: Problem, theta: PyTree) -> Float[Array, ""]:
    r"""Mean squared deviation :math:`\frac1n\sum_i\|g_i-\bar g\|^2` of the per-sample gradients.

    Deviations are squared, not subtracted squares: where the gradient is large beside its noise
    those would cancel.
    """
    centre = jax.grad(problem.empirical_risk)(theta)

    def of_row(row: PyTree) -> Float[Array, ""]:
        gradient = jax.grad(problem.single(row).empirical_risk)(theta)
        return squared_norm(jax.tree.map(jnp.subtract, gradient, centre))

    return sum_over_rows(of_row, problem.data, block_of_rows(theta)) / problem.n


def per_sample_variances(problem: Problem, theta: PyTree) -> PyTree:
    r"""Variance of every coordinate, :math:`\frac1n\sum_i (g_i-\bar g)^2` elementwise."""
    centre = jax.grad(problem.empirical_risk)(theta)

    def squares(row: PyTree) -> PyTree:
        gradient = jax.grad(problem.single(row).empirical_risk)(theta)
        return jax.tree.map(lambda g, c: jnp.square(g - c), gradient, centre)

    total = sum_over_rows(squares, problem.data, block_of_rows(theta))
    return jax.tree.map(lambda a: a / problem.n, total)


def sum_over_rows(function: Callable[[PyTree], PyTree], data: PyTree, block: int) -> PyTree:
    """Sum of a function of one row, mapped over ``block`` rows at a time."""
    n = jax.tree.leaves(data)[0].shape[0]
    block = min(block, n)
    whole = n // block * block

    # Rematerialised for the same reason as above.
    @jax.checkpoint
    def of_block(rows: PyTree) -> PyTree:
        return jax.tree.map(lambda a: jnp.sum(a, axis=0), jax.vmap(function)(rows))

    def add(total: PyTree, rows: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, of_block(rows)), None

    blocks = jax.tree.map(lambda a: a[:whole].reshape(whole // block, block, *a.shape[1:]), data)
    first, others = jax.tree.map(lambda a: a[0], blocks), jax.tree.map(lambda a: a[1:], blocks)
    total, _ = jax.lax.scan(add, of_block(first), others)
    if whole == n:
        return total
    return jax.tree.map(jnp.add, total, of_block(jax.tree.map(lambda a: a[whole:], data)))


def block_of_rows(theta: PyTree, gradients_per_row: int = 1) -> int:
    """Rows whose gradients together stay below a quarter million numbers."""
    size = gradients_per_row * sum(leaf.size for leaf in jax.tree.leaves(theta))
    return max(1, min(125, _BLOCK_NUMBERS // size))
