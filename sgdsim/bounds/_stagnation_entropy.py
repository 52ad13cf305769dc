r"""How many small balls cover a neighbourhood of a minimum: the entropy integrals of G2.

With :math:`r = \sup_{u\in U}\|u\|` and covering numbers ``N`` of the neighbourhood ``U`` in
parameter space, Dudley's integral of the centred loss class is :math:`\Delta(r)` times

.. math:: J(U) = \int_0^1 \sqrt{\log N(u\,r)}\,du .

``J`` does not change when ``U`` is scaled. For a ball in ``d`` dimensions
:math:`N \le (1 + 2/u)^d`, hence :math:`J \le 1.35258\sqrt d`.

**Ellipsoid** with semi-axes :math:`\delta_i`: at the scale :math:`\varepsilon`, replace the
coordinates with :math:`\delta_i \le \varepsilon/2` by 0, which moves a point by at most
:math:`\max\delta_i (\sum u_i^2/\delta_i^2)^{1/2} \le \varepsilon/2`. What remains, ``E``, is
covered at :math:`\varepsilon/2` by a maximal packing: balls of radius :math:`\varepsilon/4` around
its points are disjoint and lie in :math:`E + B_{\varepsilon/4} \subset \tfrac32 E`. Comparing
volumes, :math:`\log N(\varepsilon) \le \sum_{\delta_i > \varepsilon/2}\log(6\delta_i/\varepsilon)`.
(The box :math:`|u_i| \le \delta_i` is not covered by this argument: what is dropped there adds up.)

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import gamma, gammaincc

from sgdsim.bounds._logdomain import log

#: Integral of sqrt(log(1 + 2/u)) over u in (0, 1); a test recomputes it.
ENTROPY_INTEGRAL = 1.3525813582548


def ball_entropy(dimension: int) -> float:
    r"""Bound the entropy integral of a ball, in all parameters or in an affine subspace.

    .. math:: J \le \sqrt{d}\int_0^1\sqrt{\log(1 + 2/u)}\,du = 1.35258\sqrt d

    Parameters
    ----------
    dimension
        ``d``: number of parameters, or the dimension of an affine subspace that contains the
        centre and the neighbourhood; at least 1.

    Returns
    -------
    float
        ``J``, without unit.

    Raises
    ------
    ValueError
        If the dimension is not positive.

    Notes
    -----
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.bounds import ball_entropy
    >>> round(24 * ball_entropy(1), 2)
    32.46
    """
    if dimension < 1:
        raise ValueError(
            f"The dimension of a neighbourhood must be at least 1; got {dimension}: a single "
            "point has no entropy, use a radius of 0 for it."
        )
    return ENTROPY_INTEGRAL * math.sqrt(dimension)


def log_cover_of_ellipsoid(semi_axes: Float[np.ndarray, " axis"], scale: float | int) -> float:
    r"""Bound the covering number of an ellipsoid in the Euclidean norm.

    .. math:: \log N(\varepsilon) \le \sum_{\delta_i > \varepsilon/2}\log(6\delta_i/\varepsilon),
              \qquad \log N(\varepsilon) = 0 \text{ for } \varepsilon \ge \max\delta_i

    Parameters
    ----------
    semi_axes
        :math:`\delta_i \ge 0`, shape (axis,), in units of the parameters.
    scale
        :math:`\varepsilon > 0`: radius of the covering balls, same unit.

    Returns
    -------
    float
        Natural logarithm of the bound.

    Raises
    ------
    ValueError
        If no semi-axis is positive, one is negative or not finite, or the scale is not positive.

    Notes
    -----
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import log_cover_of_ellipsoid
    >>> round(log_cover_of_ellipsoid(np.array([1.0, 0.001]), 0.5), 4)  # the short axis is free
    2.4849
    """
    axes = _checked(semi_axes)
    if not 0.0 < scale < math.inf:
        raise ValueError(f"The scale of a cover must be positive and finite; got {scale}.")
    if scale >= axes[0]:
        return 0.0
    kept = axes[axes > scale / 2.0]
    return float(np.sum(np.log(6.0 * kept / scale)))


def ellipsoid_entropy(semi_axes: Float[np.ndarray, " axis"]) -> float:
    r"""Bound the entropy integral of an ellipsoid around a minimum.

    .. math:: J \le \min\Bigl\{\int_0^1\Bigl(\sum_{2\delta_i > u\delta_{\max}}
              \log\frac{6\delta_i}{u\,\delta_{\max}}\Bigr)^{1/2}du,\ 1.35258\sqrt d\Bigr\}

    Parameters
    ----------
    semi_axes
        :math:`\delta_i \ge 0`, shape (axis,), in any unit; ``d`` of them are positive.

    Returns
    -------
    float
        ``J``, without unit: never above that of the ball around the ellipsoid.

    Raises
    ------
    ValueError
        If no semi-axis is positive, or one is negative or not finite.

    Notes
    -----
    Exact, not a quadrature: between two neighbouring values of :math:`2\delta_i` the integrand is
    :math:`\sqrt{m(c - \log u)}`, and :math:`v = c - \log u` makes its integral an incomplete Gamma
    function of order 3/2. G2 with this ``J`` holds for the ellipsoid that was fixed in advance,
    at the radius :math:`\delta_{\max}`.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    Ten thousand directions, of which three are wide: nearly the entropy of three.

    >>> import numpy as np
    >>> from sgdsim.bounds import ball_entropy, ellipsoid_entropy
    >>> axes = np.concatenate([np.ones(3), np.full(9997, 1e-5)])
    >>> round(ellipsoid_entropy(axes), 2), round(ball_entropy(3), 2), round(ball_entropy(10**4), 2)
    (2.86, 2.34, 135.26)
    """
    axes = _checked(semi_axes)
    relative = axes / axes[0]
    active = np.arange(1, len(relative) + 1)
    # With m axes active, u runs from twice the next axis to twice the m-th, and never above 1.
    upper = np.minimum(1.0, 2.0 * relative)
    lower = np.append(upper[1:], 0.0)
    offset = np.cumsum(np.log(6.0 * relative)) / active

    def below(u: Float[np.ndarray, " axis"]) -> Float[np.ndarray, " axis"]:
        return np.asarray(gamma(1.5) * gammaincc(1.5, offset - log(u)))

    pieces = np.sqrt(active) * np.exp(offset) * (below(upper) - below(lower))
    return min(float(np.sum(pieces)), ball_entropy(len(relative)))


def ellipsoid_semi_axes(
    stationary_variances: Float[np.ndarray, " axis"],
    steps: int,
    probability: float,
    rank: int | None = None,
) -> Float[np.ndarray, " axis"]:
    r"""Guess the ellipsoid that the stationary iterate does not leave: a heuristic, no theorem.

    .. math:: \delta_i = \sqrt{S_i}\,\bigl(\sqrt{\mathrm{rank}\,S} + \sqrt{2\log(T/p)}\bigr)

    Parameters
    ----------
    stationary_variances
        :math:`S_i \ge 0`, shape (axis,): eigenvalues of the stationary covariance of the iterate
        (discrete steps, or the Ornstein-Uhlenbeck process of small steps).
    steps
        Length ``T`` of the window, in steps.
    probability
        ``p`` in (0, 1): aimed probability of leaving within the window.
    rank
        Number of directions that move; number of positive variances if left out.

    Returns
    -------
    numpy.ndarray
        Semi-axes :math:`\delta_i`, shape (axis,).

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Heuristic: one draw :math:`N(0, S)` leaves the ellipsoid with probability at most ``p/T``
    (Gaussian concentration of the norm), and a union over the ``T`` steps gives ``p``, but only
    if the iterate *is* stationary and Gaussian. A certificate on the ellipsoid needs its own bound
    on the exit probability.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import ellipsoid_semi_axes
    >>> ellipsoid_semi_axes(np.array([0.04, 0.01]), steps=1000, probability=0.1).round(3).tolist()
    [1.141, 0.571]
    """
    variances = np.asarray(stationary_variances, dtype=np.float64)
    if variances.ndim != 1 or not (np.isfinite(variances) & (variances >= 0.0)).all():
        raise ValueError("The stationary variances must be finite and not negative, shape (axis,).")
    if steps < 1 or not 0.0 < probability < 1.0:
        raise ValueError(
            f"A window needs steps >= 1 and an exit probability in (0, 1); got steps={steps}, "
            f"probability={probability}."
        )
    moving = int(np.count_nonzero(variances)) if rank is None else rank
    if not 0 <= moving <= len(variances):
        raise ValueError(f"rank must be between 0 and {len(variances)}; got {rank}.")
    reach = math.sqrt(moving) + math.sqrt(2.0 * math.log(steps / probability))
    return np.sqrt(variances) * reach


def _checked(semi_axes: Float[np.ndarray, " axis"]) -> Float[np.ndarray, " kept"]:
    axes = np.asarray(semi_axes, dtype=np.float64)
    if axes.ndim != 1 or not (np.isfinite(axes) & (axes >= 0.0)).all() or not axes.any():
        raise ValueError(
            "The semi-axes of an ellipsoid must be finite, not negative and not all zero, shape "
            f"(axis,); got {np.array2string(axes, threshold=6)}."
        )
    return -np.sort(-axes[axes > 0.0])
