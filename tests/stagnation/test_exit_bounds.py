"""The formulas of the exit bounds: numbers, limits, refusals."""

import dataclasses
import time

import numpy as np
import pytest

from sgdsim.stagnation import (
    StayConstants,
    assumption_violation,
    assumption_violations,
    auto_radius,
    exact_stay_probability,
    hoeffding_proxy,
    log_exit_bound_s0,
    log_exit_bound_s1,
    log_exit_bound_s2,
    log_exit_bound_s2_scheduled,
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


def random_constants(count, seed=1):
    """Settings over orders of magnitude, with and without bias, start and high rank."""
    rng = np.random.default_rng(seed)
    eta = 10 ** rng.uniform(-3, 0, count)
    s = 10 ** rng.uniform(-3, 1, count)
    q = rng.uniform(0, 0.999, count)
    trace = s * rng.uniform(1, 100, count)
    spread = eta * np.sqrt(trace / (1 - q**2))
    radius = spread * rng.uniform(1, 6, count)
    return StayConstants(
        learning_rate=eta,
        contraction=q,
        noise_operator_norm=s,
        noise_trace=trace,
        radius=radius,
        start_distance=radius * np.where(rng.random(count) < 0.5, 0, rng.uniform(0, 0.8, count)),
        gradient_bias=np.where(rng.random(count) < 0.5, 0, rng.uniform(0, 0.3, count))
        * ((1 - q) * radius / eta),
    )


STEPS = np.array([1, 30, 1000, 10**6])


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("radius", -1),
        ("contraction", 1),
        ("noise_operator_norm", 1),
        ("noise_trace", 1),
        ("gradient_bias", 1),
        ("start_distance", 1),
    ],
)
@pytest.mark.parametrize("theory", ["S1", "S2"])
def test_monotonicity(theory, name, sign):
    # A smaller modulus mu is a larger contraction factor.
    ball = random_constants(300)
    value = getattr(ball, name)
    if name == "contraction":
        larger = 1 - (1 - value) * 0.95
    elif name == "gradient_bias":
        larger = value + 0.02 * (1 - ball.contraction) * ball.radius / ball.learning_rate
    elif name == "start_distance":
        larger = value + 0.1 * ball.radius
    else:
        larger = 1.05 * value
    # A bound above 1 says nothing, however far above it is.
    before = np.minimum(THEORIES[theory](ball, STEPS), 0)
    after = np.minimum(THEORIES[theory](dataclasses.replace(ball, **{name: larger}), STEPS), 0)
    assert np.all(sign * (after - before) >= -1e-6)
    assert np.all(np.diff(before, axis=1) >= -1e-6)
    changed = (sign * (after - before))[before < 0] > 0
    assert changed.size > 100
    # The start enters S1 through a maximum, and S2 as a term that may be lost in rounding.
    assert changed.any() if name == "start_distance" else changed.all()


def test_s2_is_as_good_as_s1_but_for_rare_trifles():
    # Not a theorem: a high noise rank, or a start near the sphere with a strong contraction, can
    # favour S1 a little.
    bounds = log_exit_bounds(random_constants(1000), STEPS)
    useful = bounds["S1"] < 0
    excess = np.where(useful, bounds["S2"] - bounds["S1"], -np.inf)
    worse = excess.max(axis=1) > 0
    print(
        f"S2 above S1 in {worse.sum()} of {useful.any(axis=1).sum()} settings, by at most "
        f"{excess.max():.3f} nats"
    )
    assert useful.any(axis=1).sum() > 300
    assert worse.sum() <= 0.02 * worse.size
    assert excess.max() < 1


def test_settings_are_vectorised():
    ball = random_constants(12)
    grid = dataclasses.replace(
        ball,
        **{
            field.name: getattr(ball, field.name).reshape(3, 4)
            for field in dataclasses.fields(ball)
        },
    )
    steps = np.array([0, 3, 500])
    for theory, bound in THEORIES.items():
        together = bound(grid, steps)
        assert together.shape == (3, 4, 3)
        for at in range(12):
            alone = StayConstants(
                **{
                    field.name: float(getattr(ball, field.name)[at])
                    for field in dataclasses.fields(ball)
                }
            )
            np.testing.assert_allclose(
                together.reshape(12, 3)[at],
                bound(alone, steps),
                rtol=1e-9,
                atol=1e-6,
                err_msg=theory,
            )


def test_constants_broadcast_and_violated_entries_are_nan():
    ball = dataclasses.replace(
        BASE,
        radius=np.array([[0.2], [0.0], [np.inf], [0.01]]),
        contraction=np.array([0.95, 1.0]),
    )
    violated, reasons = assumption_violations(ball)
    assert violated.tolist() == [[False, True], [True, True], [True, True], [True, True]]
    assert reasons[0, 0] == ""
    assert "does not contract" in reasons[0, 1]
    assert reasons[1, 0] == "radius must be finite and positive, got 0"
    assert reasons[2, 1] == "radius must be finite and positive, got inf"
    assert "starts outside the ball" in reasons[3, 0]
    for bound in THEORIES.values():
        log = bound(ball, np.array([0, 7]))
        assert log.shape == (4, 2, 2)
        assert np.array_equal(np.isnan(log), np.broadcast_to(violated[..., None], log.shape))
        np.testing.assert_allclose(log[0, 0], bound(BASE, np.array([0, 7])), atol=1e-9)
    with pytest.raises(ValueError, match=r"one setting, got constants of shape \(4, 2\)"):
        assumption_violation(ball)
    with pytest.raises(ValueError, match="must broadcast to one shape"):
        assumption_violations(dataclasses.replace(BASE, radius=np.ones(2), noise_trace=np.ones(3)))


