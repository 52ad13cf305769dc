"""What a reader of a sweep compares between its points, by study."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from sgdsim.plotting._exits import confidence_of
from sgdsim.plotting._style import GREY, VERMILION, axis_label, scenario_of
from sgdsim.store import STATUSES, coordinates_of, variables_of
from sgdsim.store._select import LENGTHS, parsed_details
from sgdsim.store._sweep import stored_name

_MEAN, _ERRORS = "mean over trajectories", "two standard errors"
_DIVERGED = 2


class Curve(NamedTuple):
    """One number per point of a sweep, and per process or case where the study has several.

    Attributes
    ----------
    label
        What it is, for a legend.
    value
        The numbers; NaN where a point is not done.
    low, high
        Ends of its interval, where there is one.
    interval
        What the interval is.
    reference
        Whether the measured number is best read as a multiple of this one.
    """

    label: str
    value: xr.DataArray
    low: xr.DataArray | None = None
    high: xr.DataArray | None = None
    interval: str = ""
    reference: bool = False

    def mapped(self, select: Callable[[xr.DataArray], xr.DataArray]) -> "Curve":
        """Take the same part of the numbers and of their interval."""
        low, high = (None if end is None else select(end) for end in (self.low, self.high))
        return self._replace(value=select(self.value), low=low, high=high)


class Quantity(NamedTuple):
    """Curves that share an axis; the first is the measured one.

    Attributes
    ----------
    label
        Text of the axis, with units.
    curves
        What to draw.
    logarithmic
        Whether a logarithmic axis suits it.
    share
        Whether it lies between 0 and 1, and is seen best on that whole range.
    """

    label: str
    curves: tuple[Curve, ...]
    logarithmic: bool = False
    share: bool = False

    def mapped(self, select: Callable[[xr.DataArray], xr.DataArray]) -> "Quantity":
        """Take the same part of every curve."""
        return self._replace(curves=tuple(curve.mapped(select) for curve in self.curves))


class Mark(NamedTuple):
    """Something to say of points beside their numbers.

    Attributes
    ----------
    label
        What is said, for a legend.
    where
        The points, and the processes or cases there, of which it is true.
    marker
        How it is drawn over one axis.
    hatch
        How it is drawn over two; without one the marker stands in a corner of the cell.
    colour
        Colour of the hatch.
    """

    label: str
    where: xr.DataArray
    marker: str
    hatch: str = ""
    colour: str = GREY


class Sweep:
    """Arrays of a sweep by the names of the contract, NaN where a point is not done.

    Parameters
    ----------
    tree
        The dataset of a sweep, as ``sgdsim.open_run`` returns it.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree
        root = tree.to_dataset()
        self.study = str(tree.attrs["study"])
        self.status = root["status"].load().reset_coords(drop=True)
        self._swept = {str(name) for name in root.coords}
        details = [parsed_details(str(text)) for text in root["details"].values.ravel()]
        self._lengths = [point.get(LENGTHS, {}) for point in details]

    def read(self, group: str, name: str) -> xr.DataArray:
        """Array of a variable or coordinate, whatever its name in this sweep is."""
        coordinates = {spec.name: spec for spec in coordinates_of(group)}
        spec = (coordinates | variables_of(group))[name]
        array = self._tree[group].to_dataset()[stored_name(spec, self._swept)]
        return array.reset_coords(drop=True)

    def lengths(self, array: xr.DataArray, dim: str) -> xr.DataArray:
        """Length of a dimension at every point; points of a sweep may be shorter than arrays."""
        ends = np.array([own.get(dim, array.sizes[dim]) for own in self._lengths], np.int64)
        return xr.DataArray(ends.reshape(self.status.shape), dims=self.status.dims)

    def last(self, array: xr.DataArray, dim: str) -> xr.DataArray:
        """Take the last entry along a dimension at every point; NaN if there is none."""
        if not array.sizes[dim]:
            return array.sum(dim) * np.nan
        return array.isel({dim: self.lengths(array, dim) - 1}).reset_coords(drop=True)

    def done(self, array: xr.DataArray) -> xr.DataArray:
        """Keep what belongs to points that are done."""
        return array.where(self.status == STATUSES.index("done"))

    def refuted(self) -> xr.DataArray:
        """Whether a point is done and one of the claims does not hold there."""
        fails = (self.read("claims", "holds") != 1).any("claim")
        return fails & (self.status == STATUSES.index("done"))

    def mean(self, array: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        """Mean over the trajectories that are not NaN, and two standard errors below and above."""
        array = self.done(array)
        count = array.notnull().sum("trajectory")
        mean = array.sum("trajectory") / count.where(count > 0)
        squares = ((array - mean) ** 2).sum("trajectory") / (count - 1).where(count > 1)
        error = 2 * (squares / count.where(count > 0)) ** 0.5
        return mean, mean - error, mean + error


def sweep_quantities(sweep: Sweep, tree: xr.DataTree) -> list[Quantity]:
    """List what there is to draw of a sweep; some of it may be NaN at every point."""
    found = _QUANTITIES[sweep.study](sweep, tree)
    if (_diverged_share(sweep) > 0).any():  # a panel only where it says something
        found.append(_diverged(sweep))
    return found


def select_part(array: xr.DataArray, part: dict[str, str]) -> xr.DataArray:
    """Take one process or case; an array that has none belongs to all of them."""
    return array.sel({dim: name for dim, name in part.items() if dim in array.dims}, drop=True)


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


def _exp(logs: xr.DataArray) -> xr.DataArray:
    return logs.copy(data=np.exp(logs.values))


_QUANTITIES: dict[str, Callable[[Sweep, xr.DataTree], list[Quantity]]] = {
    "stagnation": _of_stagnation,
    "dynamics": _of_dynamics,
    "exits": _of_exits,
}
_STATUS_GROUPS = {"stagnation": "trajectory", "dynamics": "dynamics", "exits": "exits"}
