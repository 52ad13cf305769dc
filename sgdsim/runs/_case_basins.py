"""Basins of a case: where the final iterates descend to, and how many minima that makes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.ensemble import NEVER
from sgdsim.problems import AbstractWells, Network, cast
from sgdsim.runs._case_result import CaseResult
from sgdsim.stagnation import cluster_basins, quench

#: Distance, of parameters on a landscape and of outputs else, that tells two minima apart.
_TOLERANCE = 1e-3
_GRADIENT = 1e-7


def basin_values(result: CaseResult, quenches: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Follow the gradient flow of the population risk from final iterates, and count minima.

    Returns
    -------
    values
        Variables of ``/exits`` by name; empty where the minima form one known set.
    sentences
        How many basins there are, and what has not been seen, by topic.
    """
    known, landscape = result.bench.known, result.bench.landscape
    values = _positions(result)
    network = isinstance(result.bench.centre, Network)
    if not quenches or not (network or isinstance(landscape, AbstractWells)):
        return values, {"no quench": "the minima are one known set, or none was asked for"}
    chosen = np.flatnonzero(np.asarray(result.track.diverged_step) == NEVER)[:quenches]
    if not chosen.size:
        return values, {"no quench": "every trajectory diverged"}
    starts = cast(jax.tree.map(lambda a: jnp.asarray(a[chosen]), result.theta), jnp.float64)
    found = quench(known.population, starts, tolerance=_GRADIENT)
    good = np.asarray(found.is_minimum)
    labels = np.full(len(result.exits), -1, np.int32)
    if not good.any():
        return values, {"basins": f"no quench ended in a minimum: {found.reason[0]}"}
    ends = jax.tree.map(lambda a: jnp.asarray(a)[good], found.theta)
    if network:
        inputs = known.training.data["inputs"]
        outputs = np.asarray(jax.lax.map(lambda one: one(inputs), ends))
        census = cluster_basins(np.asarray(found.risk)[good], _TOLERANCE, outputs=outputs)
    else:
        points = np.asarray(ends)
        census = cluster_basins(np.asarray(found.risk)[good], _TOLERANCE, parameters=points)
        quenched = np.full(values["final_position"].shape, np.nan)
        quenched[chosen[good]] = points
        values["quenched_position"] = quenched
    labels[chosen[good]] = census.labels
    values |= {"basin": labels, "basins": census.number, "unseen_basins": census.unseen_mass}
    lost = "" if good.all() else f" {int((~good).sum())} quenches ended in no minimum."
    return values, {"basins": census.sentence + lost}


def _positions(result: CaseResult) -> dict[str, Any]:
    """Give the final iterates on a landscape."""
    if isinstance(result.bench.centre, Network):
        return {}
    return {"final_position": np.asarray(result.theta, np.float64)}
