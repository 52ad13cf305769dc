"""Largest Hessian eigenvalue of every parameter array along a run."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import (
    draw_threshold,
    is_preconditioned,
    legend_of,
    measured,
    plain_name,
    step_limits,
    suits_logarithm,
    use_logarithm,
)
from sgdsim.plotting._exits import case_panels, text_of
from sgdsim.plotting._style import GREY, axis_label, group, run_name

#: As many blocks are told apart.
_MOST_BLOCKS = 10


def plot_block_sharpness(tree: xr.DataTree) -> Figure | None:
    """Draw the largest Hessian eigenvalue of every parameter array alone, with the threshold.

    Parameters
    ----------
    tree
        A run of the edge study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One panel for each process, of its first trajectory; at most the ten sharpest arrays, and
        the sharpness of the whole Hessian, which no block exceeds. Nothing where no block was
        recorded.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_block_sharpness
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_block_sharpness(open_run(synthetic_edge_run(Path(folder))))
    >>> figure.axes[0].get_ylabel()
    'largest Hessian eigenvalue'
    """
    data = group(tree, "edge")
    if "block_sharpness" not in data:
        return None
    first = data.isel(trajectory=slice(0, 1))
    blocks = first["block_sharpness"]
    known = blocks.notnull().any([dim for dim in blocks.dims if dim != "process"])
    names = data["process"].values[known.values].tolist()
    if not names:
        return None
    title = f"{run_name(tree)}: largest Hessian eigenvalue of every parameter array alone"
    if data.sizes["block"] > _MOST_BLOCKS:
        title += f", the {_MOST_BLOCKS} sharpest"
    if data.sizes["trajectory"] > 1:
        title += ", first trajectory"
    figure, panels = case_panels(len(names), plain_name(title), 3.8, 3.1)
    for number, (ax, name) in enumerate(zip(panels, names, strict=True)):
        _draw_blocks(ax, first.sel(process=name))
        ax.set_xlabel(axis_label(data["step"], "step"))
        ax.set_title(text_of(name, 40), fontsize="medium")
        if number % 4 == 0:
            ax.set_ylabel("largest Hessian eigenvalue")
    legend_of(figure, panels, [], 4)
    return figure


def _draw_blocks(ax: Axes, one: xr.Dataset) -> None:
    steps = one["step"].values
    rows = one["block_sharpness"].transpose("block", "trajectory", "step").values[:, 0]
    tops = np.where(np.isfinite(rows), rows, -np.inf).max(axis=1)
    chosen = np.sort(np.argsort(-tops, kind="stable")[:_MOST_BLOCKS])
    whole = measured(one, "sharpness").values[0]
    seen = np.isfinite(whole)
    ax.plot(steps[seen], whole[seen], color=GREY, lw=2.6, alpha=0.6, label="whole Hessian")
    colours = colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
    for number in chosen:
        known = np.isfinite(rows[number])
        if known.any():
            label = f"array {one['block'].values[number]}"
            ax.plot(steps[known], rows[number, known], color=colours[number], lw=1.3, label=label)
    if not is_preconditioned(one) and np.isfinite(measured(one, "threshold").values).any():
        draw_threshold(ax, one)
    ax.set_xlim(step_limits(one))
    if suits_logarithm(rows, 1000):
        use_logarithm(ax, rows)
