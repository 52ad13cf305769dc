"""Simulated laws in one dimension: h = eta and h -> 0 are different objects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.dynamics import SDE, Iterate, MinibatchNoise, gradient_descent
from sgdsim.stability import gradient_descent_threshold, variance_ratio

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

CURVATURE, START, STEPS, COUNT = 0.5, 2.0, 25, 20_000
#: Rows at -1 and 1 and batch size 1: the noise of a step has this variance.
NOISE = CURVATURE**2


def discrete_law(eta: float, substeps: int, steps: int) -> tuple[float, float]:
    """Mean and variance of x' = (1 - h c) x + sqrt(eta h) s xi, ``substeps`` times a step."""
    h, mean, variance = eta / substeps, START, 0.0
    for _ in range(steps * substeps):
        mean *= 1 - h * CURVATURE
        variance = (1 - h * CURVATURE) ** 2 * variance + eta * h * NOISE
    return mean, variance


def ornstein_uhlenbeck_law(eta: float, steps: int) -> tuple[float, float]:
    decay = np.exp(-CURVATURE * eta * steps)
    return START * decay, eta * NOISE / (2 * CURVATURE) * (1 - decay**2)


@pytest.fixture(scope="module")
def simulate(quadratic):
    problem, _, covariance = quadratic([[CURVATURE]], [[-1.0], [1.0]])
    np.testing.assert_allclose(covariance, [[NOISE]])
    keys = jax.random.split(jax.random.key(17), COUNT)

    def run(eta, substeps, steps, batch_size=1.0, **settings):
        stepper = SDE(eta, MinibatchNoise(batch_size), substeps, **settings)

        def path(key):
            def step(theta, k):
                draw = stepper.draw(key, k, problem, theta)
                return stepper.step(problem, Iterate(theta), draw)[0].theta, None

            start = jnp.full((1,), START)
            return jax.lax.scan(step, start, jnp.arange(steps))[0][0]

        return np.asarray(jax.jit(jax.vmap(path))(keys))

    return run


def z_scores(samples: np.ndarray, law: tuple[float, float]) -> tuple[float, float]:
    mean, variance = law
    return (
        (samples.mean() - mean) / np.sqrt(variance / len(samples)),
        (samples.var() / variance - 1) * np.sqrt(len(samples) / 2),
    )


@pytest.mark.statistical
@pytest.mark.parametrize("substeps", [1, 4])
@pytest.mark.parametrize("product", [1.0, 1.8])
def test_mean_and_variance_follow_the_discrete_law(simulate, product, substeps):
    eta = product / CURVATURE
    # The mean is checked early, where it has not yet decayed; the variance late.
    early = z_scores(simulate(eta, substeps, 2), discrete_law(eta, substeps, 2))
    samples = simulate(eta, substeps, STEPS)
    late = z_scores(samples, discrete_law(eta, substeps, STEPS))
    assert np.abs([early, late]).max() < 5
    # C3, C4: the continuous limit is another law, and this test can tell.
    assert z_scores(samples, ornstein_uhlenbeck_law(eta, STEPS))[1] > 5


@pytest.mark.statistical
def test_noise_variance_off_by_a_tenth_is_rejected(simulate):
    eta = 1.0 / CURVATURE
    samples = simulate(eta, 1, 2, batch_size=1 / 0.9)
    assert z_scores(samples, discrete_law(eta, 1, 2))[1] < -5


@pytest.mark.statistical
def test_many_substeps_reach_the_continuous_law(simulate):
    eta, substeps = 1.0 / CURVATURE, 128
    samples = simulate(eta, substeps, 2)
    assert np.abs(z_scores(samples, ornstein_uhlenbeck_law(eta, 2))).max() < 5


@pytest.mark.statistical
def test_stationary_variances_of_the_sde_and_of_sgd_differ_tenfold(simulate):
    """C3 and C4 at eta lambda = 1.8; each law rejects the draws of the other."""
    eta, late = 1.8 / CURVATURE, 10_000
    continuous, discrete = ornstein_uhlenbeck_law(eta, late), discrete_law(eta, 1, late)
    np.testing.assert_allclose([continuous[1], discrete[1]], [0.9, 9.0], rtol=1e-12)
    # The noise is additive without the library knowing, so that the correction is zero.
    samples = simulate(eta, 16, 8, solver="heun", ito_correction=True)
    assert np.abs(z_scores(samples, (0.0, continuous[1]))).max() < 5
    assert z_scores(samples, (0.0, discrete[1]))[1] < -5
    assert abs(z_scores(simulate(eta, 1, 60), (0.0, discrete[1]))[1]) < 5


@pytest.mark.parametrize("product", [0.2, 1.0, 1.8])
def test_variance_ratio_is_that_of_the_two_stationary_laws(product):
    eta = product / CURVATURE
    steps = int(40 / min(product, 2 - product))
    discrete = discrete_law(eta, 1, steps)[1]
    continuous = ornstein_uhlenbeck_law(eta, steps)[1]
    np.testing.assert_allclose(discrete / continuous, 2 / (2 - product), rtol=1e-10)
    np.testing.assert_allclose(variance_ratio(eta, CURVATURE), discrete / continuous, rtol=1e-10)


@pytest.mark.parametrize(("relative", "grows"), [(1 - 1e-6, False), (1 + 1e-6, True)])
def test_gradient_descent_is_stable_up_to_the_threshold(quadratic, relative, grows):
    """C1: the sign of the growth changes at eta * curvature = 2."""
    eta = 0.37
    curvature = gradient_descent_threshold(eta) * relative
    problem, *_ = quadratic([[curvature]], [[-1.0], [1.0]])
    stepper = gradient_descent(eta)
    moved, _ = stepper.step(problem, stepper.start(problem, jnp.ones(1)), ())
    assert (abs(float(moved.theta[0])) > 1) == grows
