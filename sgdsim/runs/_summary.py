"""The few numbers that a reader wants after a run, beside the claims."""

import math

import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_summary(tree: xr.DataTree, console: Console) -> None:
    """Print minimum, noise, ball, exit bounds and certificates."""
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
        "stay probability": f"{stay:.4g} (interval {low:.4g} to {high:.4g})",
        "diverged trajectories": str(int((status == 2).sum())),
    }
    rows |= _convexity_rows(stagnation) | _motion_rows(tree) | _bound_rows(tree)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(_evidence_table(stagnation))
    for name in ("stay", "convexity", "basin", "combined"):
        console.print(tree.attrs[f"{name}_statement"], soft_wrap=True, markup=False)
    console.print(tree.attrs["verdict"], soft_wrap=True)


def _pair(stagnation: xr.Dataset, name: str) -> str:
    at_minimum, worst = float(stagnation[f"{name}_at_minimum"]), float(stagnation[name])
    return f"{at_minimum:.4g} / {worst:.4g}"


def _evidence_table(stagnation: xr.Dataset) -> Table:
    """Constants and exit bounds side by side: proved, and sampled with intervals."""
    table = Table(title="Exit within the run, by theorem S2", title_justify="left")
    table.add_column("", overflow="fold")
    kinds = [str(kind) for kind in stagnation["evidence"].values]
    for kind in kinds:
        table.add_column(kind, overflow="fold")
    for name in stagnation["constant"].values:
        at = stagnation.sel(constant=name)
        table.add_row(name, *(_constant(at.sel(evidence=kind)) for kind in kinds))
    bounds = {"certificate": "certified_log_exit_bound", "plug-in": "log_exit_bound"}
    last = stagnation.sel(theory="S2").isel(step=-1)
    table.add_row("bound on the exit", *(_probability(float(last[bounds[kind]])) for kind in kinds))
    times = (float(stagnation["mean_exit_time_bound"].sel(evidence=kind)) for kind in kinds)
    table.add_row("bound on the mean exit time", *("-" if t != t else f"{t:.4g}" for t in times))
    radius = float(stagnation["certified_radius"])
    promised = "-" if math.isnan(radius) else f"{radius:.4g}"
    table.add_row("radius certified for the target probability", promised, "")
    return table


def _constant(one: xr.Dataset) -> str:
    size, value = int(one["constant_sample_size"]), float(one["constant_value"])
    if size < 0:
        return "-"
    if size == 0:
        return f"{value:.6g} (proved)"
    return f"{value:.6g} (to {float(one['constant_high']):.6g}, {size} points)"


def _probability(log_bound: float) -> str:
    if math.isnan(log_bound):
        return "-"
    number = f"{math.exp(log_bound):.3g}" if abs(log_bound) < 700 else f"exp({log_bound:.3g})"
    return f"{number} (vacuous)" if log_bound >= 0 else number


def _motion_rows(tree: xr.DataTree) -> dict[str, str]:
    """How low-dimensional the final iterates lie, and how convex their surroundings are."""
    curvature, stagnation = (tree[name].to_dataset() for name in ("curvature", "stagnation"))
    last = curvature.isel(probe=-1)
    count = int(curvature["parameters"])
    ratio, low, high = (float(last[f"participation_ratio{end}"]) for end in ("", "_low", "_high"))
    number = float(stagnation["stagnation_number"])
    reach, spread = (float(stagnation[name]) for name in ("delta_star", "stationary_radius"))
    sign = "=" if int(stagnation["delta_star_bounded"]) == 1 else ">="
    return {
        "participation ratio of the final iterates": (
            f"{ratio:.3g} (interval {low:.3g} to {high:.3g}) of {count} parameters"
        ),
        "displacement in the sharpest directions": (
            f"{float(last['top_space_energy']):.3g} +- "
            f"{float(last['top_space_energy_stderr']):.1g} "
            f"(isotropic: {float(curvature['top_space_energy_null']):.2g})"
        ),
        "overlap of sharpest and noisiest directions": (
            f"{float(curvature['hessian_noise_overlap']):.3g} "
            f"(random: {float(curvature['hessian_noise_overlap_null']):.2g})"
        ),
        "stagnation number": (
            f"{sign} {number:.3g}: delta* {sign} {reach:.4g} over stationary radius {spread:.4g}"
        ),
    }


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
