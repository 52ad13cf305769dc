"""Bounds along training: their values against the gap, and which factor moves them."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    axis_label,
    group,
    legend_below,
    new_figure,
    run_name,
    say_missing,
)

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_STYLES = ("-", "--", "-.", ":")
#: Factors that are norms of the weights, and move.
_MOVING = ("spectral_product", "frobenius_product", "distance", "path")
#: Panels of the figure of factors.
_MOST_PANELS = 4


def plot_bounds_over_time(tree: xr.DataTree) -> Figure:
    """Draw every certificate and the measured gap at every probe.

    Parameters
    ----------
    tree
        A run of the bounds study.

    Returns
    -------
    matplotlib.figure.Figure
        Means over the trajectories; the gap of the error rate has a band of two standard errors.
    """
    data = group(tree, "bounds")
    certificates = data.isel(bound=np.flatnonzero(data["kind"].values == "certificate"))
    final = certificates["value"].mean("trajectory", skipna=True).isel(probe=-1)
    certificates = certificates.isel(bound=np.argsort(-final.fillna(-np.inf).values, kind="stable"))
    figure, axes = new_figure(9.5, 5.6)
    ax = axes[0, 0]
    ax.set_xlabel(axis_label(data["probe"], "step"))
    ax.set_ylabel("bound on the gap, and gap (range of the loss is 1)")
    ax.set_title(f"{run_name(tree)}: certificates along training", fontsize="medium")
    ax.set_yscale("log")
    steps = data["probe"].values
    for number, name in enumerate(certificates["bound"].values.tolist()):
        values = certificates["value"].sel(bound=name).mean("trajectory", skipna=True)
        if bool(values.notnull().any()):
            style = _STYLES[number // len(_COLOURS) % len(_STYLES)]
            colour = _COLOURS[number % len(_COLOURS)]
            ax.plot(steps, values, style, color=colour, marker=".", label=name)
    if not ax.lines:
        say_missing(ax, "no certificate evaluated")
    ax.axhline(1.0, color=GREY, ls=":", label="vacuous above")
    _draw_gap(ax, data)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return figure


def _draw_gap(ax: Axes, data: xr.Dataset) -> None:
    steps = data["probe"].values
    gap = data["zero_one_gap"].mean("trajectory", skipna=True)
    count = data["zero_one_gap"].notnull().sum("trajectory").clip(min=1)
    spread = data["zero_one_gap"].std("trajectory", skipna=True) / np.sqrt(count)
    error = np.hypot(spread, data["zero_one_gap_stderr"].mean("trajectory", skipna=True))
    shown = gap.where(gap > 0)
    if not bool(shown.notnull().any()):
        ax.plot([], [], color=BLACK, lw=2.5, label="gap of the error rate: nowhere positive")
        return
    ax.plot(steps, shown, color=BLACK, lw=2.5, marker="o", ms=4, label="gap of the error rate")
    low = (gap - 2 * error).where(gap > 0)
    ax.fill_between(
        steps, low.where(low > 0, shown / 3), (gap + 2 * error).where(gap > 0), color="0.8"
    )


def plot_factors(tree: xr.DataTree) -> Figure:
    """Draw how the factors of the norm-based certificates change along training.

    Parameters
    ----------
    tree
        A run of the bounds study.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per certificate whose factors change: change of the logarithm since the first
        probe, mean over trajectories. The lines add up to the thick one.
    """
    data = group(tree, "bounds")
    certificates = data.isel(bound=np.flatnonzero(data["kind"].values == "certificate"))
    logs = certificates["log_factor"].mean("trajectory", skipna=True)
    change = logs - logs.isel(probe=0)
    size = abs(change.sel(factor=list(_MOVING))).max(("probe", "factor")).fillna(0.0)
    order = np.argsort(-size.values, kind="stable")[:_MOST_PANELS]
    names = [name for name in change["bound"].values[order].tolist() if size.sel(bound=name) > 0]
    # Wide enough for the title also with one panel.
    figure, axes = new_figure(max(9.0, 4.6 * len(names)), 4.6, 1, max(1, len(names)))
    figure.suptitle(
        f"{run_name(tree)}: what moves the bounds (change of the logarithm since step 0)",
        fontsize="medium",
    )
    if not names:
        say_missing(axes[0, 0], "no certificate changes along training")
        return figure
    for ax, name in zip(axes[0], names, strict=True):
        _draw_factors(ax, change.sel(bound=name))
        ax.set_title(name, fontsize="medium")
        ax.set_xlabel(axis_label(data["probe"], "step"))
        legend_below(ax)
    axes[0, 0].set_ylabel("change of the logarithm [nat]")
    return figure


def _draw_factors(ax: Axes, change: xr.DataArray) -> None:
    steps = change["probe"].values
    ax.plot(steps, change.sum("factor"), color=BLACK, lw=2.5, label="bound")
    colours = _COLOURS[:-1]  # the last one is that of the bound
    for number, factor in enumerate(change["factor"].values.tolist()):
        one = change.sel(factor=factor)
        if float(np.abs(one).max()) > 1e-9:  # a factor looks the same in every panel
            style, colour = _STYLES[number // len(colours)], colours[number % len(colours)]
            ax.plot(steps, one, style, color=colour, marker=".", label=factor.replace("_", " "))
