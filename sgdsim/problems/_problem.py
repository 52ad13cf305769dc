"""A problem is what SGD minimises: per-sample losses over a fixed set of rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._typing import Number


@dataclasses.dataclass(frozen=True)
class OutputLoss:
    r"""Per-sample losses that go through the outputs of a model, :math:`\ell(f(\theta,z),z)`.

    Noise models that live in output space (label noise, Hessian-aligned noise) need to see the
    outputs; they ask for a problem whose ``losses`` is of this kind.

    Parameters
    ----------
    outputs
        ``outputs(theta, data) -> (n, k)``.
    loss
        ``loss(outputs, data) -> (n,)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import OutputLoss, Problem
    >>> losses = OutputLoss(
    ...     outputs=lambda theta, rows: (rows[0] @ theta)[:, None],
    ...     loss=lambda outputs, rows: 0.5 * (outputs[:, 0] - rows[1]) ** 2,
    ... )
    >>> problem = Problem(losses, (jnp.eye(2), jnp.array([1.0, 3.0])))
    >>> float(problem.empirical_risk(jnp.zeros(2)))
    2.5
    """

    outputs: Callable[..., Array]
    loss: Callable[..., Array]

    def __call__(self, theta: PyTree, data: PyTree) -> Float[Array, " n"]:
        """Loss of every row."""
        return self.loss(self.outputs(theta, data), data)


class Problem(eqx.Module):
    r"""Empirical risk of per-sample losses, with an optional ridge penalty.

    .. math:: L_n(\theta) = \frac1n \sum_{i=1}^n \ell(\theta, z_i) + \frac{r}{2}\|\theta\|^2

    The rows ``data`` and the penalty ``ridge`` are traced arguments of every compiled
    function that receives the problem, never constants baked into it.

    Parameters
    ----------
    losses
        ``losses(theta, data) -> (n,)``, the loss of every row, without the penalty.
    data
        Pytree of arrays whose leading axis has the length ``n``.
    ridge
        Penalty coefficient ``r >= 0``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> rows = jnp.array([1.0, 2.0, 3.0])
    >>> mean_estimation = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, rows)
    >>> float(mean_estimation.empirical_risk(jnp.array(2.0)))
    0.3333333432674408
    """

    losses: Callable[..., Array] = eqx.field(static=True)
    data: PyTree
    ridge: Number = 0.0

    @classmethod
    def from_mean_loss(
        cls, loss: Callable[[PyTree, PyTree], Array], data: PyTree, ridge: Number = 0.0
    ) -> "Problem":
        """Make a problem of the usual ``loss(theta, batch)``, a mean over the rows of the batch.

        Parameters
        ----------
        loss
            ``loss(theta, batch) -> ()``; any function whose value on a batch is the mean of its
            values on the rows, so no batch normalisation.
        data
            Pytree of arrays with a leading axis of length ``n``.
        ridge
            Penalty coefficient ``r >= 0``.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> from sgdsim import Problem
        >>> def loss(theta, batch):
        ...     inputs, targets = batch
        ...     return jnp.mean((inputs @ theta["w"] - targets) ** 2)
        >>> problem = Problem.from_mean_loss(loss, (jnp.eye(2), jnp.array([1.0, 3.0])))
        >>> float(problem.empirical_risk({"w": jnp.zeros(2)}))
        5.0
        """
        return cls(_RowByRow(loss), data, ridge)

    @property
    def n(self) -> int:
        """Number of rows."""
        return jax.tree.leaves(self.data)[0].shape[0]

    def per_sample_losses(self, theta: PyTree) -> Float[Array, " n"]:
        """Loss of every row; each carries the whole penalty, so that their mean is the risk."""
        losses = self.losses(theta, self.data)
        return losses + 0.5 * jnp.asarray(self.ridge, losses.dtype) * squared_norm(theta)

    def empirical_risk(self, theta: PyTree) -> Float[Array, ""]:
        """Penalised empirical risk at ``theta``."""
        return jnp.mean(self.per_sample_losses(theta))

    def take(self, rows: Int[Array, " batch"]) -> "Problem":
        """Give the same problem on a subset of the rows (a minibatch)."""
        return Problem(self.losses, jax.tree.map(lambda a: a[rows], self.data), self.ridge)

    def single(self, row: PyTree) -> "Problem":
        """Give the same problem on one row, whose arrays have no leading axis."""
        return Problem(self.losses, jax.tree.map(lambda a: a[None], row), self.ridge)

    def astype(self, dtype: Any) -> "Problem":
        """Give the same problem with floating-point data in another precision."""
        return Problem(self.losses, cast(self.data, dtype), jnp.asarray(self.ridge, dtype))


@dataclasses.dataclass(frozen=True)
class _RowByRow:
    """Per-sample losses from a mean loss: a batch of one row after another, mapped."""

    loss: Callable[[PyTree, PyTree], Array]

    def __call__(self, theta: PyTree, data: PyTree) -> Float[Array, " n"]:
        def of_row(row: PyTree) -> Array:
            return self.loss(theta, jax.tree.map(lambda a: a[None], row))

        return jax.vmap(of_row)(data)


def squared_norm(theta: PyTree) -> Float[Array, ""]:
    """Squared Euclidean norm over all leaves of a pytree."""
    # sum() starts at the weakly typed 0, which keeps the dtype of the leaves under x64.
    return jnp.asarray(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(theta)))


def inner(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Euclidean inner product over all leaves of two pytrees of one structure."""
    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))))


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """Convert the floating-point leaves of a pytree to ``dtype`` and leave the others."""

    def convert(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, tree)
