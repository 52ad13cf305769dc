"""Break-even plot: how sharp training gets, by learning rate and batch size."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import plain_name, process_look, use_logarithm
from sgdsim.plotting._exits import text_of
from sgdsim.plotting._style import BLACK, GREY, legend_below, new_figure, run_name, scenario_of
from sgdsim.plotting._sweep_points import Sweep
from sgdsim.store import EDGE_OPERATORS

_MARKERS = "osD^vPX*"


class _Height(NamedTuple):
    """A sharpness, mean over trajectories, with its standard error."""

    mean: float
    error: float


class _Point(NamedTuple):
    """One process, at one point of a sweep if there is one."""

    process: str
    learning_rate: float
    batch_size: float  # NaN: all rows
    maximum: _Height
    break_even: _Height


def plot_break_even(tree: xr.DataTree) -> Figure | None:
    """Draw the largest sharpness and that at the break-even point by learning rate and batch size.

    Parameters
    ----------
    tree
        A run of the edge study, whose processes are compared with each other by their kind of
        dynamics, or a sweep, at the first label of every axis that changes neither of the two.
        Processes that continue another one are left out.

    Returns
    -------
    matplotlib.figure.Figure or None
        Means over the trajectories with two standard errors. Nothing where neither learning rate
        nor batch size changes.

    Notes
    -----
    Jastrzebski et al. 2020: the sharpness at the break-even point, and the largest one, fall with
    the learning rate and grow with the batch size.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_break_even
    >>> from sgdsim.store import SweepAxis, open_run
    >>> from sgdsim.testing import synthetic_sweep
    >>> axis = SweepAxis("batch_size", {"batch_size": [8, 16]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree = open_run(synthetic_sweep(Path(folder), "edge", [axis]))
    ...     figure = plot_break_even(tree)
    >>> figure.axes[-1].get_xlabel()
    'batch size'
    """
    points = _points(tree)
    panels = {
        "learning rate": (lambda p: p.learning_rate, lambda p: (p.process, _rows(p))),
        "batch size": (lambda p: p.batch_size, lambda p: (p.process, f"eta {p.learning_rate:.3g}")),
    }
    lines = {text: _lines(points, *keys) for text, keys in panels.items()}
    lines = {text: found for text, found in lines.items() if found}
    if not lines:
        return None
    figure, axes = new_figure(max(6.2 * len(lines), 8.0), 5.4, 1, len(lines))
    figure.suptitle(
        text_of(f"{run_name(tree)}: how sharp training gets, two standard errors", 100),
        fontsize="medium",
    )
    for ax, (text, found) in zip(axes[0], lines.items(), strict=True):
        drawn = [point for row in found.values() for point in row]
        for number, ((process, other), row) in enumerate(found.items()):
            label = text_of(plain_name(f"{process}, {other}"), 40)
            _draw_line(ax, row, panels[text][0], number, label)
        if text == "learning rate":
            rates = np.array(sorted({point.learning_rate for point in drawn}))
            ax.plot(rates, 2 / rates, color=BLACK, lw=1.2, ls=":", label="2/eta")
        ax.plot([], [], "o-", color=GREY, label="largest sharpness")
        ax.plot([], [], "o--", color=GREY, mfc="white", label="sharpness at the break-even point")
        heights = np.array([h.mean for p in drawn for h in (p.maximum, p.break_even)])
        use_logarithm(ax, heights[heights > 0])
        ax.set(xscale="log", xlabel=text, ylabel="sharpness")
        values = sorted({panels[text][0](point) for point in drawn})
        if len(values) <= 8:
            ax.set_xticks(values, [f"{value:.4g}" for value in values])
            ax.set_xticks([], minor=True)
        legend_below(ax)  # one for each: their colours mean different things
    return figure


def _rows(point: _Point) -> str:
    return "all rows" if np.isnan(point.batch_size) else f"batches of {point.batch_size:.0f}"


def _lines(
    points: list[_Point],
    place: Callable[[_Point], float],
    key: Callable[[_Point], tuple[str, str]],
) -> dict[tuple[str, str], list[_Point]]:
    """Points that differ in one number only, in its order; those with no other are left out."""
    found: dict[tuple[str, str], list[_Point]] = {}
    for point in sorted(points, key=lambda p: np.nan_to_num(place(p))):
        if np.isfinite(place(point)) and np.isfinite(point.maximum.mean):
            found.setdefault(key(point), []).append(point)
    return {name: row for name, row in found.items() if len({place(point) for point in row}) > 1}


def _draw_line(
    ax: Axes, row: list[_Point], place: Callable[[_Point], float], number: int, label: str
) -> None:
    colour = process_look(number)["color"]
    marker = _MARKERS[number % len(_MARKERS)]
    x = np.array([place(point) for point in row])
    for name, style, fill in (("maximum", "-", colour), ("break_even", "--", "white")):
        heights = np.array([getattr(point, name) for point in row])
        known = np.isfinite(heights[:, 0]) & (heights[:, 0] > 0)
        if known.any():
            ax.errorbar(
                x[known],
                heights[known, 0],
                yerr=2 * np.nan_to_num(heights[known, 1]),
                color=colour,
                ls=style,
                lw=1.3,
                marker=marker,
                ms=5,
                mfc=fill,
                capsize=2,
                label=label if name == "maximum" else None,
            )


def _points(tree: xr.DataTree) -> list[_Point]:
    """Read every process at every point of a sweep, or of a run, which is one point."""
    root, data = tree.to_dataset(), tree["edge"].to_dataset()
    if "break_even_sharpness" not in data:
        return []
    sweep = Sweep(tree) if root["status"].dims else None

    def read(name: str) -> xr.DataArray:
        if sweep is not None:
            return sweep.done(sweep.read("edge", name))
        return data[name].reset_coords(drop=True)

    sharpness = read("sharpness")
    if "operator" in data:  # the break-even point is that of the sharpness that has a threshold
        adaptive = read("operator") == EDGE_OPERATORS.index("preconditioned_hessian")
        sharpness = sharpness.where(~adaptive, read("preconditioned_sharpness"))
    tables = {one.get("name"): one for one in scenario_of(tree).get("process", [])}
    together = xr.Dataset(
        {
            "rate": read("learning_rate"),
            "largest": sharpness.max("step"),
            "broken": read("break_even_sharpness"),
        }
    )
    found = []
    for name in data["process"].values.tolist():
        table = tables.get(name, {})
        dynamics = table.get("dynamics", {})
        if table.get("fork"):  # it was not trained like this from its start
            continue
        one = together.sel(process=name, drop=True)
        size = dynamics.get("batch_size")
        one["batch"] = xr.DataArray(np.nan if size is None else float(size))
        if size is not None and "batch_size" in root.coords:
            one["batch"] = root["batch_size"].reset_coords(drop=True).astype(np.float64)
        # Runs compare processes of one kind, sweeps a process with itself.
        label = name if sweep is not None else dynamics.get("kind", name)
        found += [_point(str(label), part) for part in _each(_where_they_change(one))]
    return found


def _where_they_change(one: xr.Dataset) -> xr.Dataset:
    """Take the first label of every axis along which neither learning rate nor batch changes."""
    numbers = one["rate"], one["batch"]
    fixed = {
        dim: 0
        for dim in map(str, one.dims)
        if dim != "trajectory" and not any(_changes(array, dim) for array in numbers)
    }
    return one.isel(fixed, drop=True)


def _changes(array: xr.DataArray, dim: str) -> bool:
    """Whether an array changes along a dimension, NaN aside."""
    if dim not in array.dims:
        return False
    return bool((array.max(dim) > array.min(dim)).any())


def _each(one: xr.Dataset) -> list[xr.Dataset]:
    """Take a dataset apart along all dimensions but that of the trajectories."""
    dims = [dim for dim in one.dims if dim != "trajectory"]
    shape = [one.sizes[dim] for dim in dims]
    return [one.isel(dict(zip(dims, place, strict=True))) for place in np.ndindex(*shape)]


def _point(process: str, one: xr.Dataset) -> _Point:
    rate, batch = float(one["rate"]), float(one["batch"])
    return _Point(process, rate, batch, _height(one["largest"]), _height(one["broken"]))


def _height(values: xr.DataArray) -> _Height:
    known = values.values[np.isfinite(values.values)]
    if not known.size:
        return _Height(np.nan, np.nan)
    error = float(known.std(ddof=1)) / known.size**0.5 if known.size > 1 else 0.0
    return _Height(float(known.mean()), error)
