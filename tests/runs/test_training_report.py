"""What is printed after a run of the bounds study, of values that no float holds too."""

import io
import json

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from sgdsim.runs._training_report import print_mean_gaps, print_training, rows
from sgdsim.store import open_run
from sgdsim.testing import synthetic_training_run


def bounds_of(value, log_value, gap=0.1, kind="certificate"):
    """One bound, one value for every trajectory."""
    values = xr.DataArray([[one] for one in value], dims=("trajectory", "bound"))
    logs = xr.DataArray([[one] for one in log_value], dims=("trajectory", "bound"))
    return xr.Dataset(
        {"value": values, "log_value": logs, "generalization_gap": xr.full_like(values, gap)},
        coords={"bound": ["B"], "kind": ("bound", [kind])},
    )


def printed(show, *arguments, width=80):
    console = Console(file=io.StringIO(), width=width)
    show(*arguments, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_value_that_no_float_holds_is_shown_by_its_logarithm():
    ((name, value, gap, ratio, _),) = rows(bounds_of([np.inf, np.inf], [810.0, 814.0]))
    assert (name, value, gap) == ("B", "e^812  vacuous", "0.1")
    assert ratio == f"e^{812 + np.log(10):.0f}"


def test_one_infinite_value_is_not_left_out_of_the_mean():
    ((_, value, _, _, _),) = rows(bounds_of([2.0, np.inf, np.nan], [0.0, 800.0, np.nan]))
    assert value == "e^400  vacuous"


def test_a_value_without_any_number_is_not_applicable():
    assert rows(bounds_of([np.nan, np.nan], [np.nan, np.nan])) == [
        ("B", "not applicable", "", "", "")
    ]


def test_a_logarithm_that_is_infinite_too():
    ((_, value, _, ratio, _),) = rows(bounds_of([np.inf, 1.0], [np.inf, 0.0]))
    assert (value, ratio) == ("inf  vacuous", "inf")
    ((_, value, _, _, _),) = rows(bounds_of([np.inf], [900.0], kind="measure"))
    assert value == "e^900", "a measure cannot be vacuous"


def test_finite_values_have_a_plain_mean():
    ((_, value, _, ratio, _),) = rows(bounds_of([0.25, 0.5], [0.0, 0.0], gap=0.125))
    assert (value, ratio) == ("0.375", "3")


@pytest.mark.parametrize(
    ("target", "reached", "said"),
    [
        (None, 3, "all 3 trajectories made all steps"),
        (None, 2, "2 of 3 trajectories made all steps"),
        (0.1, 3, "3 of 3 trajectories reached the target loss"),
        (0.1, 1, "1 of 3 trajectories reached the target loss"),
    ],
)
def test_how_training_ended(tmp_path, target, reached, said):
    tree = open_run(synthetic_training_run(tmp_path / "run")).load()
    scenario = json.loads(tree.attrs["scenario"]) | {"training": {"target": target}}
    tree.attrs["scenario"] = json.dumps(scenario)
    bounds = tree["bounds"].to_dataset()
    bounds["reached"][reached:, -1] = 0
    tree["bounds"] = bounds
    assert printed(print_training, tree).startswith(f"{said}; error rate gap ")


def test_bounds_on_the_mean_gap_are_printed_with_it(tmp_path):
    text = printed(print_training, open_run(synthetic_training_run(tmp_path / "run")))
    cells = [c.strip() for c in text.split("gradient_norm")[1].split("\n")[0].split("│")[1:-1]]
    assert cells == ["0.4", "0.01", "0.1"]


def test_means_over_the_points_that_have_a_bound():
    bounds = xr.Dataset(
        {
            "expected_gap_bound": (("rate", "expectation"), [[0.2, np.nan], [0.6, np.nan]]),
            "expected_gap_bound_stderr": (("rate", "expectation"), [[0.01, 0.1], [0.03, 0.1]]),
            "mean_gap": ("rate", [0.1, 0.3]),
        },
        coords={"expectation": ["one", "none"]},
    )
    lines = [line.split() for line in printed(print_mean_gaps, bounds).splitlines()]
    assert ["│", "one", "│", "0.4", "│", "0.02", "│", "0.2", "│"] in lines
    assert any(line[1:5] == ["none", "│", "not", "applicable"] for line in lines)
    bounds["mean_gap"][1] = np.nan  # that point has no gap to compare with
    lines = [line.split() for line in printed(print_mean_gaps, bounds).splitlines()]
    assert ["│", "one", "│", "0.2", "│", "0.01", "│", "0.1", "│"] in lines


def test_nothing_is_printed_without_a_bound_on_the_mean_gap():
    none = xr.Dataset(coords={"expectation": np.array([], str)})
    assert printed(print_mean_gaps, none) == ""
    assert printed(print_mean_gaps, xr.Dataset()) == ""
