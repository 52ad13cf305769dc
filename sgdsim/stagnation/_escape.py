r"""Escape over a barrier: Kramers and Eyring-Kramers times, estimated exit rates.

All times are of the Ito equation :math:`dx = -\nabla V\,dt + \sqrt{2D}\,dW` with the diffusion
constant D; the unit of time is :math:`t = \eta k`. Langevin dynamics at inverse temperature beta
has D = 1/beta; SGD with isotropic gradient noise of covariance s I has :math:`D = \eta s/2`.
"""

import math
from typing import NamedTuple, SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy import stats

from sgdsim._checks import check_positive
from sgdsim.stagnation._survival import check_confidence


def kramers_rate(
    barrier: SupportsFloat,
    curvature_minimum: SupportsFloat,
    curvature_saddle: SupportsFloat,
    diffusion: SupportsFloat,
    step_size: SupportsFloat = 0.0,
) -> float:
    r"""Rate of escape over one barrier for small diffusion, in one dimension.

    .. math:: \kappa = \frac{\sqrt{V''(m)\,|V''(s)|}}{2\pi}\, e^{-\Delta V/D}

    Ito, :math:`dx = -V'dt + \sqrt{2D}\,dW`, per unit of :math:`t = \eta k`.

    Parameters
    ----------
    barrier, curvature_minimum, curvature_saddle, diffusion, step_size
        As in `kramers_time`.

    Returns
    -------
    float
        Rate per saddle, one over `kramers_time`: a well with a saddle on either side is left at
        the sum of both.

    Raises
    ------
    ValueError
        A number is outside its limits.

    Notes
    -----
    Source: Kramers (1940).

    Examples
    --------
    >>> from sgdsim.stagnation import kramers_rate
    >>> round(kramers_rate(0.25, 2.0, -1.0, 0.1), 6)
    0.018476
    """
    return 1.0 / kramers_time(barrier, curvature_minimum, curvature_saddle, diffusion, step_size)


def kramers_time(
    barrier: SupportsFloat,
    curvature_minimum: SupportsFloat,
    curvature_saddle: SupportsFloat,
    diffusion: SupportsFloat,
    step_size: SupportsFloat = 0.0,
) -> float:
    r"""Mean time to the other well for small diffusion, in one dimension.

    .. math:: \tau = \frac{2\pi}{\sqrt{V''(m)\,|V''(s)|}}\, e^{\Delta V/D}
              \left(1 - \frac\eta4 \bigl(V''(m) + V''(s)\bigr)\right)

    Ito, :math:`dx = -V'dt + \sqrt{2D}\,dW`, in units of :math:`t = \eta k`; for
    :math:`\eta > 0` the chain :math:`x' = x - \eta V'(x) + \sqrt{2D\eta}\,g`. The mean time to
    the saddle alone is half of it: from there the other well is reached every second time.

    Parameters
    ----------
    barrier
        :math:`\Delta V = V(s) - V(m) > 0`.
    curvature_minimum
        :math:`V''(m) > 0`.
    curvature_saddle
        :math:`V''(s) < 0`, with its sign.
    diffusion
        D > 0.
    step_size
        :math:`\eta \ge 0`, below :math:`2/V''(m)`; zero is the Ito equation.

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
    Valid for :math:`D \ll \Delta V` with a relative error of the order of :math:`D/\Delta V`; of
    the step the first order is kept, the next is :math:`\eta^2\Delta V/D`.
    The step changes the prefactor and, to first order, not the exponent. The chain follows the
    Ito equation with drift :math:`-V' - \frac\eta2(V'V'' - D\,\partial V'')` and diffusion constant
    :math:`D(1 + \eta V'')` up to :math:`O(\eta^2)` (backward error analysis), whose exponent is
    :math:`V/D - \eta V'^2/4D - \eta V''/2`; :math:`V'^2` vanishes at both ends of the barrier.
    Source: Kramers (1940); factor in brackets: this project.

    Examples
    --------
    >>> from sgdsim.problems import DoubleWell
    >>> from sgdsim.stagnation import kramers_time
    >>> well = DoubleWell()
    >>> time = kramers_time(
    ...     well.barrier[0], well.curvature_minimum[0], well.curvature_saddle, diffusion=0.05
    ... )
    >>> round(time, 2)
    659.38
    """
    height, minimum, saddle = float(barrier), float(curvature_minimum), float(curvature_saddle)
    step = float(step_size)
    check_positive("barrier", height)
    check_positive("curvature_minimum", minimum)
    check_positive("diffusion", float(diffusion))
    if not saddle < 0:
        raise ValueError(
            f"curvature_saddle must be negative, got {saddle:g}: the risk falls on both sides of "
            "the saddle."
        )
    if not 0 <= step * minimum < 2:
        raise ValueError(
            f"step_size must be at least 0 and below 2/curvature_minimum = {2 / minimum:g}, got "
            f"{step:g}: the chain is unstable in this well."
        )
    prefactor = 2 * math.pi / math.sqrt(-minimum * saddle)
    coarseness = 1 - step * (minimum + saddle) / 4
    return exp_or_inf(math.log(prefactor * coarseness) + height / float(diffusion))


