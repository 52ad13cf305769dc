"""The ``[sweep]`` table as it is written: axes, their forms, and the values that they stand for."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from sgdsim.scenario._fields import LARGEST_INTEGER, mistake
from sgdsim.scenario._report import nearest, shown

#: What an axis takes: labels of one dimension, so no lists and no tables.
Scalar = float | int | str | bool
#: A key of a sweep, split at its dots; ``zip`` and ``random`` stand in front.
Key = tuple[str, ...]

#: Tables of a sweep that are no axes, with the keys of theirs that are no axes.
GROUPS: dict[str, tuple[str, ...]] = {"zip": (), "random": ("draws", "seed")}
_RANGES = ("log", "linear")
_FORMS = (*_RANGES, "choice", "points")
#: Digits of a computed value: 0.1 of a log-spaced axis is then 0.1, on every machine.
_DIGITS = 12

_LABELS = {"type": "array", "minItems": 1, "items": {"type": ["number", "string", "boolean"]}}
_AXIS = {
    "anyOf": [
        _LABELS,
        {"type": "object", "description": "A range, or a table of a dotted key."},
    ]
}
#: What an editor is told about the table; which keys exist depends on the scenario.
SWEEP_JSON_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": _AXIS,
    "properties": {
        "zip": {
            "type": "object",
            "description": "Keys whose values advance together, as one dimension.",
            "additionalProperties": _AXIS,
        },
        "random": {
            "type": "object",
            "description": "Keys that are drawn, each from {log = [a, b]}, {linear = [a, b]} or "
            "{choice = [...]}, as one dimension.",
            "properties": {
                "draws": {"type": "integer", "minimum": 1, "description": "Number of draws."},
                "seed": {"type": "integer", "minimum": 0, "description": "Seed of the draws."},
            },
            "additionalProperties": {"type": "object"},
        },
    },
}


class AxisMistake(Exception):
    """An axis is wrong; the text says how, without naming the axis."""


def error_at(mistakes: list[tuple[Key, str]]) -> ValidationError:
    """Make the error that reports mistakes at their keys, counted from the table being checked."""
    lines = [InitErrorDetails(type=mistake(text), loc=key, input=None) for key, text in mistakes]
    return ValidationError.from_exception_data("sweep", lines)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One key of a sweep and what it takes.

    Attributes
    ----------
    key
        Dotted path into the scenario.
    form
        ``list`` or ``choice`` of values; ``log`` or ``linear`` between two ends.
    values
        The values, or the two ends.
    points
        Number of values between the ends; ``None`` for lists and for what is drawn.
    """

    key: str
    form: str
    values: tuple[Scalar, ...]
    points: int | None = None

    @property
    def size(self) -> int:
        """Number of values of an axis that is not drawn."""
        return len(self.values) if self.points is None else self.points

    def labels(self, whole: bool) -> tuple[Scalar, ...]:
        """List the values; ``whole``: the key holds integers, so computed ones are rounded."""
        if self.form == "list":
            return self.values
        import numpy as np  # not at the top: a scenario without a sweep is read without it

        spaced = np.geomspace if self.form == "log" else np.linspace
        low, high = map(float, self.values)
        return tuple(_rounded(float(value), whole) for value in spaced(low, high, self.size))

    def draw(self, number: int, seed: int, whole: bool) -> tuple[Scalar, ...]:
        """Draw values; an axis draws the same ones whatever is drawn beside it."""
        import numpy as np

        generator = np.random.Generator(np.random.PCG64([seed, *self.key.encode()]))
        shares = [float(share) for share in generator.random(number)]
        if self.form == "choice":
            return tuple(self.values[int(share * len(self.values))] for share in shares)
        low, high = map(float, self.values)
        if self.form == "log":
            low, high = math.log(low), math.log(high)
        drawn = [low + share * (high - low) for share in shares]
        if self.form == "log":
            drawn = [math.exp(value) for value in drawn]
        return tuple(_rounded(value, whole) for value in drawn)

    def written(self) -> Any:
        """Write what stands right of the key in a file."""
        if self.form == "list":
            return list(self.values)
        ends = {self.form: list(self.values)}
        return ends if self.points is None else {**ends, "points": self.points}


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a scenario is repeated for: every combination of its axes.

    Attributes
    ----------
    grid
        Axes of their own.
    zip
        Axes that advance together, as one.
    random
        Axes that are drawn together, as one.
    draws
        Number of draws.
    seed
        Seed of the draws.
    """

    grid: tuple[Axis, ...] = ()
    zip: tuple[Axis, ...] = ()
    random: tuple[Axis, ...] = ()
    draws: int = 0
    seed: int = 0

    def axes(self) -> Iterator[tuple[Key, Axis]]:
        """List the axes with the key under which each stands in the table."""
        for axis in self.grid:
            yield tuple(axis.key.split(".")), axis
        for axis in self.zip:
            yield ("zip", *axis.key.split(".")), axis
        for axis in self.random:
            yield ("random", *axis.key.split(".")), axis

    def written(self) -> dict[str, Any]:
        """Write the table as a file has it, with dotted keys."""
        table: dict[str, Any] = {axis.key: axis.written() for axis in self.grid}
        if self.zip:
            table["zip"] = {axis.key: axis.written() for axis in self.zip}
        if self.random:
            drawn = {axis.key: axis.written() for axis in self.random}
            table["random"] = {"draws": self.draws, "seed": self.seed, **drawn}
        return table


def entries(values: Mapping[str, Any], written: Key = ()) -> Iterator[tuple[Key, Key, Any]]:
    """Take a sweep table apart, whether its dotted keys are quoted or nested tables.

    Parameters
    ----------
    values
        The table.
    written
        Where it stands in the whole one.

    Yields
    ------
    tuple
        Path of an entry as it is written, its key split at the dots, and its value.
    """
    for name, value in values.items():
        path = (*written, str(name))
        if isinstance(value, Mapping) and value and not _is_form(value):
            yield from entries(value, path)
        else:
            yield path, tuple(".".join(path).split(".")), value


def read_sweep(values: Any) -> Sweep | None:
    """Read the table of a scenario; whether its keys exist is not known here.

    Parameters
    ----------
    values
        What the file or the JSON has, or a sweep that was read before.

    Raises
    ------
    ValidationError
        Names all mistakes.
    """
    if values is None or isinstance(values, Sweep):
        return values
    if not isinstance(values, Mapping):
        raise error_at([((), f"should be a table (got {shown(values)})")])
    mistakes: list[tuple[Key, str]] = []
    seen: set[Key] = set()
    axes: dict[str, list[Axis]] = {"": [], "zip": [], "random": []}
    settings: dict[str, Any] = {"seed": 0}
    for _, key, value in entries(values):
        group = key[0] if key[0] in GROUPS else ""
        name = key[1:] if group else key
        if key in seen:
            mistakes.append((key, "is written twice; keep one"))
        elif group == "random" and name in (("draws",), ("seed",)):
            settings[name[0]] = value
        elif not name:
            if not isinstance(value, Mapping):
                mistakes.append((key, f"should be a table (got {shown(value)})"))
            elif group == "zip":
                mistakes.append((key, "should name the keys that advance together"))
        else:
            try:
                axes[group].append(_axis(".".join(name), value, drawn=group == "random"))
            except AxisMistake as error:
                mistakes.append((key, str(error)))
        seen.add(key)
    mistakes += _wrong_settings(values, settings, axes["random"]) if "random" in values else []
    lengths = {axis.key: axis.size for axis in axes["zip"]}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        mistakes.append((("zip",), f"lists that advance together should be equally long; {listed}"))
    if not mistakes and not any(axes.values()):
        text = 'should name a key and its values, for example "dynamics.learning_rate" = [0.1, 0.2]'
        mistakes.append(((), text))
    if mistakes:
        raise error_at(mistakes)
    return Sweep(tuple(axes[""]), tuple(axes["zip"]), tuple(axes["random"]), **settings)


def _wrong_settings(
    values: Mapping[str, Any], settings: Mapping[str, Any], axes: list[Axis]
) -> list[tuple[Key, str]]:
    mistakes: list[tuple[Key, str]] = []
    if not isinstance(values["random"], Mapping):  # reported as such
        return mistakes
    draws: Any = settings.get("draws")
    seed: Any = settings["seed"]
    if "draws" not in settings:
        mistakes.append((("random", "draws"), "missing (number of draws, for example 20)"))
    elif not _is_integer(draws) or draws < 1:
        text = f"should be an integer of at least 1 (got {shown(draws)})"
        mistakes.append((("random", "draws"), text))
    if not _is_integer(seed) or not 0 <= seed <= LARGEST_INTEGER:
        text = f"should be an integer from 0 to {LARGEST_INTEGER} (got {shown(seed)})"
        mistakes.append((("random", "seed"), text))
    if not axes and set(values["random"]) <= set(GROUPS["random"]):
        text = 'should name what is drawn, for example "dynamics.learning_rate" = {log = [0.01, 1]}'
        mistakes.append((("random",), text))
    return mistakes


def _axis(key: str, value: Any, drawn: bool) -> Axis:
    """Read what an axis takes."""
    forms = (*_RANGES, "choice") if drawn else (*_RANGES, "points")
    if not isinstance(value, Mapping):
        if isinstance(value, list | tuple) and not drawn:
            return Axis(key, "list", _scalars(value))
        wanted = (
            "{log = [a, b]}, {linear = [a, b]} or {choice = [...]}, because it is drawn"
            if drawn
            else "a list of values, {log = [a, b], points = n} or {linear = [a, b], points = n}"
        )
        raise AxisMistake(f"should be {wanted} (got {shown(value)})")
    for name in value:
        if name == "points" and drawn:
            raise AxisMistake("has no points here; sweep.random.draws says how many are drawn")
        if name == "choice" and not drawn:
            raise AxisMistake("choice is for sweep.random; write the list alone")
        if name not in forms:
            close = "".join(f" Did you mean {other!r}?" for other in nearest(name, forms))
            raise AxisMistake(f"unknown key {name!r}.{close} Known: {', '.join(forms)}")
    given = [name for name in value if name != "points"]
    if len(given) != 1:
        listed = " and ".join(given) or "none of them"
        choices = ", ".join(name for name in forms if name != "points")
        raise AxisMistake(f"should have exactly one of {choices} (got {listed})")
    form = given[0]
    if form == "choice":
        if not isinstance(value[form], list | tuple):
            raise AxisMistake(f"choice should be a list of values (got {shown(value[form])})")
        return Axis(key, form, _scalars(value[form]))
    ends = _ends(form, value[form])
    points = value.get("points")
    if drawn:
        return Axis(key, form, ends)
    if points is None:
        raise AxisMistake(f"missing points, the number of values between {ends[0]} and {ends[1]}")
    if not _is_integer(points) or points < 1:
        raise AxisMistake(f"points should be an integer of at least 1 (got {shown(points)})")
    return Axis(key, form, ends, points)


def _ends(form: str, values: Any) -> tuple[float, float]:
    if (
        not isinstance(values, list | tuple)
        or len(values) != 2
        or not all(_is_number(value) and math.isfinite(value) for value in values)
    ):
        raise AxisMistake(f"{form} should be two numbers, the ends (got {shown(values)})")
    low, high = float(values[0]), float(values[1])
    if form == "log" and min(low, high) <= 0:
        raise AxisMistake(
            f"the ends of log should be greater than 0 (got {shown(list(values))}); take linear"
        )
    return low, high


def _scalars(values: list[Any] | tuple[Any, ...]) -> tuple[Scalar, ...]:
    """Check a list of values: at least one, of one kind."""
    if not values:
        raise AxisMistake("should have at least one value (got [])")
    for value in values:
        if isinstance(value, list | tuple):
            raise AxisMistake(
                f"should hold numbers, strings or booleans, not lists (got {shown(value)}); sweep "
                "an entry of the list by its number, as in problem.model.hidden.0"
            )
        if not isinstance(value, Scalar):
            raise AxisMistake(
                f"should hold numbers, strings or booleans (got {shown(value)}); sweep single keys "
                "of a table, several together with sweep.zip"
            )
    if len({str if isinstance(v, str) else isinstance(v, bool) for v in values}) > 1:
        raise AxisMistake(
            "should hold values of one kind, all numbers, all strings or all booleans, because "
            f"they label one dimension (got {shown(list(values))})"
        )
    return tuple(values)


def _is_form(table: Mapping[str, Any]) -> bool:
    """Tell a range or a choice from a table of a dotted key, whose part may be named so too."""
    return any(key in _FORMS and not isinstance(value, Mapping) for key, value in table.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rounded(value: float, whole: bool) -> float | int:
    return round(value) if whole else float(f"{value:.{_DIGITS}g}")
