"""Which run belongs to which study, and the dataset that its points share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgdsim._caching import remembered
from sgdsim._errors import ScenarioError
from sgdsim.ensemble import Layout
from sgdsim.runs._dynamics import DynamicsRun
from sgdsim.runs._edge import EdgeRun
from sgdsim.runs._exits import ExitsRun
from sgdsim.runs._output import RunPaths
from sgdsim.runs._provenance import claim_coordinates, common_attributes
from sgdsim.runs._stagnation import StagnationRun
from sgdsim.runs._study import Dimensions, StudyRun
from sgdsim.runs._training import TrainingRun
from sgdsim.scenario import Scenario, sweep_dimensions, sweep_points
from sgdsim.store import PointStore, RunStore, SweepAxis, checked_sweep, coordinates_in

#: How the run of each study is done.
STUDIES: dict[str, type[StudyRun]] = {
    "stagnation": StagnationRun,
    "dynamics": DynamicsRun,
    "exits": ExitsRun,
    "bounds": TrainingRun,
    "edge": EdgeRun,
}


@remembered(4)
def points_of(scenario: Scenario) -> tuple[Scenario, ...]:
    """Expand a scenario to its points, once per process."""
    return sweep_points(scenario)


def create_store(
    scenario: Scenario, layout: Layout, paths: RunPaths, attrs: Mapping[str, str] | None = None
) -> RunStore:
    """Preallocate the dataset of all points of a scenario, with further attributes.

    Raises
    ------
    ScenarioError
        If the points do not fit into one dataset.
    """
    dimensions = shared_dimensions(scenario)
    precisions = {point.compute.precision for point in points_of(scenario)}
    return RunStore.create(
        paths.partial,
        coords={**dimensions.coords, **claim_coordinates(scenario.claim)},
        attrs={**common_attributes(scenario, layout), **(attrs or {})},
        study=scenario.study,
        precision=max(precisions),  # float64 holds float32 too
        chunk_sizes=dimensions.chunk_sizes,
        sweep=_sweep_axes(scenario),
    )


def check_axes(scenario: Scenario) -> None:
    """Refuse a sweep whose dimensions the dataset cannot have.

    Raises
    ------
    ScenarioError
        If a dimension is called like something that the dataset has anyway.
    """
    try:
        checked_sweep(_sweep_axes(scenario), scenario.study)
    except ValueError as error:
        raise ScenarioError(f"{scenario.name}: {error}") from error


def _sweep_axes(scenario: Scenario) -> list[SweepAxis]:
    return [SweepAxis(axis.name, axis.coords) for axis in sweep_dimensions(scenario)]


def shared_dimensions(scenario: Scenario) -> Dimensions:
    """Size of the dataset that holds all points: along every dimension that of the longest.

    Raises
    ------
    ScenarioError
        If labels along a dimension disagree, or the steps of a chunk differ.
    """
    study = STUDIES[scenario.study]
    each = [study.dimensions(point) for point in points_of(scenario)]
    chunk_sizes = each[0].chunk_sizes
    if any(one.chunk_sizes != chunk_sizes for one in each):
        raise ScenarioError(
            f"{scenario.name}: the sweep changes the recorded values per time chunk, which all "
            "points of a dataset share; keep ensemble.chunk_steps / ensemble.record_every fixed."
        )
    coords = {name: _longest(name, [one.coords[name] for one in each]) for name in each[0].coords}
    return Dimensions(coords, chunk_sizes)


def point_store(store: RunStore, scenario: Scenario, number: int) -> PointStore:
    """Part of the dataset that belongs to one point."""
    own = STUDIES[scenario.study].dimensions(points_of(scenario)[number])
    dims = {spec.dim for spec in coordinates_in(scenario.study)}
    lengths = {name: len(labels) for name, labels in own.coords.items() if name in dims}
    return store.point(number, lengths)


def _longest(name: str, labels: Sequence[Any]) -> Any:
    """Longest of several sequences of labels, of which the others must be beginnings."""
    longest = max(labels, key=len)
    if not all(np.array_equal(longest[: len(one)], one) for one in labels):
        raise ScenarioError(
            f"the points of the sweep disagree on the labels along {name!r}, so that one dataset "
            "cannot hold them; sweep something else, or run them one by one."
        )
    return longest
