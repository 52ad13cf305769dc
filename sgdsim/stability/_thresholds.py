"""Edges of stability and what they say about the SDE as a model of SGD."""

import math


def gradient_descent_threshold(learning_rate: float) -> float:
    r"""Sharpness :math:`2/\eta` above which gradient descent on a quadratic diverges.

    Parameters
    ----------
    learning_rate
        ``eta > 0``.

    Notes
    -----
    Gaussian SGD at ``h = eta`` has the same threshold for its mean; the SDE has none.

    Examples
    --------
    >>> from sgdsim.stability import gradient_descent_threshold
    >>> gradient_descent_threshold(0.5)
    4.0
    """
    return 2.0 / learning_rate


def variance_ratio(learning_rate: float, curvature: float) -> float:
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


def sde_verdict(learning_rate: float, sharpness: float, tolerance: float = 0.1) -> str:
    r"""Judge in one sentence whether the SDE describes the discrete process.

    Parameters
    ----------
    learning_rate
        ``eta``.
    sharpness
        Largest Hessian eigenvalue met during the run.
    tolerance
        Relative error of the stationary variance, along the sharpest direction and for additive
        noise, up to which the SDE is called valid.

    Examples
    --------
    >>> from sgdsim.stability import sde_verdict
    >>> print(sde_verdict(0.5, 0.04))
    SDE valid: eta*lambda_max/2 = 0.01; linearised, its stationary variance is 1.0 % too small.
    """
    ratio = variance_ratio(learning_rate, sharpness)
    gauge = learning_rate * sharpness / 2
    if not math.isfinite(gauge):
        return "SDE not judged: the sharpness was not measured."
    if math.isinf(ratio):
        return (
            f"SDE invalid: eta*lambda_max/2 = {gauge:.2g}, beyond the edge of stability 1, where "
            "the discrete process has no stationary law and the SDE still has one."
        )
    error = 1 - 1 / ratio  # equals the gauge eta*lambda/2
    word = "valid" if error <= tolerance else "invalid"
    return (
        f"SDE {word}: eta*lambda_max/2 = {gauge:.2g}; linearised, its stationary variance is "
        f"{100 * error:.1f} % too small."
    )
