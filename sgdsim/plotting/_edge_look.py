"""What figures of the edge study share: states as colours, what has a threshold, means."""

import json
from collections.abc import Iterable

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
)
from sgdsim.store import EDGE_OPERATORS, EDGE_STATES

#: Colour of every state that is shown as one; what was not judged has none.
STATE_COLOURS = {
    "lazy": "#F0E442",
    "catapult": PURPLE,
    "progressive_sharpening": ORANGE,
    "at_the_edge": GREEN,
    "above_the_edge": VERMILION,
    "below_the_edge": SKY,
    "collapsed": "0.25",
    "not_reached": "0.75",
}
#: As many trajectories are drawn as thin lines.
MOST_TRAJECTORIES = 16
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
_STYLES = ("-", "--", "-.", ":")
_PRECONDITIONED = EDGE_OPERATORS.index("preconditioned_hessian")
_DIVERGED = 2


def measured(data: xr.Dataset, name: str) -> xr.DataArray:
    """Give a variable along the steps; NaN where a dataset from elsewhere does not have it."""
    if name in data:
        return data[name].where(np.isfinite(data[name]))
    return xr.full_like(data["loss"], np.nan, dtype=np.float64)


def is_preconditioned(one: xr.Dataset) -> bool:
    """Whether the threshold of a process is one of its preconditioned Hessian."""
    return "operator" in one and int(one["operator"]) == _PRECONDITIONED


def judged_sharpness(one: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Sharpness that the threshold of a process refers to, at iterates and between oscillations."""
    if is_preconditioned(one):
        raw = measured(one, "preconditioned_sharpness")
        return raw, raw * np.nan
    return measured(one, "sharpness"), measured(one, "midpoint_sharpness")


def sharpness_ratio(one: xr.Dataset) -> xr.DataArray:
    """Sharpness over threshold, between oscillations where that was measured."""
    raw, between = judged_sharpness(one)
    threshold = measured(one, "threshold")
    return between.fillna(raw) / threshold.where(threshold > 0)


def batch_ratio(one: xr.Dataset) -> xr.DataArray:
    """Batch sharpness over two by the learning rate of the step."""
    return measured(one, "batch_sharpness") * step_size(one) / 2


def step_size(one: xr.Dataset) -> xr.DataArray:
    """Learning rate of every recorded step of a process."""
    rate = float(one["learning_rate"])
    return one["step_size"].fillna(rate) if "step_size" in one else one["step"] * 0.0 + rate


def mean_and_error(
    values: Float[np.ndarray, "trajectory *rest"], errors: Float[np.ndarray, "trajectory *rest"]
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Mean over the trajectories that are finite, with the larger of its two standard errors.

    One is what every trajectory says of its own error, the other is the spread between them.
    """
    known = np.isfinite(values)
    count = known.sum(axis=0)
    some = np.where(count > 0, count, np.nan)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(axis=0) / some
    own = np.where(known & np.isfinite(errors), errors, 0.0)
    within = np.sqrt((own**2).sum(axis=0)) / some
    squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
    between = np.sqrt(squares / np.where(count > 1, count - 1, np.nan) / some)
    return np.asarray(mean), np.asarray(np.fmax(within, between))


def common_state(
    states: Int[np.ndarray, "trajectory *rest"],
) -> tuple[Int[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """State of most of the trajectories that are judged, and its share of all of them."""
    counts = np.stack([(states == code).sum(axis=0) for code in range(len(EDGE_STATES))])
    judged = counts.copy()
    judged[0] = 0
    code = judged.argmax(axis=0)
    share = np.take_along_axis(counts, code[None], axis=0)[0] / states.shape[0]
    return code, share


def step_limits(one: xr.Dataset) -> tuple[float, float]:
    """From the first to the last step at which something was recorded, and a little more."""
    recorded = measured(one, "loss").notnull() | judged_sharpness(one)[0].notnull()
    steps = one["step"].values[recorded.any("trajectory").values]
    if steps.size < 2:
        steps = one["step"].values
    margin = 0.02 * float(steps[-1] - steps[0]) or 1.0
    return float(steps[0]) - margin, float(steps[-1]) + margin


def shade_states(ax: Axes, one: xr.Dataset) -> set[int]:
    """Shade a panel over the steps by the state of most trajectories; give the states shown."""
    if "state" not in one:
        return set()
    steps = one["step"].values.astype(np.float64)
    codes, _ = common_state(one["state"].transpose("trajectory", "step").values.astype(np.int64))
    middles = (steps[1:] + steps[:-1]) / 2
    edges = np.concatenate([steps[:1], middles, steps[-1:]])
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], codes.size], strict=True):
        if codes[start]:
            colour = STATE_COLOURS[EDGE_STATES[codes[start]]]
            ax.axvspan(edges[start], edges[stop], color=colour, alpha=0.22, lw=0, zorder=0)
    return {int(code) for code in codes if code}


