"""Maps of convexity ratios: over radius and condition per case, or over radius and direction."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from sgdsim.plotting._exits import case_panels, legend_under, text_of
from sgdsim.plotting._style import BLACK, axis_label, group, run_name

# Blue and red are told apart with any common colour blindness; white is zero.
_COLOURS = "RdBu"
_DECADES = 1e-3
_RADIUS = "radius of the set"


def plot_case_convexity(tree: xr.DataTree) -> Figure | None:
    """Map the smallest sampled convexity ratio over radius and condition, one panel per case.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        Blue where a condition holds at all sampled points, red where it does not; triangles at
        ``delta_star`` above and at the radius of the set below. Nothing where nothing was sampled.
    """
    data = group(tree, "exits")
    sampled = data["convexity_ratio_minimum"].notnull().any(("condition", "shell")).values
    data = data.isel(case=np.flatnonzero(sampled))
    if not data.sizes["case"]:
        return None
    figure, panels = case_panels(
        data.sizes["case"],
        f"{run_name(tree)}: smallest sampled convexity ratio\n"
        "(positive: the condition holds at all sampled points)",
    )
    norm = _norm(data["convexity_ratio_minimum"].values)
    conditions = data["condition"].values.tolist()
    for number, ax in enumerate(panels):
        one = data.isel(case=number)
        radii = one["shell_radius"].values
        _draw_map(ax, radii, conditions, one["convexity_ratio_minimum"].values, norm)
        ax.set_title(text_of(one["case"].item(), 34), fontsize="medium")
        ax.set_xlabel(axis_label(one["shell_radius"], "distance from the minimum"))
        label = "$\\delta^*$, sampled radius up to which RSI is positive"
        _mark(ax, one["delta_star"].item(), "v", label)
        _mark(ax, one["radius"].item(), "^", _RADIUS)
    legend_under(figure, panels, columns=2)
    _add_colours(figure, panels, norm)
    return figure


def plot_convexity_map(tree: xr.DataTree) -> Figure | None:
    """Map the smallest sampled ratio over radius and family of directions, per condition.

    Parameters
    ----------
    tree
        A run of the stagnation study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One panel per condition; nothing where nothing was sampled.
    """
    data = group(tree, "stagnation")
    values = data["convexity_ratio_by_direction"]
    if bool(values.isnull().all()):
        return None
    conditions = data["condition"].values.tolist()
    figure, panels = case_panels(
        len(conditions),
        f"{run_name(tree)}: smallest sampled convexity ratio in every family of directions\n"
        "(positive: the condition holds at all sampled points)",
    )
    norm = _norm(values.values)
    directions = data["direction"].values.tolist()
    radii = data["convexity_radius"].values
    for ax, condition in zip(panels, conditions, strict=True):
        ratios = values.sel(condition=condition).transpose("direction", "convexity_radius").values
        _draw_map(ax, radii, directions, ratios, norm)
        ax.set_title(condition, fontsize="medium")
        ax.set_xlabel(axis_label(data["convexity_radius"], "distance from the minimum"))
        _mark(ax, float(data["radius"]), "^", _RADIUS)
    legend_under(figure, panels, columns=2)
    _add_colours(figure, panels, norm)
    return figure


def _norm(ratios: np.ndarray) -> SymLogNorm:
    """Give small ratios beside large ones a colour: linear around zero, logarithmic beyond."""
    sizes = np.abs(ratios[np.isfinite(ratios) & (ratios != 0)])
    largest = sizes.max(initial=1e-12)
    linear = max(sizes.min(initial=largest), _DECADES * largest)
    return SymLogNorm(min(linear, largest / 10), vmin=-largest, vmax=largest, base=10)


def _add_colours(figure: Figure, panels: list[Axes], norm: SymLogNorm) -> None:
    mappable = ScalarMappable(norm, _COLOURS)
    bar = figure.colorbar(mappable, ax=panels, label="convexity ratio", shrink=0.9)
    # The default marks touch each other around zero.
    largest = float(norm.vmax or 0.0)
    first, last = np.ceil(np.log10(3 * norm.linthresh)), np.floor(np.log10(largest))
    powers = 10.0 ** np.arange(first, last + 1)
    bar.set_ticks([*-powers, 0.0, *powers], labels=[f"{x:g}" for x in [*-powers, 0.0, *powers]])
    bar.minorticks_off()


def _draw_map(
    ax: Axes,
    radii: Float[np.ndarray, " shell"],
    rows: list[str],
    ratios: Float[np.ndarray, "row shell"],
    norm: SymLogNorm,
) -> None:
    logs = np.log(radii)
    middle = (logs[1:] + logs[:-1]) / 2
    half = np.diff(logs)[[0, -1]] / 2 if logs.size > 1 else np.full(2, 0.5)
    edges = np.exp([logs[0] - half[0], *middle, logs[-1] + half[1]])
    ax.set_xscale("log")
    ax.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, ratios, norm=norm, cmap=_COLOURS)
    for (row, shell), value in np.ndenumerate(ratios):
        if np.isfinite(value):
            dark = abs(float(norm(value)) - 0.5) > 0.3
            text = f"{value:.2g}"
            style = {"color": "white" if dark else "black", "fontsize": 5.5}
            ax.text(float(radii[shell]), row, text, ha="center", va="center", **style)
    ax.grid(visible=False)
    ax.set_yticks(np.arange(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    # Every second shell: all of them would touch.
    ax.set_xticks(radii[::-2])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.2g}"))


def _mark(ax: Axes, radius: float, marker: str, label: str) -> None:
    """Mark a radius with a triangle at the edge that it points away from, if it is in range."""
    low, high = ax.get_xlim()
    bottom, top = ax.get_ylim()
    if low <= radius <= high:
        height = bottom - 0.14 if marker == "^" else top + 0.14
        ax.plot(radius, height, marker, color=BLACK, mec="white", ms=8, zorder=5, label=label)
