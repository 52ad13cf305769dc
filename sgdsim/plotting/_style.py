"""What all figures share: palette, empty figure, title line, reading of a run's facts."""

import json
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito: told apart with any common colour blindness, and in this order also in grey.
BLACK = "#000000"
BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
VERMILION = "#D55E00"
SKY = "#56B4E9"
PURPLE = "#CC79A7"
GREY = "#7F7F7F"


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, Shaped[np.ndarray, "rows columns"]]:
    """Make a figure outside pyplot's state, with light axes.

    Parameters
    ----------
    width, height
        Inches.
    rows, columns
        Panels.

    Returns
    -------
    figure
        The figure.
    axes
        Its panels, always two-dimensional.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def axis_label(variable: xr.DataArray, text: str | None = None) -> str:
    """Text with the units of a variable, e.g. ``recorded step [step]``; ``"1"`` is left out."""
    words = text or str(variable.attrs.get("long_name", variable.name))
    units = variable.attrs.get("units", "1")
    return words if units == "1" or words == units else f"{words} [{units}]"


def run_name(tree: xr.DataTree) -> str:
    """Name of the scenario that the run simulated."""
    return str(scenario_of(tree).get("name", "run"))


def scenario_of(tree: xr.DataTree) -> dict[str, Any]:
    """Scenario of the run as nested dictionaries; empty if it does not carry one."""
    return json.loads(tree.attrs.get("scenario", "{}"))


def trajectories_text(tree: xr.DataTree) -> str:
    """How many trajectories there are, and how many of them diverged."""
    status = group(tree, "trajectory").status.values
    count, diverged = status.size, int((status == 2).sum())
    return f"{count} trajectories" + (f", {diverged} diverged" if diverged else "")


def group(tree: xr.DataTree, name: str) -> xr.Dataset:
    """One group of a run as a plain dataset."""
    return tree[name].to_dataset()


def legend_below(ax: Axes, columns: int = 2) -> None:
    """Put the legend under the panel, where it hides no data."""
    ax.legend(
        fontsize="small",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=columns,
        frameon=False,
    )


def say_missing(ax: Axes, text: str) -> None:
    """Write into a panel why it is empty."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35")


def quantiles_over_rows(
    values: Float[np.ndarray, "row column"], levels: tuple[float, ...]
) -> Float[np.ndarray, "level column"]:
    """Quantiles over the rows that are not NaN; NaN in a column where all are."""
    result = np.full((len(levels), values.shape[1]), np.nan)
    known: Bool[np.ndarray, " column"] = np.asarray(~np.isnan(values).all(axis=0))
    if known.any():
        result[:, known] = np.nanquantile(values[:, known], levels, axis=0)
    return result
