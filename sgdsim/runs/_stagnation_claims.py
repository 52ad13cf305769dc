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


def certified_exit_bound(tree: xr.DataTree, claim: Claim) -> float:
    """S2 bound on an exit within the whole run with constants that are proved on the ball."""
    log_bound = tree["stagnation"].to_dataset()["certified_log_exit_bound"].sel(theory="S2")
    return float(np.exp(log_bound.isel(step=-1)))


def certified_radius(tree: xr.DataTree, claim: Claim) -> float:
    """Smallest radius whose exit probability is proved to be at most the target."""
    return float(tree["stagnation"].to_dataset()["certified_radius"])


def stagnation_number(tree: xr.DataTree, claim: Claim) -> float:
    """Radius of the sampled convexity over the stationary radius."""
    return float(tree["stagnation"].to_dataset()["stagnation_number"])


def participation_share(tree: xr.DataTree, claim: Claim) -> float:
    """Upper confidence limit of the final participation ratio over the number of parameters."""
    curvature = tree["curvature"].to_dataset()
    return float(curvature["participation_ratio_high"][-1] / curvature["parameters"])


def top_space_share(tree: xr.DataTree, claim: Claim) -> float:
    """Share of the final displacement in the top Hessian space, over that of isotropic ones."""
    curvature = tree["curvature"].to_dataset()
    return float(curvature["top_space_energy"][-1] / curvature["top_space_energy_null"])


def final_error_rate(tree: xr.DataTree, claim: Claim) -> float:
    """Training error rate at the end, mean over trajectories."""
    return _final_mean(tree["trajectory"].to_dataset()["error_rate"])


def final_test_error_rate(tree: xr.DataTree, claim: Claim) -> float:
    """Held-out error rate at the end, mean over trajectories."""
    return _final_mean(tree["trajectory"].to_dataset()["test_error_rate"])


def zero_one_gap(tree: xr.DataTree, claim: Claim) -> float:
    """Held-out minus training error rate at the end, mean over trajectories."""
    return float(tree["bounds"].to_dataset()["zero_one_gap"].isel(probe=-1).mean())


def certified_gap(tree: xr.DataTree, claim: Claim) -> float:
    """Smallest final certificate; the losses range over 1, so from 1 on it says nothing."""
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    return -_largest(-bounds["value"].where(bounds["kind"] == "certificate"))


def _final_mean(values: xr.DataArray) -> float:
    return float(values.isel(step=-1).astype(np.float64).mean())


def _largest(values: xr.DataArray) -> float:
    """Largest value, NaN if there is none."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.max()) if known.size else math.nan
