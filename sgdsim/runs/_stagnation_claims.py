"""Quantities that the claims of a stagnation scenario may be about."""

import math

import numpy as np
import xarray as xr

from sgdsim.scenario import Claim


def stay_bound_excess(tree: xr.DataTree, claim: Claim) -> float:
    """Largest amount by which S2 exceeds the upper Clopper-Pearson limit of staying."""
    stagnation = tree["stagnation"].to_dataset()
    excess = stagnation["stay_lower_bound"].sel(theory="S2") - stagnation["stay_probability_high"]
    return _largest(excess.where(stagnation["step"] > 0))  # at step 0 both are one


def exit_bound(tree: xr.DataTree, claim: Claim) -> float:
    """S2 bound on the probability of an exit within the whole run."""
    log_bound = tree["stagnation"].to_dataset()["log_exit_bound"].sel(theory="S2")
    return float(np.exp(log_bound.isel(step=-1)))


def distance_to_lyapunov_ratio(tree: xr.DataTree, claim: Claim) -> float:
    """Mean squared distance over the second half, relative to the linearised dynamics."""
    stagnation = tree["stagnation"].to_dataset()
    late = stagnation["step"] > int(stagnation["step"][-1]) // 2
    expected = stagnation["linearised_mean_squared_distance"].where(late).mean()
    return float(stagnation["mean_squared_distance"].mean() / expected)


def certificate_slack(tree: xr.DataTree, claim: Claim) -> float:
    """Smallest difference between a certificate and the gap that it bounds."""
    bounds = tree["bounds"].to_dataset()
    certified = bounds["kind"] == "certificate"
    slack = (bounds["value"] - bounds["generalization_gap"]).where(certified)
    return -_largest(-slack)


def _largest(values: xr.DataArray) -> float:
    """Largest value, NaN if there is none."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.max()) if known.size else math.nan
