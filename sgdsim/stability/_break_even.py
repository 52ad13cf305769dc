"""The break-even point: where the early growth of the sharpness ends."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sgdsim.stability._detector_series import running_median, scatter_before
from sgdsim.stability._mean_square import Numbers


class BreakEven(NamedTuple):
    """Where the early growth of an eigenvalue ends.

    Attributes
    ----------
    step
        First recorded step at which it has ended, to one per cent of the level; -1 if there is no
        growth, or no end that the run is long enough to show.
    low, high
        Last recorded step surely before it and first one surely after it; -1 with ``step``.
    sharpness
        Level at which it ended; NaN without a step.
    ratio
        That level over the threshold at the step; NaN without one.
    """

    step: int = -1
    low: int = -1
    high: int = -1
    sharpness: float = math.nan
    ratio: float = math.nan


def break_even(
    step: Numbers,
    sharpness: Numbers,
    *,
    threshold: Numbers | None = None,
    error: Numbers | None = None,
    growth: float | int = 0.1,
    patience: float | int = 1.0,
) -> BreakEven:
    r"""Find where an eigenvalue stops its early growth.

    The running median :math:`\tilde\lambda` has then risen, and for as long again it rises by no
    more than a share of that,

    .. math:: \max_{t\le s\le t+c(t-t_0)}\tilde\lambda(s) - \tilde\lambda(t)
        \le \epsilon\,\Big(\tilde\lambda(t)-\min_{s\le t}\tilde\lambda(s)\Big)

    The break-even point is the first record from there on within one per cent of the level, which
    is the median over that time, or :math:`\tilde\lambda(t)` if it falls again.

    Parameters
    ----------
    step
        Recorded steps, ascending, shape ``(record,)``.
    sharpness
        Largest eigenvalue of the Hessian, or of the covariance of the gradient noise, shape
        ``(record,)``; NaN where not measured. Of gradient descent at the edge take the one at
        midpoints.
    threshold
        The edge, one number or one per record, for the ratio.
    error
        Bound on the error of the eigenvalue, shape ``(record,)``; it widens the interval.
    growth
        Share :math:`\epsilon` of the rise by which it may go on; also the relative rise that there
        must have been.
    patience
        Time ``c`` without growth, as a share of the time before it; at least five records.

    Returns
    -------
    BreakEven
        A straight line or a square root never ends; a logarithm, by less than :math:`\epsilon` of
        its rise per doubling of the time, does in the end.

    Raises
    ------
    ValueError
        If the steps do not ascend or the shapes disagree.

    Notes
    -----
    Jastrzebski et al. 2020 define the break-even point as the first one at which SGD is not stable
    along the top eigenvector of the Hessian, and predict that a smaller learning rate or a larger
    batch lets the eigenvalue, and the variance of the gradients, grow further; see
    :func:`break_even_sharpness`. The end of the growth is what such a run shows of it; a run whose
    growth ends for another reason, such as a vanishing loss, has a low ``ratio``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stability import break_even
    >>> step = np.arange(0, 4000, 20)
    >>> found = break_even(step, np.minimum(1 + step / 250, 5.0), threshold=5.0)
    >>> found.step, found.low, found.high, found.ratio
    (1000, 980, 1000, 1.0)
    >>> break_even(step, 1 + step / 250).step
    -1
    """
    times, values = np.asarray(step, np.int64), np.asarray(sharpness, np.float64)
    if times.ndim != 1 or np.any(np.diff(times) <= 0):
        raise ValueError(f"step must be a list of ascending steps, got {times.tolist()[:8]}.")
    if values.shape != times.shape:
        raise ValueError(
            f"sharpness must have one entry for each of the {times.size} recorded steps, got the "
            f"shape {values.shape}."
        )
    errors, edges = (
        np.broadcast_to(np.asarray(np.nan if given is None else given, np.float64), times.shape)
        for given in (error, threshold)
    )
    known = np.isfinite(values)
    if np.sum(known) < 5:
        return BreakEven()
    times, values, errors = times[known], values[known], np.nan_to_num(errors[known])
    window = max(5, values.size // 50) | 1
    smooth = running_median(values, window)
    found = _end_of_growth(times, smooth, growth, patience, window)
    if found is None:
        return BreakEven()
    first, last = found
    level = max(float(np.median(smooth[first:last])), float(smooth[first]))
    nearly = 0.99 * level
    at = first + int(np.argmax(smooth[first:last] >= nearly))
    unsure = errors + scatter_before(times, values, at, max(5, values.size // 10))
    before = np.flatnonzero(smooth[:at] + unsure[:at] < nearly)
    goal = np.minimum(nearly + unsure, np.max(smooth[first:last]))
    after = at + int(np.argmax(smooth[at:last] >= goal[at:last]))
    return BreakEven(
        int(times[at]),
        int(times[before[-1] if before.size else 0]),
        int(times[after]),
        level,
        level / float(edges[known][at]),
    )


def break_even_sharpness(
    learning_rate: Numbers,
    curvature_noise: Numbers,
    batch_size: Numbers,
    rows: float | int = math.inf,
) -> Float[np.ndarray, "*point"]:
    r"""Sharpness at which SGD stops being stable along the sharpest direction.

    .. math:: \lambda^* = \frac2\eta - \frac{\alpha}{B}\,\frac{n-B}{n-1}

    Parameters
    ----------
    learning_rate, batch_size
        ``eta`` and ``B``.
    curvature_noise
        :math:`\alpha = \mathrm{Var}(a_i)/E a_i` of the curvatures :math:`a_i` of single rows along
        the direction.
    rows
        Number of rows ``n`` for batches without replacement; infinite for batches with it.

    Returns
    -------
    array
        Not positive where SGD is unstable at every sharpness.

    Notes
    -----
    From :math:`E(1-\eta a_B)^2 = (1-\eta\lambda)^2+\eta^2\mathrm{Var}(a_B) = 1`, in which the
    variance grows with the curvature as :math:`\alpha\lambda`; after Jastrzebski et al. 2020. The
    batch sharpness :math:`E a_B^2/E a_B` is :math:`2/\eta` there.

    Examples
    --------
    >>> from sgdsim.stability import break_even_sharpness
    >>> break_even_sharpness(0.5, 8.0, [4, 16]).tolist()
    [2.0, 3.5]
    """
    batch = np.asarray(batch_size, np.float64)
    left = 1.0 if math.isinf(rows) else (rows - batch) / (rows - 1.0)
    noise = np.asarray(curvature_noise, np.float64) / batch * left
    return np.asarray(2.0 / np.asarray(learning_rate, np.float64) - noise)


def _end_of_growth(
    times: np.ndarray, smooth: np.ndarray, growth: float, patience: float, window: int
) -> tuple[int, int] | None:
    """First record after which nothing grows for long enough, and the end of that time."""
    lowest = np.minimum.accumulate(smooth)
    grown = smooth >= lowest + growth * np.abs(lowest)
    for k in np.flatnonzero(grown & (smooth > 0)):
        until = times[k] + patience * (times[k] - times[0])
        if until > times[-1]:
            return None
        last = max(int(np.searchsorted(times, until, side="right")), int(k) + window)
        if last > times.size:
            return None
        if np.max(smooth[k:last]) - smooth[k] <= growth * (smooth[k] - lowest[k]):
            return int(k), last
    return None
