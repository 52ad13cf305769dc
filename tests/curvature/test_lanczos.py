"""Ritz pairs against dense eigenvalues, with honest residuals, also where the space breaks down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import ExtremeEigenvalues, hessian_product, lanczos, random_direction
from sgdsim.testing._dense import dense_hessian

pytestmark = pytest.mark.usefixtures("x64")

P = 12


def symmetric(kind: str) -> np.ndarray:
    random = np.random.default_rng(2)
    basis = np.linalg.qr(random.normal(size=(P, P)))[0]
    spectra = {
        "random": random.normal(size=P),
        "degenerate": np.repeat([-1.0, 2.0, 5.0], P // 3),
        "rank-1": np.eye(P)[0] * 3.0,
        "identity": np.ones(P),
        "minus identity": -np.ones(P),
        "zero": np.zeros(P),
        "badly scaled": np.geomspace(1e-12, 1e4, P),
    }
    if kind == "identity":  # exact, so that rounding alone decides what comes after a breakdown
        return np.eye(P)
    return (basis * spectra[kind]) @ basis.T


KINDS = ["random", "degenerate", "rank-1", "identity", "minus identity", "zero", "badly scaled"]


def ritz_pairs(matrix: np.ndarray, depth: int, dtype=jnp.float64, start=None):
    dense = jnp.asarray(matrix, dtype)
    if start is None:
        start = random_direction(jax.random.key(1), jnp.zeros(len(matrix), dtype))
    return lanczos(lambda v: dense @ v, start, depth)


def assert_honest(found: ExtremeEigenvalues, matrix: np.ndarray, rounding: float) -> None:
    """Every pair has the residual it claims, an eigenvalue lies within it, none lies outside."""
    exact = np.linalg.eigvalsh(matrix)
    values, vectors = np.asarray(found.values, float), np.asarray(found.vectors, float)
    assert np.all(np.diff(values) >= -rounding)
    assert values[0] >= exact[0] - rounding
    assert values[-1] <= exact[-1] + rounding
    norms = np.linalg.norm(vectors, axis=1)
    real = norms > 0.5
    assert real.any()
    np.testing.assert_allclose(norms[real], 1.0, rtol=1e-4)
    true = np.linalg.norm(vectors @ matrix - values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(found.residuals, true, rtol=1e-3, atol=rounding)
    nearest = np.abs(values[real, None] - exact).min(axis=1)
    assert np.all(nearest <= np.asarray(found.residuals)[real] + rounding)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 5, P, 3 * P])
def test_ritz_pairs_are_honest(kind, depth):
    matrix = symmetric(kind)
    found = ritz_pairs(matrix, depth)
    assert found.values.shape == (min(depth, P),)
    assert_honest(found, matrix, 1e-12 * max(np.abs(matrix).max(), 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_breaks_down_as_gracefully(kind):
    matrix = symmetric(kind)
    found = ritz_pairs(matrix, P, jnp.float32)
    assert found.values.dtype == jnp.float32
    assert_honest(found, matrix, 2e-5 * max(np.abs(matrix).max(), 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_space_gives_both_ends_of_the_spectrum(kind):
    matrix = symmetric(kind)
    found, exact = ritz_pairs(matrix, P), np.linalg.eigvalsh(matrix)
    scale = max(np.abs(exact).max(), 1.0)
    (smallest, low), (largest, high) = found.smallest, found.largest
    np.testing.assert_allclose([smallest, largest], exact[[0, -1]], atol=1e-12 * scale)
    assert max(low, high) <= 1e-10 * scale


def test_all_eigenvalues_of_a_random_matrix():
    matrix = symmetric("random")
    np.testing.assert_allclose(ritz_pairs(matrix, P).values, np.linalg.eigvalsh(matrix), atol=1e-12)


@pytest.mark.parametrize(
    "start", [np.ones(P), np.eye(P)[3], np.zeros(P)], ids=["ones", "unit", "0"]
)
def test_special_start_vectors(start):
    """An exact eigenvector as start; and a zero one, of which nothing but finiteness is asked."""
    found = ritz_pairs(np.eye(P), P, start=jnp.asarray(start))
    assert np.all(np.isfinite(np.concatenate([jnp.ravel(leaf) for leaf in found])))
    if start.any():
        np.testing.assert_allclose(found.values, 1.0, rtol=1e-14)


def test_breakdown_under_vmap():
    matrices = jnp.asarray(np.stack([symmetric(kind) for kind in KINDS]))
    start = random_direction(jax.random.key(1), jnp.zeros(P))
    found = jax.jit(jax.vmap(lambda a: lanczos(lambda v: a @ v, start, P)))(matrices)
    for i, kind in enumerate(KINDS):
        exact = np.linalg.eigvalsh(symmetric(kind))
        np.testing.assert_allclose(
            found.values[i, [0, -1]], exact[[0, -1]], atol=1e-12 * max(abs(exact).max(), 1)
        )


def test_operators_on_pytrees():
    like = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(())}
    start = random_direction(jax.random.key(0), like)
    weights = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.asarray(9.0)}
    found = lanczos(lambda v: jax.tree.map(lambda w, x: w * x, weights, v), start, 7)
    np.testing.assert_allclose(found.values, [0, 1, 2, 3, 4, 5, 9], atol=1e-12)


def test_hessian_product_is_that_of_the_dense_hessian(network_problem, getkey):
    problem, theta = network_problem
    flat, unravel = ravel_pytree(theta)
    start = random_direction(getkey(), theta)

    @jax.jit
    def measure(theta):
        product = hessian_product(problem.empirical_risk, theta)
        columns = jax.lax.map(lambda v: ravel_pytree(product(unravel(v)))[0], jnp.eye(flat.size))
        return columns, lanczos(product, start, flat.size)

    columns, found = measure(theta)
    dense = dense_hessian(problem, theta)
    np.testing.assert_allclose(columns, dense, rtol=0, atol=1e-12)
    # The ridge is a multiple eigenvalue, of which a Krylov space holds one copy.
    exact = np.linalg.eigvalsh(dense)
    np.testing.assert_allclose(found.values[jnp.array([0, -1])], exact[[0, -1]], atol=1e-10)
    missing = np.abs(exact[:, None] - np.asarray(found.values)).min(axis=1)
    assert missing.max() < 1e-10


def test_random_directions_are_standard_normal(getkey):
    flat = ravel_pytree(random_direction(getkey(), {"a": jnp.zeros((50, 40)), "b": jnp.zeros(8)}))[
        0
    ]
    assert abs(float(flat.mean())) * np.sqrt(flat.size) < 5
    assert abs(float(flat.var()) - 1) * np.sqrt(flat.size / 2) < 5
