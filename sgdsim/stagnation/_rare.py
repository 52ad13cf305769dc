"""Rare exits: probabilities far below one over the number of runs, by importance splitting."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, PyTree
from scipy import stats

from sgdsim.dynamics import AbstractStepper
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import Problem
from sgdsim.stagnation._splitting import Runs, Splitting, run_splitting
from sgdsim.stagnation._survival import check_confidence, clopper_pearson

_STANDARD = Splitting()


class RareExit(NamedTuple):
    """Estimated probability of an exit.

    Attributes
    ----------
    probability
        Unbiased estimate; 0 where no replica reached the radius, see ``high``.
    low, high
        Limits of the confidence interval.
    relative_error
        Standard error over the estimate; inf where that is 0.
    levels
        Levels as fractions of the radius, the last is 1, shape (level,).
    level_probabilities
        Probability of each level given the one before, shape (level,); NaN after the last one
        that was reached.
    trajectory_steps
        Steps simulated in total, the pilot included.
    sentence
        The result in words.
    """

    probability: float
    low: float
    high: float
    relative_error: float
    levels: Float[np.ndarray, " level"]
    level_probabilities: Float[np.ndarray, " level"]
    trajectory_steps: int
    sentence: str


class RareExitRate(NamedTuple):
    """Estimated exit rate per step, limits, standard error over estimate, steps simulated."""

    rate: float
    low: float
    high: float
    relative_error: float
    trajectory_steps: int


def splitting_exit_probability(
    problem: Problem,
    stepper: AbstractStepper,
    region: AbstractRegion,
    theta: PyTree,
    steps: int,
    splitting: Splitting = _STANDARD,
    confidence: float = 0.95,
) -> RareExit:
    r"""Probability of an exit within T steps by fixed-effort multilevel importance splitting.

    .. math:: P(\tau \le T) = \prod_{i=1}^{L} P(\tau_i \le T \mid \tau_{i-1} \le T), \qquad
              \tau_i = \min\{t: d_t > f_i\,\delta\}, \quad f_L = 1

    For the discrete chain of the stepper; times are steps. Every step is checked.

    Parameters
    ----------
    problem, stepper, region
        What is minimised, how theta moves, which set is left.
    theta
        Start of all trajectories, inside the region.
    steps
        T >= 1.
    splitting
        Levels, particles, replicas, seed.
    confidence
        Of the interval.

    Returns
    -------
    RareExit
        The estimate, its interval, the levels and the cost.

    Raises
    ------
    ValueError
        The start is not inside, the radius is not positive, the stepper does not fit, or the
        confidence is not in (0, 1).

    Notes
    -----
    A particle that reaches a level keeps its parameters, the memory of its process and its step;
    the next level starts from these states in turn, in random order, with new random numbers. Each
    replica is therefore unbiased, whatever the levels, which are fixed before: the pilot's numbers
    are used for nothing else. Non-finite parameters are outside.

    The interval is the t interval of the mean over replicas on the log scale,
    :math:`\hat p\,e^{\pm t\,s.e./\hat p}`: for small relative errors that of the mean itself, and
    of the right shape for the skew law of a product. Above a relative error of about 0.3 the law is
    so skew that most results are too small; the sentence says so.

    The distance serves as the measure of progress. It need not be the best one (an ill-conditioned
    Hessian, momentum): then the scatter grows, the mean stays right.
    Source: Garvels (2000), fixed effort splitting; Cerou & Guyader (2007), adaptive levels.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import sgdsim
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.stagnation import Splitting, splitting_exit_probability
    >>> rare = splitting_exit_probability(
    ...     Quadratic([1.0]).problem(),
    ...     sgdsim.gaussian_sgd(0.05, sgdsim.IsotropicNoise(0.04)),
    ...     sgdsim.Ball(jnp.zeros(1), 0.2),
    ...     jnp.zeros(1),
    ...     steps=1000,
    ...     splitting=Splitting(particles=200, replicas=10),
    ... )
    >>> rare.low < 2.65e-7 < rare.high  # the exact probability
    True
    """
    check_confidence(confidence)
    runs = run_splitting(problem, stepper, region, theta, (int(steps), 0), splitting)
    reached = runs.prefix.mean(axis=0)
    before = np.concatenate([[1.0], reached[:-1]])
    shares = np.divide(reached, before, out=np.full(reached.shape, np.nan), where=before > 0)
    if reached[-1] > 0:
        estimate = _interval(runs.prefix[:, -1], confidence)
        sentence = _in_words(*estimate, confidence, splitting, int(steps), runs)
        return RareExit(*estimate, runs.levels, shares, runs.trajectory_steps, sentence)
    stop, high = _ceiling(runs.prefix, splitting, confidence)
    sentence = (
        f"no particle reached level {stop + 1} of {len(reached)} ({runs.levels[stop]:.3g} of the "
        f"radius): the probability is not 0 but below about {high:.1e} at {confidence:.0%}; take "
        "more particles or closer levels"
    )
    return RareExit(0.0, 0.0, high, np.inf, runs.levels, shares, runs.trajectory_steps, sentence)


def splitting_exit_rate(
    problem: Problem,
    stepper: AbstractStepper,
    region: AbstractRegion,
    theta: PyTree,
    steps: int,
    burn_in: int,
    splitting: Splitting = _STANDARD,
    confidence: float = 0.95,
) -> RareExitRate:
    r"""Exit rate per step after a burn-in, by the same splitting.

    .. math:: \hat\lambda = \frac{1}{T - t_0}
              \log\frac{1 - \hat P(\tau \le t_0)}{1 - \hat P(\tau \le T)}

    Parameters
    ----------
    problem, stepper, region, theta, steps, splitting, confidence
        As in `splitting_exit_probability`.
    burn_in
        Steps :math:`t_0 < T` after which the start is forgotten: a few times 1/(eta mu).

    Returns
    -------
    RareExitRate
        Per step. Where no exit was seen the rate is 0 and ``high`` says how little that means.

    Raises
    ------
    ValueError
        As in `splitting_exit_probability`, or the burn-in is not in [0, T).

    Notes
    -----
    Meant for rates with :math:`\lambda T \ll 1`, for which exits are counted directly in the
    window :math:`(t_0, T]`; T of some ten relaxation times is enough, a longer one costs more and
    says the same. With its ``relative_error`` as the standard error of the log rate the result
    goes into `arrhenius_fit_log_rates`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import sgdsim
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.stagnation import Splitting, splitting_exit_rate
    >>> estimate = splitting_exit_rate(
    ...     Quadratic([1.0]).problem(),
    ...     sgdsim.gaussian_sgd(0.05, sgdsim.IsotropicNoise(0.04)),
    ...     sgdsim.Ball(jnp.zeros(1), 0.15),
    ...     jnp.zeros(1),
    ...     steps=400,
    ...     burn_in=100,
    ...     splitting=Splitting(particles=200, replicas=10),
    ... )
    >>> estimate.low < 1.34e-6 < estimate.high  # the exact rate
    True
    """
    check_confidence(confidence)
    if not 0 <= burn_in < steps:
        raise ValueError(f"burn_in must be at least 0 and below steps = {steps}, got {burn_in}.")
    runs = run_splitting(problem, stepper, region, theta, (int(steps), int(burn_in)), splitting)
    if np.any(runs.late > 0):
        window, low, high, relative = _interval(runs.late, confidence)
    else:
        late = np.column_stack([runs.prefix[:, :-1], runs.late])
        window, low, high, relative = 0.0, 0.0, _ceiling(late, splitting, confidence)[1], np.inf
    early = float(np.mean(runs.prefix[:, -1] - runs.late))

    # Monotone, so that the limits of the probability of the window may be mapped as they are.
    def rate(share: float) -> float:
        return -float(np.log1p(-min(share / (1.0 - early), 1.0 - 1e-15))) / (steps - burn_in)

    return RareExitRate(rate(window), rate(low), rate(high), relative, runs.trajectory_steps)


def _interval(
    estimates: Float[np.ndarray, " replica"], confidence: float
) -> tuple[float, float, float, float]:
    """Mean, limits on the log scale, standard error over mean."""
    mean = float(estimates.mean())
    relative = float(stats.sem(estimates)) / mean
    factor = float(np.exp(stats.t.ppf((1.0 + confidence) / 2.0, len(estimates) - 1) * relative))
    return mean, mean / factor, min(mean * factor, 1.0), relative


def _ceiling(
    prefix: Float[np.ndarray, "replica level"], splitting: Splitting, confidence: float
) -> tuple[int, float]:
    """First level that no particle of any replica reached, and what the probability is below."""
    reached = prefix.mean(axis=0)
    stop = int(np.flatnonzero(reached == 0)[0])
    before = np.column_stack([np.ones(len(prefix)), prefix])[:, stop]
    tried = int(np.count_nonzero(before)) * splitting.particles
    return stop, float(before.mean() * clopper_pearson(0, tried, confidence)[1])


def _in_words(
    mean: float,
    low: float,
    high: float,
    relative: float,
    confidence: float,
    splitting: Splitting,
    steps: int,
    runs: Runs,
) -> str:
    sentence = (
        f"exit probability {mean:.2e} ({low:.1e} to {high:.1e} at {confidence:.0%}) from "
        f"{splitting.replicas} replicas of {splitting.particles} particles at {len(runs.levels)} "
        "levels"
    )
    if relative > 0.3:
        return sentence + "; the replicas scatter too much to trust it, take more particles"
    if relative > 0:
        gain = steps * (1.0 - mean) / (mean * relative**2) / runs.trajectory_steps
        sentence += f"; plain Monte Carlo takes {gain:.1e} times the steps for this precision"
    return sentence
