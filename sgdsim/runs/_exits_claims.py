"""Quantities that the claims of an exits scenario may be about."""

import numpy as np
import xarray as xr

from sgdsim.scenario import ExitsClaim
from sgdsim.stagnation import arrhenius_fit, arrhenius_fit_log_rates


def exit_probability(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Share of trajectories that left the set within the run."""
    return 1 - float(_one(tree, claim)["stay_probability"][-1])


def exit_probability_z(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Measured minus exact exit probability, in standard errors of the exact one."""
    one = _one(tree, claim)
    exact, count = float(one["exact_exit_probability"]), one.sizes["trajectory"]
    stderr = np.sqrt(exact * (1 - exact) / count)
    return (exit_probability(tree, claim) - exact) / stderr


def exit_bound(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Bound S2 on an exit within the run, by certificate if there is one."""
    logs = _one(tree, claim)["log_exit_bound"].sel(theory="S2").isel(look=-1)
    best = logs.sel(evidence="certificate")
    return float(np.exp(best if bool(best.notnull()) else logs.sel(evidence="plug-in")))


def stay_bound_excess(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Largest amount by which a lower bound on staying exceeds the measured interval."""
    one = _one(tree, claim)
    bound = 1 - np.exp(np.minimum(one["log_exit_bound"], 0.0))
    return float((bound - one["stay_probability_high"]).max())


def exit_time_over_exact(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Mean exit time over the exact one of the SDE, corrected for the finite step."""
    return _exit_time_over(tree, claim, "exact_exit_time")


def exit_time_over_kramers(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Mean exit time over Kramers' formula."""
    return _exit_time_over(tree, claim, "kramers_time")


def exit_rate_over_exact(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Rate of exits per step over the exact rate of the quasi-stationary state."""
    one = _one(tree, claim)
    return float(one["exit_rate"] / one["exact_exit_rate"])


def rare_exit_over_exact(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Exit probability by importance splitting over the exact kernel."""
    one = _one(tree, claim)
    return float(one["rare_exit_probability"] / one["exact_exit_probability"])


def log_rare_exit(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Decimal logarithm of the exit probability by importance splitting."""
    return float(np.log10(_one(tree, claim)["rare_exit_probability"]))


def mean_gap(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Generalization gap of the final iterates, averaged over trajectories."""
    return float(_one(tree, claim)["mean_gap"])


def mean_gap_z(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Mean gap minus its expectation (0 where none is known), in standard errors."""
    one = _one(tree, claim)
    return float((one["mean_gap"] - one["expected_gap"].fillna(0.0)) / one["mean_gap_stderr"])


def mean_gap_over_expected(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Mean gap over its expectation."""
    one = _one(tree, claim)
    return float(one["mean_gap"] / one["expected_gap"])


def gap_bound(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Smallest bound on the generalization gap of everything in the set."""
    return float(np.exp(_one(tree, claim)["log_gap_bound"]).min())


def certificate_slack(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Smallest bound on the gap minus the largest gap of an iterate that stayed."""
    one = _one(tree, claim)
    gap = one["gap"].where(one["exit_step"] < 0).max()
    return float(np.exp(one["log_gap_bound"]).min() - gap)


def effective_rank(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Effective rank of the noise at the centre."""
    return float(_one(tree, claim)["effective_rank"])


def exponentiality(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """P-value of exponential exit times after the burn-in."""
    return float(_one(tree, claim)["exponentiality_p_value"])


def exit_rate_ratio(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Rate of exits per unit of time of the second case over that of the first."""
    times = _cases(tree, claim)["mean_exit_time"].where(np.isfinite).values
    return float(times[0] / times[1])


def exit_rate_ratio_over_kramers(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Ratio of the exit rates over what Kramers' formula says of it."""
    kramers = _cases(tree, claim)["kramers_time"].values
    return exit_rate_ratio(tree, claim) / float(kramers[0] / kramers[1])


def arrhenius_over_quasi_potential(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Slope of the log exit time against 1/eta over the quasi-potential."""
    cases = _cases(tree, claim)
    potential = float(cases["quasi_potential"].mean())
    return _arrhenius_slope(cases) / potential


def _arrhenius_slope(cases: xr.Dataset) -> float:
    """Slope of the log exit time against 1/eta, of split or of counted exits."""
    inverse = 1.0 / cases["learning_rate"].values
    power = float(cases["prefactor_power"].mean())
    rare = cases["rare_exit_probability"]
    if bool(rare.notnull().all()):
        times = (cases["steps"] * cases["learning_rate"]).values
        errors = cases["rare_exit_relative_error"].values
        log_rates = np.log(-np.log1p(-rare.values) / times)
        fit = arrhenius_fit_log_rates(inverse, log_rates, errors, power)
    else:
        exits = cases["exit_count"].values
        watched = cases.sizes["trajectory"] * cases["steps"].values
        rates = np.where(exits > 0, cases["exit_rate"].values, 1.0)
        steps = np.where(exits > 0, exits / rates, watched)
        exposure = steps * cases["learning_rate"].values
        fit = arrhenius_fit(inverse, exits, exposure, power)
    return fit.slope


def G1_width_exponent(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Slope of log G1 against the log width."""
    return _width_exponent(tree, claim, "G1")


def G2_width_exponent(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Slope of the log entropy term of G2 against the log width."""
    return _width_exponent(tree, claim, "G2")


def G3_width_exponent(tree: xr.DataTree, claim: ExitsClaim) -> float:
    """Slope of the log entropy term of G3 against the log width."""
    return _width_exponent(tree, claim, "G3")


def _width_exponent(tree: xr.DataTree, claim: ExitsClaim, bound: str) -> float:
    cases = _cases(tree, claim)
    term = "displacement" if bound == "G1" else "entropy"
    logs = cases["log_gap_term"].sel(bound=bound, term=term).values
    return float(np.polyfit(np.log(cases["width"].values), logs, 1)[0])


def _exit_time_over(tree: xr.DataTree, claim: ExitsClaim, theory: str) -> float:
    one = _one(tree, claim)
    # Without an exit the estimate is infinite: nothing was measured.
    return float(one["mean_exit_time"].where(np.isfinite) / one[theory])


def _one(tree: xr.DataTree, claim: ExitsClaim) -> xr.Dataset:
    (name,) = claim.cases
    return tree["exits"].to_dataset().sel(case=name)


def _cases(tree: xr.DataTree, claim: ExitsClaim) -> xr.Dataset:
    return tree["exits"].to_dataset().sel(case=list(claim.cases))