@pytest.mark.parametrize("biased", [False, True])
def test_a_thousand_settings_take_less_than_a_second(biased):
    ball = random_constants(1000)
    ball = dataclasses.replace(
        ball,
        gradient_bias=(0.1 * (1 - ball.contraction) * ball.radius / ball.learning_rate) * biased,
    )
    begin = time.process_time()
    log = log_exit_bound_s2(ball, np.array([1000]))
    elapsed = time.process_time() - begin
    print(f"S2 of 1000 settings, bias {biased}: {elapsed:.3f} s")
    assert np.all(np.isfinite(log))
    assert elapsed < 1.0


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


def scheduled(learning_rate, bias=0.0, start=0.0, dimension=2):
    return StayConstants(
        learning_rate=learning_rate,
        contraction=1 - learning_rate,
        noise_operator_norm=0.04,
        noise_trace=0.04 * dimension,
        radius=0.15,
        start_distance=start,
        gradient_bias=bias,
    )


@pytest.mark.parametrize(("bias", "start"), [(0.0, 0.0), (0.01, 0.05)])
def test_a_constant_schedule_gives_the_constant_bound(bias, start):
    steps = np.arange(1, 301)
    constant = log_exit_bound_s2(scheduled(0.05, bias, start), steps)
    schedule = log_exit_bound_s2_scheduled(scheduled(np.full(300, 0.05), bias, start))
    np.testing.assert_allclose(schedule, constant, rtol=0, atol=2e-3)
    assert np.all(np.diff(schedule) > 0)


def test_a_schedule_lies_between_its_largest_and_smallest_rates():
    eta = np.where(np.arange(400) < 100, 0.08, 0.02)
    steps = np.array([400])
    middle = log_exit_bound_s2_scheduled(scheduled(eta))[-1]
    assert log_exit_bound_s2(scheduled(0.02), steps)[0] + 1 < middle
    assert middle < log_exit_bound_s2(scheduled(0.08), steps)[0] - 0.5
    # By hand: 100 and 300 drifts with one kappa.
    best = np.inf
    for kappa in np.linspace(1, 2000, 4000):
        total = 0.0
        for rate, count in ((0.08, 100), (0.02, 300)):
            u = 1 - 2 * kappa * rate**2 * 0.04
            gamma = (1 - rate) ** 2 / u
            if u <= 0 or gamma >= 1:
                total = np.inf
                break
            v = np.exp(np.linspace(0, kappa * 0.15**2, 400))
            total += count * max(np.max(v**gamma / u - v), 0)
        best = min(best, np.log1p(total) - kappa * 0.15**2)
    assert middle == pytest.approx(best, abs=2e-2)


def test_a_schedule_is_cut_where_it_stops_contracting():
    eta = np.full(20, 0.05)
    eta[12] = 2.5
    ball = dataclasses.replace(scheduled(eta), contraction=np.abs(1 - eta))
    log = log_exit_bound_s2_scheduled(ball)
    assert np.array_equal(np.isnan(log), np.arange(20) >= 12)
    np.testing.assert_allclose(
        log[:12], log_exit_bound_s2_scheduled(scheduled(eta[:12])), atol=1e-9
    )


def test_schedules_that_are_none_are_refused():
    with pytest.raises(ValueError, match="radius and start_distance must be numbers"):
        log_exit_bound_s2_scheduled(dataclasses.replace(BASE, radius=np.full(3, 0.2)))
    with pytest.raises(ValueError, match="a schedule needs constants of shape"):
        log_exit_bound_s2_scheduled(BASE)


def test_hoeffding_proxy_of_signs_and_refusals():
    # A sign has diameter 2 and the proxy of its own variance, 1.
    assert hoeffding_proxy(2.0, 1, 1) == (1.0, 1.0)
    with pytest.raises(ValueError, match="diameter must be finite and not negative"):
        hoeffding_proxy(-1.0, 1, 1)
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 1"):
        hoeffding_proxy(1.0, 0, 1)


@pytest.mark.parametrize(
    ("dimension", "radius", "exit_probability"),
    [
        (1, 0.1, 0.396155),
        (1, 0.15, 1.31904e-3),
        (2, 0.15, 7.61956e-3),
        (10, 0.2, 1.21402e-2),
        (50, 0.3, 0.266971),
    ],
)
def test_table_of_exact_exits_lies_below_the_bounds(dimension, radius, exit_probability):
    exact = 1 - exact_stay_probability(0.95, 0.05 * 0.2, dimension, radius, 0.0, 1000)[-1]
    assert exact == pytest.approx(exit_probability, rel=1e-5)
    for log in log_exit_bounds(constants(dimension, radius), np.array([1000])).values():
        assert np.exp(log[0]) >= exact
