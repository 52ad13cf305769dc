"""Weight decay, Langevin noise, schedules: around every kind of stepper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    SDE,
    SVAG,
    BoxProjection,
    Constant,
    CosineDecay,
    ExponentialDecay,
    Iterate,
    Langevin,
    LinearDecay,
    MinibatchNoise,
    Piecewise,
    Projected,
    Scheduled,
    Warmup,
    WeightDecay,
    adam,
    gradient_descent,
    heavy_ball,
    minibatch_sgd,
    sgld,
)

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

ETA, STEPS = 0.05, 5


def flat(theta) -> np.ndarray:
    return np.asarray(ravel_pytree(theta)[0])


def test_around_adam_it_is_the_adamw_of_optax(network_problem):
    problem, theta = network_problem
    stepper = WeightDecay(adam(ETA, 0.8, 0.9, 1e-3), rate=0.3)
    reference = optax.adamw(ETA, 0.8, 0.9, 1e-3, weight_decay=0.3)
    iterate, state, expected = stepper.start(problem, theta), reference.init(theta), theta
    step = jax.jit(stepper.step)
    for _ in range(STEPS):
        iterate, risk = step(problem, iterate, ())
        risk_before, gradient = jax.value_and_grad(problem.empirical_risk)(expected)
        update, state = reference.update(gradient, state, expected)
        expected = optax.apply_updates(expected, update)
        np.testing.assert_allclose(np.asarray(risk), risk_before, rtol=1e-12)
    np.testing.assert_allclose(flat(iterate.theta), flat(expected), rtol=0, atol=1e-14)
    plain, _ = adam(ETA, 0.8, 0.9, 1e-3).step(problem, stepper.start(problem, theta), ())
    assert np.abs(flat(plain.theta) - flat(theta)).max() > 1e-3


def test_langevin_adds_its_noise_to_the_step(network_problem, getkey):
    problem, theta = network_problem
    stepper = sgld(ETA, inverse_temperature=8.0, batch_size=3)
    rows, normals = stepper.draw(getkey(), jnp.asarray(3), problem, theta)
    moved, _ = stepper.step(problem, Iterate(theta), (rows, normals))
    inside, _ = minibatch_sgd(ETA, 3).step(problem, Iterate(theta), rows)
    expected = flat(inside.theta) + np.sqrt(2 * ETA / 8.0) * flat(normals)
    np.testing.assert_allclose(flat(moved.theta), expected, rtol=0, atol=1e-15)


def test_sgld_takes_the_batches_of_sgd(network_problem, getkey):
    problem, theta = network_problem
    key, step = getkey(), jnp.asarray(4)
    rows, normals = sgld(ETA, 8.0, batch_size=3).draw(key, step, problem, theta)
    np.testing.assert_array_equal(rows, minibatch_sgd(ETA, 3).draw(key, step, problem, theta))
    inside, same = sgld(2 * ETA, 1.0).draw(key, step, problem, theta)
    assert inside == ()
    np.testing.assert_array_equal(flat(normals), flat(same))


def simulated_sgld(quadratic, schedule, key, count=20_000):
    """Final points of Langevin descent on theta^2/2 from 0, and the rates of its steps."""
    problem, *_ = quadratic([[1.0]], [[0.0]])
    stepper = Scheduled(sgld(1.0, inverse_temperature=4.0), schedule)

    def path(key):
        def body(iterate, step):
            draw = stepper.draw(key, step, problem, iterate.theta)
            return stepper.step(problem, iterate, draw)[0], None

        return jax.lax.scan(body, Iterate(jnp.zeros(1)), jnp.arange(20))[0].theta[0]

    rates = np.array([float(schedule(step)) for step in range(20)])
    return np.asarray(jax.jit(jax.vmap(path))(jax.random.split(key, count))), rates


@pytest.mark.statistical
@pytest.mark.parametrize("schedule", [Constant(0.8), LinearDecay(1.6, 0.1, 15)])
def test_langevin_noise_follows_the_schedule(quadratic, schedule, getkey):
    """Variance of x' = (1 - eta_k) x + sqrt(2 eta_k / beta) xi; not of two wrong scales."""
    samples, rates = simulated_sgld(quadratic, schedule, getkey())

    def variance(noise):
        total = 0.0
        for rate in rates:
            total = (1 - rate) ** 2 * total + noise(rate)
        return total

    def z_score(expected):
        return (np.mean(samples**2) / expected - 1) * np.sqrt(len(samples) / 2)

    assert abs(z_score(variance(lambda rate: 2 * rate / 4.0))) < 5
    # Noise of the rate that the stepper was made with, and of gradient noise frozen at it.
    assert abs(z_score(variance(lambda rate: 2 * 1.0 / 4.0))) > 5
    assert abs(z_score(variance(lambda rate: 2 * rate**2 / 4.0))) > 5


