"""Reading scenario files: ``extends``, the merging of tables, and ``--set``.

A child's tables are merged into its parent's key by key, its ``[[process]]`` and ``[[claim]]``
entries are appended to the parent's, and everything else replaces what the parent has. Where a
child changes the ``kind`` of a table, keys that the new kind does not have are no longer inherited.
The axes of ``[sweep]`` are merged by the key that they sweep, each as a whole.
"""

import dataclasses
import errno
import pathlib
import re
import tomllib
from collections.abc import Callable
from typing import Any

from sgdsim._errors import ScenarioError
from sgdsim.scenario._catalogue import scenario_root
from sgdsim.scenario._locate import locate_keys
from sgdsim.scenario._report import SET, Origin, Problem, dotted, nearest, report, shown
from sgdsim.scenario._shape import Path
from sgdsim.scenario._sweep_axes import GROUPS, entries

_APPENDED: tuple[Path, ...] = (("process",), ("claim",))
_LINE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclasses.dataclass
class Document:
    """Values of a scenario before validation, and where each was written.

    Attributes
    ----------
    data
        Nested tables.
    origins
        File and line of every path.
    leftovers
        Inherited paths next to a ``kind`` that was changed later: dropped if the new kind does
        not know them.
    problems
        Mistakes found while composing.
    """

    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    origins: dict[Path, Origin] = dataclasses.field(default_factory=dict)
    leftovers: set[Path] = dataclasses.field(default_factory=set)
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def merge(self, values: dict[str, Any], source: Callable[[Path], Origin]) -> None:
        """Lay the tables of a file over this document; ``source`` tells where it has a path."""
        self._merge_into(self.data, values, (), source, append=True)

    def override(self, setting: str) -> None:
        """Apply one ``key=value`` of the command line; mistakes are added to ``problems``."""
        name, equals, text = setting.partition("=")
        parts = [part.strip() for part in name.split(".")]
        if not equals or not all(parts):
            wrong = f"write key=value, for example ensemble.trajectories=16 (got {setting!r})"
            self.problems.append(Problem((), wrong, Origin(SET)))
            return
        if parts[0] == "sweep" and len(parts) > 1:
            self._sweep(parts[1:], _value(text))
            return
        holder: Any = self.data
        path: Path = ()
        while True:
            key = _key_in(holder, parts[len(path)])
            if key is None:
                wrong = _no_key(holder, parts, parts[len(path)])
                self.problems.append(Problem(path, wrong, Origin(SET)))
                return
            is_new = isinstance(holder, dict) and key not in holder
            if is_new or len(path) == len(parts) - 1:
                break
            holder, path = holder[key], (*path, key)
        value = _value(text)
        for inner in reversed(parts[len(path) + 1 :]):
            value = {inner: value}
        if isinstance(holder, list):
            self._replace(holder, key, value, path, lambda _: Origin(SET))
        else:
            self._merge_into(holder, {str(key): value}, path, lambda _: Origin(SET), append=False)

    def _sweep(self, parts: list[str], value: Any) -> None:
        """Apply a setting of the command line below ``sweep``, where keys may be quoted."""
        for part in reversed(parts):
            value = {part.strip("\"'"): value}
        self._merge_sweep(self.data, value, lambda _: Origin(SET))

    def _merge_sweep(
        self, base: dict[str, Any], values: dict[str, Any], source: Callable[[Path], Origin]
    ) -> None:
        """Lay axes over those of before; one replaces the same one, however it was spelled."""
        old = base.get("sweep")
        table: dict[str, Any] = old if isinstance(old, dict) else {}
        base["sweep"] = table
        self.origins.setdefault(("sweep",), source(("sweep",)))
        seen: set[Path] = set()
        for written, key, value in entries(values):
            path, place = ("sweep", *key), source(("sweep", *written))
            if key in seen:
                self.problems.append(Problem(path, "is written twice; keep one", place))
                continue
            seen.add(key)
            group = key[:1] if key[0] in GROUPS and len(key) > 1 else ()
            axes = table
            if group:
                if not isinstance(table.get(group[0]), dict):
                    table[group[0]] = {}
                axes = table[group[0]]
                self.origins.setdefault(("sweep", *group), source(("sweep", *written[:1])))
            name = key[len(group) :]
            for other in [other for other in axes if _same_axis(other, name, group)]:
                if (*group, *other.split(".")) not in seen:  # both here is for the check to say
                    del axes[other]
            axes[".".join(name)] = value
            self.origins[path] = place

    def _merge_into(
        self,
        base: dict[str, Any],
        values: dict[str, Any],
        at: Path,
        source: Callable[[Path], Origin],
        append: bool,
    ) -> None:
        if "kind" in base and values.get("kind", base["kind"]) != base["kind"]:
            label = source((*at, "kind")).label
            paths = [(*at, key) for key in base if key != "kind"]
            self.leftovers |= {path for path in paths if self.origins[path].label != label}
        for key, value in values.items():
            path = (*at, key)
            self.leftovers.discard(path)
            old = base.get(key)
            if path == ("sweep",) and isinstance(value, dict):
                self._merge_sweep(base, value, source)
            elif isinstance(value, dict) and isinstance(old, dict):
                self._merge_into(old, value, path, source, append)
            elif append and path in _APPENDED and isinstance(value, list) and isinstance(old, list):
                self._note(value, path, path, source, shift=len(old))
                base[key] = old + value
            else:
                self._replace(base, key, value, at, source)

    def _replace(
        self, holder: Any, key: Any, value: Any, at: Path, source: Callable[[Path], Origin]
    ) -> None:
        path = (*at, key)
        for old in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[old]
        holder[key] = value
        self._note(value, path, path, source)

    def _note(
        self,
        value: Any,
        path: Path,
        written: Path,
        source: Callable[[Path], Origin],
        shift: int = 0,
    ) -> None:
        """Record the origin of a value and of all below it; ``written``: its path in the source."""
        self.origins.setdefault(path, source(written))
        if isinstance(value, dict):
            for key, item in value.items():
                self._note(item, (*path, key), (*written, key), source)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._note(item, (*path, index + shift), (*written, index), source)