def eyring_kramers_time(
    hessian_minimum: Float[np.ndarray, "d d"],
    hessian_saddle: Float[np.ndarray, "d d"],
    barrier: SupportsFloat,
    diffusion: SupportsFloat,
) -> float:
    r"""Mean time to the other well for small diffusion, in any dimension.

    .. math:: \tau = \frac{2\pi}{|\lambda_1(s)|} \sqrt{\frac{|\det H(s)|}{\det H(m)}}\,
              e^{\Delta V/D}

    with the one negative eigenvalue :math:`\lambda_1` at the saddle. Ito,
    :math:`d\theta = -\nabla V dt + \sqrt{2D}\,dW`, in units of :math:`t = \eta k`.

    Parameters
    ----------
    hessian_minimum
        H(m), positive definite, shape (d, d).
    hessian_saddle
        H(s), with exactly one negative eigenvalue and no zero, shape (d, d).
    barrier
        :math:`\Delta V = V(s) - V(m) > 0`.
    diffusion
        D > 0.

    Returns
    -------
    float
        The time, inf where it overflows.

    Raises
    ------
    ValueError
        The Hessians are not those of a minimum and of a saddle, or a number is not positive.

    Notes
    -----
    Needs a non-degenerate minimum and saddle: with a flat direction there is no such formula.
    Source: Eyring (1935), Kramers (1940); rate form as in Mori et al. (2021), eq. 22.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import eyring_kramers_time
    >>> time = eyring_kramers_time(np.diag([2.0, 5.0]), np.diag([-1.0, 5.0]), 0.25, 0.1)
    >>> round(time, 3)
    54.125
    """
    check_positive("barrier", float(barrier))
    check_positive("diffusion", float(diffusion))
    minimum, saddle = (
        np.linalg.eigvalsh(np.asarray(h, float)) for h in (hessian_minimum, hessian_saddle)
    )
    if minimum[0] <= 0:
        raise ValueError(
            f"hessian_minimum must be positive definite, its smallest eigenvalue is "
            f"{minimum[0]:.3g}: flat directions have no Eyring-Kramers formula."
        )
    if np.count_nonzero(saddle < 0) != 1 or np.any(saddle == 0):
        raise ValueError(
            "hessian_saddle must have exactly one negative eigenvalue and no zero, got "
            f"{saddle.tolist()}: a point with more of them is not where paths cross."
        )
    log_ratio = 0.5 * float(np.sum(np.log(np.abs(saddle))) - np.sum(np.log(minimum)))
    prefactor = math.log(2 * math.pi / -saddle[0])
    return exp_or_inf(prefactor + log_ratio + float(barrier) / float(diffusion))


