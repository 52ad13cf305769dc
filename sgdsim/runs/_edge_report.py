"""The table after a run of the edge study: every process, its threshold, and what it is doing."""

import json

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.plotting import mean_and_error
from sgdsim.store import EDGE_OPERATORS, EDGE_STATES

_KINKS = (
    "note: ReLU units have no second derivative at their kinks; the Hessian is that of the pieces."
)


def print_edge(tree: xr.DataTree, console: Console) -> None:
    """Print one row per process, then a sentence on the first trajectory of each."""
    edge = tree["edge"].to_dataset()
    formulas = json.loads(tree.attrs.get("thresholds", "{}"))
    sentences = json.loads(tree.attrs.get("edge_sentences", "{}"))
    table = Table(title=escape(str(tree.attrs["title"])), title_justify="left")
    for column in (
        "process",
        "eta",
        "threshold",
        "late ratio",
        "late batch ratio",
        "entry",
        "state",
    ):
        table.add_column(column, overflow="fold")
    for name in edge["process"].values.tolist():
        one = edge.sel(process=name)
        table.add_row(
            escape(name),
            f"{float(one['learning_rate']):g}",
            escape(_threshold(one, formulas.get(name, ""))),
            with_error(one["late_ratio"], one["late_ratio_stderr"]),
            with_error(one["late_batch_ratio"], one["late_batch_ratio_stderr"]),
            _entry(one),
            _states(one),
        )
    console.print(table)
    for name, sentence in sentences.items():
        console.print(f"{name}: {sentence}", soft_wrap=True, highlight=False, markup=False)
    if '"activation":"relu"' in str(tree.attrs.get("scenario", "")):
        console.print(_KINKS, soft_wrap=True, highlight=False)


def with_error(values: xr.DataArray, stderrs: xr.DataArray) -> str:
    """Mean over trajectories with the larger of its two standard errors, within and between."""
    mean, error = mean_and_error(np.asarray(values), np.asarray(stderrs))
    return f"{mean:.3f} +- {error:.2g}" if np.isfinite(mean) else "-"


def _threshold(one: xr.Dataset, formula: str) -> str:
    values = np.asarray(one["threshold"])
    values = values[np.isfinite(values)]
    if not values.size:
        return "none"
    operator = EDGE_OPERATORS[int(one["operator"])].replace("_", " ")
    low, high = values.min(), values.max()
    number = f"{values[-1]:,.5g}" if high - low <= 1e-6 * high else f"{low:.3g} to {high:.3g}"
    return f"{number} = {formula} ({operator})" if formula else f"{number} ({operator})"


def _entry(one: xr.Dataset) -> str:
    steps = np.asarray(one["entry_step"])
    steps = np.sort(steps[steps >= 0])
    if not steps.size:
        return "-"
    if steps.size == 1:
        first = np.flatnonzero(np.asarray(one["entry_step"]) >= 0)[0]
        low, high = (int(one[name].values[first]) for name in ("entry_low", "entry_high"))
        return f"{steps[0]:,} ({low:,} to {high:,})"
    return f"{int(np.median(steps)):,} ({steps[0]:,} to {steps[-1]:,})"


def _states(one: xr.Dataset) -> str:
    """List the final states and how many trajectories have each."""
    codes, counts = np.unique(np.asarray(one["final_state"]), return_counts=True)
    total = int(counts.sum())
    names = [EDGE_STATES[code].replace("_", " ") for code in codes]
    if total == 1 or len(names) == 1:
        return names[0]
    return ", ".join(f"{name} ({n} of {total})" for name, n in zip(names, counts, strict=True))
