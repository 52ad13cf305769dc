r"""Stationary law and escape where the gradient noise grows with the risk: power laws.

Near a minimum of the squared loss the covariance of the gradient noise is close to
:math:`\Sigma = \tfrac{2L}B H^*` with the Hessian :math:`H^*` of the minimum. Ito,
:math:`dx = -L'dt + \sqrt{2\eta Lh^*/B}\,dW`; the unit of time is :math:`t = \eta \cdot
\text{steps}`, so a rate per step is :math:`\eta` times the rate given here.
"""

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy import stats

from sgdsim._checks import check_positive
from sgdsim.stagnation._escape import exp_or_inf


def power_law_exponent(
    learning_rate: SupportsFloat, curvature: SupportsFloat, batch_size: SupportsFloat
) -> float:
    r"""Exponent of the stationary law :math:`p \propto L^{-\phi}`.

    .. math:: \phi = 1 + \frac{B}{\eta h^*}

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    curvature
        :math:`h^* > 0`, Hessian of the minimum.
    batch_size
        B > 0.

    Returns
    -------
    float
        :math:`\phi`.

    Raises
    ------
    ValueError
        A number is not positive.

    Notes
    -----
    Holds for any one-dimensional risk with noise :math:`2Lh^*/B`, Ito.
    Source: Mori, Ziyin, Liu & Ueda (2021).

    Examples
    --------
    >>> from sgdsim.stagnation import power_law_exponent
    >>> power_law_exponent(learning_rate=0.1, curvature=1.0, batch_size=1)
    11.0
    """
    values = {"learning_rate": learning_rate, "curvature": curvature, "batch_size": batch_size}
    for name, value in values.items():
        check_positive(name, float(value))
    return 1 + float(batch_size) / (float(learning_rate) * float(curvature))


def power_law_stationary(
    learning_rate: SupportsFloat,
    curvature: SupportsFloat,
    batch_size: SupportsFloat,
    loss_minimum: SupportsFloat,
) -> Any:
    r"""Stationary law around a minimum with residual loss: a Student t distribution.

    .. math:: p(x) \propto \bigl(L_0 + \tfrac h2 x^2\bigr)^{-\phi}, \qquad
              \nu = 2\phi - 1, \quad \text{scale} = \sqrt{\frac{2L_0}{h\nu}}

    Parameters
    ----------
    learning_rate, curvature, batch_size
        As in `power_law_exponent`.
    loss_minimum
        :math:`L_0 > 0`; without it the noise vanishes at the minimum, where all mass ends.

    Returns
    -------
    scipy.stats.rv_frozen
        Law of the displacement x from the minimum.

    Raises
    ------
    ValueError
        A number is not positive.

    Notes
    -----
    Ito, :math:`dx = -hx\,dt + \sqrt{2\eta Lh/B}\,dW` with :math:`L = L_0 + hx^2/2`. Moments of
    order :math:`\nu` and more do not exist.
    Source: Mori et al. (2021) for :math:`p \propto L^{-\phi}`; Student form, this project.

    Examples
    --------
    >>> from sgdsim.stagnation import power_law_stationary
    >>> round(float(power_law_stationary(0.1, 1.0, 1, 0.5).var()), 7)
    0.0526316
    """
    check_positive("loss_minimum", float(loss_minimum))
    freedom = 2 * power_law_exponent(learning_rate, curvature, batch_size) - 1
    scale = math.sqrt(2 * float(loss_minimum) / (float(curvature) * freedom))
    return stats.t(df=freedom, scale=scale)


