"""Is the SDE a model of SGD here? The verdict of a dynamics run, and what was measured."""

import argparse
import json
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.plotting import plot_discrepancy, plot_validity, write_figure
from sgdsim.store import open_run


def rows(tree: xr.DataTree) -> list[list[str]]:
    """One row per process: rate, gauges, kurtosis, late loss."""
    dynamics = tree["dynamics"].to_dataset()
    table = []
    for name in dynamics["process"].values:
        one = dynamics.sel(process=name)
        table.append(
            [
                str(name),
                f"{float(one['learning_rate']):g}",
                _largest(one["sde_gauge"]),
                _largest(one["variance_ratio"]),
                _largest(one["mean_square_gauge"]),
                _largest(one["mean_square_gauge_sde"]),
                _largest(one["noise_kurtosis"]),
                _mean(one["late_loss"]),
            ]
        )
    return table


def _mean(values: xr.DataArray) -> str:
    known = np.asarray(values)[~np.isnan(np.asarray(values))]
    if known.size < 2:
        return f"{known[0]:.5g}" if known.size else "-"
    return f"{known.mean():.5g} +- {known.std(ddof=1) / known.size**0.5:.2g}"


def _largest(values: xr.DataArray) -> str:
    known = np.asarray(values)[~np.isnan(np.asarray(values))]
    return f"{known.max():.3g}" if known.size else "-"


def main(store: Path, out: Path, reference: str = "sgd") -> None:
    """Print the table and the verdicts, save the figures of one run."""
    tree = open_run(store)
    if tree.attrs["study"] != "dynamics":
        raise SystemExit(
            f"{store} is a {tree.attrs['study']} run; give a run of the dynamics study."
        )
    console = Console()
    caption = (
        "gauge: eta*lambda_max/2; var. ratio: stationary variance of SGD over that of the SDE; K: "
        "mean-square gauges, unstable from 1 on; kurtosis: excess of the noise of a batch; all at "
        "their largest"
    )
    table = Table(
        title=escape(str(tree.attrs["title"])),
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    for column in (
        "process",
        "eta",
        "gauge",
        "var. ratio",
        "K SGD",
        "K SDE",
        "kurtosis",
        "late mean loss",
    ):
        table.add_column(column)
    for row in rows(tree):
        table.add_row(*map(escape, row))
    console.print(table)
    for name, sentence in json.loads(tree.attrs["verdicts"]).items():
        console.print(f"{name}: {sentence}", soft_wrap=True, highlight=False, markup=False)
    figures = {"validity": plot_validity(tree), "discrepancy": plot_discrepancy(tree, reference)}
    for name, figure in figures.items():
        for path in write_figure(figure, out, name):
            print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="run folder, or the run.zarr inside it")
    parser.add_argument("out", type=Path, help="folder for the figures")
    parser.add_argument(
        "--reference", default="sgd", help="kind of dynamics to compare with (default sgd)"
    )
    arguments = parser.parse_args()
    main(arguments.store, arguments.out, arguments.reference)
