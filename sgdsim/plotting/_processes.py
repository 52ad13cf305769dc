"""Processes side by side: their losses, the validity of the SDE, their escapes."""

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
    scenario_of,
)

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
_STYLES = ("-", "--", "-.", ":")


def plot_losses(tree: xr.DataTree) -> Figure:
    """Draw the mean loss of every process, one panel per learning rate.

    Parameters
    ----------
    tree
        A run of the dynamics study.

    Returns
    -------
    matplotlib.figure.Figure
        Means over the trajectories that have not diverged, with bands of two standard errors.
    """
    dynamics = group(tree, "dynamics")
    rates = np.unique(dynamics["learning_rate"].values)
    figure, axes = new_figure(5.2 * len(rates), 4.6, 1, len(rates))
    for ax, rate in zip(axes[0], rates, strict=True):
        _draw_losses(ax, dynamics, np.flatnonzero(dynamics["learning_rate"].values == rate))
        ax.set_title(f"learning rate {rate:g}", fontsize="medium")
        if ax.has_data():
            legend_below(ax)
    axes[0, 0].set_ylabel(axis_label(dynamics["mean_loss"], "mean loss"))
    trajectories = dynamics.sizes["trajectory"]
    figure.suptitle(
        f"{run_name(tree)}: mean over {trajectories} trajectories, bands of two standard errors",
        fontsize="medium",
    )
    return figure


def plot_validity(tree: xr.DataTree) -> Figure:
    r"""Draw the gauge :math:`\eta\lambda_{\max}/2` of every process over the steps.

    Parameters
    ----------
    tree
        A run of the dynamics study.

    Returns
    -------
    matplotlib.figure.Figure
        The gauge at the probes; the tolerance up to which the SDE is called valid, and the edge
        of stability, at which the discrete process loses its stationary law and the SDE does not.
    """
    dynamics = group(tree, "dynamics")
    figure, axes = new_figure(8.0, 5.0)
    ax = axes[0, 0]
    judged = dynamics["sde_gauge"].notnull().any("probe").values
    if not judged.any():
        say_missing(ax, "no process was judged")
    for number in np.flatnonzero(judged).tolist():
        one = dynamics.isel(process=number)
        ax.plot(one["probe"], one["sde_gauge"], marker=".", **_look(number, one))
    tolerance = scenario_of(tree).get("validity", {}).get("tolerance", np.nan)
    ax.axhspan(0, tolerance, color=GREEN, alpha=0.12, lw=0, label=f"SDE valid: <= {tolerance:g}")
    ax.axhline(1.0, color=BLACK, lw=1, ls=":", label="edge of stability, sharpness 2/eta")
    ax.set(xlabel="step", ylabel="gauge of the SDE, eta * lambda_max / 2", yscale="log")
    ax.set_title(f"{run_name(tree)}: is the SDE a model of SGD?", fontsize="medium")
    legend_below(ax)
    return figure


def plot_escapes(tree: xr.DataTree) -> Figure | None:
    """Draw the share of trajectories that have not escaped, over time, for every process.

    Parameters
    ----------
    tree
        A run of the dynamics study whose scenario watches an escape.

    Returns
    -------
    matplotlib.figure.Figure or None
        Left: survival on a logarithmic scale. Right: measured mean escape times with 95 %
        intervals beside Kramers, the exact mean passage time of the SDE, and the latter
        corrected for the finite step. Nothing where the scenario watches no escape.
    """
    dynamics = group(tree, "dynamics")
    if dynamics["mean_escape_time"].isnull().all():
        return None
    figure, axes = new_figure(11.0, 4.8, 1, 2)
    left, right = axes[0]
    for number in range(dynamics.sizes["process"]):
        one = dynamics.isel(process=number)
        survival = one["survival"].where(one["survival"] > 0)
        left.plot(one["time"], survival, **_look(number, one))
    if dynamics["survival"].isnull().all():
        say_missing(left, "no escape evaluated yet")
    left.set(xlabel="time, learning rate times step", ylabel="share not escaped", yscale="log")
    legend_below(left)
    _draw_escape_times(right, dynamics)
    figure.suptitle(
        f"{run_name(tree)}: escapes of {dynamics.sizes['trajectory']} trajectories",
        fontsize="medium",
    )
    return figure