def compose(file: pathlib.Path, header: str) -> Document:
    """Read a scenario file and what it extends.

    Parameters
    ----------
    file
        The TOML file.
    header
        How messages name it.

    Raises
    ------
    ScenarioError
        If a file cannot be read, is not TOML, extends nothing that exists, or itself.
    """
    return _compose(file, header, "", [])


def _compose(file: pathlib.Path, header: str, label: str, children: list[pathlib.Path]) -> Document:
    values, lines = _read(file, label or header)
    document = Document()
    chain = [*children, file]

    def here(path: Path) -> Origin:
        return Origin(label, lines.get(path))

    if "extends" in values:
        extends = values.pop("extends")
        if not isinstance(extends, str) or not extends:
            text = f"should be the path of another scenario file (got {shown(extends)})"
            raise report(header, [Problem(("extends",), text, here(("extends",)))])
        parent = _parent(file, extends)
        if parent is None:
            folder = file.parent / pathlib.PurePath(extends).parent
            text = _no_parent(extends, folder)
            raise report(header, [Problem(("extends",), text, here(("extends",)))])
        if parent.resolve() in [link.resolve() for link in chain]:
            names = " -> ".join(link.name for link in [*chain, parent])
            text = f"goes round in a circle: {names}"
            raise report(header, [Problem(("extends",), text, here(("extends",)))])
        document = _compose(parent, header, _label(parent, chain[0]), chain)
    document.merge(values, here)
    return document


def _read(file: pathlib.Path, name: str) -> tuple[dict[str, Any], dict[Path, int]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        if error.errno == errno.EISDIR or file.is_dir():
            raise ScenarioError(f"{name} is a folder; give the path of a TOML file.") from None
        if error.errno == errno.ENOENT:
            raise ScenarioError(f"there is no file {name}.{_similar_file(file)}") from None
        raise ScenarioError(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise ScenarioError(f"{name} is not UTF-8 text ({byte}); save it as UTF-8.") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        line = found.group(1) if found and found.group(1) else str(text.rstrip().count("\n") + 1)
        what = _LINE.sub("", str(error))
        column = f" at column {found.group(2)}" if found and found.group(2) else ""
        problem = Problem((), f"TOML syntax: {what}{column}", Origin("", int(line)))
        raise report(name, [problem]) from None
    except RecursionError:
        raise ScenarioError(f"{name} is nested too deeply to be a scenario.") from None
    return values, locate_keys(text)


def _key_in(holder: Any, part: str) -> str | int | None:
    """Read a part of a ``--set`` key as a key, an index or the name of an entry; else None."""
    if isinstance(holder, list):
        if part.isdecimal():
            return int(part) if int(part) < len(holder) else None
        names = _names(holder)
        return names.index(part) if part in names else None
    return part if isinstance(holder, dict) else None


def _names(listed: list[Any]) -> list[Any]:
    """List the names of entries that are tables; ``None`` where there is none."""
    return [entry.get("name") if isinstance(entry, dict) else None for entry in listed]


def _same_axis(one: str, other: tuple[str, ...], group: tuple[str, ...]) -> bool:
    """Whether two keys of a sweep are the same, or one is the last part of the other."""
    parts = tuple(one.split("."))
    if parts == other:
        return True
    settings = [(name,) for name in GROUPS[group[0]]] if group else []
    if parts in settings or other in settings:
        return False
    return min(len(parts), len(other)) == 1 and parts[-1] == other[-1]


def _no_key(holder: Any, parts: list[str], part: str) -> str:
    if isinstance(holder, list):
        names = [name for name in _names(holder) if isinstance(name, str)]
        close = nearest(part, names)
        hint = f". Did you mean {close[0]!r}?" if close else ""
        named = f", named {', '.join(map(repr, names))}" if names else ""
        return f"there is no entry {part!r}: it has {len(holder)}, counted from 0{named}{hint}"
    return f"is not a table, so {SET} {dotted(tuple(parts))} is not possible"


def _value(text: str) -> Any:
    """Read the right side of ``--set``: a TOML value, or else plain text."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return values["value"] if list(values) == ["value"] else text


def _parent(file: pathlib.Path, extends: str) -> pathlib.Path | None:
    """Find what a file extends: next to it, or else among the built-in scenarios."""
    for folder in (file.parent, scenario_root()):
        for name in (extends, f"{extends}.toml"):
            if (folder / name).is_file():
                return folder / name
    return None


def _no_parent(extends: str, folder: pathlib.Path) -> str:
    similar = _similar_file(folder / pathlib.PurePath(extends).name)
    return f"there is no {shown(extends)}, neither next to this file nor built in.{similar}"


def _similar_file(file: pathlib.Path) -> str:
    if not file.parent.is_dir():
        return ""
    name = file.name if file.suffix == ".toml" else f"{file.name}.toml"
    close = nearest(name, [other.name for other in file.parent.glob("*.toml")])
    return f" Did you mean {close[0]!r}?" if close else ""


def _label(file: pathlib.Path, main: pathlib.Path) -> str:
    """Name a file as seen from the one that the user gave."""
    for folder, prefix in ((main.resolve().parent, ""), (scenario_root().resolve(), "built-in ")):
        if file.resolve().is_relative_to(folder):
            return prefix + file.resolve().relative_to(folder).as_posix()
    return str(file)
