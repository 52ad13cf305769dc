r"""Exact exit of the Ornstein-Uhlenbeck process from a ball and over a level.

Ito, :math:`dX = -kX\,dt + \sigma\,dW` in :math:`\mathbb R^m`; the unit of time is
:math:`t = \eta \cdot \text{steps}`. With :math:`w = |x|^2/\sigma^2` the eigenfunction that is 1 at
the origin is Kummer's :math:`M(-\lambda/2k, m/2, kw)`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy import integrate, special

from sgdsim._checks import check_not_negative, check_positive
from sgdsim.stagnation import _kummer as kummer
from sgdsim.stagnation._escape import exp_or_inf
from sgdsim.stagnation._passage import _OVERSHOOT

#: Shares below exp(-40) of an integral are left to the coarser part of its quadrature.
_NEGLIGIBLE = 40.0


@dataclasses.dataclass(frozen=True)
class OrnsteinUhlenbeckExit:
    r"""Exit of an Ornstein-Uhlenbeck process from a ball around its rest point: the exact law.

    .. math:: dX = -kX\,dt + \sigma\,dW, \qquad \tau = \inf\{t : |X_t| > R\}

    Ito; all times in units of :math:`t = \eta \cdot \text{steps}`, all rates per such unit.

    Parameters
    ----------
    rate
        :math:`k \ge 0`; zero is Brownian motion.
    noise_scale
        :math:`\sigma > 0`. SGD near a minimum of curvature h with gradient noise of variance s per
        coordinate has k = h and :math:`\sigma^2 = \eta s`.
    dimension
        m >= 1; the rank of the Hessian where there is a valley of minima.
    radius
        R > 0.
    monitoring_step
        Time :math:`\Delta \ge 0` between two looks at the process, zero for a look at all times.

    Raises
    ------
    ValueError
        A number is outside its limits.

    Notes
    -----
    With a monitoring step the ball is larger by :math:`0.5826\,\sigma\sqrt\Delta`, the mean
    overshoot of a walk that is seen between steps only. With the process of `of_chain` the exit
    rate of the chain is met up to an observed order :math:`\Delta^{3/2}` (within 2 % for
    :math:`\eta h = 0.16`, 1e-3 for 0.02), with k = h and :math:`\sigma^2 = \eta s` only up to
    :math:`\Delta`.
    Source: classical (Kummer's equation); overshoot, Broadie, Glasserman & Kou (1997).

    Examples
    --------
    >>> from sgdsim.stagnation import OrnsteinUhlenbeckExit
    >>> ball = OrnsteinUhlenbeckExit(rate=1.3, noise_scale=0.7, dimension=2, radius=1.2)
    >>> round(ball.mean_time(start=0.4), 6)
    5.748064
    >>> ball.survival(0.4, [0.5, 5.0]).round(4).tolist()
    [0.9592, 0.4223]
    """

    rate: SupportsFloat
    noise_scale: SupportsFloat
    dimension: int
    radius: SupportsFloat
    monitoring_step: SupportsFloat = 0.0

    def __post_init__(self) -> None:
        for name in ("rate", "monitoring_step"):
            check_not_negative(name, float(getattr(self, name)))
        check_positive("noise_scale", float(self.noise_scale))
        check_positive("radius", float(self.radius))
        if self.dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {self.dimension}.")

    @classmethod
    def of_chain(
        cls,
        learning_rate: SupportsFloat,
        curvature: SupportsFloat,
        noise_variance: SupportsFloat,
        dimension: int,
        radius: SupportsFloat,
    ) -> "OrnsteinUhlenbeckExit":
        r"""Process whose values at :math:`t = \eta, 2\eta, \dots` are the chain, looked at then.

        .. math:: \theta' = (1 - \eta h)\theta + \eta\sqrt s\,g: \qquad
                  k = -\frac{\log(1 - \eta h)}{\eta}, \qquad
                  \sigma^2 = \eta s\,\frac{2k\eta}{1 - e^{-2k\eta}}

        Parameters
        ----------
        learning_rate, curvature, noise_variance
            :math:`\eta`, h with :math:`0 \le \eta h < 1`, and s.
        dimension, radius
            As for the class.

        Returns
        -------
        OrnsteinUhlenbeckExit
            The process with ``monitoring_step`` :math:`\eta`.

        Raises
        ------
        ValueError
            :math:`\eta h` is not in [0, 1), where a chain is no process in continuous time.
        """
        eta, coarseness = float(learning_rate), float(learning_rate) * float(curvature)
        check_positive("learning_rate", eta)
        check_positive("noise_variance", float(noise_variance))
        if not 0 <= coarseness < 1:
            raise ValueError(
                f"learning_rate times curvature must be in [0, 1), got {coarseness:g}: a chain "
                "that jumps over its minimum is no process in continuous time; use the exact "
                "kernel, exact_stay_probability."
            )
        decay = -math.log1p(-coarseness)
        stretch = 2 * decay / -math.expm1(-2 * decay) if decay else 1.0
        scale = math.sqrt(eta * float(noise_variance) * stretch)
        return cls(decay / eta, scale, dimension, radius, eta)

    @property
    def effective_radius(self) -> float:
        r""":math:`R + 0.5826\,\sigma\sqrt\Delta`, the radius that is left at all times."""
        between = math.sqrt(float(self.monitoring_step))
        return float(self.radius) + _OVERSHOOT * float(self.noise_scale) * between

    def mean_time(self, start: SupportsFloat = 0.0) -> float:
        r"""Mean exit time.

        .. math:: E\tau = \frac1m \int_{r^2/\sigma^2}^{R^2/\sigma^2}
                  M\!\left(1, \tfrac m2 + 1, kw\right) dw
                  = \frac2{\sigma^2} \int_r^R \rho^{1-m} e^{k\rho^2/\sigma^2}
                  \int_0^\rho y^{m-1} e^{-ky^2/\sigma^2}\,dy\,d\rho

        Parameters
        ----------
        start
            Distance r from the rest point, at most R.

        Returns
        -------
        float
            The time, inf where it overflows; :math:`(R^2 - r^2)/(m\sigma^2)` for k = 0.

        Raises
        ------
        ValueError
            The start is not in the ball.
        """
        rate, half = float(self.rate), self.dimension / 2
        low, high = (self._squared(x) for x in (self._checked(start), self.effective_radius))
        if low == high:
            return 0.0
        if rate == 0:
            return (high - low) / self.dimension
        top = _log_growth(rate * high, half)
        # The integrand grows like exp(kw): far below the end nothing is left of it.
        knee = max(low, high - _NEGLIGIBLE / rate)
        total = _integral(lambda w: math.exp(_log_growth(rate * w, half) - top), (low, knee, high))
        return exp_or_inf(top + math.log(total / self.dimension))

    def mean_time_small_noise(self) -> float:
        r"""Mean exit time for small noise, the same from every start inside.

        .. math:: E\tau \simeq \frac{\Gamma(m/2)}{2k}\,z^{-m/2}\,e^z, \qquad
                  z = \frac{kR^2}{\sigma^2}

        Returns
        -------
        float
            In units of :math:`t = \eta \cdot \text{steps}`, inf where it overflows.

        Raises
        ------
        ValueError
            k = 0.

        Notes
        -----
        The ratio to `mean_time` tends to 1 slowly, with an error of order 1/z.
        """
        check_positive("rate", float(self.rate))
        rate, half = float(self.rate), self.dimension / 2
        z = rate * self._squared(self.effective_radius)
        return exp_or_inf(math.lgamma(half) - half * math.log(z) + z - math.log(2 * rate))

    def laplace(self, argument: SupportsFloat, start: SupportsFloat = 0.0) -> float:
        r"""Laplace transform of the exit time.

        .. math:: E e^{-a\tau} = \frac{M(a/2k, m/2, kr^2/\sigma^2)}{M(a/2k, m/2, kR^2/\sigma^2)}

        Parameters
        ----------
        argument
            :math:`a \ge 0`, one over time.
        start
            Distance r from the rest point, at most R.

        Returns
        -------
        float
            Between 0 and 1.

        Raises
        ------
        ValueError
            The argument is negative, the start not in the ball, m > 150, or Kummer's function
            overflows.
        """
        value = float(argument)
        if not value >= 0:
            raise ValueError(f"argument must not be negative, got {value!r}.")
        kummer.check_dimension(self.dimension)
        inside, edge = (
            float(kummer.eigenfunction(float(self.rate), self.dimension, -value, w))
            for w in (self._squared(self._checked(start)), self._squared(self.effective_radius))
        )
        if not math.isfinite(edge):
            raise ValueError(
                f"Kummer's function overflows for the argument {value:g}: the transform is 0 in "
                "double precision or the noise too small; take a smaller argument."
            )
        return inside / edge

    def exit_rates(self, count: int) -> Float[np.ndarray, " term"]:
        r"""Lowest rates of the survival series.

        .. math:: M(-\lambda/2k, m/2, kR^2/\sigma^2) = 0

        Parameters
        ----------
        count
            Number of them.

        Returns
        -------
        numpy.ndarray
            Rates per unit of :math:`t = \eta \cdot \text{steps}`, rising, shape (term,). The first
            is the asymptotic exit rate, its inverse close to `mean_time` where exits are rare.

        Raises
        ------
        ValueError
            The count is not positive, m > 150, or :math:`kR^2/\sigma^2 > 650`.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}.")
        return kummer.lowest_roots(
            float(self.rate), self.dimension, self._squared(self.effective_radius), count
        )

    def survival(
        self, start: SupportsFloat, times: Float[np.ndarray, " time"] | Sequence[SupportsFloat]
    ) -> Float[np.ndarray, " time"]:
        r"""Probability to be in the ball at all times up to t.

        .. math:: P(\tau > t) = -\sum_j e^{-\lambda_j t}
                  \frac{M(-\lambda_j/2k, m/2, kr^2/\sigma^2)}
                  {\lambda_j\,\partial_\lambda M(-\lambda/2k, m/2, kR^2/\sigma^2)|_{\lambda_j}}

        Parameters
        ----------
        start
            Distance r from the rest point, at most R.
        times
            :math:`t \ge 0`, shape (time,).

        Returns
        -------
        numpy.ndarray
            Shape (time,).

        Raises
        ------
        ValueError
            The start is not in the ball, a time is negative or so short that the series needs more
            than 300 terms or cancels, m > 150, or :math:`kR^2/\sigma^2 > 650`.
        """
        at = np.asarray(times, float)
        if np.any(~(at >= 0)):
            raise ValueError("times must not be negative or NaN: the process starts at time 0.")
        begin, edge = (self._squared(x) for x in (self._checked(start), self.effective_radius))
        positive = at[at > 0]
        if positive.size == 0 or begin == edge:
            return np.where(at == 0, 1.0, 0.0)
        value = np.ones(at.shape)
        value[at > 0] = kummer.survival(float(self.rate), self.dimension, edge, begin, positive)
        return value

    def _squared(self, distance: float) -> float:
        return (distance / float(self.noise_scale)) ** 2

    def _checked(self, start: SupportsFloat) -> float:
        distance = float(start)
        if not 0 <= distance <= float(self.radius):
            raise ValueError(
                f"start must lie between 0 and the radius {float(self.radius):g}, got "
                f"{distance:g}: the process has left already."
            )
        return distance


