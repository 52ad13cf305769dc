"""Local convexity ratios against the radius, one panel per condition."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    axis_label,
    group,
    new_figure,
    run_name,
    say_missing,
)

_DIRECTIONS = {
    "random": (BLUE, "o"),
    "noise": (ORANGE, "s"),
    "top": (GREEN, "^"),
    "bottom": (PURPLE, "v"),
}
_COLUMNS = 3
# Ratios that differ by more than _SPREAD get a logarithmic axis, over at most this range.
_SPREAD = 20.0
_DECADES = 1e-4


def plot_convexity(tree: xr.DataTree) -> Figure:
    """Draw sampled convexity ratios against the radius, one panel per condition.

    A finite sample cannot prove a condition: the size of the sample stands in every title.

    Parameters
    ----------
    tree
        A run; read from ``/stagnation``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per condition (median, 1 and 5 % quantiles, minimum, minimum per family of
        directions, zero line) and one panel with the legend.
    """
    data = group(tree, "stagnation")
    conditions = data.condition.values.tolist()
    rows = -(-(len(conditions) + 1) // _COLUMNS)
    figure, axes = new_figure(11.0, 3.2 * rows, rows, _COLUMNS)
    panels = axes.flatten().tolist()
    for ax, condition in zip(panels, conditions, strict=False):
        _draw_condition(ax, data.sel(condition=condition), condition)
    handles, labels = panels[0].get_legend_handles_labels()
    for ax in panels[len(conditions) :]:
        ax.set_axis_off()
    panels[len(conditions)].legend(handles, labels, loc="center", fontsize="small", frameon=False)
    figure.suptitle(
        f"{run_name(tree)}: sampled convexity ratios around the minimum "
        "(positive: the condition holds at the sampled points)"
    )
    return figure


def _draw_condition(ax: Axes, data: xr.Dataset, condition: str) -> None:
    radius = data.convexity_radius.values
    smallest = data.convexity_ratio_minimum.values
    sizes = np.unique(data.convexity_sample_size.values)
    low, high = sizes[0], sizes[-1]
    size = f"{low}" if low == high else f"{low} to {high}"
    ax.set(
        title=f"{condition}, {size} samples per radius",
        xlabel=axis_label(data.convexity_radius, "distance from the minimum"),
        ylabel="convexity ratio",
        xscale="log",
    )
    # Radii span a decade or two, where the default labels powers of ten only, or too many.
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if np.isnan(smallest).all():
        ax.set_title(condition)
        say_missing(ax, "not sampled")
        return
    ax.fill_between(
        radius,
        data.convexity_ratio_quantile_01.values,
        data.convexity_ratio_quantile_50.values,
        color="0.88",
        linewidth=0,
        label="1 % quantile to median",
    )
    ax.plot(radius, data.convexity_ratio_quantile_50.values, color="0.45", label="median")
    ax.plot(
        radius, data.convexity_ratio_quantile_05.values, color="0.45", ls="--", label="5 % quantile"
    )
    for direction in data.direction.values.tolist():
        color, marker = _DIRECTIONS[direction]
        ax.plot(
            radius,
            data.convexity_ratio_by_direction.sel(direction=direction).values,
            color=color,
            marker=marker,
            markersize=4,
            linewidth=0.8,
            label=f"minimum, {direction} directions",
        )
    ax.plot(radius, smallest, color=BLACK, linewidth=3.0, zorder=1.9, label="minimum")
    where = int(np.nanargmin(smallest))
    ax.plot(
        radius[where],
        smallest[where],
        marker="*",
        markersize=11,
        color=VERMILION,
        ls="none",
        zorder=4,
        label="smallest ratio",
    )
    ax.axhline(0.0, color=VERMILION, linewidth=0.9, label="zero")
    _set_scale(
        ax,
        np.concatenate(
            [
                data.convexity_ratio_by_direction.values.ravel(),
                data.convexity_ratio_quantile_50.values,
                smallest,
            ]
        ),
    )


def _set_scale(ax: Axes, ratios: Float[np.ndarray, " ratio"]) -> None:
    """Show small ratios beside large ones: linear around zero, logarithmic beyond."""
    known = ratios[np.isfinite(ratios)]
    largest, smallest = np.abs(known).max(), np.abs(known).min()
    if largest <= _SPREAD * smallest:
        return
    linear = 10.0 ** np.floor(np.log10(max(smallest, _DECADES * largest)))
    ax.set_yscale("symlog", linthresh=linear)
    # Limits found on the linear axis leave no room at the ends of this one.
    low, high = known.min(), known.max()
    ax.set_ylim(2 * low if low < 0 else -linear, 2 * high if high > 0 else linear)
