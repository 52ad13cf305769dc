"""How far a run is, from its dataset alone."""

import numpy as np
from rich.console import Console

from sgdsim.runs._again import stored_scenario
from sgdsim.runs._failures import failures, print_failures
from sgdsim.runs._lock import who_holds
from sgdsim.runs._output import find_run
from sgdsim.store import STATUSES, RunStore


def print_status(place: str) -> None:
    """Print whether a run goes on, is finished or was interrupted, and what its points are.

    Parameters
    ----------
    place
        Run folder or its URL.

    Raises
    ------
    StoreError
        If there is no run, or it is damaged.
    """
    paths = find_run(place)
    store = RunStore.open(paths.dataset)
    scenario = stored_scenario(store)
    console = Console()
    owner = who_holds(paths.folder)
    if paths.finished:
        state = "finished"
    elif owner:
        state = (
            f"going on (process {owner['process']} on {owner['host']}, since {owner['started']})"
        )
    else:
        state = f"interrupted; continue with: sgdsim resume {paths.folder}"
    console.print(f"{scenario.name}: {state}", soft_wrap=True, highlight=False, markup=False)
    counts = np.bincount(store.statuses(), minlength=len(STATUSES))
    told = ", ".join(f"{count:,} {name}" for name, count in zip(STATUSES, counts, strict=True))
    console.print(f"points: {told}, of {store.points:,}", highlight=False)
    print_failures(failures(store, scenario), paths, console)


def failed_points(place: str) -> int:
    """Count the failed points of a finished run."""
    store = RunStore.open(find_run(place).store)
    return int((store.statuses() == STATUSES.index("failed")).sum())
