"""Bounds at the end of training, of all points of a sweep, as the evaluation wants them."""

import math
from typing import NamedTuple

import xarray as xr

from sgdsim.evaluation._table import bound_table
from sgdsim.scenario import (
    DIGITS_ROWS,
    BoundsScenario,
    Scenario,
    SweepDimension,
    sweep_dimensions,
    sweep_points,
)


class FinalBounds(NamedTuple):
    """Runs that can be compared: those that reached the target loss.

    Attributes
    ----------
    data
        Group ``bounds`` at the last probe; NaN where the target was not reached. ``ranking_gap`` is
        the gap of the error rate.
    axes
        Names of the hyper-parameters, which are dimensions of ``data``.
    samples
        Held-out rows behind every gap, the fewest of all points; ``inf`` if gaps are exact.
    independent_dim
        Axes along which every point has training rows of its own, which tests of violations need.
    """

    data: xr.Dataset
    axes: tuple[str, ...]
    samples: float
    independent_dim: tuple[str, ...]

    def table(self, draws: int = 500) -> xr.Dataset:
        """One row per bound: tightness, violations and ranking by the gap of the error rate.

        Violations have no p-value unless an axis of the sweep draws new training rows: runs on the
        same rows are violated together.

        Parameters
        ----------
        draws
            Of the bootstrap interval of tau.
        """
        if not self.independent_dim:
            data = self.data.drop_vars("holds_with_probability")
            return bound_table(data, self.axes, self.samples, draws=draws)
        return bound_table(
            self.data, self.axes, self.samples, independent_dim=self.independent_dim, draws=draws
        )


def final_bounds(tree: xr.DataTree) -> FinalBounds:
    """Read the last probe of a run or a sweep of the bounds study.

    Parameters
    ----------
    tree
        As ``sgdsim.open_run`` returns it.

    Raises
    ------
    ValueError
        If it is a run of another study.
    """
    scenario = Scenario.from_json(str(tree.attrs["scenario"]))
    if not isinstance(scenario, BoundsScenario):
        raise ValueError(
            f"{scenario.name} is a run of the study {scenario.study!r}; bounds are ranked over a "
            'sweep with study = "bounds".'
        )
    data = tree["bounds"].to_dataset().isel(probe=-1)
    names = ["value", "log_value", "generalization_gap", "generalization_gap_stderr"]
    compared = data[[*names, "zero_one_gap"]].where(data["reached"] == 1)
    compared = compared.rename(zero_one_gap="ranking_gap")
    compared["holds_with_probability"] = data["holds_with_probability"].max(
        [dim for dim in data["holds_with_probability"].dims if dim != "bound"]
    )
    dimensions = sweep_dimensions(scenario)
    return FinalBounds(
        compared,
        tuple(dimension.name for dimension in dimensions),
        _held_out_rows(scenario),
        tuple(dimension.name for dimension in dimensions if _draws_rows(dimension)),
    )


def _draws_rows(dimension: SweepDimension) -> bool:
    """Whether no two points along the dimension have the same training rows."""
    seeds = [labels for name, labels in dimension.coords.items() if name.endswith("split_seed")]
    return any(len(set(labels)) == len(labels) for labels in seeds)


def _held_out_rows(scenario: BoundsScenario) -> float:
    points = sweep_points(scenario) if scenario.sweep else (scenario,)
    rows = []
    for point in points:
        data = point.problem.data
        exact = data.kind == "hypercube"
        rows.append(math.inf if exact else DIGITS_ROWS - data.training - data.reference)
    return float(min(rows))
