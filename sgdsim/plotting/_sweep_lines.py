"""A sweep along one axis: lines over it."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from sgdsim.plotting._exits import legend_under, text_of
from sgdsim.plotting._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    say_missing,
)
from sgdsim.plotting._sweep_axes import SweepAxisView, set_line_axis
from sgdsim.plotting._sweep_points import Curve, Mark, Quantity, select_part

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, GREY)
_MARKERS = "osD^vPX*"
# Of more points the marks are small, error bars are a faint band, the SVG holds a picture of both.
_MOST_MARKED = 100
# Of what is compared with the measured curve, which is solid.
_STYLES = ("--", ":", "-.", (0, (5, 1)))


class _Look(NamedTuple):
    colour: str
    marker: str
    style: str | tuple


class _Line(NamedTuple):
    curve: Curve
    label: str
    look: _Look


class _Panel(NamedTuple):
    title: str
    quantity: Quantity
    lines: list[_Line]
    part: dict[str, str]


def draw_lines(
    quantities: Sequence[Quantity],
    axis: SweepAxisView,
    parts: tuple[str, Sequence[str]],
    marks: Sequence[Mark],
) -> Figure:
    """Draw every quantity over the only axis of a sweep.

    Parameters
    ----------
    quantities
        What to draw.
    axis
        The axis.
    parts
        ``("process", names)``: lines of one panel; ``("case", names)``: a panel for each;
        ``("", [])``: the curves have no such dimension.
    marks
        What else there is to say of points.

    Returns
    -------
    matplotlib.figure.Figure
        Without a title.
    """
    dim, names = parts
    looks = _looks(quantities)
    panels = _panels(quantities, looks, dim, names)
    columns = len(names) if dim == "case" else min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = max((5.6 if columns < 3 else 4.2) * columns, 7.0)
    figure, table = new_figure(width, 3.9 * rows + 0.5, rows, columns)
    axes = table.flatten().tolist()
    for panel, ax in zip(panels, axes, strict=False):
        ax.set_title(panel.title, fontsize="medium" if dim == "case" else "small")
        if all(np.isnan(line.curve.value.values).all() for line in panel.lines):
            say_missing(ax, "no number")
            ax.set_axis_off()
            continue
        _draw_panel(ax, panel, axis)
        for curve in panel.quantity.curves[1:] if dim == "process" else ():
            ax.plot([], [], color=GREY, ls=looks[curve.label].style, label=curve.label)
        here = [mark._replace(where=select_part(mark.where, panel.part)) for mark in marks]
        _draw_marks(ax, here, axis)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    legend_under(figure, axes, columns=3)
    return figure


def _panels(
    quantities: Sequence[Quantity], looks: Mapping[str, _Look], dim: str, names: Sequence[str]
) -> list[_Panel]:
    if dim == "case":
        return [
            _Panel(text_of(name, 40), q, _lines_of_curves(q, looks, {dim: name}), {dim: name})
            for q in quantities
            for name in names
        ]
    if dim:
        return [
            _Panel(_words(q.curves[0]), q, _lines_of_processes(q, looks, names), {})
            for q in quantities
        ]
    return [_Panel("", q, _lines_of_curves(q, looks, {}), {}) for q in quantities]


def _looks(quantities: Sequence[Quantity]) -> dict[str, _Look]:
    """One look for each curve that is compared with a measured one, the same in every panel."""
    labels = [curve.label for quantity in quantities for curve in quantity.curves[1:]]
    return {
        label: _Look(_COLOURS[i % len(_COLOURS)], _MARKERS[1 + i % 7], _STYLES[i % len(_STYLES)])
        for i, label in enumerate(dict.fromkeys(labels))
    }


def _lines_of_curves(
    quantity: Quantity, looks: Mapping[str, _Look], part: dict[str, str]
) -> list[_Line]:
    measured = _Look(BLACK, "o", "-")
    return [
        _Line(_of(curve, part), _words(curve), looks[curve.label] if place else measured)
        for place, curve in enumerate(quantity.curves)
    ]


def _lines_of_processes(
    quantity: Quantity, looks: Mapping[str, _Look], names: Sequence[str]
) -> list[_Line]:
    """Colours and marks tell processes apart, styles tell curves apart."""
    lines = []
    for place, curve in enumerate(quantity.curves):
        for i, name in enumerate(names):
            style = looks[curve.label].style if place else "-"
            look = _Look(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)], style)
            # A label that begins with "_" would not be shown.
            shown = text_of(f" {name}" if name.startswith("_") else name, 40)
            lines.append(_Line(_of(curve, {"process": name}), "" if place else shown, look))
    return lines


def _words(curve: Curve) -> str:
    return f"{curve.label}, {curve.interval}" if curve.interval else curve.label


def _of(curve: Curve, part: dict[str, str]) -> Curve:
    return curve.mapped(lambda array: select_part(array, part))


def _draw_panel(ax: Axes, panel: _Panel, axis: SweepAxisView) -> None:
    curves = [line.curve for line in panel.lines]
    arrays = [array for curve in curves for array in (curve.value, curve.low, curve.high)]
    numbers = np.concatenate([array.values for array in arrays if array is not None])
    positive = numbers[np.isfinite(numbers) & (numbers > 0)]
    # A logarithmic axis only where it helps: over less than a decade its ticks are hard to read.
    wide = bool(positive.size and positive.max() > 10 * positive.min())
    use_log = panel.quantity.logarithmic and wide
    ax.set_yscale("log" if use_log else "linear")
    for line in panel.lines:
        _draw_line(ax, line, axis, floor=0.0 if use_log else -np.inf)
    if panel.quantity.share:
        ax.set_ylim(-0.04, 1.04)
    set_line_axis(ax, axis)
    ax.set_ylabel(panel.quantity.label)


def _draw_line(ax: Axes, line: _Line, axis: SweepAxisView, floor: float) -> None:
    value, low, high = (
        np.full(len(axis.order), np.nan) if array is None else array.values[axis.order]
        for array in (line.curve.value, line.curve.low, line.curve.high)
    )
    look, few = line.look, len(value) <= _MOST_MARKED
    shown = np.isfinite(value) & (value > floor)
    if shown.any():
        # NaN, so that no line is drawn across a point that has no number.
        middle = np.where(shown, value, np.nan)
        known = shown & np.isfinite(low) & np.isfinite(high)
        errors = np.full((2, len(middle)), np.nan)
        errors[:, known] = value[known] - low[known], high[known] - value[known]
        ax.errorbar(
            axis.values,
            middle,
            yerr=errors.clip(min=0.0) if known.any() else None,
            color=look.colour,
            ecolor=to_rgba(look.colour, 1.0 if few else 0.15),
            marker=look.marker,
            ms=5 if few else 2,
            # Hollow, so that marks that agree are both seen.
            fillstyle="full" if look.style == "-" else "none",
            linestyle=look.style if axis.joined else "none",
            capsize=3 if few else 0,
            label=line.label or None,
            rasterized=not few,
        )
    # What has no place on the axis has an interval that has: an arrow from its end.
    below = (value <= floor) & (high > floor)
    above = np.isinf(value) & (value > 0) & np.isfinite(low) & (low > floor)
    for here, ends, symbol, text in (
        (below, high, "$\\downarrow$", "not above 0: upper end of the interval"),
        (above, low, "$\\uparrow$", "no event: lower end of the interval"),
    ):
        if here.any():
            ax.plot(
                axis.values[here],
                ends[here],
                marker=symbol,
                ls="none",
                ms=10,
                color=look.colour,
                label=text,
            )


def _draw_marks(ax: Axes, marks: Sequence[Mark], axis: SweepAxisView) -> None:
    """Mark points under the data, a row for everything that is said of a process."""
    few = len(axis.order) <= _MOST_MARKED
    rows = []
    for mark in marks:
        places = mark.where.values[axis.order].reshape(len(axis.order), -1).T
        colours = [BLACK] if len(places) == 1 else _COLOURS
        looks = zip(places, itertools.cycle(colours), strict=False)
        rows += [(mark, place, colour) for place, colour in looks if place.any()]
    if rows:
        scale = ax.yaxis.get_transform()
        low, high = scale.transform(np.array(ax.get_ylim()))
        low -= 0.06 * len(rows) * (high - low)
        ax.set_ylim(*scale.inverted().transform(np.array([low, high])))
    for number, (mark, here, colour) in enumerate(rows):
        height = np.full(here.sum(), 0.03 + 0.05 * number)
        ax.plot(
            axis.values[here],
            height,
            mark.marker,
            ms=8 if few else 3,
            mew=2,
            color=colour,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label=mark.label,
            rasterized=not few,
        )
