r"""Whether an ensemble stays: the five readings of a stagnation set, with intervals.

A set is a *(p; 0, T)-stagnation set* if the trajectories are in it at all steps 0..T with
probability at least 1 - p. The readings of the operational definition:

====== ==================================================================== ====================
V1     conditional on being inside at step 0                                ``any_basin``
V2     positive: probability above zero, and the set has interior points    ``positive``
V3     occupancy: fraction of the steps inside                              ``occupancy``
V4     same basin all the time, or any basin                                ``same_basin``
V5     in function space: the report of a run that watches a `FunctionBall`  all of them
====== ==================================================================== ====================

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
section 4.2.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sgdsim._checks import check_positive
from sgdsim.ensemble import NEVER, AbstractRegion, Track
from sgdsim.stagnation._sets import AffineTube, Ball, Below, Tube
from sgdsim.stagnation._sets_shaped import Ellipsoid, FunctionBall, Sublevel
from sgdsim.stagnation._sets_union import Union
from sgdsim.stagnation._survival import clopper_pearson


class Share(NamedTuple):
    """Estimated probability with its Clopper-Pearson interval.

    Attributes
    ----------
    value, low, high
        ``successes / trials`` and the limits; nan where there is nothing to count.
    successes, trials
        Counts of trajectories.
    reason
        Why the numbers are nan; empty otherwise.
    """

    value: float
    low: float
    high: float
    successes: int
    trials: int
    reason: str = ""


class Average(NamedTuple):
    """Mean over trajectories and its standard error, nan for a single trajectory."""

    value: float
    stderr: float


class Interior(NamedTuple):
    """Radius of a Euclidean ball that lies in a region; nan with a reason where none is known."""

    radius: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StayReport:
    """What an ensemble says about a stagnation set.

    Attributes
    ----------
    steps
        T, number of steps watched.
    confidence
        Of every interval, each for itself.
    any_basin
        Of the trajectories inside at step 0, those inside at all steps 1..T.
    same_basin
        Of the same trajectories, those inside the basin of step 0 at all steps 1..T.
    reached
        Of all trajectories, those inside at some step 0..T.
    switched
        Of those that were ever inside, those found inside another basin later, whether they had
        left the set in between or not.
    occupancy
        Fraction of the steps 1..T inside.
    hops
        Changes of the basin per trajectory.
    diverged
        Trajectories with a non-finite iterate; from then on they count as outside.
    interior
        A ball in the set, from `interior_radius`.
    """

    steps: int
    confidence: float
    any_basin: Share
    same_basin: Share
    reached: Share
    switched: Share
    occupancy: Average
    hops: Average
    diverged: int
    interior: Interior

    @property
    def positive(self) -> bool:
        """Whether the lower limit of ``any_basin`` and the radius of the interior are above 0."""
        return not self.not_positive

    @property
    def not_positive(self) -> str:
        """Why ``positive`` does not hold, or is not known to; empty where it does."""
        if not self.any_basin.low > 0:
            return self.any_basin.reason or "no trajectory stayed: the lower limit is 0"
        if not self.interior.radius > 0:
            return self.interior.reason or "the set has no interior"
        return ""


def stay_report(
    track: Track, steps: int, confidence: float, interior: Interior | None = None
) -> StayReport:
    r"""Count who stayed, with exact intervals.

    .. math:: \hat P = x / N, \qquad p_{lo} = \mathrm{Beta}^{-1}(\alpha/2;\, x, N - x + 1), \qquad
              p_{hi} = \mathrm{Beta}^{-1}(1 - \alpha/2;\, x + 1, N - x)

    Parameters
    ----------
    track
        Records of the trajectories, fields of shape (trajectory,).
    steps
        Number of steps T >= 1 that the track has seen.
    confidence
        Of the two-sided intervals, between 0 and 1.
    interior
        What `interior_radius` says of the region; unknown if left out.

    Returns
    -------
    StayReport

    Raises
    ------
    ValueError
        There is no trajectory, the track has seen more than ``steps`` steps, or the confidence is
        not in (0, 1).

    Notes
    -----
    The statements about staying are conditional on being inside at step 0; where no trajectory
    is, they are nan with a reason. A window that begins later is a run that begins there.

    Source: Clopper & Pearson (1934); stagnation theory after Imaizumi & Schmidt-Hieber (explicit
    constants, this project), sections 4.2 and 4.7.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from sgdsim import Ball
    >>> from sgdsim.ensemble import start_track
    >>> from sgdsim.stagnation import interior_radius, stay_report
    >>> ball = Ball(centre=jnp.zeros(2), radius=1.0)
    >>> track = jax.vmap(lambda theta: start_track(ball, theta))(jnp.zeros((20, 2)))
    >>> report = stay_report(track, 1, 0.9, interior_radius(ball))
    >>> report.any_basin.value, round(report.any_basin.low, 4), report.positive
    (1.0, 0.8609, True)
    """
    entry, exits, switches = (
        np.asarray(field) for field in (track.entry_step, track.exit_step, track.switch_step)
    )
    inside, hops = np.asarray(track.steps_inside), np.asarray(track.hops)
    diverged = np.asarray(track.diverged_step)
    if entry.size == 0:
        raise ValueError("the track is empty: there is no trajectory to count.")
    seen = max(int(a.max()) for a in (entry, exits, switches, diverged, inside))
    if steps < max(seen, 1):
        raise ValueError(
            f"steps must be the number of steps of the run, got {steps}, but the track has seen "
            f"at least {max(seen, 1)}."
        )
    starts, entered = entry == 0, entry != NEVER
    stayed = starts & (exits == NEVER)
    outside = (
        f"no trajectory is inside the set at step 0 ({entered.sum()} of {entry.size} entered "
        "later): staying is a statement about those that start inside"
    )
    never = "no trajectory was ever inside the set"

    def share(successes: np.ndarray, trials: np.ndarray, reason: str) -> Share:
        x, n = int(np.sum(successes)), int(np.sum(trials))
        if n == 0:
            return Share(math.nan, math.nan, math.nan, x, n, reason)
        low, high = clopper_pearson(x, n, confidence)
        return Share(x / n, float(low), float(high), x, n)

    return StayReport(
        steps=steps,
        confidence=confidence,
        any_basin=share(stayed, starts, outside),
        same_basin=share(stayed & (switches == NEVER), starts, outside),
        reached=share(entered, np.ones_like(entered), ""),
        switched=share(switches != NEVER, entered, never),
        occupancy=_average(inside / steps),
        hops=_average(hops),
        diverged=int(np.sum(diverged != NEVER)),
        interior=interior or Interior(math.nan, "the interior of the set was not asked for"),
    )


def interior_radius(
    region: AbstractRegion, *, growth: float | None = None, lipschitz: float | None = None
) -> Interior:
    r"""Give the radius of a Euclidean ball that lies in the region.

    =============== ===========================================================================
    `Ball`, `Tube`  :math:`\delta`, around a minimum
    `Ellipsoid`     :math:`R \min_i s_i`
    `Sublevel`      :math:`\sqrt{2h/\beta}`, since :math:`L - L^* \le \frac\beta2 d^2`
    `FunctionBall`  :math:`\delta/\Lambda`, since :math:`\|f_\theta - f_{\theta^*}\| \le
                    \Lambda\|\theta - \theta^*\|`
    `Below`         inf
    `Union`         the largest of those of its regions
    =============== ===========================================================================

    Parameters
    ----------
    region
        The region.
    growth
        :math:`\beta > 0` with :math:`\|\nabla L\| \le \beta d` on that ball, for `Sublevel`.
    lipschitz
        :math:`\Lambda > 0` as above on that ball, for `FunctionBall`.

    Returns
    -------
    Interior
        The radius; nan with a reason where a constant is missing or the radius of the region is
        not in (0, inf).

    Notes
    -----
    For a tube around a curved set and for a sublevel set a larger ball may fit.

    Examples
    --------
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.stagnation import Sublevel, interior_radius
    >>> low = Sublevel(Quadratic([2.0, 8.0]).problem(), minimum_risk=0.0, height=1.0)
    >>> interior_radius(low, growth=8.0).radius
    0.5
    """
    for name, constant in (("growth", growth), ("lipschitz", lipschitz)):
        if constant is not None:
            check_positive(name, constant)
    if isinstance(region, Union):
        inner = [interior_radius(member, growth=growth, lipschitz=lipschitz) for member in region]
        # A radius that is not known does not hide those that are.
        return max(inner, key=lambda one: -1.0 if math.isnan(one.radius) else one.radius)
    if isinstance(region, Below):
        return Interior(math.inf)
    radius = float(region.radius)
    if not 0 < radius < math.inf:
        return Interior(math.nan, f"the radius of the region must be in (0, inf), got {radius:g}")
    if isinstance(region, Ball | Tube | AffineTube):
        return Interior(radius)
    if isinstance(region, Ellipsoid):
        scales = np.append(np.asarray(region.scales, dtype=np.float64), _rest_scale(region))
        return Interior(radius * float(scales.min()))
    if isinstance(region, Sublevel):
        if growth is None:
            return Interior(math.nan, "the interior of a sublevel set needs the growth constant")
        return Interior(radius * math.sqrt(2.0 / growth))
    if isinstance(region, FunctionBall):
        if lipschitz is None:
            return Interior(math.nan, "the interior of a function ball needs a Lipschitz constant")
        return Interior(radius / lipschitz)
    return Interior(math.nan, f"no interior is known for {type(region).__name__}")


def _rest_scale(region: Ellipsoid) -> float:
    return math.inf if region.rest_scale is None else float(region.rest_scale)


def _average(values: np.ndarray) -> Average:
    count = values.size
    spread = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Average(float(np.mean(values)), spread)
