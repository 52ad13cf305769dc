"""Statistics of exit steps: survival curve, constancy of the rate, law of the waiting times."""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from sgdsim.stagnation._survival import check_confidence

#: Exits that a test needs, and exits per window of the test of a constant rate.
_FEWEST_EXITS = 10
_EXITS_PER_WINDOW = 5
_MOST_WINDOWS = 10


class SurvivalCurve(NamedTuple):
    """Kaplan-Meier curve.

    Attributes
    ----------
    steps
        0 and every step with an exit, increasing, shape (step,).
    survival
        Estimated probability of no exit up to and including the step, shape (step,).
    low, high
        Pointwise limits, shape (step,).
    at_risk
        Trajectories inside and watched just before the step, shape (step,).
    """

    steps: Int[np.ndarray, " step"]
    survival: Float[np.ndarray, " step"]
    low: Float[np.ndarray, " step"]
    high: Float[np.ndarray, " step"]
    at_risk: Int[np.ndarray, " step"]


def kaplan_meier(
    exit_step: Int[np.ndarray, " trajectory"],
    last_step: Int[np.ndarray, " trajectory"] | int,
    confidence: float,
) -> SurvivalCurve:
    r"""Survival curve of trajectories that were not all watched equally long.

    .. math:: \hat S(T) = \prod_{t \le T} \Bigl(1 - \frac{x_t}{n_t}\Bigr)

    with :math:`x_t` exits at step t among :math:`n_t` trajectories still inside and watched.

    Parameters
    ----------
    exit_step
        First step outside, -1 for none, shape (trajectory,).
    last_step
        Last step that was watched, one for all or shape (trajectory,); for a trajectory that was
        lost before its exit (it diverged and this does not count as an exit) the step of the loss.
    confidence
        Of the pointwise log-log interval.

    Returns
    -------
    SurvivalCurve
        The curve at step 0 and at the steps of the exits; between them it is constant.

    Raises
    ------
    ValueError
        No trajectory, an exit step that is 0 or below -1 or after the last step, or a confidence
        outside (0, 1).

    Notes
    -----
    A trajectory watched to step T without an exit is at risk at T: censoring is no exit. Once all
    have left, the lower limit is 0 and the upper one that of the exit before. The estimate itself
    and its interval are those of ``scipy.stats.ecdf``. With equal last steps the curve is
    `stay_probability`, whose interval is exact and exists without exits too.
    Source: Kaplan & Meier (1958); log-log interval: Kalbfleisch & Prentice (1980).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import kaplan_meier
    >>> curve = kaplan_meier(np.array([2, 5, -1, -1]), np.array([9, 9, 3, 9]), confidence=0.95)
    >>> curve.steps.tolist(), curve.survival.tolist(), curve.at_risk.tolist()
    ([0, 2, 5], [1.0, 0.75, 0.375], [4, 4, 2])
    """
    check_confidence(confidence)
    _check_exits(exit_step, last_step)
    exited = exit_step > 0
    times = np.where(exited, exit_step, last_step)
    data = stats.CensoredData.right_censored(times, ~exited)
    estimate = stats.ecdf(data).sf
    # Where the curve is 1 or 0 the log-log interval does not exist and scipy warns.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        limits = estimate.confidence_interval(confidence, method="log-log")
    falls = np.isin(estimate.quantiles, exit_step[exited])
    survival = np.append(1.0, estimate.probabilities[falls])
    low = np.append(1.0, limits.low.probabilities[falls])
    high = np.append(1.0, limits.high.probabilities[falls])
    if survival[-1] == 0.0:
        low[-1], high[-1] = 0.0, high[-2]
    steps = np.append(0, estimate.quantiles[falls]).astype(np.int64)
    at_risk = len(times) - np.searchsorted(np.sort(times), steps, side="left")
    return SurvivalCurve(steps, survival, low, high, at_risk)


