"""Arrhenius plots: the log of the mean exit time against one over the learning rate."""

import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from sgdsim.plotting._exits import case_panels, confidence_of, text_of
from sgdsim.plotting._style import BLACK, BLUE, GREEN, PURPLE, VERMILION, group, run_name

_LEAST = 3


def plot_arrhenius(tree: xr.DataTree) -> Figure | None:
    r"""Draw the mean exit time of every series with three learning rates or more.

    .. math:: \log E\tau = a + V/\eta + c\log\eta

    with the fitted V and, through the centre of the points, the V of the quasi-potential. The
    power c of the prefactor is the stored one in both.

    Parameters
    ----------
    tree
        A run of the exits study.

    Returns
    -------
    matplotlib.figure.Figure or None
        One panel per series, with times in units of ``t = eta k``; nothing where there is no
        series in the learning rate with two known exit times.

    Notes
    -----
    A case that was split enters with its split exit probability ``p``, as
    ``-eta steps / log(1 - p)``: exits at a constant rate. The fit weighs with the intervals.
    """
    data = group(tree, "exits")
    confidence = confidence_of(tree)
    chosen = []
    for series in sorted(set(data["series"].values.tolist()) - {""}):
        cases = data.isel(case=np.flatnonzero(data["series"].values == series))
        times = exit_times(cases)
        known = np.isfinite(times).all(axis=0)
        if len(np.unique(cases["learning_rate"])) >= _LEAST and known.sum() > 1:
            chosen.append((series, cases, times))
    if not chosen:
        return None
    title = f"{run_name(tree)}: mean exit time against the learning rate"
    figure, panels = case_panels(len(chosen), title, width=5.0, height=4.4)
    for ax, (series, cases, times) in zip(panels, chosen, strict=True):
        _draw_series(ax, cases, times, confidence)
        ax.set_title(text_of(series, 40), fontsize="medium")
        ax.set_xlabel("1 / learning rate")
        ax.set_ylabel("log of the mean exit time in units of $t = \\eta k$ [nat]")
        ax.legend(fontsize="small", frameon=False, loc="upper left")
    return figure


def exit_times(cases: xr.Dataset) -> Float[np.ndarray, "end case"]:
    """Mean exit times with their lower and upper limits, from splitting where there is some."""
    horizon = (cases["learning_rate"] * cases["steps"]).values
    counted = np.stack([cases[f"mean_exit_time{end}"].values for end in ("", "_low", "_high")])
    rare = np.stack([cases[f"rare_exit_probability{end}"].values for end in ("", "_high", "_low")])
    with np.errstate(divide="ignore"):
        split = -horizon / np.log1p(-rare)
    return np.where(np.isfinite(rare[0]), split, counted)


def fitted_slope(
    inverse: Float[np.ndarray, " case"],
    times: Float[np.ndarray, "end case"],
    power: float,
    confidence: float,
) -> tuple[float, float, float]:
    """Weighted least-squares slope V, the half-width of its interval, and the intercept a.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.plotting._exits_rates import fitted_slope
    >>> inverse = np.array([10.0, 20.0, 40.0])
    >>> times = np.exp(1.0 + 0.3 * inverse) * np.array([[1.0], [0.9], [1.1]])
    >>> slope, half, start = fitted_slope(inverse, times, 0.0, 0.95)
    >>> round(slope, 6), half < 0.01, round(start, 6)
    (0.3, True, 1.0)
    """
    quantile = stats.norm.ppf(0.5 + confidence / 2)
    errors = np.log(times[2] / times[1]) / (2 * quantile)
    y = np.log(times[0]) + power * np.log(inverse)
    (slope, start), covariance = np.polyfit(inverse, y, 1, w=1 / errors, cov="unscaled")
    return float(slope), float(quantile * np.sqrt(covariance[0, 0])), float(start)


def _draw_series(
    ax: Axes, cases: xr.Dataset, times: Float[np.ndarray, "end case"], confidence: float
) -> None:
    inverse = 1.0 / cases["learning_rate"].values
    split = np.isfinite(cases["rare_exit_probability"].values)
    known = np.isfinite(times).all(axis=0)
    logs = np.log(times)
    level = f"{100 * confidence:g} % interval"
    for here, marker, colour, text in (
        (known & ~split, "o", BLACK, "counted"),
        (known & split, "s", PURPLE, "importance splitting"),
    ):
        if here.any():
            ax.errorbar(
                inverse[here],
                logs[0, here],
                yerr=[(logs[0] - logs[1])[here], (logs[2] - logs[0])[here]],
                fmt=marker,
                color=colour,
                capsize=3,
                label=f"{text}, {level}",
            )
    unseen = np.isinf(times[0]) & np.isfinite(logs[1])
    if unseen.any():
        ax.plot(
            inverse[unseen], logs[1, unseen], "^", color=BLACK, label="no exit: at least this long"
        )
    exact = cases["exact_exit_time"].values
    if np.isfinite(exact).any():
        ax.plot(
            inverse,
            np.log(exact),
            "D",
            ms=9,
            color=GREEN,
            fillstyle="none",
            label="exact, corrected for the finite step",
        )
    power = float(cases["prefactor_power"].fillna(0.0).mean())
    grid = np.linspace(inverse.min(), inverse.max(), 65)
    prefactor = f"$\\eta^{{{power:g}}}$ " if power else ""
    slope, half, start = fitted_slope(inverse[known], times[:, known], power, confidence)
    ax.plot(
        grid,
        start + slope * grid - power * np.log(grid),
        color=BLUE,
        label=f"fit {prefactor}$e^{{V/\\eta}}$, V = {slope:.4g} ± {half:.2g}",
    )
    potential = float(cases["quasi_potential"].mean())
    if np.isfinite(potential):
        rest = logs[0, known] + power * np.log(inverse[known]) - potential * inverse[known]
        ax.plot(
            grid,
            rest.mean() + potential * grid - power * np.log(grid),
            color=VERMILION,
            ls="--",
            label=f"slope of the quasi-potential, V = {potential:.4g}",
        )
    # Room for the legend above the points.
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.55 * (high - low))
