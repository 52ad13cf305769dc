"""What a sweep will do, before it does it: programs, batches, memory."""

import json
import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import jax
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from sgdsim._errors import ScenarioError
from sgdsim.ensemble import Footprint, Leg, footprint, signature
from sgdsim.runs._studies import STUDIES, points_of
from sgdsim.scenario import Scenario, point_label, sweep_dimensions

#: Most points of one batch on a CPU: more would not be faster, and would end later.
_MOST_ON_CPU = 32


class Group(NamedTuple):
    """Points that share their compiled programs.

    Attributes
    ----------
    points
        Their numbers.
    programs
        How many programs simulate them: one per process or case.
    footprint
        Memory of the largest of these.
    capacity
        Points of a batch.
    trajectories, steps
        Of every point; the most of its processes or cases.
    """

    points: tuple[int, ...]
    programs: int
    footprint: Footprint
    capacity: int
    trajectories: int
    steps: int

    @property
    def batches(self) -> list[tuple[int, ...]]:
        """Points of every batch."""
        starts = range(0, len(self.points), self.capacity)
        return [self.points[start : start + self.capacity] for start in starts]


class Plan(NamedTuple):
    """Groups of points, and the memory that each batch may take.

    Attributes
    ----------
    groups
        Points by compiled program.
    budget
        Bytes that a batch may take.
    """

    groups: tuple[Group, ...]
    budget: int

    @property
    def points(self) -> int:
        """Number of points."""
        return sum(len(group.points) for group in self.groups)

    @property
    def programs(self) -> int:
        """Number of programs that are compiled for simulating."""
        return sum(group.programs for group in self.groups)

    @property
    def batches(self) -> list[tuple[tuple[int, ...], int]]:
        """Points and capacity of every batch."""
        return [(batch, group.capacity) for group in self.groups for batch in group.batches]

    def to_json(self) -> str:
        """Text that the dataset keeps: the points and the batch size of every group."""
        return json.dumps([(group.points, group.capacity) for group in self.groups])


def make_plan(
    scenario: Scenario,
    budget: int,
    workers: int = 1,
    reached: Callable[[int], None] = lambda number: None,
) -> Plan:
    """Group the points of a scenario by program and cut the groups into batches.

    Parameters
    ----------
    scenario
        With or without a sweep.
    budget
        Bytes that a batch may take.
    workers
        Processes that share the batches; each group is cut so that all have work.
    reached
        Hears how many points have been looked at.

    Raises
    ------
    ScenarioError
        If a point cannot be built.
    """
    study = STUDIES[scenario.study]
    kinds: dict[Hashable, list[int]] = {}
    legs: dict[Hashable, list[Leg]] = {}
    for number, point in enumerate(points_of(scenario)):
        try:
            sketch = study.sketch(point)
        except (ScenarioError, ValueError) as error:
            raise ScenarioError(
                f"{scenario.name}: point {number} ({point_label(scenario, number)}): {error}"
            ) from error
        kind = tuple(map(signature, sketch))
        kinds.setdefault(kind, []).append(number)
        legs.setdefault(kind, sketch)
        reached(number + 1)
    groups = [
        _group(points, legs[kind], len(set(kind)), budget, workers)  # type: ignore[arg-type]
        for kind, points in kinds.items()
    ]
    return Plan(tuple(groups), budget)


def _group(
    points: Sequence[int], legs: Sequence[Leg], programs: int, budget: int, workers: int
) -> Group:
    need = max((footprint(leg) for leg in legs), key=lambda one: one.of(len(points)))
    most = need.largest(budget)
    if jax.default_backend() == "cpu":
        most = min(most, _MOST_ON_CPU)
    # Evenly filled batches: all of a group run one and the same program.
    count = max(math.ceil(len(points) / most), min(workers, len(points)))
    return Group(
        points=tuple(points),
        programs=programs,
        footprint=need,
        capacity=math.ceil(len(points) / count),
        trajectories=max(leg.trajectories for leg in legs),
        steps=max(leg.ensemble.schedule.steps for leg in legs),
    )


def print_plan(scenario: Scenario, plan: Plan, console: Console) -> None:
    """Print what will run: points, programs, batches, memory."""
    axes = " x ".join(f"{axis.name} ({axis.size})" for axis in sweep_dimensions(scenario))
    table = Table(title=f"Plan of {scenario.name}: {axes or 'one point'}", title_justify="left")
    columns = ("points", "trajectories", "steps", "programs", "batches of", "memory of a batch")
    for column in columns:
        table.add_column(column, justify="right")
    for group in plan.groups:
        numbers = (
            len(group.points),
            group.trajectories,
            group.steps,
            group.programs,
            group.capacity,
        )
        memory = decimal(group.footprint.of(group.capacity))
        table.add_row(*(f"{number:,}" for number in numbers), memory)
    console.print(table)
    points, programs = _counted(plan.points, "point"), _counted(plan.programs, "compiled program")
    batches = _counted(len(plan.batches), "batch", "batches")
    console.print(
        f"{points}, {programs}, {batches}; memory is an upper estimate, a batch may take "
        f"{decimal(plan.budget)}.",
        highlight=False,
        soft_wrap=True,
    )


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
