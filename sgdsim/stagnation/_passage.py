r"""Exact passage times and diffusion in one-dimensional potentials, by quadrature.

All are of the Ito equation :math:`dx = -V'dt + \sqrt{2D}\,dW`; the unit of time is
:math:`t = \eta k`.
"""

import math
from collections.abc import Callable
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float

from sgdsim._checks import check_positive
from sgdsim.stagnation._escape import exp_or_inf

#: Boltzmann weights below exp(-60) of the largest one are left out.
_NEGLIGIBLE = 60.0
_NODES = 16
_FEWEST_PANELS, _MOST_PANELS = 128, 2**15
_CONVERGED = 1e-10
#: Mean overshoot of a Gaussian random walk over a far level, in standard deviations of a step:
#: minus the Riemann zeta function at 1/2, over the root of 2 pi.
_OVERSHOOT = 0.5825971579390107

Potential = Callable[[Float[np.ndarray, " x"]], Float[np.ndarray, " x"]]


def mean_first_passage_time(
    potential: Potential,
    diffusion: SupportsFloat,
    start: SupportsFloat,
    target: SupportsFloat,
    step_size: SupportsFloat = 0.0,
    monitoring_step: SupportsFloat | None = None,
) -> float:
    r"""Mean time to first reach a point, in one dimension: exact, or corrected for finite steps.

    .. math:: \tau(a \to b) = \frac1D \int_a^b e^{V(y)/D} \int_{-\infty}^y e^{-V(z)/D}\,dz\,dy

    for a < b, mirrored for a > b. Ito, :math:`dx = -V'dt + \sqrt{2D}\,dW`, in units of
    :math:`t = \eta k`. With a step size :math:`\eta > 0` it is the time at which the chain
    :math:`x' = x - \eta V'(x) + \sqrt{2D\eta}\,g` is first seen at or beyond b, to first order:

    .. math:: \tau_\eta(a \to b) = \frac1D \int_{\tilde a}^{\tilde b} e^{V(y)/D - \eta V''(y)/4}
              \int_{-\infty}^y e^{-V(z)/D - \eta V''(z)/4}\,dz\,dy, \qquad
              \tilde a = a - \tfrac\eta4 V'(a), \quad
              \tilde b = b - \tfrac\eta4 V'(b) + 0.5826\sqrt{2D\eta}

    Parameters
    ----------
    potential
        V, smooth; takes and returns an array of shape (x,).
    diffusion
        D > 0.
    start, target
        a and b.
    step_size
        :math:`\eta \ge 0`; zero is the Ito equation.
    monitoring_step
        Time between two looks at the chain, where it is not looked at after every step; the
        overshoot is that of this time.

    Returns
    -------
    float
        The time, inf where it overflows. Relative error near 1e-10 for the Ito equation.

    Raises
    ------
    ValueError
        D is not positive, the step size is negative, the potential does not rise behind the start
        (the time is infinite then), or the integrals do not settle.

    Notes
    -----
    Gauss-Legendre panels, halved until the result settles; all sums are of logarithms. Behind the
    start the potential is followed until it lies 60 D above its lowest value there, and is taken
    to go on rising.
    The correction is that of the equation which the chain follows up to :math:`O(\eta^2)`, see
    `kramers_time`, integrated by parts; the barrier is not lowered. The shift by 0.5826 standard
    deviations is the mean overshoot of a chain that is seen between steps only. Beyond the saddle
    the relative error is of the order of :math:`\eta^2\Delta V/D`; for a target where paths do not
    run away by themselves terms of order :math:`\eta` remain.
    Source: Ito equation, classical; overshoot, Broadie, Glasserman & Kou (1997); finite steps,
    this project.

    Examples
    --------
    >>> from sgdsim.stagnation import mean_first_passage_time
    >>> def double_well(x):
    ...     return (x**2 - 1) ** 2 / 4
    >>> round(mean_first_passage_time(double_well, 0.1, -1.0, 1.0), 4)
    66.2686
    >>> round(mean_first_passage_time(double_well, 0.1, -1.0, 1.0, step_size=0.1), 1)
    65.4
    """
    constant, origin, end = float(diffusion), float(start), float(target)
    step = float(step_size)
    between = step if monitoring_step is None else float(monitoring_step)
    check_positive("diffusion", constant)
    for name, value in (("step_size", step), ("monitoring_step", between)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number and not negative, got {value!r}.")
    if origin == end:
        return 0.0
    sign = 1.0 if end > origin else -1.0
    origin, end = sign * origin, sign * end

    def scaled(x: np.ndarray) -> np.ndarray:
        return np.asarray(potential(sign * x), float) / constant

    bend = _no_bend
    if step > 0:
        # Differences over the length of one step: the chain sees nothing finer, and their own
        # error is of higher order in the step.
        length = math.sqrt(2 * constant * step)

        def slope(x: float) -> float:
            below, above = scaled(np.array([x - length, x + length]))
            return constant * float(above - below) / (2 * length)

        def bend(x: np.ndarray) -> np.ndarray:
            second = scaled(x - length) - 2 * scaled(x) + scaled(x + length)
            return step / 4 * constant * second / length**2

        origin, end = (x - step / 4 * slope(x) for x in (origin, end))
    end = max(origin, end + _OVERSHOOT * math.sqrt(2 * constant * between))

    low = _confined_from(scaled, origin, end)
    # The logarithms cannot be more exact than the rounding of V/D itself.
    largest = float(np.max(np.abs(scaled(np.linspace(low, end, 1025)))))
    tolerance = max(_CONVERGED, 8 * np.finfo(float).eps * largest)
    panels, log_time = _FEWEST_PANELS, math.nan
    while panels <= _MOST_PANELS:
        finer = _log_passage_integral(scaled, bend, (low, origin, end), panels)
        if abs(finer - log_time) < tolerance:
            return exp_or_inf(finer - math.log(constant))
        panels, log_time = 2 * panels, finer
    raise ValueError(
        f"the passage time does not settle with {_MOST_PANELS} panels: the potential is not "
        "smooth or has no scale in common with the interval; check it, or a larger diffusion."
    )


def effective_diffusion(
    potential: Potential, diffusion: SupportsFloat, period: SupportsFloat
) -> float:
    r"""Long-time diffusion constant in a periodic potential.

    .. math:: D_{\mathrm{eff}} = \lim_{t \to \infty} \frac{\mathrm{Var}\,x_t}{2t}
              = \frac{D}{\langle e^{V/D} \rangle \langle e^{-V/D} \rangle}

    with averages over a period. Ito, :math:`dx = -V'dt + \sqrt{2D}\,dW`, per unit of
    :math:`t = \eta k`.

    Parameters
    ----------
    potential
        V, smooth and periodic; takes and returns an array of shape (x,).
    diffusion
        D > 0.
    period
        Length of the period.

    Returns
    -------
    float
        :math:`D_{\mathrm{eff}} \le D`.

    Raises
    ------
    ValueError
        D or the period is not positive, or the averages do not settle.

    Notes
    -----
    For small D it tends to the Kramers rate per side times the squared period.
    Source: Lifson & Jackson (1962).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import effective_diffusion
    >>> round(effective_diffusion(lambda x: 1 - np.cos(x), 0.4, 2 * np.pi), 7)
    0.0369582
    """
    constant, length = float(diffusion), float(period)
    check_positive("diffusion", constant)
    check_positive("period", length)
    points, log_slowing = _FEWEST_PANELS, math.nan
    while points <= _MOST_PANELS * _NODES:
        # The trapezoidal rule converges geometrically for a smooth periodic function.
        weight = np.asarray(potential(np.arange(points) * (length / points)), float) / constant
        finer = _log_sum(weight) + _log_sum(-weight) - 2 * math.log(points)
        if abs(finer - log_slowing) < _CONVERGED:
            return constant * math.exp(-finer)
        points, log_slowing = 2 * points, finer
    raise ValueError(
        "the averages over a period do not settle: the potential is not smooth or not periodic."
    )


def _confined_from(scaled: Potential, origin: float, end: float) -> float:
    """Point behind the start beyond which the Boltzmann weight is negligible."""
    # Compared with the weight behind the start alone: it enters the inner integral for every y.
    width, lowest = end - origin, math.inf
    for _ in range(60):
        low = origin - width
        values = scaled(np.linspace(low, origin, 1025))
        lowest = min(lowest, float(np.min(values)))
        if values[0] - lowest > _NEGLIGIBLE:
            return low
        width *= 1.5
    raise ValueError(
        "the potential does not rise behind the start, so that the mean time to the target is "
        "infinite; give a confining potential, or use effective_diffusion for a periodic one."
    )


def _no_bend(x: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


def _log_passage_integral(
    scaled: Potential, bend: Potential, ends: tuple[float, float, float], panels: int
) -> float:
    """Log of the double integral of exp(V/D - bend) over the integral of exp(-V/D - bend)."""
    at, weights, cumulative = _panel_rule()
    low, origin, end = ends
    edges = np.concatenate(
        [np.linspace(low, origin, panels + 1), np.linspace(origin, end, panels + 1)[1:]]
    )
    half = np.diff(edges)[:, None] / 2
    nodes = edges[:-1, None] + half * (at + 1)
    value, correction = (f(nodes.ravel()).reshape(nodes.shape) for f in (scaled, bend))
    # Boltzmann weights relative to the largest one of each panel, and their integrals.
    peak = np.max(-value - correction, axis=1)
    boltzmann = np.exp(-value - correction - peak[:, None])
    log_mass = np.log(half[:, 0] * (boltzmann @ weights)) + peak
    before = np.concatenate([[-np.inf], np.logaddexp.accumulate(log_mass)[:-1]])
    # Inside a panel the interpolant may dip below zero where the weight has all but vanished.
    partial = np.maximum(half * (boltzmann @ cumulative.T), 1e-300)
    behind = np.logaddexp(before[:, None], np.log(partial) + peak[:, None])
    return _log_sum((value - correction + behind + np.log(half * weights))[panels:])


def _panel_rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [-1, 1] and the matrix of integrals up to each node."""
    at, weights = np.polynomial.legendre.leggauss(_NODES)
    basis = np.polynomial.legendre.legvander(at, _NODES - 1)
    integrals = [
        np.polynomial.legendre.legval(
            at, np.polynomial.legendre.legint(np.eye(_NODES)[degree], lbnd=-1)
        )
        for degree in range(_NODES)
    ]
    return at, weights, np.linalg.solve(basis.T, np.stack(integrals)).T


def _log_sum(logs: np.ndarray) -> float:
    largest = float(np.max(logs))
    return largest + math.log(float(np.sum(np.exp(logs - largest))))
