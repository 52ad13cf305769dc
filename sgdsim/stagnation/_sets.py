"""Stagnation sets: the regions around minima whose exits are counted."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._typing import Number
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import squared_norm


class Ball(AbstractRegion):
    r"""Ball :math:`\{\theta: \|\theta-\theta^*\| \le \delta\}` around an isolated minimum.

    Parameters
    ----------
    centre
        The minimum.
    radius
        ``delta``, in the Euclidean norm of all parameters.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Ball
    >>> ball = Ball(centre=jnp.zeros(2), radius=1.0)
    >>> round(float(ball.squared_distance(jnp.array([0.6, 0.8]))), 6)
    1.0
    """

    centre: PyTree
    radius: Number

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared Euclidean distance from the centre."""
        return squared_norm(jax.tree.map(lambda a, b: a - b, theta, self.centre))


class Below(AbstractRegion):
    r"""Half-space :math:`\{\theta: \theta_j \le a\}` that a trajectory leaves at a level.

    Parameters
    ----------
    coordinate
        Number ``j`` of the coordinate in the flattened parameters.
    level
        ``a``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.stagnation import Below
    >>> float(Below(0, 1.0).squared_distance(jnp.array([1.5, 0.0])))
    0.25
    """

    coordinate: int = eqx.field(static=True)
    level: Number
    radius: Number = 0.0

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared distance from the half-space, zero inside."""
        position = ravel_pytree(theta)[0][self.coordinate]
        over = position - jnp.asarray(self.level, position.dtype)
        return jnp.square(jnp.maximum(over, 0))
