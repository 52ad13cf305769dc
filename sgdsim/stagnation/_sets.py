"""Stagnation sets: the regions around minima whose exits are counted."""

import jax
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
