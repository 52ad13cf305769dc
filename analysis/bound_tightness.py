"""How tight are the bounds of a sweep, and which measure ranks networks by their gap?"""

import argparse
import math
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.evaluation import FinalBounds, final_bounds, growth, slope_reversals
from sgdsim.plotting import plot_ranking, plot_tightness, write_figure
from sgdsim.store import open_run

#: Changes of the final networks that should not make a bound grow.
CHANGES = {
    "constant_predictor": "constant predictor",
    "width_doubling": "twice as wide",
    "node_rescaling": "nodes rescaled",
}


def ranking(table: xr.Dataset) -> list[tuple[str, ...]]:
    """Rows of the table: bound, value, gap, tightness, vacuous, violations, tau, sign errors."""
    found = []
    kinds = table["kind"].values.tolist()  # np.lexsort can crash on NumPy strings of any length
    errors = np.nan_to_num(table["sign_error_mean"].values, nan=np.inf).tolist()
    order = sorted(range(len(kinds)), key=lambda i: (kinds[i], errors[i]))
    for one in (table.isel(bound=i) for i in order):
        certified = str(one.kind.values) == "certificate"
        found.append(
            (
                str(one.bound.values),
                str(one.kind.values),
                number(one.value),
                number(one.gap),
                number(one.tightness) if certified else "",
                percent(one.vacuous_share),
                f"{int(one.violations)} of {int(one.trials)}" if one.violations >= 0 else "",
                interval(one),
                number(one.granulated_tau),
                number(one.cmi_score),
                number(one.sign_error_mean),
                number(one.sign_error_max),
            )
        )
    return found


def falsifiers(tree: xr.DataTree, final: FinalBounds) -> list[tuple[str, ...]]:
    """Rows of the table: what every bound does under changes that should not make it grow."""
    bounds = tree["bounds"].to_dataset()
    ratio = bounds["log_ratio_after"]
    change = ratio.median([dim for dim in ratio.dims if dim not in ("bound", "change")])
    positive = final.data["value"].where(np.isfinite(final.data["value"]))
    rows_axis = "training" in final.axes
    exponent = growth(positive, "training") if rows_axis else None
    reversals = None
    if final.axes:
        gap = final.data["ranking_gap"]
        reversals = slope_reversals(final.data["value"], gap, final.axes)
    found = []
    for name in bounds["bound"].values.tolist():
        cells = [factor(change.sel(bound=name, change=key)) for key in CHANGES]
        fall = "" if exponent is None else number(exponent["exponent"].sel(bound=name))
        share = "" if reversals is None else number(reversals["share"].sel(bound=name).max())
        found.append((name, *cells, fall, share))
    return found


def mean_gaps(tree: xr.DataTree) -> list[tuple[str, ...]]:
    """Rows of the table: bound on the mean gap, its error, the mean gap; means over the points.

    The standard error of a mean over points is at most the mean of their standard errors, however
    much noise the points share.
    """
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    found = []
    for i in range(bounds.sizes.get("expectation", 0)):
        one = bounds.isel(expectation=i)
        known = one["expected_gap_bound"].notnull() & one["mean_gap"].notnull()
        columns = ("expected_gap_bound", "expected_gap_bound_stderr", "mean_gap")
        means = [number(one[column].where(known).mean()) for column in columns]
        found.append((str(one["expectation"].values), means[0] or "not applicable", *means[1:]))
    return found


def number(value: xr.DataArray) -> str:
    """Three digits; nothing where it is not known."""
    return "" if math.isnan(float(value)) else f"{float(value):.3g}"


def percent(value: xr.DataArray) -> str:
    """Share in per cent."""
    return "" if math.isnan(float(value)) else f"{100 * float(value):.0f} %"


def interval(one: xr.Dataset) -> str:
    """Rank correlation with its bootstrap interval."""
    if math.isnan(float(one.tau)):
        return ""
    return f"{float(one.tau):.2f} [{float(one.tau_low):.2f}, {float(one.tau_high):.2f}]"


def factor(log_ratio: xr.DataArray) -> str:
    """Factor by which a value changed."""
    known = float(log_ratio)
    if math.isnan(known):
        return ""
    return "infinite" if known == math.inf else f"x {math.exp(known):.3g}"


def show(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table."""
    table = Table(title=escape(title), title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def main(store: Path, out: Path) -> None:
    """Print the tables and save the figures of one sweep."""
    tree = open_run(store)
    final = final_bounds(tree)
    table = final.table()
    title = str(tree.attrs["title"])
    show(
        f"{title} Medians over {int(table.runs.max())} runs at the target loss, "
        "ranked by the gap of the error rate.",
        (
            "bound",
            "kind",
            "value",
            "gap",
            "tightness",
            "vacuous",
            "violations",
            "tau",
            "granulated",
            "CMI",
            "sign error",
            "worst",
        ),
        ranking(table),
    )
    show(
        "Falsifiers: the median factor by which the final value changes; the exponent in the "
        "number of rows; the largest share of steps along an axis with the wrong sign",
        ("bound", *CHANGES.values(), "rows^", "reversals"),
        falsifiers(tree, final),
    )
    if expected := mean_gaps(tree):
        show("Bounds on the mean gap", ("bound", "value", "stderr", "mean gap"), expected)
    figures = {"tightness": plot_tightness(tree), "ranking": plot_ranking(table, title)}
    for name, figure in figures.items():
        for path in write_figure(figure, out, name):
            print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="run folder of a sweep with study = 'bounds'")
    parser.add_argument("out", type=Path, help="folder for the figures")
    arguments = parser.parse_args()
    main(arguments.store, arguments.out)
