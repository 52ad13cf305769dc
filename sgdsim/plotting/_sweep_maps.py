"""A sweep along two axes: heat maps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from sgdsim.plotting._exits import legend_under, text_of
from sgdsim.plotting._style import BLACK, new_figure, say_missing
from sgdsim.plotting._sweep_axes import SweepAxisView, set_ticks
from sgdsim.plotting._sweep_points import Mark, Quantity, select_part

_MOST_WRITTEN = 64
# As many maps stand side by side where there is a single process or case.
_COLUMNS = 3
_CELL = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])


class SweepMap(NamedTuple):
    """One heat map.

    Attributes
    ----------
    title, label
        Above the map, and at its colour bar.
    value
        Numbers along the axes of the sweep.
    part
        Process or case, as a selection, to which its marks belong.
    norm, colours
        How numbers become colours.
    coded
        Whether numbers stand for words: they are not written, and have no colour bar.
    """

    title: str
    label: str
    value: xr.DataArray
    part: dict[str, str]
    norm: Normalize
    colours: str | Colormap = "viridis"
    coded: bool = False


def draw_maps(
    quantities: Sequence[Quantity],
    axes: tuple[SweepAxisView, SweepAxisView],
    parts: tuple[str, Sequence[str]],
    marks: Sequence[Mark],
) -> Figure:
    """Draw every quantity over two axes of a sweep.

    Parameters
    ----------
    quantities
        What to draw.
    axes
        The vertical and the horizontal axis.
    parts
        Dimension of processes or cases, and their names: a row of maps for each quantity, a map
        of what is measured for each name. ``("", [])``: maps of all curves, the measured one also
        as a multiple of its reference.
    marks
        What else there is to say of points.

    Returns
    -------
    matplotlib.figure.Figure
        Without a title.
    """
    dim, names = parts
    maps = [one for quantity in quantities for one in _maps_of(quantity, dim, names)]
    columns = len(names) if dim else min(_COLUMNS, math.ceil(len(maps) ** 0.5))
    rows = -(-len(maps) // columns)
    figure, table = new_figure(max(3.9 * columns, 6.5), 3.1 * rows + 0.4, rows, columns)
    panels = table.flatten().tolist()
    for one, ax in zip(maps, panels, strict=False):
        draw_map(ax, one, axes, marks)
    for ax in panels[len(maps) :]:
        ax.set_axis_off()
    legend_under(figure, panels, columns=2)
    return figure


def _maps_of(quantity: Quantity, dim: str, names: Sequence[str]) -> list[SweepMap]:
    label, measured = quantity.label, quantity.curves[0].value
    if dim:
        # Maps of the same quantity for several processes have the same colours.
        norm = _norm(measured.values, quantity)
        return [
            SweepMap(
                text_of(name, 36), label, select_part(measured, {dim: name}), {dim: name}, norm
            )
            for name in names
        ]
    maps = []
    for curve in quantity.curves:
        if curve.reference:
            value, bar = measured / curve.value, f"measured over {curve.label}"
            maps.append(
                SweepMap(f"over {curve.label}", bar, value, {}, _norm(value.values, quantity))
            )
        else:
            norm = _norm(curve.value.values, quantity)
            maps.append(SweepMap(curve.label, label, curve.value, {}, norm))
    return maps


def _norm(values: np.ndarray, quantity: Quantity) -> Normalize:
    known = values[np.isfinite(values)]
    if quantity.share or not known.size:
        return Normalize(0.0, 1.0)
    low, high = float(known.min()), float(known.max())
    if quantity.logarithmic and 0 < 10 * low < high:
        return LogNorm(low, high)
    if high - low <= 1e-4 * abs(high):  # what is equal in all digits written has one colour
        low, high = low - 0.5 * abs(low), high + 0.5 * abs(high) or 1.0
    return Normalize(low, high)


def draw_map(
    ax: Axes, one: SweepMap, axes: tuple[SweepAxisView, SweepAxisView], marks: Sequence[Mark]
) -> None:
    """Draw one map into a panel, with its colour bar, its numbers if they are few, and marks."""
    vertical, horizontal = axes
    values = in_order(one.value, axes)
    ax.grid(visible=False)
    ax.set_title(one.title, fontsize="medium")
    if np.isnan(values).all():
        say_missing(ax, "no number")
        ax.set_axis_off()
        return
    ax.set(xlabel=horizontal.label, ylabel=vertical.label)
    image = ax.imshow(
        np.ma.masked_invalid(values), norm=one.norm, origin="lower", aspect="auto", cmap=one.colours
    )
    set_ticks(ax, horizontal, np.arange(values.shape[1], dtype=float), along="x")
    set_ticks(ax, vertical, np.arange(values.shape[0], dtype=float), along="y")
    for mark in marks:
        where = in_order(select_part(mark.where, one.part), axes)
        if where.any():
            _draw_mark(ax, mark, np.argwhere(where)[:, ::-1])
    if one.coded:
        return
    if values.size <= _MOST_WRITTEN:
        _write_numbers(ax, values, image)
    ax.figure.colorbar(image, ax=ax).set_label(one.label, fontsize="small")


def in_order(array: xr.DataArray, axes: tuple[SweepAxisView, SweepAxisView]) -> np.ndarray:
    """Numbers as a figure shows them, rows from bottom to top."""
    ordered = array.transpose(*(axis.dim for axis in axes))
    return ordered.isel({axis.dim: axis.order for axis in axes}).values


def _draw_mark(ax: Axes, mark: Mark, cells: np.ndarray) -> None:
    """Hatch cells, or put a mark into their upper left corners; all of them as one artist."""
    if mark.hatch:
        squares = PolyCollection(
            list(cells[:, None] + _CELL),
            facecolors="none",
            edgecolors=mark.colour,
            hatch=mark.hatch,
            linewidths=0,
            label=mark.label,
        )
        ax.add_collection(squares, autolim=False)
    else:
        x, y = (cells + np.array([-0.36, 0.32])).T
        size = 6 if len(cells) <= _MOST_WRITTEN else 2
        ax.plot(x, y, mark.marker, mfc="white", mec=BLACK, ms=size, mew=0.8, label=mark.label)


def _write_numbers(ax: Axes, values: np.ndarray, image: AxesImage) -> None:
    digits = _digits(values)
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value)) if np.isfinite(value) else (1, 1, 1, 1)
        light = 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
        ax.text(
            j,
            i,
            "∞" if np.isinf(value) else _number(float(value), digits),
            ha="center",
            va="center",
            fontsize="small" if values.shape[1] <= 5 else "xx-small",
            color="black" if light else "white",
        )


def _digits(values: np.ndarray) -> int:
    """Two digits, and up to four where numbers differ only in those."""
    known = values[np.isfinite(values)]
    spread = np.ptp(known) if known.size else 0.0
    return 2 if spread == 0 else int(np.clip(2 + np.log10(np.abs(known).max() / spread), 2, 4))


def _number(value: float, digits: int) -> str:
    """Write so many digits, and no exponent where there is room without one."""
    return f"{value:.0f}" if 100 <= abs(value) < 10_000 else f"{value:.{digits}g}"
