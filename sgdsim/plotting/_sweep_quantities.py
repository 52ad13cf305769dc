"""What a reader of a sweep compares between its points, by study."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from sgdsim.plotting._exits import confidence_of
from sgdsim.plotting._style import GREY, VERMILION, axis_label, scenario_of
from sgdsim.plotting._sweep_points import Curve, Mark, Quantity, Sweep
from sgdsim.store import STATUSES

_MEAN, _ERRORS = "mean over trajectories", "two standard errors"
_DIVERGED = 2


def sweep_quantities(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    """List what there is to draw of a sweep; some of it may be NaN at every point."""
    found = _QUANTITIES[sweep.study](sweep, tree)
    if (_diverged_share(sweep) > 0).any():  # a panel only where it says something
        found.append(_diverged(sweep))
    return found


def sweep_marks(sweep: Sweep) -> list[Mark]:
    """List what there is to say of points that a number does not say."""
    failed, pending = (sweep.status == STATUSES.index(name) for name in ("failed", "pending"))
    return [
        Mark("point failed", failed, "x", "xxx", VERMILION),
        Mark("point pending", pending, "|", "...", GREY),
        Mark("all trajectories diverged", _diverged_share(sweep) == 1, "1", "///", GREY),
        Mark("a claim does not hold", sweep.refuted(), "v"),
    ]


def _diverged_share(sweep: Sweep) -> xr.DataArray:
    """Share of the trajectories that diverged, by point, and by process or case if there are."""
    status = sweep.read(_STATUS_GROUPS[sweep.study], "status")
    number = (status == _DIVERGED).sum("trajectory")
    return sweep.done(number / sweep.lengths(status, "trajectory"))


def _diverged(sweep: Sweep) -> Quantity:
    return Quantity(
        "share of trajectories that diverged",
        (Curve("measured", _diverged_share(sweep)),),
        share=True,
    )


def _of_stagnation(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    confidence = scenario_of(tree).get("stagnation", {}).get("confidence", 0.95)
    level = f"{100 * confidence:g} % Clopper-Pearson interval"

    def at_end(name: str) -> xr.DataArray:
        return sweep.done(sweep.last(sweep.read("stagnation", name), "step"))

    stay, low, high = (at_end(f"stay_probability{end}") for end in ("", "_low", "_high"))
    found = [
        Quantity(
            "probability of no exit in the run",
            (
                Curve("measured", stay, low, high, level),
                Curve(
                    "S2 lower bound, certificate",
                    at_end("certified_stay_lower_bound").sel(theory="S2", drop=True),
                ),
                Curve(
                    "S2 lower bound, plug-in",
                    at_end("stay_lower_bound").sel(theory="S2", drop=True),
                ),
            ),
            share=True,
        ),
        Quantity(
            "mean squared distance, second half",
            (
                Curve(
                    _MEAN, *sweep.mean(sweep.read("stagnation", "mean_squared_distance")), _ERRORS
                ),
                Curve(
                    "linearised dynamics",
                    at_end("linearised_mean_squared_distance"),
                    reference=True,
                ),
            ),
            logarithmic=True,
        ),
    ]
    found += _gap_of_stagnation(sweep)
    eigenvalue = sweep.read("curvature", "hessian_eigenvalue")
    largest = sweep.last(eigenvalue.sel(eigen="largest", drop=True), "probe")
    found.append(
        Quantity(
            axis_label(eigenvalue, "largest Hessian eigenvalue, last probe"),
            (
                Curve(_MEAN, *sweep.mean(largest), _ERRORS),
                Curve("2/eta", sweep.done(sweep.read("curvature", "threshold")), reference=True),
            ),
            logarithmic=True,
        )
    )
    return found


def _gap_of_stagnation(sweep: Sweep) -> list[Quantity]:
    """Gap at the last probe, in the loss of the certificate that is smallest at the point."""
    certificates = np.flatnonzero(sweep.read("bounds", "kind").values == "certificate")
    if not certificates.size:
        return []
    gap, value = (
        sweep.last(sweep.read("bounds", name).isel(bound=certificates), "probe")
        for name in ("generalization_gap", "value")
    )
    mean = sweep.mean(value)[0]
    place = mean.fillna(np.inf).argmin("bound").drop_vars(list(mean.coords), errors="ignore")
    gaps, smallest = (array.isel(bound=place).reset_coords(drop=True) for array in (gap, mean))
    return [
        Quantity(
            "generalization gap, last probe",
            (
                Curve(_MEAN, *sweep.mean(gaps), _ERRORS),
                Curve("smallest certificate", smallest),
            ),
            logarithmic=True,
        )
    ]


def _of_training(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    error = sweep.last(sweep.read("trajectory", "test_error_rate"), "step")
    stopped = sweep.read("bounds", "stopped_step")
    return [
        *_gap_of_stagnation(sweep),
        Quantity("held-out error rate, last step", (Curve(_MEAN, *sweep.mean(error), _ERRORS),)),
        Quantity(
            axis_label(stopped, "step at which the target loss was reached"),
            (Curve(_MEAN, *sweep.mean(stopped.where(stopped >= 0)), _ERRORS),),
            logarithmic=True,
        ),
    ]


def _of_dynamics(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    def of(name: str) -> xr.DataArray:
        return sweep.read("dynamics", name)

    late = of("late_loss")
    found = [
        Quantity(
            axis_label(late, "mean loss, second half"),
            (Curve(_MEAN, *sweep.mean(late), _ERRORS),),
            logarithmic=True,
        )
    ]
    eigenvalue, gauge = of("hessian_eigenvalue"), of("sde_gauge")
    if eigenvalue.size:
        largest = sweep.last(eigenvalue.isel(rank=0, drop=True), "probe").max("member")
        found += [
            Quantity(
                axis_label(eigenvalue, "largest Hessian eigenvalue, last probe"),
                (
                    Curve("largest over the probed trajectories", sweep.done(largest)),
                    Curve("2/eta", sweep.done(2 / of("learning_rate")), reference=True),
                ),
                logarithmic=True,
            ),
            Quantity(
                "gauge of the SDE, eta * lambda_max / 2",
                (Curve("largest over probes", sweep.done(gauge.max("probe"))),),
                logarithmic=True,
            ),
        ]
    time, low, high = (sweep.done(of(f"mean_escape_time{end}")) for end in ("", "_low", "_high"))
    level = f"{100 * confidence_of(tree):g} % interval"
    exact = Curve("corrected for the finite step", sweep.done(of("corrected_escape_time")))
    escape = Quantity(
        "mean escape time, units of eta k",
        (Curve("measured", time, low, high, level), exact),
        logarithmic=True,
    )
    return [*found, escape]


def _of_exits(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    level = f"{100 * confidence_of(tree):g} % interval"

    def of(name: str) -> xr.DataArray:
        return sweep.done(sweep.read("exits", name))

    def interval(name: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        return of(name), of(f"{name}_low"), of(f"{name}_high")

    stay, stay_low, stay_high = (array.isel(look=-1) for array in interval("stay_probability"))
    logs = of("log_exit_bound").sel(theory="S2", drop=True).isel(look=-1)
    error = of("mean_gap_stderr")
    gap = of("mean_gap").where(error > 0)  # without data there is no gap, and none that varies
    bound = of("log_gap_bound")
    found = [
        Quantity(
            "probability of an exit in the run",
            (
                Curve("counted", 1 - stay, 1 - stay_high, 1 - stay_low, level),
                *(
                    Curve(
                        f"S2 upper bound, {evidence} (1: says nothing)",
                        _exp(logs.sel(evidence=evidence, drop=True).clip(max=0.0)),
                    )
                    for evidence in ("certificate", "plug-in")
                ),
                Curve("exact law", of("exact_exit_probability")),
                Curve("importance splitting", *interval("rare_exit_probability"), level),
            ),
            logarithmic=True,
        ),
        Quantity(
            "mean exit time, units of eta k",
            (
                Curve("counted", *interval("mean_exit_time"), level),
                Curve("exact law", of("exact_exit_time")),
            ),
            logarithmic=True,
        ),
    ]
    if bound.size:
        found.append(
            Quantity(
                "generalization gap",
                (
                    Curve(_MEAN, gap, gap - 2 * error, gap + 2 * error, _ERRORS),
                    Curve("smallest bound", _exp(bound.min("bound"))),
                ),
                logarithmic=True,
            )
        )
    return found


def _of_edge(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    def of(name: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        return sweep.mean(sweep.read("edge", name))

    ratios = {
        "late_ratio": "sharpness over threshold, last quarter",
        "late_batch_ratio": "batch sharpness over 2/eta, last quarter",
    }
    found = [Quantity(text, (Curve(_MEAN, *of(name), _ERRORS),)) for name, text in ratios.items()]
    loss = sweep.read("edge", "late_loss")
    label = axis_label(loss, "mean loss, last quarter")
    found.append(Quantity(label, (Curve(_MEAN, *of("late_loss"), _ERRORS),), logarithmic=True))
    return found


def _exp(logs: xr.DataArray) -> xr.DataArray:
    return logs.copy(data=np.exp(logs.values))


_QUANTITIES: dict[str, Callable[[Sweep, xr.DataTree], list[Quantity]]] = {
    "stagnation": _of_stagnation,
    "dynamics": _of_dynamics,
    "exits": _of_exits,
    "bounds": _of_training,
    "edge": _of_edge,
}
_STATUS_GROUPS = {
    "stagnation": "trajectory",
    "dynamics": "dynamics",
    "exits": "exits",
    "bounds": "trajectory",
    "edge": "edge",
}
