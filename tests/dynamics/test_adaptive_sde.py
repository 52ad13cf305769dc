"""The SDEs of RMSProp and Adam on a quadratic: their exact laws, and the algorithms' way to them.

With additive noise the averaged square ``v`` of the equation is no random number, and ``theta`` is
Gaussian with moments that obey ordinary differential equations.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    AdamSDE,
    IsotropicNoise,
    Iterate,
    LangevinNoise,
    MinibatchNoise,
    Moments,
    RMSPropSDE,
    StudentNoise,
)
from sgdsim.problems import Problem
from sgdsim.testing._dense import dense_gradients

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

CURVATURE, START = 1.3, 1.5


def bowl():
    return Problem(lambda theta, z: 0.5 * CURVATURE * theta**2 + 0 * z, jnp.zeros(1))


def law(stepper, iterate, steps):
    """Exact mean and variance of theta: linear in theta, m and the normals, v known beforehand."""
    size = sum(leaf.size for leaf in jax.tree.leaves((iterate.theta, _continuous(iterate.memory))))
    covariance = np.zeros((size, size))
    for _ in range(steps):
        by_state, by_draw, iterate = derivatives(stepper, iterate)
        covariance = by_state @ covariance @ by_state.T + by_draw @ by_draw.T
    return np.array([iterate.theta, covariance[0, 0]])


@eqx.filter_jit
def derivatives(stepper, iterate):
    """Of one step, by the state and by the normals; and the step itself without noise."""
    problem = bowl()
    draw = stepper.draw(jax.random.key(0), jnp.asarray(0), problem, iterate.theta)
    flat, unravel = ravel_pytree((iterate.theta, _continuous(iterate.memory)))

    def move(flat, draw):
        theta, memory = unravel(flat)
        after, _ = stepper.step(problem, Iterate(theta, _with(iterate.memory, memory)), draw)
        return ravel_pytree((after.theta, _continuous(after.memory)))[0], after

    zero = jax.tree.map(jnp.zeros_like, draw)
    (by_state, by_draw), after = jax.jacfwd(move, argnums=(0, 1), has_aux=True)(flat, zero)
    return by_state, by_draw.reshape(len(flat), -1), after


def limit_law(make, start, steps):
    """Law of the equation: the error of Euler is of order one in the step, so extrapolate."""

    def at(substeps):
        # Arrays, so that another rate is no other program.
        stepper = jax.tree.map(jnp.asarray, make(substeps))
        return law(stepper, start, steps)

    return 2 * at(64) - at(32)


def _continuous(memory):
    """The memory without the number of steps."""
    return (memory.first, memory.second) if isinstance(memory, Moments) else memory


def _with(memory, numbers):
    """The memory with other numbers at the same step."""
    if not isinstance(memory, Moments):
        return numbers
    first, second = numbers
    return Moments(first, second, memory.steps)


def moments_by_ode(drift, spread, start, times):
    """Mean and covariance of dz = A(t) z dt + b(t) dW by scipy; gives those of the first entry."""
    size = len(start)

    def rate(t, y):
        mean, covariance = y[:size], y[size:].reshape(size, size)
        a, b = drift(t), spread(t)
        return np.concatenate(
            [a @ mean, np.ravel(a @ covariance + covariance @ a.T + np.outer(b, b))]
        )

    y = np.concatenate([start, np.zeros(size * size)])
    solution = scipy.integrate.solve_ivp(rate, times, y, method="LSODA", rtol=1e-10, atol=1e-13)
    return solution.y[[0, size], -1]


ETA, VARIANCE, EPSILON = 0.3, 2.0, 0.2


def test_law_of_rmsprop():
    """Started off the stationary v, so that its relaxation counts."""
    decay, first, steps = 0.8, 6.0, 5

    def speed(k):
        v = VARIANCE + (first - VARIANCE) * np.exp(-(1 - decay) * k)
        return ETA / (np.sqrt(v) + EPSILON)

    expected = moments_by_ode(
        lambda k: np.array([[-CURVATURE * speed(k)]]),
        lambda k: np.array([np.sqrt(VARIANCE) * speed(k)]),
        np.array([START]),
        (0, steps),
    )
    found = limit_law(
        lambda m: RMSPropSDE(ETA, IsotropicNoise(VARIANCE), decay, EPSILON, m),
        Iterate(jnp.asarray(START), jnp.asarray(first)),
        steps,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_law_of_adam():
    """From averages of zero, hence with the corrections of their bias, as the paper has them."""
    b1, b2, steps = 0.7, 0.9, 5

    def drift(k):
        bias1, bias2 = -np.expm1(-(1 - b1) * k), -np.expm1(-(1 - b2) * k)
        v = VARIANCE * bias2
        speed = ETA * np.sqrt(bias2) / bias1 / (np.sqrt(v) + EPSILON * np.sqrt(bias2))
        return np.array([[0.0, -speed], [(1 - b1) * CURVATURE, -(1 - b1)]])

    expected = moments_by_ode(
        drift,
        lambda k: np.array([0.0, (1 - b1) * np.sqrt(VARIANCE)]),
        np.array([START, 0.0]),
        (1e-9, steps),
    )

    def make(m):
        return AdamSDE(ETA, IsotropicNoise(VARIANCE), b1, b2, EPSILON, m)

    found = limit_law(make, make(1).start(bowl(), jnp.asarray(START)), steps)
    # The corrections diverge at time zero: Euler's error has a logarithm, which stays.
    np.testing.assert_allclose(found, expected, rtol=5e-4)


#: Where the algorithms meet their equations, with noise VARIANCE / eta^2 and 1 - beta = rate eta^2:
#: from time 1 to time 2 = eta^2 k. From time 0 Adam's error is eta^2 log(1/eta), for its first
#: steps divide by the root of but a few squares.
PATHS, RATE1, RATE2 = 400_000, 1.0, 0.7


def begin(eta):
    """Standard deviation and averaged square at time 1, and epsilon."""
    sigma = np.sqrt(VARIANCE) / eta
    return sigma, -np.expm1(-RATE2) * sigma**2, EPSILON / eta


def discrete_rmsprop(eta, steps, random):
    """The algorithm; and beside it one whose v does not move, with its mean and variance."""
    (sigma, v, epsilon), beta = begin(eta), 1 - RATE2 * eta**2
    theta, still = np.full((2, PATHS), START)
    speed = eta / (np.sqrt(v) + epsilon)
    decay, mean, variance = 1 - speed * CURVATURE, START, 0.0
    for _ in range(steps):
        noise = sigma * random.standard_normal(PATHS)
        gradient = CURVATURE * theta + noise
        v = beta * v + (1 - beta) * gradient**2
        theta = theta - eta * gradient / (np.sqrt(v) + epsilon)
        still = decay * still - speed * noise
        mean, variance = decay * mean, decay**2 * variance + (speed * sigma) ** 2
    return theta, still, mean, variance


def discrete_adam(eta, steps, random):
    """The algorithm; and beside it one whose corrected v does not move."""
    (sigma, v, epsilon), b1, b2 = begin(eta), 1 - RATE1 * eta**2, 1 - RATE2 * eta**2
    theta, still = np.full((2, PATHS), START)
    m, momentum = np.zeros((2, PATHS))
    mean, covariance = np.array([START, 0.0]), np.zeros((2, 2))
    for k in range(steps + 1, 2 * steps + 1):
        noise = sigma * random.standard_normal(PATHS)
        gradient = CURVATURE * theta + noise
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        theta = theta - eta * m / (1 - b1**k) / (np.sqrt(v / (1 - b2**k)) + epsilon)
        speed = eta / (1 - b1**k) / (sigma + epsilon)
        momentum = b1 * momentum + (1 - b1) * (CURVATURE * still + noise)
        still = still - speed * momentum
        average = np.array([(1 - b1) * CURVATURE, b1])
        move = np.stack([np.array([1.0, 0.0]) - speed * average, average])
        spread = (1 - b1) * sigma * np.array([-speed, 1.0])
        mean, covariance = move @ mean, move @ covariance @ move.T + np.outer(spread, spread)
    return theta, still, mean[0], covariance[0, 0]


def rmsprop_law(eta, steps, factor):
    noise = IsotropicNoise(factor * VARIANCE / eta**2)
    return limit_law(
        lambda m: RMSPropSDE(eta, noise, 1 - RATE2 * eta**2, EPSILON / eta, m),
        Iterate(jnp.asarray(START), jnp.asarray(begin(eta)[1])),
        steps,
    )


def adam_law(eta, steps, factor):
    noise = IsotropicNoise(factor * VARIANCE / eta**2)
    b1, b2 = 1 - RATE1 * eta**2, 1 - RATE2 * eta**2
    memory = Moments(jnp.zeros(()), jnp.asarray(begin(eta)[1]), jnp.asarray(steps, jnp.int32))
    return limit_law(
        lambda m: AdamSDE(eta, noise, b1, b2, EPSILON / eta, m),
        Iterate(jnp.asarray(START), memory),
        steps,
    )


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("simulate", "law_of", "counts"),
    [(discrete_rmsprop, rmsprop_law, [4, 8, 16, 32]), (discrete_adam, adam_law, [16, 32, 64])],
)
def test_the_algorithms_approach_their_equations(simulate, law_of, counts):
    """Weak order one in eta^2, hence slope two in eta, of mean and variance."""
    random = np.random.default_rng(4)
    etas = 1 / np.sqrt(counts)
    errors, spreads, wrong = np.zeros((3, len(counts), 2))
    for i, (eta, steps) in enumerate(zip(etas, counts, strict=True)):
        mean, variance = law_of(eta, steps, 1.0)
        # The linear companion has a known law: a control variate.
        theta, still, known_mean, known_variance = simulate(eta, steps, random)
        parts = theta - still, (theta - mean) ** 2 - (still - known_mean) ** 2
        known = np.array([known_mean - mean, known_variance - variance])
        errors[i] = np.array([part.mean() for part in parts]) + known
        spreads[i] = [part.std() / np.sqrt(PATHS) for part in parts]
        wrong[i] = errors[i] + [mean, variance] - law_of(eta, steps, 1.1)
    # Hence slopes to a few percent, but for the terms of order eta^4.
    assert np.all(spreads < 0.05 * np.abs(errors))
    slopes, mutant = (np.polyfit(np.log(etas), np.log(np.abs(e)), 1)[0] for e in (errors, wrong))
    assert np.abs(slopes - 2).max() < 0.3
    # An equation with another noise is not approached.
    assert mutant.min() < 1


def test_one_substep_with_minibatch_noise_by_hand(network_problem, getkey):
    """All leaves and per-sample noise: the recursions of the docstrings at m = 1."""
    problem, theta = network_problem
    noise, b1, b2, eta, epsilon = MinibatchNoise(2.0), 0.7, 0.9, 0.1, 0.3
    flat, unravel = ravel_pytree(theta)
    gradients = dense_gradients(problem, theta)
    variances = gradients.var(axis=0) / 2.0
    xi = np.asarray(jax.random.normal(getkey(), (problem.n,)))
    weights = 1 / problem.n - (xi - xi.mean()) / np.sqrt(2.0 * problem.n)
    gradient = weights @ gradients

    rms = RMSPropSDE(eta, noise, b2, epsilon)
    start = jax.jit(rms.start)(problem, theta)
    np.testing.assert_allclose(ravel_pytree(start.memory)[0], variances, atol=1e-13)
    memory = jax.tree.map(lambda a: 3.0 * a, start.memory)
    moved, risk = jax.jit(rms.step)(problem, Iterate(theta, memory), jnp.asarray(xi))
    v = (3 * b2 + 1 - b2) * variances
    np.testing.assert_allclose(
        ravel_pytree(moved.theta)[0], flat - eta * gradient / (np.sqrt(v) + epsilon), atol=1e-12
    )
    np.testing.assert_allclose(risk, problem.empirical_risk(theta), rtol=1e-12)

    adam = AdamSDE(eta, noise, b1, b2, epsilon)
    m0 = np.linspace(-1, 1, len(flat))
    memory = Moments(unravel(jnp.asarray(m0)), start.memory, jnp.asarray(4))
    moved, _ = jax.jit(adam.step)(problem, Iterate(theta, memory), jnp.asarray(xi))
    m = b1 * m0 + (1 - b1) * gradient
    bias1, bias2 = 1 - np.exp(-(1 - b1) * 5), 1 - np.exp(-(1 - b2) * 5)
    expected = flat - eta * np.sqrt(bias2) / bias1 * m / (
        np.sqrt(variances) + epsilon * np.sqrt(bias2)
    )
    np.testing.assert_allclose(ravel_pytree(moved.theta)[0], expected, atol=1e-12)
    assert int(moved.memory.steps) == 5
    assert ravel_pytree(moved.memory.first)[0] == pytest.approx(m, abs=1e-12)


@pytest.mark.parametrize("make", [RMSPropSDE, AdamSDE])
def test_langevin_noise_is_isotropic_noise_of_that_variance(network_problem, getkey, make):
    problem, theta = network_problem
    eta, beta, key = 0.1, 4.0, getkey()

    def end(noise):
        stepper = make(eta, noise, epsilon=0.3, substeps=2)

        def body(iterate, k):
            draw = stepper.draw(key, k, problem, iterate.theta)
            return stepper.step(problem, iterate, draw)[0], None

        run = jax.jit(lambda it: jax.lax.scan(body, it, jnp.arange(3))[0].theta)
        return ravel_pytree(run(stepper.start(problem, theta)))[0]

    found, expected = end(LangevinNoise(beta, eta)), end(IsotropicNoise(2 / (eta * beta)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.abs(found - end(IsotropicNoise(2 / beta))).max() > 1e-2


@pytest.mark.parametrize("make", [RMSPropSDE, AdamSDE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_without_noise_is_refused_where_the_step_would_be_long(make, dtype):
    """A ridge on two inputs that are always zero; the third is not."""
    rows = jnp.zeros((32, 3), dtype).at[:, 0].set(jnp.linspace(-1, 1, 32, dtype=dtype))
    losses = lambda theta, z: 0.5 * (jnp.sum(z * theta[None], axis=1) - 1) ** 2  # noqa: E731
    ridge, free = Problem(losses, rows, 1e-3), Problem(losses, rows)
    theta, noise = jnp.asarray([1.0, 1.0, 0.7], dtype), MinibatchNoise(8)
    with pytest.raises(
        ValueError, match=r"2 parameters have a gradient but no.*ridge = 0.*epsilon"
    ):
        make(0.003, noise).check(ridge, theta)
    make(0.003, noise).check(free, theta)
    make(0.003, noise, epsilon=1e-5).check(ridge, theta)  # steps of 0.3
    make(0.003, IsotropicNoise(1e-6)).check(ridge, theta)
    with pytest.raises(ValueError, match="1 parameters have"):
        make(0.003, noise).check(ridge, theta.at[1].set(0.0))


def test_rounding_of_equal_gradients_is_no_noise():
    """The mean of eleven equal numbers is not that number in single precision."""
    problem = Problem(
        lambda theta, z: 0.5 * (theta[0] - z) ** 2 + 3.3 * jnp.sin(theta[1]) + 0 * z,
        jnp.linspace(0.1, 0.7, 11, dtype=jnp.float32),
    )
    theta, noise = jnp.ones(2, jnp.float32), MinibatchNoise(2.0)
    assert 0 < float(noise.diagonal(problem, theta)[1]) < 1e-12, "nothing is tested"
    with pytest.raises(ValueError, match="1 parameters have a gradient but no gradient noise"):
        RMSPropSDE(0.003, noise).check(problem, theta)


@pytest.mark.parametrize("make", [RMSPropSDE, AdamSDE])
def test_single_precision_stays_single_and_silent_coordinates_stay_finite(make):
    """A parameter that no sample moves has no noise; rounding must not make it NaN."""
    rows = jnp.linspace(0.1, 0.7, 5, dtype=jnp.float32)
    problem = Problem(
        lambda theta, z: 0.5 * (theta["a"] - z) ** 2 + 3.3 * theta["b"], rows, jnp.float32(0.1)
    )
    theta = {"a": jnp.float32(1.0), "b": jnp.float32(1.0)}
    stepper = make(jnp.asarray(1e-3), MinibatchNoise(jnp.asarray(2.0)), epsilon=0.1, substeps=3)

    @jax.jit
    def one(theta):
        draw = stepper.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
        return stepper.step(problem, stepper.start(problem, theta), draw)[0]

    moved = one(theta)
    numbers = [leaf for leaf in jax.tree.leaves(moved) if leaf.dtype != jnp.int32]
    assert {leaf.dtype for leaf in numbers} == {np.dtype("float32")}
    assert np.all(np.isfinite(jnp.stack(numbers)))


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (RMSPropSDE, {"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0"),
        (AdamSDE, {"b2": -0.1}, r"b2 must be in \[0, 1\), got -0.1"),
        (AdamSDE, {"epsilon": 0.0}, "epsilon must be a positive finite number"),
        (RMSPropSDE, {"substeps": 0}, "substeps must be a positive integer"),
        (
            *(AdamSDE, {"noise": StudentNoise(IsotropicNoise(1.0), 3.0)}),
            "StudentNoise is refused in AdamSDE: it is not Gaussian.*take the algorithm itself",
        ),
    ],
)
def test_refusals(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**{"learning_rate": 0.1, "noise": IsotropicNoise(1.0), **settings})
