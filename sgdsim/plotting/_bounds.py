"""Certificates against the measured generalization gap."""

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from sgdsim.plotting._style import (
    BLACK,
    SKY,
    VERMILION,
    axis_label,
    group,
    new_figure,
    run_name,
    say_missing,
)


def plot_bounds(tree: xr.DataTree) -> Figure:
    """Draw every certificate at the last probe beside the gap that it bounds.

    Bars and points are means over the trajectories that did not diverge. Vacuous certificates are
    hatched; where an assumption is violated there is no bar but a word.

    Parameters
    ----------
    tree
        A run; read from ``/bounds``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with a logarithmic axis.
    """
    data = group(tree, "bounds")
    data = data.isel(bound=np.flatnonzero(data.kind.values == "certificate"))
    if data.sizes["probe"]:
        data = data.isel(probe=-1)
    names = data.bound.values.tolist()
    figure, axes = new_figure(8.5, 1.9 + 0.55 * len(names))
    ax = axes[0, 0]
    ax.set_xlabel(axis_label(data.value, "certificate and measured gap (loss range 1)"))
    if not names or "probe" in data.dims:
        say_missing(ax, "no certificate evaluated")
        ax.set_title(f"{run_name(tree)}: certificates")
        return figure
    values = data.value.transpose("bound", "trajectory").values
    vacuous = data.vacuous.transpose("bound", "trajectory").values
    violated = (data.assumption_violated == 1).any("trajectory").values
    gap = _mean_of_known(data.generalization_gap.transpose("bound", "trajectory").values)
    error = _mean_of_known(data.generalization_gap_stderr.transpose("bound", "trajectory").values)
    mean = _mean_of_known(values)
    known = int((~np.isnan(data.generalization_gap)).any("bound").sum())
    rows = np.arange(len(names))
    ax.set_xscale("log", nonpositive="clip")
    for row in rows:
        if not np.isfinite(mean[row]):
            reason = "assumption violated" if violated[row] else "no finite value"
            # Right of the gap's error bar, and of the line at 1 where there is no gap.
            right = gap[row] + error[row] if gap[row] > 0 else 1.0
            ax.annotate(
                f"not applicable: {reason}",
                (right, row),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                color="0.35",
            )
            continue
        bar = ax.barh(row, mean[row], height=0.5, color=SKY, edgecolor="0.2", linewidth=0.8)
        note = _vacuous_note(vacuous[row][~np.isnan(values[row])])
        if note:
            bar[0].set(hatch="//", facecolor="white", edgecolor="0.45")
        ax.annotate(
            f"{mean[row]:.3g}{note}",
            (mean[row], row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    _draw_gap(ax, rows, gap, error)
    ax.axvline(1.0, color=VERMILION, ls=":", label="range of the loss")
    _set_limits(ax, mean, gap)
    ax.set_yticks(rows, [name.replace("_", " ") for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_title(
        f"{run_name(tree)}: certificates against the measured gap at step {int(data.probe)}, "
        f"mean of {known} trajectories",
        fontsize="medium",
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure


def _draw_gap(ax, rows: Int[np.ndarray, " bound"], gap, error) -> None:
    """Points with error bars; a gap that a logarithmic axis cannot show is told in words."""
    shown = gap > 0
    ax.errorbar(
        gap[shown],
        rows[shown],
        xerr=error[shown],
        fmt="o",
        color=BLACK,
        markersize=5,
        capsize=3,
        zorder=3,
        label="measured gap with standard error",
    )
    for row in rows[~shown & ~np.isnan(gap)]:
        ax.annotate(
            f"measured gap {gap[row]:.2g} (not > 0)",
            (0.01, row + 0.4),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize="x-small",
        )


def _set_limits(ax, mean: Float[np.ndarray, " bound"], gap: Float[np.ndarray, " bound"]) -> None:
    everything = np.concatenate([mean, gap, [1.0]])
    known = everything[np.isfinite(everything) & (everything > 0)]
    # Room on the right for the number behind each bar.
    decades = max(1.0, np.log10(known.max() / known.min()))
    ax.set_xlim(known.min() / 3, known.max() * 10 ** (0.35 * decades))


def _vacuous_note(flags: Int[np.ndarray, " known"]) -> str:
    count = int((flags == 1).sum())
    if not count:
        return ""
    if count == flags.size:
        return "  vacuous (> 1)"
    return f"  vacuous (> 1) in {count} of {flags.size} trajectories"


def _mean_of_known(
    values: Float[np.ndarray, "bound trajectory"],
) -> Float[np.ndarray, " bound"]:
    """Mean over the trajectories that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
