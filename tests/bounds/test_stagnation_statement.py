"""The combined statement and the curve: probabilities added up, refusals, scaling."""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdsim.bounds import (
    BoundTerms,
    CombinedStatement,
    GeneralizationCurve,
    GeometricGrid,
    LayerNorms,
    LossBound,
    Neighbourhoods,
    StationarySGD,
    TrainingSample,
    combined_statement,
    empirical_terms,
    generalization_curve,
    stagnation_terms,
)

ONE = np.ones(2)
WHERE = Neighbourhoods(norms=LayerNorms(ONE, ONE, ONE, ONE, ONE, ((3, 3), (2, 3))), log_count=2.0)
SAMPLE = TrainingSample(size=5000, input_bound=1.5, frobenius=50.0)
LOSS = LossBound(0.5, 0.9)
POSSIBLE = {"batch_size": 4.0, "steps": 1000.0, "noise_trace": 1.0}


def bounds_of(radius: Any, delta: float = 0.01, **changes: Any) -> dict[str, BoundTerms]:
    return stagnation_terms(WHERE, np.asarray(radius, float), LOSS, SAMPLE, delta, **changes)


def test_every_failure_probability_is_paid() -> None:
    bounds = bounds_of([0.001, 0.05, 2.0])
    log_exit = np.log([0.02, 0.3, 0.97])
    statement = combined_statement(bounds, log_exit, 0.04, 0.005)
    np.testing.assert_allclose(
        statement.failure_probability, 3 * 0.01 + np.exp(log_exit) + 0.04 + 0.005, rtol=1e-12
    )
    np.testing.assert_allclose(statement.probability, [0.905, 0.625, 0.0], atol=1e-12)
    totals = np.stack([bound.total for bound in bounds.values()])
    np.testing.assert_allclose(statement.gap_bound, totals.min(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(statement.best, totals.argmin(axis=0))
    assert statement.vacuous.tolist() == [False, False, True]
    assert statement.kind == "certificate"
    # One bound chosen in advance pays for itself only.
    alone = combined_statement({"G1": bounds["G1"]}, log_exit)
    np.testing.assert_allclose(alone.failure_probability, 0.01 + np.exp(log_exit), rtol=1e-12)


def test_a_bound_whose_value_is_vacuous_is_flagged_though_it_holds() -> None:
    statement = combined_statement(bounds_of(2.0), math.log(1e-9))
    assert float(statement.probability) == pytest.approx(0.97)
    assert float(statement.gap_bound) > LOSS.range_
    assert statement.vacuous
    assert statement.sentence().startswith("Vacuous. With probability at least 0.97 = ")


def test_sentence_adds_up() -> None:
    statement = combined_statement(
        bounds_of([0.001, 0.002]), np.log([0.02, 0.03]), 0.04, measured=("mu", "noise trace")
    )
    assert statement.kind == "plug-in"
    sentence = statement.sentence((1,))
    assert sentence.startswith("Plug-in, not proved: mu, noise trace measured. With probability")
    total = float(re.findall(r"at least ([\d.]+) =", sentence)[0])
    parts = dict((name, float(v)) for v, name in re.findall(r"- ([\d.e-]+) \((\w+)\)", sentence))
    assert parts == {
        "G1": 0.01,
        "G2": 0.01,
        "G3": 0.01,
        "exit": 0.03,
        "reach": 0.04,
        "deviation": 0,
    }
    assert total == pytest.approx(1.0 - sum(parts.values()))
    gap = float(re.findall(r"at most ([\d.]+) above", sentence)[0])
    terms = re.findall(r"\((G\d) = (.*);", sentence)[0]
    values = [float(v) for v in re.findall(r"[a-z]+ ([\d.e-]+)", terms[1])]
    assert gap == pytest.approx(sum(values), rel=2e-3)
    assert gap == pytest.approx(float(statement.gap_bound[1]), rel=1e-3)


def test_a_tiny_exit_probability_is_printed_though_it_underflows() -> None:
    statement = combined_statement(bounds_of(0.001), -2302.5850929940457)
    assert "10^-1000.0 (exit)" in statement.sentence()
    assert float(statement.failure_probability) == pytest.approx(0.03)


def test_broadcasts_one_radius_against_many_exit_probabilities() -> None:
    statement = combined_statement(bounds_of(0.001), np.log([[0.1], [0.2]]))
    assert statement.gap_bound.shape == (2, 1)
    np.testing.assert_allclose(statement.probability, [[0.87], [0.77]])
    assert "0.2 (exit)" in statement.sentence((1, 0))


def check_nothing(statement: CombinedStatement, violated: list[bool]) -> None:
    assert statement.assumption_violated.tolist() == violated
    for value in (statement.gap_bound, statement.probability, statement.failure_probability):
        np.testing.assert_array_equal(np.isnan(value), violated)
    assert not statement.vacuous[violated].any()


def test_nothing_is_claimed_where_an_assumption_fails() -> None:
    radius = combined_statement(bounds_of([0.1, 0.0, -1.0, np.inf, np.nan]), -5.0)
    check_nothing(radius, [False, True, True, True, True])
    assert radius.reason.startswith("radius not in (0, inf) (4 of 5)")
    assert radius.sentence((1,)) == "Nothing is claimed: radius not in (0, inf)."
    start = combined_statement(
        bounds_of([0.1, 0.1]), np.array([np.nan, -5.0]), exit_reason="q >= 1"
    )
    check_nothing(start, [True, False])
    assert start.reason == "no bound on the exit probability: q >= 1 (1 of 2)"


def test_a_bound_that_claims_nothing_is_passed_over_but_paid() -> None:
    grid = GeometricGrid(1e-3, 1.0, 1.5)
    bounds = bounds_of([0.5, 3.0], grid=grid)
    statement = combined_statement(bounds, math.log(0.1))
    check_nothing(statement, [False, False])
    np.testing.assert_allclose(statement.probability, 0.87)
    assert float(statement.gap_bound[1]) == float(bounds["G1"].total[1])
    without = {name: bounds[name] for name in ("G2", "G3")}
    nothing = combined_statement(without, math.log(0.1))
    check_nothing(nothing, [False, True])
    assert "no bound on the gap: radius above the grid" in nothing.reason


def test_refuses_what_does_not_belong_together() -> None:
    bounds = bounds_of(0.1)
    seen = empirical_terms(np.array(1.0), np.array(0.1), LOSS, 100, 0.05)
    with pytest.raises(ValueError, match="is a diagnostic and holds with no probability"):
        combined_statement({**bounds, "seen": seen}, -5.0)
    with pytest.raises(ValueError, match="at least one bound"):
        combined_statement({}, -5.0)
    with pytest.raises(ValueError, match="different radii or losses"):
        combined_statement({"G1": bounds["G1"], "G2": bounds_of(0.2)["G2"]}, -5.0)
    other = replace(bounds["G2"], loss=LossBound(1.0, 1.0))
    with pytest.raises(ValueError, match="different radii or losses"):
        combined_statement({"G1": bounds["G1"], "G2": other}, -5.0)
    with pytest.raises(ValueError, match="reach_probability must be in"):
        combined_statement(bounds, -5.0, reach_probability=1.5)
    with pytest.raises(ValueError, match="deviation_probability must be in"):
        combined_statement(bounds, -5.0, deviation_probability=math.nan)


# --- the curve -----------------------------------------------------------------------------------


def curve_of(**changes: Any) -> GeneralizationCurve:
    settings: dict[str, Any] = {
        "learning_rate": 0.01,
        "batch_size": 4,
        "steps": 1000,
        "rsi": 0.5,
        "noise_operator_norm": 0.2,
        "noise_trace": 1.0,
        "exit_probability": 0.01,
    }
    return generalization_curve(
        StationarySGD(**(settings | changes)), WHERE, LOSS, SAMPLE, failure_probability=0.05
    )


def test_curve_equals_its_formula_in_scalars() -> None:
    rates, batches = np.array([[1e-4], [0.01]]), np.array([1, 4, 64])
    curve = curve_of(learning_rate=rates, batch_size=batches)
    for (i, j), value in np.ndenumerate(curve.bound.total):
        s, tau = 0.2 / batches[j], 1.0 / batches[j]
        eta = rates[i, 0]
        delta = math.sqrt(eta * tau / (2 * 0.5)) + math.sqrt(eta * s * math.log(1000 / 0.01) / 0.5)
        lipschitz = (1 + delta) * math.sqrt(2)  # two layers of norm 1: S_1 S_2 (S_1^-2 + S_2^-2)^.5
        centre = 0.5 * math.sqrt((2.0 + math.log(1 / 0.05)) / (2 * 5000))
        assert float(curve.radius[i, j]) == pytest.approx(delta, rel=1e-12)
        assert float(value) == pytest.approx(centre + 2 * 0.9 * 1.5 * lipschitz * delta, rel=1e-12)
        assert float(curve.bound.terms["centre"][i, j]) == pytest.approx(centre, rel=1e-12)


def test_curve_depends_on_rate_over_batch_and_falls_with_curvature() -> None:
    base = float(curve_of().bound.total)
    assert float(curve_of(learning_rate=0.02, batch_size=8).bound.total) == pytest.approx(base)
    for worse in (
        {"learning_rate": 0.02},
        {"batch_size": 2},
        {"steps": 10_000},
        {"rsi": 0.25},
        {"noise_trace": 2.0},
        {"noise_operator_norm": 0.4},
        {"exit_probability": 0.001},
    ):
        assert float(curve_of(**worse).bound.total) > 1.001 * base
    # Small steps leave the K-term, and the rest falls like the square root of the step.
    fine = curve_of(learning_rate=np.array([4e-10, 1e-10]))
    assert fine.bound.largest_term.tolist() == ["centre", "centre"]
    rest = fine.bound.terms["displacement"]
    assert float(rest[0] / rest[1]) == pytest.approx(2.0, rel=1e-4)


def test_curve_claims_nothing_for_impossible_settings() -> None:
    bad: dict[str, tuple[Any, str]] = {
        "learning_rate": (0.0, "learning rate or batch size not positive"),
        "rsi": (-0.1, "curvature mu not positive"),
        "noise_trace": (0.1, "trace below its largest eigenvalue"),
        "noise_operator_norm": (np.inf, "settings not finite"),
        "exit_probability": (1.0, "exit probability not in"),
        "steps": (0.5, "steps below 1"),
        "batch_size": (-1, "batch size not positive"),
    }
    for name, (value, text) in bad.items():
        bound = curve_of(**{name: np.array([value, POSSIBLE.get(name, 0.05)])}).bound
        assert np.isnan(bound.total).tolist() == [True, False]
        assert text in bound.reason
        assert bound.reason.endswith("(1 of 2)")
    unstable = curve_of(learning_rate=2.0)
    assert "learning rate times mu not below 1" in unstable.bound.reason
    check = combined_statement({"G1": unstable.bound}, -5.0)
    assert check.assumption_violated
