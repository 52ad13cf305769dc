r"""Sampled ratios of the convexity conditions in a ball around an isolated minimum.

With :math:`u = \theta - \theta^*` and :math:`L^* = L(\theta^*)`, each condition with modulus mu
says that a ratio is at least mu everywhere in the ball:

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

All tend to :math:`v^\top H v` (PL: :math:`\|Hv\|^2 / v^\top H v`) for u = rho v and rho to 0.
A finite sample can refute a condition, never certify it: the sample size belongs to every result.

Source: conditions as in Karimi, Nutini & Schmidt (2016); used here in the stagnation theory after
Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

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
        :math:`\|u - \eta \nabla L\| / \|u\|` by direction, radius and sign.
    growth
        :math:`\|\nabla L\| / \|u\|` by direction, radius and sign.
    radii
        The radii rho of the shells.
    families
        Name of the family of every direction.
    """

    ratio: Float[np.ndarray, "condition direction radius sample"]
    counted: Bool[np.ndarray, "condition direction radius sample"]
    contraction: Float[np.ndarray, "direction radius 2"]
    growth: Float[np.ndarray, "direction radius 2"]
    radii: Float[np.ndarray, " radius"]
    families: tuple[str, ...]


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


def sample_convexity(
    value_and_grad: Callable[[Any, Any], tuple[Any, Any]],
    data: Any,
    minimum: Float[np.ndarray, " p"],
    directions: Float[np.ndarray, "direction p"],
    radii: Float[np.ndarray, " radius"],
    *,
    learning_rate: float | int,
    families: Sequence[str] | None = None,
) -> ConvexityRatios:
    r"""Evaluate all convexity ratios around an isolated minimum along given directions.

    The points are :math:`\theta^* \pm \rho v` for every direction v and radius rho. The pairs of
    ESC are, in both orders: all pairs of points on the same line through the minimum, and the
    points of two consecutive directions of a family at the same radius, with all signs.

    Parameters
    ----------
    value_and_grad
        JAX function ``value_and_grad(data, theta) -> (L, gradient)`` of a flat float64 theta.
    data
        Pytree handed to it, traced: arrays in it are not baked into the compiled program.
    minimum
        :math:`\theta^*`, shape (p,). Its gradient is taken to be zero.
    directions
        Directions v, shape (direction, p), normalised here.
    radii
        Radii rho > 0, strictly increasing, shape (radius,).
    learning_rate
        eta of the contraction ratio.
    families
        Name of the family of each direction; one family "all" if left out.

    Returns
    -------
    ConvexityRatios
        float64 arrays.

    Raises
    ------
    ValueError
        A direction is zero, the radii are not positive and increasing, the number of family names
        is wrong, or the function does not compute in float64.

    Notes
    -----
    Points are evaluated one after the other: memory does not grow with their number, which is
    2 x direction x radius. Differences of L at a distance rho lose about ``log10(L / (mu rho^2))``
    of the 16 digits.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import sample_convexity
    >>> def quadratic(curvature, theta):
    ...     return 0.5 * (curvature * theta**2).sum(), curvature * theta
    >>> ratios = sample_convexity(
    ...     quadratic,
    ...     np.array([1.0, 3.0]),
    ...     np.zeros(2),
    ...     np.eye(2),
    ...     np.array([0.5, 1.0]),
    ...     learning_rate=0.1,
    ... )
    >>> np.nanmin(ratios.ratio, axis=(1, 2, 3)).round(12).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    names = ("all",) * len(directions) if families is None else tuple(families)
    if len(names) != len(directions):
        raise ValueError(f"families names {len(names)} directions, but {len(directions)} are given")
    if radii.size == 0 or radii[0] <= 0 or np.any(np.diff(radii) <= 0):
        raise ValueError(f"radii must be positive and strictly increasing, got {radii.tolist()}")
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        bad = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise ValueError(f"direction {bad} has length {float(lengths[bad, 0]):g}; it must point")
    unit = np.asarray(directions / lengths, np.float64)
    following, paired = _next_in_family(names)
    preceding = np.arange(len(names))
    preceding[following] = np.arange(len(names))

    offsets = np.concatenate([radii, -radii]).astype(np.float64)
    # Under this context a library user need not have switched the whole process to float64.
    with jax.enable_x64(True):
        minimum_value, table = _evaluate(
            value_and_grad,
            data,
            jnp.asarray(minimum, jnp.float64),
            jnp.asarray(unit),
            jnp.asarray(np.stack([unit[following], unit[preceding]], axis=1)),
            jnp.asarray(offsets),
            jnp.asarray(learning_rate, jnp.float64),
        )
    if table["value"].dtype != np.float64:
        raise ValueError(f"value_and_grad must compute in float64, got {table['value'].dtype}")
    points = {key: np.asarray(array) for key, array in table.items()}
    pointwise = pointwise_ratios(
        points["value"],
        float(minimum_value),
        points["along"] * offsets,
        points["gradient_norm"],
        np.broadcast_to(np.abs(offsets), points["value"].shape),
    )

    lines = _pairs_on_lines(points["value"], points["along"], offsets, radii.size)
    sides, apart = _pairs_of_neighbours(points, unit, following, radii)
    essential = np.concatenate([lines, sides], axis=2)
    counted = np.ones((len(CONDITIONS), *essential.shape), bool)
    counted[0, :, :, : lines.shape[2]] = _within_shell(radii.size)
    counted[0, :, :, lines.shape[2] :] = (apart & paired[:, None])[:, None, :]
    counted[1:, :, :, 2:] = False
    ratio = np.full(counted.shape, np.nan)
    ratio[0] = essential
    for index, condition in enumerate(CONDITIONS[1:], start=1):
        ratio[index, :, :, :2] = _by_sign(pointwise[condition])
    ratio[~counted] = np.nan
    return ConvexityRatios(
        ratio=ratio,
        counted=counted,
        contraction=_by_sign(points["contraction"]),
        growth=_by_sign(points["gradient_norm"] / np.abs(offsets)),
        radii=np.asarray(radii, np.float64),
        families=names,
    )


@eqx.filter_jit
def _evaluate(value_and_grad, data, minimum, directions, neighbours, offsets, learning_rate):
    """Scalars of every point (direction, offset): enough for all ratios, no gradient is kept."""

    def at_point(arguments):
        direction, beside, offset = arguments
        shift = offset * direction
        value, gradient = value_and_grad(data, minimum + shift)
        return {
            "value": value,
            "along": gradient @ direction,
            "next": gradient @ beside[0],
            "previous": gradient @ beside[1],
            "gradient_norm": jnp.linalg.norm(gradient),
            "contraction": jnp.linalg.norm(shift - learning_rate * gradient) / jnp.abs(offset),
        }

    def on_line(arguments):
        return jax.lax.map(lambda offset: at_point((*arguments, offset)), offsets)

    return value_and_grad(data, minimum)[0], jax.lax.map(on_line, (directions, neighbours))


def _next_in_family(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Index of the next direction of the same family (cyclic), and whether the pair is new."""
    following = np.arange(len(names))
    paired = np.ones(len(names), bool)
    for name in set(names):
        members = np.flatnonzero([own == name for own in names])
        following[members] = np.roll(members, -1)
        if len(members) <= 2:
            paired[members[-1]] = False
    return following, paired


