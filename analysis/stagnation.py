"""Does SGD stay in its stagnation sets, and what do the bounds say?"""

import argparse
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
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

#: What is told of every case of an exits run; its theory and its gap are told beside it.
OF_A_CASE = {
    "exact_exit_probability": "exit probability, exact law",
    "rare_exit_probability": "exit probability, split",
    "radius": "radius of the set",
    "mean_exit_time": "mean exit time, t = eta k",
    "delta_star": "radius of convexity, delta*",
    "stagnation_number": "stagnation number",
    "effective_rank": "effective rank of the noise",
    "participation_ratio": "participation ratio of the final iterates",
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


def of_case(one: xr.Dataset) -> list[tuple[str, str]]:
    """Rows of the table of one case of an exits run; what is not known is left out."""
    last = one.isel(look=-1)
    low, high = float(last.stay_probability_low), float(last.stay_probability_high)
    if np.isnan(low):
        rows = [("exit probability", "not counted: no start inside, or not run yet")]
    else:
        counted = f"{1 - float(last.stay_probability):.4g} in [{1 - high:.4g}, {1 - low:.4g}]"
        count = f"{one.sizes['trajectory']} trajectories"
        rows = [("exit probability, counted", f"{counted}, {count}")]
    for name, text in OF_A_CASE.items():
        if bool(one[name].notnull()):
            rows.append((text, interval(one, name)))
    for kind in one.evidence.values.tolist():
        log = float(last.log_exit_bound.sel(theory="S2", evidence=kind)) / np.log(10)
        value = "vacuous" if log >= 0 else f"exit at most 10^{log:.4g}"
        rows.append((f"upper bound S2, {kind}", "not applicable" if np.isnan(log) else value))
    if bool(one.gap.notnull().any()):
        stderr = float(one.mean_gap_stderr)
        rows.append(("generalization gap", f"{float(one.mean_gap):.4g} +- {stderr:.2g}"))
    if bool(one.log_gap_bound.notnull().any()):
        best = one.isel(bound=int(one.log_gap_bound.argmin("bound")))
        log = best.log_gap_term - best.log_gap_bound
        pays, share = log.term.values[int(log.argmax("term"))], float(np.exp(log.max()))
        value = f"{best.bound.item()} = {float(np.exp(best.log_gap_bound)):.4g}"
        rows.append(("best bound on the gap", f"{value}, {100 * share:.0f} % of it {pays}"))
    return rows


def interval(one: xr.Dataset, name: str) -> str:
    """Number with its interval, where one is stored."""
    value = f"{float(one[name]):.4g}"
    if f"{name}_low" not in one:
        return value
    return f"{value} in [{float(one[f'{name}_low']):.4g}, {float(one[f'{name}_high']):.4g}]"


def main(store: Path, out: Path) -> None:
    """Print the tables and save the figures of one run."""
    tree = open_run(store)
    if tree.attrs["study"] == "exits":
        exits = tree["exits"].to_dataset()
        tables = {name: of_case(exits.sel(case=name)) for name in exits.case.values.tolist()}
    else:
        tables = {str(store): summary(tree)}
    for title, told in tables.items():
        table = Table(title=escape(title), show_header=False, title_justify="left")
        for what, value in told:
            table.add_row(escape(what), escape(value))
        Console().print(table)
    for path in save_figures(tree, out):
        print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="run folder, or the run.zarr inside it")
    parser.add_argument("out", type=Path, help="folder for the figures")
    arguments = parser.parse_args()
    main(arguments.store, arguments.out)
