r"""The exit bound S2: an exponential supermartingale, minimised over its free parameters.

The free parameters are placed by :math:`2\kappa\eta^2\bar s = \mathrm{logistic}(z) (1 - q^2)` and
:math:`\alpha q^2 = \mathrm{logistic}(w) (1 - q^2 - 2\kappa\eta^2\bar s)`: every real (z, w) is
admissible, and :math:`1 - \gamma` is a product that does not cancel.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from sgdsim.stagnation._stay_constants import (
    StayConstants,
    assumption_violations,
    broadcast_constants,
    log_of_steps,
    over_settings,
)

# Every pair (z, w) gives a valid bound, so the grids only decide how tight it is.
_Z_GRID = np.arange(-9.0, 21.0, 0.3)
_W_GRID = np.arange(-24.0, 6.0, 1.0)
_ANCHORS_PER_OCTAVE = 4
_SHRINK = 0.6
_ROUNDS = 18
# Numbers evaluated together: few enough for the cache of a processor.
_CHUNK = 50_000

Objective = Callable[[np.ndarray, np.ndarray], np.ndarray]


def log_exit_bound_s2(
    constants: StayConstants, steps: Int[np.ndarray, " step"], *, refine: bool = True
) -> Float[np.ndarray, "*setting step"]:
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
        Constants of the ball, of one setting or of many.
    steps
        Numbers of steps T >= 0, shape (step,).
    refine
        Follow the grid by a local search for every setting and T. Each :math:`(\kappa, \alpha)`
        is valid, so this only tightens.

    Returns
    -------
    numpy.ndarray
        Natural logarithm of the bound, shape (\*setting, step): not clipped (above 0 it says
        nothing), -inf at T = 0, nan where an assumption is violated.

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

    def bound(columns: dict[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
        result = np.full((len(columns["radius"]), steps.size), -np.inf)
        distinct, where = np.unique(steps, return_inverse=True)
        positive = distinct > 0
        if positive.any():
            values = np.full((len(result), distinct.size), -np.inf)
            log_steps = log_of_steps(distinct[positive])
            for rows, part, biased in settings_in_chunks(columns, log_steps.size):
                values[np.ix_(rows, positive)] = _minimise_s2(part, log_steps, biased, refine)
            result = values[:, where]
        return result

    return over_settings(constants, steps, bound)


def log_exit_bound_s2_scheduled(constants: StayConstants) -> Float[np.ndarray, " step"]:
    r"""Bound the exit probability when the constants change from step to step (S2, schedules).

    With one :math:`\kappa` for all steps and the :math:`D_t` of step t:

    .. math:: P(\tau \le T) \le e^{-\kappa\delta^2} \Bigl(e^{\kappa d_0^2}
              + \sum_{t=0}^{T-1} D_t(\kappa, \alpha_t)\Bigr)

    Parameters
    ----------
    constants
        Constants of the ball; learning rate, contraction, noise and gradient bias have shape
        (step,) or are numbers, entry t for the step from t to t + 1. The ball is one ball: radius
        and start distance are numbers.

    Returns
    -------
    numpy.ndarray
        Natural logarithm of the bound for T = 1, ..., number of entries, shape (step,): not
        clipped, nan from the first step on that violates an assumption.

    Raises
    ------
    ValueError
        The constants have not exactly one array dimension, or radius or start distance changes.

    Notes
    -----
    The proof of `log_exit_bound_s2`, step by step: :math:`V_t - \sum_{k<t} D_k` is a
    supermartingale for any fixed :math:`\kappa` that is admissible at every step. The
    :math:`\alpha_t` may differ; here they take the same share of their range. A shorter horizon
    that ends before the least contracting step may do better with the shorter schedule.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, log_exit_bound_s2_scheduled
    >>> eta = 0.05 / np.sqrt(1 + np.arange(1000) / 100)
    >>> constants = StayConstants(
    ...     learning_rate=eta,
    ...     contraction=1 - eta,
    ...     noise_operator_norm=0.04,
    ...     noise_trace=0.08,
    ...     radius=0.15,
    ... )
    >>> np.exp(log_exit_bound_s2_scheduled(constants))[[99, 999]].round(5).tolist()
    [0.00159, 0.00301]
    """
    if np.ndim(constants.radius) or np.ndim(constants.start_distance):
        raise ValueError("radius and start_distance must be numbers: the ball does not change")
    violated, _ = assumption_violations(constants)
    if violated.ndim != 1:
        raise ValueError(
            f"a schedule needs constants of shape (step,), got shape {violated.shape}: "
            "use log_exit_bound_s2 for constants that do not change"
        )
    result = np.full(violated.shape, np.nan)
    count = int(np.argmax(violated)) if violated.any() else violated.size
    if count > 0:
        columns = {name: value[:count] for name, value in broadcast_constants(constants).items()}
        result[:count] = _minimise_scheduled(columns)
    return result


def log_drift(
    columns: dict[str, np.ndarray], fraction: np.ndarray, rest: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Value of kappa and log D of one step, at a ``fraction`` of the range of kappa, broadcast.

    The rest, 1 - fraction, is given apart: near the end of the range it would cancel.
    """
    q = columns["contraction"]
    eta, s = columns["learning_rate"], columns["noise_operator_norm"]
    gap = (1.0 - q) * (1.0 + q)
    bias2 = (eta * columns["gradient_bias"]) ** 2
    slack = rest * gap
    # Without a bias alpha = 0 is best, at no cost.
    share, unshared = np.where(bias2 > 0, expit(w), 0.0), np.where(bias2 > 0, expit(-w), 1.0)
    x = fraction * gap
    kappa = x / (2.0 * eta**2 * s)
    u = 1.0 - x
    lifted = q**2 + share * slack
    stable = unshared * slack / u
    b = _log_noise_growth(columns["noise_trace"] / s, np.log1p(-x))
    # The branches that np.where does not take may overflow, divide by 0 or be log 0.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if np.any(bias2 > 0):
            # (1 + 1 / alpha), with alpha q^2 = share slack.
            inflation = lifted / (share * slack)
            b = b + np.where(bias2 > 0, kappa * inflation * bias2 / u, 0.0)
        gamma = lifted / u
        log_gamma = np.where(gamma > 0.5, np.log1p(-stable), np.log(gamma))
        return kappa, np.where(
            log_gamma + b >= 0,
            np.log(stable) + (gamma * log_gamma + b) / stable,
            b + np.log(-np.expm1(-b)),
        )