def _by_sign(array: np.ndarray) -> np.ndarray:
    """(direction, sign x radius) -> (direction, radius, sign)."""
    return array.reshape(len(array), 2, -1).swapaxes(1, 2)


def _shells(radius_count: int) -> list[list[tuple[int, int]]]:
    """Ordered pairs of points of a line, by the radius of the outer one."""
    count = 2 * radius_count
    shells = [[] for _ in range(radius_count)]
    for i in range(count):
        for j in range(count):
            if i != j:
                shells[max(i % radius_count, j % radius_count)].append((i, j))
    return shells


def _within_shell(radius_count: int) -> np.ndarray:
    """Which places of the padded pairs on a line are pairs, shape (radius, sample)."""
    sizes = np.array([len(pairs) for pairs in _shells(radius_count)])
    return np.arange(sizes.max()) < sizes[:, None]


def _pairs_on_lines(
    value: np.ndarray, along: np.ndarray, offsets: np.ndarray, radius_count: int
) -> np.ndarray:
    """ESC ratios of the pairs on each line, (direction, radius, sample), padded with nan."""
    shells = _shells(radius_count)
    padded = np.full((len(value), radius_count, max(map(len, shells))), np.nan)
    for shell, pairs in enumerate(shells):
        start, end = np.array(pairs).T
        gap = offsets[end] - offsets[start]
        padded[:, shell, : len(pairs)] = essential_ratio(
            value[:, start],
            value[:, end],
            along[:, start] * gap,
            np.broadcast_to(np.abs(gap), (len(value), gap.size)),
        )
    return padded


def _pairs_of_neighbours(
    points: dict[str, np.ndarray], unit: np.ndarray, following: np.ndarray, radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ESC ratios between a direction and the next, (direction, radius, 8), and which exist."""
    by_sign = {key: _by_sign(array) for key, array in points.items()}
    other = {key: array[following] for key, array in by_sign.items()}
    ratios, apart = [], []
    for first, own_sign in enumerate((1.0, -1.0)):
        for second, other_sign in enumerate((1.0, -1.0)):
            chord = np.linalg.norm(other_sign * unit[following] - own_sign * unit, axis=1)
            distinct = chord > 1e-6
            length = np.where(distinct, chord, 1.0)[:, None] * radii
            here, there = by_sign["value"][..., first], other["value"][..., second]
            out = other_sign * by_sign["next"] - own_sign * by_sign["along"]
            back = own_sign * other["previous"] - other_sign * other["along"]
            ratios.append(essential_ratio(here, there, radii * out[..., first], length))
            ratios.append(essential_ratio(there, here, radii * back[..., second], length))
            apart += [distinct, distinct]
    return np.stack(ratios, axis=2), np.stack(apart, axis=1)
