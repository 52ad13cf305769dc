"""Stay probability: measured against its lower bounds."""

import math

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    ORANGE,
    SKY,
    VERMILION,
    axis_label,
    group,
    legend_below,
    new_figure,
    run_name,
    say_missing,
    scenario_of,
    trajectories_text,
)

_LOOKS = {"S2": (BLUE, "-"), "S1": (ORANGE, "--"), "S0": (VERMILION, ":")}


def plot_survival(tree: xr.DataTree) -> Figure:
    r"""Draw the measured stay probability and the lower bounds of the theory.

    The left panel shows probabilities; a vacuous bound is drawn at 0. The right panel shows
    ``log10`` of the exit probability, where bounds close to one differ visibly; a vacuous bound is
    drawn at 0 there too, which is the exit probability 1.

    Parameters
    ----------
    tree
        A run, as ``sgdsim.open_run`` returns it; read from ``/stagnation`` and ``/trajectory``.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels over the recorded steps.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.plotting import plot_survival
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     figure = plot_survival(open_run(synthetic_run(Path(folder))))
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['probability of no exit so far', 'log10 of the probability of an exit so far']
    """
    data = group(tree, "stagnation")
    figure, axes = new_figure(11.0, 5.0, columns=2)
    left, right = axes[0]
    confidence = scenario_of(tree).get("stagnation", {}).get("confidence")
    share = f"{100 * confidence:g} % " if confidence else ""
    _draw_probabilities(left, data, f"{share}Clopper-Pearson interval")
    _draw_exits(right, data, f"measured, upper end of the {share}interval")
    radius = float(data.radius)
    figure.suptitle(
        f"{run_name(tree)}: does it stay within {radius:.3g} of the minimum? "
        f"({trajectories_text(tree)})"
    )
    return figure


def _draw_probabilities(ax: Axes, data: xr.Dataset, interval: str) -> None:
    step = data.step.values
    if np.isnan(data.stay_probability.values).all():
        say_missing(ax, "not measured yet")
    else:
        # Exits happen between recorded steps; a staircase claims nothing about when.
        ax.fill_between(
            step,
            data.stay_probability_low.values,
            data.stay_probability_high.values,
            step="post",
            color=SKY,
            alpha=0.35,
            linewidth=0,
            label=interval,
        )
        ax.step(step, data.stay_probability.values, where="post", color=BLACK, label="measured")
    for theory in reversed(data.theory.values.tolist()):
        bound = data.stay_lower_bound.sel(theory=theory).values
        color, style = _LOOKS[theory]
        note = _note(bound <= 0, bound, step, "drawn at 0")
        ax.plot(
            step, np.maximum(bound, 0), color=color, ls=style, label=f"{theory} lower bound{note}"
        )
    certified = data.certified_stay_lower_bound.sel(theory="S2").values
    if not np.isnan(certified).all():
        label = f"S2 lower bound, certificate{_note(certified <= 0, certified, step, 'drawn at 0')}"
        ax.plot(step, np.maximum(certified, 0), color=_LOOKS["S2"][0], ls=":", label=label)
    ax.set(
        xlabel=axis_label(data.step, "step"),
        ylabel="probability of no exit so far",
        ylim=(-0.03, 1.03),
        title="Stay probability",
    )
    legend_below(ax, columns=1)


def _draw_exits(ax: Axes, data: xr.Dataset, interval: str) -> None:
    step = data.step.values
    high = 1 - data.stay_probability_low.values
    # A bound at the first step, where nobody had time to leave, can be smaller than anything
    # later by many decades; it does not decide the range of the axis.
    lowest = -1.0
    if not np.isnan(high).all():
        upper, measured = _log10(high), _log10(1 - data.stay_probability.values)
        lowest = min(lowest, _lowest(upper), _lowest(measured))
        ax.step(step, upper, where="post", color=BLACK, linewidth=0.8, alpha=0.7, label=interval)
        label = "measured" if np.isfinite(measured).any() else "measured: no exit"
        ax.step(step, measured, where="post", color=BLACK, label=label)
    for theory in reversed(data.theory.values.tolist()):
        log_bound = data.log_exit_bound.sel(theory=theory).values
        drawn = np.minimum(log_bound, 0) / math.log(10)
        lowest = min(lowest, _lowest(drawn[1:]))
        color, style = _LOOKS[theory]
        note = _note(log_bound >= 0, log_bound, step, "drawn at probability 1")
        ax.plot(
            step,
            np.where(np.isfinite(drawn), drawn, np.nan),
            color=color,
            ls=style,
            label=f"{theory} upper bound{note}",
        )
    ax.set(
        xlabel=axis_label(data.step, "step"),
        ylabel="log10 of the probability of an exit so far",
        ylim=(1.1 * lowest, -0.05 * lowest),
        title="Exit probability, logarithmic",
    )
    legend_below(ax, columns=1)


def _log10(probability: np.ndarray) -> np.ndarray:
    """Logarithm with NaN (drawn as a gap) where the probability is zero."""
    positive = np.where(probability > 0, probability, np.nan)
    return np.log10(positive)


def _lowest(values: np.ndarray) -> float:
    """Return the smallest finite value, at most 0."""
    return float(np.min(values, initial=0.0, where=np.isfinite(values)))


def _note(vacuous: np.ndarray, bound: np.ndarray, step: np.ndarray, drawn: str) -> str:
    """Say what the legend adds to the name of a bound."""
    if np.isnan(bound).all():
        return ": not applicable"
    if not vacuous.any():
        return ""
    if vacuous[~np.isnan(bound)].all():
        return f": vacuous ({drawn})"
    return f": vacuous from step {step[vacuous.argmax()]} ({drawn})"
