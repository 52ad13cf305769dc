"""The constants of the exit bounds and the assumptions they have to meet."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped


@dataclass(frozen=True, kw_only=True)
class StayConstants:
    r"""The constants that the exit bounds need, all valid inside the ball.

    Every constant is a number, or an array: then each entry is one setting, and arrays of
    different settings broadcast against each other.

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    contraction
        :math:`0 \le q < 1` with :math:`\|u - \eta \nabla L_n\| \le q \|u\| + \eta \varepsilon`.
    noise_operator_norm
        :math:`\bar s > 0`: largest eigenvalue of the covariance of the noise of **one step**, that
        is the covariance of the minibatch gradient (per-sample covariance divided by the batch
        size), the supremum over the ball. For sub-Gaussian noise of its variance proxy,
        `hoeffding_proxy`.
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

    learning_rate: float | int | Real[np.ndarray, "..."]
    contraction: float | int | Real[np.ndarray, "..."]
    noise_operator_norm: float | int | Real[np.ndarray, "..."]
    noise_trace: float | int | Real[np.ndarray, "..."]
    radius: float | int | Real[np.ndarray, "..."]
    start_distance: float | int | Real[np.ndarray, "..."] = 0.0
    gradient_bias: float | int | Real[np.ndarray, "..."] = 0.0


