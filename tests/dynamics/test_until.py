"""Training that ends at a target loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgdsim
from sgdsim.dynamics import (
    LinearDecay,
    Scheduled,
    UntilLoss,
    gradient_descent,
    heavy_ball,
    minibatch_sgd,
    stopped_step,
)
from sgdsim.ensemble import Ensemble, Layout, Schedule, no_observables

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
PROBLEM = sgdsim.Problem(lambda theta, z: 0.5 * jnp.sum((theta[None] - z) ** 2, axis=1), ROWS)
START = jnp.array([4.0, -3.0, 2.0])
FLOOR = float(PROBLEM.empirical_risk(ROWS.mean(axis=0)))


def run(stepper, steps=60, mapping="map", trajectories=2):
    ensemble = Ensemble(
        problem=PROBLEM,
        stepper=stepper,
        region=sgdsim.Ball(centre=START, radius=jnp.inf),
        observer=no_observables,
        schedule=Schedule(steps, 1, steps),
        layout=Layout(mapping, 1),  # pyright: ignore[reportArgumentType]
    )
    keys = ensemble.keys(3, trajectories)
    (chunk,) = ensemble.run(keys, ensemble.start(START, trajectories))
    return chunk


@pytest.mark.parametrize("mapping", ["map", "vmap"])
def test_stops_at_the_first_step_at_the_target(mapping):
    target = FLOOR + 0.5
    chunk = run(UntilLoss(gradient_descent(0.1), target), mapping=mapping)
    theta, losses, expected = START, [], None
    for step in range(60):
        losses.append(float(PROBLEM.empirical_risk(theta)))
        if losses[-1] <= target:
            expected = step
            break
        theta = theta - 0.1 * jax.grad(PROBLEM.empirical_risk)(theta)
    assert expected is not None
    assert 3 < expected < 50
    assert stopped_step(chunk.state.memory).tolist() == [expected, expected]
    np.testing.assert_allclose(chunk.state.theta[0], theta, rtol=1e-5)
    loss = np.asarray(chunk.records["loss"][0])
    np.testing.assert_allclose(loss[: expected + 1], losses, rtol=1e-5)
    assert (loss[expected:] == loss[expected]).all()


def test_until_then_it_is_the_stepper_inside():
    inside = heavy_ball(0.05, 0.9)
    free = run(inside, steps=10)
    bound = run(UntilLoss(inside, FLOOR / 2), steps=10)  # below the minimum: never reached
    np.testing.assert_array_equal(free.records["loss"], bound.records["loss"])
    np.testing.assert_array_equal(free.state.theta, bound.state.theta)
    assert stopped_step(bound.state.memory).tolist() == [-1, -1]


def test_minibatches_are_judged_by_all_rows():
    """Their own risk is no by-product of a step; trajectories stop each at its own time."""
    target = FLOOR + 0.3
    chunk = run(UntilLoss(minibatch_sgd(0.1, batch_size=2), target), trajectories=4)
    stopped = np.asarray(stopped_step(chunk.state.memory))
    assert (stopped > 0).all()
    assert len(set(stopped.tolist())) > 1
    final = np.array([float(PROBLEM.empirical_risk(theta)) for theta in chunk.state.theta])
    assert (final <= target * (1 + 1e-6)).all()
    loss = np.asarray(chunk.records["loss"])
    for trajectory, step in enumerate(stopped):
        assert (loss[trajectory, :step] > target).all()


def test_a_schedule_goes_inside():
    schedule = LinearDecay(0.2, 0.0, 100)
    chunk = run(UntilLoss(Scheduled(gradient_descent(1.0), schedule), FLOOR + 0.5))
    same = run(
        UntilLoss(Scheduled(gradient_descent(1.0), optax.linear_schedule(0.2, 0, 100)), FLOOR + 0.5)
    )
    assert stopped_step(chunk.state.memory)[0] == stopped_step(same.state.memory)[0] > 0


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan")])
def test_refuses_a_target_that_is_no_loss(target):
    with pytest.raises(ValueError, match="target must be a positive finite number"):
        UntilLoss(gradient_descent(0.1), target)
