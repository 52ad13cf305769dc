r"""Bounds on the mean gap from the gradients along the trajectories of noisy gradient descent.

The gap is :math:`E[L(\theta_T)-L_n(\theta_T)]` over training rows and noise, for any loss with
values in an interval of length B, whether it is the one that is descended or not; it is then
R-sub-Gaussian with ``R = B/2``. Steps, :math:`v_t` and ``c`` are those of ``GradientStream``, and
the start does not depend on the training rows S. Every bound is :math:`\sqrt{k\sum_t i_t}`, the
increments :math:`i_t` adding up to a bound on an information.

**Tools.** (a) If X, Y are dependent, X', Y' independent with the same laws, and ``f(x', Y')`` is
R-sub-Gaussian for every x', then :math:`|E f(X,Y)-E f(X',Y')|\le\sqrt{2R^2 I(X;Y)}`.
(b) :math:`I(X;Y)\le E\,\mathrm{KL}(P_{X|Y}\|Q)` for every Q that does not depend on Y.
(c) For trajectories KL adds up over the steps, each taken along the true trajectory; between two
Gaussian steps with means ``m, m'`` it is :math:`\|m-m'\|^2/(2v_t)`.
The weights :math:`w_t` and everything else that is independent of S may be conditioned on.

``population_chain``. (a) with :math:`X=\theta_T, Y=S` for the mean of n losses, whose parameter is
:math:`R/\sqrt n`; Q descends the population risk. The means of the steps differ by
:math:`\eta_t(g_t-\nabla L)`, in mean square over the weights
:math:`\eta_t^2(\|\nabla L_n-\nabla L\|^2+c\,\mathrm{tr}\,C_n)`.

``gradient_entropy``. As before, but the step's information is an entropy minus that of its noise.
Given the past, the covariance of :math:`\theta_{t+1}` has at most the trace
:math:`\eta_t^2E\|g_t\|^2+pv_t`, and the Gaussian has the largest entropy. The logarithm is concave,
so the mean square over trajectories may stand inside: no Lipschitz constant is needed.

``gradient_norm``. Row by row: with :math:`I_i=I(\theta_T;Z_i|S_{-i})`, by (a) for :math:`Y=Z_i`
given the other rows, :math:`|E\,\mathrm{gap}|\le\frac1n\sum_i\sqrt{2R^2I_i}\le
\sqrt{2R^2\,\frac1n\sum_i I_i}`. Q leaves row i out of the sum, the means differ by
:math:`\eta_tw_{t,i}g_i`.

``incoherence``. The same with a Q that replaces row i by the mean of the others: they differ by
:math:`\eta_tw_{t,i}\frac n{n-1}(g_i-\bar g)`. If Q knows m random rows only and the full gradient
is used, the other :math:`n-m` rows are one block with parameter :math:`R/\sqrt{n-m}`, and the mean
of m rows drawn without replacement is off by :math:`\mathrm{tr}\,C_n\,(n-m)/(m(n-1))` in mean
square.

``conditional``. Every training row was drawn by a fair coin :math:`U_i` from a pair. Given all
pairs and the other coins, the gap of pair i is :math:`(-1)^{U_i}` times a number in
:math:`[-B,B]`, so :math:`|E\,\mathrm{gap}|\le\sqrt{2B^2\frac1n\sum_iI(\theta_T;U_i|\cdot)}`. Q
takes the mean of the two gradients, at distance :math:`\eta_tw_{t,i}\|D_i\|/2` from either.

``conditional_tested``. Q weighs the two gradients by the odds that the trajectory so far gives to
them. It is off by :math:`\eta_t\|D_i\|\pi_{t,i}/n`, :math:`\pi` being the weight of the wrong row.

``virtual_noise``. SGD without noise of its own, :math:`\tilde\theta_t=\theta_t+u_t` with
:math:`u_t=\sum_{s<t}\sigma_s\zeta_s`. ``population_chain`` for :math:`\tilde\theta` with Q at
:math:`\nabla L(\tilde\theta_t)` (KL is convex, so the past of :math:`\theta` may be conditioned on)
and :math:`\|g_t-\nabla L(\tilde\theta_t)\|^2\le 2\|g_t-\nabla L(\theta_t)\|^2
+2\|\nabla L(\theta_t)-\nabla L(\tilde\theta_t)\|^2`. The gaps of :math:`\theta_T` and
:math:`\tilde\theta_T` differ by the term ``smoothing``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from sgdsim.bounds._information_statements import INFORMATION_BOUNDS
from sgdsim.bounds._information_stream import GradientStream


class ExpectationValue(NamedTuple):
    """Bound on the mean gap of the iterate after each recorded step.

    Attributes
    ----------
    value
        Never clipped, shape ``(step,)``; the last one is for the end of the trajectories.
    stderr
        Standard error over training sets, or over trajectories if there is one training set
        (jackknife); nan for a single trajectory. Shape ``(step,)``.
    information
        What is under the root, in nats, shape ``(step,)``: of the parameters about all training
        rows (``population_chain``, ``gradient_entropy``, ``virtual_noise``), about one row or the
        rows that are not kept, given the others (``gradient_norm``, ``incoherence``), or about one
        coin (``conditional``, ``conditional_tested``).
    note
        In which respects it is an estimate.
    """

    value: Float[np.ndarray, " step"]
    stderr: Float[np.ndarray, " step"]
    information: Float[np.ndarray, " step"]
    note: str


class _Terms(NamedTuple):
    """One bound: ``sqrt(factor * sum of increments(mean of statistic)) + |mean of shift|``."""

    statistic: np.ndarray
    increments: Callable[[np.ndarray], np.ndarray]
    factor: float
    shift: np.ndarray | None = None


def expectation_bounds(
    stream: GradientStream,
    loss_range: float | int,
    names: Sequence[str] | None = None,
    kept: int | None = None,
) -> dict[str, ExpectationValue]:
    r"""Bound the mean gap at every recorded step.

    .. math:: |E[L(\theta_{t+1})-L_n(\theta_{t+1})]| \le \sqrt{k\sum_{s\le t} i_s}

    Parameters
    ----------
    stream
        Statistics along the trajectories.
    loss_range
        ``B``: the loss whose gap is bounded has values in an interval of this length.
    names
        Keys of ``EXPECTATION_BOUNDS``; all that the stream suffices for if left out. Each holds
        on its own, and so does the smallest: they are statements about means.
    kept
        ``m``, rows that the comparison process of ``incoherence`` knows, fewer than ``n``; ``n-1``
        is best and the default.

    Returns
    -------
    dict
        Values by name, in the order of ``EXPECTATION_BOUNDS``.

    Raises
    ------
    ValueError
        If the loss is unbounded, or a bound asked for by name does not apply to the process or
        lacks a statistic.

    Notes
    -----
    The means over training rows and noise are those over the trajectories of the stream. With one
    training set that over the rows is estimated from a single draw, which the note says.
    Formulas with their proofs: ``sgdsim.bounds.explain`` and the head of this module.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import GradientStream, expectation_bounds
    >>> stream = GradientStream(  # 60 steps of Langevin noise on n = 50 rows
    ...     step=np.arange(60), learning_rate=np.full(60, 0.1), noise_variance=np.full(60, 0.003),
    ...     samples=50, parameters=5,
    ...     gradient_square=np.full((4, 60), 0.1), covariance_trace=np.full((4, 60), 5.0),
    ... )
    >>> for name, bound in expectation_bounds(stream, loss_range=1).items():
    ...     print(name, bound.value[-1].round(3))
    gradient_entropy 0.311
    gradient_norm 0.319
    incoherence 0.323
    """
    if not 0 < loss_range < np.inf:
        raise ValueError(
            f"loss_range must be positive and finite, got {loss_range}: these bounds need a "
            "bounded loss; take the 0-1 or ramp loss (range 1), or clip the loss."
        )
    chosen = list(INFORMATION_BOUNDS) if names is None else list(names)
    unknown = [name for name in chosen if name not in INFORMATION_BOUNDS]
    if unknown:
        raise ValueError(
            f"There is no bound on the mean gap named {unknown[0]!r}; there are "
            f"{', '.join(INFORMATION_BOUNDS)}."
        )
    values = {}
    for name in INFORMATION_BOUNDS:
        reason = _refusal(name, stream, kept) if name in chosen else ""
        if reason and names is not None:
            raise ValueError(f"{name} {reason}.")
        if name in chosen and not reason:
            values[name] = _evaluate(stream, _TERMS[name](stream, kept), float(loss_range))
    return values


def wrong_row_weights(
    pair_square: Float[np.ndarray, "*lead step row"],
    pair_noise: Float[np.ndarray, "*lead step row"],
    learning_rate: Float[np.ndarray, " step"],
    noise_variance: Float[np.ndarray, " step"],
    samples: int,
) -> Float[np.ndarray, "*lead step row"]:
    r"""Weight that the trajectory so far leaves to the ghost row of each pair.

    .. math:: \pi_{t,i} = \frac{1}{1+e^{\Lambda_{t,i}}}, \qquad
        \Lambda_{t,i} = \sum_{s<t}\Big(\frac{\eta_s^2\|D_{s,i}\|^2}{2v_sn^2}
        - \frac{\eta_s}{n\sqrt{v_s}}\langle\zeta_s,D_{s,i}\rangle\Big)

    Parameters
    ----------
    pair_square, pair_noise
        As in ``GradientStream``, every step.
    learning_rate, noise_variance
        Of every step; variances positive.
    samples
        ``n``.

    Returns
    -------
    array
        Before each step, so 1/2 at the first.

    Notes
    -----
    Log-likelihood ratio of the steps under the two hypotheses, full gradient. Among all weights of
    the past the posterior ones make the mean of :math:`\pi^2` smallest. Haghifam et al. 2020 put
    the error function in place of the logistic one, which is as valid and a little larger.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import wrong_row_weights
    >>> square, noise = np.full((3, 1), 8.0), np.zeros((3, 1))
    >>> wrong_row_weights(square, noise, np.ones(3), np.ones(3), samples=2).ravel().round(3)
    array([0.5  , 0.269, 0.119])
    """
    rate = (learning_rate / samples)[:, None]
    spread = np.sqrt(noise_variance)[:, None]
    gains = 0.5 * (rate / spread) ** 2 * pair_square - rate / spread * pair_noise
    odds = np.cumsum(gains, axis=-2) - gains
    return np.asarray(expit(-odds))


def _refusal(name: str, stream: GradientStream, kept: int | None) -> str:
    """Why a bound does not hold or cannot be evaluated, and what to do; empty if it can be."""
    missing = [field for field in INFORMATION_BOUNDS[name].needs if getattr(stream, field) is None]
    silent = (stream.noise_variance == 0) & (stream.learning_rate > 0)
    if name == "virtual_noise":
        if (stream.noise_variance > 0).any():
            return (
                "is for steps without noise of their own, but these inject some; use "
                "population_chain or incoherence, which need no virtual noise"
            )
        if not stream.plain_steps:
            return (
                "is for plain SGD, but these steps also shrink or project the parameters; put the "
                "decay into the loss as a ridge penalty, and do not project"
            )
    elif silent.any():
        return (
            f"needs noise in every step, but {int(silent.sum())} of {silent.size} inject none "
            "(that of a minibatch, real or Gaussian, is shaped by the training rows and does not "
            "count); use virtual_noise, or simulate isotropic or Langevin noise"
        )
    if missing:
        return (
            f"needs {', '.join(missing)}, which the stream lacks; record it or leave the bound out"
        )
    if name == "virtual_noise" and not (np.asarray(stream.virtual_variance) > 0).all():
        return "needs a positive virtual_variance in every step; choose one, and never zero"
    if name == "conditional_tested":
        if stream.batch_factor > 0:
            return "is for the full gradient, but the steps take minibatches; use conditional"
        if stream.every > 1:
            return (
                "follows the evidence step by step, but the records are thinned; record every step "
                "or use conditional"
            )
    if name == "incoherence" and kept is not None:
        if not 1 <= kept < stream.samples:
            return f"needs kept between 1 and n - 1 = {stream.samples - 1}, got {kept}"
        if kept < stream.samples - 1 and stream.batch_factor > 0:
            return "with fewer than n - 1 kept rows is for the full gradient; leave kept out"
    return ""


def _evaluate(stream: GradientStream, terms: _Terms, loss_range: float) -> ExpectationValue:
    """Value, standard error and information of one bound."""

    def information(mean: np.ndarray) -> np.ndarray:
        return stream.every * np.cumsum(terms.increments(mean), axis=-1)

    def bound(mean: np.ndarray, shift: np.ndarray | float) -> np.ndarray:
        return loss_range * np.sqrt(terms.factor * information(mean)) + np.abs(shift)

    shifts = np.zeros_like(terms.statistic) if terms.shift is None else terms.shift
    mean = terms.statistic.mean(axis=0)
    left_out = [_means_without_each(values, stream.groups) for values in (terms.statistic, shifts)]
    return ExpectationValue(
        value=np.asarray(bound(mean, shifts.mean(axis=0))),
        stderr=_jackknife(bound(*left_out)),
        information=np.asarray(information(mean)),
        note=_note(stream),
    )


def _means_without_each(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Means over the trajectories without those of one group, shape ``(group, step)``."""
    counts = np.bincount(groups)
    totals = np.zeros((len(counts), values.shape[1]))
    np.add.at(totals, groups, values)
    left = np.maximum(len(values) - counts, 1)[:, None]
    return (values.sum(axis=0) - totals) / left


