r"""How much one gradient step shrinks the distance to the minima.

Both functions bound q in :math:`\|u - \eta \nabla L_n(\theta)\| \le q \|u\| + \eta \varepsilon`,
where u points from the nearest minimum of L to theta and
:math:`\|\nabla L_n - \nabla L\| \le \varepsilon + \omega \|u\|`. A result of 1 or more is an answer
too: the step does not contract.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math

import numpy as np


def contraction_strongly_convex(
    learning_rate: float | int,
    strong_convexity: float | int,
    smoothness: float | int,
    *,
    hessian_deviation: float | int = 0.0,
) -> float:
    r"""Contraction of a gradient step where the Hessian has its eigenvalues in [mu, beta].

    .. math:: q = \max(|1 - \eta\mu|, |1 - \eta\beta|) + \eta\, \omega

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    strong_convexity, smoothness
        Smallest and largest Hessian eigenvalue :math:`\mu \le \beta` over the whole ball, not at
        the minimum alone.
    hessian_deviation
        :math:`\omega \ge 0`: supremum of the operator norm of the difference between the Hessians
        of the empirical and the population risk; 0 where both constants are those of the risk that
        is descended.

    Returns
    -------
    float
        q, dimensionless; nan when a constant is nan.

    Raises
    ------
    ValueError
        A constant has the wrong sign, or :math:`\beta < \mu`.

    Notes
    -----
    Needs straight normal fibres (an isolated minimum with a convex ball, or a ring):
    :math:`u - \eta\nabla L = (I - \eta \bar H) u` with the Hessian averaged along the segment.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import contraction_strongly_convex
    >>> contraction_strongly_convex(0.5, 0.2, 3.0)
    0.9
    """
    _check(learning_rate, strong_convexity, smoothness, hessian_deviation)
    low = abs(1.0 - learning_rate * strong_convexity)
    high = abs(1.0 - learning_rate * smoothness)
    # np.maximum hands a nan on, max() may drop it.
    return float(np.maximum(low, high)) + learning_rate * hessian_deviation


def contraction_rsi(
    learning_rate: float | int,
    rsi: float | int,
    growth: float | int,
    *,
    hessian_deviation: float | int = 0.0,
) -> float:
    r"""Contraction of a gradient step from the restricted secant inequality alone.

    .. math:: q = \sqrt{1 - 2 \eta \mu + \eta^2 \beta^2} + \eta\, \omega

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    rsi
        :math:`\mu` with :math:`\langle \nabla L, u \rangle \ge \mu \|u\|^2` in the ball.
    growth
        :math:`\beta` with :math:`\|\nabla L\| \le \beta \|u\|` in the ball.
    hessian_deviation
        :math:`\omega \ge 0`, as in `contraction_strongly_convex`.

    Returns
    -------
    float
        q, dimensionless; below 1 only for :math:`\eta < 2\mu/\beta^2`; nan when a constant is nan.

    Raises
    ------
    ValueError
        A constant has the wrong sign, or :math:`\beta < \mu` (Cauchy-Schwarz excludes it).

    Notes
    -----
    :math:`\|u - \eta\nabla L\|^2 = \|u\|^2 - 2\eta\langle\nabla L, u\rangle +
    \eta^2 \|\nabla L\|^2`. It asks for no convexity and is never smaller than the strongly convex
    contraction with the same constants.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import contraction_rsi
    >>> contraction_rsi(0.5, 1.0, 1.0)
    0.5
    """
    _check(learning_rate, rsi, growth, hessian_deviation)
    # (1 - eta mu)^2 + eta^2 (beta^2 - mu^2): the same number as a sum of two that are not negative.
    curved = (growth - rsi) * (growth + rsi)
    return (
        math.sqrt((1.0 - learning_rate * rsi) ** 2 + learning_rate**2 * curved)
        + learning_rate * hessian_deviation
    )


def _check(learning_rate: float, modulus: float, growth: float, deviation: float) -> None:
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be finite and positive, got {learning_rate:g}")
    if abs(modulus) > growth:
        raise ValueError(
            f"the largest growth {growth:g} is below the modulus {abs(modulus):g} in absolute value"
        )
    if deviation < 0:
        raise ValueError(f"hessian_deviation must not be negative, got {deviation:g}")
