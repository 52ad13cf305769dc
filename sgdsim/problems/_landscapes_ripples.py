"""A bowl with ripples: many local minima on a small scale, all of them known."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.problems._landscapes import AbstractLandscape, bisect, like
from sgdsim.problems._landscapes_wells import ripple


class Ripples(AbstractLandscape):
    r"""Quadratic bowl with small-scale ripples, which make local minima.

    .. math:: L(\theta) = \sum_i \tfrac k2\theta_i^2
                          + A\,(1 - \cos(2\pi\theta_i/\ell))

    With :math:`\kappa = k\ell^2/(4\pi^2A)`: the origin is the only minimum for
    :math:`\kappa \ge 1`. For smaller :math:`\kappa` every coordinate also has one local minimum
    near each :math:`m\ell`, up to the ``outermost_cell``

    .. math:: |m| \le \frac{\sqrt{1 - \kappa^2} + \kappa\arccos(-\kappa)}{2\pi\kappa},

    at :math:`|m|\ell + u\ell/2\pi` with the root u of :math:`\kappa(u + 2\pi|m|) + \sin u = 0`
    between :math:`-\arccos(-\kappa)` and 0, where the left side increases.

    Parameters
    ----------
    curvature
        k > 0 of the bowl.
    amplitude
        A > 0 of the ripples.
    period
        :math:`\ell > 0`.
    dimension
        Number of parameters.

    Notes
    -----
    The set of minima of this class is that of all local minima.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Ripples
    >>> bowl = Ripples(curvature=1.0, amplitude=0.01, period=0.2)
    >>> int(bowl.outermost_cell), round(float(bowl.project(jnp.array([0.38]))[0]), 4)
    (1, 0.1805)
    """

    curvature: Number
    amplitude: Number
    period: Number
    dimension: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        for name in ("curvature", "amplitude", "period"):
            check_positive(name, getattr(self, name))

    def risk(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (d,)."""
        bowl = like(self.curvature, theta) / 2 * jnp.square(theta)
        return jnp.sum(bowl + ripple(theta, like(self.amplitude, theta), like(self.period, theta)))

    @property
    def minima(self) -> Float[Array, "1 d"]:
        """The lowest minimum, the origin, shape (1, d)."""
        return jnp.zeros((1, self.dimension))

    @property
    def outermost_cell(self) -> Float[Array, ""]:
        """Largest m with a local minimum; every coordinate has 2m + 1 of them."""
        return self._outermost(jnp.minimum(self._flatness(jnp.zeros(())), 1))

    def project(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        """Nearest local minimum, shape (d,)."""
        period = like(self.period, theta)
        # At kappa = 1, and so beyond, the bracket of the only cell shrinks to the origin's own.
        kappa = jnp.minimum(self._flatness(theta), 1)
        last = self._outermost(kappa)
        # A minimum lies less than half a period inwards of its multiple, so the nearest one is
        # among those of three cells.
        cell = jnp.round(theta / period)[None] + like([-1, 0, 1], theta)[:, None]
        cell = jnp.clip(cell, -last, last)
        inward = _offset(kappa, jnp.abs(cell)) / (2 * jnp.pi)
        candidates = jnp.sign(cell) * period * (jnp.abs(cell) + inward)
        best = jnp.argmin(jnp.abs(candidates - theta[None]), axis=0)
        return jnp.take_along_axis(candidates, best[None], axis=0)[0]

    def _flatness(self, theta: Array) -> Array:
        """Give kappa, the curvature of the bowl over the largest one of the ripples."""
        frequency = 2 * jnp.pi / like(self.period, theta)
        return like(self.curvature, theta) / (like(self.amplitude, theta) * frequency**2)

    def _outermost(self, kappa: Array) -> Array:
        reach = jnp.sqrt((1 - kappa) * (1 + kappa)) + kappa * jnp.arccos(-kappa)
        return jnp.floor(reach / (2 * jnp.pi * kappa))


@jax.jit
def _offset(kappa: Array, cell: Array) -> Array:
    """Root u of kappa (u + 2 pi m) + sin u = 0 where the left side increases, for each cell m."""
    low = jnp.broadcast_to(-jnp.arccos(-kappa), cell.shape)
    root = bisect(lambda u: kappa * (u + 2 * jnp.pi * cell) + jnp.sin(u), low, jnp.zeros_like(low))
    return jnp.where(cell > 0, root, 0)
