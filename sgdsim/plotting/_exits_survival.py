"""Exit probability of every case over the steps: counted, exact, split, and bounded."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plotting._exits import (
    EVIDENCE_STYLES,
    case_panels,
    confidence_of,
    evaluated,
    legend_under,
    starts_outside,
    text_of,
)
from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    axis_label,
    group,
    run_name,
    say_missing,
)

_COLOURS = {"S2": BLUE, "S1": ORANGE, "S0": VERMILION}
# A certificate shows as a broad pale line also where the plug-in lies on it.
_WIDTHS = {"certificate": (3.2, 0.4), "plug-in": (1.1, 1.0)}


def plot_exit_survival(tree: xr.DataTree) -> Figure | None:
    """Draw the probability of an exit so far, one panel per case, on a logarithmic axis.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        Counted exits with their interval, the exact law, upper bounds by certificate and by
        plug-in (drawn at 1 where vacuous), the estimate of importance splitting at the last step;
        nothing where no case has been evaluated.
    """
    data = group(tree, "exits")
    data = data.isel(case=np.flatnonzero(evaluated(data)))
    if not data.sizes["case"]:
        return None
    share = f"{100 * confidence_of(tree):g} %"
    figure, panels = case_panels(
        data.sizes["case"],
        f"{run_name(tree)}: probability of an exit so far, "
        f"{data.sizes['trajectory']} trajectories in every case",
    )
    for number, ax in enumerate(panels):
        one = data.isel(case=number)
        ax.set_title(text_of(one["case"].item(), 34), fontsize="medium")
        if starts_outside(data)[number]:
            say_missing(ax, "starts outside the set:\nnothing is said about staying")
        else:
            _draw_case(ax, one, share)
        ax.set_xlabel(axis_label(one["look_step"], "step"))
        ax.set_ylabel("probability of an exit")
    legend_under(figure, panels, columns=3)
    return figure


def _draw_case(ax: Axes, one: xr.Dataset, share: str) -> None:
    step = one["look_step"].values
    measured, low, high = (
        1 - one[name].values
        for name in ("stay_probability", "stay_probability_high", "stay_probability_low")
    )
    exact = 1 - one["exact_stay_probability"].values
    rare = one["rare_exit_probability"].item()
    logs = one["log_exit_bound"]
    bounds = logs.copy(data=np.exp(np.minimum(logs.values, 0.0)))
    ends = [high[-1], low[-1], exact[-1], rare, *bounds.sel(theory="S2").values[:, -1]]
    bottom = 0.1 * min((end for end in ends if end > 0), default=0.1)
    # Exits happen between the looks; a staircase claims nothing about when.
    ax.fill_between(
        step,
        np.maximum(low, bottom),
        np.maximum(high, bottom),
        step="post",
        color=SKY,
        alpha=0.35,
        lw=0,
        label=f"{share} Clopper-Pearson interval",
    )
    ax.step(step, _positive(measured), where="post", color=BLACK, label="counted")
    for theory in reversed(one["theory"].values.tolist()):
        for kind, style in EVIDENCE_STYLES.items():
            bound = bounds.sel(theory=theory, evidence=kind).values
            width, alpha = _WIDTHS[kind]
            label = f"upper bound {theory}, {kind}"
            if np.isfinite(bound).any():
                ax.plot(
                    step,
                    _positive(bound),
                    color=_COLOURS[theory],
                    ls=style,
                    lw=width,
                    alpha=alpha,
                    label=label,
                )
    if np.isfinite(exact).any():
        ax.plot(step, _positive(exact), color=GREEN, ls="-.", lw=1.6, label="exact law")
    if rare > 0:
        ends = [one[f"rare_exit_probability_{end}"].item() for end in ("low", "high")]
        ax.errorbar(
            step[-1:],
            [rare],
            yerr=[[rare - ends[0]], [ends[1] - rare]],
            fmt="D",
            ms=5,
            color=PURPLE,
            capsize=3,
            clip_on=False,
            zorder=5,
            label=f"importance splitting, {share} interval",
        )
    if measured[-1] == 0:
        ax.annotate(
            f"no exit counted: what is below\n{high[-1]:.1e} cannot be seen",
            (0.03, high[-1]),
            xycoords=("axes fraction", "data"),
            xytext=(0, -4),
            textcoords="offset points",
            va="top",
            fontsize="x-small",
            color="0.25",
            bbox={"color": "white", "alpha": 0.7, "pad": 1.0, "lw": 0},
            zorder=4,
        )
    ax.set(yscale="log", ylim=(bottom, 2.0))


def _positive(values: np.ndarray) -> np.ndarray:
    """Leave a gap where a logarithmic axis has nothing to show."""
    return np.where(values > 0, values, np.nan)
