"""All processes side by side: sharpness as a multiple of its threshold, and the spectrum."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import (
    MOST_TRAJECTORIES,
    batch_ratio,
    draw_threshold,
    is_preconditioned,
    late_text,
    legend_of,
    mean_and_error,
    measured,
    plain_name,
    shade_states,
    sharpness_ratio,
    state_patches,
    states_text,
    step_limits,
    step_size,
    suits_logarithm,
    use_logarithm,
)
from sgdsim.plotting._exits import case_panels, text_of
from sgdsim.plotting._style import BLACK, BLUE, VERMILION, axis_label, group, run_name

#: Ratios above are not shown, so that the edge can be seen in all panels.
_HIGHEST = 2.5
_LOWEST_TOP = 1.4
#: As many eigenvalues are told apart.
_MOST_RANKS = 10


def plot_sharpness_ratios(tree: xr.DataTree) -> Figure | None:
    """Draw sharpness over threshold of all processes, one panel each, on a common axis.

    Parameters
    ----------
    tree
        A run of the edge study.

    Returns
    -------
    matplotlib.figure.Figure or None
        Every trajectory a line; the batch sharpness over 2/eta as the mean with a band of two
        standard errors; the background is the state of most trajectories. Ratios are taken
        between oscillations where that was measured. Nothing where no process has a ratio.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_sharpness_ratios
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_sharpness_ratios(open_run(synthetic_edge_run(Path(folder))))
    >>> figure.axes[0].get_ylabel()
    'sharpness over threshold'
    """
    data = group(tree, "edge")
    ratios = {}
    for name in data["process"].values.tolist():
        one = data.sel(process=name)
        both = sharpness_ratio(one), batch_ratio(one)
        if any(bool(ratio.notnull().any()) for ratio in both):
            ratios[name] = both
    if not ratios:
        return None
    largest = max(float(ratio.max().fillna(0.0)) for both in ratios.values() for ratio in both)
    top = float(np.clip(1.08 * largest, _LOWEST_TOP, _HIGHEST))
    title = f"{run_name(tree)}: sharpness as a multiple of the edge of stability"
    if largest > _HIGHEST:
        title += f" (above {_HIGHEST:g} not shown)"
    figure, panels = case_panels(len(ratios), plain_name(title), 3.5, 2.7)
    shown = set()
    for number, (ax, (name, both)) in enumerate(zip(panels, ratios.items(), strict=True)):
        one = data.sel(process=name)
        shown |= shade_states(ax, one)
        _draw_ratios(ax, one, *both)
        ax.set_ylim(0.0, top)
        ax.set_xlabel(axis_label(data["step"], "step"), fontsize="small")
        ax.tick_params(labelsize="small")
        if number % 4 == 0:
            ax.set_ylabel("sharpness over threshold", fontsize="small")
        lines = [text_of(line, 48) for line in (name, late_text(one), states_text(one)) if line]
        ax.set_title("\n".join(lines), fontsize="small")
    legend_of(figure, panels, state_patches(shown, alpha=0.35), 4 if len(panels) > 2 else 2)
    return figure


def _draw_ratios(ax: Axes, one: xr.Dataset, ratio: xr.DataArray, batch: xr.DataArray) -> None:
    steps = one["step"].values
    ax.axhline(1.0, color=BLACK, lw=1.2, ls="--", label="edge of stability")
    rows = ratio.transpose("trajectory", "step").values
    for row in rows[:MOST_TRAJECTORIES]:
        known = np.isfinite(row)
        ax.plot(steps[known], row[known], color=BLUE, lw=1.2 if len(rows) == 1 else 0.8, alpha=0.9)
    ax.plot([], [], color=BLUE, lw=1.4, label="sharpness over threshold")
    errors = measured(one, "batch_sharpness_stderr") * step_size(one) / 2
    mean, error = mean_and_error(
        *(part.transpose("trajectory", "step").values for part in (batch, errors))
    )
    known = np.isfinite(mean)
    if known.any():
        spread = 2 * np.nan_to_num(error[known])
        low, high = mean[known] - spread, mean[known] + spread
        ax.fill_between(steps[known], low, high, color=VERMILION, alpha=0.25, lw=0)
        label = "batch sharpness over 2/eta, two standard errors"
        ax.plot(steps[known], mean[known], color=VERMILION, lw=1.2, label=label)
    ax.set_xlim(step_limits(one))


def plot_spectrum(tree: xr.DataTree) -> Figure | None:
    """Draw the largest Hessian eigenvalues along the first trajectory of every process.

    Parameters
    ----------
    tree
        A run of the edge study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One panel for each process, at most ten eigenvalues with bands as wide as their residuals,
        within which an eigenvalue lies. Nothing where only the largest one was recorded.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_spectrum
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_spectrum(open_run(synthetic_edge_run(Path(folder))))
    >>> figure.axes[0].get_ylabel()
    'largest Hessian eigenvalues'
    """
    data = group(tree, "edge")
    if "hessian_eigenvalue" not in data or data.sizes["rank"] < 2:
        return None
    values = measured(data, "hessian_eigenvalue").isel(trajectory=0)
    known = values.notnull().any("step")
    several = known.sum("rank").values >= 2
    names = data["process"].values[several].tolist()
    if not names:
        return None
    title = f"{run_name(tree)}: largest Hessian eigenvalues, bands are residuals"
    if data.sizes["trajectory"] > 1:
        title += ", first trajectory"
    figure, panels = case_panels(len(names), plain_name(title), 3.8, 3.1)
    for number, (ax, name) in enumerate(zip(panels, names, strict=True)):
        _draw_spectrum(ax, data.sel(process=name).isel(trajectory=slice(0, 1)))
        ax.set_xlabel(axis_label(data["step"], "step"))
        ax.set_title(text_of(name, 40), fontsize="medium")
        if number % 4 == 0:
            ax.set_ylabel("largest Hessian eigenvalues")
    legend_of(figure, panels, [], 4)
    return figure


def _draw_spectrum(ax: Axes, one: xr.Dataset) -> None:
    steps, ranks = one["step"].values, min(one.sizes["rank"], _MOST_RANKS)
    order = ("rank", "trajectory", "step")
    values = measured(one, "hessian_eigenvalue").transpose(*order).values[:ranks, 0]
    residuals = measured(one, "hessian_residual") if "hessian_residual" in one else None
    colours = colormaps["viridis"](np.linspace(0.0, 0.88, ranks))
    for rank, row in enumerate(values):
        known = np.isfinite(row)
        ax.plot(steps[known], row[known], color=colours[rank], lw=1.3, label=_ordinal(rank))
        if residuals is not None:
            error = np.nan_to_num(residuals.transpose(*order).values[rank, 0][known])
            low, high = row[known] - error, row[known] + error
            ax.fill_between(steps[known], low, high, color=colours[rank], alpha=0.3, lw=0)
    edge = measured(one, "threshold").values[0]
    if np.isfinite(edge).any() and not is_preconditioned(one):
        draw_threshold(ax, one)
    ax.set_xlim(step_limits(one))
    if suits_logarithm(values[0], 100):
        use_logarithm(ax, values[0])


def _ordinal(rank: int) -> str:
    number = rank + 1
    return "largest" if number == 1 else f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"
