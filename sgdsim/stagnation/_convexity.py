r"""Sample the ratios of the convexity conditions along straight fibres through a minimum."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from sgdsim.stagnation._convexity_ratios import (
    CONDITIONS,
    ConvexityRatios,
    essential_ratio,
    pointwise_ratios,
)

# Two points count as of one fibre if they project that close to the base, relative to the radius.
_SAME_FIBRE = 1e-6


def sample_convexity(
    value_and_grad: Callable[[Any, Any], tuple[Any, Any]],
    data: Any,
    minimum: Float[np.ndarray, " p"],
    directions: Float[np.ndarray, "direction p"],
    radii: Float[np.ndarray, " radius"],
    *,
    learning_rate: float | int,
    families: Sequence[str] | None = None,
    project: Callable[[Any, Any], Any] | None = None,
) -> ConvexityRatios:
    r"""Evaluate all convexity ratios around a minimum along given directions.

    The points are :math:`\theta^* \pm \rho v` for every direction v and radius rho. The pairs of
    ESC are, in both orders: all pairs of points on the same line through the minimum, and the
    points of two consecutive directions of a family at the same radius, with all signs; the pairs
    with the minimum itself are WSC (towards it) and QG (from it), and not counted again. Around a
    minimum of a *set* the directions should be normal to it (`sample_fibres`); with ``project``
    every ratio refers to the true nearest minimum, and only pairs that share it are of ESC.

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
    project
        JAX function ``project(data, theta) -> p(theta)``, the nearest minimum as a flat vector;
        without it the nearest minimum of every point is taken to be ``minimum``.

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
    of the 16 digits. A point on the set itself (nearer than ``1e-6 rho``) has no ratio.

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
            (value_and_grad, project),
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
    # Written so that a projection that failed (nan) counts, as a ratio that is a violation.
    away = _by_sign(~(points["distance"] <= 1e-6 * np.abs(offsets)))
    at_base = points["drift"] <= _SAME_FIBRE * np.abs(offsets)
    safe = np.where(_from_sign(away), points["distance"], np.nan)
    pointwise = pointwise_ratios(
        points["value"], float(minimum_value), points["inner"], points["gradient_norm"], safe
    )

    lines, on_line = _pairs_on_lines(points, at_base, offsets, radii.size)
    sides, beside = _pairs_of_neighbours(points, at_base, unit, following, radii)
    essential = np.concatenate([lines, sides], axis=2)
    counted = np.zeros((len(CONDITIONS), *essential.shape), bool)
    counted[0] = np.concatenate([on_line, beside & paired[:, None, None]], axis=2)
    counted[1:, :, :, :2] = away
    ratio = np.full(counted.shape, np.nan)
    ratio[0] = essential
    for index, condition in enumerate(CONDITIONS[1:], start=1):
        ratio[index, :, :, :2] = _by_sign(pointwise[condition])
    ratio[~counted] = np.nan
    return ConvexityRatios(
        ratio=ratio,
        counted=counted,
        contraction=_by_sign(points["step_norm"] / safe),
        growth=_by_sign(points["gradient_norm"] / safe),
        distance=_by_sign(points["distance"]),
        radii=np.asarray(radii, np.float64),
        families=names,
        fibre=np.zeros(len(names), np.int64),
    )


@eqx.filter_jit
def _evaluate(functions, data, minimum, directions, neighbours, offsets, learning_rate):
    """Scalars of every point (direction, offset): enough for all ratios, no gradient is kept."""
    value_and_grad, project = functions

    def at_point(arguments):
        direction, beside, offset = arguments
        shift = offset * direction
        value, gradient = value_and_grad(data, minimum + shift)
        along = gradient @ direction
        if project is None:
            drift, away = jnp.zeros_like(offset), shift
            inner, distance = along * offset, jnp.abs(offset)
        else:
            to_nearest = project(data, minimum + shift) - minimum
            drift, away = jnp.linalg.norm(to_nearest), shift - to_nearest
            inner, distance = gradient @ away, jnp.linalg.norm(away)
        return {
            "value": value,
            "along": along,
            "next": gradient @ beside[0],
            "previous": gradient @ beside[1],
            "gradient_norm": jnp.linalg.norm(gradient),
            "inner": inner,
            "distance": distance,
            "drift": drift,
            "step_norm": jnp.linalg.norm(away - learning_rate * gradient),
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


def _from_sign(array: np.ndarray) -> np.ndarray:
    """(direction, radius, sign) -> (direction, sign x radius)."""
    return array.swapaxes(1, 2).reshape(len(array), -1)


def _shells(radius_count: int) -> list[list[tuple[int, int]]]:
    """Ordered pairs of points of a line, by the radius of the outer one."""
    count = 2 * radius_count
    shells = [[] for _ in range(radius_count)]
    for i in range(count):
        for j in range(count):
            if i != j:
                shells[max(i % radius_count, j % radius_count)].append((i, j))
    return shells


def _pairs_on_lines(
    points: dict[str, np.ndarray],
    at_base: Bool[np.ndarray, "direction point"],
    offsets: np.ndarray,
    radius_count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """ESC ratios of the pairs on each line, (direction, radius, sample), and which exist."""
    shells = _shells(radius_count)
    value, along = points["value"], points["along"]
    padded = np.full((len(value), radius_count, max(map(len, shells))), np.nan)
    exists = np.zeros(padded.shape, bool)
    for shell, pairs in enumerate(shells):
        start, end = np.array(pairs).T
        gap = offsets[end] - offsets[start]
        padded[:, shell, : len(pairs)] = essential_ratio(
            value[:, start],
            value[:, end],
            along[:, start] * gap,
            np.broadcast_to(np.abs(gap), (len(value), gap.size)),
        )
        exists[:, shell, : len(pairs)] = at_base[:, start] & at_base[:, end]
    return padded, exists


def _pairs_of_neighbours(
    points: dict[str, np.ndarray],
    at_base: Bool[np.ndarray, "direction point"],
    unit: np.ndarray,
    following: np.ndarray,
    radii: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """ESC ratios between a direction and the next, (direction, radius, 8), and which exist."""
    by_sign = {key: _by_sign(array) for key, array in points.items()}
    other = {key: array[following] for key, array in by_sign.items()}
    base = _by_sign(at_base)
    ratios, exist = [], []
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
            exist += 2 * [distinct[:, None] & base[..., first] & base[following][..., second]]
    return np.stack(ratios, axis=2), np.stack(exist, axis=2)
