"""Runs of a sweep as plain arrays: bound, configuration, repetition.

All functions of this package read their labelled arrays here. A dimension named in ``axes`` is a
hyper-parameter. The dimension ``bound`` lists several measures, and results have it too. Every
other dimension holds repetitions of a configuration: trajectories, seeds.

Runs that are no full grid come as a list: a dimension ``configuration`` along which each
hyper-parameter is a coordinate.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

BOUND = "bound"
CONFIGURATION = "configuration"
REPETITION = "repetition"
#: Dimensions along which one run develops: they hold no repetitions.
_OF_ONE_RUN = ("step", "probe", "time")


@dataclass(frozen=True, eq=False)
class Runs:
    """Measure and gap of all runs; nan in both where one of them is missing.

    Parameters
    ----------
    measure, gap
        Shape ``(bound, configuration, repetition)``.
    levels
        Number of the value of each hyper-parameter, shape ``(axis, configuration)``.
    axes
        Names of the hyper-parameters.
    values
        Distinct values of each hyper-parameter, in the order of the levels.
    bounds
        Coordinate of the measures; ``None`` if the arrays have no dimension ``bound``.
    """

    measure: np.ndarray
    gap: np.ndarray
    levels: np.ndarray
    axes: tuple[str, ...]
    values: tuple[np.ndarray, ...]
    bounds: np.ndarray | None

    @property
    def valid(self) -> np.ndarray:
        """Where measure and gap are known, shape ``(bound, configuration, repetition)``."""
        return ~np.isnan(self.measure)

    @cached_property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Measure and gap of every configuration, averaged over its runs that are known.

        Both are nan where one of them has no mean.
        """
        number = np.maximum(self.valid.sum(axis=-1), 1)
        with np.errstate(invalid="ignore"):  # infinite measures of opposite sign have no mean
            measure, gap = (
                np.where(self.valid, a, 0.0).sum(axis=-1) / number for a in (self.measure, self.gap)
            )
        known = self.valid.any(axis=-1) & ~np.isnan(measure)
        return np.where(known, measure, np.nan), np.where(known, gap, np.nan)

    def cells(self, axis: int) -> int:
        """Count the settings of all other hyper-parameters."""
        return int(_number_columns(np.delete(self.levels, axis, axis=0)).max()) + 1

    def pairs(self, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the pairs of configurations that differ in one hyper-parameter only.

        Returns
        -------
        first, second, cell
            Positions of both configurations, that of the lower level first, and the number of the
            cell, in which all other hyper-parameters are fixed; shape ``(pair,)``.
        """
        cell = _number_columns(np.delete(self.levels, axis, axis=0))
        order = np.lexsort((self.levels[axis], cell))
        size = np.bincount(cell)
        place = np.arange(order.size) - np.repeat(np.cumsum(size) - size, size)
        members = np.full((size.size, size.max()), -1)
        members[cell[order], place] = order
        i, j = np.triu_indices(members.shape[1], 1)
        first, second = members[:, i].ravel(), members[:, j].ravel()
        own = np.repeat(np.arange(size.size), i.size)
        level = self.levels[axis]
        kept = (second >= 0) & (level[first] < level[second])
        return first[kept], second[kept], own[kept]

    def variable(self, values: np.ndarray, *dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Name the dimensions of an array ``(bound, *dims)`` for a dataset."""
        if self.bounds is None:
            return dims, np.asarray(values[0])
        return (BOUND, *dims), values

    def dataset(self, variables: dict[str, Any], **coordinates: Any) -> xr.Dataset:
        """Build a dataset with the coordinate of the measures."""
        bound = {} if self.bounds is None else {BOUND: self.bounds}
        return xr.Dataset(variables, coords=bound | coordinates)

    def choose(self, configurations: np.ndarray) -> "Runs":
        """Take configurations by position, with all their repetitions."""
        return replace(
            self,
            measure=self.measure[:, configurations],
            gap=self.gap[:, configurations],
            levels=self.levels[:, configurations],
        )

    def arrays(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Give measure and gap as lists of configurations, which every function reads again."""
        dims, _ = self.variable(self.measure, CONFIGURATION, REPETITION)
        coordinates: dict[Hashable, Any] = {
            name: (CONFIGURATION, known[level])
            for name, known, level in zip(self.axes, self.values, self.levels, strict=True)
        }
        if self.bounds is not None:
            coordinates[BOUND] = self.bounds
        gap = xr.DataArray(self.variable(self.gap)[1], dims=dims, coords=coordinates)
        return gap.copy(deep=False, data=self.variable(self.measure)[1]), gap


def read_runs(measure: xr.DataArray, gap: xr.DataArray, axes: Sequence[str]) -> Runs:
    """Bring measure and gap into one shape and mark the runs that are missing.

    Parameters
    ----------
    measure, gap
        A grid with the dimensions ``axes``, or a list of configurations.
    axes
        Names of the hyper-parameters.

    Raises
    ------
    ValueError
        If the arrays do not belong together or a hyper-parameter is not found.
    """
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    if not axes or len(set(axes)) < len(axes):
        raise ValueError(f"axes must name at least one hyper-parameter, each once; got {axes}.")
    measure, gap = together(measure, gap, axes)
    listed = CONFIGURATION in measure.dims and CONFIGURATION not in axes
    inner = (CONFIGURATION,) if listed else axes
    _check_axes(measure, gap, axes, listed)
    repetitions = [d for d in measure.dims if d not in (BOUND, *inner)]
    coordinates = [_coordinate(measure, name) for name in axes]
    numbered = [_number(values) for values in coordinates]
    levels = [codes for _, codes in numbered]
    if not listed:
        for name, (known, codes) in zip(axes, numbered, strict=True):
            if known.size < codes.size:
                raise ValueError(f"The coordinate {name!r} has the same value more than once.")
        levels = np.meshgrid(*levels, indexing="ij")
    leading = [BOUND] if BOUND in measure.dims else []
    shape = (measure.sizes.get(BOUND, 1), levels[0].size, -1)
    m, g = (
        a.transpose(*leading, *inner, *repetitions).to_numpy().astype(np.float64).reshape(shape)
        for a in (measure, gap)
    )
    valid = ~np.isnan(m) & np.isfinite(g)
    return Runs(
        measure=np.where(valid, m, np.nan),
        gap=np.where(valid, g, np.nan),
        levels=np.stack([np.ravel(a) for a in levels]),
        axes=axes,
        values=tuple(known for known, _ in numbered),
        bounds=_coordinate(measure, BOUND) if leading else None,
    )


def signs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sign of ``first - second``, also of infinite values; 0 for ties and where one is nan."""
    return np.asarray((first > second) * 1.0 - (first < second) * 1.0)


def together(
    measure: xr.DataArray, gap: xr.DataArray, axes: Sequence[str] = ()
) -> tuple[xr.DataArray, xr.DataArray]:
    """Give both arrays the same dimensions; refuse arrays that are not of the same runs."""
    try:
        measure, gap = xr.align(measure, gap, join="exact")
    except ValueError as error:
        raise ValueError(
            "measure and gap have different coordinates or sizes along a shared dimension; "
            "take both from the same runs in the same order."
        ) from error
    measure, gap = xr.broadcast(measure, gap)
    if measure.size == 0:
        raise ValueError(f"There is no run: the arrays have the sizes {dict(measure.sizes)}.")
    for name in _OF_ONE_RUN:
        if name in measure.dims and name not in axes:
            raise ValueError(
                f"The dimension {name!r} belongs to a single run and holds no repetitions: select "
                f"one entry of it first, for instance with .isel({name}=-1)."
            )
    return measure, gap


def _check_axes(
    measure: xr.DataArray, gap: xr.DataArray, axes: tuple[str, ...], listed: bool
) -> None:
    """Refuse hyper-parameters that the arrays do not have."""
    known = [
        str(name)
        for name in (measure.coords if listed else measure.dims)
        if not listed or measure[name].dims == (CONFIGURATION,)
    ]
    for name in axes:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"There is no hyper-parameter {name!r}; there are {', '.join(known)}.{hint}"
            )
        if listed and name in gap.coords and not measure[name].identical(gap[name]):
            raise ValueError(f"measure and gap list different values of {name!r}.")


def _coordinate(array: xr.DataArray, name: str) -> np.ndarray:
    return np.asarray(array[name].to_numpy())


def _number(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and their numbers: by size, or by first appearance if they are no numbers."""
    known, first, codes = np.unique(values, return_index=True, return_inverse=True)
    if values.dtype.kind in "biuf":
        return known, codes
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return known[order], place[codes]


def _number_columns(codes: np.ndarray) -> np.ndarray:
    """Give the same number to equal columns."""
    if codes.shape[0] == 0:
        return np.zeros(codes.shape[1], dtype=int)
    return np.unique(codes, axis=1, return_inverse=True)[1].ravel()
