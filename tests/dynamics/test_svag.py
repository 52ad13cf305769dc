"""SVAG against its definition; the way from SGD to the SDE is in test_closed_forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import SVAG, Iterate, MinibatchGradient, minibatch_sgd
from sgdsim.testing._dense import dense_covariance, dense_gradients

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

ETA, BATCH = 0.3, 3


def flat(theta) -> np.ndarray:
    return np.asarray(ravel_pytree(theta)[0])


@pytest.mark.parametrize("replacement", [True, False])
def test_with_l_of_one_it_is_sgd_with_the_same_key(network_problem, getkey, replacement):
    problem, theta = network_problem
    steppers = [SVAG(ETA, BATCH, 1, replacement), minibatch_sgd(ETA, BATCH, replacement)]
    key = getkey()
    ends = []
    for stepper in steppers:

        @jax.jit
        def run(iterate, stepper=stepper):
            def body(iterate, step):
                draw = stepper.draw(key, step, problem, iterate.theta)
                return stepper.step(problem, iterate, draw)[0], None

            return jax.lax.scan(body, iterate, jnp.arange(4))[0]

        ends.append(flat(run(stepper.start(problem, theta)).theta))
    assert not np.allclose(ends[1], flat(theta), atol=0.1)
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-14)


def test_substeps_by_hand(network_problem, getkey):
    problem, theta = network_problem
    l, key = 3, getkey()
    stepper = SVAG(ETA, BATCH, l)
    rows = stepper.draw(key, jnp.asarray(2), problem, theta)
    moved, _ = stepper.step(problem, Iterate(theta), rows)

    unravel = ravel_pytree(theta)[1]
    expected = flat(theta)
    for batches in np.asarray(rows).reshape(l, 2, BATCH):
        gradients = dense_gradients(problem, unravel(jnp.asarray(expected)))
        first, second = gradients[batches].mean(axis=1)
        root = np.sqrt(2 * l - 1)
        expected = expected - ETA / l * ((1 + root) / 2 * first + (1 - root) / 2 * second)
    np.testing.assert_allclose(flat(moved.theta), expected, rtol=0, atol=1e-14)


def test_every_substep_has_a_counter_of_its_own(network_problem, getkey):
    problem, theta = network_problem
    l, key, source = 3, getkey(), MinibatchGradient(40)

    def batches_of(l):
        stepper = SVAG(ETA, 40, l)
        rows = [stepper.draw(key, jnp.asarray(step), problem, theta) for step in range(4)]
        return np.stack(rows).reshape(4, -1, 40)  # of step k: first, second, first, ...

    of_sgd = np.stack([source.draw(key, jnp.asarray(k), problem, theta) for k in range(12)])
    batches, others = batches_of(l), batches_of(2)
    np.testing.assert_array_equal(batches[:, 0], of_sgd[:4])
    np.testing.assert_array_equal(others[:, 0], of_sgd[:4])
    # Nothing else is shared: not with later steps of SGD, and not with another l.
    rest = [batches[:, 1:].reshape(-1, 40), others[:, 1:].reshape(-1, 40), of_sgd]
    everything = np.concatenate(rest)
    assert len(np.unique(everything, axis=0)) == len(everything), "a batch is used twice"


@pytest.mark.statistical
def test_noise_is_amplified_by_l(network_problem, z_of_covariance, getkey):
    """Mean the gradient, covariance l C/B."""
    problem, theta = network_problem
    l, key = 4, getkey()
    stepper = SVAG(1.0, BATCH, l)

    def noise(step):
        rows = stepper.draw(key, step, problem, theta)
        weights = np.repeat([1 + np.sqrt(2 * l - 1), 1 - np.sqrt(2 * l - 1)], BATCH) / 2 / BATCH
        return weights @ gradients[rows[0]]

    gradients = jnp.asarray(dense_gradients(problem, theta))
    draws = np.asarray(jax.jit(jax.vmap(noise))(jnp.arange(20_000)))
    draws = draws - np.asarray(gradients).mean(axis=0)
    covariance = dense_covariance(problem, theta) / BATCH
    assert np.abs(z_of_covariance(draws, l * covariance, gaussian=False)).max() < 5
    for wrong in (covariance, (l - 0.5) * covariance):
        assert np.abs(z_of_covariance(draws, wrong, gaussian=False)).max() > 5


@pytest.mark.parametrize(
    ("numbers", "name"), [((0.0, 4, 2), "learning_rate"), ((0.1, 0, 2), "batch_size")]
)
def test_impossible_numbers_are_refused(numbers, name):
    with pytest.raises(ValueError, match=f"{name} must be a positive"):
        SVAG(*numbers)
    with pytest.raises(ValueError, match="l must be a positive integer, got 0"):
        SVAG(0.1, 4, 0)
