"""Claims: a named quantity is computed from the dataset and compared with what was claimed."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim.runs import (
    _bounds_claims as bounds,
    _dynamics_claims as dynamics,
    _edge_claims as edge,
    _exits_claims as exits,
    _stagnation_claims as stagnation,
)
from sgdsim.scenario import KNOWN_QUANTITIES, QUANTITIES_OF_A_SWEEP, Claim, Scenario
from sgdsim.store import STATUSES, RunStore

#: Modules of quantities by study; a quantity of a claim is the function of that name.
_MODULES = {
    "stagnation": stagnation,
    "dynamics": dynamics,
    "exits": exits,
    "bounds": bounds,
    "edge": edge,
}
#: Every name that the ``quantity`` of a claim may have, by study.
QUANTITIES: dict[str, dict[str, Callable[..., float]]] = {
    study: {name: getattr(_MODULES[study], name) for name in names}
    for study, names in KNOWN_QUANTITIES.items()
}


def evaluate_claims(tree: xr.DataTree, claims: Sequence[Claim]) -> dict[str, np.ndarray]:
    """Measure every claim; one that cannot be measured (NaN) does not hold.

    Quantities that only a whole sweep has are not measured here.

    Returns
    -------
    dict
        Variables of ``/claims``, each of shape ``(claim,)``.
    """
    known = QUANTITIES[str(tree.attrs["study"])]
    measured = [
        math.nan if claim.quantity in QUANTITIES_OF_A_SWEEP else known[claim.quantity](tree, claim)
        for claim in claims
    ]
    return compared(np.array(measured, np.float64), claims)


def evaluate_sweep_claims(tree: xr.DataTree, scenario: Scenario, store: RunStore) -> None:
    """Measure the claims that are about a sweep as a whole, and write them into every point.

    Parameters
    ----------
    tree
        All points.
    scenario
        The sweep.
    store
        Where they are.
    """
    wanted = [claim.quantity in QUANTITIES_OF_A_SWEEP for claim in scenario.claim]
    if not any(wanted):
        return
    known = QUANTITIES[scenario.study]
    whole = [
        _of_sweep(known[claim.quantity], tree, claim) if of_sweep else math.nan
        for claim, of_sweep in zip(scenario.claim, wanted, strict=True)
    ]
    each = tree["claims"].to_dataset()["measured"].values.reshape(store.points, -1)
    done = store.statuses().ravel() == STATUSES.index("done")
    for number in np.flatnonzero(done).tolist():
        measured = np.where(wanted, whole, each[number])
        store.point(number).write("claims", compared(measured, scenario.claim))


def _of_sweep(quantity: Callable[..., float], tree: xr.DataTree, claim: Claim) -> float:
    """Measure a quantity of a sweep; NaN if its axes or its runs do not suffice for it."""
    try:
        return quantity(tree, claim)
    except ValueError:
        return math.nan


def compared(measured: np.ndarray, claims: Sequence[Claim]) -> dict[str, np.ndarray]:
    """Compare measured values with what was claimed.

    Parameters
    ----------
    measured
        Shape ``(claim,)``.
    claims
        As many.
    """
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
    if not claims.sizes["claim"]:
        return
    table = Table(title="Claims", title_justify="left", show_lines=True)
    table.add_column("claim", overflow="fold")
    for name in ("expected", "measured", "holds"):
        table.add_column(name, no_wrap=True)
    for i in range(claims.sizes["claim"]):
        row = claims.isel(claim=i)
        low, high = float(row["expected_low"]), float(row["expected_high"])
        measured = float(row["measured"])
        table.add_row(
            escape(str(row["text"].item())),
            _range(low, high),
            "not measured" if math.isnan(measured) else f"{measured:.4g}",
            "[green]yes[/green]" if int(row["holds"]) == 1 else "[red]no[/red]",
        )
    console.print(table)


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return f"<= {high:g}"
    return f">= {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
