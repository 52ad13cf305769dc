"""How tight the bounds of a sweep are, and how well each measure ranks its points."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    group,
    new_figure,
    run_name,
    say_missing,
)

_COLOURS = {"certificate": BLUE, "expectation": SKY, "measure": ORANGE}
_COIN = 0.5


def plot_ranking(table: xr.Dataset, title: str = "") -> Figure:
    """Draw the robust sign error of every bound and measure: mean, 90th percentile, maximum.

    Parameters
    ----------
    table
        Variables ``sign_error_mean``, ``sign_error_p90``, ``sign_error_max`` and ``tau`` with
        ``tau_low``, ``tau_high`` along ``bound``, with the coordinate ``kind``.
    title
        Above the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Sign errors on the left, rank correlations on the right, the best measure on top.
    """
    known = table.isel(bound=np.flatnonzero(table["sign_error_mean"].notnull().values))
    known = known.isel(bound=np.argsort(known["sign_error_mean"].values, kind="stable"))
    count = known.sizes["bound"]
    figure, axes = new_figure(11.0, 1.8 + 0.24 * max(4, count), 1, 2)
    figure.suptitle(title, fontsize="medium")
    left, right = axes[0]
    if not count:
        say_missing(left, "no measure has a sign error: too few points that differ in one axis")
        return figure
    rows = np.arange(count)
    colours = [_COLOURS.get(kind, GREY) for kind in known["kind"].values.tolist()]
    left.barh(rows, known["sign_error_mean"], color=colours, height=0.7, label="mean")
    left.plot(known["sign_error_p90"], rows, "D", color=BLACK, ms=3.5, label="90th percentile")
    left.plot(known["sign_error_max"], rows, "x", color=VERMILION, ms=5, label="worst environment")
    left.axvline(_COIN, color=GREY, ls=":", label="a coin")
    left.set_yticks(rows, known["bound"].values.tolist(), fontsize="x-small")
    left.set_ylim(count - 0.4, -0.6)
    left.set_xlim(0, 1.02)
    left.set_xlabel("robust sign error (0: ranks every pair right)")
    right.errorbar(
        known["tau"],
        rows,
        xerr=np.stack(
            [
                (known["tau"] - known["tau_low"]).clip(min=0).values,
                (known["tau_high"] - known["tau"]).clip(min=0).values,
            ]
        ),
        fmt="none",
        ecolor="0.6",
    )
    right.scatter(known["tau"], rows, c=colours, s=18, zorder=3)
    right.axvline(0.0, color=GREY, ls=":")
    right.set_yticks(rows, [])
    right.set_ylim(count - 0.4, -0.6)
    right.set_xlim(-1.05, 1.05)
    right.set_xlabel("Kendall's tau over all runs, bootstrap interval")
    for kind in dict.fromkeys(known["kind"].values.tolist()):
        right.plot([], [], "o", color=_COLOURS.get(kind, GREY), label=kind)
    figure.legend(loc="outside lower center", ncols=6, fontsize="small", frameon=False)
    return figure


def plot_tightness(tree: xr.DataTree) -> Figure:
    """Draw every certificate of a sweep, all runs, beside the gaps that it bounds.

    Parameters
    ----------
    tree
        A sweep or a run of the bounds study, at its last probe.

    Returns
    -------
    matplotlib.figure.Figure
        One row per certificate, the smallest on top, on a logarithmic axis.
    """
    data = group(tree, "bounds").isel(probe=-1)
    data = data.isel(bound=np.flatnonzero(data["kind"].values == "certificate"))
    names = data["bound"].values.tolist()
    values = {name: _known(data["value"].sel(bound=name)) for name in names}
    names = sorted((n for n in names if values[n].size), key=lambda n: float(np.median(values[n])))
    figure, axes = new_figure(8.5, 1.9 + 0.35 * max(3, len(names)))
    ax = axes[0, 0]
    ax.set_title(f"{run_name(tree)}: every run, certificate and gap", fontsize="medium")
    ax.set_xlabel("certificate and measured gap (range of the loss is 1)")
    if not names:
        say_missing(ax, "no certificate applies")
        return figure
    ax.set_xscale("log")
    for row, name in enumerate(names):
        _draw_row(ax, row, values[name], _known(data["generalization_gap"].sel(bound=name)))
    ax.axvline(1.0, color=VERMILION, ls=":", label="range of the loss: vacuous beyond")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.plot([], [], "o", color=BLUE, ms=4, label="certificate")
    ax.plot([], [], "|", color=BLACK, label="gap, where positive")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return figure


def _draw_row(ax: Axes, row: int, values: np.ndarray, gaps: np.ndarray) -> None:
    positive = gaps[gaps > 0]
    ax.plot(values, np.full(values.size, row), "o", color=BLUE, ms=3.5, alpha=0.4, mew=0)
    ax.plot(positive, np.full(positive.size, row), "|", color=BLACK, ms=7, alpha=0.5)


def _known(values: xr.DataArray) -> np.ndarray:
    flat = values.values.ravel()
    return flat[np.isfinite(flat)]