def finite_step_diffusion(
    diffusion: SupportsFloat, step_size: SupportsFloat, curvature: SupportsFloat
) -> float:
    r"""Diffusion constant that a finite step has near a minimum.

    .. math:: D_{\mathrm{eff}} = \frac{D}{1 - \eta h/2}

    The chain :math:`x' = x - \eta V'(x) + \sqrt{2D\eta}\,g` has in a well of curvature h the
    stationary variance :math:`D_{\mathrm{eff}}/h` instead of the D/h of the Ito equation.

    Parameters
    ----------
    diffusion
        D > 0 of the continuous equation.
    step_size
        :math:`\eta > 0`.
    curvature
        h > 0 of the well.

    Returns
    -------
    float
        :math:`D_{\mathrm{eff}}`.

    Raises
    ------
    ValueError
        A number is not positive, or :math:`\eta h \ge 2`, where the chain is unstable.

    Notes
    -----
    Exact for a quadratic well, and for the spread inside a well only. It has no place in the
    exponent of an escape time: the barrier itself is unchanged to first order in the step
    (`kramers_time` and `mean_first_passage_time` with a ``step_size``).
    Source: theory after Imaizumi & Schmidt-Hieber (explicit constants, this project), 9.3.

    Examples
    --------
    >>> from sgdsim.stagnation import finite_step_diffusion
    >>> finite_step_diffusion(0.1, step_size=0.5, curvature=2.0)
    0.2
    """
    values = {"diffusion": diffusion, "step_size": step_size, "curvature": curvature}
    for name, value in values.items():
        check_positive(name, float(value))
    coarseness = float(step_size) * float(curvature)
    if coarseness >= 2:
        raise ValueError(
            f"step_size times curvature must be below 2, got {coarseness:g}: the chain is "
            "unstable in this well; take a smaller step."
        )
    return float(diffusion) / (1 - coarseness / 2)


class ExitRate(NamedTuple):
    """Estimated exit rate with the limits of a confidence interval, per unit of exposure."""

    rate: float
    low: float
    high: float


def exit_rate(exits: int, exposure: SupportsFloat, confidence: float) -> ExitRate:
    r"""Rate of exits with an exact interval, from runs that end at an exit or are censored.

    .. math:: \hat\lambda = \frac{X}{E}, \qquad
              \left[\frac{\chi^2_{2X;\,\alpha/2}}{2E},\;
                    \frac{\chi^2_{2X+2;\,1-\alpha/2}}{2E}\right], \qquad
              \alpha = 1 - \text{confidence}

    Parameters
    ----------
    exits
        Number X of exits that were seen.
    exposure
        Total time E under observation, :math:`\sum_i (\min(\tau_i, T) - t_0)`, in steps or in
        units of :math:`t = \eta k`.
    confidence
        Between 0 and 1, of the two-sided interval.

    Returns
    -------
    ExitRate
        Estimate and limits per unit of the exposure; the lower limit is 0 for X = 0.

    Raises
    ------
    ValueError
        The exits are negative, the exposure is not positive or the confidence not in (0, 1).

    Notes
    -----
    Exact for a constant rate watched for a fixed exposure; drop the time before the process has
    forgotten its start.

    Examples
    --------
    >>> from sgdsim.stagnation import exit_rate
    >>> estimate = exit_rate(0, 100.0, 0.9)
    >>> estimate.rate, estimate.low, round(estimate.high, 4)
    (0.0, 0.0, 0.03)
    """
    if exits < 0:
        raise ValueError(f"exits must not be negative, got {exits}")
    check_positive("exposure", float(exposure))
    check_confidence(confidence)
    tail, time = (1.0 - confidence) / 2.0, float(exposure)
    low = float(stats.chi2.ppf(tail, 2 * exits)) / (2 * time) if exits else 0.0
    return ExitRate(exits / time, low, float(stats.chi2.isf(tail, 2 * exits + 2)) / (2 * time))


def exp_or_inf(value: float) -> float:
    """Exponential, inf where it overflows."""
    return math.exp(value) if value < 709.0 else math.inf
