"""Losses of the margin, the generalization gap between two of them, and tightness."""

from difflib import get_close_matches
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Int

from sgdsim.bounds._types import LossName


class Gap(NamedTuple):
    r"""Generalization gap: mean held-out loss minus mean training loss.

    Attributes
    ----------
    value
        Shape ``(...)``.
    stderr
        Standard error from the finite number of held-out rows, conditional on the training rows
        (the training loss is known exactly), shape ``(...)``.
    """

    value: Float[np.ndarray, "..."]
    stderr: Float[np.ndarray, "..."]


def margins(
    logits: Float[np.ndarray, "*lead row label"], labels: Int[np.ndarray, " row"]
) -> Float[np.ndarray, "*lead row"]:
    r"""Margin :math:`f(x)_y - \max_{j\ne y} f(x)_j` of every row.

    Parameters
    ----------
    logits
        Outputs of the network, shape ``(..., row, label)``, at least two labels.
    labels
        True labels, shape ``(row,)``.

    Returns
    -------
    array
        Shape ``(..., row)``, float64; positive where the row is classified correctly, nan where
        the logits are not finite.

    Raises
    ------
    ValueError
        If there are fewer than two labels or a label has no logit.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import margins
    >>> margins(np.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), np.array([0, 1])).tolist()
    [2.0, -2.0]
    """
    logits = np.asarray(logits, dtype=np.float64)
    labels_known = logits.shape[-1]
    if labels_known < 2:
        raise ValueError(f"A margin needs at least two logits; got {labels_known}.")
    if labels.size and not (labels.min() >= 0 and labels.max() < labels_known):
        raise ValueError(
            f"Labels must be in 0..{labels_known - 1}; got {labels.min()}..{labels.max()}."
        )
    chosen = np.arange(labels_known) == labels[:, None]
    finite = np.asarray(np.isfinite(logits).all(axis=-1))
    safe = np.where(finite[..., None], logits, 0.0)
    right = np.sum(np.where(chosen, safe, 0.0), axis=-1)
    rival = np.max(np.where(chosen, -np.inf, safe), axis=-1)
    return np.asarray(np.where(finite, right - rival, np.nan))


def ramp(margins: Float[np.ndarray, "*shape"], gamma: float | int) -> Float[np.ndarray, "*shape"]:
    r"""Ramp loss of every row: 1 for margin <= 0, then :math:`1-m/\gamma`, then 0.

    Parameters
    ----------
    margins
        Any shape; nan stays nan.
    gamma
        Margin at which the loss vanishes, positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import ramp
    >>> ramp(np.array([-1.0, 0.0, 0.5, 2.0, 3.0]), 2.0).tolist()
    [1.0, 1.0, 0.75, 0.0, 0.0]
    """
    _check_gamma(gamma)
    return np.asarray(1.0 - np.clip(margins / gamma, 0.0, 1.0))