def level_exit_time(
    rate: SupportsFloat,
    noise_scale: SupportsFloat,
    start: SupportsFloat,
    level: SupportsFloat,
    monitoring_step: SupportsFloat = 0.0,
) -> float:
    r"""Mean time of a one-dimensional Ornstein-Uhlenbeck process up to a level.

    .. math:: E\tau = \frac{\sqrt{2\pi}}k \int_{x\sqrt{2k}/\sigma}^{a\sqrt{2k}/\sigma}
              \Phi(u)\,e^{u^2/2}\,du

    Ito, :math:`dX = -kX\,dt + \sigma\,dW`, in units of :math:`t = \eta \cdot \text{steps}`.

    Parameters
    ----------
    rate, noise_scale
        k > 0 and :math:`\sigma > 0`.
    start, level
        x and a, :math:`x \le a`, relative to the rest point.
    monitoring_step
        Time between two looks; the level is higher by :math:`0.5826\,\sigma\sqrt\Delta`.

    Returns
    -------
    float
        The time, inf where it overflows.

    Raises
    ------
    ValueError
        A number is outside its limits.

    Notes
    -----
    Source: Siegert (1951); overshoot as in `OrnsteinUhlenbeckExit`.

    Examples
    --------
    >>> from sgdsim.stagnation import level_exit_time
    >>> round(level_exit_time(1.0, 1.0, 0.0, 1.5), 6)
    12.928166
    """
    pull, scale, between = float(rate), float(noise_scale), float(monitoring_step)
    check_positive("rate", pull)
    check_positive("noise_scale", scale)
    check_not_negative("monitoring_step", between)
    if not float(start) <= float(level):
        raise ValueError(
            f"start must not lie above the level {float(level):g}, got {float(start):g}: "
            "change the sign of both."
        )
    if float(start) == float(level):
        return 0.0
    unit = math.sqrt(2 * pull) / scale
    low = float(start) * unit
    high = (float(level) + _OVERSHOOT * scale * math.sqrt(between)) * unit

    def log_integrand(u: float) -> float:
        return float(special.log_ndtr(u)) + u * u / 2

    top = log_integrand(high)
    # Like exp(u^2/2) above zero: far below the level nothing is left of it.
    knee = max(low, min(high, math.sqrt(max(high * high - 2 * _NEGLIGIBLE, 0.0))))
    total = _integral(lambda u: math.exp(log_integrand(u) - top), (low, knee, high))
    return exp_or_inf(top + math.log(total * math.sqrt(2 * math.pi) / pull))


def _integral(integrand: Callable[[float], float], edges: tuple[float, float, float]) -> float:
    """Integral of a growing function over two adjacent pieces, of which the first may be empty."""
    low, knee, high = edges
    last = integrate.quad(integrand, knee, high, epsabs=0.0, epsrel=1e-12, limit=200)[0]
    # Of the first piece only what is not negligible beside the second.
    first = integrate.quad(integrand, low, knee, epsabs=1e-14 * last, epsrel=1e-12, limit=200)[0]
    return first + last


def _log_growth(x: float, half: float) -> float:
    r"""Log of :math:`M(1, m/2 + 1, x)` for :math:`x \ge 0`."""
    if x < half + 1:
        return math.log(float(special.hyp1f1(1.0, half + 1, x)))
    # The same by the incomplete gamma function, whose exponential is taken out.
    mass = math.log(float(special.gammainc(half, x)))
    return math.lgamma(half + 1) - half * math.log(x) + x + mass
