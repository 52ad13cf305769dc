"""From a sweep to its points: names of the dimensions, their labels, and the scenarios."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from sgdsim.scenario._report import Problem, dotted, problems_of, shown
from sgdsim.scenario._shape import Path, tables_at
from sgdsim.scenario._sweep_axes import GROUPS, Axis, AxisMistake, Key, Scalar, Sweep, error_at
from sgdsim.scenario._sweep_paths import ALL, Target, resolve

#: More points are a mistake sooner than a study.
MOST_POINTS = 100_000
# As many wrong points are reported; a wrong range is often wrong at all of its values.
_MOST_MISTAKES = 10

_Table = TypeVar("_Table", bound=BaseModel)


class SweepDimension(NamedTuple):
    """One dimension of a sweep.

    Attributes
    ----------
    name
        Last part of the swept key; ``zip`` or ``draw`` where several keys change together.
    coords
        Labels along it, by the name of the coordinate: ``coords[name]`` are its own, and where
        several keys change together each has one.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario, sweep_dimensions
    >>> scenario = load_scenario("stagnation", ["sweep.learning_rate=[0.1, 0.2]"])
    >>> sweep_dimensions(scenario)[0].coords
    {'learning_rate': (0.1, 0.2)}
    """

    name: str
    coords: dict[str, tuple[Scalar, ...]]

    @property
    def size(self) -> int:
        """Number of labels."""
        return len(self.coords[self.name])


class _Part(NamedTuple):
    """A dimension, with what its labels set: name of the coordinate, where it leads, values."""

    dimension: SweepDimension
    axes: tuple[tuple[str, Target, tuple[Scalar, ...]], ...]


class _Point(NamedTuple):
    """A point before its validation: values of its coordinates, and its tables."""

    values: dict[str, Scalar]
    tables: dict[str, Any]


def checked_sweep(sweep: Sweep, table: BaseModel) -> Sweep:
    """Check a sweep against its scenario, and write its keys in full.

    Parameters
    ----------
    sweep
        As read.
    table
        The scenario, otherwise correct.

    Returns
    -------
    Sweep
        The same for every spelling and order of the same axes.

    Raises
    ------
    ValidationError
        Names all axes that are wrong, or the first points that are.
    """
    mistakes: list[tuple[Key, str]] = []
    spelled: dict[Path, Key] = {}  # mistakes are reported as the user wrote the axis
    groups: dict[str, list[Axis]] = {"grid": [], "zip": [], "random": []}
    for key, axis in sweep.axes():
        try:
            target = resolve(table, axis.key)
        except AxisMistake as error:
            mistakes.append((key, str(error)))
            continue
        twice = [path for path in target.paths if path in spelled]
        if twice:
            other = ".".join(("sweep", *spelled[twice[0]]))
            mistakes.append((key, f"{dotted(twice[0])} is swept by {other} already; keep one"))
        spelled |= dict.fromkeys(target.paths, key)
        groups[key[0] if key[0] in GROUPS else "grid"].append(_fitted(axis, target))
    if not mistakes:
        ordered = {name: tuple(sorted(axes, key=_key)) for name, axes in groups.items()}
        sweep = dataclasses.replace(sweep, **ordered)
        mistakes = list(_wrong_axes(sweep, table, spelled))
    if mistakes:
        raise error_at([(("sweep", *key), text) for key, text in mistakes])
    return sweep


def dimensions_of(sweep: Sweep, table: BaseModel) -> tuple[SweepDimension, ...]:
    """List the dimensions of a checked sweep of a scenario."""
    return tuple(part.dimension for part in _parts(sweep, table))


def points_of(sweep: Sweep, table: _Table) -> tuple[_Table, ...]:
    """List the points of a checked sweep of a scenario, the last dimension fastest."""
    points = _points(_parts(sweep, table), table)
    return tuple(type(table).model_validate(point.tables) for point in points)


def _key(axis: Axis) -> str:
    return axis.key


def _fitted(axis: Axis, target: Target) -> Axis:
    """Write the key in full, and whole numbers as the floats that the key holds."""
    values = axis.values
    if float in target.types:
        values = tuple(float(v) if type(v) is int else v for v in values)
    return dataclasses.replace(axis, key=target.key, values=values)


def _parts(sweep: Sweep, table: BaseModel) -> tuple[_Part, ...]:
    targets = {axis.key: resolve(table, axis.key) for _, axis in sweep.axes()}
    names = _names(list(targets))

    def entry(axis: Axis, values: tuple[Scalar, ...]) -> tuple[str, Target, tuple[Scalar, ...]]:
        return names[axis.key], targets[axis.key], values

    parts: list[_Part] = []
    for axis in sorted(sweep.grid, key=lambda axis: names[axis.key]):
        one = entry(axis, axis.labels(targets[axis.key].is_whole))
        parts.append(_Part(SweepDimension(one[0], {one[0]: one[2]}), (one,)))
    together = {
        "zip": [entry(axis, axis.labels(targets[axis.key].is_whole)) for axis in sweep.zip],
        "draw": [
            entry(axis, axis.draw(sweep.draws, sweep.seed, targets[axis.key].is_whole))
            for axis in sweep.random
        ],
    }
    for name, axes in together.items():
        if axes:
            numbers = {name: tuple(range(len(axes[0][2])))}
            coords = numbers | {label: values for label, _, values in axes}
            parts.append(_Part(SweepDimension(name, coords), tuple(axes)))
    return tuple(parts)


def _names(keys: list[str]) -> dict[str, str]:
    """Name every key by its last part, or by as many as tell it from the others."""
    names: dict[str, str] = {}
    for key in keys:
        lengths = range(1, key.count(".") + 2)
        others = [other for other in keys if other != key]
        alone = (n for n in lengths if all(_tail(key, n) != _tail(o, n) for o in others))
        names[key] = _tail(key, next(alone, lengths[-1]))
    return names


def _tail(key: str, length: int) -> str:
    """Join the last parts of a key; a number does not stand first, so ``hidden_0``."""
    parts = key.split(".")
    while length < len(parts) and parts[-length].isdecimal():
        length += 1
    words = ("all" if part == ALL else part for part in parts[-length:])
    return re.sub(r"\W", "_", "_".join(words))


def _wrong_axes(
    sweep: Sweep, table: BaseModel, spelled: Mapping[Path, Key]
) -> Iterator[tuple[Key, str]]:
    """Say what is wrong with axes that lead somewhere: too many values, equal ones, wrong ones."""
    number = math.prod(axis.size for axis in sweep.grid)
    number *= (sweep.zip[0].size if sweep.zip else 1) * (sweep.draws if sweep.random else 1)
    if number > MOST_POINTS:
        yield (), f"would have {number:,} points, more than {MOST_POINTS:,}; take fewer values"
        return
    parts = _parts(sweep, table)
    wrong = [text for part in parts for text in _duplicates(part, spelled)]
    yield from wrong or _wrong_points(parts, table, spelled)


def _duplicates(part: _Part, spelled: Mapping[Path, Key]) -> Iterator[tuple[Key, str]]:
    """Find two labels of a dimension that set the same."""
    rows = list(zip(*(values for _, _, values in part.axes), strict=True))
    first: dict[tuple[Scalar, ...], int] = {}
    for number, row in enumerate(rows):
        if first.setdefault(row, number) == number:
            continue
        name = part.dimension.name
        same = f"{first[row]} and {number}, counted from 0,"
        if name == "zip":
            yield ("zip",), f"entries {same} are the same point; keep one"
        elif name == "draw":
            yield (
                ("random",),
                f"draws {same} are the same point; take fewer draws or more choices, or write the "
                "values as lists",
            )
        else:
            key = spelled[part.axes[0][1].paths[0]]
            yield key, f"values {same} are both {shown(row[0])}; keep one"
        return


def _wrong_points(
    parts: tuple[_Part, ...], table: BaseModel, spelled: Mapping[Path, Key]
) -> Iterator[tuple[Key, str]]:
    """Say what is wrong with points, the same mistake once for all points of one label."""
    names = {path: name for part in parts for name, target, _ in part.axes for path in target.paths}
    said: set[tuple[Path, Scalar, str]] = set()
    for number, point in enumerate(_points(parts, table)):
        try:
            type(table).model_validate(point.tables)
        except ValidationError as error:
            for problem in problems_of(error, type(table), {}):
                axis = _blamed(problem, names)
                once = (axis, point.values[names[axis]], problem.text)
                if once in said:
                    continue
                said.add(once)
                place = "" if problem.path == axis else f"{dotted(problem.path)}: "
                values = ", ".join(f"{name} = {shown(v)}" for name, v in point.values.items())
                yield spelled[axis], f"point {number} ({values}): {place}{problem.text}"
        if len(said) >= _MOST_MISTAKES:
            return


def _blamed(problem: Problem, swept: Mapping[Path, str]) -> Path:
    """Choose the swept path that is nearest to a mistake."""

    def shared(path: Path) -> int:
        pairs = zip(path, problem.path, strict=False)
        return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))

    return max(swept, key=shared)


def _points(parts: tuple[_Part, ...], table: BaseModel) -> Iterator[_Point]:
    """Set the values of every point, the last dimension fastest."""
    base = table.model_dump(exclude={"sweep"})
    axes = [axis for part in parts for axis in part.axes]
    owner = [number for number, part in enumerate(parts) for _ in part.axes]
    # What depends on the kind of a table is set after the kind.
    settings = [(path, which) for which, (_, target, _) in enumerate(axes) for path in target.paths]
    settings.sort(key=lambda setting: (setting[0][-1] != "kind", len(setting[0])))
    for labels in itertools.product(*(range(part.dimension.size) for part in parts)):
        values = [axes[which][2][labels[owner[which]]] for which in range(len(axes))]
        tables = base
        for path, which in settings:
            tables = _with(tables, path, values[which], type(table))
        yield _Point({axis[0]: v for axis, v in zip(axes, values, strict=True)}, tables)


def _with(values: Any, path: Path, value: Scalar, root: type[BaseModel], at: Path = ()) -> Any:
    """Copy nested tables with one value set; what its new ``kind`` does not have is left out."""
    if not path:
        return value
    key, *rest = path
    if isinstance(values, tuple) and isinstance(key, int):
        inner = _with(values[key], tuple(rest), value, root, (*at, key))
        return (*values[:key], inner, *values[key + 1 :])
    tables = values if isinstance(values, dict) else {}
    inner = _with(tables.get(key), tuple(rest), value, root, (*at, key))
    if key == "kind":
        known = [
            name
            for choice in tables_at(root, at)
            if value in get_args(choice.model_fields["kind"].annotation)
            for name in choice.model_fields
        ]
        tables = {name: item for name, item in tables.items() if name in known or not known}
    return {**tables, key: inner}