def assumption_violation(constants: StayConstants) -> str | None:
    """Say which assumption of the exit bounds the constants violate.

    Parameters
    ----------
    constants
        The measured or chosen constants of one setting: numbers.

    Returns
    -------
    str or None
        The reason in words, None when the bounds apply.

    Raises
    ------
    ValueError
        The constants are those of several settings.

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
    violated, reasons = assumption_violations(constants)
    if violated.ndim > 0:
        raise ValueError(
            f"assumption_violation answers for one setting, got constants of shape "
            f"{violated.shape}: use assumption_violations"
        )
    return str(reasons) or None


def assumption_violations(
    constants: StayConstants,
) -> tuple[Bool[np.ndarray, "*setting"], Shaped[np.ndarray, "*setting"]]:
    """Say for every setting which assumption of the exit bounds it violates.

    Parameters
    ----------
    constants
        The measured or chosen constants.

    Returns
    -------
    violated : numpy.ndarray
        True where the bounds do not apply and are nan, shape of the settings.
    reasons : numpy.ndarray
        The reason in words, of the first violated assumption; empty where the bounds apply.

    Raises
    ------
    ValueError
        The shapes of the constants do not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, assumption_violations
    >>> violated, reasons = assumption_violations(
    ...     StayConstants(
    ...         learning_rate=0.1,
    ...         contraction=0.9,
    ...         noise_operator_norm=1.0,
    ...         noise_trace=1.0,
    ...         radius=np.array([0.0, 1.0]),
    ...     )
    ... )
    >>> violated.tolist()
    [True, False]
    >>> str(reasons[0])
    'radius must be finite and positive, got 0'
    """
    values = broadcast_constants(constants)
    shape = values["radius"].shape
    flat = {name: value.reshape(-1) for name, value in values.items()}
    reasons = np.full(flat["radius"].shape, "", dtype=object)

    def add(good: np.ndarray, words: str) -> None:
        for at in np.flatnonzero(~good & (reasons == "")):
            reasons[at] = words.format(**{name: value[at] for name, value in flat.items()})

    for name in ("learning_rate", "noise_operator_norm", "noise_trace", "radius"):
        good = np.isfinite(flat[name]) & (flat[name] > 0)
        add(good, f"{name} must be finite and positive, got {{{name}:g}}")
    for name in ("contraction", "start_distance", "gradient_bias"):
        good = np.isfinite(flat[name]) & (flat[name] >= 0)
        add(good, f"{name} must be finite and not negative, got {{{name}:g}}")
    add(
        flat["contraction"] < 1,
        "contraction must be below 1, got {contraction:g}: "
        "the gradient step does not contract towards the minimum",
    )
    add(
        flat["start_distance"] <= flat["radius"],
        "start_distance must not exceed the radius {radius:g}, "
        "got {start_distance:g}: the trajectory starts outside the ball",
    )
    return (reasons != "").reshape(shape), reasons.astype(np.str_).reshape(shape)


def hoeffding_proxy(diameter: float | int, batch_size: int, dimension: int) -> tuple[float, float]:
    r"""Bound the noise of a minibatch whose per-sample gradients lie in a bounded set.

    .. math:: E\, e^{\langle v, \xi \rangle} \le e^{\bar s \|v\|^2 / 2}, \qquad
              \bar s = \frac{D^2}{4 B}, \qquad \bar\tau = m\, \bar s

    Parameters
    ----------
    diameter
        :math:`D \ge 0`: largest distance between the gradients of two samples at one point of the
        ball.
    batch_size
        B >= 1 samples, drawn independently (with replacement).
    dimension
        m >= 1: dimension of the span of the differences of the gradients, at most the number of
        parameters and at most the number of samples less one.

    Returns
    -------
    tuple of float
        :math:`(\bar s, \bar\tau)`, the ``noise_operator_norm`` and ``noise_trace`` with which all
        exit bounds hold for this bounded noise.

    Raises
    ------
    ValueError
        The diameter is negative, or a count is below 1.

    Notes
    -----
    Hoeffding's lemma: :math:`\langle v, g_i \rangle` lies in an interval of length
    :math:`D \|v\|`, so one sample has the proxy :math:`D^2 / 4`; the mean of B independent ones has
    a B-th of it. Directions outside the span carry no noise. The bound needs neither a Gaussian nor
    a large batch, and costs the factor :math:`D^2 / (4 \lambda_{\max})` against the covariance.

    Source: Hoeffding (1963), the lemma behind Theorem 2; its use here: stagnation theory after
    Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import hoeffding_proxy
    >>> hoeffding_proxy(diameter=2.0, batch_size=4, dimension=3)
    (0.25, 0.75)
    """
    if not (np.isfinite(diameter) and diameter >= 0):
        raise ValueError(f"diameter must be finite and not negative, got {diameter:g}")
    if batch_size < 1 or dimension < 1:
        raise ValueError(
            f"batch_size and dimension must be at least 1, got {batch_size} and {dimension}"
        )
    proxy = diameter**2 / (4 * batch_size)
    return proxy, dimension * proxy


def broadcast_constants(constants: StayConstants) -> dict[str, np.ndarray]:
    """All constants as float64 arrays of one shape, by name."""
    values = {
        field.name: np.asarray(getattr(constants, field.name), np.float64)
        for field in fields(constants)
    }
    try:
        shape = np.broadcast_shapes(*(value.shape for value in values.values()))
    except ValueError:
        shapes = {name: value.shape for name, value in values.items() if value.ndim}
        raise ValueError(f"the constants must broadcast to one shape, got {shapes}") from None
    return {name: np.broadcast_to(value, shape) for name, value in values.items()}


def over_settings(
    constants: StayConstants,
    steps: Int[np.ndarray, " step"],
    bound: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray],
) -> Float[np.ndarray, "*setting step"]:
    """Evaluate a bound where its assumptions hold, nan elsewhere.

    ``bound`` gets the constants of the settings, each of shape (setting, 1), and the steps as
    float64 of shape (step,); it returns (setting, step).
    """
    if np.any(steps < 0):
        raise ValueError(f"steps must not be negative, got {int(steps.min())}")
    violated, _ = assumption_violations(constants)
    good = ~violated.reshape(-1)
    columns = {
        name: value.reshape(-1, 1)[good] for name, value in broadcast_constants(constants).items()
    }
    result = np.full((good.size, steps.size), np.nan)
    if good.any():
        result[good] = bound(columns, steps.astype(np.float64))
    return result.reshape(*violated.shape, steps.size)


def log_of_steps(steps: np.ndarray) -> np.ndarray:
    """Logarithm of numbers of steps, -inf for none."""
    with np.errstate(divide="ignore"):
        return np.log(steps)
