import numpy as np
import pytest

from sgdsim.stagnation import (
    StayConstants,
    auto_radius,
    comfortable_stagnation_number,
    contraction_rsi,
    contraction_strongly_convex,
    log_exit_bound_s2,
    stagnation_number,
    stationary_radius,
    stay_exponent,
)


@pytest.mark.parametrize("product", [0.01, 0.1, 0.5])
def test_stationary_radius_against_the_exact_variance(product):
    # theta' = (1 - eta mu) theta + eta xi has E d^2 = eta^2 tau / (1 - (1 - eta mu)^2).
    eta, tau = 0.2, 0.3
    exact = eta**2 * tau / (1 - (1 - product) ** 2)
    square = stationary_radius(eta, product / eta, tau) ** 2
    assert square == pytest.approx(exact * (1 - product / 2), rel=1e-12)


def test_auto_radius_by_hand():
    # sqrt(0.1 * 0.5 / 4) + sqrt(0.1 * 0.2 / 2 * log(1e5))
    assert auto_radius(0.1, 2.0, 0.2, 0.5, steps=1000, failure_probability=0.01) == pytest.approx(
        0.0125**0.5 + (0.01 * np.log(1e5)) ** 0.5, rel=1e-12
    )


def test_auto_radius_nearly_meets_its_target():
    radius = auto_radius(0.05, 1.0, 0.04, 0.4, steps=2000, failure_probability=0.01)
    ball = StayConstants(
        learning_rate=0.05,
        contraction=0.95,
        noise_operator_norm=0.04,
        noise_trace=0.4,
        radius=radius,
    )
    assert 1e-4 < np.exp(log_exit_bound_s2(ball, np.array([2000]))[0]) < 1e-1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rsi": -0.1}, "rsi must be finite and positive, got -0.1"),
        ({"rsi": float("nan")}, "rsi"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"noise_operator_norm": 0.0}, "noise_operator_norm"),
        ({"noise_trace": -1.0}, "noise_trace"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"failure_probability": 1.0}, "failure_probability"),
    ],
)
def test_auto_radius_refuses(change, words):
    arguments = {
        "learning_rate": 0.05,
        "rsi": 1.0,
        "noise_operator_norm": 0.04,
        "noise_trace": 0.4,
        "steps": 10,
        "failure_probability": 0.01,
    }
    with pytest.raises(ValueError, match=words):
        auto_radius(**(arguments | change))


def test_stay_exponent_is_inverted_by_the_auto_radius():
    radius = auto_radius(0.1, 2.0, 0.2, 0.5, steps=1000, failure_probability=0.01)
    assert float(stay_exponent(0.1, 2.0, 0.2, 0.5, radius)) == pytest.approx(np.log(1e5))
    inside = stationary_radius(0.1, 2.0, 0.5)
    exponents = stay_exponent(0.1, np.array([[2.0], [-2.0]]), 0.2, 0.5, np.array([inside, 1.0, -1]))
    assert exponents.shape == (2, 3)
    assert exponents[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert exponents[0, 1] == pytest.approx(100 * (1 - inside) ** 2)
    assert np.isnan(exponents[1]).all()
    assert np.isnan(exponents[0, 2])


def test_a_comfortable_stagnation_number_has_an_exponent_of_log_steps():
    eta, mu, s, rank, steps = 0.05, 0.7, 0.04, 6.0, 5000
    spread = stationary_radius(eta, mu, rank * s)
    radius = comfortable_stagnation_number(steps, rank) * spread
    assert float(stay_exponent(eta, mu, s, rank * s, radius)) == pytest.approx(np.log(steps))
    assert stagnation_number(radius, spread) == pytest.approx(
        comfortable_stagnation_number(steps, rank)
    )
    assert np.isnan(stagnation_number(1.0, 0.0))
    assert np.isnan(stagnation_number(float("nan"), 1.0))
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 6"):
        comfortable_stagnation_number(0, rank)


@pytest.mark.parametrize("eta", [0.1, 0.4, 0.6])
def test_strongly_convex_contraction_is_the_norm_of_the_step_matrix(eta):
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    hessian = rotation @ np.diag([0.5, 1.0, 2.0, 3.0]) @ rotation.T
    q = contraction_strongly_convex(eta, 0.5, 3.0)
    assert q == pytest.approx(np.linalg.norm(np.eye(4) - eta * hessian, 2), rel=1e-12)


def test_rsi_contraction_is_reached_by_a_spiral():
    # A gradient field rotated against u: <g, u> = mu |u|^2 and |g| = beta |u| at every point.
    eta, mu, beta = 0.1, 1.0, 2.0
    field = np.array([[mu, -np.sqrt(beta**2 - mu**2)], [np.sqrt(beta**2 - mu**2), mu]])
    for angle in np.linspace(0, 3, 4):
        u = np.array([np.cos(angle), np.sin(angle)])
        assert contraction_rsi(eta, mu, beta) == pytest.approx(
            np.linalg.norm(u - eta * field @ u), rel=1e-12
        )


def test_contractions_are_ordered_and_take_the_deviation():
    assert contraction_rsi(0.2, 1.0, 1.0) == pytest.approx(
        contraction_strongly_convex(0.2, 1.0, 1.0)
    )
    assert contraction_rsi(0.2, 1.0, 3.0) > contraction_strongly_convex(0.2, 1.0, 3.0)
    for contraction in (contraction_rsi, contraction_strongly_convex):
        plain = contraction(0.2, 1.0, 3.0)
        assert contraction(0.2, 1.0, 3.0, hessian_deviation=0.1) == pytest.approx(plain + 0.02)
        assert np.isnan(contraction(0.2, float("nan"), 3.0))
        assert np.isnan(contraction(0.2, 1.0, float("nan")))
        assert contraction(0.2, -1.0, 3.0) > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0, 1.0, 2.0, 0.0), "learning_rate must be finite and positive, got 0"),
        ((0.1, 2.0, 1.0, 0.0), "growth 1 is below the modulus 2"),
        ((0.1, 1.0, 2.0, -0.1), "hessian_deviation must not be negative"),
    ],
)
def test_contractions_refuse(arguments, words):
    for contraction in (contraction_rsi, contraction_strongly_convex):
        with pytest.raises(ValueError, match=words):
            contraction(*arguments[:3], hessian_deviation=arguments[3])