def plot_discrepancy(tree: xr.DataTree, reference: str) -> Figure:
    r"""Draw how far every process is from a reference, against the gauge of the SDE.

    Parameters
    ----------
    tree
        A run of the dynamics study.
    reference
        Kind of the dynamics that the others are compared with at the same learning rate, such as
        ``"sgd"``.

    Returns
    -------
    matplotlib.figure.Figure
        Late mean loss over that of the reference, with intervals of two standard errors, over
        the largest :math:`\eta\lambda_{\max}/2` that the reference met.
    """
    dynamics = group(tree, "dynamics")
    figure, axes = new_figure(8.0, 5.0)
    ax = axes[0, 0]
    tables = [process["dynamics"] for process in scenario_of(tree)["process"]]
    late = dynamics["late_loss"]
    mean, error = late.mean("trajectory").values, _stderr(late)
    gauges = dynamics["sde_gauge"].max("probe").values
    others = sorted({str(table["kind"]) for table in tables} - {reference})
    for number, kind in enumerate(others):
        rows = []
        for i, j in _pairs(tables, kind, reference):
            ratio = mean[i] / mean[j]
            spread = ratio * np.hypot(error[i] / mean[i], error[j] / mean[j])
            # Kinds are set apart a little, so that their error bars can be told apart.
            rows.append((gauges[j] * 1.04**number, ratio, spread))
        if rows:
            x, y, spread = np.array(sorted(rows)).T
            colour = _COLOURS[number % len(_COLOURS)]
            ax.errorbar(x, y, 2 * spread, fmt="o:", capsize=3, color=colour, label=kind)
    if not ax.has_data():
        say_missing(
            ax,
            f"no process to compare with one of kind {reference}: same learning\n"
            "rate, batch size, schedule, projection and weight decay",
        )
    tolerance = scenario_of(tree).get("validity", {}).get("tolerance", np.nan)
    ax.axhline(1.0, color=BLACK, lw=1)
    ax.axvspan(
        0, tolerance, color=GREEN, alpha=0.12, lw=0, label=f"SDE called valid: <= {tolerance:g}"
    )
    ax.set(
        xlabel=f"largest eta * lambda_max / 2 met by {reference}",
        ylabel=f"late mean loss over that of {reference}",
        xscale="log",
    )
    ax.set_title(f"{run_name(tree)}: what the gauge foretells", fontsize="medium")
    legend_below(ax)
    return figure


def _pairs(tables: list[dict], kind: str, reference: str) -> list[tuple[int, int]]:
    """Numbers of processes of a kind, each with that of its partner of the reference kind."""
    shared = ("learning_rate", "batch_size", "schedule", "projection", "weight_decay")

    def essence(table: dict) -> list:
        return [table.get(name) for name in shared]

    return [
        (i, j)
        for i, table in enumerate(tables)
        for j, other in enumerate(tables)
        if table["kind"] == kind and other["kind"] == reference and essence(table) == essence(other)
    ]


def _stderr(values: xr.DataArray) -> np.ndarray:
    """Compute standard errors over the trajectories that are not NaN."""
    count = values.notnull().sum("trajectory")
    return (values.std("trajectory", ddof=1) / np.sqrt(count)).values


def _draw_losses(ax: Axes, dynamics: xr.Dataset, numbers: np.ndarray) -> None:
    means = dynamics["mean_loss"].values[numbers]
    known = means[np.isfinite(means)]
    if not known.size:
        say_missing(ax, "no loss that is finite")
        return
    # A logarithmic axis only where it helps: over less than a decade its ticks are hard to read.
    logarithmic = known.min() > 0 and known.max() > 10 * known.min()
    floor = known.min() / 2 if logarithmic else -np.inf
    for number in numbers.tolist():
        one = dynamics.isel(process=number)
        mean, error = one["mean_loss"].values, 2 * one["mean_loss_stderr"].values
        look = _look(number, one)
        ax.plot(one["step"], mean, **look)
        low = np.maximum(mean - error, floor)
        ax.fill_between(one["step"], low, mean + error, color=look["color"], alpha=0.2, lw=0)
    ax.set(xlabel="step", yscale="log" if logarithmic else "linear")


def _draw_escape_times(ax: Axes, dynamics: xr.Dataset) -> None:
    rows = np.arange(dynamics.sizes["process"])
    measured = dynamics["mean_escape_time"].values
    low, high = (dynamics[f"mean_escape_time_{end}"].values for end in ("low", "high"))
    seen, unseen = np.isfinite(measured), np.isinf(measured)
    ax.errorbar(
        measured[seen],
        rows[seen],
        xerr=[measured[seen] - low[seen], high[seen] - measured[seen]],
        fmt="o",
        color=BLACK,
        capsize=3,
        label="measured, 95 %",
    )
    if unseen.any():
        text = "no escape: lower end of the interval"
        ax.plot(low[unseen], rows[unseen], ">", color=BLACK, label=text)
    for name, text, marker, colour in (
        ("kramers_time", "Kramers", "v", GREY),
        ("exact_escape_time", "exact for the SDE", "s", BLUE),
        ("corrected_escape_time", "corrected for the finite step", "D", VERMILION),
    ):
        ax.plot(
            dynamics[name].values, rows, marker, color=colour, label=text, fillstyle="none", ms=8
        )
    ax.set_yticks(rows, [_plain(name) for name in dynamics["process"].values])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("mean escape time")
    legend_below(ax)


def _look(number: int, one: xr.Dataset) -> dict:
    # Styles as well as colours: processes that agree lie on top of each other.
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "linestyle": _STYLES[number % len(_STYLES)],
        "label": _plain(one["process"].item()),
    }


def _plain(name: str) -> str:
    """Name as a label: no mathematics between dollars, shown also if it begins with ``_``."""
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
