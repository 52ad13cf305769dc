"""The formulas of the exit bounds: numbers, limits, refusals."""

import dataclasses

import numpy as np
import pytest

from sgdsim.stagnation import (
    StayConstants,
    assumption_violation,
    auto_radius,
    log_exit_bound_s0,
    log_exit_bound_s1,
    log_exit_bound_s2,
    log_exit_bounds,
    stay_lower_bound,
)

BASE = StayConstants(
    learning_rate=0.05,
    contraction=0.95,
    noise_operator_norm=0.04,
    noise_trace=0.08,
    radius=0.2,
    start_distance=0.02,
    gradient_bias=0.004,
)
THEORIES = {"S0": log_exit_bound_s0, "S1": log_exit_bound_s1, "S2": log_exit_bound_s2}


def constants(dimension, radius, contraction=0.95, bias=0.0, start=0.0):
    return StayConstants(
        learning_rate=0.05,
        contraction=contraction,
        noise_operator_norm=0.04,
        noise_trace=0.04 * dimension,
        radius=radius,
        start_distance=start,
        gradient_bias=bias,
    )


@pytest.mark.parametrize(
    ("ball", "exit_bound", "rel"),
    [
        (constants(1, 0.15), 7.832e-3, 1e-4),
        (constants(2, 0.15), 4.731e-2, 2e-4),
        (constants(10, 0.20), 0.1434, 5e-4),
        (constants(1, 0.20), 5.435e-6, 2e-4),
        (constants(2, 0.15, bias=0.03), 0.582, 5e-3),
        (constants(5, 0.20, 0.95 + 0.05 * 0.0910, bias=0.01926), 6.7e-2, 1e-2),
        (constants(5, 0.25, 0.95 + 0.05 * 0.0910, bias=0.01926), 1.9e-4, 5e-2),
    ],
)
def test_s2_matches_the_table(ball, exit_bound, rel):
    log = log_exit_bound_s2(ball, np.array([1000]))[0]
    assert np.exp(log) == pytest.approx(exit_bound, rel=rel)


def brute_force_s2(ball, steps):
    """S2 from its definition: the chord drift D is maximised numerically over V."""
    eta, q, s = ball.learning_rate, ball.contraction, ball.noise_operator_norm
    log_v = np.linspace(0, 40, 4001)
    best = np.inf
    for alpha in [0.0] if ball.gradient_bias == 0 else np.geomspace(1e-3, 5, 30):
        limit = (1 - (1 + alpha) * q**2) / (2 * eta**2 * s)
        for kappa in limit * np.linspace(0.02, 0.98, 97) if limit > 0 else []:
            u = 1 - 2 * kappa * eta**2 * s
            b = -ball.noise_trace / s / 2 * np.log(u)
            if alpha > 0:
                b += kappa * (1 + 1 / alpha) * (eta * ball.gradient_bias) ** 2 / u
            drift = np.max(np.exp(b + (1 + alpha) * q**2 / u * log_v) - np.exp(log_v))
            start = np.exp(kappa * ball.start_distance**2)
            best = min(best, np.exp(-kappa * ball.radius**2) * (start + steps * drift))
    return np.log(best)


@pytest.mark.parametrize(
    "ball",
    [
        constants(2, 0.15),
        constants(1, 0.05, 0.3, start=0.02),
        constants(1, 0.05, 0.05),
        constants(4, 0.25, bias=0.02),
        BASE,
    ],
)
@pytest.mark.parametrize("steps", [1, 500])
def test_s2_is_the_minimum_of_its_definition(ball, steps):
    log = log_exit_bound_s2(ball, np.array([steps]))[0]
    coarse = brute_force_s2(ball, steps)
    assert coarse - 0.05 < log <= coarse + 1e-4


def test_s1_solves_the_sub_gamma_equation():
    q2 = BASE.contraction**2
    eta, s, tau, eps = 0.05, 0.04, 0.08, BASE.gradient_bias
    drift = 2 * BASE.contraction * eta * eps * BASE.radius + eta**2 * (eps**2 + tau)
    reach = BASE.contraction * BASE.radius + eta * eps
    v = (4 * eta**2 * s * reach**2 + 2 * eta**4 * s * tau) / (1 - q2**2)
    x = np.log(7) - log_exit_bound_s1(BASE, np.array([7]))[0]
    assert x > 1
    assert np.sqrt(2 * v * x) + 2 * eta**2 * s * x == pytest.approx(
        BASE.radius**2 - drift / (1 - q2), rel=1e-12
    )


