"""Distance from the minimum over the steps: a fan of quantiles over trajectories."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    VERMILION,
    axis_label,
    group,
    legend_below,
    new_figure,
    quantiles_over_rows,
    run_name,
    say_missing,
    trajectories_text,
)

_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
# Outermost first, so that the inner bands lie on top.
_BANDS = ((0, 6, 0.12, "smallest to largest"), (1, 5, 0.22, "5 to 95 %"), (2, 4, 0.4, "25 to 75 %"))
# A radius this many times above everything else would press the trajectories flat.
_FAR = 2.5


def plot_distance(tree: xr.DataTree) -> Figure:
    """Draw quantiles over trajectories of the distance from the minimum.

    Diverged trajectories leave the quantiles at the step at which they diverged.

    Parameters
    ----------
    tree
        A run; read from ``/trajectory`` and ``/stagnation``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel over the recorded steps: bands, median, root mean square, the root of the
        linearised mean squared distance, and the radius of the stagnation set.
    """
    trajectory, stagnation = group(tree, "trajectory"), group(tree, "stagnation")
    step = trajectory.step.values
    distance = trajectory.distance.transpose("trajectory", "step").values.astype(np.float64)
    figure, axes = new_figure(8.0, 5.2)
    ax = axes[0, 0]
    if np.isnan(distance).all():
        say_missing(ax, "no distance recorded yet")
    quantiles = quantiles_over_rows(distance, _LEVELS)
    known = ~np.isnan(quantiles[6])
    for low, high, alpha, name in _BANDS:
        ax.fill_between(
            step, quantiles[low], quantiles[high], color=BLUE, alpha=alpha, lw=0, label=name
        )
    ax.plot(step, quantiles[3], color=BLUE, label="median")
    root = np.sqrt(stagnation.mean_squared_distance_ensemble.values)
    ax.plot(step, root, color=BLACK, linewidth=1.2, label="root mean square")
    linearised = np.sqrt(stagnation.linearised_mean_squared_distance.values)
    note = ": not applicable" if np.isnan(linearised).all() else ""
    ax.plot(
        step, linearised, color=GREEN, ls="--", label=f"root mean square, linearised dynamics{note}"
    )
    ax.set(xlabel=axis_label(trajectory.step, "step"), ylabel="distance from the minimum")
    radius, largest = float(stagnation.radius), np.max(quantiles[6], initial=0.0, where=known)
    above = largest > 0 and radius > _FAR * largest
    label = f"radius of the stagnation set, {radius:.3g}" + (" (above the axis)" if above else "")
    ax.axhline(radius, color=VERMILION, ls=":", label=label)
    ax.set_ylim(0, 1.15 * largest if above else None)
    ax.set_title(
        f"{run_name(tree)}: distance from the minimum, quantiles over {trajectories_text(tree)}",
        fontsize="medium",
    )
    legend_below(ax)
    return figure