def zero_one(margins: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""Classification error of every row: 1 where the margin is not positive (ties are errors).

    Parameters
    ----------
    margins
        Any shape; nan stays nan.
    """
    return _indicator(margins, 0.0)


def margin_fraction(
    margins: Float[np.ndarray, "*lead row"], gamma: float | int
) -> Float[np.ndarray, "*lead"]:
    r"""Fraction of the rows with margin at most :math:`\gamma`.

    Parameters
    ----------
    margins
        Shape ``(..., row)``.
    gamma
        Positive.
    """
    return np.asarray(np.mean(_row_losses(margins, "margin", gamma), axis=-1))


def generalization_gap(
    training_margins: Float[np.ndarray, "*lead row"],
    held_out_margins: Float[np.ndarray, "*lead held_out"],
    pair: tuple[LossName, LossName],
    gamma: float | int,
) -> Gap:
    r"""Estimate population loss minus training loss for a pair of losses.

    Parameters
    ----------
    training_margins
        Shape ``(..., row)``.
    held_out_margins
        Shape ``(..., held_out)``: rows used neither for training nor for the reference, at
        least two.
    pair
        ``(population_loss, empirical_loss)`` of a certificate.
    gamma
        Margin of the ramp and of the margin loss.

    Returns
    -------
    Gap
        Shape ``(...)``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import CERTIFICATES, generalization_gap
    >>> bound = CERTIFICATES["NBS"]
    >>> gap = generalization_gap(
    ...     np.array([2.0, 3.0, 0.5, 4.0]),
    ...     np.array([2.0, -1.0, -0.5, 4.0]),
    ...     (bound.population_loss, bound.empirical_loss),
    ...     1.0,
    ... )
    >>> float(gap.value), round(float(gap.stderr), 4)
    (0.25, 0.2887)
    """
    if held_out_margins.shape[-1] < 2:
        raise ValueError(
            f"A standard error needs at least two held-out rows; got {held_out_margins.shape[-1]}."
        )
    population = _row_losses(held_out_margins, pair[0], gamma)
    return gap_from_moments(
        np.asarray(population.mean(axis=-1)),
        np.asarray(population.var(axis=-1, ddof=1)),
        held_out_margins.shape[-1],
        np.asarray(_row_losses(training_margins, pair[1], gamma).mean(axis=-1)),
    )


def gap_from_moments(
    held_out_mean: Float[np.ndarray, "*lead"],
    held_out_variance: Float[np.ndarray, "*lead"],
    held_out_rows: int,
    training_mean: Float[np.ndarray, "*lead"],
) -> Gap:
    r"""Gap and standard error from means and a variance that were computed elsewhere.

    .. math:: \hat g = \bar\ell_{\text{held out}} - \bar\ell_{\text{train}},\qquad
              \mathrm{se} = (v/m)^{1/2}.

    Parameters
    ----------
    held_out_mean, held_out_variance
        Mean and variance over the held-out rows of the population loss of the pair (divide the
        sum of squares by ``m - 1``).
    held_out_rows
        Number ``m`` of held-out rows.
    training_mean
        Mean over the training rows of the empirical loss of the pair.
    """
    if held_out_rows < 1:
        raise ValueError(f"held_out_rows must be at least 1; got {held_out_rows}.")
    value = np.asarray(held_out_mean, np.float64) - np.asarray(training_mean, np.float64)
    stderr = np.sqrt(np.asarray(held_out_variance, np.float64) / held_out_rows)
    return Gap(np.asarray(value), np.asarray(stderr))


def tightness(
    value: Float[np.ndarray, "*shape"], gap: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    r"""Certificate divided by gap; nan where the gap is not positive.

    Parameters
    ----------
    value
        Values of a certificate.
    gap
        Gap for the same pair of losses.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import tightness
    >>> tightness(np.array([0.5, 0.5]), np.array([0.1, -0.1])).tolist()
    [5.0, nan]
    """
    positive = np.where(gap > 0.0, gap, np.nan)
    with np.errstate(over="ignore"):
        return np.asarray(value / positive)


def auto_margin(margins: Float[np.ndarray, "..."]) -> float:
    r"""Margin for the certificates: the median of the positive margins.

    Compute it on rows that are independent of the training rows, so that it is fixed in advance.

    Parameters
    ----------
    margins
        Margins of the reference minimum on the reference rows.

    Raises
    ------
    ValueError
        If no margin is positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import auto_margin
    >>> auto_margin(np.array([-1.0, 0.5, 1.0, 4.0]))
    1.0
    """
    positive = margins[margins > 0.0]
    if positive.size == 0:
        raise ValueError(
            f"None of the {margins.size} margins is positive, so there is no median to choose; "
            "give the margin as a number or use a reference that classifies some row correctly."
        )
    return float(np.median(positive))


def _indicator(margins: np.ndarray, threshold: float) -> np.ndarray:
    # A comparison with nan is false, which would count a diverged network as always right.
    return np.asarray(np.where(np.isnan(margins), np.nan, (margins <= threshold) * 1.0))


def _row_losses(margins: np.ndarray, loss: str, gamma: float | int) -> np.ndarray:
    _check_gamma(gamma)
    if loss == "ramp":
        return ramp(margins, gamma)
    if loss == "margin":
        return _indicator(margins, gamma)
    if loss == "zero_one":
        return zero_one(margins)
    known = [name for name in get_args(LossName) if name != "gibbs"]  # which no margin tells
    close = get_close_matches(loss, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Unknown loss {loss!r}; the losses are {', '.join(known)}.{hint}")


def _check_gamma(gamma: float | int) -> None:
    if not 0.0 < gamma < np.inf:
        raise ValueError(f"gamma must be positive and finite; got {gamma}.")
