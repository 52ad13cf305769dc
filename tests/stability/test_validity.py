"""The verdict: what fails where, by how much, and the sentence, in every case."""

import math
import re

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov

from sgdsim.stability import (
    Failure,
    SdeProbes,
    judge_sde,
    mean_square_gauge,
    mean_square_threshold,
    stationary_excess_risk,
    svag_sweep_test,
)

NAN = math.nan
REMEDY = "use Gaussian SGD (h = eta)"
UNDER = "underestimates the stationary variance along the sharpest direction by"
NO_LAW = "where SGD has no stationary law and the SDE still has one"
ALONG = "its stationary variance along the sharpest direction is"
CHANGED = svag_sweep_test([1.0, 0.9, 0.85], [0.01] * 3, [1, 4, 16], name="training loss")
AGREES = svag_sweep_test([1.0, 0.99, 0.98], [0.01] * 3, [1, 4, 16], name="training loss")
UNCLEAR = svag_sweep_test([1.0, 0.99, 0.98], [0.1] * 3, [1, 4, 16], name="training loss")


def judge(step, sharpness, eta: float | list[float] = 0.5, batch=None, svag=None, **measured):
    probes = SdeProbes(step=step, sharpness=sharpness, **measured)
    return judge_sde(probes, eta, batch, svag=svag)


@pytest.mark.parametrize(
    ("step", "sharpness", "sentence"),
    [
        (
            [0],
            [0.01],
            "SDE valid at step 0: eta*lambda_max/2 is 0.0025 (tolerance 0.1); linearised, "
            f"{ALONG} 0.25 % too small.",
        ),
        (
            [0, 1000],
            [0.1, 0.2],
            "SDE valid throughout: eta*lambda_max/2 is at most 0.05 (tolerance 0.1); linearised, "
            f"{ALONG} at most 5 % too small.",
        ),
        (
            [0, 10, 20],
            [0.1, NAN, 0.3],
            "SDE valid at the 2 of 3 probes that could be judged: eta*lambda_max/2 is at most "
            f"0.075 (tolerance 0.1); linearised, {ALONG} at most 7.5 % too small.",
        ),
        (
            [0, 1240, 1260],
            [0.1, 0.2, 1.16],
            "SDE valid until step 1,240 (eta*lambda_max/2 at most 0.05, tolerance 0.1); from step "
            f"1,260 on it {UNDER} 29 % (linearised): {REMEDY}.",
        ),
        (
            [0, 1_000_000],
            [0.4, 0.4004],
            "SDE valid at step 0 (eta*lambda_max/2 = 0.1, tolerance 0.1); from step 1,000,000 on "
            f"it {UNDER} 10.01 % (linearised): {REMEDY}.",
        ),
        (
            [0, 10, 20],
            [1.0, 1.2, 1.16],
            f"SDE invalid from the start (step 0), because it {UNDER} up to 30 % (linearised): "
            f"{REMEDY}.",
        ),
        (
            [5, 10, 20],
            [1.0, 0.1, 1.16],
            "SDE invalid from the start (step 5; at 2 of the 3 probes judged from there on), "
            f"because it {UNDER} up to 29 % (linearised): {REMEDY}.",
        ),
        (
            [0, 10, 20],
            [NAN, 1.0, 1.16],
            "SDE invalid from step 10 on, the first probe that could be judged, because it "
            f"{UNDER} up to 29 % (linearised): {REMEDY}.",
        ),
        (
            [7],
            [3.999],
            f"SDE invalid at step 7, because it {UNDER} more than 99 % (linearised): {REMEDY}.",
        ),
        (
            [0],
            [4.0],
            "SDE invalid at step 0, because eta*lambda_max/2 is 1, at the edge of stability 1, "
            f"{NO_LAW}: {REMEDY}.",
        ),
        (
            [0, 10, 15, 20, 30],
            [0.1, 1.0, NAN, 0.1, 4.5],
            "SDE valid at step 0 (eta*lambda_max/2 = 0.025, tolerance 0.1); from step 10 on (at 2 "
            f"of the 3 probes judged from there on) it {UNDER} 25 % (linearised), and from "
            "step 30 on eta*lambda_max/2 is 1.12, beyond the edge of stability 1, "
            f"{NO_LAW}: {REMEDY}.",
        ),
        ([0, 1], [NAN, -1.0], "SDE not judged: no probe has a finite, positive sharpness."),
        ([0], [math.inf], "SDE not judged: no probe has a finite, positive sharpness."),
    ],
)
def test_sentence_about_the_sharpness(step, sharpness, sentence):
    assert judge(step, sharpness).sentence == sentence


