r"""Kummer's equation on a ball: eigenfunctions of the Ornstein-Uhlenbeck process killed outside.

Lengths are in units of the noise scale, :math:`w = |x|^2/\sigma^2`: the eigenfunctions of

.. math:: \tfrac12\phi'' + \left(\tfrac{m-1}{2\rho} - k\rho\right)\phi' = -\lambda\phi,
          \qquad \phi(0) = 1, \quad \phi(\sqrt W) = 0

are :math:`M(-\lambda/2k, m/2, k\rho^2)`, with the Bessel function of k = 0 as the limit.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

#: Growth exponent beyond which Kummer's function overflows.
_LARGEST_EXPONENT = 650.0
_MOST_ROOTS = 300
#: Terms of the survival series below exp(-40) are left out.
_NEGLIGIBLE = 40.0
#: With a sum of their sizes beyond it the terms of the series lose more than six digits.
_LARGEST_TERMS = 1e4
#: Beyond it Bessel functions of the order m/2 - 1 underflow.
_MOST_DIMENSIONS = 150

Real = float | np.floating | Float[np.ndarray, "..."]


def eigenfunction(rate: float, dimension: int, roots: Real, w: Real) -> Float[np.ndarray, "..."]:
    r"""Eigenfunction that is 1 at the origin, :math:`M(-\lambda/2k, m/2, kw)`."""
    lam, square = np.broadcast_arrays(np.asarray(roots, float), np.asarray(w, float))
    value, half = np.empty(lam.shape), dimension / 2
    # Kummer's function of so large an order is inaccurate in scipy, and equal to its limit, a
    # Bessel function, to some 1e-9.
    wave = np.asarray(np.abs(lam) >= 2e5 * rate)
    value[wave] = np.exp(rate * square[wave] / 2) * special.hyp0f1(
        half, -(rate * half + lam[wave]) * square[wave] / 2
    )
    if not np.all(wave):
        order = -lam[~wave] / (2 * rate)
        value[~wave] = special.hyp1f1(order, half, rate * square[~wave])
    return value


def roots(rate: float, dimension: int, edge: float, last: float) -> Float[np.ndarray, " root"]:
    r"""All :math:`\lambda` up to ``last`` whose eigenfunction is zero at :math:`w = W`."""
    check_dimension(dimension)
    if rate * edge > _LARGEST_EXPONENT:
        raise ValueError(
            f"rate * radius^2 / noise_scale^2 is {rate * edge:.0f}; beyond "
            f"{_LARGEST_EXPONENT:.0f} the exit rate is below the range of double precision: "
            "nothing leaves in any time of interest."
        )
    expected = math.sqrt(2 * last * edge) / math.pi
    if expected > _MOST_ROOTS:
        raise ValueError(
            f"the shortest time needs some {expected:.0f} terms of the survival series, more than "
            f"{_MOST_ROOTS}: leave it out, nothing has happened by then."
        )
    # Far above the potential, which is at most
    # k^2 W/2, they are those of a free wave: even in the square root of the rate.
    step = _spacing(rate, edge) / 4
    grid = np.arange(0.0, 2 * rate**2 * edge + 24 * step, step)
    if grid[-1] < last:
        fine = math.pi / 6 / math.sqrt(2 * edge)
        wave = np.arange(math.sqrt(grid[-1]) + fine, math.sqrt(last) + fine, fine)
        grid = np.concatenate([grid, wave**2])
    grid = grid[: np.searchsorted(grid, last) + 1]

    def boundary(root: float) -> float:
        return float(eigenfunction(rate, dimension, root, edge))

    sign = np.sign(eigenfunction(rate, dimension, grid, edge))
    found = [
        # The lowest root may be as small as exp(-650): no absolute tolerance.
        optimize.root_scalar(
            boundary, bracket=(grid[i], grid[i + 1]), xtol=1e-300, maxiter=3000
        ).root
        for i in np.flatnonzero(sign[1:] != sign[:-1])
    ]
    return np.array([root for root in found if root <= last])


def lowest_roots(
    rate: float, dimension: int, edge: float, count: int
) -> Float[np.ndarray, " root"]:
    """Lowest roots, as many as asked for."""
    last = 2 * _spacing(rate, edge) * (count + dimension)
    while (found := roots(rate, dimension, edge, last)).size < count:
        last *= 2
    return found[:count]


def survival(
    rate: float, dimension: int, edge: float, begin: float, times: Float[np.ndarray, " time"]
) -> Float[np.ndarray, " time"]:
    """Sum of the survival series from a start inside, at positive times."""
    last = float(lowest_roots(rate, dimension, edge, 1)[0] + _NEGLIGIBLE / times.min())
    rates = roots(rate, dimension, edge, last)
    share = amplitudes(rate, dimension, edge, rates)
    share = share * eigenfunction(rate, dimension, rates, begin)
    decay = np.exp(-np.multiply.outer(times, rates))
    # Terms of both signs, each known to some ten digits, must not cancel each other.
    if np.max(decay @ np.abs(share)) > _LARGEST_TERMS:
        raise ValueError(
            f"terms of the survival series cancel at the time {times.min():.3g}: leave out times "
            "so short that next to nothing has happened, or use exact_stay_probability."
        )
    return np.clip(decay @ share, 0.0, 1.0)


def amplitudes(
    rate: float, dimension: int, edge: float, at: Float[np.ndarray, " root"]
) -> Float[np.ndarray, " root"]:
    r"""Coefficients :math:`-1/(\lambda\,\partial_\lambda\phi)` of the series, from the origin."""
    # In a thousandth of the distance between roots the function is all but straight: the
    # five-point rule is exact to some 1e-11 there, and no root is lost in rounding.
    step = 1e-3 * np.minimum(at, _spacing(rate, edge))
    near, far = (
        eigenfunction(rate, dimension, at + i * step, edge)
        - eigenfunction(rate, dimension, at - i * step, edge)
        for i in (1, 2)
    )
    return -12 * step / (at * (8 * near - far))


def _spacing(rate: float, edge: float) -> float:
    # Lower estimate of the distance between two roots.
    return rate + math.pi**2 / (2 * edge)


def check_dimension(dimension: int) -> None:
    """Refuse dimensions in which special functions underflow."""
    if dimension > _MOST_DIMENSIONS:
        raise ValueError(
            f"dimension must be at most {_MOST_DIMENSIONS} here, got {dimension}: special "
            "functions underflow beyond; use exact_stay_probability, or mean_time."
        )
