"""Imports between the layers point one way; the light ones stay light."""

import ast
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "sgdsim"
#: Each layer may import from those before it.
LAYERS = [
    "scenario",
    "problems",
    "curvature",
    "dynamics",
    "ensemble",
    "stagnation",
    "bounds",
    "evaluation",
    "networks",
    "stability",
    "store",
    "readers",
    "runs",
    "plotting",
    "selftest",
]
#: These read scenarios or datasets and know nothing of the simulator.
ALLOWED = {
    "scenario": set(),
    "store": {"scenario"},
    "readers": set(),
    "evaluation": {"scenario", "bounds"},
    "plotting": {"store"},
    # A run draws its figures at its end; plotting in turn sees datasets only.
    "runs": {*LAYERS[: LAYERS.index("runs")], "plotting"},
}
#: Modules that all may use and that use no layer.
COMMON = {"_caching", "_checks", "_errors", "_typing"}
WITHOUT_JAX = {"scenario", "store", "readers", "plotting", "bounds", "evaluation"}
FILES = sorted(SOURCE.rglob("*.py"))


def layer_of(file: pathlib.Path) -> str:
    return file.relative_to(SOURCE).parts[0]


def imported_modules(text: str) -> set[str]:
    """Every module that is imported anywhere in a source, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def imported_layers(text: str) -> set[str]:
    parts = [module.split(".") for module in imported_modules(text)]
    return {part[1] for part in parts if part[0] == "sgdsim" and len(part) > 1}


def allowed_layers(layer: str) -> set[str]:
    before = ALLOWED.get(layer, set(LAYERS[: LAYERS.index(layer)]))
    return before | {layer} | COMMON


def test_every_package_is_a_layer():
    packages = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert packages == {*LAYERS, "testing"}
    loose = {file.name for file in SOURCE.glob("*.py")}
    commands = {
        "_cli.py",
        "_cli_bounds.py",
        "_cli_common.py",
        "_cli_edge.py",
        "_cli_selftest.py",
    }
    assert loose == {"__init__.py", "_doctor.py"} | commands | {f"{name}.py" for name in COMMON}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_comes_before_it(layer):
    for file in (SOURCE / layer).rglob("*.py"):
        outside = imported_layers(file.read_text(encoding="utf-8")) - allowed_layers(layer)
        assert not outside, f"{file.relative_to(SOURCE)} imports {outside}"


def test_the_oracles_are_not_used_by_the_library():
    users = [
        file
        for file in FILES
        if layer_of(file) != "testing"
        and "testing" in imported_layers(file.read_text(encoding="utf-8"))
    ]
    assert not users


@pytest.mark.parametrize("name", sorted(COMMON))
def test_what_all_may_use_uses_nothing(name):
    assert not imported_layers((SOURCE / f"{name}.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("from sgdsim.runs import run", {"runs"}),
        ("import sgdsim.bounds._norms as norms", {"bounds"}),
        ("def f():\n    from sgdsim.store._open import open_run", {"store"}),
        ("from sgdsim import plotting", {"plotting"}),
        ("if TYPE_CHECKING:\n    from sgdsim.dynamics import SDE", {"dynamics"}),
        ("import numpy as np", set()),
    ],
)
def test_the_reader_of_imports_sees_them_all(text, layers):
    assert imported_layers(text) == layers


@pytest.mark.parametrize("layer", sorted(WITHOUT_JAX))
def test_no_jax_in_the_source_of(layer):
    for file in (SOURCE / layer).rglob("*.py"):
        roots = {m.split(".")[0] for m in imported_modules(file.read_text(encoding="utf-8"))}
        assert not roots & {"jax", "equinox", "diffrax", "matfree"}, file


@pytest.mark.parametrize("layer", sorted(WITHOUT_JAX))
def test_no_jax_after_importing(layer):
    """Nor by way of another package."""
    code = f"import sys, sgdsim.{layer}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
