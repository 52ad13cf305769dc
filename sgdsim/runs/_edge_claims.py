"""Quantities of the edge study that a claim may be about: functions of the dataset."""

import numpy as np
import xarray as xr

from sgdsim.scenario import EdgeClaim
from sgdsim.store import EDGE_STATES


def late_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Sharpness over threshold, between oscillations where measured, late mean."""
    return float(_one(tree, claim)["late_ratio"].mean())


def late_raw_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Sharpness at the iterates over threshold, mean as above."""
    return float(_one(tree, claim)["late_raw_ratio"].mean())


def late_batch_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Batch sharpness over its edge, mean over the last quarter and the trajectories."""
    return float(_one(tree, claim)["late_batch_ratio"].mean())


def maximum_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Largest recorded sharpness over threshold of all trajectories."""
    return float(_one(tree, claim)["maximum_ratio"].max())


def final_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Sharpness over threshold at the last record, largest over the trajectories that are left."""
    one = _one(tree, claim)
    ratio = one["sharpness"] / one["threshold"]
    last = np.flatnonzero(ratio.notnull().any("trajectory"))[-1:]
    return float(ratio.isel(step=last).where(one["status"] != 2).max())


def entry_step(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Step of entry, median over the trajectories that came to the edge."""
    steps = _one(tree, claim)["entry_step"]
    return float(steps.where(steps >= 0).median())


def at_the_edge(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share of the trajectories that end at the edge."""
    return _share(tree, claim, "at_the_edge")


def above_the_edge(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share of the trajectories that end above the edge."""
    return _share(tree, claim, "above_the_edge")


def below_the_edge(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share that ends with batch sharpness at the edge and the Hessian below it."""
    return _share(tree, claim, "below_the_edge")


def collapsed(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share of the trajectories whose sharpness has collapsed."""
    return _share(tree, claim, "collapsed")


def not_reached(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share of the trajectories that did not reach the edge."""
    return _share(tree, claim, "not_reached")


def catapulted(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share of the trajectories that were catapulted at some record."""
    state = _one(tree, claim)["state"]
    return float((state == EDGE_STATES.index("catapult")).any("step").mean())


def survived(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Share of the trajectories that did not diverge."""
    return float((_one(tree, claim)["status"] != 2).mean())


def peak_loss_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Largest recorded loss over the first one, median over the trajectories."""
    loss = _one(tree, claim)["loss"]
    return float((loss.max("step") / loss.isel(step=0)).median())


def late_loss(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Loss over the last quarter, mean over the trajectories."""
    return float(_one(tree, claim)["late_loss"].mean())


def loss_over_predicted(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Loss of the second process over the one that the first, a flow, predicts, late means."""
    flow, discrete = _two(tree, claim)
    return _late(discrete["loss"]) / _late(flow["predicted_loss"])


def batch_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Late batch sharpness of the second process over that of the first."""
    first, second = _two(tree, claim)
    return _late(second["batch_sharpness"]) / _late(first["batch_sharpness"])


def sharpness_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Late sharpness of the second process over that of the first."""
    first, second = _two(tree, claim)
    return _late(second["sharpness"]) / _late(first["sharpness"])


def loss_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Late loss of the second process over that of the first."""
    first, second = _two(tree, claim)
    return float(second["late_loss"].mean() / first["late_loss"].mean())


def distance_ratio(tree: xr.DataTree, claim: EdgeClaim) -> float:
    """Distance of the second process from the first of all, over that of the first, at the end."""
    first, second = _two(tree, claim)
    return _late(second["distance"]) / _late(first["distance"])


def _share(tree: xr.DataTree, claim: EdgeClaim, state: str) -> float:
    return float((_one(tree, claim)["final_state"] == EDGE_STATES.index(state)).mean())


def _late(values: xr.DataArray) -> float:
    """Mean over the last quarter of what was recorded, and over the trajectories."""
    known = np.flatnonzero(values.notnull().any("trajectory"))
    if not known.size:
        return float("nan")
    return float(values.isel(step=known[3 * known.size // 4 :]).mean())


def _one(tree: xr.DataTree, claim: EdgeClaim) -> xr.Dataset:
    (name,) = claim.processes
    return tree["edge"].to_dataset().sel(process=name)


def _two(tree: xr.DataTree, claim: EdgeClaim) -> tuple[xr.Dataset, xr.Dataset]:
    edge = tree["edge"].to_dataset()
    first, second = (edge.sel(process=name) for name in claim.processes)
    return first, second
