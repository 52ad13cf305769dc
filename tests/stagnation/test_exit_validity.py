"""Do the exit bounds hold? Against exact laws and simulations that share no code with them."""

import numpy as np
import pytest
from scipy import stats

from sgdsim.stagnation import (
    StayConstants,
    _supermartingale as supermartingale,
    clopper_pearson,
    log_exit_bound_s2,
    log_exit_bounds,
    stationary_radius,
)
from sgdsim.testing._exit_kernel import exact_exit_rate, exact_stay_probability

STEPS = 200


def random_settings(count):
    """Autoregressions with exit probabilities between almost nothing and almost one."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        rho = rng.uniform(0.3, 0.985) * rng.choice([-1, 1])
        dimension = int(rng.integers(1, 31))
        eta, sigma = 10 ** rng.uniform(-2, 0, size=2)
        single = sigma / np.sqrt(1 - rho**2)
        radius = single * (np.sqrt(dimension) + rng.uniform(0.5, 5))
        start = radius * rng.choice([0.0, rng.uniform(0, 0.9)])
        variance = (sigma / eta) ** 2
        ball = StayConstants(
            learning_rate=eta,
            contraction=abs(rho),
            noise_operator_norm=variance,
            noise_trace=dimension * variance,
            radius=radius,
            start_distance=start,
        )
        nodes = max(80, int(10 * radius / sigma))
        yield (
            ball,
            1 - exact_stay_probability(rho, sigma, dimension, radius, start, STEPS, nodes),
        )


@pytest.fixture(scope="module")
def settings():
    return list(random_settings(64))


def test_bounds_hold_for_isotropic_autoregressions(settings):
    informative, from_afar = 0, 0
    for ball, exit_probability in settings:
        bounds = log_exit_bounds(ball, np.arange(1, STEPS + 1))
        for log in bounds.values():
            assert np.all(np.exp(log) >= exit_probability - 1e-10)
        informative += np.exp(bounds["S2"][-1]) < 0.5
        from_afar += ball.start_distance > 0
    assert len(settings) >= 60
    assert informative > 20
    assert from_afar > 20


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_bound_without_the_noise_growth_is_caught(settings, monkeypatch, kept):
    # Mutant: the term -(r/2) log u is left out, or halved.
    right = supermartingale._log_noise_growth
    monkeypatch.setattr(
        supermartingale,
        "_log_noise_growth",
        lambda rank, log_u: np.maximum(kept * right(rank, log_u), 1e-300),
    )
    caught = sum(
        np.any(np.exp(log_exit_bound_s2(ball, np.arange(1, STEPS + 1))) < exit_probability - 1e-9)
        for ball, exit_probability in settings
    )
    assert caught > 0


def exact_biased_exit(rho, shift, sigma, radius, steps, nodes=120):
    """x' = rho x + shift + sigma g on an interval, from 0: a Gaussian kernel on a grid."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    at, weights = radius * at, radius * weights
    density = stats.norm.pdf(at, loc=shift, scale=sigma) * weights
    kernel = stats.norm.pdf(at[None, :], loc=rho * at[:, None] + shift, scale=sigma) * weights
    exits = np.empty(steps)
    for step in range(steps):
        exits[step] = 1 - density.sum()
        density = density @ kernel
    return exits


@pytest.mark.parametrize("bias", [1e-4, 0.01, 0.03, 0.06])
@pytest.mark.parametrize("rho", [0.95, 0.6, -0.6])
def test_bounds_hold_with_a_gradient_bias(rho, bias):
    eta, s = 0.05, 0.04
    sigma = eta * np.sqrt(s)
    radius = 5 * sigma / np.sqrt(1 - rho**2)
    ball = StayConstants(
        learning_rate=eta,
        contraction=abs(rho),
        noise_operator_norm=s,
        noise_trace=s,
        radius=radius,
        gradient_bias=bias,
    )
    exit_probability = exact_biased_exit(rho, eta * bias, sigma, radius, 500)
    bounds = log_exit_bounds(ball, np.arange(1, 501))
    for log in bounds.values():
        assert np.all(np.exp(log) >= exit_probability - 1e-12)
    if bias <= 0.01:
        assert np.exp(bounds["S2"][-1]) < 0.1


def simulate_exits(step, distance, start, radius, runs, steps=1000):
    theta = np.tile(np.asarray(start, float), (runs, 1))
    inside = np.ones(runs, bool)
    for _ in range(steps):
        theta = step(theta)
        inside &= distance(theta) <= radius
    return int(runs - inside.sum())


