"""Turning mistakes into one message: where, what is wrong, what was given, what to do.

::

    bad.toml: 2 problem(s)
      line   3  dynamics.kind: unknown kind 'sdg'. Did you mean 'sgd'? Known: gd, sgd, ...
      --set     ensemble.steps: should be greater than or equal to 1 (got 0).
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sgdsim._errors import ScenarioError
from sgdsim.scenario._shape import Path, plain_path, tables_at

SET = "--set"
_LONGEST_VALUE = 60


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a key was written: the main file (label ""), a part file, or ``--set``."""

    label: str
    line: int | None = None

    @property
    def is_short(self) -> bool:
        """Whether it is in the main file or on the command line."""
        return self.label in ("", SET)

    def __str__(self) -> str:
        line = "" if self.line is None else f"line {self.line:>3}"
        return f"{self.label} {line}".strip()


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake in a scenario."""

    path: Path
    text: str
    origin: Origin | None = None

    def _order(self) -> tuple[int, str, int]:
        if self.origin is None:
            return (3, "", 0)
        rank = {"": 0, SET: 2}.get(self.origin.label, 1)
        return (rank, self.origin.label, self.origin.line or 0)


def report(header: str, problems: Iterable[Problem]) -> ScenarioError:
    """Make the error that lists all problems of a scenario, ordered by file and line.

    Parameters
    ----------
    header
        The file, or the name of the scenario.
    problems
        At least one.
    """
    listed = sorted(problems, key=Problem._order)
    places = ["" if problem.origin is None else str(problem.origin) for problem in listed]
    # Long names of part files stick out, so that the usual "line  12" stays close to its message.
    short = [len(p) for p, q in zip(places, listed, strict=True) if q.origin and q.origin.is_short]
    width = max(short or map(len, places))
    lines = [f"{header}: {len(listed)} problem(s)"]
    for place, problem in zip(places, listed, strict=True):
        label = f"{dotted(problem.path)}: " if problem.path else ""
        stop = "" if problem.text.endswith((".", "?")) else "."
        lines.append(f"  {place:<{width}}{'  ' if width else ''}{label}{problem.text}{stop}")
    return ScenarioError("\n".join(lines))


def error_of(
    header: str,
    error: ValidationError,
    root: type[BaseModel],
    origins: Mapping[Path, Origin] | None = None,
    others: Iterable[Problem] = (),
) -> ScenarioError:
    """Make the error for what pydantic found.

    Parameters
    ----------
    header
        The file, or the name of the scenario.
    error
        What pydantic raised.
    root
        The schema.
    origins
        Where each key was written.
    others
        Problems found before the validation, reported too.
    """
    return report(header, [*others, *problems_of(error, root, origins or {})])


def problems_of(
    error: ValidationError, root: type[BaseModel], origins: Mapping[Path, Origin]
) -> list[Problem]:
    """Say every pydantic error in the words of a scenario file; arguments as ``error_of``."""
    problems: list[Problem] = []
    misspelt: set[Path] = set()  # what misspelt keys were probably meant to be
    absent: dict[Path, int] = {}  # number of the problem that reports a key as missing
    for detail in error.errors(include_url=False):
        path, _ = plain_path(root, detail["loc"])
        text = _say(detail, path, root)
        if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path += ("kind",)
        if detail["type"] == "extra_forbidden":
            close = nearest(path[-1], _known(detail, root))
            misspelt.update((*path[:-1], key) for key in close)
        if text.startswith("missing"):
            absent[path] = len(problems)
        for key in detail.get("ctx", {}).get("at", ()):
            path = path[:-1] if key == ".." else (*path, key)
        problems.append(Problem(path, text, _origin(path, origins)))
    explained = {absent[path] for path in misspelt if path in absent}
    return [problem for index, problem in enumerate(problems) if index not in explained]


def dotted(path: Path) -> str:
    """Write a path as in a file, ``claim.0.text``; keys with odd characters are quoted."""
    parts = (str(part) for part in path)
    return ".".join(
        part if re.fullmatch(r"[\w-]+|\*", part, re.ASCII) else repr(part) for part in parts
    )


def shown(value: Any) -> str:
    """Write a value as a scenario file has it, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    text = repr(value) if isinstance(value, str | list | tuple) else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def nearest(given: Any, known: Iterable[str]) -> list[str]:
    """List the one known name that is most like the given one, or nothing."""
    return difflib.get_close_matches(str(given), list(known), n=1, cutoff=0.6)


def unknown(noun: str, given: Any, known: Iterable[str]) -> str:
    """Say that a name is unknown, which is nearest, and which are known (no final full stop)."""
    known = list(known)
    hint = "".join(f" Did you mean {name!r}?" for name in nearest(given, known))
    return f"unknown {noun} {shown(given)}.{hint} Known: {', '.join(known)}"


def _say(detail: ErrorDetails, path: Path, root: type[BaseModel]) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    name = path[-1] if path else ""
    if kind == "missing":
        return f"missing{_description(detail, root)}"
    if kind == "extra_forbidden":
        known = _known(detail, root)
        close = nearest(name, known)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}"
        return f"unknown key. {hint}"
    if kind == "union_tag_invalid":
        return unknown("kind", given.get("kind"), _quoted(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return f"missing. Known: {', '.join(_kinds(path, root))}"
    if kind == "literal_error":
        noun = str(name) if name in ("kind", "quantity") else "value"
        return unknown(noun, given, _quoted(context["expected"]))
    if kind == "sgdsim_mistake":
        return context["text"]
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"should be a table (got {shown(given)})"
    if kind == "tuple_type":
        return f"should be a list (got {shown(given)})"
    if kind == "string_too_short":
        return "should not be empty"
    text = detail["msg"].removeprefix("Input ")
    return text if kind == "json_invalid" else f"{text} (got {shown(given)})"


def _known(detail: ErrorDetails, root: type[BaseModel]) -> list[str]:
    """List the keys of the table in which an error lies."""
    _, tables = plain_path(root, detail["loc"][:-1])
    return [field for table in tables for field in table.model_fields]


def _description(detail: ErrorDetails, root: type[BaseModel]) -> str:
    _, tables = plain_path(root, detail["loc"][:-1])
    fields = [table.model_fields.get(str(detail["loc"][-1])) for table in tables]
    texts = [field.description for field in fields if field is not None and field.description]
    return f" ({texts[0].rstrip('.')})" if texts else ""


def _kinds(path: Path, root: type[BaseModel]) -> list[str]:
    tables = tables_at(root, path)
    return [kind for table in tables for kind in get_args(table.model_fields["kind"].annotation)]


def _quoted(listing: str) -> list[str]:
    """Take the names out of pydantic's ``'gd', 'sgd' or 'sde'``, or the numbers of ``1 or 2``."""
    return re.findall(r"'([^']*)'", listing) or re.split(", | or ", listing)


def _origin(path: Path, origins: Mapping[Path, Origin]) -> Origin | None:
    """Find where a path was written; a missing key belongs to its table, best to the kind of it."""
    if path in origins:
        return origins[path]
    while path:
        path = path[:-1]
        for candidate in ((*path, "kind"), path):
            if candidate in origins:
                return origins[candidate]
    return None