def test_fields_of_a_verdict():
    verdict = judge([0, 10, 20, 30, 40], [0.1, NAN, 1.0, 4.5, 0.1])
    assert (verdict.valid, verdict.first_failing_step) == (False, 20)
    assert verdict.gauges.failure.tolist() == [
        Failure.NONE,
        Failure.NOT_JUDGED,
        Failure.VARIANCE,
        Failure.EDGE,
        Failure.NONE,
    ]
    np.testing.assert_allclose(verdict.gauges.edge, [0.025, NAN, 0.25, 1.125, 0.025])
    np.testing.assert_allclose(
        verdict.gauges.variance_ratio, [1 / 0.975, NAN, 4 / 3, math.inf, 1 / 0.975]
    )
    assert np.isnan(verdict.gauges.mean_square).all()
    sound, unknown = judge([0, 1], [0.1, 0.1]), judge([0], [NAN])
    assert (sound.valid, sound.first_failing_step) == (True, None)
    assert (unknown.valid, unknown.first_failing_step) == (None, None)


def test_stated_error_is_that_of_the_two_lyapunov_equations():
    eta, h = 0.5, 1.16
    sgd = solve_discrete_lyapunov(np.array([[1 - eta * h]]), np.array([[eta**2]]))[0, 0]
    sde = solve_continuous_lyapunov(np.array([[-h]]), np.array([[-eta]]))[0, 0]
    gauges = judge([0], [h], eta).gauges
    assert gauges.edge[0] == pytest.approx(1 - sde / sgd)
    assert gauges.variance_ratio[0] == pytest.approx(sgd / sde)


def test_learning_rate_of_every_probe():
    verdict = judge([0, 10], [1.0, 1.0], eta=[0.1, 0.5])
    np.testing.assert_allclose(verdict.gauges.edge, [0.05, 0.25])
    assert verdict.first_failing_step == 10


@pytest.mark.parametrize("tolerance", [0.05, 0.2])
def test_the_tolerance_itself_is_tolerated(tolerance):
    eta = 0.5
    at, above = 2 * tolerance / eta, np.nextafter(2 * tolerance / eta, 9)
    assert judge_sde(SdeProbes(step=[0], sharpness=[at]), eta, tolerance=tolerance).valid
    assert not judge_sde(SdeProbes(step=[0], sharpness=[above]), eta, tolerance=tolerance).valid


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (5.16, "from step 1,260 on the batch sharpness exceeds 2/eta by 29 %, the edge"),
        (4.0, "from step 1,260 on the batch sharpness is 2/eta, the edge"),
    ],
)
def test_batch_sharpness_beyond_its_edge(last, words):
    verdict = judge([0, 1240, 1260], [0.1] * 3, batch_sharpness=[1, NAN, last])
    assert verdict.gauges.failure[2] == Failure.BATCH_EDGE
    assert (
        f"SDE valid until step 1,240 (eta*lambda_max/2 at most 0.025, tolerance 0.1); {words}"
        in (verdict.sentence)
    )
    assert judge([0], [0.1], batch_sharpness=[np.nextafter(4.0, 0)]).valid


SPECTRUM = 1 / np.arange(1, 65)