def test_s0_by_hand():
    ball = dataclasses.replace(BASE, contraction=0.1, radius=0.05)
    # 0.9 * 0.05 / 0.05 - 0.004 - sqrt(0.08), squared, over 2 * 0.04
    assert log_exit_bound_s0(ball, np.array([3]))[0] == pytest.approx(
        np.log(3) - (0.896 - 0.08**0.5) ** 2 / 0.08, rel=1e-12
    )


def test_a_ball_below_the_noise_level_is_vacuous_not_small():
    # The roots of S0 and S1 are negative here; squared blindly they would look like a good bound.
    ball = dataclasses.replace(BASE, radius=0.021)
    steps = np.array([1, 10, 1000])
    for bound in THEORIES.values():
        assert np.all(bound(ball, steps) >= -1e-6)
        assert np.all(stay_lower_bound(bound(ball, steps)) < 1e-6)


@pytest.mark.parametrize("bound", THEORIES.values(), ids=THEORIES.keys())
@pytest.mark.parametrize("bias", [0.0, 0.004])
def test_steps_are_vectorised(bound, bias):
    ball = dataclasses.replace(BASE, gradient_bias=bias)
    steps = np.concatenate([[0], np.arange(1, 2000, 37), [5, 5]])
    together = bound(ball, steps)
    alone = np.array([bound(ball, np.array([step]))[0] for step in steps])
    assert together[0] == -np.inf
    np.testing.assert_allclose(together[1:], alone[1:], rtol=0, atol=1e-6)
    assert np.all(np.diff(together[:-2]) > 0)


def test_refinement_only_tightens():
    steps = np.array([0, 1, 30, 1000])
    for bias in (0.0, 0.004):
        ball = dataclasses.replace(BASE, gradient_bias=bias)
        grid = log_exit_bound_s2(ball, steps, refine=False)[1:]
        fine = log_exit_bound_s2(ball, steps)[1:]
        assert np.all(fine <= grid)
        assert np.all(fine > grid - 0.05)


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"radius": 0.21}, -1),
        ({"contraction": 0.96}, 1),
        ({"noise_operator_norm": 0.044}, 1),
        ({"noise_trace": 0.088}, 1),
        ({"gradient_bias": 0.005}, 1),
        ({"start_distance": 0.1}, 1),
    ],
)
@pytest.mark.parametrize("theory", ["S1", "S2"])
def test_monotonicity(theory, change, sign):
    steps = np.array([1, 10, 1000])
    before = THEORIES[theory](BASE, steps)
    after = THEORIES[theory](dataclasses.replace(BASE, **change), steps)
    if theory == "S1" and "start_distance" in change:
        assert np.all(after >= before)  # it enters through a maximum
    else:
        assert np.all(sign * (after - before) > 0)


def test_s2_is_at_least_as_good_as_s1():
    rng = np.random.default_rng(1)
    compared = 0
    for _ in range(60):
        eta = 10 ** rng.uniform(-3, 0)
        s = 10 ** rng.uniform(-3, 1)
        q = rng.uniform(0, 0.999)
        spread = eta * np.sqrt(s / (1 - q**2))
        radius = spread * rng.uniform(1, 15)
        ball = StayConstants(
            learning_rate=eta,
            contraction=q,
            noise_operator_norm=s,
            noise_trace=s * rng.uniform(1, 100),
            radius=radius,
            start_distance=radius * rng.choice([0.0, rng.uniform(0, 0.8)]),
            gradient_bias=rng.choice([0.0, rng.uniform(0, 0.3) * (1 - q) * radius / eta]),
        )
        bounds = log_exit_bounds(ball, np.array([1, 30, 1000, 10**6]))
        useful = bounds["S1"] < 0
        compared += useful.sum()
        assert np.all(bounds["S2"][useful] <= bounds["S1"][useful])
    assert compared > 50


