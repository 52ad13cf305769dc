"""Rules from optax against recursions written by hand; every rule in the compiled loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    SDE,
    SVAG,
    Adam,
    BoxProjection,
    Constant,
    CosineDecay,
    Descent,
    FullGradient,
    HeavyBall,
    Iterate,
    MinibatchGradient,
    MinibatchNoise,
    Nesterov,
    OptaxRule,
    Projected,
    RMSProp,
    Scheduled,
    SpectralProjection,
    Warmup,
    WeightDecay,
    adam,
    heavy_ball,
    label_noise_sgd,
    nesterov,
    rmsprop,
    sam,
    sgld,
)
from sgdsim.testing._dense import dense_gradients

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

ETA, STEPS = 0.05, 4
#: One object, since numbers in a schedule of optax are closed over.
OPTAX_SCHEDULE = optax.cosine_decay_schedule(0.1, 10)


def flat(theta) -> np.ndarray:
    return np.asarray(ravel_pytree(theta)[0])


def iterates(stepper, problem, theta):
    iterate, found = stepper.start(problem, theta), []
    step = jax.jit(stepper.step)
    for _ in range(STEPS):
        iterate, _ = step(problem, iterate, ())
        found.append(flat(iterate.theta))
    return np.array(found)


def heavy_ball_by_hand(gradient, theta, b):
    """Two points instead of a velocity."""
    before, now, found = theta, theta, []
    for _ in range(STEPS):
        before, now = now, now - ETA * gradient(now) + b * (now - before)
        found.append(now)
    return found


def nesterov_by_hand(gradient, theta, b):
    """Points x and look-ahead points y; the stepper's iterates are the y."""
    x, y, found = theta, theta, []
    for _ in range(STEPS):
        new = y - ETA * gradient(y)
        x, y = new, new + b * (new - x)
        found.append(y)
    return found


def rmsprop_by_hand(gradient, theta, decay, epsilon):
    v, found = 0.0, []
    for _ in range(STEPS):
        g = gradient(theta)
        v = decay * v + (1 - decay) * g**2
        theta = theta - ETA * g / (np.sqrt(v) + epsilon)
        found.append(theta)
    return found


def adam_by_hand(gradient, theta, b1, b2, epsilon):
    m = v = 0.0
    found = []
    for k in range(1, STEPS + 1):
        g = gradient(theta)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        theta = theta - ETA * (m / (1 - b1**k)) / (np.sqrt(v / (1 - b2**k)) + epsilon)
        found.append(theta)
    return found


@pytest.mark.parametrize(
    ("stepper", "by_hand", "numbers"),
    [
        (heavy_ball(ETA, 0.8), heavy_ball_by_hand, (0.8,)),
        (nesterov(ETA, 0.8), nesterov_by_hand, (0.8,)),
        # A large epsilon shows on which side of the root it stands.
        (rmsprop(ETA, 0.7, 0.3), rmsprop_by_hand, (0.7, 0.3)),
        (adam(ETA, 0.6, 0.7, 0.3), adam_by_hand, (0.6, 0.7, 0.3)),
        (Descent(ETA, FullGradient(), OptaxRule(optax.trace(0.8))), heavy_ball_by_hand, (0.8,)),
    ],
)
def test_rules_by_hand(network_problem, stepper, by_hand, numbers):
    problem, theta = network_problem
    unravel = ravel_pytree(theta)[1]

    def gradient(point):
        return dense_gradients(problem, unravel(jnp.asarray(point))).mean(axis=0)

    found = iterates(stepper, problem, theta)
    np.testing.assert_allclose(found, by_hand(gradient, flat(theta), *numbers), rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", [HeavyBall, Nesterov, lambda b: heavy_ball(0.1, b)])
def test_impossible_momenta_are_refused(make):
    with pytest.raises(
        ValueError, match=r"momentum must be in \[0, 1\), got -0.1: .*below 0 the velocity"
    ):
        make(-0.1)
    for bad in (1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"momentum must be in .* got {bad}"):
            make(bad)
    make(0)


def test_impossible_averages_are_refused():
    for make, name in [
        (lambda value: RMSProp(decay=value), "decay"),
        (lambda value: Adam(b1=value), "b1"),
        (lambda value: Adam(b2=value), "b2"),
    ]:
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\), got 1.0"):
            make(1.0)
    for make in (lambda value: RMSProp(epsilon=value), lambda value: Adam(epsilon=value)):
        with pytest.raises(ValueError, match="epsilon must be a positive finite number"):
            make(0.0)


