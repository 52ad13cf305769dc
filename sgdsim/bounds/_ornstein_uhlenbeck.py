r"""The posterior of a stagnation set: the stationary law of SGD around a minimum.

Near a minimum :math:`\theta^*` with curvatures :math:`h_i` and gradient noise of variances
:math:`s_i` along common eigenvectors, SGD of the learning rate :math:`\eta` is an
Ornstein-Uhlenbeck process, with the stationary law :math:`Q=N(\theta^*,S)`,

.. math::
    S_i = \frac{\eta s_i}{h_i(2-\eta h_i)}\ \text{(discrete steps)},\qquad
    S_i = \frac{\eta s_i}{2h_i}\ \text{(continuous time)}.

With a prior :math:`P=N(\theta_0,\lambda I)` its divergence is known in closed form and enters any
inequality of ``pac_bayes_bound``.
"""

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._pac_bayes_kl import gaussian_kl


def ornstein_uhlenbeck_variances(
    curvatures: Float[np.ndarray, "... direction"],
    noise_variances: Float[np.ndarray, "... direction"] | float | int,
    learning_rate: float | int,
    time: str = "discrete",
) -> Float[np.ndarray, "... direction"]:
    r"""Stationary variances of SGD along the eigenvectors of the Hessian.

    .. math:: S_i = \frac{\eta s_i}{h_i(2-\eta h_i)}\quad\text{or}\quad\frac{\eta s_i}{2h_i}

    Parameters
    ----------
    curvatures
        :math:`h_i>0`, loss per squared weight, shape ``(..., direction)``.
    noise_variances
        :math:`s_i>0`, variances of the gradient of one step.
    learning_rate
        :math:`\eta>0`.
    time
        ``"discrete"`` for the steps themselves, ``"continuous"`` for their limit.

    Returns
    -------
    array
        Shape ``(..., direction)``.

    Raises
    ------
    ValueError
        If a number is not positive, ``time`` is unknown, or a direction is unstable:
        :math:`\eta h_i\ge2` for discrete steps.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import ornstein_uhlenbeck_variances
    >>> ornstein_uhlenbeck_variances(np.array([1.0, 4.0]), 0.5, 0.25).round(4).tolist()
    [0.0714, 0.0312]
    """
    curvatures, noise = np.asarray(curvatures, np.float64), np.asarray(noise_variances, np.float64)
    if not ((curvatures > 0.0).all() and (noise > 0.0).all() and learning_rate > 0.0):
        raise ValueError(
            "Curvatures, noise variances and the learning rate must be positive; leave flat "
            f"directions out (got a smallest curvature of {curvatures.min()}, a smallest variance "
            f"of {noise.min()}, learning_rate={learning_rate})."
        )
    if time not in ("discrete", "continuous"):
        raise ValueError(f"time must be 'discrete' or 'continuous'; got {time!r}.")
    if time == "continuous":
        return np.asarray(learning_rate * noise / (2.0 * curvatures))
    if learning_rate * curvatures.max() >= 2.0:
        raise ValueError(
            f"learning_rate={learning_rate} times the largest curvature {curvatures.max()} must be "
            "below 2, or discrete steps have no stationary law; lower the learning rate."
        )
    return np.asarray(learning_rate * noise / (curvatures * (2.0 - learning_rate * curvatures)))


def ornstein_uhlenbeck_kl(
    curvatures: Float[np.ndarray, "... direction"],
    noise_variances: Float[np.ndarray, "... direction"] | float | int,
    learning_rate: float | int,
    squared_distance: Float[np.ndarray, "..."] | float | int,
    prior_variance: float | int,
    time: str = "discrete",
) -> Float[np.ndarray, "..."]:
    r"""Divergence of the stationary law of SGD from an isotropic normal prior.

    .. math::
        \mathrm{KL}(Q\|P) = \frac{\|\theta^*-\theta_0\|^2}{2\lambda}
        + \frac12\sum_i\Big(\frac{S_i}\lambda-1-\ln\frac{S_i}\lambda\Big)

    Parameters
    ----------
    curvatures, noise_variances, learning_rate, time
        As in ``ornstein_uhlenbeck_variances``; only the directions with curvature.
    squared_distance
        :math:`\|\theta^*-\theta_0\|^2` over all directions, shape ``(...)`` or a number.
    prior_variance
        :math:`\lambda>0`, fixed in advance, as is :math:`\theta_0`.

    Returns
    -------
    array
        Shape ``(...)``, in nats.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    In the directions that are left out ``Q`` has the variance of the prior, which costs nothing
    but their share of the distance. The prior is the same in every direction, so that the total
    distance is enough. ``Q`` may depend on the training rows in any way.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import ornstein_uhlenbeck_kl, pac_bayes_bound
    >>> divergence = ornstein_uhlenbeck_kl(np.array([1.0, 4.0]), 0.5, 0.25, 0.3, 0.1)
    >>> round(float(divergence), 4)
    1.7632
    >>> round(float(pac_bayes_bound("kl", 0.05, divergence, 1000, 0.05)), 4)
    0.0845
    """
    if not prior_variance > 0.0:
        raise ValueError(f"prior_variance must be positive; got {prior_variance}.")
    if not np.all(np.asarray(squared_distance) >= 0.0):
        raise ValueError("squared_distance must not be negative; give the square of the distance.")
    variances = ornstein_uhlenbeck_variances(curvatures, noise_variances, learning_rate, time)
    spread = gaussian_kl(np.zeros_like(variances), variances, prior_variance)
    return np.asarray(spread + 0.5 * np.asarray(squared_distance) / prior_variance)
