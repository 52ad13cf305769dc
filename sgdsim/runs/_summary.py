"""The few numbers that a reader wants after a run, beside the claims."""

import math

import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.runs._output import RunPaths


def print_summary(tree: xr.DataTree, paths: RunPaths, console: Console) -> None:
    """Print minimum, noise, ball, certificates and where the files are."""
    stagnation, curvature = (tree[name].to_dataset() for name in ("stagnation", "curvature"))
    status = tree["trajectory"].to_dataset()["status"]
    eigenvalue, residual = (
        curvature[f"minimum_hessian_{name}"] for name in ("eigenvalue", "residual")
    )

    def spectrum(end: str) -> str:
        value, error = float(eigenvalue.sel(eigen=end)), float(residual.sel(eigen=end))
        return f"{value:.4g} (residual {error:.1g})"

    stay = float(stagnation["stay_probability"][-1])
    low = float(stagnation["stay_probability_low"][-1])
    high = float(stagnation["stay_probability_high"][-1])
    table = Table(title=escape(str(tree.attrs["title"])), title_justify="left", show_header=False)
    rows = {
        "gradient norm at the minimum": f"{float(curvature['minimum_gradient_norm']):.2g}",
        "smallest Hessian eigenvalue": spectrum("smallest"),
        "largest Hessian eigenvalue": spectrum("largest"),
        "noise of one step, operator norm: minimum / worst": _pair(
            stagnation, "noise_operator_norm"
        ),
        "noise of one step, trace: minimum / worst": _pair(stagnation, "noise_trace"),
        "radius of the stagnation set": f"{float(stagnation['radius']):.4g}",
        "contraction of one step": f"{float(stagnation['contraction']):.6g}",
        "stay probability": f"{stay:.4g} (interval {low:.4g} to {high:.4g})",
        "diverged trajectories": str(int((status == 2).sum())),
    }
    rows |= _convexity_rows(stagnation) | _bound_rows(tree)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(tree.attrs["stay_statement"], soft_wrap=True)
    console.print(tree.attrs["verdict"], soft_wrap=True)
    console.print(f"dataset  {paths.store}\nfigures  {paths.figures}", highlight=False)


def _pair(stagnation: xr.Dataset, name: str) -> str:
    at_minimum, worst = float(stagnation[f"{name}_at_minimum"]), float(stagnation[name])
    return f"{at_minimum:.4g} / {worst:.4g}"


def _convexity_rows(stagnation: xr.Dataset) -> dict[str, str]:
    """Smallest ratio of every condition in the ball, with the number of ratios behind it."""
    rows = {}
    for name in stagnation["condition"].values:
        at = stagnation.sel(condition=name)
        size = at["convexity_sample_size"]
        violated = (at["convexity_violation_fraction"] * size).sum()
        rows[f"smallest {name} ratio"] = (
            f"{float(at['convexity_ratio_minimum'].min()):.4g} "
            f"({int(size.sum())} sampled, {round(float(violated))} not positive)"
        )
    return rows


def _bound_rows(tree: xr.DataTree) -> dict[str, str]:
    """Each certificate at the last probe against the gap, averaged over the trajectories."""
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    last = bounds.where(bounds["value"].notnull()).mean("trajectory")
    rows = {}
    for name in last["bound"].values:
        bound = last.sel(bound=name)
        if math.isnan(float(bound["value"])):
            rows[f"certificate {name}"] = "not applicable: an assumption is violated"
            continue
        vacuous = ", vacuous" if float(bound["vacuous"]) > 0 else ""
        rows[f"certificate {name}"] = (
            f"{float(bound['value']):.4g}{vacuous}; gap {float(bound['generalization_gap']):.3g} "
            f"+- {float(bound['generalization_gap_stderr']):.2g}"
        )
    return rows
