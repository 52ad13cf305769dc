"""Stagnation sets of plain shape: ball, tube around a set of minima, half-space."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import AbstractLandscape, squared_norm


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
        return squared_norm(offset(theta, self.centre))


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


class Tube(AbstractRegion):
    r"""Tube :math:`\{\theta: d(\theta) \le \delta\}` around the known minima of a landscape.

    .. math:: d(\theta) = \min_{p \in M} \|\theta - p\|

    Parameters
    ----------
    landscape
        Landscape whose ``project`` gives the nearest point of its set of minima M.
    radius
        :math:`\delta > 0`, in the Euclidean norm of all parameters.

    Notes
    -----
    Motion along M is free. All components of M count: a trajectory that goes from one to another
    through the tube alone has not left it (`Union` tells basins apart).

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 1, :math:`U_\delta(M)`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Sphere
    >>> from sgdsim.stagnation import Tube
    >>> around_the_ring = Tube(Sphere(1.0), radius=0.5)
    >>> float(around_the_ring.squared_distance(jnp.array([0.0, 3.0])))
    4.0
    """

    landscape: AbstractLandscape
    radius: Number

    def __check_init__(self):
        check_positive("radius", self.radius)

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared Euclidean distance from the set of minima."""
        return squared_norm(offset(theta, self.landscape.project(theta)))


class AffineTube(AbstractRegion):
    r"""Tube around an affine set of minima, given by a point and one of its two spaces.

    .. math:: d(\theta) = \|N (\theta - \theta^*)\| = \|(I - T^\top T)(\theta - \theta^*)\|

    with orthonormal rows: those of N span the normal space, those of T the tangent space.

    Parameters
    ----------
    centre
        A minimum :math:`\theta^*`.
    radius
        :math:`\delta > 0`, in the Euclidean norm of all parameters.
    normal
        N, shape (r, p): eigenvectors of the Hessian with positive eigenvalue, flattened. Give
        exactly one of ``normal`` and ``tangent``, the one with fewer rows.
    tangent
        T, shape (r, p): a basis of the null space of the Hessian, flattened.

    Raises
    ------
    ValueError
        Neither or both bases are given, the rows are not orthonormal, or the radius is not
        positive.

    Notes
    -----
    Exact for quadratic risks. For other risks the Hessian null space is the tangent space of the
    minima at :math:`\theta^*` alone, and the tube follows the minima to first order.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.stagnation import AffineTube
    >>> valley = AffineTube(jnp.zeros(3), radius=1.0, tangent=jnp.array([[0.0, 0.0, 1.0]]))
    >>> float(valley.squared_distance(jnp.array([1.0, 2.0, 30.0])))
    5.0
    """

    centre: PyTree
    radius: Number
    normal: Float[Array, "direction p"] | None = None
    tangent: Float[Array, "direction p"] | None = None

    def __check_init__(self):
        check_positive("radius", self.radius)
        if (self.normal is None) == (self.tangent is None):
            raise ValueError(
                "give exactly one of normal and tangent: one space determines the other; the one "
                "with fewer rows is cheaper."
            )
        for name in ("normal", "tangent"):
            check_orthonormal(name, getattr(self, name))

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared Euclidean distance from the affine set."""
        u = ravel_pytree(offset(theta, self.centre))[0]
        if self.normal is not None:
            # Divergence shows also outside the normal space: 0 * inf is nan.
            return jnp.sum(jnp.square(jnp.asarray(self.normal, u.dtype) @ u))
        tangent = jnp.asarray(self.tangent, u.dtype)
        # The rest as a vector, not ||u||^2 - ||Tu||^2, which cancels far out in the valley.
        return jnp.sum(jnp.square(u - (tangent @ u) @ tangent))


def offset(theta: PyTree, centre: PyTree) -> PyTree:
    """Give ``theta - centre`` in the precision of ``theta``."""
    return jax.tree.map(lambda a, b: a - jnp.asarray(b, a.dtype), theta, centre)


def check_orthonormal(name: str, rows: Any) -> None:
    """Refuse rows that are not orthonormal to half of the digits."""
    if rows is None or isinstance(rows, jax.core.Tracer):
        return
    gram = np.asarray(rows @ rows.T, dtype=np.float64)
    error = float(np.max(np.abs(gram - np.eye(len(gram))), initial=0.0))
    if not error <= np.sqrt(np.finfo(rows.dtype).eps):
        raise ValueError(
            f"the rows of {name} must be orthonormal, but their inner products are off by "
            f"{error:.1e}: distances would be distorted; orthonormalise them (numpy.linalg.qr)."
        )
