r"""Mean-square stability and stationary variances of SGD and of its SDE, in closed form.

The model is SGD on least squares with Gaussian features of covariance ``H``, a new batch of ``B``
rows at every step: the smallest model whose noise depends on the iterate. Gaussian SGD, SVAG and
the Euler scheme of the SDE have the covariance of the minibatch gradient too, so that one formula
describes the second moments of all of them: ``m`` steps of length ``eta/m`` per SGD step, one for
SGD and Gaussian SGD, ``l`` for SVAG(l), infinitely many for the SDE itself (Ito, time
``t = eta k``).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import root_scalar

#: What numpy turns into an array of numbers.
Numbers = float | int | Sequence | np.ndarray | np.generic
_Array = np.ndarray | np.generic


class MeanSquareGauge(NamedTuple):
    """Bounds on the mean-square gauge ``K``; they agree if every eigenvalue is known.

    Attributes
    ----------
    low, high
        With the unknown eigenvalues infinitely small, or as large as the smallest known one.
    """

    low: Float[np.ndarray, "*point"]
    high: Float[np.ndarray, "*point"]


def mean_square_gauge(
    eigenvalues: Numbers,
    trace: Numbers | None,
    learning_rate: Numbers,
    batch_size: float | int,
    *,
    substeps: float | int = 1.0,
) -> MeanSquareGauge:
    r"""Gauge ``K`` of mean-square stability: second moments stay bounded if and only if ``K < 1``.

    .. math:: K = \frac{\eta}{B}\sum_i\frac{\lambda_i}{2-\eta\lambda_i(1/m+1/B)}

    and infinite where a denominator is not positive.

    Parameters
    ----------
    eigenvalues
        The largest eigenvalues of the Hessian, shape ``(..., k)``; negative ones count as zero.
    trace
        Trace of the Hessian, shape ``(...)``; ``None`` if all eigenvalues are given.
    learning_rate
        ``eta > 0``, one number or shape ``(...)``.
    batch_size
        Rows per batch ``B``, drawn with replacement.
    substeps
        Steps ``m`` per ``eta`` of time: 1 for SGD and Gaussian SGD, ``l`` for SVAG(l), ``math.inf``
        for the SDE with the covariance of the minibatch gradient.

    Returns
    -------
    MeanSquareGauge
        Bounds on ``K``, shape ``(...)``; NaN where an input is.

    Notes
    -----
    Exact for least squares with Gaussian features. For a network it is that of the linearised
    model with the Hessian as feature covariance: an estimate, not a bound. Eigenvalues below the
    given ones enter through the rest of the trace, if that is positive.

    Source: edge-of-stability theory C8, from
    :math:`E[xx^\top Sxx^\top] = 2HSH+\mathrm{tr}(HS)H`.

    Examples
    --------
    >>> import math
    >>> from sgdsim.stability import mean_square_gauge
    >>> spectrum = [1.0, 0.5, 0.25]
    >>> round(float(mean_square_gauge(spectrum, None, 1.0, 1).low), 6)
    inf
    >>> round(float(mean_square_gauge(spectrum, None, 1.0, 8).low), 6)
    0.204517
    >>> round(float(mean_square_gauge(spectrum, None, 1.0, 8, substeps=math.inf).low), 6)
    0.114798
    """
    known = np.asarray(eigenvalues, dtype=np.float64)
    eta = np.asarray(learning_rate, dtype=np.float64)
    width = 1.0 / substeps + 1.0 / batch_size
    positive = np.maximum(known, 0.0)
    summed = np.sum(_term(eta[..., None] * positive, width), axis=-1)
    low = high = np.asarray(summed / batch_size)
    if trace is not None:
        rest = np.maximum(np.asarray(trace, dtype=np.float64) - np.sum(known, axis=-1), 0.0)
        # The sum is superadditive in the eigenvalues: a given rest weighs least spread thin.
        thick = np.where(
            rest == 0.0, 0.0, _term(eta * np.min(positive, axis=-1), width, eta * rest)
        )
        low, high = low + eta * rest / (2.0 * batch_size), low + thick / batch_size
    return MeanSquareGauge(np.asarray(low), np.asarray(high))


def mean_square_threshold(
    eigenvalues: Numbers, batch_size: float | int, *, substeps: float | int = 1.0
) -> float:
    r"""Learning rate :math:`\eta^*` at which the gauge ``K`` reaches one.

    Parameters
    ----------
    eigenvalues
        All positive eigenvalues of the Hessian, shape ``(k,)``.
    batch_size, substeps
        As for :func:`mean_square_gauge`.

    Returns
    -------
    float
        The learning rate below which second moments stay bounded.

    Raises
    ------
    ValueError
        If no eigenvalue is positive: nothing then pulls towards a minimum.

    Notes
    -----
    ``K`` grows from 0 to infinity below its first pole, where the one root lies.

    Examples
    --------
    >>> import math
    >>> from sgdsim.stability import mean_square_threshold
    >>> spectrum = [1 / i for i in range(1, 65)]
    >>> round(mean_square_threshold(spectrum, 16), 3)
    1.745
    >>> round(mean_square_threshold(spectrum, 16, substeps=math.inf), 3)
    6.252
    """
    spectrum = np.asarray(eigenvalues, dtype=np.float64)
    spectrum = spectrum[spectrum > 0.0]
    if spectrum.size == 0:
        raise ValueError(
            "eigenvalues must contain a positive one, got none: without curvature there is no "
            "stationary law and no threshold."
        )
    largest = np.max(spectrum)
    pole = 2.0 / (largest * (1.0 / substeps + 1.0 / batch_size))
    relative = spectrum / largest

    def remainder(t: float) -> float:
        # (K - 1) (1 - t) at eta = t * pole: continuous up to the pole, positive there.
        shares = np.where(relative == 1.0, 1.0, (1.0 - t) / np.maximum(1.0 - t * relative, 1e-300))
        gauge = t * pole * largest / (2.0 * batch_size) * np.sum(relative * shares)
        return float(gauge - (1.0 - t))

    root = root_scalar(remainder, bracket=(0.0, 1.0), method="brentq", xtol=1e-15).root
    return float(pole * root)


def homogenised_gauge(
    trace: float | int, learning_rate: float | int, batch_size: float | int
) -> float:
    r"""Mean-square gauge :math:`\eta\,\mathrm{tr}H/(2B)` of the homogenised SDE (Ito).

    .. math:: d\theta = -\nabla L\,dt + \sqrt{2\eta L(\theta)H/B}\,dW

    Parameters
    ----------
    trace
        Trace of the Hessian.
    learning_rate, batch_size
        ``eta`` and ``B``.

    Notes
    -----
    This SDE leaves the term :math:`\nabla L\nabla L^\top/B` out of the covariance; with the whole
    minibatch covariance the gauge is ``mean_square_gauge(..., substeps=math.inf)``, which is a
    little larger. Source: edge-of-stability theory C9.

    Examples
    --------
    >>> from sgdsim.stability import homogenised_gauge
    >>> homogenised_gauge(8.0, 0.5, 4)
    0.5
    """
    return learning_rate * trace / (2.0 * batch_size)


def homogenised_threshold(trace: float | int, batch_size: float | int) -> float:
    r"""Learning rate :math:`2B/\mathrm{tr}H` at which :func:`homogenised_gauge` reaches one.

    Examples
    --------
    >>> from sgdsim.stability import homogenised_threshold
    >>> homogenised_threshold(8.0, 4)
    1.0
    """
    return 2.0 * batch_size / trace


def stationary_excess_risk(gauge: Numbers) -> Float[np.ndarray, "*point"]:
    r"""Stationary excess risk of least squares over half the label-noise variance.

    .. math:: \frac{E[(x^\top(\theta-\theta^*))^2]}{\sigma^2} = \frac{K}{1-K}

    Parameters
    ----------
    gauge
        ``K`` of :func:`mean_square_gauge` for the process in question.

    Returns
    -------
    array
        Infinite from ``K = 1`` on.

    Examples
    --------
    >>> from sgdsim.stability import stationary_excess_risk
    >>> float(stationary_excess_risk(0.5))
    1.0
    """
    k = np.asarray(gauge, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(k >= 1.0, np.inf, k / (1.0 - k)))


def stationary_variance(
    learning_rate: float | int,
    curvature: float | int,
    noise_variance: float | int,
    *,
    substeps: float | int = 1.0,
) -> float:
    r"""Stationary variance along one direction, for noise that does not depend on the iterate.

    .. math:: \frac{\eta s^2}{h(2-\eta h/m)}

    Parameters
    ----------
    learning_rate, curvature
        ``eta`` and Hessian eigenvalue ``h``.
    noise_variance
        Variance :math:`s^2` of the gradient noise of one SGD step along the direction.
    substeps
        ``m`` steps of length ``eta/m`` per SGD step: 1 for SGD and Gaussian SGD, ``math.inf`` for
        the SDE :math:`dx = -hx\,dt + \sqrt\eta s\,dW` (Ito), an Ornstein-Uhlenbeck process.

    Returns
    -------
    float
        Infinite where there is no stationary law: ``h <= 0`` or ``eta h >= 2m``.

    Notes
    -----
    Source: edge-of-stability theory C3 and C4.

    Examples
    --------
    >>> import math
    >>> from sgdsim.stability import stationary_variance
    >>> round(stationary_variance(1.8, 1.0, 1.0), 6)
    9.0
    >>> stationary_variance(1.8, 1.0, 1.0, substeps=math.inf)
    0.9
    """
    room = 2.0 - learning_rate * curvature / substeps
    if curvature <= 0.0 or room <= 0.0:
        return math.inf
    return learning_rate * noise_variance / (curvature * room)


def heavy_ball_variance(
    learning_rate: float | int,
    momentum: float | int,
    curvature: float | int,
    noise_variance: float | int,
) -> float:
    r"""Stationary variance of heavy ball along one direction, for additive noise.

    .. math:: \frac{(1+b)\,\eta s^2}{(1-b)\,h\,(2(1+b)-\eta h)}

    Parameters
    ----------
    learning_rate, momentum
        ``eta`` and ``b``, as in :func:`heavy_ball_threshold`.
    curvature, noise_variance
        As in :func:`stationary_variance`.

    Returns
    -------
    float
        Infinite where there is no stationary law: ``h <= 0`` or ``eta h >= 2(1+b)``.

    Notes
    -----
    Source: edge-of-stability theory C5.

    Examples
    --------
    >>> from sgdsim.stability import heavy_ball_variance
    >>> round(heavy_ball_variance(2.0, 0.9, 1.0, 1.0), 2)
    21.11
    """
    room = 2.0 * (1.0 + momentum) - learning_rate * curvature
    if curvature <= 0.0 or room <= 0.0:
        return math.inf
    gain = (1.0 + momentum) / (1.0 - momentum)
    return gain * learning_rate * noise_variance / (curvature * room)


def heavy_ball_sde_variance(
    learning_rate: float | int,
    momentum: float | int,
    curvature: float | int,
    noise_variance: float | int,
) -> float:
    r"""Stationary variance of the SDE of heavy ball: :math:`\eta s^2/(2(1-b)h)`.

    The SDE (Ito, time :math:`\sqrt\eta\,k`) is the underdamped Langevin equation

    .. math:: dx = v\,dt, \qquad
        dv = -\frac{1-b}{\sqrt\eta}v\,dt - hx\,dt + \eta^{1/4}s\,dW

    Parameters
    ----------
    learning_rate, momentum, curvature, noise_variance
        As in :func:`heavy_ball_variance`.

    Returns
    -------
    float
        Infinite for ``h <= 0``.

    Examples
    --------
    >>> from sgdsim.stability import heavy_ball_sde_variance
    >>> round(heavy_ball_sde_variance(2.0, 0.9, 1.0, 1.0), 6)
    10.0
    """
    if curvature <= 0.0:
        return math.inf
    return learning_rate * noise_variance / (2.0 * (1.0 - momentum) * curvature)


def _term(scaled: _Array, width: float, weight: _Array | None = None) -> np.ndarray:
    """Share of eigenvalues of total ``weight``, each ``scaled``, in ``B K``; both times ``eta``."""
    room = np.subtract(2.0, np.multiply(width, scaled))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.divide(scaled if weight is None else weight, room)
    return np.where(room <= 0.0, np.inf, share)
