"""A sweep from its plan to the finished dataset, whoever computes the batches."""

import functools
import json
import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim._errors import RunInterrupted, StoreError
from sgdsim.runs._batch import Task, TaskResult, run_task
from sgdsim.runs._claims import evaluate_sweep_claims
from sgdsim.runs._cluster import ClusterError, run_tasks
from sgdsim.runs._complete import complete_run
from sgdsim.runs._control import RunControl
from sgdsim.runs._failures import failures, print_failures, reason_of, record_failure
from sgdsim.runs._output import RunPaths
from sgdsim.runs._plan import Plan, make_plan, print_plan
from sgdsim.runs._progress import Reporter
from sgdsim.runs._studies import check_axes, points_of, shared_dimensions
from sgdsim.runs._survey import Workers
from sgdsim.scenario import Scenario, sweep_dimensions
from sgdsim.store import STATUSES, RunStore, is_remote, open_run

_PENDING = STATUSES.index("pending")


def start_sweep(scenario: Scenario, workers: Workers, reporter: Reporter) -> Plan:
    """Plan a sweep and print the plan; nothing is written.

    Raises
    ------
    ScenarioError
        If a point cannot be built, or the points do not fit into one dataset.
    """
    check_axes(scenario)
    shared_dimensions(scenario)
    with reporter.bar("planning", 0, len(points_of(scenario)), "points"):
        plan = make_plan(scenario, workers.budget, workers.slots, reporter.reached)
    print_plan(scenario, plan, reporter.console)
    return plan


def carry_on_sweep(
    scenario: Scenario,
    store: RunStore,
    cluster: str | None,
    workers: Workers,
    control: RunControl,
) -> None:
    """Run the batches that are not done, then finish the dataset.

    Raises
    ------
    StoreError
        If the disk refuses; what was computed is kept.
    RunInterrupted
        If a signal came; ``resume`` continues.
    """
    reporter, paths = control.reporter, control.paths
    # Workers of an earlier session that still compute see by it that nobody waits for them.
    store.set_attrs({"session": uuid.uuid4().hex})
    tasks = list(_open_tasks(paths, store, workers))
    progress = _Progress(store, tasks, control)
    function = run_task if cluster else functools.partial(run_task, reached=progress.reached)
    with reporter.bar(scenario.name, progress.done, store.points, "points"):
        run_tasks(function, tasks, cluster, progress.finished, stop=control.check)
    if left := int((store.statuses() == _PENDING).sum()):
        raise StoreError(
            f"{left:,} points were not computed; 'sgdsim resume {paths.folder}' does it."
        )
    store.set_attrs({"wall_seconds": control.seconds})
    evaluate_sweep_claims(open_run(paths.partial), scenario, store)
    tree = complete_run(store, control)
    print_sweep(tree, scenario, store, reporter.console)
    reporter.files(paths)


def print_sweep(tree: xr.DataTree, scenario: Scenario, store: RunStore, console: Console) -> None:
    """Print how many points are done, what failed, at how many points each claim holds."""
    failed = failures(store, scenario)
    total, done = store.points, int((store.statuses() == STATUSES.index("done")).sum())
    console.print(
        f"{done:,} of {total:,} points done, {len(failed):,} failed.",
        highlight=False,
    )
    print_failures(failed, RunPaths(store.path.parent), console)
    claims = tree["claims"].to_dataset()
    if not claims.sizes["claim"]:
        return
    table = Table(title="Claims", title_justify="left", show_lines=True)
    table.add_column("claim", overflow="fold")
    table.add_column("measured", no_wrap=True)
    table.add_column("holds at", no_wrap=True)
    axes = [axis.name for axis in sweep_dimensions(scenario)]
    holds = (claims["holds"] == 1).sum(axes)
    low, high = claims["measured"].min(axes), claims["measured"].max(axes)
    for i, text in enumerate(claims["text"].values):
        ends = dict.fromkeys(f"{float(end[i]):.3g}" for end in (low, high))
        table.add_row(escape(str(text)), " to ".join(ends), f"{int(holds[i]):,} of {total:,}")
    console.print(table)


class _Progress:
    """What the executor tells: the bar, the estimate, failures of whole tasks."""

    def __init__(self, store: RunStore, tasks: list[Task], control: RunControl):
        self._store, self._tasks, self._control = store, tasks, control
        left = {number for task in tasks for number in task.points}
        self._shares = {n: float(n not in left) for n in range(store.points)}
        self._ended = 0

    @property
    def done(self) -> float:
        """Points that are done; one in progress counts in part."""
        return sum(self._shares.values())

    def reached(self, point: int, share: float) -> None:
        """Hear how far a point has come."""
        self._shares[point] = share
        self._control.reporter.reached(self.done)
        self._control.check()

    def finished(self, task: Task, outcome: Any) -> None:
        """Hear what became of a task; what concerns the whole run ends it."""
        if isinstance(outcome, StoreError | RunInterrupted | ClusterError):
            raise outcome
        if isinstance(outcome, Exception):
            for number in task.points:
                part = self._store.point(number)
                if part.status() == "pending":
                    record_failure(part, reason_of(outcome))
        elif isinstance(outcome, TaskResult) and self._ended == 0 and len(self._tasks) > 1:
            self._estimate(outcome)
        self._ended += 1
        self._store.set_attrs({"wall_seconds": self._control.seconds})
        self._shares |= dict.fromkeys(task.points, 1.0)
        self._control.reporter.reached(self.done)

    def _estimate(self, first: TaskResult) -> None:
        left = len(self._tasks) - 1
        seconds = first.seconds * left
        self._control.reporter.say(
            f"the first batch took {first.seconds:.3g} s, compilation included; the other {left:,} "
            f"take about {seconds:.3g} s of one worker."
        )


def _open_tasks(paths: RunPaths, store: RunStore, workers: Workers) -> Iterator[Task]:
    """Batches of the plan, without the points that are done or have failed.

    Under ``map`` a point does not depend on what it is computed with, so that what is left is cut
    for the workers that are there now; under ``vmap`` the size of a batch stays as planned.
    """
    statuses, session = store.statuses(), str(store.attrs["session"])
    place = paths.folder if is_remote(paths.folder) else Path(os.path.abspath(str(paths.folder)))
    for points, planned in json.loads(str(store.attrs["plan"])):
        left = [number for number in points if statuses[number] == _PENDING]
        size = planned
        if store.attrs["mapping"] == "map":
            size = max(1, min(planned, math.ceil(len(left) / workers.slots)))
        for first in range(0, len(left), size):
            yield Task(place, tuple(left[first : first + size]), size, session)
