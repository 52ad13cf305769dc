"""The SDEs of heavy ball and Nesterov: the algorithms at one substep, their laws at many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    SDE,
    AdamSDE,
    Constant,
    ConstantNoise,
    CosineDecay,
    DiagonalNoise,
    GaussianGradient,
    HessianAlignedNoise,
    IsotropicNoise,
    Iterate,
    LabelNoise,
    LangevinNoise,
    LowRankNoise,
    MinibatchNoise,
    Scheduled,
    StudentNoise,
    UnderdampedSDE,
    Warmup,
    heavy_ball,
    nesterov as algorithm_nesterov,
)
from sgdsim.problems import Problem

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

ETA, MOMENTUM, VARIANCE, CURVATURE = 0.2, 0.8, 0.5, 1.5
GAMMA = (1 - MOMENTUM) / np.sqrt(ETA)
NOISE = IsotropicNoise(VARIANCE)
LANGEVIN = ["align", "should", "quicsort"]


def bowl(dimension=1):
    """Quadratic of one curvature, whatever the rows."""
    return Problem(
        lambda theta, z: 0.5 * CURVATURE * jnp.sum(theta**2)[None] + 0 * z, jnp.zeros(1)
    ), jnp.zeros(dimension)


@pytest.mark.parametrize("nesterov", [False, True])
def test_one_substep_is_the_algorithm_with_gaussian_noise(network_problem, getkey, nesterov):
    """Against optax.trace on gradients of weighted losses; theta is the point that optax moves."""
    problem, theta = network_problem
    batch, steps = 3.0, 4
    stepper = UnderdampedSDE(ETA, MOMENTUM, MinibatchNoise(batch), nesterov=nesterov)
    normals = jax.random.normal(getkey(), (steps, problem.n))
    trace, step = optax.trace(MOMENTUM, nesterov=nesterov), jax.jit(stepper.step)
    expected, memory, iterate = theta, trace.init(theta), stepper.start(problem, theta)
    for xi in normals:
        weights = 1 / problem.n - (xi - xi.mean()) / np.sqrt(problem.n * batch)
        gradient = jax.grad(lambda t, w=weights: w @ problem.per_sample_losses(t))(expected)
        update, memory = trace.update(gradient, memory)
        risk_before = problem.empirical_risk(expected)
        expected = jax.tree.map(lambda a, u: a - ETA * u, expected, update)
        iterate, risk = step(problem, iterate, xi)
        assert float(risk) == pytest.approx(float(risk_before), rel=1e-12)
    np.testing.assert_allclose(
        ravel_pytree(iterate.theta)[0], ravel_pytree(expected)[0], rtol=0, atol=1e-13
    )


def output_noises(theta):
    """One of every Gaussian model, all of them with a learning rate that does not matter."""
    factor = jax.tree.map(lambda a: jnp.ones((*a.shape, 1)) * 0.3, theta)
    return {
        "minibatch": MinibatchNoise(3.0),
        "isotropic": NOISE,
        "langevin": LangevinNoise(4.0, ETA),
        "constant": ConstantNoise(factor),
        "diagonal": DiagonalNoise(3.0),
        "low rank": LowRankNoise(3.0, 2),
        "hessian aligned": HessianAlignedNoise(3.0, "cross_entropy"),
        "label": LabelNoise(3.0, 0.4),
    }


@pytest.mark.parametrize("name", list(output_noises(())))
def test_one_substep_is_heavy_ball_for_every_noise(network_problem, getkey, name):
    problem, theta = network_problem
    noise, key = output_noises(theta)[name], getkey()
    steppers = [
        UnderdampedSDE(ETA, MOMENTUM, noise),
        heavy_ball(ETA, MOMENTUM, GaussianGradient(noise)),
    ]

    def end(stepper):
        def body(iterate, k):
            draw = stepper.draw(key, k, problem, iterate.theta)
            return stepper.step(problem, iterate, draw)[0], None

        return jax.lax.scan(body, stepper.start(problem, theta), jnp.arange(3))[0].theta

    ends = [ravel_pytree(jax.jit(end)(stepper))[0] for stepper in steppers]
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-12)
    assert np.abs(ends[0] - ravel_pytree(theta)[0]).max() > 0.05


def scheduled_path(stepper, schedule, key, steps=8):
    problem, theta = bowl(3)
    stepper = Scheduled(stepper, schedule)

    def body(iterate, k):
        draw = stepper.draw(key, k, problem, iterate.theta)
        iterate = stepper.step(problem, iterate, draw)[0]
        return iterate, (iterate.theta, iterate.memory)

    start = stepper.start(problem, theta + 1.0)
    return jax.jit(lambda: jax.lax.scan(body, start, jnp.arange(steps))[1])()


#: Zero in step 0; and from step 4 on.
ZEROS = {"warmup": Warmup(3, Constant(ETA)), "cosine": CosineDecay(ETA, 4)}


@pytest.mark.parametrize("schedule", list(ZEROS.values()), ids=list(ZEROS))
@pytest.mark.parametrize("nesterov", [False, True])
def test_with_a_schedule_one_substep_is_the_scheduled_algorithm(getkey, schedule, nesterov):
    """Also where the learning rate is zero: the sum of gradients goes on, as with optax."""
    key, algorithm = getkey(), algorithm_nesterov if nesterov else heavy_ball
    found, memory = scheduled_path(
        UnderdampedSDE(123.0, MOMENTUM, NOISE, nesterov=nesterov), schedule, key
    )
    expected, trace = scheduled_path(
        algorithm(123.0, MOMENTUM, GaussianGradient(NOISE)), schedule, key
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(memory, trace.trace, rtol=0, atol=1e-13)
    assert np.abs(np.diff(found, axis=0)).max() > 0.05


@pytest.mark.parametrize("schedule", list(ZEROS.values()), ids=list(ZEROS))
@pytest.mark.parametrize("solver", LANGEVIN)
def test_langevin_solvers_rest_at_a_learning_rate_of_zero(getkey, schedule, solver):
    found, memory = scheduled_path(
        UnderdampedSDE(ETA, MOMENTUM, NOISE, 2, solver=solver), schedule, getkey()
    )
    assert np.isfinite(found).all()
    assert np.isfinite(memory).all()
    resting = np.diff(np.vstack([np.ones((1, 3)), found]), axis=0)
    zero = np.array([float(schedule(k)) == 0 for k in range(8)])
    assert zero.any()
    assert not resting[zero].any()
    assert np.abs(resting[~zero]).min() > 0


@pytest.mark.parametrize("schedule", list(ZEROS.values()), ids=list(ZEROS))
@pytest.mark.parametrize(
    "make",
    [
        lambda noise: SDE(ETA, noise, 2),
        lambda noise: UnderdampedSDE(ETA, MOMENTUM, noise, 2),
        lambda noise: AdamSDE(ETA, noise),
    ],
)
def test_langevin_noise_at_a_learning_rate_of_zero(getkey, schedule, make):
    found, _ = scheduled_path(make(LangevinNoise(4.0, ETA)), schedule, getkey())
    assert np.isfinite(found).all()
    assert np.abs(np.diff(found, axis=0)).max() > 0


@pytest.mark.parametrize("solver", ["euler", *LANGEVIN])
def test_one_path_for_all_numbers_of_substeps(getkey, solver):
    """On one path the distance to a fine solution shrinks; on independent ones it does not."""
    problem, theta = bowl(400)
    key, steps = getkey(), 4

    def end(substeps, resolution):
        stepper = UnderdampedSDE(
            *(ETA, MOMENTUM, NOISE, substeps), solver=solver, resolution=resolution
        )

        def body(iterate, k):
            draw = stepper.draw(key, k, problem, iterate.theta)
            return stepper.step(problem, iterate, draw)[0], None

        run = jax.jit(lambda it: jax.lax.scan(body, it, jnp.arange(steps))[0].theta)
        return np.asarray(run(stepper.start(problem, theta)))

    fine = end(16, 16)
    coarse, middle, apart = (
        np.sqrt(np.mean((end(m, resolution) - fine) ** 2))
        for m, resolution in [(2, 16), (8, 16), (8, 8)]
    )
    assert middle < 0.5 * coarse
    assert coarse < 0.4 * apart


def law(stepper, steps, start):
    """Exact mean and covariance of (theta, V) of one coordinate: the step is linear.

    The memory is ``-V / sqrt(eta)``.
    """
    problem, theta = bowl()
    draw = stepper.draw(jax.random.key(0), jnp.asarray(0), problem, theta)

    def move(state, draw):
        iterate = Iterate(state[:1], -state[1:] / np.sqrt(ETA))
        moved = stepper.step(problem, iterate, draw)[0]
        return jnp.concatenate([moved.theta, -np.sqrt(ETA) * moved.memory])

    by_state, by_draw = jax.jit(jax.jacfwd(move, argnums=(0, 1)))(jnp.zeros(2), draw)
    by_state = np.asarray(by_state)
    parts = [np.reshape(a, (2, -1)) for a in jax.tree.leaves(by_draw)]
    spread = sum(part @ part.T for part in parts)
    if steps is None:
        return np.zeros(2), scipy.linalg.solve_discrete_lyapunov(by_state, spread)
    mean, covariance = np.asarray(start, float), np.zeros((2, 2))
    for _ in range(steps):
        mean = by_state @ mean
        covariance = by_state @ covariance @ by_state.T + spread
    return mean, covariance


def continuous_law(nesterov, time, start):
    """Of the linear equation dz = A z dt + b dW, written down from the docstring."""
    drift = np.array([[0.0, 1.0], [-CURVATURE, -GAMMA]])
    spread = np.array([0.0, np.sqrt(np.sqrt(ETA) * VARIANCE)])
    if nesterov:
        ahead = np.array([[1.0, MOMENTUM * np.sqrt(ETA)], [0.0, 1.0]])
        mixed = drift.copy()
        mixed[0] = drift[0] + MOMENTUM * np.sqrt(ETA) * drift[1]
        drift, spread = mixed, ahead @ spread
    stationary = scipy.linalg.solve_continuous_lyapunov(drift, -np.outer(spread, spread))
    if time is None:
        return np.zeros(2), stationary
    flow = scipy.linalg.expm(time * drift)
    return flow @ start, stationary - flow @ stationary @ flow.T


def distance(found, expected):
    return max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_many_substeps_reach_the_continuous_law(nesterov):
    """Of order one in h, hence the extrapolated law agrees far better; also the stationary one."""
    start = np.array([2.0, -1.0])
    for steps in (3, None):
        time = None if steps is None else steps * np.sqrt(ETA)
        expected = continuous_law(nesterov, time, start)
        coarse, fine = (
            law(UnderdampedSDE(ETA, MOMENTUM, NOISE, m, nesterov=nesterov), steps, start)
            for m in (32, 64)
        )
        extrapolated = [2 * b - a for a, b in zip(coarse, fine, strict=True)]
        assert distance(extrapolated, expected) < 2e-4
        assert distance(fine, expected) > 10 * distance(extrapolated, expected)
    # The other algorithm has another law.
    assert distance(extrapolated, continuous_law(not nesterov, None, start)) > 0.01


def test_stationary_variances_of_the_algorithm_and_of_its_equation():
    """C5: (1+b) eta s / ((1-b) lam (2(1+b) - eta lam)), and eta s / (2 (1-b) lam)."""
    discrete = law(UnderdampedSDE(ETA, MOMENTUM, NOISE), None, None)[1][0, 0]
    edge = 2 * (1 + MOMENTUM) - ETA * CURVATURE
    expected = (1 + MOMENTUM) * ETA * VARIANCE / ((1 - MOMENTUM) * CURVATURE * edge)
    np.testing.assert_allclose(discrete, expected, rtol=1e-12)
    # A hand-written recursion with other variables: theta and the step before.
    move = np.array([[1 + MOMENTUM - ETA * CURVATURE, -MOMENTUM], [1.0, 0.0]])
    noise = np.diag([ETA**2 * VARIANCE, 0.0])
    np.testing.assert_allclose(
        scipy.linalg.solve_discrete_lyapunov(move, noise)[0, 0], discrete, rtol=1e-12
    )
    continuous = continuous_law(False, None, None)[1][0, 0]
    np.testing.assert_allclose(
        continuous, ETA * VARIANCE / (2 * (1 - MOMENTUM) * CURVATURE), rtol=1e-12
    )


@pytest.mark.parametrize(("solver", "order"), [("align", 2), ("should", 3), ("quicsort", 3)])
def test_langevin_solvers_have_the_same_limit(solver, order):
    """In law, at least with the strong order that diffrax states."""
    start, steps = np.array([2.0, -1.0]), 3
    expected = continuous_law(False, steps * np.sqrt(ETA), start)
    laws = [
        law(UnderdampedSDE(ETA, MOMENTUM, NOISE, m, solver=solver), steps, start) for m in (1, 4)
    ]
    coarse, fine = (distance(found, expected) for found in laws)
    assert fine < min(0.01, coarse / 4 ** (order - 0.3))


@pytest.mark.statistical
@pytest.mark.parametrize("solver", ["euler", "quicsort"])
def test_simulated_stationary_variance(solver):
    """As many independent coordinates as a z-test needs; a noise off by a tenth is rejected."""
    count, substeps, steps = 20_000, 4, 60
    problem, start = bowl(count)

    def z_score(variance, expected):
        stepper = UnderdampedSDE(
            *(ETA, MOMENTUM, IsotropicNoise(variance), substeps), solver=solver
        )
        key = jax.random.key(12)

        def step(iterate, k):
            draw = stepper.draw(key, k, problem, start)
            return stepper.step(problem, iterate, draw)[0], None

        def run(iterate):
            return jax.lax.scan(step, iterate, jnp.arange(steps))[0].theta

        found = np.var(jax.jit(run)(stepper.start(problem, start)))
        return (found / expected - 1) * np.sqrt(count / 2)

    stepper = UnderdampedSDE(ETA, MOMENTUM, NOISE, substeps, solver=solver)
    expected = law(stepper, steps, [0.0, 0.0])[1][0, 0]
    if solver == "quicsort":  # here the step hardly matters, so that the continuous law holds
        expected = continuous_law(False, steps * np.sqrt(ETA), np.zeros(2))[1][0, 0]
    assert abs(z_score(VARIANCE, expected)) < 5
    assert z_score(0.9 * VARIANCE, expected) < -5


@pytest.mark.parametrize(
    ("noise", "settings", "message"),
    [
        (NOISE, {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0: from 1 on the damping"),
        (NOISE, {"momentum": 1.2}, r"damping is not positive.*Momentum 0 is plain SGD"),
        (NOISE, {"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        (NOISE, {"learning_rate": 0.0}, "learning_rate must be a positive finite number"),
        (NOISE, {"solver": "heun"}, "momentum; take 'euler' or 'align', 'should', 'quicsort'"),
        (NOISE, {"solver": "align", "nesterov": True}, "without the Hessian damping of Nesterov"),
        (MinibatchNoise(4), {"solver": "should"}, "isotropic noise, and MinibatchNoise is not"),
        (StudentNoise(NOISE, 3.0), {"substeps": 2}, "StudentNoise is not Gaussian.*substeps=1"),
        (NOISE, {"solver": "quiksort"}, "Did you mean 'quicsort'"),
    ],
)
def test_refusals(noise, settings, message):
    numbers = {"learning_rate": ETA, "momentum": MOMENTUM, "noise": noise}
    with pytest.raises(ValueError, match=message):
        UnderdampedSDE(**{**numbers, **settings})


@pytest.mark.parametrize("solver", ["euler", *LANGEVIN])
def test_single_precision_stays_single(solver):
    problem, theta = bowl(3)
    theta = {"a": theta.astype(jnp.float32)}
    problem = Problem(
        lambda theta, z: 0.5 * jnp.sum(theta["a"] ** 2)[None] + 0 * z, jnp.zeros(1, jnp.float32)
    )
    stepper = UnderdampedSDE(jnp.asarray(0.1), jnp.asarray(0.9), NOISE, 2, solver=solver)

    def one(theta, key):
        draw = stepper.draw(key, jnp.asarray(0), problem, theta)
        return stepper.step(problem, stepper.start(problem, theta), draw)[0]

    moved = jax.eval_shape(one, theta, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {np.dtype("float32")}
