"""Quantities of claims on fabricated runs, and the table that is printed."""

import io

import numpy as np
import pytest
from rich.console import Console

from sgdsim.runs import QUANTITIES, evaluate_claims, print_claims
from sgdsim.scenario import KNOWN_QUANTITIES, Claim
from sgdsim.store import open_run
from sgdsim.testing import synthetic_run


@pytest.fixture
def tree(tmp_path):
    return open_run(synthetic_run(tmp_path / "run")).load()


def test_every_quantity_of_the_schema_is_known():
    assert tuple(QUANTITIES) == KNOWN_QUANTITIES


def test_quantities_against_plain_loops(tree):
    stagnation, bounds = tree["stagnation"].to_dataset(), tree["bounds"].to_dataset()
    s2 = stagnation["stay_lower_bound"].values[2]
    high = stagnation["stay_probability_high"].values
    excess = max(b - h for b, h in zip(s2[1:], high[1:], strict=True) if not np.isnan(b))
    assert QUANTITIES["stay_bound_excess"](tree) == pytest.approx(excess)
    assert QUANTITIES["exit_bound"](tree) == pytest.approx(
        np.exp(stagnation["log_exit_bound"].values[2, -1])
    )
    value, gap = bounds["value"].values, bounds["generalization_gap"].values
    assert QUANTITIES["certificate_slack"](tree) == pytest.approx(np.nanmin(value - gap))
    steps = stagnation["step"].values
    late = steps > steps[-1] // 2
    expected = stagnation["linearised_mean_squared_distance"].values[late].mean()
    assert QUANTITIES["distance_to_lyapunov_ratio"](tree) == pytest.approx(
        np.nanmean(stagnation["mean_squared_distance"].values) / expected
    )


def test_a_certificate_below_the_gap_is_caught(tree):
    tree["bounds"]["value"][0, 0, 0] = -1.0
    assert QUANTITIES["certificate_slack"](tree) < 0


def _claim(**limits: float) -> Claim:
    return Claim(quantity="exit_bound", text="t", source="s", **limits)


def test_limits_are_inclusive_and_nan_does_not_hold(tree):
    tree["stagnation"]["log_exit_bound"][2, -1] = np.log(0.5)
    value = QUANTITIES["exit_bound"](tree)
    claims = [_claim(at_most=value), _claim(at_least=value), _claim(at_most=0.4)]
    assert evaluate_claims(tree, claims)["holds"].tolist() == [1, 1, 0]
    tree["stagnation"]["log_exit_bound"][2, -1] = np.nan
    assert evaluate_claims(tree, claims)["holds"].tolist() == [0, 0, 0]


def test_the_table_names_claim_expected_measured_and_holds(tree):
    console = Console(record=True, width=120, quiet=False, file=io.StringIO())
    print_claims(tree, console)
    text = console.export_text()
    for word in ("claim", "expected", "measured", "holds"):
        assert word in text
