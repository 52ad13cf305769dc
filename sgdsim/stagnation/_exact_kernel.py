r"""Exact exit law of noisy gradient descent on an isotropic quadratic: no bound, no simulation.

For :math:`\theta_{t+1} = \rho\theta_t + \sigma g_t`, :math:`g_t \sim N(0, I_m)`, the distance
:math:`d_t = \|\theta_t\|` is a Markov chain: :math:`d_{t+1}^2 / \sigma^2` given :math:`d_t` is
non-central chi-squared with m degrees of freedom and parameter :math:`\rho^2 d_t^2 / \sigma^2`.
Gradient descent on :math:`\tfrac h2 \|\theta\|^2` with gradient noise of covariance s I is the case
:math:`\rho = 1 - \eta h`, :math:`\sigma = \eta \sqrt{s}`. With a flat valley of minima the distance
to the valley sees the normal part alone: m is then the rank of the Hessian. The unit of time is the
step, and the chain is looked at after every step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from sgdsim._checks import check_positive

#: Rows of the killed kernel must add up, with the mass they lose, to one within this.
_LOST_BY_QUADRATURE = 1e-9


class _KilledChain(NamedTuple):
    """Chain killed at its exit, on quadrature nodes; the first step goes from the start."""

    kernel: Float[np.ndarray, "node node"]
    lost: Float[np.ndarray, " node"]
    first: Float[np.ndarray, " node"]
    first_lost: float


def exact_stay_probability(
    autoregression: SupportsFloat,
    noise_scale: SupportsFloat,
    dimension: int,
    radius: SupportsFloat,
    start: SupportsFloat,
    steps: int,
    nodes: int | None = None,
) -> Float[np.ndarray, " step"]:
    r"""Probability that the autoregression stays in a ball at all steps 1 to T, for every T.

    .. math:: P(d_1, \dots, d_T \le \delta) = \int_0^\delta k(d_0, r_1) \dots
              \int_0^\delta k(r_{T-1}, r_T) \, dr_T \dots dr_1

    Parameters
    ----------
    autoregression
        :math:`\rho`; only its absolute value matters.
    noise_scale
        :math:`\sigma > 0` of one step and coordinate.
    dimension
        m >= 1; the rank of the Hessian where there is a valley of minima.
    radius
        :math:`\delta > 0`.
    start
        :math:`0 \le d_0 \le \delta`.
    steps
        Largest T >= 1.
    nodes
        Gauss-Legendre nodes on :math:`[0, \delta]`; by default :math:`60 + 2.5\,\delta/\sigma`,
        with an error near 1e-14 per step.

    Returns
    -------
    numpy.ndarray
        Stay probabilities for T = 1, ..., ``steps``, shape (step,).

    Raises
    ------
    ValueError
        A number is outside its limits, or the nodes are too few.

    Notes
    -----
    Exact for Gaussian noise but for the quadrature. A power of the kernel makes strides of
    :math:`\sqrt T` steps: many steps are cheap.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    6.5.

    Examples
    --------
    >>> from sgdsim.stagnation import exact_stay_probability
    >>> stay = exact_stay_probability(0.95, 0.01, 1, 0.1, 0.0, 1000)
    >>> stay[[9, 99, 999]].round(6).tolist()
    [0.999853, 0.95883, 0.603845]
    """
    chain = _ball_chain(autoregression, noise_scale, dimension, (radius, start), nodes)
    return _marginals(chain, np.ones_like(chain.lost), steps)


def exact_exit_probability(
    autoregression: SupportsFloat,
    noise_scale: SupportsFloat,
    dimension: int,
    radius: SupportsFloat,
    start: SupportsFloat,
    steps: int,
    nodes: int | None = None,
) -> Float[np.ndarray, " step"]:
    r"""Probability that the autoregression has left a ball by step T, for every T.

    .. math:: P(\tau \le T) = \sum_{t \le T} \int_0^\delta p_{t-1}(r)\,
              P(d_1 > \delta \mid d_0 = r)\,dr

    with the density :math:`p_t` of the chains that have not left by step t: one minus
    `exact_stay_probability`, without the difference.

    Parameters
    ----------
    autoregression, noise_scale, dimension, radius, start, steps, nodes
        As in `exact_stay_probability`.

    Returns
    -------
    numpy.ndarray
        Exit probabilities for T = 1, ..., ``steps``, shape (step,).

    Raises
    ------
    ValueError
        As in `exact_stay_probability`.

    Notes
    -----
    The mass that leaves at each step is a sum of positive terms: 1e-12 or 1e-30 has as many
    digits as 0.1.
    Source: as `exact_stay_probability`.

    Examples
    --------
    >>> from sgdsim.stagnation import exact_exit_probability
    >>> f"{exact_exit_probability(0.95, 0.01, 1, 0.2, 0.0, 1000)[-1]:.4e}"
    '2.6519e-07'
    """
    chain = _ball_chain(autoregression, noise_scale, dimension, (radius, start), nodes)
    later = _marginals(chain, chain.lost, steps)[:-1]
    return np.cumsum(np.concatenate([[chain.first_lost], later]))


def exact_exit_rate(
    autoregression: SupportsFloat,
    noise_scale: SupportsFloat,
    dimension: int,
    radius: SupportsFloat,
    nodes: int | None = None,
) -> float:
    r"""Asymptotic exit rate per step: minus the log of the top eigenvalue of the killed kernel.

    .. math:: -\lim_{T \to \infty} \frac{1}{T} \log P(d_1, \dots, d_T \le \delta)
              = -\log\Bigl(1 - \int_0^\delta \pi(r)\, P(d_1 > \delta \mid d_0 = r) \, dr\Bigr)

    with the quasi-stationary density pi, the left eigenfunction.

    Parameters
    ----------
    autoregression, noise_scale, dimension, radius, nodes
        As in `exact_stay_probability`.

    Returns
    -------
    float
        The rate, per step.

    Raises
    ------
    ValueError
        As in `exact_stay_probability`, or next to nobody stays.

    Notes
    -----
    The mass lost per step is summed from positive terms: rates far below the rounding error of an
    eigenvalue near 1 keep their leading digits.
    Source: as `exact_stay_probability`.

    Examples
    --------
    >>> from sgdsim.stagnation import exact_exit_rate
    >>> round(exact_exit_rate(0.95, 0.01, 1, 0.1), 9)
    0.000513775
    """
    chain = _ball_chain(autoregression, noise_scale, dimension, (radius, 0.0), nodes)
    first, power = chain.first, chain.kernel
    law, loss = np.zeros_like(first), 0.0
    # Powers 1, 2, 4, ...: until twice as many steps change neither the law of the survivors nor
    # its tail at the boundary, which alone is lost.
    for _ in range(64):
        later = first @ power
        if not later.sum() > 0:
            raise ValueError("the exit rate is beyond double precision: next to nobody stays.")
        later /= later.sum()
        later_loss = float(later @ chain.lost)
        settled = np.abs(later - law).sum() < 1e-12 and abs(later_loss - loss) <= 1e-12 * loss
        law, loss = later, later_loss
        if settled:
            break
        power = power @ power
        power /= max(float(power.max()), 1e-300)
    return -math.log1p(-loss) if loss < 0.5 else -math.log(float((law @ chain.kernel).sum()))


def quadratic_stay_probability(
    learning_rate: SupportsFloat,
    curvature: SupportsFloat,
    noise_variance: SupportsFloat,
    dimension: int,
    radius: SupportsFloat,
    start: SupportsFloat,
    steps: int,
) -> Float[np.ndarray, " step"]:
    r"""Exact stay probability of noisy gradient descent on :math:`\tfrac h2\|\theta\|^2`.

    .. math:: \theta_{t+1} = (1 - \eta h)\,\theta_t + \eta\sqrt s\,g_t

    Parameters
    ----------
    learning_rate
        :math:`\eta > 0`.
    curvature
        h, the one non-zero eigenvalue of the Hessian.
    noise_variance
        s > 0, variance of the gradient noise per coordinate: that of one sample over the batch
        size.
    dimension
        Multiplicity of h: the number of parameters, or the rank where there is a valley of minima.
    radius, start, steps
        As in `exact_stay_probability`.

    Returns
    -------
    numpy.ndarray
        Stay probabilities for T = 1, ..., ``steps``, shape (step,).

    Raises
    ------
    ValueError
        As in `exact_stay_probability`.

    Examples
    --------
    >>> from sgdsim.stagnation import quadratic_stay_probability
    >>> round(float(quadratic_stay_probability(0.05, 1.0, 0.04, 10, 0.2, 0.0, 1000)[-1]), 6)
    0.98786
    """
    eta, variance = float(learning_rate), float(noise_variance)
    check_positive("learning_rate", eta)
    check_positive("noise_variance", variance)
    rho, sigma = 1 - eta * float(curvature), eta * math.sqrt(variance)
    return exact_stay_probability(rho, sigma, dimension, radius, start, steps)


def exact_stay_probability_interval(
    autoregression: SupportsFloat,
    noise_scale: SupportsFloat,
    interval: tuple[SupportsFloat, SupportsFloat],
    start: SupportsFloat,
    steps: int,
    shift: SupportsFloat = 0.0,
    nodes: int | None = None,
) -> Float[np.ndarray, " step"]:
    r"""Probability that a biased one-dimensional autoregression stays in an interval.

    .. math:: x_{t+1} = \rho x_t + c + \sigma g_t, \qquad P(lo \le x_1, \dots, x_T \le hi)

    Gradient descent on :math:`\tfrac h2 x^2` with gradient bias e has
    :math:`\rho = 1 - \eta h`, :math:`c = -\eta e`.

    Parameters
    ----------
    autoregression, noise_scale
        :math:`\rho` and :math:`\sigma > 0`.
    interval
        (lo, hi), finite.
    start
        :math:`x_0` in the interval.
    steps
        Largest T >= 1.
    shift
        c.
    nodes
        Gauss-Legendre nodes; by default :math:`60 + 2.5\,(hi - lo)/\sigma`.

    Returns
    -------
    numpy.ndarray
        Stay probabilities for T = 1, ..., ``steps``, shape (step,).

    Raises
    ------
    ValueError
        As in `exact_stay_probability`.

    Notes
    -----
    Source: as `exact_stay_probability`, with the normal instead of the chi-squared kernel.

    Examples
    --------
    >>> from sgdsim.stagnation import exact_stay_probability_interval
    >>> stay = exact_stay_probability_interval(0.95, 0.01, (-0.1, 0.1), 0.0, 1000, shift=0.001)
    >>> round(float(stay[-1]), 6)
    0.273553
    """
    rho, sigma, constant, origin = map(float, (autoregression, noise_scale, shift, start))
    check_positive("noise_scale", sigma)
    low, high = map(float, interval)
    if not (math.isfinite(low) and math.isfinite(high) and low <= origin <= high and low < high):
        raise ValueError(
            f"interval must be finite, with the start in it, got ({low:g}, {high:g}) and the start "
            f"{origin:g}: the law is that of a chain which has not left yet."
        )
    at, weights = _nodes(low, high, sigma, nodes)

    def kernel(x: np.ndarray) -> np.ndarray:
        return stats.norm.pdf(at, (rho * x + constant)[:, None], sigma) * weights

    def lost(x: np.ndarray) -> np.ndarray:
        mean = rho * x + constant
        return special.ndtr((low - mean) / sigma) + special.ndtr((mean - high) / sigma)

    chain = _killed_chain(kernel, lost, at, origin)
    return _marginals(chain, np.ones_like(chain.lost), steps)


def _ball_chain(
    autoregression: SupportsFloat,
    noise_scale: SupportsFloat,
    dimension: int,
    ball: tuple[SupportsFloat, SupportsFloat],
    nodes: int | None,
) -> _KilledChain:
    rho, sigma, radius, start = map(float, (autoregression, noise_scale, *ball))
    check_positive("noise_scale", sigma)
    check_positive("radius", radius)
    if dimension < 1:
        raise ValueError(f"dimension must be at least 1, got {dimension}.")
    if not 0 <= start <= radius:
        raise ValueError(
            f"start must lie between 0 and the radius {radius:g}, got {start:g}: the law is that "
            "of a chain which has not left yet."
        )
    at, weights = _nodes(0.0, radius, sigma, nodes)

    def centre(distance: np.ndarray) -> np.ndarray:
        # A non-centrality of exactly 0 would need the central law; this one is the same to 1e-300.
        return (rho * distance / sigma) ** 2 + 1e-300

    def kernel(distance: np.ndarray) -> np.ndarray:
        density = stats.ncx2.pdf((at / sigma) ** 2, dimension, centre(distance)[:, None])
        return density * (2.0 * at / sigma**2 * weights)

    def lost(distance: np.ndarray) -> np.ndarray:
        return stats.ncx2.sf((radius / sigma) ** 2, dimension, centre(distance))

    return _killed_chain(kernel, lost, at, start)


def _nodes(
    low: float, high: float, sigma: float, nodes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    # A Gaussian of width sigma is integrated to rounding with some 0.8 sigma between nodes.
    count = math.ceil(60 + 2.5 * (high - low) / sigma) if nodes is None else nodes
    at, weights = np.polynomial.legendre.leggauss(count)
    half = (high - low) / 2.0
    return low + half * (at + 1.0), half * weights


def _killed_chain(
    kernel: Callable[[np.ndarray], np.ndarray],
    lost: Callable[[np.ndarray], np.ndarray],
    at: np.ndarray,
    start: float,
) -> _KilledChain:
    origin = np.array([start])
    matrix, gone = kernel(at), lost(at)
    missing = float(np.max(np.abs(matrix.sum(axis=1) + gone - 1.0)))
    if not missing < _LOST_BY_QUADRATURE:
        raise ValueError(
            f"{at.size} nodes lose a mass of {missing:.1e} per step: they are too far apart for "
            "the noise of one step; take more of them."
        )
    return _KilledChain(matrix, gone, kernel(origin)[0], float(lost(origin)[0]))


def _marginals(chain: _KilledChain, value: np.ndarray, steps: int) -> np.ndarray:
    """Mean of a function of the node over the chains that are left after steps 1, ..., T."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    # Step 1 + i + j * stride is row i times column j: two short loops for a long one.
    stride = math.isqrt(steps - 1) + 1
    rows, columns = [chain.first], [value]
    for _ in range(stride - 1):
        rows.append(rows[-1] @ chain.kernel)
    leap = np.linalg.matrix_power(chain.kernel, stride)
    for _ in range((steps - 1) // stride):
        columns.append(leap @ columns[-1])
    return (np.stack(columns) @ np.stack(rows).T).ravel()[:steps]
