"""One step of every stepper against the dense oracle, and the diffrax route against the loop."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    SDE,
    Clock,
    FusedTerm,
    IsotropicNoise,
    Iterate,
    MinibatchNoise,
    StepNoise,
    gaussian_sgd,
    gradient_descent,
    minibatch_sgd,
)
from sgdsim.testing._dense import dense_covariance, dense_gradients, plain_gaussian_sgd

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

ETA, BATCH, STEPS = 0.3, 2.0, 6


def flat(theta) -> np.ndarray:
    return np.asarray(ravel_pytree(theta)[0])


def walk(stepper, problem, theta, randomness):
    """Iterates and by-product risks of consecutive steps in one scan."""

    def step(theta, draw):
        iterate, risk = stepper.step(problem, Iterate(theta), draw)
        return iterate.theta, (iterate.theta, risk)

    return jax.jit(lambda theta, randomness: jax.lax.scan(step, theta, randomness)[1])(
        theta, randomness
    )


@pytest.mark.parametrize("substeps", [1, 3])
def test_sde_steps_equal_the_dense_oracle(network_problem, getkey, substeps):
    """Step size eta/m and noise sqrt(eta h): the oracle with rate h and batch size B h / eta."""
    problem, theta = network_problem
    stepper = SDE(ETA, MinibatchNoise(BATCH), substeps)
    normals = jax.random.normal(getkey(), (STEPS, substeps, problem.n))
    iterates, risks = walk(stepper, problem, theta, normals[:, 0] if substeps == 1 else normals)

    numbers = ETA / substeps, BATCH / substeps
    expected = plain_gaussian_sgd(
        problem, theta, np.asarray(normals).reshape(-1, problem.n), numbers
    )
    for step in range(STEPS):
        found = flat(jax.tree.map(lambda a, k=step: a[k], iterates))
        np.testing.assert_allclose(
            found, flat(expected[(step + 1) * substeps - 1]), rtol=0, atol=1e-12
        )
        before = theta if step == 0 else expected[step * substeps - 1]
        np.testing.assert_allclose(risks[step], problem.empirical_risk(before), rtol=1e-12)


@pytest.mark.parametrize("substeps", [1, 3])
def test_isotropic_steps_by_hand(network_problem, getkey, substeps):
    problem, theta = network_problem
    stepper = SDE(ETA, IsotropicNoise(0.4), substeps)
    normals = np.asarray(jax.random.normal(getkey(), (substeps, flat(theta).size)))
    unravel = ravel_pytree(theta)[1]
    h, expected = ETA / substeps, flat(theta)
    for xi in normals:
        gradient = dense_gradients(problem, unravel(jnp.asarray(expected))).mean(axis=0)
        expected = expected - h * gradient + np.sqrt(ETA * h * 0.4) * xi
    draws = (
        unravel(jnp.asarray(normals[0]))
        if substeps == 1
        else jax.vmap(unravel)(jnp.asarray(normals))
    )
    found, _ = stepper.step(problem, Iterate(theta), draws)
    np.testing.assert_allclose(flat(found.theta), expected, rtol=0, atol=1e-12)


class NormalsOfSteps(StepNoise):
    """The normals of all steps as one path: step k covers the time from k to k + 1."""

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        return jax.tree.map(lambda a: a[jnp.asarray(t0).astype(jnp.int32)], self.normals)


@pytest.mark.parametrize("noise", [MinibatchNoise(BATCH), IsotropicNoise(0.4)])
def test_diffeqsolve_gives_the_same_iterates_as_the_scan(network_problem, getkey, noise):
    problem, theta = network_problem
    stepper = gaussian_sgd(ETA, noise)
    draws = jax.vmap(lambda k: stepper.draw(getkey(), k, problem, theta))(jnp.arange(STEPS))
    scanned, risks = walk(stepper, problem, theta, draws)

    @jax.jit
    def solve(theta, draws):
        eta = jnp.asarray(ETA)
        times = jnp.arange(STEPS + 1.0)
        return diffrax.diffeqsolve(
            FusedTerm(problem, noise, NormalsOfSteps(draws), Clock(eta, eta, eta)),
            diffrax.Euler(),
            t0=times[0],
            t1=times[-1],
            dt0=None,
            y0=(theta, jnp.zeros(())),
            stepsize_controller=diffrax.StepTo(times),
            adjoint=diffrax.ForwardMode(),
            max_steps=STEPS,
            saveat=diffrax.SaveAt(steps=True),
        ).ys

    solved, summed = solve(theta, draws)
    # Equal but for rounding: XLA contracts products and sums differently in the two programs.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-14), solved, scanned)
    # The second component adds up the risks at the starts of the steps.
    np.testing.assert_allclose(summed, np.cumsum(risks), rtol=1e-12)


def test_substeps_use_counters_of_their_own(network_problem, getkey):
    """Substep j of step k draws with counter k m + j of one stream: no two share normals.

    Nor does a substep share them with Gaussian SGD or with other substeps, at whatever step.
    """
    problem, theta = network_problem
    noise, key = MinibatchNoise(BATCH), getkey()
    stepper = SDE(ETA, noise, 3)
    draws = [stepper.draw(key, jnp.asarray(k), problem, theta) for k in range(3)]
    stream = jax.random.fold_in(jax.random.fold_in(key, np.uint32(0x8000_0003)), 3)
    expected = [
        jax.random.normal(jax.random.fold_in(stream, counter), (problem.n,)) for counter in range(9)
    ]
    np.testing.assert_array_equal(np.concatenate(draws), np.stack(expected))
    one = [SDE(ETA, noise).draw(key, jnp.asarray(k), problem, theta) for k in range(9)]
    two = [SDE(ETA, noise, 2).draw(key, jnp.asarray(k), problem, theta) for k in range(9)]
    numbers = np.concatenate([np.ravel(a) for a in (draws, one, two)])
    assert len(np.unique(numbers)) == numbers.size


def test_gradient_descent(network_problem):
    problem, theta = network_problem
    stepper = gradient_descent(ETA)
    draw = stepper.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
    moved, risk = stepper.step(problem, stepper.start(problem, theta), draw)
    gradient = dense_gradients(problem, theta).mean(axis=0)
    np.testing.assert_allclose(flat(moved.theta), flat(theta) - ETA * gradient, atol=1e-14)
    assert risk is not None
    np.testing.assert_allclose(risk, problem.empirical_risk(theta), rtol=1e-14)


def test_a_batch_of_all_rows_without_replacement_is_gradient_descent(network_problem, getkey):
    problem, theta = network_problem
    stepper = minibatch_sgd(ETA, problem.n, replacement=False)
    rows = stepper.draw(getkey(), jnp.asarray(3), problem, theta)
    assert sorted(np.asarray(rows)) == list(range(problem.n))
    start = stepper.start(problem, theta)
    full, _ = gradient_descent(ETA).step(problem, start, ())
    moved, _ = stepper.step(problem, start, rows)
    np.testing.assert_allclose(flat(moved.theta), flat(full.theta), atol=1e-15)


@pytest.mark.parametrize("replacement", [True, False])
def test_batch_step_uses_the_mean_gradient_of_its_rows(network_problem, replacement):
    problem, theta = network_problem
    rows = np.array([5, 0, 5] if replacement else [5, 0, 2])
    stepper = minibatch_sgd(ETA, 3, replacement)
    moved, _ = stepper.step(problem, stepper.start(problem, theta), jnp.asarray(rows))
    gradient = dense_gradients(problem, theta)[rows].mean(axis=0)
    np.testing.assert_allclose(flat(moved.theta), flat(theta) - ETA * gradient, atol=1e-14)


@pytest.mark.statistical
@pytest.mark.parametrize("replacement", [True, False])
def test_covariance_of_minibatch_gradients(network_problem, z_of_covariance, getkey, replacement):
    """C/B with replacement, C/B (n-B)/(n-1) without; each rejects the other."""
    problem, theta = network_problem
    batch, key = 3, getkey()
    stepper = minibatch_sgd(ETA, batch, replacement)
    draw = jax.jit(jax.vmap(lambda step: stepper.draw(key, step, problem, theta)))
    rows = np.asarray(draw(jnp.arange(20_000)))
    gradients = dense_gradients(problem, theta)
    noise = gradients[rows].mean(axis=1) - gradients.mean(axis=0)
    with_replacement = dense_covariance(problem, theta) / batch
    without = with_replacement * (problem.n - batch) / (problem.n - 1)
    right, wrong = (with_replacement, without) if replacement else (without, with_replacement)
    assert np.abs(z_of_covariance(noise, right, gaussian=False)).max() < 5
    assert np.abs(z_of_covariance(noise, wrong, gaussian=False)).max() > 5


@pytest.mark.parametrize("bad", [0.0, -0.1, float("inf"), float("nan")])
def test_impossible_learning_rates_are_refused(bad):
    for make in (
        gradient_descent,
        lambda eta: minibatch_sgd(eta, 4),
        lambda eta: gaussian_sgd(eta, MinibatchNoise(4.0)),
    ):
        with pytest.raises(ValueError, match="learning_rate must be a positive finite number"):
            make(bad)


def test_zero_batches_and_substeps_are_refused():
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        minibatch_sgd(0.1, 0)
    with pytest.raises(ValueError, match="substeps must be a positive integer, got 0"):
        SDE(0.1, MinibatchNoise(4.0), 0)


def test_single_precision_stays_single(network_problem, getkey):
    """Under x64 no Python number or float64 rate may promote a float32 simulation."""
    problem, theta = network_problem
    problem = problem.astype(jnp.float32)
    theta = jax.tree.map(lambda a: a.astype(jnp.float32), theta)
    rates = [0.1, jnp.asarray(0.1)]
    noises = [MinibatchNoise(3.0), IsotropicNoise(jnp.asarray(0.5))]
    steppers = [SDE(eta, noise, m) for eta, noise, m in itertools.product(rates, noises, [1, 2])]
    key = getkey()
    for stepper in [*steppers, gradient_descent(rates[1]), minibatch_sgd(rates[1], 2)]:
        moved, risk = jax.eval_shape(
            lambda theta, key, stepper=stepper: stepper.step(
                problem,
                stepper.start(problem, theta),
                stepper.draw(key, jnp.asarray(0), problem, theta),
            ),
            theta,
            key,
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {np.dtype("float32")}
        assert risk is None or risk.dtype == jnp.float32
