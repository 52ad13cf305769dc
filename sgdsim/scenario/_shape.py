"""What the schema has at a path: which tables may stand there, which keys they know."""

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

#: Keys from the top of a scenario; integers are indices into lists.
Path = tuple[str | int, ...]
_Tables = tuple[type[BaseModel], ...]


def tables_in(annotation: Any) -> _Tables:
    """List the table classes that an annotation mentions: members of unions, entries of lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(table for part in get_args(annotation) for table in tables_in(part))


def tables_at(root: type[BaseModel], path: Path) -> _Tables:
    """List the tables that may stand at ``path``, of every ``kind``."""
    tables: _Tables = (root,)
    for key in path:
        if isinstance(key, str):
            tables = _below(tables, key)[0]
    return tables


def plain_path(root: type[BaseModel], location: Sequence[str | int]) -> tuple[Path, _Tables]:
    """Split a pydantic location into the path in the file and the tables that may stand there.

    pydantic puts the ``kind`` of a discriminated union between the keys, as in
    ``("dynamics", "sgd", "batch_size")``; here it only narrows the tables.

    Parameters
    ----------
    root
        The whole scenario's table.
    location
        The ``loc`` of an error.
    """
    tables: _Tables = (root,)
    path: Path = ()
    is_union = False
    for part in location:
        if is_union:
            is_union = False
            tables = tuple(t for t in tables if part in get_args(t.model_fields["kind"].annotation))
            continue
        path += (part,)
        if isinstance(part, str):
            tables, is_union = _below(tables, part)
    return path, tables


def _below(tables: _Tables, key: str) -> tuple[_Tables, bool]:
    """List the tables under a key, each once, and say whether ``kind`` decides between them."""
    fields = [table.model_fields[key] for table in tables if key in table.model_fields]
    found = dict.fromkeys(inner for field in fields for inner in tables_in(field.annotation))
    # Several tables in one place are always told apart by their kind.
    return tuple(found), any(len(tables_in(field.annotation)) > 1 for field in fields)
