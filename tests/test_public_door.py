"""The names that ``import sgdsim`` offers."""

import ast
import inspect
import itertools
import pathlib
import subprocess
import sys

import pytest

import sgdsim

STUB = pathlib.Path(sgdsim.__file__).with_suffix(".pyi")
# Made by lazy_loader from the stub; a type checker sees the stub alone.
NAMES = sorted(getattr(sgdsim, "__all__"))  # noqa: B009


def source_of_constants() -> dict[str, str]:
    """Comment lines ``#:`` above the module-level constants, which carry no docstring."""
    comments = {}
    for file in STUB.parent.rglob("*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        for above, line in itertools.pairwise(lines):
            if above.startswith("#:") and line[:1].isalpha():
                comments[line.split(":")[0].split("=")[0].strip()] = above
    return comments


def test_at_most_forty_names_that_are_those_of_the_stub():
    assert len(NAMES) == len(set(NAMES)) <= 40
    assert not [name for name in NAMES if name.startswith("_")]
    imported = {
        alias.asname or alias.name
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists_and_is_explained(name):
    value = getattr(sgdsim, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        text = inspect.getdoc(value) or ""
        inherited = any(inspect.getdoc(base) == text for base in getattr(value, "__mro__", [0])[1:])
        assert not inherited, f"{name} has no docstring of its own"
    else:
        text = source_of_constants().get(name, "")
    assert len(text.split()) >= 4, f"{name} has no explanation"


def test_the_door_opens_without_jax():
    code = "import sys, sgdsim; sgdsim.load_scenario; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
