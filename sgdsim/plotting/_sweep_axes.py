"""Axes of a sweep as axes of a figure: what stands at them, and where its points lie."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from sgdsim.plotting._style import axis_label

#: As many labels are written at an axis; of more, every second, third, ... is.
_MOST_TICKS = 10
_LONG = 30


class SweepAxisView(NamedTuple):
    """One dimension of a sweep, in the order in which a figure shows it.

    Attributes
    ----------
    dim
        Name of the dimension.
    name
        Name of the coordinate that is shown.
    label
        Text of the axis.
    values
        Where the points lie; their numbers where the labels are text.
    texts
        Labels in words.
    order
        Places in the dataset of what the figure shows from left to right.
    logarithmic
        Whether a logarithmic axis suits the values.
    numeric
        Whether the values are labels, not just numbers of text labels.
    joined
        Whether neighbours belong together, so that a line may join them.
    """

    dim: str
    name: str
    label: str
    values: np.ndarray
    texts: list[str]
    order: np.ndarray
    logarithmic: bool
    numeric: bool
    joined: bool


def view_axis(root: xr.Dataset, dim: str) -> SweepAxisView:
    """Decide how a dimension of a sweep is shown.

    Where several keys change together it is shown by the first of them that holds numbers.

    Parameters
    ----------
    root
        Root group of the dataset.
    dim
        Name of the dimension.

    Returns
    -------
    SweepAxisView
        Numbers in rising order, text in the order of the dataset.
    """
    others = [str(name) for name, one in root.coords.items() if one.dims == (dim,) and name != dim]
    numbers = [name for name in others if root.coords[name].dtype.kind in "iuf"]
    name = (numbers or others or [dim])[0]
    shown = root.coords[name]
    label = axis_label(shown)
    if rest := [other for other in others if other != name]:
        names = " and ".join(other.replace("_", " ") for other in rest)
        label = f"{label} (together with {names})"
    values = shown.values
    numeric = values.dtype.kind in "iuf"
    order = np.argsort(values, kind="stable") if numeric else np.arange(len(values))
    texts = [label_text(value).replace("$", r"\$") for value in values[order].tolist()]
    places = values[order].astype(np.float64) if numeric else np.arange(len(values), dtype=float)
    logarithmic = numeric and _suits_logarithm(places)
    return SweepAxisView(
        dim, name, label, places, texts, order, logarithmic, numeric, numeric and dim != "draw"
    )


def set_line_axis(ax: Axes, axis: SweepAxisView) -> None:
    """Give a panel the horizontal axis of a sweep, with its own labels where there are few."""
    ax.set_xscale("log" if axis.logarithmic else "linear")
    if not axis.numeric:
        set_ticks(ax, axis, axis.values, along="x")
    elif axis.joined and len(axis.values) <= _MOST_TICKS and _apart(axis):
        ax.set_xticks(axis.values, axis.texts)
        ax.set_xticks([], minor=True)
    ax.set_xlabel(axis.label)


def set_ticks(ax: Axes, axis: SweepAxisView, places: np.ndarray, along: str) -> None:
    """Write the labels of a sweep at places of an axis, not more than there is room for."""
    every = -(-len(places) // _MOST_TICKS)
    texts = axis.texts[::every]
    if along == "y":
        ax.set_yticks(places[::every], texts)
    elif sum(map(len, texts)) > _LONG:
        ax.set_xticks(places[::every], texts, rotation=40, ha="right", rotation_mode="anchor")
    else:
        ax.set_xticks(places[::every], texts)


def _suits_logarithm(values: np.ndarray) -> bool:
    low, high = values[0], values[-1]
    if low <= 0 or low == high:
        return False
    steps = np.diff(np.log(values))
    even = len(values) > 2 and np.allclose(steps, steps[0], rtol=1e-3)
    return bool(even or high > 10 * low)


def _apart(axis: SweepAxisView) -> bool:
    """Whether the labels, written at their places, do not run into each other."""
    places = np.log(axis.values) if axis.logarithmic else axis.values
    gaps = np.diff(places) / max(places[-1] - places[0], np.finfo(float).tiny)
    longest = max(map(len, axis.texts))
    return bool(np.all(gaps > 0.018 * (longest + 1)))


def label_text(value: object) -> str:
    """One label of a sweep in words; a long one is cut."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
