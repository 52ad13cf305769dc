"""What the keys of a sweep mean in a scenario: where the dotted paths lead."""

import types
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from sgdsim.scenario._report import dotted, nearest
from sgdsim.scenario._shape import Path, tables_in
from sgdsim.scenario._sweep_axes import AxisMistake

#: Stands for all entries of a list.
ALL = "*"
# They say what a scenario is and what is claimed of it, not what is simulated.
_REFUSED = ("study", "name", "title", "description", "claim", "sweep")


class Target(NamedTuple):
    """Where a key of a sweep leads.

    Attributes
    ----------
    key
        The key in full, entries of lists by their names.
    paths
        What it sets, several with ``*``.
    types
        Types of the values that may stand there.
    """

    key: str
    paths: tuple[Path, ...]
    types: frozenset[type]

    @property
    def is_whole(self) -> bool:
        """Whether integers stand there, and no other numbers."""
        return int in self.types and float not in self.types


class _Node(NamedTuple):
    """A value of a scenario, what its field may hold, and where it is."""

    value: Any
    annotation: Any
    path: Path

    @property
    def is_table(self) -> bool:
        return isinstance(self.value, BaseModel)

    @property
    def is_leaf(self) -> bool:
        if self.value is None:
            return not tables_in(self.annotation)
        return not isinstance(self.value, BaseModel | tuple)

    def inner(self) -> dict[str, "_Node"]:
        """List what is inside by the part of a key that leads there."""
        if isinstance(self.value, BaseModel):
            fields = type(self.value).model_fields
            return {
                name: _Node(getattr(self.value, name), field.annotation, (*self.path, name))
                for name, field in fields.items()
            }
        if isinstance(self.value, tuple):
            return {
                _part(item, index): _Node(item, self.annotation, (*self.path, index))
                for index, item in enumerate(self.value)
            }
        return {}


def resolve(table: BaseModel, key: str) -> Target:
    """Follow a key of a sweep into a scenario.

    Parameters
    ----------
    table
        The scenario without its sweep.
    key
        Dotted path, or the last part of exactly one.

    Raises
    ------
    AxisMistake
        If it leads nowhere, to several places, or where nothing can be swept.
    """
    parts = key.split(".")
    if parts[0] in _REFUSED or (len(parts) > 1 and parts[-1] == "name"):
        raise AxisMistake(
            "cannot be swept, because points differ in what is simulated; names, texts and claims "
            "belong to the whole scenario"
        )
    root = _Node(table, type(table), ())
    if len(parts) == 1 and parts[0] not in type(table).model_fields:
        parts = _only_path(root, key)
    nodes = [root]
    full: list[str] = []
    for part in parts:
        # With `*` the entries are alike as far as the key goes, so the first names the parts.
        found = [_step(node, part) for node in nodes]
        full.append(found[0][0])
        nodes = [node for _, inner in found for node in inner]
    for node in nodes:
        if not node.is_leaf:
            raise AxisMistake(_not_a_value(node))
    kinds = frozenset(kind for node in nodes for kind in _types(node.annotation))
    return Target(".".join(full), tuple(node.path for node in nodes), kinds)


def _only_path(root: _Node, name: str) -> list[str]:
    """Find the one path that ends in a name."""
    leaves = [parts for parts in _leaves(root) if parts[0] not in _REFUSED and parts[-1] != "name"]
    paths = [parts for parts in leaves if parts[-1] == name]
    if len(paths) == 1:
        return paths[0]
    if paths:
        written = ", ".join(".".join(parts) for parts in paths)
        together = _together(root, paths)
        all_of_them = f" '{together}' for all of them, or" if together else ""
        raise AxisMistake(
            f"{len(paths)} keys of the scenario end in it; write{all_of_them} one of {written}"
        )
    close = nearest(name, dict.fromkeys(parts[-1] for parts in leaves))
    hint = f"Did you mean {close[0]!r}?" if close else "`sgdsim show` lists the keys"
    raise AxisMistake(f"no key of the scenario ends in it. {hint}")


def _together(root: _Node, paths: list[list[str]]) -> str | None:
    """Write paths that differ in the entry of a list only as one path."""
    if len({len(parts) for parts in paths}) != 1:
        return None
    columns = [set(parts) for parts in zip(*paths, strict=True)]
    parts = ["*" if len(column) > 1 else next(iter(column)) for column in columns]
    nodes = [root]
    try:
        for part in parts:
            nodes = [inner for node in nodes for inner in _step(node, part)[1]]
    except AxisMistake:
        return None
    return ".".join(parts)


def _leaves(node: _Node, parts: tuple[str, ...] = ()) -> Iterator[list[str]]:
    for part, inner in node.inner().items():
        if inner.is_leaf:
            yield [*parts, part]
        else:
            yield from _leaves(inner, (*parts, part))


def _step(node: _Node, part: str) -> tuple[str, list[_Node]]:
    """Go down one part of a key; give the part in full, and what is there."""
    inner = node.inner()
    is_list = isinstance(node.value, tuple)
    if is_list and part == ALL and inner:
        return ALL, list(inner.values())
    if is_list and part.isdecimal() and int(part) < len(inner):
        part = list(inner)[int(part)]
    if part in inner:
        return part, [inner[part]]
    place = dotted(node.path)
    if not inner:
        raise AxisMistake(
            f"{place} is not set in this scenario, so nothing below it can be swept"
            if node.value is None
            else f"{place} is no table, so there is no {part!r} below it"
        )
    above = f"{place}." if place else ""
    close = "".join(f"Did you mean {above + name!r}?" for name in nearest(part, inner))
    hint = close or f"Known: {', '.join(inner)}"
    where = f"in {place}" if place else "in the scenario"
    noun = "entry" if is_list else "key"
    raise AxisMistake(f"there is no {noun} {part!r} {where}. {hint}")


def _not_a_value(node: _Node) -> str:
    place = dotted(node.path)
    inner = node.inner()
    if not inner:
        return f"{place} is not set in this scenario, so it cannot be swept"
    noun = "table" if node.is_table else "list"
    listed = ", ".join(f"{place}.{part}" for part in inner)
    return f"{place} is a {noun}; sweep what is in it: {listed}"


def _part(item: Any, index: int) -> str:
    """Name an entry of a list in a key: by its name if that can stand there, or its number."""
    name = getattr(item, "name", None)
    plain = isinstance(name, str) and "." not in name and not name.isdecimal() and name != ALL
    return str(name) if plain else str(index)


def _types(annotation: Any) -> Iterator[type]:
    """List the types of plain values that an annotation allows."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_args(annotation):
        for part in get_args(annotation):
            yield from _types(part)
    elif isinstance(annotation, type) and annotation is not types.NoneType:
        yield annotation