def _jackknife(estimates: np.ndarray) -> np.ndarray:
    """Turn estimates without one group each into a standard error."""
    count = len(estimates)
    if count < 2:
        return np.full(estimates.shape[1], np.nan)
    return np.asarray(np.sqrt((count - 1) * estimates.var(axis=0)))


def _note(stream: GradientStream) -> str:
    """Say what is estimated."""
    parts = []
    if stream.training_set is None or np.all(stream.training_set == stream.training_set[0]):
        parts.append(
            "one training set: the mean over training rows is estimated from one draw, and the "
            "standard error is that of the noise alone"
        )
    if stream.every > 1:
        parts.append(f"every step stands for {stream.every}: the sum over steps is an estimate")
    return "; ".join(parts)


def _signal(stream: GradientStream) -> np.ndarray:
    """``eta^2 / v``, zero where nothing moves."""
    still = stream.learning_rate == 0
    return np.where(still, 0.0, stream.learning_rate**2 / np.where(still, 1, stream.noise_variance))


def _weight_square(stream: GradientStream) -> float:
    """Mean square of the weight of a row, ``E w_i^2``."""
    n = stream.samples
    return (1 + stream.batch_factor * (n - 1)) / n**2


def _population_chain(stream: GradientStream, kept: int | None) -> _Terms:
    statistic = np.asarray(stream.deviation) + stream.batch_factor * stream.covariance_trace
    rate = 0.5 * _signal(stream)
    return _Terms(statistic, lambda mean: rate * mean, 0.5 / stream.samples)


