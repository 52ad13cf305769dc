"""What a reader sees after a run of the bounds study: one row per bound."""

import json
import math

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Measures are listed with the command ``sgdsim bounds``; after a run their number would hide
#: the certificates.
_SHOWN = "certificate"


def print_training(tree: xr.DataTree, console: Console) -> None:
    """Print how training ended, every certificate beside its gap, and bounds on the mean gap."""
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    console.print(
        f"{_ending(tree, bounds)}; error rate gap {_mean(bounds['zero_one_gap']):.3g}.",
        highlight=False,
    )
    table = Table(title=escape(str(tree.attrs["title"])), title_justify="left")
    for column in ("certificate", "value", "gap", "value / gap", "largest factor"):
        table.add_column(column, justify="left" if column == "certificate" else "right")
    for row in rows(bounds.sel(bound=bounds["kind"] == _SHOWN)):
        table.add_row(*row)
    console.print(table)
    print_mean_gaps(bounds, console)


def print_mean_gaps(bounds: xr.Dataset, console: Console) -> None:
    """Print the bounds on the mean gap at one probe, means over the points; nothing without one.

    The standard error of a mean over points is at most the mean of their standard errors, however
    much noise the points share.
    """
    if not bounds.sizes.get("expectation", 0):
        return
    table = Table(title="Bounds on the mean gap", title_justify="left")
    for column in ("bound", "value", "stderr", "mean gap"):
        table.add_column(column, justify="left" if column == "bound" else "right", no_wrap=True)
    for name in bounds["expectation"].values.tolist():
        one = bounds.sel(expectation=name)
        known = one["expected_gap_bound"].notnull() & one["mean_gap"].notnull()
        columns = ("expected_gap_bound", "expected_gap_bound_stderr", "mean_gap")
        means = [_mean(one[column].where(known)) for column in columns]
        cells = ["" if math.isnan(mean) else f"{mean:.3g}" for mean in means]
        table.add_row(name, cells[0] or "not applicable", *cells[1:])
    console.print(table)


def _ending(tree: xr.DataTree, bounds: xr.Dataset) -> str:
    """How many trajectories reached the target, or made all steps if there is none."""
    reached, total = int((bounds["reached"] == 1).sum()), bounds.sizes["trajectory"]
    training = json.loads(str(tree.attrs["scenario"])).get("training", {})
    if training.get("target") is not None:
        return f"{reached} of {total} trajectories reached the target loss"
    share = f"all {total}" if reached == total else f"{reached} of {total}"
    return f"{share} trajectories made all steps"


def rows(bounds: xr.Dataset) -> list[tuple[str, str, str, str, str]]:
    """Name, value, gap, tightness and largest factor of every bound, means over trajectories.

    A measure bounds nothing, so that it is neither vacuous nor so many times the gap. A value that
    is too large for a float is shown by the mean of its logarithm.
    """
    found = []
    for name in bounds["bound"].values.tolist():
        one = bounds.sel(bound=name)
        value = _mean(one["value"])
        if np.isnan(value):
            found.append((name, "not applicable", "", "", ""))
            continue
        log_value = math.nan
        if math.isinf(value) and "log_value" in one:
            log_value = _mean(one["log_value"])
        gap = _mean(one["generalization_gap"])
        ratio = note = ""
        if str(one["kind"].values) != "measure":
            ratio = _ratio(value, log_value, gap)
            note = "" if value <= 1 else "  vacuous"
        shown = "" if np.isnan(gap) else f"{gap:.3g}"
        found.append((name, _number(value, log_value) + note, shown, ratio, _largest_factor(one)))
    return found


def _number(value: float, log_value: float) -> str:
    return f"e^{log_value:.0f}" if math.isfinite(log_value) else f"{value:.3g}"


def _ratio(value: float, log_value: float, gap: float) -> str:
    if np.isnan(gap):
        return ""
    return _number(value / gap, log_value - math.log(gap)) if gap > 0 else "no ratio: gap not > 0"


def _largest_factor(one: xr.Dataset) -> str:
    if "log_factor" not in one:  # the stagnation study has none
        return ""
    factors = one["log_factor"].mean("trajectory")
    if not bool((factors.notnull() & (factors != 0)).any()):
        return ""
    largest = str(factors["factor"].values[int(factors.fillna(-np.inf).argmax("factor"))])
    return f"{largest.replace('_', ' ')} e^{float(factors.sel(factor=largest)):.1f}"


def _mean(values: xr.DataArray) -> float:
    known = values.values[~np.isnan(values.values)]
    with np.errstate(invalid="ignore"):  # infinite values of both signs have no mean
        return float(known.mean()) if known.size else math.nan
