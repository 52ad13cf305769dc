"""Landscapes with several wells: minima, saddles, barriers and curvatures in closed form."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.problems._landscapes import AbstractLandscape, like


class AbstractWells(AbstractLandscape):
    """Wells with a saddle between them, and what the escape formulas ask for.

    The arrays have one entry for each of the known minima, in their order.
    """

    @property
    def saddle(self) -> Float[Array, " d"]:
        """The saddle, shape (d,)."""
        raise NotImplementedError

    @property
    def barrier(self) -> Float[Array, " minimum"]:
        """Risk at the saddle minus risk at each minimum, shape (minimum,)."""
        raise NotImplementedError

    @property
    def curvature_minimum(self) -> Float[Array, " minimum"]:
        """Second derivative along the escape direction at each minimum, shape (minimum,)."""
        raise NotImplementedError

    @property
    def curvature_saddle(self) -> Float[Array, ""]:
        """Second derivative along the escape direction at the saddle, negative."""
        raise NotImplementedError


class DoubleWell(AbstractWells):
    r"""Symmetric double well, in one or two dimensions.

    .. math:: V(x, y) = \frac h4 (x^2 - 1)^2 + \frac c2 y^2

    Minima at :math:`x = \pm1` with curvature 2h, saddle at the origin with curvature -h, barrier
    h/4.

    Parameters
    ----------
    height
        h > 0.
    transverse
        Curvature c > 0 of the second dimension; one dimension if left out.

    Notes
    -----
    Source: theory after Imaizumi & Schmidt-Hieber (explicit constants, this project), section 12.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import DoubleWell
    >>> well = DoubleWell(2.0)
    >>> float(well.risk(jnp.zeros(1))), well.barrier.tolist()
    (0.5, [0.5, 0.5])
    >>> well.project(jnp.array([0.3])).tolist()
    [1.0]
    """

    height: Number = 1.0
    transverse: Number | None = None

    def __check_init__(self):
        check_positive("height", self.height)
        if self.transverse is not None:
            check_positive("transverse", self.transverse)

    def risk(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (1,) or (2,)."""
        along = like(self.height, theta) / 4 * jnp.square(jnp.square(theta[0]) - 1)
        if self.transverse is None:
            return along
        return along + like(self.transverse, theta) / 2 * jnp.square(theta[1])

    @property
    def minima(self) -> Float[Array, "2 d"]:
        """Both minima, the left one first, shape (2, d)."""
        return jnp.zeros((2, self.saddle.size)).at[:, 0].set(jnp.array([-1.0, 1.0]))

    def project(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        """Nearer one of the minima."""
        return _nearest(self.minima, theta)

    @property
    def saddle(self) -> Float[Array, " d"]:
        """The origin."""
        return jnp.zeros(1 if self.transverse is None else 2)

    @property
    def barrier(self) -> Float[Array, " 2"]:
        """h/4 on both sides."""
        return jnp.broadcast_to(jnp.asarray(self.height, float) / 4, (2,))

    @property
    def curvature_minimum(self) -> Float[Array, " 2"]:
        """2h in both wells."""
        return jnp.broadcast_to(jnp.asarray(self.height, float) * 2, (2,))

    @property
    def curvature_saddle(self) -> Float[Array, ""]:
        """-h."""
        return -jnp.asarray(self.height, float)


class PeriodicWells(AbstractWells):
    r"""Equal wells on the whole line, one per period.

    .. math:: V(x) = A\,(1 - \cos(2\pi x/\ell))

    Minima at the multiples of the period, curvature :math:`A(2\pi/\ell)^2`, barrier 2A.

    Parameters
    ----------
    amplitude
        A > 0.
    period
        :math:`\ell > 0`.

    Notes
    -----
    Source: theory after Imaizumi & Schmidt-Hieber (explicit constants, this project), section 12.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import PeriodicWells
    >>> wells = PeriodicWells(amplitude=1.0, period=2.0)
    >>> float(wells.risk(jnp.array([1.0]))), wells.project(jnp.array([6.7])).tolist()
    (2.0, [6.0])
    """

    amplitude: Number
    period: Number

    def __check_init__(self):
        check_positive("amplitude", self.amplitude)
        check_positive("period", self.period)

    def risk(self, theta: Float[Array, " 1"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (1,)."""
        return ripple(theta[0], like(self.amplitude, theta), like(self.period, theta))

    @property
    def minima(self) -> Float[Array, "1 1"]:
        """The minimum at 0, shape (1, 1)."""
        return jnp.zeros((1, 1))

    def project(self, theta: Float[Array, " 1"]) -> Float[Array, " 1"]:
        """Nearest multiple of the period."""
        period = like(self.period, theta)
        return period * jnp.round(theta / period)

    @property
    def saddle(self) -> Float[Array, " 1"]:
        """The maximum at half a period."""
        return jnp.asarray(self.period, float)[None] / 2

    @property
    def barrier(self) -> Float[Array, " 1"]:
        """2A."""
        return 2 * jnp.asarray(self.amplitude, float)[None]

    @property
    def curvature_minimum(self) -> Float[Array, " 1"]:
        r""":math:`A(2\pi/\ell)^2`."""
        return -self.curvature_saddle[None]

    @property
    def curvature_saddle(self) -> Float[Array, ""]:
        r""":math:`-A(2\pi/\ell)^2`."""
        frequency = 2 * jnp.pi / jnp.asarray(self.period, float)
        return -jnp.asarray(self.amplitude, float) * jnp.square(frequency)


class TwoWells(AbstractWells):
    r"""A narrow and a wide well on the line, of equal or of given depths.

    .. math:: V(x) = h(1 - y^2)^2 + \frac\Delta4 (2 + 3y - y^3), \qquad
              x = \alpha y + \beta(\sqrt{1 + y^2} - 1)

    The quartic in y has minima at :math:`y = \mp1` with values 0 and :math:`\Delta` and a maximum
    at :math:`y_s = 3\Delta/(16h)`. The increasing change of variable stretches it by

    .. math:: \frac{dx}{dy} = \alpha + \frac{\beta y}{\sqrt{1 + y^2}}, \qquad
        \alpha = \frac{w_- + w_+}{2}, \qquad \beta = \frac{w_+ - w_-}{\sqrt2},

    that is by the widths :math:`w_-, w_+` at the minima, and leaves the values alone. Hence

    * minima at :math:`x_\mp = \mp\alpha + \beta(\sqrt2 - 1)`, with curvatures
      :math:`(8h \pm \tfrac32\Delta)/w_\mp^2` (upper signs: left well);
    * saddle at the image of :math:`y_s`, with curvature
      :math:`-4h(1 - y_s^2) / (dx/dy)^2`;
    * barriers :math:`V(y_s)` from the left and :math:`V(y_s) - \Delta` from the right; for
      :math:`\Delta = 0` both are h and the saddle is 0, with curvature
      :math:`-4h/\alpha^2`.

    V grows like the fourth power of x on both sides.

    Parameters
    ----------
    height
        Barrier h > 0 of equally deep wells.
    width_left, width_right
        :math:`w_-, w_+ > 0`; the ratio of the larger to the smaller one is below
        :math:`(\sqrt2 + 1)^2 = 5.83`, so that x is an increasing function of y.
    tilt
        :math:`\Delta`, value at the right minimum minus value at the left one;
        :math:`|\Delta| < 16h/3`, so that there are two wells.

    Raises
    ------
    ValueError
        A number is outside these limits.

    Examples
    --------
    >>> from sgdsim.problems import TwoWells
    >>> wells = TwoWells(height=0.25, width_left=0.5, width_right=1.0)
    >>> [round(float(x), 4) for x in wells.minima[:, 0]]
    [-0.6036, 0.8964]
    >>> wells.curvature_minimum.tolist(), wells.barrier.tolist()
    ([8.0, 2.0], [0.25, 0.25])
    """

    height: Number
    width_left: Number
    width_right: Number
    tilt: Number = 0.0

    def __check_init__(self):
        for name in ("height", "width_left", "width_right"):
            check_positive(name, getattr(self, name))
        widths = (self.width_left, self.width_right)
        if all(isinstance(w, int | float) for w in widths):
            ratio = float(max(widths) / min(widths))
            if ratio >= (1 + 2**0.5) ** 2:
                raise ValueError(
                    f"the widths must not differ by a factor of 5.83 or more, got {ratio:g}: the "
                    "stretched coordinate would turn back."
                )
        if all(isinstance(v, int | float) for v in (self.tilt, self.height)) and (
            abs(self.tilt) >= 16 * self.height / 3
        ):
            raise ValueError(
                f"|tilt| must be below 16/3 of the height, got {self.tilt!r} at height "
                f"{self.height!r}: one of the wells vanishes."
            )

    def risk(self, theta: Float[Array, " 1"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (1,)."""
        alpha, beta = (like(number, theta) for number in self._stretch())
        z = theta[0] + beta
        determinant = (alpha - beta) * (alpha + beta)
        y = (alpha * z - beta * jnp.sqrt(jnp.square(z) + determinant)) / determinant
        return self._value(y)

    @property
    def minima(self) -> Float[Array, "2 1"]:
        """Both minima, the left one first, shape (2, 1)."""
        return self._position(jnp.array([-1.0, 1.0]))[:, None]

    def project(self, theta: Float[Array, " 1"]) -> Float[Array, " 1"]:
        """Nearer one of the minima, whatever their depths."""
        return _nearest(self.minima, theta)

    @property
    def saddle(self) -> Float[Array, " 1"]:
        """The maximum between the wells."""
        return self._position(self._top())[None]

    @property
    def barrier(self) -> Float[Array, " 2"]:
        """Heights of the saddle above the left and above the right minimum."""
        return self._value(self._top()) - jnp.array([0.0, 1.0]) * jnp.asarray(self.tilt, float)

    @property
    def curvature_minimum(self) -> Float[Array, " 2"]:
        r""":math:`(8h \pm \tfrac32\Delta)/w_\mp^2`."""
        sign = jnp.array([1.0, -1.0])
        widths = jnp.stack([jnp.asarray(w, float) for w in (self.width_left, self.width_right)])
        return (8 * self.height + 1.5 * sign * jnp.asarray(self.tilt, float)) / jnp.square(widths)

    @property
    def curvature_saddle(self) -> Float[Array, ""]:
        r""":math:`-4h(1 - y_s^2)/(dx/dy)^2`."""
        top = self._top()
        alpha, beta = self._stretch()
        slope = alpha + beta * top / jnp.sqrt(1 + jnp.square(top))
        return -4 * self.height * (1 - jnp.square(top)) / jnp.square(slope)

    def _value(self, y: Array) -> Array:
        well = like(self.height, y) * jnp.square(1 - jnp.square(y))
        return well + like(self.tilt, y) / 4 * (2 + 3 * y - y**3)

    def _position(self, y: Array) -> Array:
        alpha, beta = self._stretch()
        return alpha * y + beta * (jnp.sqrt(1 + jnp.square(y)) - 1)

    def _stretch(self) -> tuple[Array, Array]:
        left, right = jnp.asarray(self.width_left, float), jnp.asarray(self.width_right, float)
        return (left + right) / 2, (right - left) / 2**0.5

    def _top(self) -> Array:
        return 3 / 16 * jnp.asarray(self.tilt, float) / self.height


def ripple(x: Array, amplitude: Array, period: Array) -> Array:
    r""":math:`A(1 - \cos(2\pi x/\ell))`, without cancellation near the minima."""
    return 2 * amplitude * jnp.square(jnp.sin(jnp.pi * x / period))


def _nearest(minima: Array, theta: Array) -> Array:
    candidates = like(minima, theta)
    squares = jax.vmap(lambda m: jnp.sum(jnp.square(m - theta)))(candidates)
    return candidates[jnp.argmin(squares)]