@pytest.mark.parametrize(
    ("batch", "eta", "failure"),
    [
        (1, 0.05, Failure.NONE),
        (1, 0.33, Failure.EXCESS_RISK),
        (1, 0.37, Failure.MEAN_SQUARE),  # between the thresholds .360 and .391
        (64, 1.9371, Failure.EXCESS_RISK),
        (64, 1.9372, Failure.MEAN_SQUARE),
        (1, 0.40, Failure.VARIANCE),  # both are unstable; the SDE says so too
    ],
)
def test_mean_square_stability(batch, eta, failure):
    spectrum, trace = SPECTRUM[None], [SPECTRUM.sum()]
    verdict = judge([0], [1.0], eta, batch, eigenvalues=spectrum, trace=trace)
    gauges = verdict.gauges
    assert gauges.failure.tolist() == [failure]
    sgd, sde = (
        float(mean_square_gauge(SPECTRUM, None, eta, batch, substeps=m).low) for m in (1, math.inf)
    )
    np.testing.assert_allclose([gauges.mean_square[0], gauges.mean_square_sde[0]], [sgd, sde])
    if failure is Failure.EXCESS_RISK:
        error = 1 - stationary_excess_risk(sde) / stationary_excess_risk(sgd)
        assert gauges.excess_risk_error[0] == pytest.approx(error)
        assert "it underestimates the stationary excess risk of the linearised model by " in (
            verdict.sentence
        )
    if failure is Failure.MEAN_SQUARE:
        pattern = (
            r"SGD is mean-square unstable in the linearised model \(K = (\S+), stable below 1\), "
            r"while the SDE is not \(K = (\S+) there\): use"
        )
        shown = re.search(pattern, verdict.sentence)
        assert shown
        # However close to the edge, the printed number is on the right side of it.
        assert float(shown[1]) > 1 > float(shown[2])
        np.testing.assert_allclose([float(g) for g in shown.groups()], [sgd, sde], rtol=5e-3)


def test_valid_with_a_word_about_a_shared_instability():
    verdict = judge([0, 10], [0.3, 0.3], 0.5, 1, trace=[1.0, 7.8])
    assert verdict.valid
    assert verdict.sentence.endswith(
        "; the linearised model with multiplicative noise has no stationary law at step 10, "
        "neither for SGD (K = 1.96) nor for the SDE (K = 1.96)."
    )


def test_unmeasured_traces_leave_the_rest_alone():
    batch = 1
    eta = 0.37
    verdict = judge(
        [0, 1], [0.4, 0.4], eta, batch, eigenvalues=[[0.4, 0.2], [NAN, 0.2]], trace=[NAN, 0.6]
    )
    assert np.isnan(verdict.gauges.mean_square).all()
    assert verdict.valid


@pytest.mark.parametrize(
    ("svag", "sharpness", "valid", "words"),
    [
        (
            CHANGED,
            [0.1, 0.2],
            False,
            "SDE invalid, because from SVAG l = 1 to l = 16 the training loss falls by 15 % "
            "(z = -10.6), although eta*lambda_max/2 is at most 0.05 (tolerance 0.1): use",
        ),
        (CHANGED, [0.1, 3.0], False, "; the SVAG sweep confirms it (from SVAG l = 1 to l = 16 the"),
        (CHANGED, [NAN, NAN], False, "training loss falls by 15 % (z = -10.6): use Gaussian SGD"),
        (AGREES, [0.1, 0.2], True, "; from SVAG l = 1 to l = 16 the training loss changes by less"),
        (AGREES, [0.1, 3.0], False, "; yet from SVAG l = 1 to l = 16 the training loss changes by"),
        (AGREES, [NAN, NAN], None, "sharpness; from SVAG l = 1 to l = 16 the training loss"),
        (UNCLEAR, [0.1, 0.2], True, "; the SVAG sweep cannot tell, because from SVAG l = 1 to l = "
         "16 the training loss changes by -0.02 +- 0.1 of 1."),
    ],
)  # fmt: skip
def test_svag_sweep(svag, sharpness, valid, words):
    verdict = judge([0, 1000], sharpness, svag=svag)
    assert verdict.valid is valid
    assert words in verdict.sentence


