"""What staying buys: the gap, the bounds on it, and which of their terms pays."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._exits import legend_under, text_of
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
    new_figure,
    run_name,
)

_TERMS = {
    "centre": (BLUE, "centre: number of minima, confidence"),
    "displacement": (VERMILION, "displacement: radius"),
    "cut": (GREY, "cut-off of Dudley's integral"),
    "entropy": (ORANGE, "entropy: size of the parameter ball"),
    "concentration": (GREEN, "concentration: radius, confidence"),
}
_BOUNDS = {"G1": "o", "G2": "s", "G3": "^"}
_LEAST = 3
_READABLE = 0.07


def plot_gap(tree: xr.DataTree) -> Figure | None:
    """Draw the measured gap beside its bounds, and the share of every term in every bound.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        Left the numbers, on a logarithmic axis where there are bounds; right one bar per bound,
        as shares add up and logarithms do not. Nothing where no case has a gap.
    """
    data = group(tree, "exits")
    bounded = data["log_gap_bound"].notnull().any("bound")
    varied = (data["mean_gap_stderr"] > 0) & (data["gap"] != 0).any("trajectory")
    data = data.isel(case=np.flatnonzero(bounded | varied))
    if not data.sizes["case"]:
        return None
    has_bounds = bool(data["log_gap_bound"].notnull().any())
    columns = 2 if has_bounds else 1
    height = 1.9 + (0.75 if has_bounds else 0.45) * data.sizes["case"]
    figure, axes = new_figure(6.0 * columns, height, 1, columns)
    panels = axes.flatten().tolist()
    _draw_numbers(panels[0], data, has_bounds)
    if has_bounds:
        _draw_shares(panels[1], data)
    words = "generalization gap and what bounds it" if has_bounds else "generalization gap"
    figure.suptitle(f"{run_name(tree)}: {words}", fontsize="medium")
    legend_under(figure, panels, columns=3)
    return figure


def plot_gap_width(tree: xr.DataTree) -> Figure | None:
    """Draw every bound on the gap and its terms against the width, on logarithmic axes.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One row per series, one panel per bound; nothing where no series has three widths.
    """
    data = group(tree, "exits")
    chosen = []
    for series in sorted(set(data["series"].values.tolist()) - {""}):
        cases = data.isel(case=np.flatnonzero(data["series"].values == series)).sortby("width")
        known = (cases["width"] > 0) & cases["log_gap_bound"].notnull().any("bound")
        cases = cases.isel(case=np.flatnonzero(known))
        if len(np.unique(cases["width"])) >= _LEAST:
            chosen.append((series, cases))
    if not chosen:
        return None
    names = data["bound"].values.tolist()
    figure, axes = new_figure(3.8 * len(names), 3.6 * len(chosen) + 1.2, len(chosen), len(names))
    for row, (series, cases) in zip(axes, chosen, strict=True):
        for ax, name in zip(row.tolist(), names, strict=True):
            _draw_widths(ax, cases.sel(bound=name))
            ax.set_title(f"{text_of(series, 30)}: {name}", fontsize="medium")
    figure.suptitle(f"{run_name(tree)}: bounds on the gap against the width", fontsize="medium")
    legend_under(figure, axes.flatten().tolist(), columns=3)
    return figure


def _draw_numbers(ax: Axes, data: xr.Dataset, has_bounds: bool) -> None:
    rows = np.arange(data.sizes["case"])
    mean, error = data["mean_gap"].values, data["mean_gap_stderr"].values
    if has_bounds:
        ax.set_xscale("log")
        for shift, name in zip((-0.08, 0.08, 0.24), data["bound"].values.tolist(), strict=True):
            bound = np.exp(data["log_gap_bound"].sel(bound=name).values)
            ax.plot(
                bound,
                rows + shift,
                _BOUNDS[name],
                color=PURPLE,
                fillstyle="none",
                label=f"bound {name}",
            )
    drawn = np.isfinite(mean) & ((mean > error) | (not has_bounds))
    ax.errorbar(
        mean[drawn],
        rows[drawn] - 0.24,
        xerr=error[drawn],
        fmt="o",
        color=BLACK,
        capsize=3,
        label="measured gap, mean ± standard error over trajectories",
    )
    expected = data["expected_gap"].values
    if np.isfinite(expected).any():
        style = {"color": SKY, "fillstyle": "none", "ms": 9, "mew": 1.6}
        ax.plot(expected, rows - 0.24, "D", label="expected gap", **style)
    for row in rows[np.isfinite(mean) & ~drawn]:
        ax.annotate(
            f"measured gap {mean[row]:.2g} ± {error[row]:.1g}: not above 0",
            (0.02, row - 0.24),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize="x-small",
        )
    if not has_bounds:
        ax.axvline(0.0, color="0.6", lw=0.8)
    ax.set_yticks(rows, [text_of(name, 24) for name in data["case"].values])
    ax.set_ylim(len(rows) - 0.5, -0.6)
    ax.set_xlabel("generalization gap, in units of the loss")
    ax.set_title("measured and bounded" if has_bounds else "measured", fontsize="medium")


def _draw_shares(ax: Axes, data: xr.Dataset) -> None:
    cases, bounds = data.sizes["case"], data["bound"].values.tolist()
    # Three bars per case, with a gap to the next case.
    rows = np.arange(cases)[:, None] + np.linspace(-0.28, 0.28, len(bounds))
    logs = data["log_gap_term"] - data["log_gap_bound"]
    logs = logs.transpose("case", "bound", "term")
    shares = logs.copy(data=np.nan_to_num(np.exp(logs.values)))
    left = np.zeros(rows.shape)
    for term in data["term"].values.tolist():
        share = shares.sel(term=term).values
        colour, text = _TERMS[term]
        ax.barh(rows.ravel(), share.ravel(), 0.25, left.ravel(), color=colour, label=text)
        for (i, j), value in np.ndenumerate(share):
            if value >= _READABLE:
                ax.text(
                    float(left[i, j] + value / 2),
                    float(rows[i, j]),
                    f"{100 * value:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if term in ("centre", "displacement") else "black",
                )
        left += share
    totals = data["log_gap_bound"].values
    for i, j in np.ndindex(*rows.shape):
        known = np.isfinite(totals[i, j])
        text = f"{np.exp(totals[i, j]):.3g}" if known else "not applicable"
        ax.text(1.01 if known else 0.01, float(rows[i, j]), text, va="center", fontsize=6)
    ax.set_yticks(rows.ravel(), bounds * cases, fontsize=6)
    ax.set_ylim(cases - 0.5, -0.6)
    ax.set_xlim(0, 1.12)
    ax.set_xticks(np.linspace(0, 1, 6), [f"{100 * x:.0f} %" for x in np.linspace(0, 1, 6)])
    ax.set_xlabel("share of the bound, which stands at its right")
    ax.set_title("which term pays", fontsize="medium")


def _draw_widths(ax: Axes, cases: xr.Dataset) -> None:
    width = cases["width"].values
    ax.plot(width, np.exp(cases["log_gap_bound"].values), "k.-", lw=2.4, label="bound")
    for term in cases["term"].values.tolist():
        value = np.exp(cases["log_gap_term"].sel(term=term).values)
        if np.isfinite(value).any():
            colour, text = _TERMS[term]
            ax.plot(width, value, ".--", color=colour, label=text)
    mean, error = cases["mean_gap"].values, cases["mean_gap_stderr"].values
    positive = mean > error
    ax.errorbar(
        width[positive],
        mean[positive],
        error[positive],
        fmt="o",
        color=BLACK,
        fillstyle="none",
        capsize=3,
        label="measured gap, mean ± standard error over trajectories",
    )
    ax.set(xscale="log", yscale="log", xlabel="width of the widest layer")
    ax.set_ylabel("gap, in units of the loss")
    ax.set_xticks(width, [f"{value}" for value in width.tolist()])
    ax.minorticks_off()
