"""Does SGD stay in the stagnation set, and what do the bounds say?"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from sgdsim.plotting import save_figures
from sgdsim.store import open_run

CONSTANTS = {
    "radius": "radius of the stagnation set",
    "start_distance": "distance at the start",
    "contraction": "contraction in one step, q",
    "rsi": "restricted secant constant, mu",
    "growth": "growth of the gradient, beta",
    "noise_operator_norm": "largest noise variance in one direction",
    "noise_trace": "total noise variance",
    "effective_rank": "effective rank of the noise",
    "gradient_deviation": "gradient deviation at the minimum",
    "hessian_deviation": "Hessian deviation on the set",
}


def summary(tree: xr.DataTree) -> list[tuple[str, str]]:
    """Rows of the table: what, and its value."""
    data = tree["stagnation"].to_dataset()
    rows = [(text, f"{float(data[name]):.4g}") for name, text in CONSTANTS.items()]
    last = data.isel(step=-1)
    step = int(last.step)
    low, high = float(last.stay_probability_low), float(last.stay_probability_high)
    rows.append(
        (
            f"stay probability up to step {step}",
            f"{float(last.stay_probability):.4g} in [{low:.4g}, {high:.4g}], "
            f"{data.sizes['trajectory']} trajectories",
        )
    )
    for theory in data.theory.values.tolist()[::-1]:
        bound = float(last.stay_lower_bound.sel(theory=theory))
        exit_bound = float(last.log_exit_bound.sel(theory=theory)) / np.log(10)
        if np.isnan(bound):
            value = "not applicable"
        elif bound <= 0:
            value = "vacuous"
        else:
            value = f"{bound:.6g} (exit at most 10^{exit_bound:.3g})"
        rows.append((f"lower bound {theory}", value))
    return rows + tightness(tree)


def tightness(tree: xr.DataTree) -> list[tuple[str, str]]:
    """One row per certificate: tightness at the last probe, mean over trajectories."""
    data = tree["bounds"].to_dataset().isel(probe=-1)
    rows = []
    for name in data.bound.values[data.kind.values == "certificate"].tolist():
        one = data.sel(bound=name)
        if bool((one.assumption_violated == 1).any()):
            value = "not applicable: an assumption is violated"
        elif bool(one.value.isnull().all()):
            value = "no trajectory left"
        elif bool(one.tightness.isnull().all()):
            value = "no ratio: the measured gap is not positive"
        else:
            word = ", vacuous" if bool((one.vacuous == 1).any()) else ""
            value = f"{float(one.tightness.mean()):.4g} times the gap{word}"
        rows.append((f"certificate {name}", value))
    return rows


def main(store: Path, out: Path) -> None:
    """Print the table and save the figures of one run."""
    tree = open_run(store)
    table = Table(title=str(store), show_header=False, title_justify="left")
    for what, value in summary(tree):
        table.add_row(what, value)
    Console().print(table)
    for path in save_figures(tree, out):
        print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="run folder, or the run.zarr inside it")
    parser.add_argument("out", type=Path, help="folder for the figures")
    arguments = parser.parse_args()
    main(arguments.store, arguments.out)
