"""What the figures of the exits study share, and its overview: one row per case."""

import textwrap

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    PURPLE,
    group,
    new_figure,
    run_name,
    scenario_of,
)

_COLUMNS = 4
#: How the evidence of a bound is told apart: certificate, plug-in.
EVIDENCE_STYLES = {"certificate": "-", "plug-in": "--"}


def plot_exits(tree: xr.DataTree) -> Figure | None:
    """Draw the exit probability of every case: measured, exact, split, and bounded by S2.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One row per case on a logarithmic axis; nothing where no case has been evaluated. Without
        an exit the interval is one-sided, which an arrow says; a bound above 1 stands at 1.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_exits
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_exits_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_exits(open_run(synthetic_exits_run(Path(folder))))
    >>> figure.axes[0].get_xlabel()
    'probability of an exit within the run'
    """
    data = group(tree, "exits")
    if not evaluated(data).any():
        return None
    names = data["case"].values.tolist()
    figure, axes = new_figure(9.0, 2.0 + 0.5 * len(names))
    ax = axes[0, 0]
    ax.set_xscale("log")
    _draw_measured(ax, data, confidence_of(tree))
    _draw_interval(ax, data, "rare_exit_probability", PURPLE, "importance splitting")
    exact = data["exact_exit_probability"].values
    ax.plot(exact, _rows(data, -0.16), "D", color=GREEN, fillstyle="none", ms=6, label="exact law")
    for kind, fill, shift in (("certificate", "full", 0.18), ("plug-in", "none", 0.34)):
        logs = data["log_exit_bound"].sel(theory="S2", evidence=kind).isel(look=-1).values
        bound = np.exp(np.minimum(logs, 0.0))
        vacuous = ", at 1 where vacuous" if np.any(logs >= 0) else ""
        ax.plot(
            bound,
            _rows(data, shift),
            "<",
            color=BLUE,
            fillstyle=fill,
            label=f"upper bound S2, {kind}{vacuous}",
        )
    low = ax.get_xlim()[0]
    for row in np.flatnonzero(starts_outside(data)):
        ax.text(low, row, " starts outside the set", va="center", color="0.35", fontsize="small")
    for row in np.flatnonzero(~evaluated(data)):
        ax.text(low, row, " not evaluated yet", va="center", color="0.35", fontsize="small")
    ax.axvline(1.0, color="0.6", lw=0.8)
    ax.set_xlim(low, 2.0)
    ax.set_yticks(np.arange(len(names)), [text_of(name, 28) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel("probability of an exit within the run")
    ax.set_title(f"{run_name(tree)}: does it leave the set?", fontsize="medium")
    legend_under(figure, [ax], columns=2)
    return figure


def evaluated(data: xr.Dataset) -> np.ndarray:
    """Whether each case has run and was evaluated."""
    return (data["stay_probability"].notnull().any("look")).values | starts_outside(data)


def starts_outside(data: xr.Dataset) -> np.ndarray:
    """Whether each case is one of which nothing is said, as trajectories start outside the set."""
    unmeasured = data["stay_probability"].isnull().all("look")
    finished = (data["status"] != 0).all("trajectory") & (data["steps"] > 0)
    return (unmeasured & finished & (data["entry_step"] != 0).any("trajectory")).values


def case_panels(
    count: int, title: str, width: float = 3.6, height: float = 3.0
) -> tuple[Figure, list[Axes]]:
    """Make small multiples of so many inches each, one per case, under one title."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure, axes = new_figure(max(width * columns, 6.5), height * rows + 1.1, rows, columns)
    panels = axes.flatten().tolist()
    for ax in panels[count:]:
        ax.set_axis_off()
    figure.suptitle(title, fontsize="medium")
    return figure, panels[:count]


def text_of(name: str, width: int) -> str:
    """Name of a case as text of at most so many characters a line, with no mathematics in it."""
    return textwrap.fill(str(name).replace("$", r"\$"), width)


def confidence_of(tree: xr.DataTree) -> float:
    """Level of every interval of the run; the usual one if it does not say."""
    return float(scenario_of(tree).get("evaluation", {}).get("confidence", 0.95))


def legend_under(figure: Figure, axes: list[Axes], columns: int) -> None:
    """Put one legend of everything that any of the panels shows under all of them."""
    known = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    figure.legend(
        known.values(),
        known.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        frameon=False,
    )


def _draw_measured(ax: Axes, data: xr.Dataset, confidence: float) -> None:
    last = data.isel(look=-1)
    measured, low, high = (
        1 - last[name].values
        for name in ("stay_probability", "stay_probability_high", "stay_probability_low")
    )
    rows, seen = _rows(data, 0.0), measured > 0
    ax.errorbar(
        measured[seen],
        rows[seen],
        xerr=[(measured - low)[seen], (high - measured)[seen]],
        fmt="o",
        color=BLACK,
        capsize=3,
        label=f"counted, {100 * confidence:g} % Clopper-Pearson interval",
    )
    if (measured == 0).any():
        ax.errorbar(
            high[measured == 0],
            rows[measured == 0],
            xerr=0.6 * high[measured == 0],
            xuplims=True,
            fmt="none",
            color=BLACK,
            capsize=3,
            label="no exit counted: below this limit",
        )


def _draw_interval(ax: Axes, data: xr.Dataset, name: str, colour: str, label: str) -> None:
    value, low, high = (data[f"{name}{end}"].values for end in ("", "_low", "_high"))
    known = value > 0
    if known.any():
        ax.errorbar(
            value[known],
            _rows(data, -0.32)[known],
            xerr=[(value - low)[known], (high - value)[known]],
            fmt="s",
            ms=5,
            color=colour,
            capsize=3,
            label=label,
        )


def _rows(data: xr.Dataset, shift: float) -> np.ndarray:
    """Heights of the rows, a little apart, so that marks do not hide each other."""
    return np.arange(data.sizes["case"]) + shift
