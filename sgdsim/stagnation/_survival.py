"""Estimated stay probabilities from the exit steps of an ensemble, with exact intervals."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

#: Exits below which a count says little more than the order of magnitude.
_FEWEST_EXITS = 10


def clopper_pearson(
    successes: Int[np.ndarray, "*dims"] | int,
    trials: Int[np.ndarray, "*dims"] | int,
    confidence: float,
) -> tuple[Float[np.ndarray, "*dims"], Float[np.ndarray, "*dims"]]:
    r"""Exact two-sided confidence interval of a binomial probability.

    .. math:: p_{lo} = \mathrm{Beta}^{-1}(\alpha/2;\, x, N - x + 1), \qquad
              p_{hi} = \mathrm{Beta}^{-1}(1 - \alpha/2;\, x + 1, N - x), \qquad
              \alpha = 1 - \text{confidence}

    with :math:`p_{lo} = 0` for x = 0 and :math:`p_{hi} = 1` for x = N.

    Parameters
    ----------
    successes
        x, any shape.
    trials
        N >= 1, a number or of the same shape.
    confidence
        Between 0 and 1, of the two-sided interval; each limit alone errs with half of the rest.

    Returns
    -------
    low, high
        Limits of the interval, shape of ``successes``.

    Raises
    ------
    ValueError
        There are more successes than trials, no trials, or the confidence is not in (0, 1).

    Notes
    -----
    Source: Clopper & Pearson (1934).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import clopper_pearson
    >>> low, high = clopper_pearson(np.array([0, 10]), 10, 0.95)
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.0, 0.6915], [0.3085, 1.0])
    """
    check_confidence(confidence)
    x, n = np.broadcast_arrays(np.asarray(successes), np.asarray(trials))
    if np.any(n < 1):
        raise ValueError(f"trials must be at least 1, got {int(n.min())}")
    if np.any(x < 0) or np.any(x > n):
        raise ValueError("successes must lie between 0 and the number of trials")
    tail = (1.0 - confidence) / 2.0
    # Shape parameters of 0 belong to the two edges, which are set afterwards.
    low = np.where(x == 0, 0.0, stats.beta.ppf(tail, np.maximum(x, 1), n - x + 1))
    high = np.where(x == n, 1.0, stats.beta.isf(tail, x + 1, np.maximum(n - x, 1)))
    return low, high


def stay_probability(
    exit_step: Int[np.ndarray, " trajectory"],
    steps: Int[np.ndarray, " step"],
    confidence: float,
) -> tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"], Float[np.ndarray, " step"]]:
    r"""Fraction of an ensemble that has not left the ball, at each of some steps.

    .. math:: \hat P(T) = \frac1N \#\{i : \text{no exit of trajectory } i
              \text{ up to and including step } T\}

    Parameters
    ----------
    exit_step
        First step at which each trajectory was outside, -1 if it never was; every trajectory is
        inside at step 0. Shape (trajectory,).
    steps
        Steps T >= 0, none beyond the end of the simulation, shape (step,).
    confidence
        Of the Clopper-Pearson interval at each single step.

    Returns
    -------
    probability, low, high
        Estimate and limits, each of shape (step,).

    Raises
    ------
    ValueError
        No trajectories, an exit step that is 0 or below -1, a negative step, or a confidence
        outside (0, 1).

    Notes
    -----
    The interval is pointwise: the curve as a whole is covered with a smaller probability. Exits
    must have been watched at every step; looking at a thinned record overestimates staying.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import stay_probability
    >>> exits, steps = np.array([3, -1, -1, 7]), np.array([2, 3, 7])
    >>> probability, low, high = stay_probability(exits, steps, confidence=0.9)
    >>> probability.tolist()
    [1.0, 0.75, 0.5]
    """
    if exit_step.size == 0:
        raise ValueError("exit_step is empty: there is no trajectory to count")
    if np.any((exit_step < -1) | (exit_step == 0)):
        raise ValueError(
            "exit_step must be -1 (never) or at least 1: every trajectory starts inside; "
            f"got {int(exit_step[(exit_step < -1) | (exit_step == 0)][0])}"
        )
    if np.any(steps < 0):
        raise ValueError(f"steps must not be negative, got {int(steps.min())}")
    exits = np.sort(exit_step[exit_step > 0])
    stayed = exit_step.size - np.searchsorted(exits, steps, side="right")
    low, high = clopper_pearson(stayed, exit_step.size, confidence)
    return stayed / exit_step.size, low, high


class MonteCarloExit(NamedTuple):
    """Exit probability from counted runs.

    Attributes
    ----------
    probability, low, high
        Estimate and Clopper-Pearson limits.
    reachable
        Whether the runs were enough for more than an order of magnitude (ten exits).
    sentence
        The result in words.
    """

    probability: float
    low: float
    high: float
    reachable: bool
    sentence: str


def monte_carlo_exit(exits: int, runs: int, confidence: float) -> MonteCarloExit:
    """Exit probability from counted runs, which says so where it is out of their reach.

    Parameters
    ----------
    exits
        Runs with an exit.
    runs
        All runs.
    confidence
        Of the Clopper-Pearson interval.

    Returns
    -------
    MonteCarloExit
        Estimate, limits and a sentence.

    Raises
    ------
    ValueError
        As `clopper_pearson`.

    Examples
    --------
    >>> from sgdsim.stagnation import monte_carlo_exit
    >>> print(monte_carlo_exit(0, 20_000, 0.95).sentence)
    0 exits in 20000 runs: below 1.8e-04 at 95%, a smaller probability cannot be seen with this \
many; use importance splitting
    >>> print(monte_carlo_exit(260, 20_000, 0.95).sentence)
    260 exits in 20000 runs: 1.3e-02 (1.1e-02 to 1.5e-02 at 95%)
    """
    low, high = (float(limit) for limit in clopper_pearson(exits, runs, confidence))
    reachable = exits >= _FEWEST_EXITS
    sentence = f"{exits} exits in {runs} runs: "
    if reachable:
        sentence += f"{exits / runs:.1e} ({low:.1e} to {high:.1e} at {confidence:.0%})"
    elif exits:
        sentence += (
            f"between {low:.1e} and {high:.1e} at {confidence:.0%}, too few for more than the "
            "order of magnitude; use importance splitting"
        )
    else:
        sentence += (
            f"below {high:.1e} at {confidence:.0%}, a smaller probability cannot be seen with "
            "this many; use importance splitting"
        )
    return MonteCarloExit(exits / runs, low, high, reachable, sentence)


def check_confidence(confidence: float) -> None:
    """Refuse what is no confidence of an interval."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence:g}.")
