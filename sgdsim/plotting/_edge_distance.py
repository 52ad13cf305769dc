"""Processes against each other: how far they are apart, and what a flow predicts of the loss."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from sgdsim.plotting._edge_look import (
    legend_of,
    mean_and_error,
    measured,
    plain_name,
    process_look,
    suits_logarithm,
    use_logarithm,
)
from sgdsim.plotting._exits import case_panels, text_of
from sgdsim.plotting._style import (
    BLACK,
    GREY,
    VERMILION,
    axis_label,
    group,
    new_figure,
    run_name,
)

#: Length of the running mean of the loss, as a share of the records.
_WINDOW = 0.02


def plot_process_distances(tree: xr.DataTree) -> Figure | None:
    """Draw how far every process is from the first one over the steps.

    Parameters
    ----------
    tree
        A run of the edge study that keeps random projections of its parameters.

    Returns
    -------
    matplotlib.figure.Figure or None
        Means over the trajectories, each compared with the trajectory of its number, with bands
        of two standard errors. Nothing where no distance was estimated.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_process_distances
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_process_distances(open_run(synthetic_edge_run(Path(folder))))
    >>> figure.axes[0].get_ylabel()
    'distance from GD'
    """
    data = group(tree, "edge")
    distance = measured(data, "distance").transpose("process", "trajectory", "step").values
    error = measured(data, "distance_stderr").transpose("process", "trajectory", "step").values
    names = data["process"].values.tolist()
    shown = [i for i in range(1, len(names)) if np.isfinite(distance[i]).any()]
    if not shown:
        return None
    figure, axes = new_figure(9.5, 5.2)
    ax = axes[0, 0]
    last = []
    for number in shown:
        mean, spread = mean_and_error(distance[number], error[number])
        known = np.isfinite(mean)
        steps, mean, spread = (
            data["step"].values[known],
            mean[known],
            2 * np.nan_to_num(spread[known]),
        )
        look = process_look(number)
        ax.plot(steps, mean, lw=1.5, label=text_of(plain_name(names[number]), 34), **look)
        low = np.maximum(mean - spread, 0.0)
        ax.fill_between(steps, low, mean + spread, color=look["color"], alpha=0.2, lw=0)
        last.append(mean[-1])
    # All of them begin at zero: only where they end apart does a logarithmic axis help.
    if suits_logarithm(np.array(last), 30):
        use_logarithm(ax, np.array(last))
        ax.set_ylim(bottom=min(last) / 10)
    else:
        ax.set_ylim(bottom=0.0)
    first = text_of(names[0], 40)
    ax.set(xlabel=axis_label(data["step"], "step"), ylabel=f"distance from {first}")
    title = f"{run_name(tree)}: distance from {names[0]} at the same step, two standard errors"
    ax.set_title(text_of(title, 90), fontsize="medium")
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return figure


def plot_predicted_loss(tree: xr.DataTree) -> Figure | None:
    """Draw the loss of discrete processes beside what flows predict of it.

    Parameters
    ----------
    tree
        A run of the edge study with a flow that predicts the loss averaged over oscillations.

    Returns
    -------
    matplotlib.figure.Figure or None
        One panel for each flow, with the first process of the same learning rate that is none,
        its running mean over a fiftieth of the records, and the loss at the flow itself. Nothing
        where no flow predicts a loss.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_predicted_loss
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_edge_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_predicted_loss(open_run(synthetic_edge_run(Path(folder))))
    >>> figure.axes[0].get_title()
    'central flow and GD'
    """
    data = group(tree, "edge")
    names = data["process"].values.tolist()
    predicts = measured(data, "predicted_loss").notnull().any(("trajectory", "step")).values
    flows = np.flatnonzero(predicts).tolist()
    if not flows:
        return None
    rates = data["learning_rate"].values
    title = f"{run_name(tree)}: loss averaged over oscillations, predicted and measured"
    figure, panels = case_panels(len(flows), plain_name(title), 6.5, 4.0)
    for ax, flow in zip(panels, flows, strict=True):
        like = [i for i in range(len(names)) if not predicts[i] and rates[i] == rates[flow]]
        for partner in like[:1]:
            discrete = data.isel(process=partner)
            loss = measured(discrete, "loss").mean("trajectory")
            ax.plot(loss["step"], loss, color=GREY, lw=0.7, label="loss of the process")
            window = max(3, round(_WINDOW * int(loss.notnull().sum())))
            smooth = loss.rolling(step=window, center=True, min_periods=1).mean()
            smooth = smooth.where(loss.notnull())
            ax.plot(loss["step"], smooth, color=BLACK, lw=1.8, label="its running mean")
        own = data.isel(process=flow)
        predicted = measured(own, "predicted_loss").mean("trajectory")
        below = measured(own, "loss").mean("trajectory")
        ax.plot(below["step"], below, color=VERMILION, lw=1.2, ls=":", label="loss at the flow")
        label = "loss that the flow predicts"
        ax.plot(predicted["step"], predicted, color=VERMILION, lw=1.8, ls="--", label=label)
        if suits_logarithm(predicted.values, 10):
            use_logarithm(ax, predicted.values)
        against = f" and {names[like[0]]}" if like else ""
        ax.set_title(text_of(f"{names[flow]}{against}", 60), fontsize="medium")
        ax.set(xlabel=axis_label(data["step"], "step"), ylabel=axis_label(data["loss"], "loss"))
    legend_of(figure, panels, [], 2)
    return figure
