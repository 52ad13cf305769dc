"""Is a run at the edge of stability? Sharpness against threshold of every process."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.plotting import (
    mean_and_error,
    number_text,
    plot_break_even,
    plot_phase_diagram,
    plot_predicted_loss,
    plot_process_distances,
    plot_sharpness,
    plot_sharpness_ratios,
    plot_spectrum,
    plot_sweep,
    write_figure,
)
from sgdsim.store import EDGE_REASONS, EDGE_STATES, STATUSES, open_run

COLUMNS = (
    "process",
    "eta",
    "threshold",
    "late ratio",
    "batch ratio",
    "largest",
    "entry step",
    "break-even",
    "state",
    "why",
)
Draw = Callable[[xr.DataTree], Figure | None]
#: Figures of a run, and why one may be missing.
OF_A_RUN: dict[str, tuple[Draw, str]] = {
    "ratios": (plot_sharpness_ratios, "no process has both a sharpness and a threshold"),
    "spectrum": (plot_spectrum, "fewer than two eigenvalues were recorded"),
    "distances": (plot_process_distances, "no distance between processes was estimated"),
    "predicted_loss": (plot_predicted_loss, "no flow predicts a loss"),
    "break_even": (
        plot_break_even,
        "no two processes of one kind differ in learning rate or batch size alone",
    ),
}
#: The same of a sweep.
OF_A_SWEEP: dict[str, tuple[Draw, str]] = {
    "phase_diagram": (plot_phase_diagram, "the sweep has a single axis, or no point is done"),
    "break_even": (plot_break_even, "neither learning rate nor batch size changes"),
    "sweep": (plot_sweep, "no point has a number"),
}


def row(one: xr.Dataset, eta: float, formula: str = "") -> list[str]:
    """Cells of the table for one process: means and medians over its trajectories."""
    return [
        str(one["process"].values),
        f"{eta:g}",
        threshold(one["threshold"].values, formula),
        with_error(one["late_ratio"].values, one["late_ratio_stderr"].values),
        with_error(one["late_batch_ratio"].values, one["late_batch_ratio_stderr"].values),
        largest(one["maximum_ratio"].values),
        entry(*(one[name].values for name in ("entry_step", "entry_low", "entry_high"))),
        middle(one["break_even_step"].values),
        shares(one["final_state"].values, EDGE_STATES),
        shares(one["reason"].values, EDGE_REASONS),
    ]


def rows(tree: xr.DataTree) -> list[list[str]]:
    """One row per process of a run."""
    edge = tree["edge"].to_dataset()
    formulas = json.loads(tree.attrs.get("thresholds", "{}"))
    each = (edge.sel(process=name) for name in edge["process"].values.tolist())
    return [
        row(one, float(one["learning_rate"]), formulas.get(str(one["process"].values), ""))
        for one in each
    ]


def sweep_rows(tree: xr.DataTree) -> list[list[str]]:
    """One row per process and point of a sweep that is done, its labels in front."""
    root, edge = tree.to_dataset(), tree["edge"].to_dataset()
    # A sweep over the learning rate takes its name.
    rate = "process_learning_rate" if "process_learning_rate" in edge.coords else "learning_rate"
    found = []
    for place in np.ndindex(*root["status"].shape):
        here = dict(zip(root["status"].dims, place, strict=True))
        if int(root["status"].isel(here)) != STATUSES.index("done"):
            continue
        labels = [label(root[dim].values[index]) for dim, index in here.items()]
        for name in edge["process"].values.tolist():
            one = edge.isel(here).sel(process=name)
            found.append([*labels, *row(one, float(one[rate]))])
    return found


def label(value: object) -> str:
    """One label of a sweep."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def threshold(values: np.ndarray, formula: str) -> str:
    """Threshold as a number, or as a range if it moves, with its formula."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "-"
    low, high = float(known.min()), float(known.max())
    text = number_text(low)
    if high - low > 1e-6 * high:
        text += f" to {number_text(high)}"
    return f"{text} = {formula}" if formula else text


def with_error(values: np.ndarray, errors: np.ndarray) -> str:
    """Mean over trajectories with the larger of its two standard errors, within and between."""
    mean, error = mean_and_error(values, errors)
    return f"{mean:.3f} +- {error:.1g}" if np.isfinite(mean) else "-"


def largest(values: np.ndarray) -> str:
    """Largest of what is known."""
    known = values[np.isfinite(values)]
    return f"{known.max():.3f}" if known.size else "-"


def entry(step: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Median step of entry, from the first step that is possible to the last one."""
    there = step >= 0
    if not there.any():
        return "-"
    return f"{middle(step)} ({low[there].min():,} to {high[there].max():,})"


