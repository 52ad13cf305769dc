"""Processes one by one: sharpness against its threshold, with the loss under it."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import (
    MOST_TRAJECTORIES,
    diverged_text,
    is_preconditioned,
    judged_sharpness,
    late_text,
    legend_of,
    mean_and_error,
    measured,
    plain_name,
    shade_states,
    state_patches,
    states_text,
    step_limits,
    suits_logarithm,
    threshold_text,
    use_logarithm,
)
from sgdsim.plotting._exits import text_of
from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREY,
    PURPLE,
    VERMILION,
    axis_label,
    group,
    new_figure,
    run_name,
    say_missing,
)

#: As many processes stand side by side if none is named.
_MOST_PROCESSES = 4


def plot_sharpness(tree: xr.DataTree, *processes: str) -> Figure | None:
    r"""Draw the sharpness of processes against their thresholds, and the loss under it.

    Thin lines are the sharpness at the iterates, thick ones that between two oscillations,
    :math:`(\theta_{k-2}+2\theta_{k-1}+\theta_k)/4`; for adaptive optimizers it is that of the
    preconditioned Hessian, to which their threshold refers. The batch sharpness has a band of two
    standard errors. The background is the state of most trajectories.

    Parameters
    ----------
    tree
        A run of the edge study.
    *processes
        Names; if there are none, the first four processes.

    Returns
    -------
    matplotlib.figure.Figure or None
        A column for each process; nothing where no sharpness was measured.

    Raises
    ------
    ValueError
        If a process is not there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_sharpness
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_sharpness(open_run(synthetic_edge_run(Path(folder))), "GD")
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['sharpness', 'loss [nat]']
    """
    data = group(tree, "edge")
    known = data["process"].values.tolist()
    for name in processes:
        if name not in known:
            raise ValueError(f"no process is called {name!r}; choose from {known}.")
    names = list(processes or known[:_MOST_PROCESSES])
    chosen = [data.sel(process=name) for name in names]
    if not any(_has_sharpness(one) for one in chosen):
        return None
    width = max(4.4 * len(names), 8.0)
    figure, axes = new_figure(width, 7.4, 2, len(names))
    axes[0, 0].get_gridspec().set_height_ratios([3, 2])
    shown = set()
    for one, upper, lower in zip(chosen, *axes, strict=True):
        shown |= shade_states(upper, one) | shade_states(lower, one)
        _draw_sharpness(upper, one, threshold_text(tree, one) if len(names) == 1 else "")
        _draw_loss(lower, one)
        limits = step_limits(one)
        upper.set_xlim(limits)
        lower.set_xlim(limits)
        lower.set_xlabel(axis_label(data["step"], "step"))
        upper.set_title(_heading(tree, one, alone=len(names) == 1), fontsize="medium")
    axes[0, 0].set_ylabel("sharpness")
    axes[1, 0].set_ylabel(axis_label(data["loss"], "loss"))
    left_out = [] if processes else known[_MOST_PROCESSES:]
    title = run_name(tree) + (f": {len(names)} of {len(known)} processes" if left_out else "")
    figure.suptitle(plain_name(title), fontsize="medium")
    legend_of(figure, axes.flat, state_patches(shown, alpha=0.35), 3 if width < 12 else 5)
    return figure


def _has_sharpness(one: xr.Dataset) -> bool:
    return any(bool(part.notnull().any()) for part in judged_sharpness(one))


def _heading(tree: xr.DataTree, one: xr.Dataset, alone: bool) -> str:
    width = 90 if alone else 54
    threshold = "" if alone else threshold_text(tree, one)
    said = [f"threshold {threshold}" if threshold else "", late_text(one), states_text(one)]
    lines = [str(one["process"].item()), ""]
    for text in filter(None, [*said, diverged_text(one)]):
        # As many statements in a line as fit, so that none is broken in two.
        if len(lines[-1]) + len(text) + 2 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]}; {text}".removeprefix("; ")
    return "\n".join([text_of(line, width) for line in lines])


def _draw_sharpness(ax: Axes, one: xr.Dataset, threshold: str) -> None:
    raw, between = judged_sharpness(one)
    if not _has_sharpness(one):
        say_missing(ax, "sharpness was not measured")
        return
    kind = "preconditioned sharpness" if is_preconditioned(one) else "sharpness"
    several = one.sizes["trajectory"] > 1
    colour = PURPLE if is_preconditioned(one) else BLUE
    thick = bool(between.notnull().any())
    _draw_trajectories(ax, raw, colour, 0.8 if thick else 1.2, kind, alpha=0.55 if thick else 0.9)
    between_label = f"{kind} between oscillations"
    _draw_trajectories(ax, between, colour, 1.2 if several else 2.2, between_label)
    _draw_batch_sharpness(ax, one)
    edge = measured(one, "threshold").mean("trajectory").values
    label = f"threshold {threshold}".strip()
    if np.isfinite(edge).any():
        ax.plot(one["step"], edge, color=BLACK, lw=1.6, ls="--", label=label, zorder=3)
    _draw_events(ax, one)
    curves = np.concatenate([part.values.ravel() for part in (raw, between)])
    top, known = np.nanmax(curves), edge[np.isfinite(edge)]
    if top > 8 * known.max() if known.size else suits_logarithm(curves, 100):
        use_logarithm(ax, curves)
    else:
        ax.set_ylim(bottom=min(0.0, float(np.nanmin(curves))))


def _draw_trajectories(
    ax: Axes, values: xr.DataArray, colour: str, width: float, label: str, alpha: float = 1.0
) -> None:
    """Draw a line for each of the first trajectories that were measured."""
    rows = values.transpose("trajectory", "step").values
    rows = rows[np.isfinite(rows).any(axis=1)][:MOST_TRAJECTORIES]
    for number, row in enumerate(rows):
        known = np.isfinite(row)
        ax.plot(
            values["step"].values[known],
            row[known],
            color=colour,
            lw=width,
            alpha=alpha,
            label=None if number else label,
        )


def _draw_batch_sharpness(ax: Axes, one: xr.Dataset) -> None:
    """Draw the mean over trajectories, and its own edge where that is not the threshold."""
    value, error = (
        measured(one, f"batch_sharpness{end}").transpose("trajectory", "step").values
        for end in ("", "_stderr")
    )
    mean, spread = mean_and_error(value, error)
    known = np.isfinite(mean)
    if not known.any():
        return
    steps, mean = one["step"].values[known], mean[known]
    spread = 2 * np.nan_to_num(spread[known])
    label = "batch sharpness, two standard errors"
    ax.fill_between(steps, mean - spread, mean + spread, color=VERMILION, alpha=0.25, lw=0)
    ax.plot(steps, mean, color=VERMILION, lw=1.4, label=label)
    thresholds = measured(one, "threshold").values
    thresholds = thresholds[np.isfinite(thresholds)]
    own = 2 / float(one["learning_rate"])
    if not thresholds.size or (np.ptp(thresholds) == 0 and abs(thresholds[0] - own) > 1e-3 * own):
        ax.axhline(own, color=GREY, ls=":", lw=1.4, label="2/eta, edge of the batch sharpness")


def _draw_events(ax: Axes, one: xr.Dataset) -> None:
    """Mark when trajectories came to the edge, and where the sharpness stopped growing."""
    if "entry_step" in one:
        entries = one[["entry_step", "entry_low", "entry_high"]].to_array().values
        entries = entries[:, entries[0] >= 0][:, :MOST_TRAJECTORIES]
        step, low, high = entries.astype(np.float64)
        heights = 0.035 + 0.02 * np.arange(step.size)
        if step.size:
            ax.errorbar(
                step,
                heights,
                xerr=[step - low, high - step],
                fmt="^",
                ms=5,
                color=BLACK,
                elinewidth=1.6,
                capsize=3,
                transform=ax.get_xaxis_transform(),
                label="entry to the edge, with its interval",
            )
        if step.size == 1:
            ax.axvline(step[0], color=BLACK, lw=0.8, alpha=0.6)
    if "break_even_step" in one:
        step, height = one["break_even_step"].values, one["break_even_sharpness"].values
        known = (step >= 0) & np.isfinite(height)
        if known.any():
            ax.plot(
                step[known],
                height[known],
                "D",
                ms=6,
                mfc="white",
                mec=BLACK,
                label="break-even point",
                zorder=4,
            )


def _draw_loss(ax: Axes, one: xr.Dataset) -> None:
    loss, predicted = measured(one, "loss"), measured(one, "predicted_loss")
    if not bool(loss.notnull().any()):
        say_missing(ax, "no loss that is finite")
        return
    several = one.sizes["trajectory"] > 1
    _draw_trajectories(ax, loss, BLACK, 0.8 if several else 1.2, "loss", alpha=0.8)
    label = "loss between oscillations, as the flow predicts"
    _draw_trajectories(ax, predicted, VERMILION, 1.4, label)
    # Over less than a decade the ticks of a logarithmic axis are hard to read.
    if suits_logarithm(loss.values, 10):
        use_logarithm(ax, loss.values)
