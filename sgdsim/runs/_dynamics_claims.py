"""Quantities that the claims of a dynamics scenario may be about."""

import numpy as np
import xarray as xr

from sgdsim.runs._processes import difference_in_stderrs
from sgdsim.scenario import DynamicsClaim

_STANDARD_ERRORS = 2.0


def loss_agreement(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """Share of recorded steps at which two mean losses differ by at most two standard errors."""
    dynamics = tree["dynamics"].to_dataset()
    # All trajectories start at one point, where nothing is left to compare.
    loss = dynamics["loss"].astype(np.float64).where(dynamics["step"] > 0, drop=True)
    z = difference_in_stderrs(loss, claim.processes)
    return float((abs(z) <= _STANDARD_ERRORS).mean())


def loss_difference(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """Late mean loss of the second process minus that of the first, in standard errors."""
    return float(difference_in_stderrs(tree["dynamics"].to_dataset()["late_loss"], claim.processes))


def sde_gauge(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """Largest eta*lambda_max/2 of one process."""
    return float(_one(tree, claim)["sde_gauge"].max())


def sde_valid(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """1 if the SDE is judged valid at every probe of one process, 0 if not; NaN if not judged."""
    valid = _one(tree, claim)["sde_valid"]
    if bool((valid == -1).any()):
        return float("nan")
    return float((valid == 1).all())


def escape_time_over_kramers(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """Mean escape time over that of Kramers."""
    return _escape_ratio(tree, claim, "kramers_time")


def escape_time_over_exact(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """Mean escape time over the mean first passage time of the SDE."""
    return _escape_ratio(tree, claim, "exact_escape_time")


def escape_time_over_corrected(tree: xr.DataTree, claim: DynamicsClaim) -> float:
    """Mean escape time over the mean first passage time corrected for the finite step."""
    return _escape_ratio(tree, claim, "corrected_escape_time")


def _escape_ratio(tree: xr.DataTree, claim: DynamicsClaim, theory: str) -> float:
    one = _one(tree, claim)
    # Without an escape the estimate is infinite: nothing was measured.
    return float(one["mean_escape_time"].where(np.isfinite) / one[theory])


def _one(tree: xr.DataTree, claim: DynamicsClaim) -> xr.Dataset:
    (name,) = claim.processes
    return tree["dynamics"].to_dataset().sel(process=name)
