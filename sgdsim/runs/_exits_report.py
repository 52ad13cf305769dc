"""The table of an exits study on the terminal."""

import json

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.store import EVIDENCE

#: What is said on the terminal; the rest of the sentences is in the dataset.
_TOLD = ("outside", "unreachable", "split", "no splitting", "gap", "no gap")


def print_cases(tree: xr.DataTree, console: Console) -> None:
    """Print one row per case, and what was found beside it."""
    exits = tree["exits"].to_dataset()
    table = Table(title=escape(str(tree.attrs["title"])), title_justify="left")
    table.add_column("case", overflow="fold")
    for column in ("left", "exact", "split", *(f"S2, {kind}" for kind in EVIDENCE)):
        table.add_column(column, justify="right", no_wrap=True)
    for name in exits["case"].values.tolist():
        one = exits.sel(case=name)
        table.add_row(
            escape(name),
            _number(1 - float(one["stay_probability"][-1])),
            _number(float(one["exact_exit_probability"])),
            _number(float(one["rare_exit_probability"])),
            *(_bound(one, kind) for kind in EVIDENCE),
        )
    console.print(table)
    console.print(
        "Probability of an exit within the run: counted, by the exact law, by importance "
        "splitting, and bounded by theorem S2 (above 1 it says nothing).",
        highlight=False,
    )
    for number, name in enumerate(exits["case"].values.tolist()):
        for topic, sentence in case_sentences(tree, number).items():
            if topic in _TOLD and sentence:
                console.print(f"{name}: {sentence}", soft_wrap=True, highlight=False, markup=False)


def case_sentences(tree: xr.DataTree, number: int) -> dict[str, str]:
    """Read what was said about a case in words, by topic."""
    return json.loads(tree.attrs[f"statement_{number}"])


def _bound(one: xr.Dataset, kind: str) -> str:
    log = float(one["log_exit_bound"].sel(evidence=kind, theory="S2")[-1])
    if np.isnan(log):
        return "-"
    return _number(np.exp(log)) if log < 700 else f"1e{log / np.log(10):.0f}"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"
