"""The constants of the exit bounds and the assumptions they have to meet."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, kw_only=True)
class StayConstants:
    r"""The constants that the exit bounds need, all valid inside the ball.

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    contraction
        :math:`0 \le q < 1` with :math:`\|u - \eta \nabla L_n\| \le q \|u\| + \eta \varepsilon`.
    noise_operator_norm
        :math:`\bar s > 0`: largest eigenvalue of the covariance of the noise of **one step**, that
        is the covariance of the minibatch gradient (per-sample covariance divided by the batch
        size), the supremum over the ball.
    noise_trace
        :math:`\bar\tau > 0`: supremum of the trace of the same covariance.
    radius
        :math:`\delta > 0`, fixed before the trajectories are looked at.
    start_distance
        :math:`0 \le d_0 \le \delta`: largest distance at step 0.
    gradient_bias
        :math:`\varepsilon \ge 0`: norm of the empirical gradient at the minimum.

    Notes
    -----
    Construction checks nothing: the constants are measured, and a measurement that violates an
    assumption is a result. `assumption_violation` names it, and every bound is then nan.

    Examples
    --------
    >>> from sgdsim.stagnation import StayConstants, assumption_violation
    >>> constants = StayConstants(
    ...     learning_rate=0.05,
    ...     contraction=0.95,
    ...     noise_operator_norm=0.04,
    ...     noise_trace=0.08,
    ...     radius=0.15,
    ... )
    >>> assumption_violation(constants) is None
    True
    """

    learning_rate: float | int
    contraction: float | int
    noise_operator_norm: float | int
    noise_trace: float | int
    radius: float | int
    start_distance: float | int = 0.0
    gradient_bias: float | int = 0.0


def assumption_violation(constants: StayConstants) -> str | None:
    """Say which assumption of the exit bounds the constants violate.

    Parameters
    ----------
    constants
        The measured or chosen constants.

    Returns
    -------
    str or None
        The reason in words, None when the bounds apply.

    Notes
    -----
    A noise trace below the operator norm is let pass: both enter the proofs as upper bounds only.

    Examples
    --------
    >>> from sgdsim.stagnation import StayConstants, assumption_violation
    >>> assumption_violation(
    ...     StayConstants(
    ...         learning_rate=0.1,
    ...         contraction=1.2,
    ...         noise_operator_norm=1.0,
    ...         noise_trace=1.0,
    ...         radius=1.0,
    ...     )
    ... )
    'contraction must be below 1, got 1.2: the gradient step does not contract towards the minimum'
    """
    for name in ("learning_rate", "noise_operator_norm", "noise_trace", "radius"):
        value = getattr(constants, name)
        if not (math.isfinite(value) and value > 0):
            return f"{name} must be finite and positive, got {value:g}"
    for name in ("contraction", "start_distance", "gradient_bias"):
        value = getattr(constants, name)
        if not (math.isfinite(value) and value >= 0):
            return f"{name} must be finite and not negative, got {value:g}"
    if constants.contraction >= 1:
        return (
            f"contraction must be below 1, got {constants.contraction:g}: "
            "the gradient step does not contract towards the minimum"
        )
    if constants.start_distance > constants.radius:
        return (
            f"start_distance must not exceed the radius {constants.radius:g}, "
            f"got {constants.start_distance:g}: the trajectory starts outside the ball"
        )
    return None


def log_steps_of(steps: Int[np.ndarray, " step"]) -> Float[np.ndarray, " step"]:
    """Logarithm of numbers of steps, -inf for none; a negative number is an error."""
    if np.any(steps < 0):
        raise ValueError(f"steps must not be negative, got {int(steps.min())}")
    with np.errstate(divide="ignore"):
        return np.log(steps.astype(np.float64))
