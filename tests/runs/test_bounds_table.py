"""Tables of ``sgdsim bounds``: their width and their columns, and files of rows that do not fit."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from sgdsim.networks import build_architecture, layers_of
from sgdsim.runs._bounds_table import _rows, print_run_bounds
from sgdsim.scenario import load_scenario
from sgdsim.store import RunStore, SweepAxis
from sgdsim.testing import synthetic_sweep

ROWS = {
    "inputs": np.ones((4, 3)),
    "labels": np.array([0, 1, 0, 1]),
    "test_inputs": np.ones((2, 3)),
    "test_labels": np.array([0, 1]),
}


@pytest.fixture
def sweep(tmp_path):
    axis = SweepAxis("random_labels", {"random_labels": [0.0, 0.5, 1.0]})
    run = synthetic_sweep(tmp_path / "run", "bounds", [axis])
    scenario = load_scenario(
        "random-labels-bounds", ["sweep={}", "sweep.random_labels=[0.0, 0.5, 1.0]"]
    )
    attrs = {"scenario": scenario.canonical_json(), "title": "A sweep"}
    RunStore.open(run / "run.zarr").set_attrs(attrs)
    return run


def test_a_sweep_is_readable_in_eighty_columns(sweep):
    console = Console(file=io.StringIO(), width=80)
    print_run_bounds(str(sweep), console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "A sweep (medians over 9 runs, ranked by the error rate gap)"
    assert "…" not in "".join(lines)
    title, tables = "", {}
    for line in lines[1:]:
        if line[0] not in "┏┃┡│└":
            title = line.strip()
            tables[title] = []
        elif line[0] == "│":
            tables[title].append([cell.strip() for cell in line.split("│")[1:-1]])
    assert list(tables) == ["Certificates", "Measures (no bounds)", "Bounds on the mean gap"]
    assert {row[0] for row in tables["Certificates"]} == {"BFT", "VC", "PB-kl", "linear"}
    vacuous = {row[0]: row[3] for row in tables["Certificates"]}
    assert vacuous == {"BFT": "100 %", "VC": "100 %", "PB-kl": "0 %", "linear": ""}
    assert [len(row) for row in tables["Measures (no bounds)"]] == [6, 6], "none is vacuous"
    assert tables["Bounds on the mean gap"] == [["gradient_norm", "0.4", "0.01", "0.1"]]


BROKEN = {
    "a scalar": (
        {"inputs": np.array(1.0)},
        "inputs in rows.npz must be real numbers, one row for every label; got float64 of shape "
        "().",
    ),
    "one row that is no list": (
        {"inputs": np.ones(4)},
        "inputs in rows.npz must be real numbers, one row for every label; got float64 of shape "
        "(4,).",
    ),
    "words": (
        {"inputs": np.full((4, 3), "a")},
        "inputs in rows.npz must be real numbers, one row for every label; got <U1 of shape "
        "(4, 3).",
    ),
    "words to test": (
        {"test_inputs": np.full((2, 3), "a")},
        "test_inputs in rows.npz must be real numbers, one row for every label; got <U1 of shape "
        "(2, 3).",
    ),
    "complex": (
        {"inputs": np.ones((4, 3), complex)},
        "inputs in rows.npz must be real numbers, one row for every label; got complex128 of shape "
        "(4, 3).",
    ),
    "a scalar label": (
        {"labels": np.array(1)},
        "labels in rows.npz must be integers from 0 to 1, one per row; got int64 of shape ().",
    ),
    "nothing to test": (
        {"test_inputs": np.zeros((0, 3)), "test_labels": np.zeros(0, int)},
        "rows.npz has 0 test_inputs; give some, or leave out test_inputs and test_labels.",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_rows_that_do_not_fit(tmp_path, what):
    changed, told = BROKEN[what]
    np.savez(tmp_path / "rows.npz", **(ROWS | changed))
    weights = {"0.weight": np.ones((2, 3))}
    network = build_architecture(weights, layers_of(weights, "relu"))
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        _rows(tmp_path / "rows.npz", network)


def test_rows_that_fit(tmp_path):
    np.savez(tmp_path / "rows.npz", **ROWS)
    weights = {"0.weight": np.ones((2, 3))}
    rows, fresh = _rows(
        tmp_path / "rows.npz", build_architecture(weights, layers_of(weights, "relu"))
    )
    np.testing.assert_array_equal(rows.targets, np.eye(2)[[0, 1, 0, 1]])
    assert fresh is not None
    assert fresh.inputs.shape == (2, 3)