def _gradient_entropy(stream: GradientStream, kept: int | None) -> _Terms:
    statistic = stream.gradient_square + stream.batch_factor * stream.covariance_trace
    p, rate = stream.parameters, _signal(stream) / stream.parameters
    return _Terms(statistic, lambda mean: 0.5 * p * np.log1p(rate * mean), 0.5 / stream.samples)


def _gradient_norm(stream: GradientStream, kept: int | None) -> _Terms:
    rate = 0.5 * _signal(stream) * _weight_square(stream)
    return _Terms(stream.sample_square, lambda mean: rate * mean, 0.5)


def _incoherence(stream: GradientStream, kept: int | None) -> _Terms:
    n = stream.samples
    m = n - 1 if kept is None else kept
    # For m = n - 1 the first three factors are (n/(n-1))^2 E w_i^2.
    share = n**2 * _weight_square(stream) * (n - m) / (m * (n - 1))
    rate = 0.5 * _signal(stream) * share
    return _Terms(stream.covariance_trace, lambda mean: rate * mean, 0.5 / (n - m))


def _conditional(stream: GradientStream, kept: int | None) -> _Terms:
    rate = 0.125 * _signal(stream) * _weight_square(stream)
    statistic = np.asarray(stream.pair_square).mean(axis=-1)
    return _Terms(statistic, lambda mean: rate * mean, 2.0)


