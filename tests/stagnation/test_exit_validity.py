"""Do the exit bounds hold? Against exact laws and simulations that share no code with them."""

import dataclasses

import numpy as np
import pytest
from scipy import special, stats

from sgdsim.stagnation import (
    StayConstants,
    _supermartingale as supermartingale,
    clopper_pearson,
    exact_exit_rate,
    exact_stay_probability,
    hoeffding_proxy,
    log_exit_bound_s2,
    log_exit_bound_s2_scheduled,
    log_exit_bounds,
    stationary_radius,
)

pytestmark = pytest.mark.slow

STEPS = 200


def random_ball(rng, curvature, variances, steps):
    """Constants of a quadratic with these Hessian eigenvalues and noise variances, by hand."""
    eta = 10 ** rng.uniform(-2, 0)
    # The largest step factor |1 - eta h| is put between 0.3 and 0.98, on either side of 0.
    curvature = curvature / curvature.max()
    if rng.random() < 0.25:
        curvature = curvature * rng.uniform(1.3, 1.98) / eta
    else:
        curvature = curvature * rng.uniform(0.02, 0.7) / eta
    variances = variances * 10 ** rng.uniform(-4, 0) / eta**2
    q = np.max(np.abs(1 - eta * curvature))
    trace = variances.sum()
    stationary = np.sum(eta**2 * variances / (1 - (1 - eta * curvature) ** 2))
    radius = np.sqrt(stationary) + rng.uniform(0.3, 4) * eta * np.sqrt(variances.max() / (1 - q**2))
    start = radius * rng.choice([0.0, rng.uniform(0, 0.9)])
    ball = StayConstants(
        learning_rate=eta,
        contraction=q,
        noise_operator_norm=variances.max(),
        noise_trace=trace,
        radius=radius,
        start_distance=start,
    )
    return ball, curvature, variances, int(rng.integers(1, steps + 1))


def isotropic_cases(count):
    """Exact exit probabilities, from almost nothing to almost one."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        dimension = int(rng.integers(1, 31))
        ball, curvature, variances, steps = random_ball(
            rng, np.ones(dimension), np.ones(dimension), STEPS
        )
        scale = ball.learning_rate * np.sqrt(variances[0])
        stay = exact_stay_probability(
            1 - ball.learning_rate * curvature[0],
            scale,
            dimension,
            ball.radius,
            ball.start_distance,
            steps,
            int(30 + 4 * ball.radius / scale),
        )
        yield ball, 1 - stay


@pytest.fixture(scope="module")
def settings():
    return list(isotropic_cases(130))


def biased_cases(count):
    """Exact exits of a line with a constant force, the bias."""
    rng = np.random.default_rng(10)
    for _ in range(count):
        ball, curvature, variances, steps = random_ball(rng, np.ones(1), np.ones(1), STEPS)
        eta, q = ball.learning_rate, ball.contraction
        bias = rng.uniform(0, 0.5) * (1 - q) * ball.radius / eta
        ball = dataclasses.replace(ball, gradient_bias=bias)
        exits = exact_biased_exit(
            1 - eta * curvature[0],
            eta * bias,
            eta * np.sqrt(variances[0]),
            ball.radius,
            steps,
            start=float(ball.start_distance),
        )
        yield ball, exits


def anisotropic_cases(count, runs=1000):
    """Simulated exits of quadratics with unequal curvature and noise, half of them with a bias."""
    rng = np.random.default_rng(20)
    for case in range(count):
        dimension = int(rng.integers(2, 9))
        ball, curvature, variances, steps = random_ball(
            rng, rng.uniform(0.1, 1, dimension), 10 ** rng.uniform(-1.5, 0, dimension), 80
        )
        eta, q = ball.learning_rate, ball.contraction
        size = case % 2 * rng.uniform(0, 0.3) * (1 - q) * ball.radius / eta
        direction = rng.standard_normal((2, dimension))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        ball = dataclasses.replace(ball, gradient_bias=size)
        theta = np.tile(ball.start_distance * direction[0], (runs, 1))
        inside = np.ones(runs, bool)
        for _ in range(steps):
            noise = np.sqrt(variances) * rng.standard_normal(theta.shape)
            theta = theta - eta * (curvature * theta + size * direction[1] + noise)
            inside &= norm(theta) <= ball.radius
        # 99.9999 %: all lower limits hold together.
        yield ball, steps, clopper_pearson(int(runs - inside.sum()), runs, 1 - 1e-6)[0]


def test_no_bound_is_violated_in_random_cases(settings):
    exact = [*settings, *biased_cases(40)]
    informative, from_afar = 0, 0
    for ball, exits in exact:
        bounds = log_exit_bounds(ball, np.arange(1, exits.size + 1))
        for log in bounds.values():
            assert np.all(np.exp(log) >= exits - 1e-10)
        informative += np.exp(bounds["S2"][-1]) < 0.5
        from_afar += ball.start_distance > 0
    simulated, leaving = list(anisotropic_cases(40)), 0
    for ball, steps, lower in simulated:
        leaving += lower > 0
        bounds = log_exit_bounds(ball, np.array([steps]))
        for log in bounds.values():
            assert np.exp(log[0]) >= lower
        informative += np.exp(bounds["S2"][0]) < 0.5
        from_afar += ball.start_distance > 0
    count = len(exact) + len(simulated)
    print(
        f"{count} cases, {len(exact)} exact and {len(simulated)} simulated, S2 below 0.5 in "
        f"{informative}, start off the minimum in {from_afar}: no violation"
    )
    assert count >= 200
    assert informative > 60
    assert from_afar > 60
    assert leaving > 10


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
        np.any(np.exp(log_exit_bound_s2(ball, np.arange(1, exits.size + 1))) < exits - 1e-9)
        for ball, exits in settings
    )
    assert caught > 0


def exact_biased_exit(rho, shift, sigma, radius, steps, nodes=120, start=0.0):
    """x' = rho x + shift + sigma g on an interval: a Gaussian kernel on a grid."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    at, weights = radius * at, radius * weights
    density = stats.norm.pdf(at, loc=rho * start + shift, scale=sigma) * weights
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