def test_noise_that_is_not_gaussian():
    verdict = judge([0, 1000], [0.1, 0.2], excess_kurtosis=[[0.39, -0.4], [NAN, -2.0]])
    assert (verdict.valid, verdict.first_nongaussian_step) == (True, 1000)
    np.testing.assert_allclose(verdict.gauges.excess_kurtosis, [-0.4, -2.0])
    tail = (
        "use minibatch SGD itself for exit probabilities and other tails, because the noise of a "
        "batch is not Gaussian (excess kurtosis -2 at step 1,000)."
    )
    assert verdict.sentence.endswith(f"% too small; {tail}")
    failing = judge([0, 1000], [0.1, 2.0], excess_kurtosis=[0.1, -2.0])
    assert failing.sentence.endswith(f"{REMEDY}, or {tail.removeprefix('use ')}")
    assert judge([0], [0.1], excess_kurtosis=[0.4]).first_nongaussian_step is None
    assert judge([0], [0.1], excess_kurtosis=[[NAN, NAN]]).first_nongaussian_step is None


def test_every_sentence_is_a_sentence():
    """Random runs through every branch: opening, one full stop, no number that is none."""
    random = np.random.default_rng(4)
    openings = ("SDE valid ", "SDE invalid", "SDE not judged:")
    seen = set()
    for _ in range(600):
        size = int(random.integers(1, 5))
        scale = 10 ** random.uniform(-2, 1)
        holes = np.where(random.random((5, size)) < 0.2, NAN, 1.0)
        probes = SdeProbes(
            step=np.cumsum(random.integers(1, 5000, size)),
            sharpness=scale * random.random(size) * holes[0],
            batch_sharpness=None
            if random.random() < 0.5
            else scale * random.random(size) * holes[1],
            trace=scale * 10 ** random.uniform(0, 2) * holes[2],
            excess_kurtosis=random.normal(0, 0.4, size) * holes[3],
        )
        svag = (None, CHANGED, AGREES, UNCLEAR)[int(random.integers(4))]
        verdict = judge_sde(probes, 0.5, 10 ** random.uniform(0, 3), svag=svag)
        text = verdict.sentence
        seen |= set(verdict.gauges.failure.tolist())
        assert text.startswith(openings)
        assert text.endswith(".")
        assert not any(
            odd in text for odd in ("nan", "  ", "e+0", " ,", " ;", "..", "()", "1 probes")
        )
        assert text.count(REMEDY) == (verdict.valid is False)
        assert text.startswith("SDE not judged") == (verdict.valid is None)
    assert seen == set(Failure)


def test_threshold_is_where_the_verdict_turns():
    batch, measured = 64, {"eigenvalues": SPECTRUM[None], "trace": [SPECTRUM.sum()]}
    edge = mean_square_threshold(SPECTRUM, batch)
    below = judge([0], [1.0], edge * (1 - 1e-9), batch, **measured).gauges
    above = judge([0], [1.0], edge * (1 + 1e-9), batch, **measured).gauges
    assert (below.failure[0], above.failure[0]) == (Failure.EXCESS_RISK, Failure.MEAN_SQUARE)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"step": [], "sharpness": []}, "at least one ascending step"),
        ({"step": [0, 0], "sharpness": [1, 1]}, "ascending"),
        ({"step": [0, 1], "sharpness": [1]}, "sharpness must have one entry for each of the 2"),
        (
            {"step": [0], "sharpness": [1], "eigenvalues": [1]},
            r"eigenvalues .* got the shape \(1,\)",
        ),
        ({"step": [0], "sharpness": [1], "trace": [[1]]}, "trace must have one entry"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(measured, words):
    with pytest.raises(ValueError, match=words):
        SdeProbes(**measured)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be one positive finite number"),
        ({"learning_rate": [0.1, 0.1, 0.1]}, "one for each of the 2 probe steps"),
        ({"learning_rate": 0.1, "batch_size": 0}, "batch_size must be a positive finite number"),
        ({"learning_rate": 0.1, "tolerance": -0.1}, "tolerance must be a positive finite number"),
    ],
)
def test_numbers_out_of_range_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        judge_sde(SdeProbes(step=[0, 1], sharpness=[1, 1]), **given)