class ExitTest(NamedTuple):
    """Result of a test of exit steps.

    Attributes
    ----------
    statistic, p_value
        Of the test; NaN where it cannot be made, see ``reason``.
    exits
        Exits after the burn-in.
    rates
        Exits per trajectory and step in windows of about equal exposure, shape (window,).
    edges
        Steps between which the windows lie: after ``edges[j]`` up to and including
        ``edges[j + 1]``, shape (window + 1,).
    reason
        Why there is no test; empty otherwise.
    """

    statistic: float
    p_value: float
    exits: int
    rates: Float[np.ndarray, " window"]
    edges: Int[np.ndarray, " edge"]
    reason: str


def quasi_stationarity_test(
    exit_step: Int[np.ndarray, " trajectory"], end: int, burn_in: int
) -> ExitTest:
    r"""Is the exit rate constant after the burn-in? Chi-square over windows of equal exposure.

    .. math:: \chi^2 = \sum_{j=1}^{K} \frac{(x_j - \hat p n_j)^2}{\hat p (1 - \hat p) n_j}
              \sim \chi^2_{K-1}, \qquad \hat p = \frac{\sum_j x_j}{\sum_j n_j}

    with :math:`x_j` exits in :math:`n_j` trajectory-steps of window j; K is a fifth of the number
    of exits and at most 10.

    Parameters
    ----------
    exit_step
        First step outside, -1 for none up to the end, shape (trajectory,).
    end
        Last step of the run, the same for all.
    burn_in
        Step :math:`t_0` from which on the rate should be constant, a few :math:`1/|\log q|`.

    Returns
    -------
    ExitTest
        Statistic, p-value, rate in each window; NaN with a reason below 10 exits or two windows.

    Raises
    ------
    ValueError
        The exit steps are wrong or the burn-in is not in [0, end).

    Notes
    -----
    With a constant rate every step of every trajectory inside is a trial with one and the same
    probability of an exit. The trials that are made depend on the exits before, the differences
    :math:`x_j - p n_j` are martingale differences and the chi-square law holds for many exits.
    Windows are whole steps, so that the discrete clock is exact.
    Source: score test of equal proportions, ``scipy.stats.chi2_contingency``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import quasi_stationarity_test
    >>> steps = np.random.default_rng(1).geometric(0.01, size=2000)
    >>> test = quasi_stationarity_test(np.where(steps > 300, -1, steps), end=300, burn_in=20)
    >>> test.p_value > 0.01, round(float(test.rates.mean()), 3)
    (True, 0.01)
    """
    exits, trials, edges, reason = _windows(exit_step, end, burn_in)
    statistic = p_value = math.nan
    if not reason:
        table = np.stack([exits, trials - exits])
        result: Any = stats.chi2_contingency(table, correction=False)
        statistic, p_value = result.statistic, result.pvalue
    return ExitTest(
        float(statistic), float(p_value), int(exits.sum()), exits / trials, edges, reason
    )


def exponentiality_test(
    exit_step: Int[np.ndarray, " trajectory"], end: int, burn_in: int, seed: int = 0
) -> ExitTest:
    r"""Are exit times after the burn-in exponential? Kolmogorov-Smirnov with an unknown rate.

    .. math:: D = \sup_u |F_X(u) - u|, \qquad u_i = \frac{\sum_j (\min(\tau_j, \tau_i) - t_0)}
              {\sum_j (\min(\tau_j, T) - t_0)}

    over the trajectories j inside at the burn-in :math:`t_0`; :math:`\tau_i` are the exits up to
    the end T.

    Parameters
    ----------
    exit_step, end, burn_in
        As in `quasi_stationarity_test`.
    seed
        Of the position of an exit within its step, see Notes.

    Returns
    -------
    ExitTest
        Statistic, p-value and rates; NaN with a reason below 10 exits or two windows.

    Raises
    ------
    ValueError
        As in `quasi_stationarity_test`.

    Notes
    -----
    The test compares with the exponential law truncated at the end of the run (the geometric law
    of whole steps). Put the exit times into that law with a rate fitted to them, and the table of
    Kolmogorov and Smirnov does not hold. The total time on test needs no rate: with a constant one
    its positions :math:`u_i` are uniform, exactly if all trajectories have left, in the limit of
    many trajectories otherwise.

    A geometric number of steps is an exponential time rounded up; the fraction of the step, which
    was not seen, is drawn from its law with the fitted rate. Below some ten steps that makes the
    test conservative; `quasi_stationarity_test` has no such limit.
    Source: Epstein & Sobel (1953), Barlow & Campo (1975), total time on test; Kolmogorov-Smirnov
    from ``scipy.stats.kstest``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import exponentiality_test
    >>> random = np.random.default_rng(1)
    >>> ageing = np.ceil(random.gamma(2.0, 100.0, size=500)).astype(int)
    >>> bool(exponentiality_test(ageing, end=10_000, burn_in=0).p_value < 1e-6)
    True
    """
    exits, trials, edges, reason = _windows(exit_step, end, burn_in)
    statistic = p_value = math.nan
    if not reason:
        result: Any = stats.kstest(_time_on_test(exit_step, end, burn_in, seed), "uniform")
        statistic, p_value = result.statistic, result.pvalue
    return ExitTest(
        float(statistic), float(p_value), int(exits.sum()), exits / trials, edges, reason
    )