def state_patches(codes: Iterable[int], alpha: float) -> list[Patch]:
    """Make legend entries of states, in the order of their codes."""
    names = [EDGE_STATES[code] for code in sorted(codes) if code]
    return [
        Patch(color=STATE_COLOURS[name], alpha=alpha, lw=0, label=name.replace("_", " "))
        for name in names
    ]


def legend_of(figure: Figure, axes: Iterable[Axes], patches: list[Patch], columns: int) -> None:
    """Put one legend of everything that the panels show, and of states, under all of them."""
    known: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(label, handle)
    handles = [*known.values(), *patches]
    labels = [*known, *(str(patch.get_label()) for patch in patches)]
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            fontsize="small",
            frameon=False,
        )


def threshold_text(tree: xr.DataTree, one: xr.Dataset) -> str:
    """Write a threshold as formula and number, such as ``2/eta = 4``; nothing if there is none."""
    known = measured(one, "threshold").values
    known = known[np.isfinite(known)]
    if not known.size:
        return ""
    formula = json.loads(tree.attrs.get("thresholds", "{}")).get(str(one["process"].values), "")
    low, high = float(known.min()), float(known.max())
    if high - low <= 1e-6 * high:
        return f"{formula} = {number_text(low)}".removeprefix(" = ")
    return f"{formula} from {number_text(low)} to {number_text(high)}".strip()


def number_text(value: float) -> str:
    """Four digits, and no exponent where there is room without one."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def states_text(one: xr.Dataset) -> str:
    """Say in which state the trajectories end, the most common one first."""
    if "final_state" not in one:
        return "not judged"
    codes, counts = np.unique(one["final_state"].values, return_counts=True)
    total = int(counts.sum())
    order = np.argsort(-counts, kind="stable")
    names = [EDGE_STATES[codes[i]].replace("_", " ") for i in order]
    if len(names) == 1:
        return names[0]
    pairs = zip(names, counts[order], strict=True)
    return ", ".join(f"{name} ({count} of {total})" for name, count in pairs)


def late_text(one: xr.Dataset) -> str:
    """Write the ratio of sharpness to threshold over the last quarter, with its error."""
    if "late_ratio" not in one:
        return ""
    errors = one["late_ratio_stderr"] if "late_ratio_stderr" in one else one["late_ratio"] * np.nan
    mean, error = mean_and_error(one["late_ratio"].values, errors.values)
    if not np.isfinite(mean):
        return ""
    return f"late ratio {mean:.3f}" + (f" ± {error:.1g}" if np.isfinite(error) else "")


def diverged_text(one: xr.Dataset) -> str:
    """Say how many trajectories diverged, if any did."""
    if "status" not in one:
        return ""
    count = int((one["status"] == _DIVERGED).sum())
    return f"{count} of {one.sizes['trajectory']} diverged" if count else ""


def process_look(number: int) -> dict[str, str]:
    """Colour and style of a process; of 32 processes no two look alike."""
    place, round_ = number % len(_COLOURS), number // len(_COLOURS)
    return {
        "color": _COLOURS[place],
        "linestyle": _STYLES[(place + round_) % len(_STYLES)],
    }


def plain_name(name: object) -> str:
    """Name as a label: no mathematics between dollars, shown also if it begins with ``_``."""
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def use_logarithm(ax: Axes, values: np.ndarray) -> None:
    """Give a panel a logarithmic vertical axis with labels that can be read."""
    ax.set_yscale("log")
    if not suits_logarithm(values, 100):
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())


def suits_logarithm(values: np.ndarray, factor: float | int) -> bool:
    """Whether numbers span so much that a linear axis would hide most of them."""
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() > factor * known.min())


def draw_threshold(ax: Axes, one: xr.Dataset) -> None:
    """Draw the threshold of the first trajectory of a process."""
    edge = measured(one, "threshold").values[0]
    ax.plot(one["step"], edge, color=BLACK, lw=1.4, ls="--", label="threshold")