def test_extreme_constants_stay_finite():
    tiny = StayConstants(
        learning_rate=1e-4,
        contraction=1 - 1e-9,
        noise_operator_norm=1e-12,
        noise_trace=1e-9,
        radius=10.0,
        gradient_bias=1e-12,
    )
    sharp = dataclasses.replace(tiny, contraction=0.0, learning_rate=1.0)
    for ball in (tiny, sharp):
        log = log_exit_bound_s2(ball, np.array([1, 10**9]))
        assert np.all(np.isfinite(log))
        assert np.all(log < -1e3)


def test_a_tiny_bias_changes_nothing():
    steps = np.array([1000])
    without = log_exit_bound_s2(constants(2, 0.15), steps)
    assert log_exit_bound_s2(constants(2, 0.15, bias=1e-9), steps)[0] == pytest.approx(
        without[0], abs=1e-3
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contraction": 1.0}, "does not contract"),
        ({"contraction": -0.1}, "contraction must be finite and not negative, got -0.1"),
        ({"contraction": float("nan")}, "contraction must be finite"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and positive, got 0"),
        ({"noise_operator_norm": float("inf")}, "noise_operator_norm"),
        ({"noise_trace": -1.0}, "noise_trace"),
        ({"radius": 0.0}, "radius must be finite and positive"),
        ({"start_distance": 0.3}, "starts outside the ball"),
        ({"gradient_bias": -1e-3}, "gradient_bias"),
    ],
)
def test_violated_assumptions_give_nan_and_a_reason(change, words):
    ball = dataclasses.replace(BASE, **change)
    reason = assumption_violation(ball)
    assert reason is not None
    assert words in reason
    for log in log_exit_bounds(ball, np.array([0, 1, 100])).values():
        assert log.shape == (3,)
        assert np.all(np.isnan(log))
        assert np.all(np.isnan(stay_lower_bound(log)))


def test_valid_constants_have_no_violation():
    assert assumption_violation(BASE) is None
    assert assumption_violation(dataclasses.replace(BASE, start_distance=BASE.radius)) is None


def test_negative_steps_are_refused():
    for bound in THEORIES.values():
        with pytest.raises(ValueError, match="steps must not be negative, got -2"):
            bound(BASE, np.array([3, -2]))


def test_stay_lower_bound_is_clipped_and_accurate_for_small_exits():
    log = np.array([-np.inf, -50.0, np.log(0.25), 0.0, 9.0])
    np.testing.assert_allclose(
        stay_lower_bound(log), [1.0, 1.0 - np.exp(-50.0), 0.75, 0.0, 0.0], rtol=1e-15
    )
    assert not np.any(np.signbit(stay_lower_bound(log)))


@pytest.mark.parametrize(("effective_rank", "fixed_spread"), [(1, False), (3, False), (1, True)])
def test_s2_exponent_tends_to_that_of_the_auto_radius(effective_rank, fixed_spread):
    # -log(S2 per step) = mu (radius - sqrt R)^2 / (eta s) + O(log 1/eta): compare the growth.
    radius, s, many = (0.28 if fixed_spread else 0.15), 0.04, 10**12
    measured, expected = [], []
    for eta in (0.004, 0.002, 0.001):
        rank = effective_rank / eta if fixed_spread else effective_rank
        ball = StayConstants(
            learning_rate=eta,
            contraction=1 - eta,
            noise_operator_norm=s,
            noise_trace=rank * s,
            radius=radius,
        )
        measured.append(np.log(many) - log_exit_bound_s2(ball, np.array([many]))[0])
        spread = np.sqrt(eta * rank * s / 2)
        expected.append((radius - spread) ** 2 / (eta * s))
        # The same relation read the other way is the auto radius.
        assert auto_radius(
            eta, 1.0, s, rank * s, steps=1, failure_probability=float(np.exp(-expected[-1]))
        ) == pytest.approx(radius, rel=1e-12)
    assert measured[2] > 150
    np.testing.assert_allclose(np.diff(measured) / np.diff(expected), 1.0, atol=0.02)
