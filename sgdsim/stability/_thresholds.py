r"""Edges of stability: the curvature above which an optimizer no longer settles on a quadratic.

All edges are of frozen (linearised) dynamics: constant Hessian and, for the adaptive methods, a
constant preconditioner. At its edge an optimizer has a solution that changes sign in every step.
Its gradient passes through the rule with the factor ``F`` that the rule has for alternating
gradients, and past the rule acts a decoupled weight decay :math:`\lambda`, so that

.. math:: -2 = -\eta\,(F h + \lambda), \qquad h = \frac1F\Big(\frac2\eta-\lambda\Big)
"""

import math

import numpy as np
from jaxtyping import Float

from sgdsim.stability._mean_square import Numbers


def gradient_descent_threshold(
    learning_rate: float | int, weight_decay: float | int = 0.0
) -> float:
    r"""Sharpness :math:`2/\eta-\lambda` above which gradient descent on a quadratic diverges.

    Parameters
    ----------
    learning_rate
        ``eta > 0``.
    weight_decay
        Decoupled decay :math:`\lambda`: every step also subtracts :math:`\eta\lambda\theta`.

    Notes
    -----
    Gaussian SGD at ``h = eta`` has the same threshold for its mean; the SDE has none.

    Examples
    --------
    >>> from sgdsim.stability import gradient_descent_threshold
    >>> gradient_descent_threshold(0.5)
    4.0
    """
    return 2.0 / learning_rate - weight_decay


def heavy_ball_threshold(
    learning_rate: float | int, momentum: float | int, weight_decay: float | int = 0.0
) -> float:
    r"""Sharpness :math:`(1+b)(2/\eta-\lambda)` above which heavy ball diverges on a quadratic.

    .. math:: m_{k+1} = \nabla L(\theta_k) + b\,m_k, \qquad
        \theta_{k+1} = \theta_k - \eta m_{k+1} - \eta\lambda\theta_k

    Parameters
    ----------
    learning_rate
        ``eta > 0``.
    momentum
        ``0 <= b < 1``.
    weight_decay
        Decoupled decay :math:`\lambda`: every step also subtracts :math:`\eta\lambda\theta`.

    Notes
    -----
    The learning rate multiplies the plain gradient, as in ``optax.sgd``; an averaged gradient
    ``(1-b) g`` has the edge of :func:`adam_threshold`.

    Examples
    --------
    >>> from sgdsim.stability import heavy_ball_threshold
    >>> round(heavy_ball_threshold(0.05, 0.9), 6)
    76.0
    """
    return (1.0 + momentum) * gradient_descent_threshold(learning_rate, weight_decay)


def nesterov_threshold(
    learning_rate: float | int, momentum: float | int, weight_decay: float | int = 0.0
) -> float:
    r"""Sharpness :math:`\frac{1+b}{1+2b}(2/\eta-\lambda)` above which Nesterov's method diverges.

    .. math:: y = \theta_k + b(\theta_k-\theta_{k-1}), \qquad
        \theta_{k+1} = y - \eta\nabla L(y)

    (without decay; with it, in the form of :class:`sgdsim.dynamics.Nesterov`.)

    Parameters
    ----------
    learning_rate
        ``eta > 0``.
    momentum
        ``0 <= b < 1``, constant.
    weight_decay
        Decoupled decay :math:`\lambda`: every step also subtracts :math:`\eta\lambda\theta`.

    Examples
    --------
    >>> from sgdsim.stability import nesterov_threshold
    >>> round(nesterov_threshold(0.05, 0.9), 2)
    27.14
    """
    gain = (1.0 + momentum) / (1.0 + 2.0 * momentum)
    return gain * gradient_descent_threshold(learning_rate, weight_decay)


