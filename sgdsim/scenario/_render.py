"""A scenario as a commented TOML file, and the JSON schema of scenario files."""

import json
import re
from typing import Any

from pydantic import BaseModel

from sgdsim.scenario._schema import Scenario


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
    >>> print(to_toml(load_scenario("stagnation")).splitlines()[1])
    name = "stagnation"
    """
    return "\n".join(_table(scenario, ())).strip("\n") + "\n"


def scenario_schema() -> dict[str, Any]:
    """Make the JSON schema of scenario files, for completion and hints in an editor.

    No key is required in it, because a file that extends another holds only what differs;
    whether a scenario is complete is checked when it is loaded.

    Examples
    --------
    >>> from sgdsim.scenario import scenario_schema
    >>> scenario_schema()["properties"]["extends"]["type"]
    'string'
    """
    schema = _relaxed(Scenario.model_json_schema())
    extends = {
        "type": "string",
        "description": "Scenario file to start from: next to this file, or else a built-in one; "
        'the ending ".toml" may be left out. Tables are merged key by key, claims are appended.',
    }
    schema["properties"] = {"extends": extends, **schema["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


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


def _table(table: BaseModel, at: tuple[str, ...], explain: bool = True) -> list[str]:
    lines: list[str] = []
    inner: list[str] = []
    # `kind` decides which keys follow, so it comes first.
    fields = sorted(type(table).model_fields.items(), key=lambda item: item[0] != "kind")
    for name, field in fields:
        value = getattr(table, name)
        path = (*at, name)
        if isinstance(value, BaseModel):
            inner += ["", f"# {field.description}", f"[{'.'.join(path)}]", *_table(value, path)]
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            inner += ["", f"# {field.description}"]
            for index, entry in enumerate(value):
                # Repeating the explanations in every entry would bury the entries.
                inner += [f"[[{'.'.join(path)}]]", *_table(entry, path, index == 0), ""]
        elif value is not None:
            lines += [f"# {field.description}"] if explain else []
            lines += [f"{name} = {_value(value)}"]
    return lines + inner


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but JSON lets the character DEL through.
        return re.sub("\x7f", r"\\u007f", json.dumps(value, ensure_ascii=False))
    return repr(value)