def _conditional_tested(stream: GradientStream, kept: int | None) -> _Terms:
    square, noise = np.asarray(stream.pair_square), np.asarray(stream.pair_noise)
    moving = stream.learning_rate > 0
    variance = np.where(moving, stream.noise_variance, 1.0)
    weights = wrong_row_weights(square, noise, stream.learning_rate, variance, stream.samples)
    rate = 0.5 * _signal(stream) / stream.samples**2
    return _Terms((weights**2 * square).mean(axis=-1), lambda mean: rate * mean, 2.0)


def _virtual_noise(stream: GradientStream, kept: int | None) -> _Terms:
    dispersion = np.asarray(stream.deviation) + stream.batch_factor * stream.covariance_trace
    rate = stream.learning_rate**2 / np.asarray(stream.virtual_variance)
    return _Terms(
        np.asarray(stream.sensitivity) + dispersion,
        lambda mean: rate * mean,
        0.5 / stream.samples,
        np.asarray(stream.smoothing),
    )


_TERMS: dict[str, Callable[[GradientStream, int | None], _Terms]] = {
    "population_chain": _population_chain,
    "gradient_entropy": _gradient_entropy,
    "gradient_norm": _gradient_norm,
    "incoherence": _incoherence,
    "conditional": _conditional,
    "conditional_tested": _conditional_tested,
    "virtual_noise": _virtual_noise,
}