def adam_threshold(
    learning_rate: float | int, beta1: float | int, weight_decay: float | int = 0.0
) -> float:
    r"""Edge :math:`\frac{1+\beta_1}{1-\beta_1}(2/\eta-\lambda)` of Adam and AdamW.

    It is the edge of heavy ball on the averaged gradient,

    .. math:: m_{k+1} = \beta_1m_k + (1-\beta_1)\nabla L(\theta_k), \qquad
        \theta_{k+1} = \theta_k - \eta P^{-1}m_{k+1},

    (less :math:`\eta\lambda\theta_k` in AdamW), and bounds the largest eigenvalue of
    :math:`P^{-1}H`, with :math:`P = \mathrm{diag}(\sqrt{\hat v}+\epsilon)`.

    Parameters
    ----------
    learning_rate
        ``eta > 0``.
    beta1
        ``0 <= beta1 < 1``; 0 gives RMSProp.
    weight_decay
        Decoupled decay :math:`\lambda`: every step also subtracts :math:`\eta\lambda\theta`.

    Notes
    -----
    Assumes a preconditioner that hardly moves in a step (``beta2`` near one) and a bias
    correction that has worn off. The decay of AdamW does not pass through the average: it lowers
    the edge by :math:`\lambda(1+\beta_1)/(1-\beta_1)`, nineteen times :math:`\lambda` at 0.9.

    Examples
    --------
    >>> from sgdsim.stability import adam_threshold
    >>> round(adam_threshold(1e-3, 0.9), 6)
    38000.0
    """
    gain = (1.0 + beta1) / (1.0 - beta1)
    return gain * gradient_descent_threshold(learning_rate, weight_decay)


def rmsprop_threshold(learning_rate: float | int, weight_decay: float | int = 0.0) -> float:
    r"""Edge :math:`2/\eta-\lambda` of RMSProp, for the preconditioned Hessian :math:`P^{-1}H`.

    Parameters
    ----------
    learning_rate
        ``eta > 0``.
    weight_decay
        Decoupled decay :math:`\lambda`: every step also subtracts :math:`\eta\lambda\theta`.

    Notes
    -----
    RMSProp averages squared gradients only, so that its edge is that of gradient descent; the
    38/eta often quoted belongs to Adam at ``beta1 = 0.9``.

    Examples
    --------
    >>> from sgdsim.stability import rmsprop_threshold
    >>> rmsprop_threshold(0.01)
    200.0
    """
    return gradient_descent_threshold(learning_rate, weight_decay)


def critical_curvature_variance(
    learning_rate: float | int, momentum: float | int, curvature: float | int
) -> float:
    r"""Variance of a random curvature at which heavy ball loses its second moment.

    .. math:: s^2 = \frac{(1-b)\,h\,(2(1+b)-\eta h)}{(1+b)\,\eta}

    for :math:`\theta_{k+1} = \theta_k - \eta a_k\theta_k + b(\theta_k-\theta_{k-1})` with
    independent :math:`a_k` of mean ``h`` and variance :math:`s^2`.

    Parameters
    ----------
    learning_rate, momentum
        ``eta > 0`` and ``0 <= b < 1``.
    curvature
        Mean curvature ``h > 0``.

    Returns
    -------
    float
        :math:`s^2`; NaN above :math:`2(1+b)/\eta`, where no variance is small enough.

    Notes
    -----
    Without momentum :math:`E a^2/E a = 2/\eta`, the edge of stochastic stability. The two ends of
    the line are the plateaus of :func:`momentum_plateaus`.

    Examples
    --------
    >>> from sgdsim.stability import critical_curvature_variance
    >>> critical_curvature_variance(0.5, 0.0, 1.0)
    3.0
    """
    room = heavy_ball_threshold(learning_rate, momentum) - curvature
    return (1.0 - momentum) / (1.0 + momentum) * curvature * room if room >= 0.0 else math.nan


