"""A scenario as a commented TOML file, and the JSON schema of scenario files."""

import json
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sgdsim.scenario._schema import Scenario, study_tables
from sgdsim.scenario._sweep_axes import GROUPS, SWEEP_JSON_SCHEMA, Sweep

# Fields that many tables share come first in the classes, but last in a file.
_LAST = ("weight_decay", "schedule", "projection", "ensemble", "compute", "sweep", "claim")


def to_toml(scenario: Scenario) -> str:
    """Write a scenario as a TOML file that explains every key.

    The file stands on its own (it extends nothing) and reads back as the same scenario.

    Parameters
    ----------
    scenario
        What to write.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario, to_toml
    >>> print(to_toml(load_scenario("stagnation")).splitlines()[3])
    name = "stagnation"
    """
    return "\n".join(_table(scenario, ())).strip("\n") + "\n"


def scenario_schema() -> dict[str, Any]:
    """Make the JSON schema of scenario files, for completion and hints in an editor.

    It has the keys of all studies, and none is required, because a file that extends another
    holds only what differs (not even its study); whether a scenario is complete, and which keys
    its study has, is checked when it is loaded.

    Examples
    --------
    >>> from sgdsim.scenario import scenario_schema
    >>> scenario_schema()["properties"]["extends"]["type"]
    'string'
    """
    tables = study_tables().values()
    _, definitions = models_json_schema([(table, "validation") for table in tables])
    tables_by_name = _relaxed(definitions)["$defs"]
    keys: dict[str, list[Any]] = {}
    for table in tables:
        for key, described in tables_by_name.pop(table.__name__)["properties"].items():
            known = keys.setdefault(key, [])
            known += [] if described in known else [described]
    extends = {
        "type": "string",
        "description": "Scenario file to start from: next to this file, or else a built-in one; "
        'the ending ".toml" may be left out. Tables are merged key by key, processes and claims '
        "are appended.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": tables_by_name,
        "title": "Scenario",
        "description": "A run of sgdsim: what is simulated, measured and claimed.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"extends": extends} | {key: _any_of(known) for key, known in keys.items()},
    }


def _any_of(schemas: list[Any]) -> Any:
    if len(schemas) == 1:
        return schemas[0]
    descriptions = dict.fromkeys(schema["description"] for schema in schemas)
    return {"description": " / ".join(descriptions), "anyOf": schemas}


def _relaxed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # A table without `kind` fits several members of a union, which `oneOf` would refuse.
    return {
        "anyOf" if key == "oneOf" else key: _relaxed(value)
        for key, value in schema.items()
        if not (key == "required" and isinstance(value, list)) and key != "discriminator"
    }


def _table(table: BaseModel, at: tuple[str, ...], explained: set[str] | None = None) -> list[str]:
    """Write the keys and inner tables of a table; what was explained before is not again."""

    def comment(text: str | None) -> list[str]:
        if explained is None:
            return [f"# {text}"]
        is_new = text not in explained
        explained.add(str(text))
        return [f"# {text}"] if is_new else []

    lines: list[str] = []
    inner: list[str] = []
    fields = sorted(type(table).model_fields.items(), key=lambda item: _rank(item[0]))
    for name, field in fields:
        value = getattr(table, name)
        path = (*at, name)
        if isinstance(value, BaseModel):
            above = comment(field.description)
            inner += ["", *above, f"[{'.'.join(path)}]", *_table(value, path, explained)]
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            inner += ["", *comment(field.description)]
            # Repeating the explanations in every entry would bury the entries.
            of_entries: set[str] = set()
            for entry in value:
                inner += [f"[[{'.'.join(path)}]]", *_table(entry, path, of_entries), ""]
        elif isinstance(value, Sweep):
            inner += ["", *comment(field.description), *_sweep(value)]
        elif value is not None:
            lines += [*comment(field.description), f"{name} = {_value(value)}"]
    return lines + inner


def _sweep(sweep: Sweep) -> list[str]:
    values = sweep.written()
    inner = {name: values.pop(name) for name in GROUPS if name in values}
    lines = ["[sweep]", *(f"{_value(key)} = {_value(value)}" for key, value in values.items())]
    for name, table in inner.items():
        lines += [f"# {SWEEP_JSON_SCHEMA['properties'][name]['description']}", f"[sweep.{name}]"]
        lines += [f"{_value(key)} = {_value(value)}" for key, value in table.items()]
    return lines


def _rank(name: str) -> int:
    if name == "kind":  # it decides which keys follow
        return -1
    return _LAST.index(name) + 1 if name in _LAST else 0


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but JSON lets the character DEL through.
        return re.sub("\x7f", r"\\u007f", json.dumps(value, ensure_ascii=False))
    return repr(value)
