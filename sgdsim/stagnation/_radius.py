r"""How far noisy gradient descent spreads around a minimum, and the ball that is to hold it.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math


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


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive, got {value:g}")
