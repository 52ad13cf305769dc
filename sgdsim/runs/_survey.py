"""Who computes a sweep: how many workers, with how much memory, and whether they give the same."""

import math
import os
from typing import Any, NamedTuple

import jax

from sgdsim.ensemble import memory_budget
from sgdsim.runs._connection import ClusterError, local_workers, reach_cluster
from sgdsim.runs._provenance import provenance
from sgdsim.runs._session import differences, layout_of, session
from sgdsim.scenario import Scenario
from sgdsim.store import Location, is_remote


class Workers(NamedTuple):
    """Who computes the batches of a sweep.

    Attributes
    ----------
    slots
        Batches that are computed at a time.
    budget
        Bytes that a batch may take.
    """

    slots: int
    budget: int


def survey(cluster: str | None, scenario: Scenario, folder: Location | None = None) -> Workers:
    """Learn what the workers are, before anything is written.

    Parameters
    ----------
    cluster
        As ``check_cluster`` has accepted it.
    scenario
        What they are to compute.
    folder
        Run folder, if they are to write there.

    Raises
    ------
    ClusterError
        If nobody answers, or a worker could not give what this process gives.
    """
    if cluster is None:
        return Workers(1, memory_budget())
    count = local_workers(cluster)
    if count is not None:
        _require_divisible(cluster, scenario)
        return Workers(count, memory_budget(count))
    with reach_cluster(cluster) as client:
        place = None if folder is None or is_remote(folder) else os.path.abspath(str(folder))
        found: Any = client.run(_describe, scenario.canonical_json(), place)
        known: Any = client.scheduler_info(n_workers=-1)
    layout, threads, budget = layout_of(scenario), 0, math.inf
    for address, (attrs, free, sees_folder) in found.items():
        if not sees_folder:
            raise ClusterError(
                f"the worker {address} does not see {place}; give --out a folder that all machines "
                "share, or a URL."
            )
        for name, (there, here) in differences(attrs, layout).items():
            raise ClusterError(
                f"the worker {address} has {name} = {there}, here it is {here}, so that results "
                "would differ; give all machines the same environment, or start from one of theirs."
            )
        worker = known["workers"][address]
        limit = worker["memory_limit"] / 2 or math.inf  # beyond its limit Dask kills a worker
        threads += worker["nthreads"]
        budget = min(budget, min(free, limit) / worker["nthreads"])
    return Workers(threads, int(budget))


def _require_divisible(cluster: str, scenario: Scenario) -> None:
    """Refuse to divide devices among processes where the results depend on their number."""
    if jax.default_backend() != "cpu":
        raise ClusterError(
            f"{cluster} divides the cores of this machine, but its devices are "
            f"{jax.devices()[0].device_kind}s, of which one process uses all; leave --cluster away."
        )
    if layout_of(scenario).mapping == "vmap" and scenario.compute.devices == "auto":
        raise ClusterError(
            f"with compute.mapping = 'vmap' the last digits depend on the number of devices, which "
            f"{cluster} divides among processes; set compute.devices=1 or compute.mapping=map."
        )


def _describe(scenario: str, folder: str | None) -> tuple[dict[str, Any], int, bool]:
    """Tell what decides the last bits on a worker, its memory, and whether it sees the folder."""
    loaded = Scenario.from_json(scenario)
    with session(loaded):
        attrs = provenance(layout_of(loaded))
        return attrs, memory_budget(), folder is None or os.path.isdir(folder)
