"""From a name or a file, with ``--set`` overrides, to a checked scenario."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from sgdsim._errors import ScenarioError
from sgdsim.scenario._catalogue import scenario_names, scenario_root
from sgdsim.scenario._compose import Document, compose
from sgdsim.scenario._report import Problem, error_of, nearest, report
from sgdsim.scenario._schema import Scenario, UnknownStudy, study_table
from sgdsim.scenario._shape import Path, plain_path, tables_at


def load_scenario(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Scenario:
    """Read and check a scenario.

    Parameters
    ----------
    name_or_path
        Name of a built-in scenario, or the path of a TOML file (a string is a path if it ends in
        ``.toml`` or has a folder in it).
    overrides
        Settings ``key=value`` such as ``"ensemble.trajectories=16"``, applied in order. The value
        is TOML; what is not TOML is taken as plain text, as in ``"problem.model.kind=mlp"``.
        Entries of lists are addressed by number, ``"claim.0.at_most=0.1"``, or by their name,
        ``"process.sgd.dynamics.learning_rate=0.1"``.

    Returns
    -------
    Scenario
        Immutable, of the class that belongs to its ``study``.

    Raises
    ------
    ScenarioError
        Names every mistake with its file and line.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario
    >>> scenario = load_scenario("stagnation", ["dynamics.learning_rate=0.25"])
    >>> scenario.dynamics.learning_rate
    0.25
    """
    file, header = _find(name_or_path)
    document = compose(file, header)
    for setting in overrides:
        document.override(setting)
    return _validate(document, header)


def list_scenarios() -> list[tuple[str, str]]:
    """List the built-in scenarios as pairs of name and title.

    Raises
    ------
    ScenarioError
        If one of them is damaged.

    Examples
    --------
    >>> from sgdsim.scenario import list_scenarios
    >>> "stagnation-mlp" in [name for name, title in list_scenarios()]
    True
    """
    return [(name, load_scenario(name).title) for name in scenario_names()]


def _find(name_or_path: str | os.PathLike[str]) -> tuple[pathlib.Path, str]:
    text = os.fspath(name_or_path)
    is_name = isinstance(name_or_path, str) and pathlib.PurePath(text).name == text
    if not is_name or text.endswith(".toml"):
        return pathlib.Path(text), text
    names = scenario_names()
    if text in names:
        return scenario_root() / f"{text}.toml", text
    hint = "".join(f" Did you mean {name!r}?" for name in nearest(text, names))
    here = pathlib.Path(f"{text}.toml")
    if text and here.is_file():
        hint = f" Did you mean the file {str(here)!r}?"
    raise ScenarioError(
        f"unknown scenario {text!r}.{hint} Built in: {', '.join(names)}. "
        "For a scenario of your own, give the path of a file that ends in .toml."
    )


def _validate(document: Document, header: str) -> Scenario:
    try:
        root = study_table(document.data)
    except UnknownStudy as error:
        wrong = Problem(("study",), str(error), document.origins.get(("study",)))
        raise report(header, [*document.problems, wrong]) from None
    while True:
        try:
            scenario = root.model_validate(document.data)
        except ValidationError as error:
            unused = _unused(error, document, root)
            if not unused:
                raise error_of(header, error, root, document.origins, document.problems) from None
            for path in unused:
                table: Any = document.data
                for key in path[:-1]:
                    table = table[key]
                del table[path[-1]]
        else:
            if document.problems:
                raise report(header, document.problems)
            return scenario


def _unused(error: ValidationError, document: Document, root: type[Scenario]) -> list[Path]:
    """List inherited keys that the table's former ``kind`` had and its new one has not."""
    refused = [
        plain_path(root, detail["loc"])[0]
        for detail in error.errors(include_url=False)
        if detail["type"] == "extra_forbidden"
    ]
    return [
        path
        for path in refused
        if path in document.leftovers
        and any(path[-1] in table.model_fields for table in tables_at(root, path[:-1]))
    ]
