"""Quantities that the claims of a bounds scenario may be about."""

import math

import numpy as np
import xarray as xr

from sgdsim import evaluation
from sgdsim.evaluation import FinalBounds, final_bounds
from sgdsim.runs._mean_gap import mean_gap_slack as mean_gap_slack
from sgdsim.runs._stagnation_claims import (
    certificate_slack as certificate_slack,
    certified_gap as certified_gap,
    final_error_rate as final_error_rate,
    final_test_error_rate as final_test_error_rate,
    zero_one_gap as zero_one_gap,
)
from sgdsim.scenario import BoundsClaim

_STANDARD_ERRORS = 3.0


def reached(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Share of the trajectories whose training loss reached its target."""
    return float((tree["bounds"].to_dataset()["stopped_step"] >= 0).mean())


def certificate_violations(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Share of certificates that are below the measured gap by more than its error explains."""
    bounds = tree["bounds"].to_dataset()
    below = bounds["generalization_gap"] - _STANDARD_ERRORS * bounds["generalization_gap_stderr"]
    known = bounds["value"].notnull() & below.notnull() & (bounds["kind"] == "certificate")
    count = int(known.sum())
    return float(((bounds["value"] < below) & known).sum()) / count if count else math.nan


def decomposition_error(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Largest difference between the logarithm of a bound and the sum of its factors."""
    bounds = tree["bounds"].to_dataset()
    parts = bounds["log_factor"].sum("factor", skipna=False)
    difference = np.abs(np.asarray(parts - bounds["log_value"]))
    known = difference[np.isfinite(difference)]
    return float(known.max()) if known.size else math.nan


def bound_value(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Value of one bound or measure at the end, mean over trajectories."""
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    return float(bounds["value"].sel(bound=claim.bound).mean())


def kendall_tau(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Kendall's tau of one measure and the gap of the error rate over all runs of a sweep."""
    measure, gap, _ = _ranked(tree, claim)
    return float(evaluation.kendall_tau(measure, gap)["tau"])


def granulated_tau(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Granulated tau: one hyper-parameter at a time, mean over them."""
    measure, gap, final = _ranked(tree, claim)
    return float(evaluation.granulated_tau(measure, gap, final.axes)["granulated_tau"])


def conditional_information(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Smallest normalised information of a measure on the gap given two hyper-parameters."""
    measure, gap, final = _ranked(tree, claim)
    return float(evaluation.conditional_information(measure, gap, final.axes)["score"])


def sign_error_mean(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Mean robust sign error over environments."""
    return _sign_error(tree, claim, "mean")


def sign_error_max(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Robust sign error of the worst environment."""
    return _sign_error(tree, claim, "max")


def ranked_right(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Share of the cells in which all labels random gives the larger value than none."""
    measure, _, _ = _ranked(tree, claim)
    if "random_labels" not in measure.dims:
        return math.nan
    share = measure["random_labels"].values
    ratio = evaluation.random_label_ratio(
        measure, "random_labels", float(share.min()), float(share.max())
    )
    return float(ratio["ranked_right"])


def growth_with_rows(tree: xr.DataTree, claim: BoundsClaim) -> float:
    """Exponent of a value in the number of training rows."""
    measure, _, _ = _ranked(tree, claim)
    return float(evaluation.growth(measure, "training")["exponent"])


def _sign_error(tree: xr.DataTree, claim: BoundsClaim, name: str) -> float:
    measure, gap, final = _ranked(tree, claim)
    error = evaluation.robust_sign_error(
        measure, gap, final.axes, final.samples, environments="values"
    )
    return float(error[name])


def _ranked(
    tree: xr.DataTree, claim: BoundsClaim
) -> tuple[xr.DataArray, xr.DataArray, FinalBounds]:
    """Values of one bound and gaps of the error rate at the end of all runs."""
    final = final_bounds(tree)
    return final.data["value"].sel(bound=claim.bound), final.data["ranking_gap"], final