def minimise(
    objective: Objective, shape: tuple[int, ...], biased: bool, refine: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest value of objective(z, w) with its z and w, each of the given shape.

    The objective broadcasts over axes in front of the shape. w matters only with a bias.
    """
    axes = (slice(None), *[None] * len(shape))
    value, z, w = np.full(shape, np.inf), np.zeros(shape), np.zeros(shape)
    for candidate in (_W_GRID if biased else np.zeros(1))[:, None]:
        grid = objective(_Z_GRID[axes], candidate)
        at = np.argmin(grid, axis=0)
        lowest = np.take_along_axis(grid, at[None], axis=0)[0]
        better = lowest < value
        value, z = np.where(better, lowest, value), np.where(better, _Z_GRID[at], z)
        w = np.where(better, candidate, w)
    return polish(objective, value, z, w, biased) if refine else (value, z, w)


def polish(
    objective: Objective, value: np.ndarray, z: np.ndarray, w: np.ndarray, biased: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pattern search from (z, w) in every component; never worse than the given value."""
    pattern = [(dz, dw) for dz in (-1, 0, 1) for dw in ((-1, 0, 1) if biased else (0,)) if dz or dw]
    axes = (slice(None), *[None] * value.ndim)
    dz, dw = (np.array(column, float)[axes] for column in zip(*pattern, strict=True))
    size = 1.0
    for _ in range(_ROUNDS):
        trial_z = z + size * (_Z_GRID[1] - _Z_GRID[0]) * dz
        trial_w = w + size * (_W_GRID[1] - _W_GRID[0]) * dw
        trial = objective(trial_z, trial_w)
        at = np.argmin(trial, axis=0)[None]
        lowest = np.take_along_axis(trial, at, axis=0)[0]
        better = lowest < value
        value = np.where(better, lowest, value)
        z = np.where(better, np.take_along_axis(trial_z, at, axis=0)[0], z)
        w = np.where(better, np.take_along_axis(trial_w, at, axis=0)[0], w)
        size *= _SHRINK
    return value, z, w


def settings_in_chunks(
    columns: dict[str, np.ndarray], width: int
) -> list[tuple[np.ndarray, dict[str, np.ndarray], bool]]:
    """Rows, constants and whether there is a bias, for few enough settings to compute together."""
    biased = columns["gradient_bias"][:, 0] > 0
    chunks = []
    for flag in (False, True):
        rows = np.flatnonzero(biased == flag)
        count = math.ceil(rows.size * width * _Z_GRID.size / _CHUNK)
        chunks += [
            (part, {name: value[part] for name, value in columns.items()}, flag)
            for part in (np.array_split(rows, count) if count else [])
        ]
    return chunks


def _log_noise_growth(rank: np.ndarray, log_u: np.ndarray) -> np.ndarray:
    """Growth of log E exp(kappa d^2) by the noise alone: ``-(r/2) log u``."""
    return -0.5 * rank * log_u


def _minimise_s2(
    columns: dict[str, np.ndarray], log_steps: np.ndarray, biased: bool, refine: bool
) -> np.ndarray:
    """Smallest S2 for every setting and log T, sorted: a grid at anchors, then locally."""
    start2, radius2 = columns["start_distance"] ** 2, columns["radius"] ** 2

    def at_steps(log_steps: np.ndarray) -> Objective:
        def log_s2(z: np.ndarray, w: np.ndarray) -> np.ndarray:
            kappa, drift = log_drift(columns, expit(z), expit(-z), w)
            return np.logaddexp(kappa * (start2 - radius2), log_steps + drift - kappa * radius2)

        return log_s2

    octaves = (log_steps[-1] - log_steps[0]) / math.log(2.0)
    count = 2 + math.ceil(_ANCHORS_PER_OCTAVE * octaves)
    anchors = (
        log_steps
        if log_steps.size <= count
        else np.linspace(log_steps[0], log_steps[-1], count, dtype=np.float64)
    )
    shape = (len(start2), anchors.size)
    best, z, w = minimise(at_steps(anchors), shape, biased, refine and anchors is log_steps)
    if anchors is log_steps:
        return best
    right = np.clip(np.searchsorted(anchors, log_steps), 1, anchors.size - 1)
    objective = at_steps(log_steps)
    best, z, w = (
        np.stack(choices)
        for choices in zip(
            *((objective(z[:, at], w[:, at]), z[:, at], w[:, at]) for at in (right - 1, right)),
            strict=True,
        )
    )
    nearer = np.argmin(best, axis=0)[None]
    best, z, w = (np.take_along_axis(values, nearer, axis=0)[0] for values in (best, z, w))
    return polish(objective, best, z, w, biased)[0] if refine else best


def _minimise_scheduled(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Smallest scheduled S2 for every T; whatever pair is tried serves all T."""
    start2, radius2 = columns["start_distance"][0] ** 2, columns["radius"][0] ** 2
    # Most schedules repeat few different steps.
    rows, which = np.unique(np.stack(list(columns.values()), axis=1), axis=0, return_inverse=True)
    distinct = dict(zip(columns, rows.T, strict=True))
    gap = (1.0 - distinct["contraction"]) * (1.0 + distinct["contraction"])
    limit = gap / (2.0 * distinct["learning_rate"] ** 2 * distinct["noise_operator_norm"])
    least, biased = limit.min(), bool(np.any(distinct["gradient_bias"] > 0))
    best = np.full(which.shape, np.inf)

    def curve(z: np.ndarray, w: np.ndarray) -> np.ndarray:
        fraction = expit(z) * least / limit
        rest = ((limit - least) + expit(-z) * least) / limit
        _, drift = log_drift(distinct, fraction, rest, w)
        kappa = expit(z) * least
        total = np.logaddexp.accumulate(drift[which])
        values = np.logaddexp(kappa * (start2 - radius2), total - kappa * radius2)
        np.minimum(best, values, out=best)
        return values

    octaves = math.ceil(math.log2(which.size))
    anchors = np.unique(np.geomspace(1, which.size, 1 + octaves).astype(int)) - 1

    def at_anchors(z: np.ndarray, w: np.ndarray) -> np.ndarray:
        pairs = (values.reshape(-1, 1) for values in np.broadcast_arrays(z, w))
        return np.stack([curve(*pair)[anchors] for pair in zip(*pairs, strict=True)])

    # The grid finds a starting point for every anchor: `minimise` sees a shape of (anchor,), whose
    # z and w are those of the whole curve.
    value, z, w = minimise(at_anchors, anchors.shape, biased, refine=False)
    for at in range(anchors.size):

        def one(z: np.ndarray, w: np.ndarray, at: int = at) -> np.ndarray:
            return at_anchors(z, w)[:, at, None]

        polish(one, value[at, None], z[at, None], w[at, None], biased)
    return best