def minibatch_exits(samples, eta, batch, radius, runs, steps):
    """Mean estimation: the gradient of sample i is theta - z_i; start at the mean."""
    rng = np.random.default_rng(5)

    def step(theta):
        chosen = samples[rng.integers(0, len(samples), (len(theta), batch))]
        return theta - eta * (theta - chosen.mean(axis=1))

    return simulate_exits(step, norm, np.zeros(samples.shape[1]), radius, runs, steps=steps)


@pytest.mark.statistical
def test_bounds_hold_for_minibatches_with_the_hoeffding_proxy():
    samples = np.array([[0.2, 0.1], [-0.2, -0.1]])
    eta, batch, radius, runs, steps = 0.05, 2, 0.11, 4000, 1000
    exits = minibatch_exits(samples, eta, batch, radius, runs, steps)
    # Two points span a line.
    s, trace = hoeffding_proxy(float(np.linalg.norm(samples[0] - samples[1])), batch, 1)
    ball = StayConstants(
        learning_rate=eta,
        contraction=1 - eta,
        noise_operator_norm=s,
        noise_trace=trace,
        radius=radius,
    )
    low, high = clopper_pearson(exits, runs, 0.999)
    bound = np.exp(log_exit_bound_s2(ball, np.array([steps]))[0])
    assert low > 0
    assert high <= bound < 0.2


@pytest.mark.statistical
def test_the_covariance_is_no_proxy_for_rare_large_gradients():
    # Mutant: the covariance in place of the proxy. One sample in a hundred is far away.
    samples = np.concatenate([np.zeros((99, 1)), np.ones((1, 1))])
    samples -= samples.mean()
    eta, radius, runs, steps = 0.2, 0.3, 2000, 300
    low = clopper_pearson(minibatch_exits(samples, eta, 1, radius, runs, steps), runs, 0.999)[0]
    ball = StayConstants(
        learning_rate=eta,
        contraction=1 - eta,
        noise_operator_norm=float(samples.var()),
        noise_trace=float(samples.var()),
        radius=radius,
    )
    assert np.exp(log_exit_bound_s2(ball, np.array([steps]))[0]) < 1e-3 < low
    s, trace = hoeffding_proxy(1.0, 1, 1)
    proxy = dataclasses.replace(ball, noise_operator_norm=s, noise_trace=trace)
    assert np.exp(log_exit_bound_s2(proxy, np.array([steps]))[0]) >= low


def exact_scheduled_exit(rho, sigma, dimension, radius, start, nodes=100):
    """Product of the kernels of the distance, another one at every step, as Bessel functions."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    at, weights = radius * (at + 1) / 2, radius * weights / 2
    order = dimension / 2 - 1
    mass, origin = np.ones(1), np.array([start])
    exits = []
    for factor, scale in zip(rho, sigma, strict=True):
        centre = factor * origin[:, None]
        density = (
            at
            / scale**2
            * (at / centre) ** order
            * special.ive(order, centre * at / scale**2)
            * np.exp(-((at - centre) ** 2) / (2 * scale**2))
        )
        mass = mass @ density * weights
        origin = at
        exits.append(1 - mass.sum())
    return np.array(exits)


def test_scheduled_oracle_of_a_constant_schedule():
    exits = exact_scheduled_exit(np.full(50, 0.9), np.full(50, 0.02), 3, 0.12, 0.05)
    np.testing.assert_allclose(
        exits, 1 - exact_stay_probability(0.9, 0.02, 3, 0.12, 0.05, 50), atol=1e-9
    )


@pytest.mark.parametrize("kind", ["decay", "warm-up", "noise"])
@pytest.mark.parametrize("dimension", [1, 4])
def test_scheduled_bound_holds(kind, dimension):
    steps = np.arange(100)
    eta = {
        "decay": 0.2 / (1 + steps / 20),
        "warm-up": np.where(steps < 60, 0.02, 0.2),
        "noise": np.full(100, 0.1),
    }[kind]
    s = np.where(steps % 7 == 0, 0.09, 0.02) if kind == "noise" else np.full(100, 0.04)
    spread = np.sqrt(np.max(eta * s) / 2)
    radius = np.sqrt(dimension) * spread + 3 * spread
    ball = StayConstants(
        learning_rate=eta,
        contraction=1 - eta,
        noise_operator_norm=s,
        noise_trace=dimension * s,
        radius=radius,
        start_distance=0.3 * radius,
    )
    exits = exact_scheduled_exit(
        1 - eta, eta * np.sqrt(s), dimension, ball.radius, ball.start_distance
    )
    bound = np.exp(log_exit_bound_s2_scheduled(ball))
    assert np.all(bound >= exits - 1e-10)
    assert bound[-1] < 0.9


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
    etas = np.array([0.02, 0.01, 0.005])
    log_rate = np.array(
        [
            np.log(
                exact_exit_rate(
                    1 - eta,
                    eta * np.sqrt(s),
                    dimension,
                    radius,
                    nodes=20 + int(1.8 * radius / (eta * np.sqrt(s))),
                )
            )
            for eta in etas
        ]
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
