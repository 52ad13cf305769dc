"""Euclidean projections onto convex sets, and a stepper that stays inside one."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_positive, known_number
from sgdsim._typing import Number
from sgdsim.dynamics._modifiers import AbstractModifier, refuse_schedule_inside
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.problems import squared_norm


class AbstractProjection(eqx.Module):
    """The nearest point of a convex set; concrete classes are final.

    Points of the set are returned as they are, without rounding.
    """

    def __call__(self, theta: PyTree) -> PyTree:
        """Nearest point of the set in the Euclidean (Frobenius) norm of all leaves together."""
        raise NotImplementedError


class BallProjection(AbstractProjection):
    r"""Onto the ball :math:`\|\theta-c\|\le r`, norm over all leaves.

    .. math:: \theta \mapsto c + \min(1, r/\|\theta-c\|)\,(\theta-c)

    Parameters
    ----------
    centre
        ``c``, shaped like ``theta``.
    radius
        ``r``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import BallProjection
    >>> BallProjection(centre=jnp.zeros(2), radius=1.0)(jnp.array([0.0, 4.0])).tolist()
    [0.0, 1.0]
    """

    centre: PyTree
    radius: Number

    def __check_init__(self):
        check_positive("radius", self.radius)

    def __call__(self, theta):
        """Pull back along the radius."""
        offset = jax.tree.map(lambda a, c: a - jnp.asarray(c, a.dtype), theta, self.centre)
        norm = jnp.sqrt(squared_norm(offset))
        radius = jnp.asarray(self.radius, norm.dtype)
        excess = 1 - radius / jnp.maximum(norm, radius)
        return jax.tree.map(lambda a, o: a - excess * o, theta, offset)


class BoxProjection(AbstractProjection):
    """Onto the box ``low <= theta <= high``, every coordinate by itself.

    Parameters
    ----------
    low, high
        Bounds of all coordinates.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import BoxProjection
    >>> BoxProjection(-1.0, 1.0)(jnp.array([0.5, 4.0])).tolist()
    [0.5, 1.0]
    """

    low: Number
    high: Number

    def __check_init__(self):
        low, high = known_number(self.low), known_number(self.high)
        if low is not None and high is not None and not low < high:
            raise ValueError(f"a box needs low < high, got low={self.low!r}, high={self.high!r}.")

    def __call__(self, theta):
        """Clip."""
        return jax.tree.map(
            lambda a: jnp.clip(a, jnp.asarray(self.low, a.dtype), jnp.asarray(self.high, a.dtype)),
            theta,
        )


class SpectralProjection(AbstractProjection):
    r"""Onto weight matrices with spectral norm :math:`\|W\|_2\le s`, layer by layer.

    .. math:: W = U\,\mathrm{diag}(\sigma)\,V^\top \mapsto U\,\mathrm{diag}(\min(\sigma,s))\,V^\top

    The nearest such matrix in Frobenius norm. Leaves that are not matrices are left alone.

    Parameters
    ----------
    bound
        ``s``, the same for every matrix.

    Notes
    -----
    One singular value decomposition per matrix and step, which costs far more than a gradient on
    a small batch.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import SpectralProjection
    >>> SpectralProjection(2.0)(jnp.diag(jnp.array([3.0, 1.0]))).diagonal().tolist()
    [2.0, 1.0]
    """

    bound: Number

    def __check_init__(self):
        check_positive("bound", self.bound)

    def __call__(self, theta):
        """Clip the singular values of every matrix."""
        return jax.tree.map(lambda a: self._clip(a) if a.ndim == 2 else a, theta)

    def _clip(self, matrix: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
        left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
        excess = jnp.maximum(values - jnp.asarray(self.bound, matrix.dtype), 0)
        return matrix - left @ (excess[:, None] * right)


class Projected(AbstractModifier):
    r"""A stepper confined to a convex set, :math:`\theta' = P(\mathrm{step}(\theta))`.

    Parameters
    ----------
    stepper
        What moves; momentum is not projected. A :class:`Scheduled` goes outside, not inside.
    projection
        Projection ``P``.

    Examples
    --------
    >>> from sgdsim import minibatch_sgd
    >>> from sgdsim.dynamics import BoxProjection, Projected
    >>> Projected(minibatch_sgd(0.1, 8), BoxProjection(-1.0, 1.0)).learning_rate
    0.1
    """

    stepper: AbstractStepper
    projection: AbstractProjection

    def __check_init__(self):
        refuse_schedule_inside(self)

    def step(self, problem, iterate, randomness):
        """Take the step inside and project."""
        moved, risk = self.stepper.step(problem, iterate, randomness)
        return Iterate(self.projection(moved.theta), moved.memory), risk