def middle(steps: np.ndarray) -> str:
    """Median over the trajectories that have a step."""
    known = steps[steps >= 0]
    return f"{int(np.median(known)):,}" if known.size else "-"


def shares(codes: np.ndarray, names: tuple[str, ...]) -> str:
    """Meanings of a flag and, if trajectories differ, how many have each."""
    found, counts = np.unique(codes, return_counts=True)
    words = [names[code].replace("_", " ") for code in found]
    if len(words) == 1:
        return "" if words[0] == "none" else words[0]
    pairs = zip(words, counts.tolist(), strict=True)
    return ", ".join(f"{word} ({count})" for word, count in pairs if word != "none")


def show(title: str, columns: tuple[str, ...], table_rows: list[list[str]]) -> None:
    """Print a table."""
    caption = (
        "late: mean over the last quarter; ratio: sharpness over threshold; batch ratio: batch "
        "sharpness over 2/eta; largest: largest recorded ratio"
    )
    table = Table(
        title=escape(title), title_justify="left", caption=caption, caption_justify="left"
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for cells in table_rows:
        table.add_row(*map(escape, cells))
    Console().print(table)


def draw(tree: xr.DataTree, figures: dict[str, tuple[Draw, str]], out: Path) -> None:
    """Write figures, and say of each that has nothing to show why."""
    console = Console()
    for name, (make, reason) in figures.items():
        figure = make(tree)
        if figure is None:
            sentence = f"No figure {name}: {reason}."
            console.print(sentence, soft_wrap=True, highlight=False, markup=False)
            continue
        for path in write_figure(figure, out, name):
            print(path)


def file_name(number: int, process: str) -> str:
    """Name of the file of a process: its number, and what of its name a file name may hold."""
    return f"sharpness-{number}-{re.sub(r'[^A-Za-z0-9.]+', '-', process).strip('-.')}".rstrip("-")


def main(store: Path, out: Path) -> None:
    """Print the table and the sentences, save the figures of one run or sweep."""
    tree = open_run(store)
    if tree.attrs["study"] != "edge":
        raise SystemExit(f"{store} is a {tree.attrs['study']} run; give a run of the edge study.")
    title, dims = str(tree.attrs["title"]), tree.to_dataset()["status"].dims
    if dims:
        show(title, (*map(str, dims), *COLUMNS), sweep_rows(tree))
        draw(tree, OF_A_SWEEP, out)
        return
    show(title, COLUMNS, rows(tree))
    for name, sentence in json.loads(tree.attrs.get("edge_sentences", "{}")).items():
        Console().print(f"{name}: {sentence}", soft_wrap=True, highlight=False, markup=False)

    def of(process: str) -> Draw:
        return lambda tree: plot_sharpness(tree, process)

    names = tree["edge"].to_dataset()["process"].values.tolist()
    alone = {
        file_name(i, name): (of(name), f"no sharpness of {name} was measured")
        for i, name in enumerate(names)
    }
    draw(tree, alone | OF_A_RUN, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="run folder of the edge study, or of its sweep")
    parser.add_argument("out", type=Path, help="folder for the figures")
    arguments = parser.parse_args()
    main(arguments.store, arguments.out)