def momentum_plateaus(learning_rate: float | int, momentum: float | int) -> tuple[float, float]:
    r"""Levels of :math:`E a^2/E a` at the edge: :math:`2(1-b)/\eta` and :math:`2(1+b)/\eta`.

    The first when the curvature ``a`` of a batch is nearly all noise (small batches), the second
    when it has none (large batches); :func:`critical_curvature_variance` joins them.

    Parameters
    ----------
    learning_rate, momentum
        ``eta > 0`` and ``0 <= b < 1``.

    Notes
    -----
    Source: the two plateaus observed in arXiv 2604.14108.

    Examples
    --------
    >>> from sgdsim.stability import momentum_plateaus
    >>> momentum_plateaus(1.0, 0.5)
    (1.0, 3.0)
    """
    return 2.0 * (1.0 - momentum) / learning_rate, heavy_ball_threshold(learning_rate, momentum)


def batch_sharpness_threshold(
    learning_rate: Numbers,
    curvature: Numbers,
    momentum: float | int = 0.0,
    weight_decay: float | int = 0.0,
) -> Float[np.ndarray, "*point"]:
    r"""Level of :math:`E a^2/E a` at which SGD with momentum loses its second moment.

    .. math:: h + \frac{1-bd}{1+bd}\,
        \frac{\big(h+(1-b)\lambda\big)\big((1+b)(2/\eta-\lambda)-h\big)}{h},
        \qquad d = 1-\eta\lambda

    for independent random curvatures ``a`` of mean ``h``. Without momentum and decay it is
    :math:`2/\eta` whatever ``h``; without decay it is a straight line between the two levels of
    :func:`momentum_plateaus`.

    Parameters
    ----------
    learning_rate
        ``eta > 0``.
    curvature
        Mean curvature ``h > 0`` of the sharpest direction: the largest Hessian eigenvalue.
    momentum
        ``0 <= b < 1``.
    weight_decay
        Decoupled decay :math:`\lambda`.

    Returns
    -------
    array
        NaN above :func:`heavy_ball_threshold`, where no noise is small enough, and for
        :math:`h\le 0`.

    Notes
    -----
    One direction, heavy ball as in :func:`heavy_ball_threshold`: with
    :math:`\theta_{k+1} = (d+b-\eta a_k)\theta_k - bd\,\theta_{k-1}` the second moments have the
    eigenvalue one there. For a network it is an estimate of the level of the batch sharpness.
    Source: edge-of-stability theory C10, there without decay.

    Examples
    --------
    >>> from sgdsim.stability import batch_sharpness_threshold
    >>> float(batch_sharpness_threshold(0.5, 1.0))
    4.0
    >>> batch_sharpness_threshold(1.0, [1e-9, 1.5, 3.0], momentum=0.5).round(6).tolist()
    [1.0, 2.0, 3.0]
    """
    eta, h = np.asarray(learning_rate, np.float64), np.asarray(curvature, np.float64)
    held = momentum * (1.0 - eta * weight_decay)
    room = (1.0 + momentum) * (2.0 / eta - weight_decay) - h
    usable = (h > 0.0) & (room >= 0.0)
    driven = 1.0 + (1.0 - momentum) * weight_decay / np.where(usable, h, np.nan)
    return np.asarray(h + (1.0 - held) / (1.0 + held) * driven * room)


def variance_ratio(learning_rate: float | int, curvature: float | int) -> float:
    r"""Stationary variance of SGD over that of its SDE along one direction.

    .. math:: \frac{\eta s^2/(h(2-\eta h))}{\eta s^2/(2h)} = \frac{2}{2-\eta h}

    for additive noise and curvature ``h``; infinite from :math:`\eta h = 2` on, where SGD has no
    stationary law and the SDE still has one.

    Parameters
    ----------
    learning_rate
        ``eta``.
    curvature
        Hessian eigenvalue ``h`` of the direction.

    Examples
    --------
    >>> from sgdsim.stability import variance_ratio
    >>> round(variance_ratio(1.8, 1.0), 6)
    10.0
    """
    product = learning_rate * curvature
    return 2.0 / (2.0 - product) if product < 2.0 else math.inf
