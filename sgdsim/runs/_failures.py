"""Points of a sweep that failed: their reasons, and how they get another try."""

from collections import Counter

import numpy as np
from rich.console import Console

from sgdsim._errors import StoreError
from sgdsim.runs._output import RunPaths
from sgdsim.scenario import Scenario, point_label
from sgdsim.store import STATUSES, PointStore, RunStore

_FAILED = STATUSES.index("failed")


def reason_of(error: Exception) -> str:
    """Say in one line why a point failed."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def record_failure(part: PointStore, reason: str) -> None:
    """Mark a point as failed; it keeps the reason."""
    part.set_attrs({"failure": reason})
    part.set_status("failed")


def reopen_failed(paths: RunPaths, store: RunStore) -> None:
    """Make the failed points of a run pending again; a finished dataset becomes unfinished.

    Raises
    ------
    StoreError
        If the run is finished and has none.
    """
    failed = np.flatnonzero(store.statuses() == _FAILED)
    if paths.finished:
        if not failed.size:
            raise StoreError(f"no point of {paths.folder} has failed; there is nothing to retry.")
        store.reopen(paths.partial)
    for number in failed.tolist():
        store.point(number).set_status("pending")


def failures(store: RunStore, scenario: Scenario) -> dict[str, str]:
    """Failed points by label, with their reasons."""
    return {
        f"{number} ({point_label(scenario, number)})": str(
            store.point(number).attrs.get("failure", "the reason was not recorded")
        )
        for number in np.flatnonzero(store.statuses() == _FAILED).tolist()
    }


def print_failures(failed: dict[str, str], paths: RunPaths, console: Console) -> None:
    """List failed points, the most frequent reasons first, and say how to retry them."""
    if not failed:
        return
    count = Counter(failed.values())
    for reason, number in count.most_common():
        labels = [label for label, why in failed.items() if why == reason]
        shown = "; ".join(labels[:3]) + ("; ..." if number > 3 else "")
        console.print(
            f"failed: {number} point{'s' * (number > 1)}: {shown}: {reason}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    console.print(
        f"try again with: sgdsim resume --retry-failed {paths.folder}",
        soft_wrap=True,
        highlight=False,
    )