def norm(theta):
    return np.linalg.norm(theta, axis=1)


@pytest.mark.statistical
@pytest.mark.parametrize(("bias", "exit_probability"), [(0.03, 0.035), (0.0, 0.002)])
def test_bound_holds_on_a_ring_of_minima(bias, exit_probability):
    rng = np.random.default_rng(2)
    eta, s, runs = 0.05, 0.04, 4000

    def step(theta):
        length = norm(theta)[:, None]
        gradient = (length - 1 - bias) * theta / length
        return theta - eta * (gradient + np.sqrt(s) * rng.standard_normal(theta.shape))

    exits = simulate_exits(step, lambda theta: np.abs(norm(theta) - 1), [1.0, 0.0], 0.15, runs)
    error = np.sqrt(exit_probability * (1 - exit_probability) / runs) + 5e-4
    assert abs(exits / runs - exit_probability) < 5 * error
    ball = StayConstants(
        learning_rate=eta,
        contraction=1 - eta,
        noise_operator_norm=s,
        noise_trace=2 * s,
        radius=0.15,
        gradient_bias=bias,
    )
    bound = np.exp(log_exit_bound_s2(ball, np.array([1000]))[0])
    assert clopper_pearson(exits, runs, 0.999)[0] <= bound < 0.6


@pytest.mark.statistical
def test_bound_holds_for_sub_gaussian_noise():
    rng = np.random.default_rng(3)
    eta, s, runs = 0.05, 0.04, 5000

    def step(theta):
        signs = 2.0 * rng.integers(0, 2, theta.shape, dtype=np.int8) - 1.0
        return (1 - eta) * theta + eta * np.sqrt(s) * signs

    exits = simulate_exits(step, norm, [0.0, 0.0], 0.15, runs)
    assert abs(exits / runs - 0.0017) < 5 * np.sqrt(0.0017 / runs)
    ball = StayConstants(
        learning_rate=eta,
        contraction=1 - eta,
        noise_operator_norm=s,
        noise_trace=2 * s,
        radius=0.15,
    )
    bound = np.exp(log_exit_bound_s2(ball, np.array([1000]))[0])
    assert clopper_pearson(exits, runs, 0.999)[1] <= bound


@pytest.mark.statistical
def test_bounds_hold_for_unequal_curvature_and_noise():
    rng = np.random.default_rng(4)
    eta, runs = 0.1, 4000
    curvature, variance = np.array([1.0, 3.0, 8.0]), np.array([0.02, 0.04, 0.1])
    bias = np.array([0.0, 0.03, 0.04])

    def step(theta):
        noise = np.sqrt(variance) * rng.standard_normal(theta.shape)
        return theta - eta * (curvature * theta + bias + noise)

    exits = simulate_exits(step, norm, [0.05, 0.0, 0.0], 0.13, runs, steps=400)
    ball = StayConstants(
        learning_rate=eta,
        contraction=np.max(np.abs(1 - eta * curvature)),
        noise_operator_norm=variance.max(),
        noise_trace=variance.sum(),
        radius=0.13,
        start_distance=0.05,
        gradient_bias=0.05,
    )
    assert exits > 20
    low = clopper_pearson(exits, runs, 0.999)[0]
    for log in log_exit_bounds(ball, np.array([400])).values():
        assert np.exp(log[0]) >= low


@pytest.mark.parametrize("dimension", [1, 3])
def test_exact_exponent_tends_to_the_quasi_potential(dimension):
    # -log rate = mu radius^2 / (eta s) + (1 - m/2) log(1/eta) + constant + o(1) as eta -> 0.
    radius, s = 0.15, 0.04
    etas = np.array([0.02, 0.01, 0.005, 0.0025])
    log_rate = np.array(
        [np.log(exact_exit_rate(1 - eta, eta * np.sqrt(s), dimension, radius)) for eta in etas]
    )
    exponent = radius**2 / (etas * s)
    rest = np.diff(-log_rate - exponent) / np.log(2)
    np.testing.assert_allclose(rest, 1 - dimension / 2, atol=0.1)
    assert abs(rest[-1] - (1 - dimension / 2)) < 0.05
    spread = np.array([stationary_radius(eta, 1.0, dimension * s) for eta in etas])
    ratio = -log_rate * etas * s / (radius - spread) ** 2
    assert np.all(np.diff(ratio) < 0)
    assert np.all(ratio > 1)
    # R tends to 0 with eta here, like sqrt(eta): so does the difference of the two exponents.
    assert ratio[-1] < 1 + 3 * spread[-1] / radius