def _windows(
    exit_step: np.ndarray, end: int, burn_in: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Count exits and trials in windows of whole steps; also their edges, why there is no test."""
    _check_exits(exit_step, end)
    if not 0 <= burn_in < end:
        raise ValueError(f"burn_in must be at least 0 and below the end, {end}; got {burn_in}.")
    after = exit_step[exit_step > burn_in] - burn_in
    exits = np.bincount(after, minlength=end - burn_in + 1)[1:]
    censored = np.count_nonzero(exit_step == -1)
    trials = censored + np.cumsum(exits[::-1])[::-1]
    exits, trials = exits[trials > 0], trials[trials > 0]
    if len(after) < _FEWEST_EXITS:
        reason = f"{len(after)} exits after the burn-in, {_FEWEST_EXITS} are needed for a test"
        windows = 1
    else:
        reason, windows = "", min(_MOST_WINDOWS, len(after) // _EXITS_PER_WINDOW)
    total = np.cumsum(trials)
    if not total.size:
        return np.zeros(0, int), np.zeros(0, int), np.array([burn_in]), reason
    ends = 1 + np.searchsorted(total, total[-1] * np.arange(1, windows + 1) / windows)
    edges = np.unique(np.append(0, np.minimum(ends, len(total))))
    if not reason and len(edges) < 3:
        reason = "the exits are over within one window of whole steps"
    starts = edges[:-1]
    exits, trials = np.add.reduceat(exits, starts), np.add.reduceat(trials, starts)
    return exits, trials, burn_in + edges, reason


def _time_on_test(exit_step: np.ndarray, end: int, burn_in: int, seed: int) -> np.ndarray:
    """Positions of the exits on the clock of all trajectories together, uniform in [0, 1]."""
    waits = np.sort(exit_step[exit_step > burn_in]) - burn_in
    exits, censored = len(waits), int(np.count_nonzero(exit_step == -1))
    # Rate per unit of time of the exponential law whose rounded-up times are geometric.
    rate = -math.log1p(-exits / (float(waits.sum()) + censored * (end - burn_in)))
    lots = np.random.default_rng(seed).random(exits)
    times = np.sort(waits - 1.0 - np.log1p(lots * math.expm1(-rate)) / rate)
    inside = exits + censored - np.arange(exits)
    clock = np.cumsum(inside * np.diff(times, prepend=0.0))
    whole = clock[-1] + censored * (end - burn_in - times[-1])
    # Without censoring the last position is 1 by construction and says nothing.
    return clock / whole if censored else clock[:-1] / whole


def _check_exits(exit_step: np.ndarray, last_step: np.ndarray | int) -> None:
    if exit_step.size == 0:
        raise ValueError("exit_step is empty: there is no trajectory to count.")
    wrong = (exit_step < -1) | (exit_step == 0)
    if np.any(wrong):
        raise ValueError(
            "exit_step must be -1 (never) or at least 1: every trajectory starts inside; "
            f"got {int(exit_step[wrong][0])}."
        )
    late = exit_step > last_step
    if np.any(late):
        raise ValueError(
            f"exit_step must not be after the last watched step, got {int(exit_step[late][0])}: "
            "what was not watched cannot be counted."
        )
    if np.any(np.asarray(last_step) < 1):
        raise ValueError(f"last steps must be at least 1, got {int(np.min(last_step))}.")
