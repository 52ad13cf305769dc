"""Quantities of claims on fabricated runs, and the table that is printed."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sgdsim.runs import QUANTITIES, evaluate_claims, print_claims
from sgdsim.scenario import KNOWN_QUANTITIES, DynamicsClaim, StagnationClaim
from sgdsim.store import open_run
from sgdsim.testing import synthetic_dynamics_run, synthetic_run

WORDS = {"text": "t", "source": "s"}
OF_STAGNATION, OF_DYNAMICS = QUANTITIES["stagnation"], QUANTITIES["dynamics"]


@pytest.fixture
def tree(tmp_path):
    return open_run(synthetic_run(tmp_path / "run")).load()


@pytest.fixture
def processes(tmp_path):
    return open_run(synthetic_dynamics_run(tmp_path / "run")).load()


def claim(quantity: Any = "exit_bound", **limits: Any) -> StagnationClaim:
    return StagnationClaim(quantity=quantity, **WORDS, **(limits or {"at_most": 1.0}))


def claim_of(quantity: Any, *names: str, **limits: Any) -> DynamicsClaim:
    limits = limits or {"at_most": 1.0}
    return DynamicsClaim(quantity=quantity, processes=names, **WORDS, **limits)


def measured(tree, quantity: str, *names: str) -> float:
    return OF_DYNAMICS[quantity](tree, claim_of(quantity, *names))


def test_every_quantity_of_the_schema_is_known():
    assert {study: tuple(known) for study, known in QUANTITIES.items()} == KNOWN_QUANTITIES


def test_quantities_of_stagnation_against_plain_loops(tree):
    stagnation, bounds = tree["stagnation"].to_dataset(), tree["bounds"].to_dataset()
    s2 = stagnation["stay_lower_bound"].values[2]
    high = stagnation["stay_probability_high"].values
    excess = max(b - h for b, h in zip(s2[1:], high[1:], strict=True) if not np.isnan(b))
    value, gap = bounds["value"].values, bounds["generalization_gap"].values
    steps = stagnation["step"].values
    late = steps > steps[-1] // 2
    linearised = stagnation["linearised_mean_squared_distance"].values[late].mean()
    curvature, trajectory = tree["curvature"].to_dataset(), tree["trajectory"].to_dataset()
    certified = [v for v in value[:, -1, :3].ravel() if not np.isnan(v)]  # the last is a measure
    top = curvature["top_space_energy"].values[-1]
    expected = {
        "stay_bound_excess": excess,
        "exit_bound": np.exp(stagnation["log_exit_bound"].values[2, -1]),
        "certificate_slack": np.nanmin(value - gap),
        "distance_to_lyapunov_ratio": np.nanmean(stagnation["mean_squared_distance"].values)
        / linearised,
        "certified_exit_bound": np.exp(stagnation["certified_log_exit_bound"].values[2, -1]),
        "certified_radius": 1.8 * 0.22,
        "stagnation_number": 0.22 / 0.02 / np.sqrt(8 / (1 - 0.9**2)),
        "participation_share": 7.0 / 80,
        "top_space_share": top * 80 / 2,
        "final_error_rate": np.nanmean(trajectory["error_rate"].values[:, -1].astype(float)),
        "final_test_error_rate": np.nanmean(
            trajectory["test_error_rate"].values[:, -1].astype(float)
        ),
        "zero_one_gap": np.nanmean(bounds["zero_one_gap"].values[:, -1]),
        "certified_gap": min(certified),
    }
    found = {name: quantity(tree, claim(name)) for name, quantity in OF_STAGNATION.items()}
    assert found == pytest.approx(expected)


def test_a_certificate_below_the_gap_is_caught(tree):
    tree["bounds"]["value"][0, 0, 0] = -1.0
    assert OF_STAGNATION["certificate_slack"](tree, claim("certificate_slack")) < 0


def test_limits_are_inclusive_and_nan_does_not_hold(tree):
    tree["stagnation"]["log_exit_bound"][2, -1] = np.log(0.5)
    value = OF_STAGNATION["exit_bound"](tree, claim())
    claims = [claim(at_most=value), claim(at_least=value), claim(at_most=0.4)]
    assert evaluate_claims(tree, claims)["holds"].tolist() == [1, 1, 0]
    tree["stagnation"]["log_exit_bound"][2, -1] = np.nan
    assert evaluate_claims(tree, claims)["holds"].tolist() == [0, 0, 0]


def mean_and_error(values) -> tuple[float, float]:
    """Mean and standard error of what is not NaN, number by number."""
    known = [float(value) for value in values if value == value]
    mean = sum(known) / len(known)
    variance = sum((value - mean) ** 2 for value in known) / (len(known) - 1)
    return mean, (variance / len(known)) ** 0.5


def test_comparisons_of_two_processes_against_plain_loops(processes):
    dynamics = processes["dynamics"].to_dataset()
    names = dynamics["process"].values.tolist()
    # The last process has diverged trajectories, which do not count.
    for one, two in [(0, 1), (1, 0), (2, 3), (0, 3)]:
        agree = []
        for k in range(1, dynamics.sizes["step"]):  # at step 0 all are at one point
            (a, e), (b, f) = (
                mean_and_error(dynamics["loss"].values[i, :, k].astype(float)) for i in (one, two)
            )
            agree.append(abs(b - a) <= 2 * (e**2 + f**2) ** 0.5)
        share = measured(processes, "loss_agreement", names[one], names[two])
        assert share == pytest.approx(sum(agree) / len(agree))
        (a, e), (b, f) = (mean_and_error(dynamics["late_loss"].values[i]) for i in (one, two))
        found = measured(processes, "loss_difference", names[one], names[two])
        assert found == pytest.approx((b - a) / (e**2 + f**2) ** 0.5)
    assert 0 < measured(processes, "loss_agreement", names[0], names[1]) < 1, "nothing was tested"


def test_quantities_of_one_process_against_plain_numbers(processes):
    dynamics = processes["dynamics"].to_dataset()
    for number, name in enumerate(dynamics["process"].values.tolist()):
        gauges = [value for value in dynamics["sde_gauge"].values[number] if value == value]
        assert measured(processes, "sde_gauge", name) == max(gauges)
        judged = dynamics["sde_valid"].values[number].tolist()
        assert measured(processes, "sde_valid", name) == all(value == 1 for value in judged)
        time = dynamics["mean_escape_time"].values[number]
        for theory in ("kramers", "exact", "corrected"):
            predicted = f"{theory}_{'time' if theory == 'kramers' else 'escape_time'}"
            found = measured(processes, f"escape_time_over_{theory}", name)
            assert found == pytest.approx(time / dynamics[predicted].values[number])


def test_what_was_not_judged_is_not_measured(processes):
    name = str(processes["dynamics"]["process"].values[0])
    processes["dynamics"]["sde_valid"][0, -1] = -1  # one probe alone
    processes["dynamics"]["sde_gauge"][0] = np.nan
    assert np.isnan(measured(processes, "sde_valid", name))
    assert np.isnan(measured(processes, "sde_gauge", name))
    claims = [claim_of("sde_valid", name, at_least=0.0)]
    assert evaluate_claims(processes, claims)["holds"].tolist() == [0]


def test_without_an_escape_there_is_no_escape_time(processes):
    """The estimate is then infinite, which must not fulfil a claim of long times."""
    name = str(processes["dynamics"]["process"].values[0])
    processes["dynamics"]["mean_escape_time"][0] = np.inf
    values = evaluate_claims(processes, [claim_of("escape_time_over_exact", name, at_least=0.5)])
    assert np.isnan(values["measured"]).all()
    assert values["holds"].tolist() == [0]


def printed(tree) -> str:
    console = Console(record=True, width=120, quiet=False, file=io.StringIO())
    print_claims(tree, console)
    return console.export_text()


def test_the_table_names_claim_expected_measured_and_holds(tree):
    text = printed(tree)
    for word in ("claim", "expected", "measured", "holds"):
        assert word in text


def test_the_table_prints_what_is_stored(processes):
    stored = {
        "measured": [0.75, np.nan],
        "expected_low": [0.5, -np.inf],
        "expected_high": [np.inf, 2.0],
        "holds": [1, 0],
    }
    for name, values in stored.items():
        processes["claims"][name][:] = values
    first, second = (line for line in printed(processes).splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in first.split("│")][2:5] == [">= 0.5", "0.75", "yes"]
    assert [cell.strip() for cell in second.split("│")][2:5] == ["<= 2", "not measured", "no"]


def test_without_claims_there_is_no_table(processes):
    tree = processes.copy()
    tree["claims"] = processes["claims"].to_dataset().isel(claim=slice(0))
    assert printed(tree) == ""
