r"""How far out the restricted secant inequality holds, and its constants up to any radius."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stagnation._convexity_ratios import CONDITIONS, ConvexityRatios

_RSI = CONDITIONS.index("RSI")
# Distances that a projection returns differ from the radius of their shell by rounding.
_ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True, kw_only=True)
class ConvexityRadius:
    r"""Largest sampled radius up to which the restricted secant inequality holds.

    Parameters
    ----------
    value
        :math:`\delta^*`; nan, with a reason, if the inequality fails on the smallest shell or the
        centre is no minimum.
    bounded
        Whether a violation was found farther out. If not, the sample does not bound
        :math:`\delta^*`: ``value`` is the largest radius sampled.
    by_family
        The same by family of directions.
    bounded_by_family
        Whether that family has a violation.
    first_violation
        Smallest distance at which a ratio is not positive, infinite if there is none.
    worst
        Direction, shell and sign (0: plus, 1: minus) of that ratio; (-1, -1, -1) without one.
    sample_size
        Number of points on whose ratios ``value`` rests: those within it.
    assumption_violated
        Why ``value`` is nan, "" if it is a number.
    """

    value: float
    bounded: bool
    by_family: dict[str, float]
    bounded_by_family: dict[str, bool]
    first_violation: float
    worst: tuple[int, int, int]
    sample_size: int
    assumption_violated: str


def delta_star(ratios: ConvexityRatios) -> ConvexityRadius:
    r"""Find the largest sampled radius up to which every RSI ratio is positive.

    .. math:: \delta^* = \max\{\rho : \langle\nabla L(\theta), u\rangle > 0 \text{ at all sampled }
              \theta \text{ with } 0 < \|u\| \le \rho\}, \qquad u = \theta - p(\theta)

    Parameters
    ----------
    ratios
        Result of `sample_convexity` or `sample_fibres`.

    Returns
    -------
    ConvexityRadius
        :math:`\delta^*` is one of the radii of the shells.

    Notes
    -----
    The sample can only refute: with more directions :math:`\delta^*` falls or stays. A ratio that
    is not a number refutes, too. `refine_delta_star` looks between the last shell without a
    violation and the first one with it.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    sections 4.4 and 4.8.

    Examples
    --------
    The double well (x^2 - 1)^2 / 4 around its minimum 1, whose ridge is at 0:

    >>> import numpy as np
    >>> from sgdsim.stagnation import delta_star, sample_convexity
    >>> ratios = sample_convexity(
    ...     lambda _, x: (((x**2 - 1) ** 2).sum() / 4, x * (x**2 - 1)),
    ...     None,
    ...     np.ones(1),
    ...     np.ones((1, 1)),
    ...     np.array([0.3, 0.6, 0.9, 1.2]),
    ...     learning_rate=0.1,
    ... )
    >>> found = delta_star(ratios)
    >>> found.value, found.bounded, found.first_violation
    (0.9, True, 1.2)
    """
    ratio = ratios.ratio[_RSI, :, :, :2]
    counted = ratios.counted[_RSI, :, :, :2]
    # A distance that could not be computed is put at the radius of its shell.
    shell = np.broadcast_to(ratios.radii[:, None], ratio.shape)
    distance = np.where(np.isfinite(ratios.distance), ratios.distance, shell)
    violation = np.where(counted & ~(ratio > 0), distance, np.inf)
    names = np.array(ratios.families)
    by_family = {
        name: _last_good(ratios, violation[names == name])
        for name in dict.fromkeys(ratios.families)
    }
    value, reason = _last_good(ratios, violation), ratios.assumption_violated
    first = float(violation.min())
    if math.isnan(value) and not reason:
        at = np.unravel_index(int(violation.argmin()), violation.shape)
        reason = (
            f"the restricted secant inequality fails at the distance {first:.4g} (ratio "
            f"{float(ratio[at]):.4g}), within the smallest shell sampled, {ratios.radii[0]:.4g}: "
            "sample smaller radii, or the centre is no minimum"
        )
    worst = np.unravel_index(int(violation.argmin()), violation.shape)
    inside = counted & (distance <= value * _ROUNDING)
    return ConvexityRadius(
        value=value,
        bounded=math.isfinite(first),
        by_family=by_family,
        bounded_by_family={
            name: bool(np.isfinite(violation[names == name]).any()) for name in by_family
        },
        first_violation=first,
        worst=(
            (int(worst[0]), int(worst[1]), int(worst[2])) if math.isfinite(first) else (-1, -1, -1)
        ),
        sample_size=int(inside.sum()),
        assumption_violated=reason if math.isnan(value) else "",
    )


class LocalConstants(NamedTuple):
    r"""Constants of the drift on a ball or tube of a radius, as far as a sample tells.

    Attributes
    ----------
    rsi
        :math:`\mu`, smallest RSI ratio.
    growth
        :math:`\beta`, largest :math:`\|\nabla L\|/\|u\|`.
    contraction
        Largest :math:`\|u - \eta\nabla L\|/\|u\|`.
    sample_size
        Number of points.
    assumption_violated
        Why they are nan, "" if they are numbers.
    """

    rsi: float
    growth: float
    contraction: float
    sample_size: int
    assumption_violated: str


@dataclass(frozen=True, kw_only=True)
class ConstantsByRadius:
    r"""Sampled constants on the balls or tubes of all radii of the shells.

    Parameters
    ----------
    radii
        :math:`\delta`, shape (radius,).
    rsi, growth, contraction
        As in `LocalConstants`, over all points with :math:`\|u\| \le \delta`: monotone in it.
    sample_size
        Number of those points.
    assumption_violated
        Why the constants mean nothing ("" if they do).
    """

    radii: Float[np.ndarray, " radius"]
    rsi: Float[np.ndarray, " radius"]
    growth: Float[np.ndarray, " radius"]
    contraction: Float[np.ndarray, " radius"]
    sample_size: Int[np.ndarray, " radius"]
    assumption_violated: str

    def at(self, delta: float) -> LocalConstants:
        r"""Give the constants for the radius ``delta``, those of the next shell from it on.

        Parameters
        ----------
        delta
            Radius of the set.

        Returns
        -------
        LocalConstants
            nan with a reason if ``delta`` is not in (0, inf), nothing was sampled that far out, or
            the centre is no minimum.
        """
        reason = self.assumption_violated
        if not (0.0 < delta < math.inf):
            reason = f"the radius {delta:g} is not in (0, inf)"
        elif not reason and delta > self.radii[-1] * _ROUNDING:
            reason = (
                f"the radius {delta:g} lies beyond the largest one sampled, {self.radii[-1]:g}: "
                "nothing is known about the risk there"
            )
        if reason:
            return LocalConstants(math.nan, math.nan, math.nan, 0, reason)
        shell = int(np.searchsorted(self.radii * _ROUNDING, delta))
        return LocalConstants(
            float(self.rsi[shell]),
            float(self.growth[shell]),
            float(self.contraction[shell]),
            int(self.sample_size[shell]),
            "",
        )


def constants_by_radius(ratios: ConvexityRatios) -> ConstantsByRadius:
    r"""Reduce sampled ratios to :math:`\mu(\delta)`, :math:`\beta(\delta)` on nested sets.

    .. math:: \mu(\delta) = \min_{\|u\| \le \delta} \frac{\langle\nabla L, u\rangle}{\|u\|^2},
              \qquad \beta(\delta) = \max_{\|u\| \le \delta} \frac{\|\nabla L\|}{\|u\|}

    so that the contraction :math:`q(\delta)` and an exit bound can be evaluated at any radius.

    Parameters
    ----------
    ratios
        Result of `sample_convexity` or `sample_fibres`.

    Returns
    -------
    ConstantsByRadius
        Shapes (radius,). A shell within which nothing was sampled, or a ratio could not be
        computed, has nan.

    Notes
    -----
    Extremes over a sample: the true modulus is not larger, the true growth not smaller. A bound
    that uses them is a plug-in, not a certificate. The contraction belongs to the learning rate
    that was sampled with.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    sections 4.4 and 6.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import constants_by_radius, sample_convexity
    >>> ratios = sample_convexity(
    ...     lambda _, x: ((x**2).sum() / 2 + (x**4).sum() / 4, x + x**3),
    ...     None,
    ...     np.zeros(1),
    ...     np.ones((1, 1)),
    ...     np.array([0.5, 1.0]),
    ...     learning_rate=0.1,
    ... )
    >>> constants = constants_by_radius(ratios).at(0.8)
    >>> constants.rsi, constants.growth, constants.sample_size
    (1.25, 2.0, 4)
    """
    counted = ratios.counted[_RSI, :, :, :2]
    shell = np.broadcast_to(ratios.radii[:, None], counted.shape)
    distance = np.where(np.isfinite(ratios.distance), ratios.distance, shell)[counted]
    samples = {
        "rsi": (ratios.ratio[_RSI, :, :, :2][counted], np.min),
        "growth": (ratios.growth[counted], np.max),
        "contraction": (ratios.contraction[counted], np.max),
    }
    within = distance <= ratios.radii[:, None] * _ROUNDING
    constants = {
        name: np.array([reduce(sample[row]) if row.any() else np.nan for row in within])
        for name, (sample, reduce) in samples.items()
    }
    return ConstantsByRadius(
        radii=ratios.radii,
        sample_size=within.sum(axis=1),
        assumption_violated=ratios.assumption_violated,
        **constants,
    )


def _last_good(ratios: ConvexityRatios, violation: Float[np.ndarray, "*dims"]) -> float:
    """Largest radius below the first violation, nan if there is none or no minimum."""
    good = ratios.radii[ratios.radii * _ROUNDING < violation.min()]
    return float(good[-1]) if good.size and not ratios.assumption_violated else math.nan