def power_law_escape_rate(
    learning_rate: SupportsFloat,
    batch_size: SupportsFloat,
    losses: tuple[SupportsFloat, SupportsFloat],
    hessian_minimum: Float[np.ndarray, " outlier"] | Sequence[SupportsFloat],
    hessian_saddle: Float[np.ndarray, " outlier"] | Sequence[SupportsFloat],
    escape_curvature: SupportsFloat | None = None,
) -> float:
    r"""Rate of escape over a saddle, with the outlier directions of the Hessian.

    .. math:: \kappa = \frac{|h_e^s|}{2\pi} \sqrt{\frac{\det \hat H^*}{|\det \hat H^s|}}
              \left(\frac{L(\theta^s)}{L(\theta^*)}\right)^{-\left(\frac{B}{\eta h_e^*} + 1 -
              \frac n2\right)}

    In one dimension (n = 1) it is :math:`\frac{\sqrt{h^*|h^s|}}{2\pi}
    (L^s/L^*)^{-(1/2 + B/\eta h^*)}`.

    Parameters
    ----------
    learning_rate, batch_size
        :math:`\eta > 0` and B > 0.
    losses
        :math:`(L(\theta^*), L(\theta^s))`, :math:`0 < L(\theta^*) < L(\theta^s)`.
    hessian_minimum, hessian_saddle
        The n outlier eigenvalues of the Hessian at the minimum, all positive, and at the saddle,
        with exactly one negative, :math:`h_e^s`; shape (outlier,).
    escape_curvature
        :math:`h_e^*`, the eigenvalue at the minimum along the direction of escape; may be left out
        in one dimension.

    Returns
    -------
    float
        Rate per unit of :math:`t = \eta \cdot \text{steps}` and per saddle; per step it is
        :math:`\eta\kappa`.

    Raises
    ------
    ValueError
        A number is outside its limits, or :math:`n \ge 2(B/(\eta h_e^*) + 1)`: there is no
        stationary law then.

    Notes
    -----
    For small :math:`\eta h_e^*/B`: with :math:`g = B/\eta h^*` the Laplace method in one dimension
    gives :math:`\sqrt{1 + 1/g}` times this rate, with further terms of the order of
    :math:`1/(g \log(L^s/L^*))`. The noise is :math:`2LH^*/B` all the way to the saddle.
    Source: Mori, Ziyin, Liu & Ueda (2021), eq. 22 and its one-dimensional form.

    Examples
    --------
    >>> from sgdsim.stagnation import power_law_escape_rate
    >>> round(power_law_escape_rate(0.1, 1, (0.5, 0.75), [2.0], [-1.0]), 6)
    0.024201
    """
    low, high = map(float, losses)
    minimum, saddle = (np.asarray(h, float) for h in (hessian_minimum, hessian_saddle))
    if not 0 < low < high < math.inf:
        raise ValueError(
            f"losses must rise from a positive one at the minimum to the saddle, got {low:g} and "
            f"{high:g}: without loss at the minimum there is no noise and no escape."
        )
    if minimum.shape != saddle.shape or minimum.size == 0 or not np.all(minimum > 0):
        raise ValueError(
            "hessian_minimum must be positive eigenvalues, as many as hessian_saddle, got "
            f"{minimum.tolist()} and {saddle.tolist()}."
        )
    if np.count_nonzero(saddle < 0) != 1 or not np.all(saddle != 0):
        raise ValueError(
            "hessian_saddle must have exactly one negative eigenvalue and no zero, got "
            f"{saddle.tolist()}: a point with more of them is not where paths cross."
        )
    escape = minimum[0] if escape_curvature is None else escape_curvature
    if escape_curvature is None and minimum.size > 1:
        raise ValueError(
            "escape_curvature must be given in more than one dimension: it says which "
            "eigenvalue of the minimum belongs to the direction of escape."
        )
    gain = power_law_exponent(learning_rate, escape, batch_size)
    if minimum.size >= 2 * gain:
        raise ValueError(
            f"the number of outlier eigenvalues must be below 2 (B/(eta h) + 1) = {2 * gain:g}, "
            f"got {minimum.size}: no stationary law exists; take a smaller learning rate."
        )
    log_ratio = float(np.sum(np.log(minimum)) - np.sum(np.log(np.abs(saddle)))) / 2
    log_prefactor = math.log(-float(saddle.min()) / (2 * math.pi)) + log_ratio
    return math.exp(log_prefactor - (gain - minimum.size / 2) * math.log(high / low))


def curvature_noise_escape_time(
    barrier: SupportsFloat,
    curvatures: tuple[SupportsFloat, SupportsFloat],
    learning_rate: SupportsFloat,
    batch_size: SupportsFloat,
    share: SupportsFloat,
) -> float:
    r"""Escape time for gradient noise :math:`\Sigma = H/B` of the Hessian along the path.

    .. math:: \tau = \frac{2\pi}{|h_s|} \exp\!\left[\frac{2B\Delta L}{\eta}
              \left(\frac{c}{h_m} + \frac{1 - c}{|h_s|}\right)\right]

    Ito, in units of :math:`t = \eta \cdot \text{steps}`.

    Parameters
    ----------
    barrier
        :math:`\Delta L > 0`.
    curvatures
        :math:`h_m > 0` at the minimum and :math:`h_s < 0` at the saddle, along the path.
    learning_rate, batch_size
        :math:`\eta > 0` and B > 0.
    share
        c in (0, 1), the part of the barrier on which the noise is that of the minimum; it depends
        on the path and is no constant of the theory.

    Returns
    -------
    float
        The time, inf where it overflows.

    Raises
    ------
    ValueError
        A number is outside its limits.

    Notes
    -----
    [medium confidence] Quoted second-hand: the structure is certain, the share is not known.
    Source: Xie, Sato & Sugiyama (2021).

    Examples
    --------
    >>> from sgdsim.stagnation import curvature_noise_escape_time
    >>> round(curvature_noise_escape_time(0.1, (2.0, -1.0), 0.1, 1, 0.5), 3)
    28.159
    """
    minimum, saddle = map(float, curvatures)
    values = {
        "barrier": barrier,
        "curvature at the minimum": minimum,
        "minus the curvature at the saddle": -saddle,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
    }
    for name, value in values.items():
        check_positive(name, float(value))
    if not 0 < float(share) < 1:
        raise ValueError(f"share must lie between 0 and 1, got {float(share):g}: it is a part.")
    resistance = float(share) / minimum - (1 - float(share)) / saddle
    exponent = 2 * float(batch_size) * float(barrier) / float(learning_rate) * resistance
    return exp_or_inf(exponent + math.log(-2 * math.pi / saddle))
