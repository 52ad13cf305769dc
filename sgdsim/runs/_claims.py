"""Claims: a named quantity is computed from the dataset and compared with what was claimed."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from sgdsim.scenario import Claim


def stay_bound_excess(tree: xr.DataTree) -> float:
    """Largest amount by which S2 exceeds the upper Clopper-Pearson limit of staying."""
    stagnation = tree["stagnation"].to_dataset()
    excess = stagnation["stay_lower_bound"].sel(theory="S2") - stagnation["stay_probability_high"]
    return _largest(excess.where(stagnation["step"] > 0))  # at step 0 both are one


def exit_bound(tree: xr.DataTree) -> float:
    """S2 bound on the probability of an exit within the whole run."""
    log_bound = tree["stagnation"].to_dataset()["log_exit_bound"].sel(theory="S2")
    return float(np.exp(log_bound.isel(step=-1)))


def distance_to_lyapunov_ratio(tree: xr.DataTree) -> float:
    """Mean squared distance over the second half, relative to the linearised dynamics."""
    stagnation = tree["stagnation"].to_dataset()
    late = stagnation["step"] > int(stagnation["step"][-1]) // 2
    expected = stagnation["linearised_mean_squared_distance"].where(late).mean()
    return float(stagnation["mean_squared_distance"].mean() / expected)


def certificate_slack(tree: xr.DataTree) -> float:
    """Smallest difference between a certificate and the gap that it bounds."""
    bounds = tree["bounds"].to_dataset()
    certified = bounds["kind"] == "certificate"
    slack = (bounds["value"] - bounds["generalization_gap"]).where(certified)
    return -_largest(-slack)


#: Every name that the ``quantity`` of a claim may have.
QUANTITIES: dict[str, Callable[[xr.DataTree], float]] = {
    function.__name__: function
    for function in (
        stay_bound_excess,
        exit_bound,
        distance_to_lyapunov_ratio,
        certificate_slack,
    )
}


def evaluate_claims(tree: xr.DataTree, claims: Sequence[Claim]) -> dict[str, np.ndarray]:
    """Measure every claim; one that cannot be measured (NaN) does not hold.

    Returns
    -------
    dict
        Variables of ``/claims``, each of shape ``(claim,)``.
    """
    measured = np.array([QUANTITIES[claim.quantity](tree) for claim in claims], dtype=np.float64)
    low = np.array([-math.inf if c.at_least is None else c.at_least for c in claims], np.float64)
    high = np.array([math.inf if c.at_most is None else c.at_most for c in claims], np.float64)
    holds = (measured >= low) & (measured <= high)
    return {
        "measured": measured,
        "expected_low": low,
        "expected_high": high,
        "holds": holds.astype(np.int8),
    }


def print_claims(tree: xr.DataTree, console: Console) -> None:
    """Print the table *claim, expected, measured, holds*."""
    claims = tree["claims"].to_dataset()
    table = Table(title="Claims", title_justify="left", show_lines=True)
    table.add_column("claim", overflow="fold")
    for name in ("expected", "measured", "holds"):
        table.add_column(name, no_wrap=True)
    for i in range(claims.sizes.get("claim", 0)):
        row = claims.isel(claim=i)
        low, high = float(row["expected_low"]), float(row["expected_high"])
        measured = float(row["measured"])
        table.add_row(
            str(row["text"].item()),
            _range(low, high),
            "not measured" if math.isnan(measured) else f"{measured:.4g}",
            "[green]yes[/green]" if int(row["holds"]) == 1 else "[red]no[/red]",
        )
    console.print(table)


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return f"<= {high:g}"
    return f">= {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def _largest(values: xr.DataArray) -> float:
    """Largest value, NaN if there is none."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.max()) if known.size else math.nan
