"""The law of an ensemble on a quadratic: the discrete and the continuous Lyapunov equation."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sgdsim.testing._dense import discrete_lyapunov

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

ETA, BATCH, COUNT, STEPS = 0.8, 2.0, 20_000, 60
HESSIAN = np.array([[1.5, 0.4], [0.4, 0.7]])
CENTRES = np.random.default_rng(5).normal(size=(4, 2))


@pytest.fixture
def simulate(make_ensemble, quadratic):
    problem, *_ = quadratic(HESSIAN, CENTRES)

    def run(batch, substeps=1, steps=STEPS):
        ensemble = make_ensemble(
            problem=problem, eta=ETA, batch=batch, substeps=substeps, mapping="vmap", steps=steps,
            chunk_steps=steps, record_every=steps,
        )  # fmt: skip
        *_, last = ensemble.run(ensemble.keys(3, COUNT), ensemble.start(jnp.zeros(2), COUNT))
        return last.state.theta

    return run


@pytest.mark.statistical
def test_stationary_covariance(simulate, quadratic, z_of_covariance):
    _, hessian, covariance = quadratic(HESSIAN, CENTRES)
    transition = np.eye(2) - ETA * hessian
    assert np.abs(np.linalg.eigvalsh(transition)).max() ** STEPS < 1e-6, "not stationary yet"

    expected = discrete_lyapunov(hessian, covariance / BATCH, ETA)
    # The oracle against the iterated recursion, which shares nothing with scipy's solver.
    iterated = np.zeros((2, 2))
    for _ in range(200):
        iterated = transition @ iterated @ transition.T + ETA**2 * covariance / BATCH
    np.testing.assert_allclose(expected, iterated, rtol=1e-10)

    draws = simulate(BATCH)
    assert np.abs(z_of_covariance(draws, expected)).max() < 5
    # Two mutants: the law of the SDE, H S + S H = eta Sigma, and a tenth less noise.
    continuous = scipy.linalg.solve_continuous_lyapunov(hessian, ETA * covariance / BATCH)
    assert z_of_covariance(draws, continuous).max() > 5
    assert z_of_covariance(simulate(BATCH / 0.9), expected).min() < -5


@pytest.mark.statistical
def test_stationary_covariance_of_the_sde(simulate, quadratic, z_of_covariance):
    """In 64 substeps: H S + S H = eta Sigma; Hessian and noise do not commute."""
    substeps, steps = 64, 16
    _, hessian, covariance = quadratic(HESSIAN, CENTRES)
    assert np.abs(hessian @ covariance - covariance @ hessian).max() > 0.1
    assert np.exp(-2 * ETA * steps * np.linalg.eigvalsh(hessian)[0]) < 1e-4, "not stationary yet"
    continuous = scipy.linalg.solve_continuous_lyapunov(hessian, ETA * covariance / BATCH)
    draws = simulate(BATCH, substeps, steps)
    assert np.abs(z_of_covariance(draws, continuous)).max() < 5
    # Two mutants: the law of Gaussian SGD and a tenth less noise.
    assert z_of_covariance(draws, discrete_lyapunov(hessian, covariance / BATCH, ETA)).min() < -5
    # The equation is linear and starts at zero: less noise only scales the draws.
    assert z_of_covariance(np.sqrt(0.9) * draws, continuous).min() < -5