@pytest.mark.parametrize(
    "make",
    [
        lambda eta: heavy_ball(eta, 0.9),
        lambda eta: SVAG(eta, 3, 2),
        lambda eta: SDE(eta, MinibatchNoise(2.0), 2),
        lambda eta: WeightDecay(adam(eta), 0.1),
        lambda eta: Projected(WeightDecay(sgld(eta, 8.0, 3), 0.1), BoxProjection(-1.0, 1.0)),
    ],
)
def test_a_scheduled_step_is_a_step_with_that_rate(network_problem, getkey, make):
    problem, theta = network_problem
    schedule, key = CosineDecay(0.2, 4.0), getkey()
    scheduled = Scheduled(make(123.0), schedule)

    @jax.jit
    def both():
        iterate = expected = scheduled.start(problem, theta)
        for step in (1, 2):
            draw = scheduled.draw(key, jnp.asarray(step), problem, iterate.theta)
            iterate, _ = scheduled.step(problem, iterate, draw)
            plain = make(schedule(step))
            draw = plain.draw(key, jnp.asarray(step), problem, expected.theta)
            expected, _ = plain.step(problem, expected, draw)
        return iterate, expected

    iterate, expected = both()
    assert np.abs(flat(iterate.theta) - flat(theta)).max() > 1e-3
    np.testing.assert_allclose(flat(iterate.theta), flat(expected.theta), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "of_optax"),
    [
        (Constant(0.3), optax.constant_schedule(0.3)),
        (LinearDecay(0.3, 0.1, 7), optax.linear_schedule(0.3, 0.1, 7)),
        (CosineDecay(0.3, 9), optax.cosine_decay_schedule(0.3, 9)),
        (CosineDecay(0.3, 9, 0.03), optax.cosine_decay_schedule(0.3, 9, alpha=0.1)),
        (ExponentialDecay(0.3, 5, 0.5), optax.exponential_decay(0.3, 5, 0.5)),
        (
            Piecewise(0.3, jnp.array([4, 8]), jnp.array([0.5, 0.1])),
            optax.piecewise_constant_schedule(0.3, {4: 0.5, 8: 0.1}),
        ),
        (
            Piecewise(0.3, [4, 8], [0.5, 0.1]),
            optax.piecewise_constant_schedule(0.3, {4: 0.5, 8: 0.1}),
        ),
        (Warmup(5, Constant(0.3)), optax.warmup_constant_schedule(0.0, 0.3, 5)),
        (Warmup(5, CosineDecay(0.3, 6)), optax.warmup_cosine_decay_schedule(0.0, 0.3, 5, 11)),
    ],
)
def test_schedules_have_the_values_of_optax(schedule, of_optax):
    found = jax.vmap(schedule)(jnp.arange(15, dtype=jnp.int32))
    np.testing.assert_allclose(found, [float(of_optax(step)) for step in range(15)], rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda inside: WeightDecay(inside, 0.1),
        lambda inside: Langevin(inside, 8.0),
        lambda inside: Scheduled(inside, Constant(0.1)),
        lambda inside: Projected(inside, BoxProjection(-1.0, 1.0)),
        lambda inside: WeightDecay(Projected(inside, BoxProjection(-1.0, 1.0)), 0.1),
    ],
)
def test_a_schedule_inside_is_refused(make):
    with pytest.raises(ValueError, match="around Scheduled does not see the scheduled learning"):
        make(Scheduled(gradient_descent(0.1), Constant(0.1)))
    make(gradient_descent(0.1))


def test_impossible_numbers_are_refused():
    inside = gradient_descent(0.1)
    with pytest.raises(ValueError, match="rate must be a positive finite number"):
        WeightDecay(inside, -0.1)
    with pytest.raises(ValueError, match="inverse_temperature must be a positive finite number"):
        sgld(0.1, 0.0)
    with pytest.raises(ValueError, match="learning_rate must be a positive finite number"):
        sgld(-0.1, 1.0)
    with pytest.raises(ValueError, match=r"two lists of one length, got the shapes \(2,\) and"):
        Piecewise(0.1, [1, 2], [0.5])
    with pytest.raises(ValueError, match="boundaries must be integers"):
        Piecewise(0.1, [1.5], [0.5])
    for make in (lambda: LinearDecay(0.1, -1.0, 4), lambda: CosineDecay(0.1, 4, -1.0)):
        with pytest.raises(ValueError, match="final must be a finite number, not negative"):
            make()
    for make in (
        lambda: LinearDecay(0.1, 0.0, 0),
        lambda: CosineDecay(0.1, 0),
        lambda: ExponentialDecay(0.1, 0, 0.5),
        lambda: Warmup(0, Constant(0.1)),
    ):
        with pytest.raises(ValueError, match="steps must be a positive finite number, got 0"):
            make()
