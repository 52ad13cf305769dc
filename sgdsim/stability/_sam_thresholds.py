r"""Edges of sharpness-aware minimisation, normalised and not.

Both take a gradient uphill, so that along an eigenvector of the Hessian with curvature ``h`` the
gradient :math:`h\theta` becomes :math:`h(1+\tau h)\theta`, with the length :math:`\tau` of the way
uphill per unit of gradient. The step is that of gradient descent with the curvature
:math:`h+\tau h^2`, which reaches the edge of gradient descent earlier.
"""

import numpy as np
from jaxtyping import Float

from sgdsim.stability._mean_square import Numbers


def sam_threshold(
    learning_rate: Numbers,
    radius: float | int,
    gradient_norm: Numbers,
    weight_decay: float | int = 0.0,
) -> Float[np.ndarray, "*point"]:
    r"""Edge of normalised SAM, which moves with the norm of the gradient.

    .. math:: \frac{\|g\|}{2\rho}\Big(\sqrt{1+\frac{4\rho}{\|g\|}
        \Big(\frac2\eta-\lambda\Big)}-1\Big)

    for :math:`\theta' = \theta - \eta\,g(\theta+\rho\,g/\|g\|) - \eta\lambda\theta`.

    Parameters
    ----------
    learning_rate
        ``eta > 0``, one number or one per step.
    radius
        Distance uphill :math:`\rho\ge 0`; 0 is gradient descent.
    gradient_norm
        :math:`\|g(\theta)\|`, one number or one per step.
    weight_decay
        Decoupled decay :math:`\lambda`.

    Returns
    -------
    array
        Curvature of the Hessian; 0 where the gradient vanishes.

    Notes
    -----
    The norm is taken as constant while the linearised step is judged: exact if it comes from other
    directions than the unstable one. On one direction alone the motion that changes sign in every
    step, :math:`|\theta|=\eta h\rho/(2-\eta h)`, has the norm at which ``h`` is the edge.
    Source: edge-of-stability theory C14; Agarwala and Dauphin 2023, Long and Bartlett 2024.

    Examples
    --------
    >>> from sgdsim.stability import sam_threshold
    >>> sam_threshold(0.1, 0.1, [0.1, 1.0, 100.0]).round(3).tolist()
    [4.0, 10.0, 19.615]
    """
    norm = np.asarray(gradient_norm, np.float64)
    with np.errstate(divide="ignore"):
        time = np.asarray(radius / norm if radius else 0.0 * norm)
    return _lowered(learning_rate, time, weight_decay)


def unnormalised_sam_threshold(
    learning_rate: Numbers, radius: float | int, weight_decay: float | int = 0.0
) -> Float[np.ndarray, "*point"]:
    r"""Edge of unnormalised SAM.

    .. math:: \frac{1}{2\rho}\Big(\sqrt{1+4\rho\Big(\frac2\eta-\lambda\Big)}-1\Big)

    for :math:`\theta' = \theta - \eta\,g(\theta+\rho\,g(\theta)) - \eta\lambda\theta`.

    Parameters
    ----------
    learning_rate
        ``eta > 0``, one number or one per step.
    radius
        :math:`\rho\ge 0`; 0 is gradient descent.
    weight_decay
        Decoupled decay :math:`\lambda`.

    Notes
    -----
    Source: edge-of-stability theory C14; Agarwala and Dauphin 2023.

    Examples
    --------
    >>> from sgdsim.stability import unnormalised_sam_threshold
    >>> round(float(unnormalised_sam_threshold(0.2, 0.1)), 2)
    6.18
    """
    return _lowered(learning_rate, np.asarray(float(radius)), weight_decay)


def _lowered(
    learning_rate: Numbers, time: np.ndarray, weight_decay: float | int
) -> Float[np.ndarray, "*point"]:
    """Positive root of ``h + time h^2 = edge``, in a form that does not cancel at time 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = 2.0 / np.asarray(learning_rate, np.float64) - weight_decay
        root = 2.0 * edge / (1.0 + np.sqrt(1.0 + 4.0 * time * np.maximum(edge, 0.0)))
    return np.asarray(np.where(np.isposinf(edge), np.inf, root))
