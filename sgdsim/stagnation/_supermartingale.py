"""The exit bound S2: an exponential supermartingale, minimised over its free parameters."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stagnation._stay_constants import (
    StayConstants,
    assumption_violation,
    log_steps_of,
)

# Every pair (kappa, alpha) gives a valid bound, so the grids only decide how tight S2 is.
_KAPPA_GRID = np.linspace(1e-4, 1.0 - 1e-6, 4000)
_SHARE_GRID = np.geomspace(1e-4, 0.999, 40)
_ANCHORS_PER_OCTAVE = 4
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_GOLDEN_STEPS = 40


def log_exit_bound_s2(
    constants: StayConstants, steps: Int[np.ndarray, " step"], *, refine: bool = True
) -> Float[np.ndarray, " step"]:
    r"""Bound the exit probability by an exponential supermartingale (S2, the main bound).

    For every :math:`\alpha \ge 0` (0 if :math:`\varepsilon = 0`) and
    :math:`0 < \kappa < (1 - (1+\alpha) q^2) / (2 \eta^2 \bar s)`, with
    :math:`u = 1 - 2\kappa\eta^2\bar s`, :math:`\gamma = (1+\alpha) q^2 / u`, effective rank
    :math:`r = \bar\tau / \bar s` and
    :math:`b = -\tfrac r2 \log u + \kappa (1 + 1/\alpha) \eta^2 \varepsilon^2 / u`:

    .. math:: P(\tau \le T) \le e^{-\kappa\delta^2} \bigl(e^{\kappa d_0^2} + T D\bigr), \qquad
              D = \max_{V \ge 1} (e^b V^\gamma - V) = \begin{cases}
              (1-\gamma) \gamma^{\gamma/(1-\gamma)} e^{b/(1-\gamma)} & \log\gamma + b \ge 0 \\
              e^b - 1 & \text{otherwise} \end{cases}

    and the smallest over a grid of :math:`(\kappa, \alpha)` is returned.

    Parameters
    ----------
    constants
        Constants of the ball.
    steps
        Numbers of steps T >= 0, shape (step,).
    refine
        Follow the grid by a golden-section search for every T. Each :math:`(\kappa, \alpha)` is
        valid, so this only tightens.

    Returns
    -------
    numpy.ndarray
        Natural logarithm of the bound, shape (step,): not clipped (above 0 it says nothing),
        -inf at T = 0, nan when an assumption is violated.

    Raises
    ------
    ValueError
        A number of steps is negative.

    Notes
    -----
    Proof: :math:`E\, e^{\kappa \|a - \eta\xi\|^2} \le \prod_i (1 - 2\kappa\eta^2 s_i)^{-1/2}
    e^{\kappa \|a\|^2 / u}`, the product is at most :math:`u^{-r/2}` by convexity of
    :math:`-\log(1 - x)`, and :math:`\|a\|^2 \le (1+\alpha) q^2 d^2 + (1 + 1/\alpha) \eta^2
    \varepsilon^2`. So :math:`V_t = e^{\kappa d_t^2}` satisfies :math:`E[V_{t+1} | V_t] \le
    e^b V_t^\gamma \le V_t + D` inside the ball; stop at the exit and use Markov's inequality.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, log_exit_bound_s2
    >>> constants = StayConstants(
    ...     learning_rate=0.05,
    ...     contraction=0.95,
    ...     noise_operator_norm=0.04,
    ...     noise_trace=0.08,
    ...     radius=0.15,
    ... )
    >>> np.exp(log_exit_bound_s2(constants, np.array([0, 1000]))).round(4).tolist()
    [0.0, 0.0473]
    """
    log_steps = log_steps_of(steps)
    if assumption_violation(constants) is not None:
        return np.full_like(log_steps, np.nan)
    result = np.full_like(log_steps, -np.inf)
    distinct, where = np.unique(log_steps, return_inverse=True)
    positive = np.isfinite(distinct)
    if not positive.any():
        return result
    values = np.full_like(distinct, -np.inf)
    values[positive] = _minimise_s2(constants, distinct[positive], refine)
    return values[where]


def _log_noise_growth(rank: float, log_u: np.ndarray) -> np.ndarray:
    """Growth of log E exp(kappa d^2) by the noise alone: ``-(r/2) log u``."""
    return -0.5 * rank * log_u


def _log_s2(
    constants: StayConstants, fraction: np.ndarray, share: np.ndarray, log_steps: np.ndarray
) -> np.ndarray:
    """Logarithm of S2 at given (kappa, alpha), broadcast.

    ``share`` places (1 + alpha) q^2 between q^2 and 1, ``fraction`` places kappa below its limit;
    in these coordinates 1 - gamma is a product and does not cancel.
    """
    q2 = constants.contraction**2
    gap = (1.0 - constants.contraction) * (1.0 + constants.contraction)
    scale = 2.0 * constants.learning_rate**2 * constants.noise_operator_norm
    free = (1.0 - share) * gap
    x = fraction * free
    kappa = x / scale
    u = 1.0 - x
    gamma = (q2 + share * gap) / u
    stable = (1.0 - fraction) * free / u
    b = _log_noise_growth(constants.noise_trace / constants.noise_operator_norm, np.log1p(-x))
    if constants.gradient_bias > 0:
        bias = (constants.learning_rate * constants.gradient_bias) ** 2
        b = b + kappa * (1.0 + q2 / (share * gap)) * bias / u
    # The branch that np.where does not take may overflow or be log 0.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_gamma = np.log(gamma)
        log_drift = np.where(
            log_gamma + b >= 0,
            np.log(stable) + (gamma * log_gamma + b) / stable,
            b + np.log(-np.expm1(-b)),
        )
    start = kappa * (constants.start_distance**2 - constants.radius**2)
    return np.logaddexp(start, log_steps + log_drift - kappa * constants.radius**2)


def _minimise_s2(constants: StayConstants, log_steps: np.ndarray, refine: bool) -> np.ndarray:
    """Smallest S2 for every log T, sorted: full grid at anchor values of T, then locally."""
    octaves = (log_steps[-1] - log_steps[0]) / math.log(2.0)
    count = 2 + math.ceil(_ANCHORS_PER_OCTAVE * octaves)
    anchors = (
        log_steps
        if log_steps.size <= count
        else np.linspace(log_steps[0], log_steps[-1], count, dtype=np.float64)
    )
    shares = _SHARE_GRID if constants.gradient_bias > 0 else np.zeros(1)
    best = np.full(anchors.shape, np.inf)
    fraction, share = np.zeros_like(anchors), np.zeros_like(anchors)
    for candidate in shares[:, None]:
        grid = _log_s2(constants, _KAPPA_GRID[:, None], candidate, anchors)
        at = np.argmin(grid, axis=0)
        value = np.take_along_axis(grid, at[None], axis=0)[0]
        better = value < best
        best = np.where(better, value, best)
        fraction = np.where(better, _KAPPA_GRID[at], fraction)
        share = np.where(better, candidate, share)

    table = _log_s2(constants, fraction[:, None], share[:, None], log_steps)
    chosen = np.argmin(table, axis=0)
    best, fraction, share = table.min(axis=0), fraction[chosen], share[chosen]
    if not refine:
        return best

    def over_fraction(x: np.ndarray) -> np.ndarray:
        return _log_s2(constants, x, share, log_steps)

    for _ in range(1 if constants.gradient_bias == 0 else 2):
        low, high = np.maximum(fraction - 0.05, 1e-6), np.minimum(fraction + 0.05, 1 - 1e-9)
        fraction, best = _golden_section(over_fraction, low, high, fraction, best)
        if constants.gradient_bias > 0:

            def over_share(x: np.ndarray, at: np.ndarray = fraction) -> np.ndarray:
                return _log_s2(constants, at, np.exp(x), log_steps)

            low = np.log(share) - 0.25
            high = np.minimum(np.log(share) + 0.25, math.log(0.9999))
            log_share, best = _golden_section(over_share, low, high, np.log(share), best)
            share = np.exp(log_share)
    return best


def _golden_section(
    function: Callable[[np.ndarray], np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    argument: np.ndarray,
    value: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Golden-section search in every component; never worse than the given (argument, value)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_GOLDEN_STEPS):
        down = at_left < at_right
        low, high = np.where(down, low, left), np.where(down, right, high)
        kept, at_kept = np.where(down, left, right), np.where(down, at_left, at_right)
        probe = np.where(down, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_probe = function(probe)
        left, right = np.where(down, probe, kept), np.where(down, kept, probe)
        at_left, at_right = np.where(down, at_probe, at_kept), np.where(down, at_kept, at_probe)
    found = np.where(at_left < at_right, left, right)
    at_found = np.minimum(at_left, at_right)
    better = at_found < value
    return np.where(better, found, argument), np.where(better, at_found, value)
