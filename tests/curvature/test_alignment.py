"""Alignment of Hessian, noise and gradient against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.curvature import alignment, hessian_product, noise_covariance_product
from sgdsim.testing._dense import dense_covariance, dense_gradients, dense_hessian

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

P = 30


def operator(matrix):
    dense = jnp.asarray(matrix)
    return lambda v: dense @ v


@pytest.fixture(scope="module")
def matrices(x64):
    """Hessian with a few large eigenvalues, a covariance related to it, and a gradient."""
    random = np.random.default_rng(6)
    basis = np.linalg.qr(random.normal(size=(P, P)))[0]
    hessian = (basis * np.r_[8.0, 5.0, random.normal(size=P - 2) * 0.3]) @ basis.T
    root = random.normal(size=(P, P)) * 0.2
    covariance = 0.3 * hessian @ hessian + root @ root.T
    return hessian, covariance, random.normal(size=P)


def exact_numbers(hessian, covariance, gradient, vectors):
    cosine = np.sum(hessian * covariance) / np.linalg.norm(hessian) / np.linalg.norm(covariance)
    excess = len(hessian) * np.sum(hessian * covariance)
    excess /= np.trace(hessian) * np.trace(covariance)
    shares = (vectors @ gradient) ** 2 / (gradient @ gradient)
    noise = np.einsum("ki,ij,kj->k", vectors, covariance, vectors) / np.trace(covariance)
    return shares, noise, cosine, excess


def z_scores(found, exact):
    _, noise, cosine, excess = exact
    pairs = [(found.cosine, cosine), (found.excess, excess)]
    z = [float((estimate.value - number) / estimate.stderr) for estimate, number in pairs]
    return np.r_[z, (np.asarray(found.noise.value) - noise) / np.asarray(found.noise.stderr)]


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["eigenvectors", "other directions", "one missing"])
def test_against_dense_matrices(matrices, getkey, kind):
    hessian, covariance, gradient = matrices
    vectors = np.linalg.eigh(hessian)[1][:, :-4:-1].T
    if kind == "other directions":
        vectors = np.linalg.qr(np.random.default_rng(1).normal(size=(P, 3)))[0].T
    exact = exact_numbers(hessian, covariance, gradient, vectors)
    if kind == "one missing":
        vectors = np.concatenate([vectors, np.zeros((1, P))])
    found = jax.jit(
        lambda key: alignment(
            operator(hessian),
            operator(covariance),
            jnp.asarray(gradient),
            jnp.asarray(vectors),
            key,
            probes=300,
        )
    )(getkey())
    assert found.products == 300 + len(vectors)
    np.testing.assert_allclose(found.gradient[:3], exact[0], rtol=1e-10)
    if kind == "one missing":
        assert found.gradient[3] == found.noise.value[3] == 0
        found = found._replace(noise=jax.tree.map(lambda a: a[:3], found.noise))
    assert np.abs(z_scores(found, exact)).max() < 4
    # A number that is wrong by a fifth would be seen.
    assert np.abs(z_scores(found, tuple(1.2 * np.asarray(a) for a in exact))).min() > 4


@pytest.mark.statistical
def test_standard_errors_are_the_spread_of_the_estimates(matrices, getkey):
    hessian, covariance, gradient = matrices
    vectors = jnp.asarray(np.linalg.eigh(hessian)[1][:, -2:].T)
    found = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: alignment(
                operator(hessian), operator(covariance), jnp.asarray(gradient), vectors, key
            ),
            keys,
        )
    )(jax.random.split(getkey(), 300))
    exact = exact_numbers(hessian, covariance, gradient, np.asarray(vectors))
    for estimate, number in [
        (found.cosine, exact[2]),
        (found.excess, exact[3]),
        (found.noise, exact[1]),
    ]:
        spread = np.std(estimate.value, axis=0)
        ratio = np.sqrt(np.mean(np.square(estimate.stderr), axis=0)) / spread
        assert np.all((ratio > 0.8) & (ratio < 1.3))
        assert np.all(np.abs(np.mean(estimate.value, axis=0) - number) < 5 * spread / 300**0.5)


def test_exact_where_nothing_is_left_beyond_the_directions(getkey):
    """Both matrices live in the span: no sampling, no standard error."""
    hessian, covariance = np.diag([4.0, 2.0] + [0.0] * 6), np.diag([1.0, 3.0] + [0.0] * 6)
    gradient = np.array([3.0, 0.0, 4.0] + [0.0] * 5)
    found = alignment(
        operator(hessian), operator(covariance), jnp.asarray(gradient), jnp.eye(8)[:2], getkey()
    )
    np.testing.assert_allclose(found.gradient, [0.36, 0.0], rtol=1e-14)
    np.testing.assert_allclose(found.noise.value, [0.25, 0.75], rtol=1e-14)
    np.testing.assert_allclose(found.cosine.value, 10 / np.sqrt(20 * 10), rtol=1e-14)
    np.testing.assert_allclose(found.excess.value, 8 * 10 / (6 * 4), rtol=1e-14)
    for estimate in (found.noise, found.cosine, found.excess):
        np.testing.assert_allclose(estimate.stderr, 0.0, atol=1e-14)


def test_a_multiple_of_the_hessian_is_aligned_with_it(matrices, getkey):
    hessian, _, gradient = matrices
    found = alignment(
        operator(hessian), operator(-2 * hessian), jnp.asarray(gradient), jnp.eye(P)[:1], getkey()
    )
    np.testing.assert_allclose(found.cosine.value, -1.0, rtol=1e-12)


@pytest.mark.statistical
def test_a_network_as_a_pytree(network_problem, getkey):
    problem, theta = network_problem
    hessian, covariance = dense_hessian(problem, theta), dense_covariance(problem, theta)
    gradients = dense_gradients(problem, theta).mean(axis=0)
    vectors = np.linalg.eigh(hessian)[1][:, :-3:-1].T

    @jax.jit
    def measure(problem, theta, key):
        return alignment(
            hessian_product(problem.empirical_risk, theta),
            noise_covariance_product(problem, theta),
            jax.grad(problem.empirical_risk)(theta),
            jnp.asarray(vectors),
            key,
            probes=200,
        )

    found = measure(problem, theta, getkey())
    exact = exact_numbers(hessian, covariance, gradients, vectors)
    np.testing.assert_allclose(found.gradient, exact[0], rtol=1e-8)
    assert np.abs(z_scores(found, exact)).max() < 4


def test_bad_input_is_refused_in_one_sentence(getkey):
    identity = operator(np.eye(4))
    with pytest.raises(ValueError, match="probes must be at least 3 for a standard error, got 2"):
        alignment(identity, identity, jnp.ones(4), jnp.eye(4)[:1], getkey(), probes=2)


def test_a_gradient_of_zero_has_no_direction(getkey):
    identity = operator(np.eye(4))
    found = alignment(identity, identity, jnp.zeros(4), jnp.eye(4)[:1], getkey())
    assert np.isnan(found.gradient).all()
    np.testing.assert_allclose(found.cosine.value, 1.0, rtol=1e-12)


def test_directions_that_span_everything_leave_nothing_to_sample():
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        roots = rng.standard_normal((2, 4, 4))
        h, c = (root @ root.T for root in roots)
        hessian, covariance = (lambda v: jnp.asarray(h) @ v), (lambda v: jnp.asarray(c) @ v)
        found = alignment(hessian, covariance, jnp.ones(4), jnp.eye(4), jax.random.key(0))
        cosine = np.trace(h @ c) / (np.linalg.norm(h) * np.linalg.norm(c))
        np.testing.assert_allclose(found.cosine.value, cosine, rtol=1e-12)
        assert float(found.cosine.stderr) == 0.0
