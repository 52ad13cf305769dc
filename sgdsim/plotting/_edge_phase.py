"""Phase diagram of a sweep: what a process is doing at its end, over two axes."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import STATE_COLOURS, common_state, legend_of, state_patches
from sgdsim.plotting._exits import text_of
from sgdsim.plotting._style import new_figure, run_name
from sgdsim.plotting._sweep_axes import SweepAxisView, label_text, view_axis
from sgdsim.plotting._sweep_maps import SweepMap, draw_map, in_order
from sgdsim.plotting._sweep_points import Sweep, select_part
from sgdsim.plotting._sweep_quantities import sweep_marks
from sgdsim.store import EDGE_STATES

#: Axes of a phase diagram, if a sweep has them: vertical, horizontal.
_USUAL = ("learning_rate", "batch_size")
_RATIOS = {
    "late_ratio": "sharpness over threshold, last quarter",
    "late_batch_ratio": "batch sharpness over 2/eta, last quarter",
}
_MOST_PROCESSES = 4
_COLOURS = ListedColormap([STATE_COLOURS.get(name, "white") for name in EDGE_STATES])
_NORM = Normalize(-0.5, len(EDGE_STATES) - 0.5)


class _States(NamedTuple):
    code: xr.DataArray
    share: xr.DataArray


def plot_phase_diagram(tree: xr.DataTree) -> Figure | None:
    """Draw the final state over two axes of a sweep, with the ratios of sharpness to its edge.

    Parameters
    ----------
    tree
        A sweep of the edge study, as ``sgdsim.open_run`` returns it.

    Returns
    -------
    matplotlib.figure.Figure or None
        A row for each of the first four processes, over learning rate and batch size or else the
        last two axes, at the first label of all others. A cell has the colour of the state in
        which most trajectories end, and their share where it is not all of them. Nothing for a
        run, or a sweep along one axis.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_phase_diagram
    >>> from sgdsim.store import SweepAxis, open_run
    >>> from sgdsim.testing import synthetic_sweep
    >>> axes = [
    ...     SweepAxis("learning_rate", {"learning_rate": [0.1, 0.2]}),
    ...     SweepAxis("batch_size", {"batch_size": [8, 16]}),
    ... ]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree = open_run(synthetic_sweep(Path(folder), "edge", axes))
    ...     figure = plot_phase_diagram(tree)
    >>> figure.axes[0].get_ylabel()
    'learning rate'
    """
    root = tree.to_dataset()
    drawn = _drawn_axes(root)
    if len(drawn) < 2:
        return None
    sweep = Sweep(tree)
    fixed = {str(dim): 0 for dim in sweep.status.dims if dim not in drawn}
    axes = view_axis(root, drawn[0]), view_axis(root, drawn[1])
    states = _states_of(sweep, fixed)
    ratios = {
        text: sweep.mean(sweep.read("edge", name))[0].isel(fixed, drop=True)
        for name, text in _RATIOS.items()
    }
    ratios = {text: values for text, values in ratios.items() if bool(values.notnull().any())}
    if not ratios and not bool((states.code > 0).any()):
        return None
    marks = [mark._replace(where=mark.where.isel(fixed, drop=True)) for mark in sweep_marks(sweep)]
    known = states.code["process"].values.tolist()
    names, columns = known[:_MOST_PROCESSES], 1 + len(ratios)
    figure, panels = new_figure(max(4.2 * columns, 7.0), 3.5 * len(names) + 1, len(names), columns)
    for row, name in zip(panels, names, strict=True):
        part = {"process": name}
        heading = text_of(f"{name}: state at the end", 44)
        code = select_part(states.code, part)
        draw_map(row[0], SweepMap(heading, "", code, part, _NORM, _COLOURS, True), axes, marks)
        _write_shares(row[0], select_part(states.share, part), axes)
        _part_cells(row[0], code.sizes[axes[1].dim], code.sizes[axes[0].dim])
        for ax, (text, values) in zip(row[1:], ratios.items(), strict=True):
            one = SweepMap("", text, select_part(values, part), part, _around_one(values), "RdBu_r")
            draw_map(ax, one, axes, marks)
    notes = [f"{view_axis(root, dim).label} = {_first(root, dim)}" for dim in fixed]
    if known[_MOST_PROCESSES:]:
        notes.append(f"{_MOST_PROCESSES} of {len(known)} processes")
    title = "; ".join([f"{run_name(tree)}: phase diagram", *notes])
    figure.suptitle(text_of(title, 100), fontsize="medium")
    shown = {int(code) for code in np.unique(states.code.sel(process=names)) if code > 0}
    legend_of(figure, panels.flat, state_patches(shown, alpha=1.0), 4)
    return figure


def _drawn_axes(root: xr.Dataset) -> list[str]:
    """Names of the two axes of the diagram; fewer where a sweep does not have two."""
    dims = [str(dim) for dim in root["status"].dims if root.sizes[dim] > 1]
    usual = [dim for dim in _USUAL if dim in dims]
    return usual if len(usual) == 2 else dims[-2:]


def _states_of(sweep: Sweep, fixed: dict[str, int]) -> _States:
    """State of most trajectories at every point that is done, and their share."""
    stored = sweep.read("edge", "final_state").isel(fixed, drop=True)
    stored = stored.transpose("trajectory", ...)
    code, share = common_state(stored.values.astype(np.int64))
    like = stored.isel(trajectory=0, drop=True)
    done = sweep.done(sweep.status * 0.0).isel(fixed, drop=True).notnull()
    return _States(
        like.copy(data=code.astype(np.float64)).where(done), like.copy(data=share).where(done)
    )


def _around_one(values: xr.DataArray) -> Normalize:
    """Colours that are palest at one, and as strong at twice as at none of it."""
    known = values.values[np.isfinite(values.values)]
    width = float(np.clip(np.abs(known - 1).max(initial=0.0), 0.1, 1.0))
    return Normalize(1 - width, 1 + width)


def _write_shares(ax: Axes, share: xr.DataArray, axes: tuple[SweepAxisView, SweepAxisView]) -> None:
    for (i, j), value in np.ndenumerate(in_order(share, axes)):
        if value < 1:
            ax.text(j, i, f"{100 * value:.0f} %", ha="center", va="center", fontsize="x-small")


def _part_cells(ax: Axes, columns: int, rows: int) -> None:
    """Draw thin lines between cells, so that equal ones can be counted."""
    ax.set_xticks(np.arange(1, columns) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, rows) - 0.5, minor=True)
    ax.tick_params(which="minor", length=0)
    ax.grid(visible=True, which="minor", color="white", lw=1.2)
    ax.set_axisbelow(False)


def _first(root: xr.Dataset, dim: str) -> str:
    return label_text(root[view_axis(root, dim).name].values[0])
