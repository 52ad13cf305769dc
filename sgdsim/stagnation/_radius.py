r"""How far noisy gradient descent spreads around a minimum, and the ball that is to hold it.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math

import numpy as np
from jaxtyping import Float


def stationary_radius(
    learning_rate: float | int, rsi: float | int, noise_trace: float | int
) -> float:
    r"""Root mean squared distance from the minimum in the stationary state, for small steps.

    .. math:: \sqrt{R}, \qquad R = \frac{\eta\, \bar\tau}{2 \mu}

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    rsi
        Modulus :math:`\mu > 0` of the restricted secant inequality
        :math:`\langle \nabla L, u \rangle \ge \mu \|u\|^2`.
    noise_trace
        :math:`\bar\tau \ge 0`: trace of the covariance of the noise of one step.

    Returns
    -------
    float
        :math:`\sqrt{R}`, in units of the parameters.

    Raises
    ------
    ValueError
        An argument is not finite or has the wrong sign.

    Notes
    -----
    R is the limit of small :math:`\eta\mu`, not a bound at finite step size: with
    :math:`q = 1 - \eta\mu` the stationary bound :math:`\eta^2 \bar\tau / (1 - q^2)` is R divided by
    :math:`1 - \eta\mu/2`.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import stationary_radius
    >>> round(stationary_radius(0.05, 1.0, 0.04), 6)
    0.031623
    """
    _check_positive(learning_rate=learning_rate, rsi=rsi)
    if not (math.isfinite(noise_trace) and noise_trace >= 0):
        raise ValueError(f"noise_trace must be finite and not negative, got {noise_trace:g}")
    return math.sqrt(learning_rate * noise_trace / (2.0 * rsi))


def auto_radius(
    learning_rate: float | int,
    rsi: float | int,
    noise_operator_norm: float | int,
    noise_trace: float | int,
    steps: int,
    failure_probability: float,
) -> float:
    r"""Radius of the ball that is left within T steps with probability of about p.

    .. math:: \delta(p) = \sqrt{\frac{\eta\, \bar\tau}{2 \mu}}
              + \sqrt{\frac{\eta\, \bar s}{\mu} \log \frac{T}{p}}

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    rsi
        Modulus :math:`\mu > 0` of the restricted secant inequality.
    noise_operator_norm, noise_trace
        Largest eigenvalue :math:`\bar s` and trace :math:`\bar\tau` of the covariance of the noise
        of one step.
    steps
        :math:`T \ge 1`.
    failure_probability
        :math:`0 < p < 1`.

    Returns
    -------
    float
        :math:`\delta(p)`, in units of the parameters.

    Raises
    ------
    ValueError
        An argument is not finite or out of its range; in particular there is no such radius
        without a positive modulus.

    Notes
    -----
    It solves :math:`\log(T/p) = \mu (\delta - \sqrt R)^2 / (\eta \bar s)`, the leading order of the
    exit bound S2 for small steps. So p is a target; what holds for this radius is what
    `log_exit_bound_s2` says about it.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import auto_radius
    >>> round(auto_radius(0.05, 1.0, 0.04, 0.04, steps=1000, failure_probability=0.01), 6)
    0.183365
    """
    _check_positive(noise_operator_norm=noise_operator_norm)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0.0 < failure_probability < 1.0:
        raise ValueError(
            f"failure_probability must lie strictly between 0 and 1, got {failure_probability:g}"
        )
    spread = stationary_radius(learning_rate, rsi, noise_trace)
    log_ratio = math.log(steps) - math.log(failure_probability)
    return spread + math.sqrt(learning_rate * noise_operator_norm / rsi * log_ratio)


def stay_exponent(
    learning_rate: float | int | Float[np.ndarray, "*#setting"],
    rsi: float | int | Float[np.ndarray, "*#setting"],
    noise_operator_norm: float | int | Float[np.ndarray, "*#setting"],
    noise_trace: float | int | Float[np.ndarray, "*#setting"],
    radius: float | int | Float[np.ndarray, "*#setting"],
) -> Float[np.ndarray, "*setting"]:
    r"""Leading order of the logarithm of the number of steps in the ball, for small steps.

    .. math:: \log \frac{1}{P(\text{exit per step})} \simeq
              \frac{\mu\, (\delta - \sqrt R)_+^2}{\eta\, \bar s}, \qquad
              R = \frac{\eta\, \bar\tau}{2 \mu}

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`; all arguments are numbers, or arrays of settings that broadcast.
    rsi
        Modulus :math:`\mu > 0` of the restricted secant inequality.
    noise_operator_norm, noise_trace
        Largest eigenvalue :math:`\bar s > 0` and trace :math:`\bar\tau \ge 0` of the covariance of
        the noise of one step.
    radius
        :math:`\delta > 0`.

    Returns
    -------
    numpy.ndarray
        The exponent, in nats; 0 when the ball is within the stationary spread; nan where an
        argument is out of its range.

    Notes
    -----
    An asymptotic statement (:math:`\eta \to 0`, no gradient bias), not a bound. `auto_radius`
    inverts it; for isotropic noise it is the quasi-potential of the linearised dynamics at the
    radius as R tends to 0.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import stay_exponent
    >>> float(stay_exponent(0.05, 1.0, 0.04, 0.04, 0.183365).round(3))
    11.513
    """
    eta, mu, s, tau, delta = (
        np.asarray(value, np.float64)
        for value in (learning_rate, rsi, noise_operator_norm, noise_trace, radius)
    )
    good = (eta > 0) & (mu > 0) & (s > 0) & (tau >= 0) & (delta > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.maximum(delta - np.sqrt(eta * tau / (2.0 * mu)), 0.0)
        return np.asarray(np.where(good, mu * excess**2 / (eta * s), np.nan))


def stagnation_number(convexity_radius: float | int, spread: float | int) -> float:
    r"""Ratio of the radius of local essential convexity to the stationary spread.

    .. math:: \frac{\delta^*}{\sqrt R}

    Parameters
    ----------
    convexity_radius
        :math:`\delta^* \ge 0`: largest radius with a positive restricted secant modulus.
    spread
        :math:`\sqrt R > 0`, `stationary_radius`.

    Returns
    -------
    float
        The ratio, dimensionless: a stagnation regime needs more than 1, and is comfortable from
        `comfortable_stagnation_number` on; nan when an argument is out of its range.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import stagnation_number
    >>> round(stagnation_number(0.3, 0.1), 6)
    3.0
    """
    if not (convexity_radius >= 0 and 0 < spread < math.inf):
        return math.nan
    return convexity_radius / spread


def comfortable_stagnation_number(steps: int, effective_rank: float | int) -> float:
    r"""Stagnation number from which T steps in the ball are likely, to leading order.

    .. math:: 1 + \sqrt{\frac{2 \log T}{r}}

    Parameters
    ----------
    steps
        T >= 1.
    effective_rank
        :math:`r = \bar\tau / \bar s \ge 1` of the noise.

    Returns
    -------
    float
        The number, dimensionless.

    Raises
    ------
    ValueError
        There is no step, or the rank is below 1.

    Notes
    -----
    `stay_exponent` of at least :math:`\log T`, with :math:`R = \eta \bar s r / (2 \mu)`.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import comfortable_stagnation_number
    >>> round(comfortable_stagnation_number(1000, 10), 4)
    2.1754
    """
    if steps < 1 or not effective_rank >= 1:
        raise ValueError(
            f"steps and effective_rank must be at least 1, got {steps} and {effective_rank:g}"
        )
    return 1.0 + math.sqrt(2.0 * math.log(steps) / effective_rank)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive, got {value:g}")
