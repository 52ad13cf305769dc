r"""Exact mean exit time of the discrete Langevin chain in one dimension: what finite steps change.

The chain is :math:`x' = x - \eta V'(x) + \sqrt{2D\eta}\,g` with :math:`g \sim N(0, 1)`. Gradient
descent with gradient noise of variance s is the case :math:`D = \eta s/2`.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float


def exact_mean_exit_time(
    gradient: Callable[[Float[np.ndarray, " x"]], Float[np.ndarray, " x"]],
    step_size: float,
    diffusion: float,
    start: float,
    interval: tuple[float, float],
    nodes_per_deviation: float = 5.0,
) -> float:
    r"""Mean time until the chain is first outside an open interval.

    .. math:: \tau(x) = \eta + \int_{lo}^{hi} k(x, y)\,\tau(y)\,dy, \qquad
              k(x, \cdot) = N(x - \eta V'(x),\; 2D\eta)

    Parameters
    ----------
    gradient
        V', takes and returns an array of shape (x,).
    step_size
        :math:`\eta`.
    diffusion
        D.
    start
        Inside the interval.
    interval
        (lo, hi). The half-line below hi is an interval whose lower end the chain never sees.
    nodes_per_deviation
        Quadrature nodes per standard deviation of a step.

    Returns
    -------
    float
        Mean number of steps times :math:`\eta`, comparable with the passage time of the Ito
        equation.

    Notes
    -----
    Nystroem's method on Gauss-Legendre panels; the solution is as smooth as the kernel. Rounding
    costs the relative accuracy 1e-16 times the mean number of steps.

    Examples
    --------
    >>> from sgdsim.testing._escape_oracles import exact_mean_exit_time
    >>> round(exact_mean_exit_time(lambda x: x, 0.1, 0.5, 0.0, (-8.0, 1.5)), 4)
    18.3283
    """
    low, high = interval
    deviation = math.sqrt(2 * diffusion * step_size)
    at, weights = np.polynomial.legendre.leggauss(20)
    panels = math.ceil((high - low) * nodes_per_deviation / (deviation * at.size))
    edges = np.linspace(low, high, panels + 1)
    half = np.diff(edges)[:, None] / 2
    nodes = (edges[:-1, None] + half * (at + 1)).ravel()
    weights = (half * weights).ravel()

    def kernel(origin: np.ndarray) -> np.ndarray:
        centre = origin - step_size * gradient(origin)
        z = (nodes[None, :] - centre[:, None]) / deviation
        return np.exp(-0.5 * z**2) * weights / (deviation * math.sqrt(2 * math.pi))

    steps = np.linalg.solve(np.eye(nodes.size) - kernel(nodes), np.ones(nodes.size))
    return step_size * float(1.0 + kernel(np.array([start]))[0] @ steps)
