"""Union of basins: inside any of them, and in which."""

from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._checks import known_number
from sgdsim._typing import Number
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import AbstractWells, PeriodicWells
from sgdsim.stagnation._sets import Ball


class Union(AbstractRegion):
    r"""Union of regions, one for each basin, each with a radius of its own.

    .. math:: d(\theta) = \min_k \frac{d_k(\theta)}{\delta_k} \le 1, \qquad
        k(\theta) = \arg\min_k \frac{d_k(\theta)}{\delta_k}

    Distances are in units of the radius of the nearest region; the radius of the union is 1.

    Parameters
    ----------
    regions
        The regions in the order of their basin numbers 0, 1, ... Regions of one kind and size are
        stacked and evaluated at once.

    Raises
    ------
    ValueError
        There is no region, or a radius is not positive.

    Notes
    -----
    Both memberships come from one run: *any basin* is what ``exit_step`` of the track counts,
    *same basin* ends at the earlier one of ``exit_step`` and ``switch_step``. Same-basin
    membership supposes disjoint regions: where they overlap, a point belongs to the nearest only,
    and staying is underestimated.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 4.2, variant V4.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Ball
    >>> from sgdsim.stagnation import Union
    >>> wells = Union([Ball(jnp.array([-1.0]), 0.5), Ball(jnp.array([1.0]), 0.25)])
    >>> theta = jnp.array([1.5])
    >>> float(wells.squared_distance(theta)), int(wells.basin(theta))
    (4.0, 1)
    """

    groups: tuple[AbstractRegion, ...]
    numbers: tuple[int, ...] = eqx.field(static=True)
    radius: Number

    def __init__(self, regions: Sequence[AbstractRegion]):
        if not regions:
            raise ValueError("regions is empty: a union needs at least one region.")
        for number, region in enumerate(regions):
            radius = known_number(region.radius)
            if radius is not None and not radius > 0:
                raise ValueError(
                    f"region {number} has the radius {radius:g}: distances are divided by the "
                    "radius, which must be positive."
                )
        kinds: dict[Any, list[int]] = {}
        arrays = [jax.tree.map(jnp.asarray, region) for region in regions]
        for number, region in enumerate(arrays):
            leaves, structure = jax.tree.flatten(region)
            kind = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
            kinds.setdefault(kind, []).append(number)
        self.groups = tuple(
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *(arrays[i] for i in numbers))
            for numbers in kinds.values()
        )
        self.numbers = tuple(number for numbers in kinds.values() for number in numbers)
        self.radius = 1.0

    def __iter__(self) -> Iterator[AbstractRegion]:
        """Regions in the order of their basin numbers."""
        members = [
            jax.tree.map(lambda leaf, i=i: leaf[i], group)
            for group in self.groups
            for i in range(jax.tree.leaves(group)[0].shape[0])
        ]
        pairs = zip(self.numbers, members, strict=True)
        return (member for _, member in sorted(pairs, key=lambda pair: pair[0]))

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Smallest squared distance in units of the radius of the region."""
        return jnp.min(self._normalised(theta))

    def basin(self, theta: PyTree) -> Int[Array, ""]:
        """Give the number of the region that is nearest in units of its radius."""
        nearest = jnp.argmin(self._normalised(theta))
        return jnp.asarray(self.numbers, jnp.int32)[nearest]

    def _normalised(self, theta: PyTree) -> Float[Array, " region"]:
        def one(region: AbstractRegion) -> Array:
            squared = region.squared_distance(theta)
            return squared / jnp.square(jnp.asarray(region.radius, squared.dtype))

        return jnp.concatenate([jax.vmap(one)(group) for group in self.groups])


def basins_of(wells: AbstractWells, radius: Number, *, periods: int = 0) -> Union:
    r"""Balls of one radius around the minima of a landscape with several wells.

    Parameters
    ----------
    wells
        The landscape.
    radius
        Of every ball, at most half of the distance between neighbouring minima.
    periods
        Of `PeriodicWells` the minima at :math:`m\ell`, :math:`|m| \le` ``periods``, are taken;
        basin numbers grow from left to right. What lies beyond counts as outside.

    Returns
    -------
    Union
        Basins in the order of ``wells.minima``.

    Raises
    ------
    ValueError
        The balls overlap, so that a point would lie in two basins, or ``periods`` is given for
        wells that do not repeat.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import DoubleWell
    >>> from sgdsim.stagnation import basins_of
    >>> basins = basins_of(DoubleWell(1.0), radius=0.5)
    >>> [int(basins.basin(jnp.array([x]))) for x in (-0.9, 1.2)]
    [0, 1]
    """
    minima = wells.minima
    if isinstance(wells, PeriodicWells):
        minima = jnp.asarray(wells.period) * jnp.arange(-periods, periods + 1.0)[:, None]
    elif periods:
        raise ValueError(
            f"periods belongs to PeriodicWells, got {periods} for {type(wells).__name__}, whose "
            "minima are all taken."
        )
    known = known_number(radius)
    if known is not None and not isinstance(minima, jax.core.Tracer):
        points = np.asarray(minima)
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
        closest = np.min(apart[apart > 0], initial=np.inf)
        if 2 * known > closest:
            raise ValueError(
                f"radius must be at most {closest / 2:g}, half of the distance between "
                f"neighbouring minima, got {known:g}: a point would lie in two basins."
            )
    return Union([Ball(centre=minimum, radius=radius) for minimum in minima])
