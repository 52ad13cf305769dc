r"""Exact exit law of an isotropic autoregression from a ball: the oracle of the exit bounds.

For :math:`\theta_{t+1} = \rho\theta_t + \sigma g_t`, :math:`g_t \sim N(0, I_m)`, the distance
:math:`d_t = \|\theta_t\|` is a Markov chain: :math:`d_{t+1}^2 / \sigma^2` given :math:`d_t` is
non-central chi-squared with m degrees of freedom and parameter :math:`\rho^2 d_t^2 / \sigma^2`.
Gradient descent on :math:`\tfrac h2 \|\theta\|^2` with noise of covariance s I is the case
:math:`\rho = 1 - \eta h`, :math:`\sigma = \eta \sqrt{s}`.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import stats


def exact_stay_probability(
    autoregression: float,
    noise_scale: float,
    dimension: int,
    radius: float,
    start: float,
    steps: int,
    nodes: int = 300,
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
        m >= 1.
    radius
        :math:`\delta > 0`.
    start
        :math:`0 \le d_0 \le \delta`.
    steps
        Largest T >= 1.
    nodes
        Gauss-Legendre nodes on :math:`[0, \delta]`; some ten per :math:`\delta/\sigma` give an
        absolute error near 1e-11.

    Returns
    -------
    numpy.ndarray
        Stay probabilities for T = 1, ..., ``steps``, shape (step,).

    Examples
    --------
    >>> from sgdsim.testing._exit_kernel import exact_stay_probability
    >>> stay = exact_stay_probability(0.95, 0.01, 1, 0.1, 0.0, 1000)
    >>> stay[[9, 99, 999]].round(6).tolist()
    [0.999853, 0.95883, 0.603845]
    """
    at, weights = _nodes(radius, nodes)
    kernel = _kernel(at, at, autoregression, noise_scale, dimension) * weights
    row = _kernel(np.array([start]), at, autoregression, noise_scale, dimension)[0] * weights
    stay = np.empty(steps)
    for step in range(steps):
        stay[step] = row.sum()
        row = row @ kernel
    return stay


def exact_exit_rate(
    autoregression: float, noise_scale: float, dimension: int, radius: float, nodes: int = 300
) -> float:
    r"""Asymptotic exit rate per step: minus the log of the top eigenvalue of the killed kernel.

    .. math:: -\lim_{T \to \infty} \frac{1}{T} \log P(d_1, \dots, d_T \le \delta)
              = -\log\Bigl(1 - \int_0^\delta \pi(r)\, P(d_1 > \delta \mid d_0 = r) \, dr\Bigr)

    with the quasi-stationary density pi, the left eigenfunction.

    Parameters
    ----------
    autoregression, noise_scale, dimension, radius, nodes
        As in `exact_stay_probability`; the autoregression is not 0.

    Returns
    -------
    float
        The rate, per step.

    Notes
    -----
    The mass lost per step is summed from positive terms: rates far below the rounding error of an
    eigenvalue near 1 keep their leading digits.

    Examples
    --------
    >>> from sgdsim.testing._exit_kernel import exact_exit_rate
    >>> round(exact_exit_rate(0.95, 0.01, 1, 0.1), 9)
    0.000513775
    """
    at, weights = _nodes(radius, nodes)
    power = _kernel(at, at, autoregression, noise_scale, dimension) * weights
    # Powers 2, 4, 8, ...: the chain forgets its start like |autoregression|^step.
    for _ in range(1 + math.ceil(math.log2(40.0 / -math.log(abs(autoregression))))):
        power = power @ power
        power /= power.sum()
    stationary = power.sum(axis=0)
    centre = (autoregression * at / noise_scale) ** 2
    lost = stats.ncx2.sf((radius / noise_scale) ** 2, dimension, centre)
    return -math.log1p(-float(stationary @ lost))


def _nodes(radius: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    at, weights = np.polynomial.legendre.leggauss(nodes)
    return radius * (at + 1.0) / 2.0, radius * weights / 2.0


def _kernel(
    origin: np.ndarray, target: np.ndarray, autoregression: float, scale: float, dimension: int
) -> np.ndarray:
    """Density of the next distance, shape (origin, target)."""
    # A non-centrality of exactly 0 would need the central law; this tiny one is the same to 1e-300.
    centre = (autoregression * origin / scale) ** 2 + 1e-300
    density = stats.ncx2.pdf((target / scale) ** 2, dimension, centre[:, None])
    return density * 2.0 * target / scale**2
