"""Basins: where the final iterates descend to, and how many minima that makes."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sgdsim.plotting._exits import case_panels, legend_under, text_of
from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    group,
    run_name,
)

# With more basins than colours the markers differ too.
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "P")
_CLOUD = 2000
_NAMED = 6


def plot_basins(tree: xr.DataTree) -> Figure | None:
    """Draw the final iterates by the basin in which they lie, one panel per case.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        On a landscape with one parameter a histogram and the quenched iterates below it, with
        more a scatter of the first two; for networks, whose parameters are not kept, a bar per
        basin. Nothing where no basin was found.
    """
    data = group(tree, "exits")
    data = data.isel(case=np.flatnonzero((data["basins"] > 0).values))
    if not data.sizes["case"]:
        return None
    figure, panels = case_panels(
        data.sizes["case"],
        f"{run_name(tree)}: final iterates and the basins to which they descend",
        height=3.4,
    )
    for number, ax in enumerate(panels):
        one = data.isel(case=number)
        positions = _known_coordinates(one)
        if positions.shape[1] == 0:
            _draw_counts(ax, one)
        elif positions.shape[1] == 1:
            _draw_line(ax, one, positions[:, 0])
        else:
            _draw_plane(ax, one, positions)
        basins, quenched = one["basins"].item(), int((one["basin"] >= 0).sum())
        words = f"{basins} basin{'s' if basins != 1 else ''} in {quenched} quenches"
        ax.set_title(
            f"{text_of(one['case'].item(), 34)}\n{words}\n"
            f"Good-Turing probability of another: {one['unseen_basins'].item():.2g}",
            fontsize="small",
        )
    legend_under(figure, panels, columns=4)
    return figure


def _known_coordinates(one: xr.Dataset) -> np.ndarray:
    """Select the final positions in the coordinates that the landscape of this case has."""
    positions = one["final_position"].values
    return positions[:, np.isfinite(positions).any(axis=0)]


def _draw_line(ax: Axes, one: xr.Dataset, position: np.ndarray) -> None:
    # Only a part of the iterates is quenched: what is far from all of those would hide them.
    quenched = position[one["basin"].values >= 0]
    margin = 0.25 * float(np.ptp(quenched)) or 1.0
    window = float(quenched.min()) - margin, float(quenched.max()) + margin
    heights, _, _ = ax.hist(
        position[np.isfinite(position)],
        bins=60,
        range=window,
        color="0.8",
        label="all final iterates",
    )
    top = float(np.max(heights))
    # A fixed scatter in height, so that the same run gives the same picture.
    jitter = np.random.default_rng(0).uniform(-0.22, -0.06, position.size) * top
    for basin in range(one["basins"].item()):
        here = one["basin"].values == basin
        ax.plot(position[here], jitter[here], ls="none", ms=4, alpha=0.7, **_look(basin, one))
        end = np.nanmean(one["quenched_position"].values[here, 0])
        ax.axvline(end, color=_look(basin, one)["color"], lw=1.0, ls="--", label="_")
    ax.plot([], [], color=BLACK, lw=1.2, ls="--", label="minimum reached by the quench")
    ax.axhline(0.0, color="0.4", lw=0.8)
    ax.set_ylim(-0.28 * top, 1.05 * top)
    ax.set_yticks(
        [tick for tick in MaxNLocator(4, integer=True).tick_values(0, top) if tick <= top]
    )
    ax.set(xlabel="final position", ylabel="final iterates per bin")


def _draw_plane(ax: Axes, one: xr.Dataset, positions: np.ndarray) -> None:
    cloud = positions[:_CLOUD]
    ax.plot(
        cloud[:, 0],
        cloud[:, 1],
        ".",
        ms=2,
        color="0.75",
        zorder=1,
        rasterized=True,
        label="all final iterates",
    )
    for basin in range(one["basins"].item()):
        here = one["basin"].values == basin
        ax.plot(*positions[here, :2].T, ls="none", ms=4, alpha=0.7, **_look(basin, one))
        end = np.nanmean(one["quenched_position"].values[here, :2], axis=0)
        label = "minimum reached by the quench" if basin == 0 else "_"
        ax.plot(*end, "*", color=BLACK, ms=12, mec="white", zorder=5, label=label)
    more = f" (of {positions.shape[1]})" if positions.shape[1] > 2 else ""
    ax.set(xlabel=f"coordinate 0{more}", ylabel=f"coordinate 1{more}")


def _draw_counts(ax: Axes, one: xr.Dataset) -> None:
    labels = one["basin"].values
    counts = np.bincount(labels[labels >= 0], minlength=one["basins"].item())
    ax.bar(np.arange(counts.size), counts, color=GREY, label="quenches that ended in the basin")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(-1, counts.size)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="basin, by the risk of its minimum", ylabel="quenches")


def _look(basin: int, one: xr.Dataset) -> dict:
    # Many names would say less than none.
    label = f"basin {basin}" if one["basins"].item() <= _NAMED else "_"
    marker = _MARKERS[(basin // len(_COLOURS)) % len(_MARKERS)]
    return {"color": _COLOURS[basin % len(_COLOURS)], "marker": marker, "label": label}
