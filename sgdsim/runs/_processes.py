"""Processes side by side: means over trajectories, comparisons, the table after a run."""

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def mean_over_trajectories(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean over the trajectories that are not NaN, and its standard error."""
    count = values.notnull().sum("trajectory")
    mean = values.mean("trajectory").where(count > 0)
    stderr = (values.std("trajectory", ddof=1) / np.sqrt(count)).where(count > 1)
    return mean, stderr


def difference_in_stderrs(values: xr.DataArray, processes: Sequence[str]) -> xr.DataArray:
    """Mean of the second of two processes minus that of the first, in standard errors.

    The standard errors are pooled as if the ensembles were independent. Common random numbers
    make them positively correlated, which only makes the difference look smaller than it is
    where processes share noise; the paired difference would be the sharper test, but between
    real batches and Gaussian noise nothing is shared.
    """
    first, second = (mean_over_trajectories(values.sel(process=name)) for name in processes)
    return (second[0] - first[0]) / np.hypot(first[1], second[1])


def grouped_verdicts(tree: xr.DataTree) -> dict[str, str]:
    """Verdicts in words, one for all processes of a learning rate that fail at the same probes.

    They differ in the last digits only; the one with the largest gauge stands for them. All of
    them are in the attribute ``verdicts``.
    """
    dynamics = tree["dynamics"].to_dataset()
    sentences = json.loads(tree.attrs["verdicts"])
    groups: dict[tuple, list[str]] = {}
    for name in dynamics["process"].values.tolist():
        one = dynamics.sel(process=name)
        lost = int((one["status"] == 2).sum())
        key = float(one["learning_rate"]), tuple(one["sde_valid"].values.tolist()), lost
        groups.setdefault(key, []).append(name)
    gauge = dynamics["sde_gauge"].max("probe").fillna(-np.inf)
    worst = {
        ", ".join(names): max(names, key=lambda name: float(gauge.sel(process=name)))
        for names in groups.values()
    }
    return {names: sentences[name] for names, name in worst.items()}


def print_processes(tree: xr.DataTree, console: Console) -> None:
    """Print one row per process, and the verdicts."""
    dynamics = tree["dynamics"].to_dataset()
    late, stderr = mean_over_trajectories(dynamics["late_loss"])
    table = Table(title=escape(str(tree.attrs["title"])), title_justify="left")
    for column in ("process", "eta", "late mean loss", "diverged", "eta*lambda_max/2"):
        table.add_column(column)
    escapes = bool(dynamics["mean_escape_time"].notnull().any())
    if escapes:
        table.add_column("mean escape time")
    for name in dynamics["process"].values:
        one = dynamics.sel(process=name)
        gauge = float(one["sde_gauge"].max())
        row = [
            escape(str(name)),
            f"{float(one['learning_rate']):g}",
            _with_error(float(late.sel(process=name)), float(stderr.sel(process=name))),
            str(int((one["status"] == 2).sum())),
            "-" if np.isnan(gauge) else f"{gauge:.3g}",
        ]
        if escapes:
            low, high = float(one["mean_escape_time_low"]), float(one["mean_escape_time_high"])
            row.append(f"{float(one['mean_escape_time']):.4g} ({low:.4g} to {high:.4g})")
        table.add_row(*row)
    console.print(table)
    for names, sentence in grouped_verdicts(tree).items():
        console.print(f"{names}: {sentence}", soft_wrap=True, highlight=False, markup=False)


def _with_error(mean: float, stderr: float) -> str:
    """Format a mean; without trajectories there is none, with one it has no standard error."""
    if np.isnan(mean):
        return "-"
    return f"{mean:.5g}" if np.isnan(stderr) else f"{mean:.5g} +- {stderr:.2g}"
