r"""Ratios of the convexity conditions on a fibre of a set of minima.

With the projection p onto the set M, :math:`u = \theta - p(\theta)`, and the value
:math:`L^*` on M, each condition with modulus mu says that a ratio is at least mu:

========= =============================================================== =======================
condition ratio                                                           inequality
========= =============================================================== =======================
ESC       2 [L(theta') - L(theta) - <grad L(theta), theta' - theta>]      essential strong
          / ||theta' - theta||^2, any two points with the same minimum    convexity
WSC       2 [L* - L + <grad L, u>] / ||u||^2                              weak strong convexity
RSI       <grad L, u> / ||u||^2                                           restricted secant
PL        ||grad L||^2 / (2 (L - L*))                                     Polyak-Lojasiewicz
QG        2 (L - L*) / ||u||^2                                            quadratic growth
========= =============================================================== =======================

EC, convexity on the fibres, is ESC with the modulus 0: no ESC ratio is negative. All ratios tend
to :math:`v^\top H v` (PL: :math:`\|Hv\|^2 / v^\top H v`) for u = rho v and rho to 0.
A finite sample can refute a condition, never certify it: the sample size belongs to every result.

Source: conditions as in Karimi, Nutini & Schmidt (2016); used here in the stagnation theory after
Imaizumi & Schmidt-Hieber (explicit constants, this project), section 4.4.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

CONDITIONS = ("ESC", "WSC", "RSI", "PL", "QG")


@dataclass(frozen=True, kw_only=True)
class ConvexityRatios:
    r"""Ratios of all conditions at the sampled points, shell by shell.

    Parameters
    ----------
    ratio
        Ratio by condition (order of `CONDITIONS`), direction, radius and sample. The samples of
        the four pointwise conditions are the two signs of the direction. A sample of ESC is an
        ordered pair of points; it belongs to the radius of its outer point.
    counted
        False where the rectangular array holds no sample (``ratio`` is nan there).
    contraction
        :math:`\|u - \eta \nabla L\| / \|u\|` by direction, radius and sign; nan where the point
        lies on the set of minima.
    growth
        :math:`\|\nabla L\| / \|u\|` by direction, radius and sign; nan as above.
    distance
        :math:`\|u\|` by direction, radius and sign: the radius of the shell, or less where the
        nearest minimum is not the one that the fibre starts from.
    radii
        The radii rho of the shells.
    families
        Name of the family of every direction.
    fibre
        Number of the minimum that every direction starts from.
    assumption_violated
        Why no statement on a neighbourhood may be made of the sample ("" if it may): a negative
        curvature at what was to be a minimum.
    """

    ratio: Float[np.ndarray, "condition direction radius sample"]
    counted: Bool[np.ndarray, "condition direction radius sample"]
    contraction: Float[np.ndarray, "direction radius 2"]
    growth: Float[np.ndarray, "direction radius 2"]
    distance: Float[np.ndarray, "direction radius 2"]
    radii: Float[np.ndarray, " radius"]
    families: tuple[str, ...]
    fibre: Int[np.ndarray, " direction"]
    assumption_violated: str = ""


def pointwise_ratios(
    value: Float[np.ndarray, "*dims"],
    minimum_value: float,
    inner: Float[np.ndarray, "*dims"],
    gradient_norm: Float[np.ndarray, "*dims"],
    distance: Float[np.ndarray, "*dims"],
) -> dict[str, Float[np.ndarray, "*dims"]]:
    r"""Evaluate the ratios of WSC, RSI, PL and QG at points.

    Parameters
    ----------
    value
        L(theta), any shape.
    minimum_value
        :math:`L^*`.
    inner
        :math:`\langle \nabla L(\theta), u \rangle`.
    gradient_norm
        :math:`\|\nabla L(\theta)\|`.
    distance
        :math:`\|u\| > 0`.

    Returns
    -------
    dict
        Keys "WSC", "RSI", "PL", "QG"; shapes as given.

    Notes
    -----
    For L = L* the PL inequality holds for every modulus: its ratio is inf. For L < L* the point
    refutes the minimum itself; PL and QG are negative then.

    Examples
    --------
    On L = u^2 all ratios are the second derivative, 2:

    >>> import numpy as np
    >>> from sgdsim.stagnation import pointwise_ratios
    >>> u = np.array([0.5])
    >>> ratios = pointwise_ratios(u**2, 0.0, 2 * u * u, 2 * u, u)
    >>> {condition: float(ratio[0]) for condition, ratio in ratios.items()}
    {'WSC': 2.0, 'RSI': 2.0, 'PL': 2.0, 'QG': 2.0}
    """
    rise = value - minimum_value
    square = distance**2
    safe = np.where(rise == 0, 1.0, rise)
    return {
        "WSC": 2.0 * (inner - rise) / square,
        "RSI": inner / square,
        "PL": np.where(rise == 0, np.inf, gradient_norm**2 / (2.0 * safe)),
        "QG": 2.0 * rise / square,
    }


def essential_ratio(
    value_from: Float[np.ndarray, "*dims"],
    value_to: Float[np.ndarray, "*dims"],
    inner: Float[np.ndarray, "*dims"],
    distance: Float[np.ndarray, "*dims"],
) -> Float[np.ndarray, "*dims"]:
    r"""Evaluate the ratio of essential strong convexity for ordered pairs of points.

    .. math:: \frac{2\,[L(\theta') - L(\theta) - \langle\nabla L(\theta), \theta' - \theta\rangle]}
              {\|\theta' - \theta\|^2}

    Parameters
    ----------
    value_from, value_to
        L(theta) and L(theta'), any shape.
    inner
        :math:`\langle \nabla L(\theta), \theta' - \theta \rangle`.
    distance
        :math:`\|\theta' - \theta\| > 0`.

    Returns
    -------
    numpy.ndarray
        Ratios, shapes as given.

    Examples
    --------
    On L = u^2, from 1 to 3:

    >>> import numpy as np
    >>> from sgdsim.stagnation import essential_ratio
    >>> one = np.ones(1)
    >>> essential_ratio(one, 9 * one, 4 * one, 2 * one).tolist()
    [2.0]
    """
    return 2.0 * (value_to - value_from - inner) / distance**2
