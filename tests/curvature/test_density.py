"""Stochastic Lanczos quadrature against moments and eigenvalues of dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.curvature import hessian_product, spectral_density
from sgdsim.testing._dense import dense_hessian

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

P = 40


def symmetric(spectrum: np.ndarray) -> np.ndarray:
    basis = np.linalg.qr(np.random.default_rng(4).normal(size=(P, P)))[0]
    return (basis * spectrum) @ basis.T


@pytest.fixture(scope="module")
def spread(x64):
    """A matrix with different eigenvalues of both signs."""
    return symmetric(np.random.default_rng(8).normal(size=P))


def operator(matrix):
    dense = jnp.asarray(matrix)
    return lambda v: dense @ v


def starts(key, probes: int) -> np.ndarray:
    draws = [np.asarray(jax.random.normal(k, (P,))) for k in jax.random.split(key, probes)]
    return np.stack([z / np.linalg.norm(z) for z in draws])


def test_moments_are_exact_up_to_twice_the_depth(spread, getkey):
    """Of every probe: Gauss quadrature; the next moment is not, which shows that this can fail."""
    key, depth = getkey(), 4
    found = spectral_density(operator(spread), jnp.zeros(P), key, probes=3, depth=depth)
    assert found.nodes.shape == found.weights.shape == (3, depth)
    assert np.all(found.weights > 0)
    for power in range(2 * depth + 1):
        of_probes = np.sum(found.weights * found.nodes**power, axis=1)
        matrix = np.linalg.matrix_power(spread, power)
        exact = np.einsum("ji,ik,jk->j", *[starts(key, 3), matrix, starts(key, 3)])
        error = np.abs(of_probes - exact).max() / np.abs(exact).max()
        assert (error < 1e-10) == (power < 2 * depth), power


def test_a_full_krylov_space_has_the_eigenvalues_as_nodes(spread, getkey):
    key = getkey()
    found = spectral_density(operator(spread), jnp.zeros(P), key, probes=2, depth=P + 5)
    values, vectors = np.linalg.eigh(spread)
    for probe in range(2):
        np.testing.assert_allclose(found.nodes[probe], values, atol=1e-10)
        weights = (vectors.T @ starts(key, 2)[probe]) ** 2
        np.testing.assert_allclose(found.weights[probe], weights, atol=1e-9)


@pytest.mark.statistical
def test_counting_function_moments_and_density(spread, getkey):
    """Means over many probes with full quadratures, against the eigenvalues themselves."""
    probes = 300
    values = np.linalg.eigvalsh(spread)
    found = jax.jit(
        lambda key: spectral_density(operator(spread), jnp.zeros(P), key, probes=probes, depth=P)
    )(getkey())
    for threshold in (-1.0, 0.0, 0.7):
        above = found.mass_above(threshold)
        share = np.mean(values > threshold)
        assert abs(above.value - share) < 4 * above.stderr
        # Squared components of a random unit vector: a Beta law.
        exact = scipy.stats.beta(P * share / 2, P * (1 - share) / 2).std() / np.sqrt(probes)
        np.testing.assert_allclose(above.stderr, exact, rtol=0.15)
    moment = found.average(lambda x: x**3)
    assert abs(moment.value - np.mean(values**3)) < 4 * moment.stderr

    grid = jnp.linspace(-2.0, 2.0, 5)
    smooth = found.density(grid, 0.3)
    expected = scipy.stats.norm.pdf(np.asarray(grid)[:, None], values, 0.3).mean(axis=1)
    assert np.all(np.abs(smooth.value - expected) < 4 * smooth.stderr)
    # The mutant: a Gaussian of twice the width.
    expected = scipy.stats.norm.pdf(np.asarray(grid)[:, None], values, 0.6).mean(axis=1)
    assert np.max(np.abs(smooth.value - expected) / smooth.stderr) > 6


@pytest.mark.parametrize("spectrum", [np.full(P, 3.0), np.r_[2.0, np.zeros(P - 1)], np.zeros(P)])
def test_weights_sum_to_one_where_the_krylov_space_ends_early(spectrum, getkey):
    found = spectral_density(operator(symmetric(spectrum)), jnp.zeros(P), getkey(), depth=9)
    np.testing.assert_allclose(np.sum(found.weights, axis=1), 1.0, rtol=1e-12)
    mean = np.sum(found.weights * found.nodes, axis=1)
    assert np.all(mean >= spectrum.min() - 1e-12)
    assert np.all(mean <= spectrum.max() + 1e-12)


def test_integral_of_the_density(spread, getkey):
    found = spectral_density(operator(spread), jnp.zeros(P), getkey(), probes=2, depth=5)
    grid = jnp.linspace(-8.0, 8.0, 801)
    smooth = found.density(grid, 0.2)
    np.testing.assert_allclose(jnp.trapezoid(smooth.value, grid), 1.0, rtol=1e-6)


@pytest.mark.statistical
def test_the_hessian_of_a_pytree(network_problem, getkey):
    problem, theta = network_problem

    @jax.jit
    def measure(problem, theta, key):
        product = hessian_product(problem.empirical_risk, theta)
        return spectral_density(product, theta, key, probes=50, depth=12)

    mean = measure(problem, theta, getkey()).average(lambda x: x)
    exact = np.trace(dense_hessian(problem, theta)) / 20
    assert abs(mean.value - exact) < 4 * mean.stderr


def test_bad_input_is_refused_in_one_sentence(spread, getkey):
    for option in ("probes", "depth"):
        with pytest.raises(ValueError, match=f"{option} must be a positive integer, got 0"):
            spectral_density(operator(spread), jnp.zeros(P), getkey(), **{option: 0})
    found = spectral_density(operator(spread), jnp.zeros(P), getkey(), probes=1, depth=2)
    with pytest.raises(ValueError, match="width must be a positive finite number"):
        found.density(jnp.zeros(1), 0.0)
    assert np.isnan(found.mass_above(0.0).stderr)


def test_what_is_not_finite_shows(getkey):
    found = spectral_density(lambda v: np.nan * v, jnp.zeros(P), getkey(), probes=2, depth=3)
    assert np.all(np.isnan(found.weights))
    assert np.isnan(found.mass_above(0.0).value)
