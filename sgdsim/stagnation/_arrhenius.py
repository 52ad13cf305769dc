r"""Arrhenius plot: the log of the mean exit time is a straight line in one over the step size.

.. math:: \log E\tau = a + \frac{V}{\eta} + c\,\log\eta

with the barrier V in units of the learning rate (a quasi-potential) and a power c of the prefactor
that the theory fixes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special, stats

from sgdsim.stagnation._survival import check_confidence


class ArrheniusFit(NamedTuple):
    """Straight line through an Arrhenius plot.

    Attributes
    ----------
    slope
        V, in units of the learning rate.
    low, high
        Limits of V.
    intercept
        a, log of the unit of time of the exposure.
    chi2_per_dof
        Misfit per degree of freedom; NaN for two points, through which any line goes.
    p_value
        Probability of a larger misfit if the line is right; NaN for two points.
    """

    slope: float
    low: float
    high: float
    intercept: float
    chi2_per_dof: float
    p_value: float


def arrhenius_fit(
    inverse_learning_rate: Float[np.ndarray, " point"],
    exits: Int[np.ndarray, " point"],
    exposure: Float[np.ndarray, " point"],
    prefactor_power: float = 0.0,
    confidence: float = 0.95,
) -> ArrheniusFit:
    r"""Fit exits counted at several learning rates; a point without exits counts too.

    .. math:: X_i \sim \mathrm{Poisson}(E_i \lambda_i), \qquad
              -\log\lambda_i = a + \frac{V}{\eta_i} + c\,\log\eta_i

    Parameters
    ----------
    inverse_learning_rate
        :math:`1/\eta`, shape (point,).
    exits
        Numbers X of exits, shape (point,).
    exposure
        Total times E under observation (see `exit_rate`), in steps or in units of
        :math:`t = \eta k`, shape (point,).
    prefactor_power
        c; a power of eta in the prefactor left out would be taken for a part of the slope. For an
        Ornstein-Uhlenbeck ball in m dimensions it is m/2 with time :math:`t = \eta k` and m/2 - 1
        with time in steps; for Kramers' law 0 and -1.
    confidence
        Of the interval of V.

    Returns
    -------
    ArrheniusFit
        Maximum likelihood; the interval is that of the normal approximation, the misfit the
        deviance, chi-square with two degrees of freedom less than points.

    Raises
    ------
    ValueError
        Fewer than two learning rates have exits, an exposure or learning rate is
        not positive, or the confidence is not in (0, 1).

    Notes
    -----
    The straight line is the limit of small eta: with too large ones the misfit grows and the slope
    is that of a chord. Expected counts below about 5 make the p-value rough.
    Source of the ball's prefactor: :math:`E\tau \sim \Gamma(m/2)/(2k)\, z^{-m/2} e^z`,
    :math:`z = k\delta^2/\sigma^2` with :math:`\sigma^2 \propto \eta`; theory after Imaizumi &
    Schmidt-Hieber (explicit constants, this project), sections 4.7 and 9.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import arrhenius_fit
    >>> inverse, exposure = np.array([10.0, 20.0, 30.0, 40.0]), np.full(4, 1e5)
    >>> exits = np.round(exposure * np.exp(-3.0 - 0.2 * inverse)).astype(int)
    >>> fit = arrhenius_fit(inverse, exits, exposure)
    >>> round(fit.slope, 3), fit.low < 0.2 < fit.high
    (0.2, True)
    """
    x, c = np.asarray(inverse_learning_rate, float), float(prefactor_power)
    time = np.asarray(exposure, float)
    _check_points(x, confidence)
    if np.any(time <= 0) or np.any(exits < 0):
        raise ValueError("exposure must be positive and exits not negative.")
    if len(np.unique(x[exits > 0])) < 2:
        raise ValueError(
            "fewer than two learning rates have exits: a slope needs two; run longer or take "
            "splitting_exit_rate with arrhenius_fit_log_rates."
        )
    known = c * np.log(x) + np.log(time)
    # Around the middle and in units of the range the two unknowns are of one size.
    middle, scale = float(np.mean(x)), float(np.ptp(x))
    design = np.column_stack([np.ones_like(x), (x - middle) / scale])

    def expected(line: np.ndarray) -> np.ndarray:
        return np.exp(known - design @ line)

    def loss(line: np.ndarray) -> float:
        return float(np.sum(expected(line) + exits * (design @ line)))

    def slopes(line: np.ndarray) -> np.ndarray:
        return design.T @ (exits - expected(line))

    def information(line: np.ndarray) -> np.ndarray:
        return design.T @ (expected(line)[:, None] * design)

    weight = np.sqrt(exits + 0.5)
    guess = np.polyfit(design[:, 1], known - np.log(exits + 0.5), 1, w=weight)[::-1]
    best = optimize.minimize(
        loss, guess, jac=slopes, hess=information, method="trust-exact", options={"gtol": 1e-6}
    ).x
    counts = expected(best)
    misfit = 2.0 * float(np.sum(special.xlogy(exits, exits / counts) - exits + counts))
    spread = float(np.linalg.inv(information(best))[1, 1]) ** 0.5 / scale
    slope = float(best[1]) / scale
    return _result(slope, spread, float(best[0]) - slope * middle, misfit, len(x), confidence)


def arrhenius_fit_log_rates(
    inverse_learning_rate: Float[np.ndarray, " point"],
    log_rate: Float[np.ndarray, " point"],
    standard_error: Float[np.ndarray, " point"],
    prefactor_power: float = 0.0,
    confidence: float = 0.95,
) -> ArrheniusFit:
    r"""Fit estimated log exit rates, each with its standard error.

    .. math:: -\log\hat\lambda_i \sim N\Bigl(a + \frac{V}{\eta_i} + c\,\log\eta_i,\;
              s_i^2\Bigr)

    Parameters
    ----------
    inverse_learning_rate
        :math:`1/\eta`, shape (point,).
    log_rate
        Logs of the rates, per step or per unit of :math:`t = \eta k`, shape (point,).
    standard_error
        Of the log rates, shape (point,): the ``relative_error`` of `splitting_exit_rate`, or
        :math:`1/\sqrt X` of X exits.
    prefactor_power, confidence
        As in `arrhenius_fit`.

    Returns
    -------
    ArrheniusFit
        Weighted least squares with the given errors.

    Raises
    ------
    ValueError
        There are fewer than two learning rates, a number is not finite or an error
        not positive.

    Notes
    -----
    Source: as `arrhenius_fit`; least squares of ``numpy.polyfit``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import arrhenius_fit_log_rates
    >>> inverse = np.array([10.0, 20.0, 40.0])
    >>> fit = arrhenius_fit_log_rates(inverse, -3.0 - 0.2 * inverse, np.full(3, 0.1))
    >>> round(fit.slope, 6), round(fit.intercept, 6)
    (0.2, 3.0)
    """
    x, error = np.asarray(inverse_learning_rate, float), np.asarray(standard_error, float)
    y = -np.asarray(log_rate, float)
    _check_points(x, confidence)
    if not np.all(np.isfinite(y)) or not np.all((error > 0) & np.isfinite(error)):
        raise ValueError(
            "log rates must be finite and their errors positive and finite: leave out a point "
            "without exits, or take arrhenius_fit, which knows what it says."
        )
    if len(np.unique(x)) < 2:
        raise ValueError("a slope needs at least two learning rates.")
    y = y + prefactor_power * np.log(x)
    (slope, intercept), covariance = np.polyfit(x, y, 1, w=1.0 / error, cov="unscaled")
    misfit = float(np.sum(((y - intercept - slope * x) / error) ** 2))
    spread = float(covariance[0, 0]) ** 0.5
    return _result(float(slope), spread, float(intercept), misfit, len(x), confidence)


def _check_points(x: np.ndarray, confidence: float) -> None:
    if not np.all((x > 0) & np.isfinite(x)):
        raise ValueError("inverse_learning_rate must be positive and finite.")
    check_confidence(confidence)


def _result(
    slope: float, spread: float, intercept: float, misfit: float, points: int, confidence: float
) -> ArrheniusFit:
    half = float(stats.norm.ppf((1.0 + confidence) / 2.0)) * spread
    freedom = points - 2
    per_dof = misfit / freedom if freedom else np.nan
    p_value = float(stats.chi2.sf(misfit, freedom)) if freedom else np.nan
    return ArrheniusFit(slope, slope - half, slope + half, intercept, per_dof, p_value)
