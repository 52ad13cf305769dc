"""Points of a sweep as numbers to draw: curves, quantities, marks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from sgdsim.plotting._style import GREY
from sgdsim.store import STATUSES, coordinates_of, variables_of
from sgdsim.store._select import LENGTHS, parsed_details
from sgdsim.store._sweep import stored_name


class Curve(NamedTuple):
    """One number per point of a sweep, and per process or case where the study has several.

    Attributes
    ----------
    label
        What it is, for a legend.
    value
        The numbers; NaN where a point is not done.
    low, high
        Ends of its interval, where there is one.
    interval
        What the interval is.
    reference
        Whether the measured number is best read as a multiple of this one.
    """

    label: str
    value: xr.DataArray
    low: xr.DataArray | None = None
    high: xr.DataArray | None = None
    interval: str = ""
    reference: bool = False

    def mapped(self, select: Callable[[xr.DataArray], xr.DataArray]) -> "Curve":
        """Take the same part of the numbers and of their interval."""
        low, high = (None if end is None else select(end) for end in (self.low, self.high))
        return self._replace(value=select(self.value), low=low, high=high)


class Quantity(NamedTuple):
    """Curves that share an axis; the first is the measured one.

    Attributes
    ----------
    label
        Text of the axis, with units.
    curves
        What to draw.
    logarithmic
        Whether a logarithmic axis suits it.
    share
        Whether it lies between 0 and 1, and is seen best on that whole range.
    """

    label: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False
    share: bool = False

    def mapped(self, select: Callable[[xr.DataArray], xr.DataArray]) -> "Quantity":
        """Take the same part of every curve."""
        return self._replace(curves=tuple(curve.mapped(select) for curve in self.curves))


class Mark(NamedTuple):
    """Something to say of points beside their numbers.

    Attributes
    ----------
    label
        What is said, for a legend.
    where
        The points, and the processes or cases there, of which it is true.
    marker
        How it is drawn over one axis.
    hatch
        How it is drawn over two; without one the marker stands in a corner of the cell.
    colour
        Colour of the hatch.
    """

    label: str
    where: xr.DataArray
    marker: str
    hatch: str = ""
    colour: str = GREY


class Sweep:
    """Arrays of a sweep by the names of the contract, NaN where a point is not done.

    Parameters
    ----------
    tree
        The dataset of a sweep, as ``sgdsim.open_run`` returns it.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree
        root = tree.to_dataset()
        self.study = str(tree.attrs["study"])
        self.status = root["status"].load().reset_coords(drop=True)
        self._swept = {str(name) for name in root.coords}
        details = [parsed_details(str(text)) for text in root["details"].values.ravel()]
        self._lengths = [point.get(LENGTHS, {}) for point in details]

    def read(self, group: str, name: str) -> xr.DataArray:
        """Array of a variable or coordinate, whatever its name in this sweep is."""
        coordinates = {spec.name: spec for spec in coordinates_of(group)}
        spec = (coordinates | variables_of(group))[name]
        array = self._tree[group].to_dataset()[stored_name(spec, self._swept)]
        return array.reset_coords(drop=True)

    def lengths(self, array: xr.DataArray, dim: str) -> xr.DataArray:
        """Length of a dimension at every point; points of a sweep may be shorter than arrays."""
        ends = np.array([own.get(dim, array.sizes[dim]) for own in self._lengths], np.int64)
        return xr.DataArray(ends.reshape(self.status.shape), dims=self.status.dims)

    def last(self, array: xr.DataArray, dim: str) -> xr.DataArray:
        """Take the last entry along a dimension at every point; NaN if there is none."""
        if not array.sizes[dim]:
            return array.sum(dim) * np.nan
        return array.isel({dim: self.lengths(array, dim) - 1}).reset_coords(drop=True)

    def done(self, array: xr.DataArray) -> xr.DataArray:
        """Keep what belongs to points that are done."""
        return array.where(self.status == STATUSES.index("done"))

    def refuted(self) -> xr.DataArray:
        """Whether a point is done and one of the claims does not hold there."""
        fails = (self.read("claims", "holds") != 1).any("claim")
        return fails & (self.status == STATUSES.index("done"))

    def mean(self, array: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        """Mean over the trajectories that are not NaN, and two standard errors below and above."""
        array = self.done(array)
        count = array.notnull().sum("trajectory")
        mean = array.sum("trajectory") / count.where(count > 0)
        squares = ((array - mean) ** 2).sum("trajectory") / (count - 1).where(count > 1)
        error = 2 * (squares / count.where(count > 0)) ** 0.5
        return mean, mean - error, mean + error


def select_part(array: xr.DataArray, part: dict[str, str]) -> xr.DataArray:
    """Take one process or case; an array that has none belongs to all of them."""
    return array.sel({dim: name for dim, name in part.items() if dim in array.dims}, drop=True)
