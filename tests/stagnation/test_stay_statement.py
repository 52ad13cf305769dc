"""Certificates and plug-ins: which is which, what they show, and the end points of samples."""

import numpy as np
import pytest

from sgdsim.stagnation import (
    Proved,
    Sampled,
    StayConstants,
    StayStatement,
    log_exit_bound_s2,
    quadratic_constants,
    sampled_maximum,
    sampled_minimum,
)

PROVED = quadratic_constants(np.ones(2), 0.05, 0.04) | {"radius": Proved(0.15, "chosen")}
TRACE = Sampled(0.09, low=0.09, high=0.12, sample_size=40, method="maximum of 40 points")
STEPS = np.array([1, 1000])


def test_one_sampled_constant_makes_a_plug_in():
    assert StayStatement(PROVED).kind == "certificate"
    for name, source in PROVED.items():
        sampled = Sampled(source.value, source.value, source.value, 10**9, "many points")
        assert StayStatement(PROVED | {name: sampled}).kind == "plug-in"
    # Also one with a default that was measured.
    assert StayStatement(PROVED | {"gradient_bias": TRACE}).kind == "plug-in"


def test_the_bound_is_that_of_the_constants():
    statement = StayStatement(PROVED | {"noise_trace": TRACE})
    ball = StayConstants(
        learning_rate=0.05,
        contraction=0.95,
        noise_operator_norm=0.04,
        noise_trace=0.09,
        radius=0.15,
    )
    assert statement.constants == ball
    assert np.array_equal(statement.log_exit_bound(STEPS), log_exit_bound_s2(ball, STEPS))
    certificate = StayStatement(PROVED).log_exit_bound(STEPS)
    assert np.exp(certificate[1]) == pytest.approx(4.731e-2, rel=2e-4)
    assert np.all(certificate < statement.log_exit_bound(STEPS))


def test_table_and_sentence_show_both_side_by_side():
    statement = StayStatement(PROVED | {"noise_trace": TRACE})
    rows = {row.name: row for row in statement.table()}
    assert rows.keys() == statement.sources.keys()
    assert rows["noise_trace"].sample_size == 40
    assert rows["noise_trace"].interval == (0.09, 0.12)
    assert rows["noise_trace"].origin == "sampled: maximum of 40 points"
    assert rows["radius"].origin == "proved: chosen"
    assert rows["contraction"].interval is None
    assert str(statement) == (
        "Bound on the exit from the ball of radius 0.15: plug-in, the number the theorem gives if "
        "these sampled constants are true: noise_trace = 0.09 in [0.09, 0.12] (40 samples)."
    )
    assert "certificate, every constant is proved" in str(StayStatement(PROVED))


def test_a_violated_assumption_is_named():
    flat = quadratic_constants(np.array([1.0, -0.25]), 0.05, 0.04)
    statement = StayStatement(flat | {"radius": Proved(0.15, "chosen")})
    assert "does not contract" in str(statement.violation)
    assert "does not apply" in str(statement)
    assert "eigenvalue -0.25 is not positive" in flat["contraction"].reason
    assert np.isnan(statement.log_exit_bound(STEPS)).all()


def test_names_are_checked():
    with pytest.raises(ValueError, match=r"unknown \['trace'\], missing \['noise_trace'\]"):
        StayStatement(
            {name: source for name, source in PROVED.items() if name != "noise_trace"}
            | {"trace": TRACE}
        )


@pytest.mark.statistical
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_the_end_point_interval_covers_at_its_confidence(confidence):
    # Exact for the uniform law at every sample size.
    runs = 4000
    samples = np.random.default_rng(7).uniform(2.0, 3.0, (runs, 12))
    maxima = [sampled_maximum(sample, confidence) for sample in samples]
    minima = [sampled_minimum(sample, confidence) for sample in samples]
    error = np.sqrt(confidence * (1 - confidence) / runs)
    for covered in (
        np.mean([found.low <= 3 <= found.high for found in maxima]),
        np.mean([found.low <= 2 <= found.high for found in minima]),
    ):
        assert abs(covered - confidence) < 5 * error
    # Mutant: half of the reach is caught.
    wrong = np.mean([found.value + (found.high - found.value) / 2 >= 3 for found in maxima])
    assert abs(wrong - confidence) > 5 * error


def test_end_points_by_hand_and_refusals():
    found = sampled_maximum(np.array([1.0, 4.0, 3.0, 2.0]), 0.75, method="top eigenvalue")
    assert (found.value, found.low, found.high, found.sample_size) == (4.0, 4.0, 7.0, 4)
    assert found.method.startswith("top eigenvalue, maximum")
    found = sampled_minimum(np.array([1.0, 4.0, 3.0, 1.5]), 0.75)
    assert (found.value, found.low, found.high) == (1.0, -0.5, 1.0)
    assert np.isnan(sampled_maximum(np.array([1.0, np.nan, 2.0])).high)
    with pytest.raises(ValueError, match="at least two values, got 1"):
        sampled_maximum(np.ones(1))
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1"):
        sampled_minimum(np.ones(3), 1.0)