def every_stepper(scale: float) -> dict:
    """One of each discrete algorithm, its numbers multiplied by ``scale``."""
    batch = MinibatchGradient(3)
    sgd = Descent(0.1 * scale, batch)
    return {
        "heavy ball": heavy_ball(0.1 * scale, 0.9 * scale, batch),
        "nesterov": nesterov(0.1 * scale, 0.9 * scale, batch),
        "rmsprop": rmsprop(0.1 * scale, 0.9 * scale, 1e-3 * scale, batch),
        "adam": adam(0.1 * scale, 0.9 * scale, 0.99 * scale, 1e-3 * scale, batch),
        "svag": SVAG(0.1 * scale, 3, 2),
        "sam": sam(0.1 * scale, 0.05 * scale, batch),
        "unnormalised sam": sam(0.1 * scale, 0.05 * scale, batch, normalised=False),
        "sgld": sgld(0.1 * scale, 50.0 * scale, 3),
        "label noise": label_noise_sgd(0.1 * scale, 3, 0.5 * scale),
        "adamw": WeightDecay(adam(0.1 * scale), 0.1 * scale),
        "cosine sgld": Scheduled(sgld(1.0, 50.0), CosineDecay(0.1 * scale, 5.0 * scale)),
        "warm sde": Scheduled(
            SDE(1.0, MinibatchNoise(3.0), 2), Warmup(3.0 * scale, Constant(0.1 * scale))
        ),
        "optax schedule": Scheduled(sgld(1.0, 50.0 * scale, 3), OPTAX_SCHEDULE),
        "box": Projected(sgd, BoxProjection(-1.0 * scale, 1.0 * scale)),
        "spectral": Projected(sgd, SpectralProjection(0.5 * scale)),
    }


@pytest.mark.parametrize("name", every_stepper(1.0))
def test_every_stepper_in_a_compiled_loop(network_problem, getkey, name):
    """One compilation for all numbers; float32 stays float32; the numbers matter.

    Numbers are float64 arrays, as the ensemble passes them under x64.
    """
    problem, theta = network_problem
    problem = problem.astype(jnp.float32)
    theta = jax.tree.map(lambda a: a.astype(jnp.float32), theta)

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def run(stepper, key):
        def body(iterate, step):
            draw = stepper.draw(key, step, problem, iterate.theta)
            moved, risk = stepper.step(problem, iterate, draw)
            return moved, risk

        # A scan refuses a carry whose shapes or types change.
        return jax.lax.scan(body, stepper.start(problem, theta), jnp.arange(STEPS))

    def traced(leaf):
        return jnp.asarray(leaf, jnp.float64) if eqx.is_array_like(leaf) else leaf

    ends, key = [], getkey()
    for scale in (1.0, 0.9):
        final, risks = run(jax.tree.map(traced, every_stepper(scale)[name]), key)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(final.theta)} == {"float32"}
        assert risks is None or risks.dtype == jnp.float32
        ends.append(flat(final.theta))
    assert np.isfinite(ends).all()
    assert not np.array_equal(*ends)


def test_start_makes_the_memory_of_the_rule(network_problem):
    problem, theta = network_problem
    start = heavy_ball(0.1, 0.9).start(problem, theta)
    assert isinstance(start, Iterate)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(start.memory))
    assert jax.tree.structure(start.memory.trace) == jax.tree.structure(theta)
