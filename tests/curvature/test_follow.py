"""Eigenpairs along a run: warm starts, crossings, and what extrapolation promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import flat_product, follow, hessian_product
from sgdsim.testing._dense import dense_hessian

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

P = 40


@functools.partial(jax.jit, static_argnames=("most_products", "extrapolate"))
def _follow(matrix, previous, key, tolerance, noise, **options):
    return follow(lambda v: matrix @ v, previous, key, tolerance=tolerance, noise=noise, **options)


def search(matrix, previous, seed=0, tolerance=1e-3, noise=0.01, **options):
    key = jax.random.key(seed)
    return _follow(jnp.asarray(matrix), jnp.asarray(previous), key, tolerance, noise, **options)


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(P, P)))[0]


def along_a_path(steps: int) -> list[np.ndarray]:
    """Matrices with outliers 3, 2 and 1.5 above a bulk, whose eigenvectors turn step by step."""
    random = np.random.default_rng(1)
    spectrum = np.concatenate([[3.0, 2.0, 1.5], random.uniform(-0.1, 0.5, P - 3)])
    skew = random.normal(size=(P, P)) * 0.002
    turn = np.linalg.qr(np.eye(P) + skew - skew.T)[0]
    basis, matrices = rotation(2), []
    for _ in range(steps):
        matrices.append((basis * spectrum) @ basis.T)
        basis = turn @ basis
    return matrices


@pytest.mark.parametrize("k", [1, 3])
def test_zeros_are_a_cold_start(k):
    matrix = along_a_path(1)[0]
    found = search(matrix, np.zeros((k, P)), tolerance=1e-9, most_products=20)
    np.testing.assert_allclose(found.values, [3.0, 2.0, 1.5][:k], rtol=1e-7)
    assert int(found.products) > k


def test_a_warm_start_carried_by_a_scan_saves_products():
    """Values stay as good as those of cold searches, for fewer products."""
    matrices = jnp.asarray(np.stack(along_a_path(20)))
    keys = jax.random.split(jax.random.key(0), len(matrices))

    @functools.partial(jax.jit, static_argnums=1)
    def run(matrices, warm):
        def probe(previous, inputs):
            matrix, key = inputs
            found = follow(lambda v: matrix @ v, previous, key, tolerance=1e-3)
            return (found.vectors if warm else previous), found

        return jax.lax.scan(probe, jnp.zeros((2, P)), (matrices, keys))[1]

    warm, cold = run(matrices, True), run(matrices, False)
    for found in (warm, cold):
        np.testing.assert_allclose(found.values, np.tile([3.0, 2.0], (20, 1)), rtol=2e-3)
    assert np.all(warm.errors <= 3e-3)
    assert np.mean(warm.products[1:]) <= 0.6 * np.mean(cold.products)


def test_a_newly_crossing_eigenvector():
    """It is orthogonal to the followed vector, with the largest eigenvalue from now on.

    Without noise one vector never sees it. With noise it is found from search to search; a second
    followed vector has it at once, without noise.
    """
    basis = rotation(3)
    spectrum = np.concatenate([[1.0, 2.0, 0.3], np.linspace(-0.1, 0.2, P - 3)])
    matrix = (basis * spectrum) @ basis.T
    first, second = basis.T[:1], basis.T[:2]

    blind = search(matrix, first, noise=0.0)
    np.testing.assert_allclose(blind.values, 1.0, rtol=1e-12)
    followed = search(matrix, second, noise=0.0)
    np.testing.assert_allclose(followed.values, [2.0, 1.0], rtol=1e-12)
    assert int(followed.products) == 2

    vectors, values = jnp.asarray(first), []
    for step in range(8):
        found = search(matrix, vectors, seed=step)
        vectors, values = found.vectors, [*values, float(found.values[0])]
    np.testing.assert_allclose(values[-1], 2.0, rtol=1e-3)


def test_a_run_recovers_from_products_that_were_not_finite():
    matrix = along_a_path(1)[0]
    broken = search(np.full((P, P), np.nan), rotation(4)[:2])
    assert np.isnan(broken.values).all()
    again = search(matrix, broken.vectors, most_products=20)
    np.testing.assert_allclose(again.values, [3.0, 2.0], rtol=1e-3)


def test_start_vectors_that_are_the_same():
    """Two equal rows are one vector and a random one."""
    matrix = along_a_path(1)[0]
    found = search(matrix, np.ones((2, P)), noise=0.0, tolerance=1e-9, most_products=20)
    np.testing.assert_allclose(found.values, [3.0, 2.0], rtol=1e-7)


def near(vector: np.ndarray, angle: float, seed: int) -> np.ndarray:
    away = np.random.default_rng(seed).normal(size=P)
    away -= (away @ vector) * vector
    return np.cos(angle) * vector + np.sin(angle) * away / np.linalg.norm(away)


def test_extrapolation_in_plain_numbers():
    """One product: the two ends of the plane's largest eigenvalue, from numpy's eigh."""
    matrix = along_a_path(1)[0]
    start = near(np.linalg.eigh(matrix)[1][:, -1], 0.2, 5)
    found = search(matrix, start[None], noise=0.0, tolerance=10.0, extrapolate=True)
    assert int(found.products) == 1
    value = start @ matrix @ start
    rest = matrix @ start - value * start
    residual = np.linalg.norm(rest)
    low, high = (
        np.linalg.eigvalsh([[value, residual], [residual, curvature]])[-1]
        for curvature in (0.0, value / 2)
    )
    middle = (low + high) / 2
    np.testing.assert_allclose(found.values[0], middle, rtol=1e-12)
    np.testing.assert_allclose(found.errors[0], (high - low) / 2, rtol=1e-10)
    true = np.linalg.norm(matrix @ start - middle * start)
    np.testing.assert_allclose(found.residuals[0], true, rtol=1e-12)
    expected = start + (middle - value) / residual * rest / residual
    np.testing.assert_allclose(found.vectors[0], expected / np.linalg.norm(expected), atol=1e-12)
    plain = search(matrix, start[None], noise=0.0, tolerance=10.0)
    np.testing.assert_allclose(plain.values[0], value, rtol=1e-12)
    np.testing.assert_allclose(np.abs(plain.vectors[0] @ start), 1.0, rtol=1e-12)


def test_extrapolation_keeps_its_word_where_its_assumption_holds():
    """A bulk between zero and half of the largest eigenvalue: every stated error covers."""
    random, improved = np.random.default_rng(6), []
    for case in range(50):
        spectrum = np.concatenate([[1.0], random.uniform(0.0, 0.5, P - 1)])
        basis = rotation(case)
        matrix = (basis * spectrum) @ basis.T
        start = near(basis[:, 0], random.uniform(0.01, 0.05), case)[None]
        found = search(matrix, start, noise=0.0, tolerance=10.0, extrapolate=True)
        plain = search(matrix, start, noise=0.0, tolerance=10.0)
        error = abs(float(found.values[0]) - 1.0)
        assert error <= 1.01 * found.errors[0]
        improved.append(error / abs(float(plain.values[0]) - 1.0))
    assert np.median(improved) < 0.3


def test_extrapolation_takes_further_products_where_the_residual_is_large():
    matrix = along_a_path(1)[0]
    start = near(np.linalg.eigh(matrix)[1][:, -1], 0.5, 5)[None]
    found = search(matrix, start, noise=0.0, tolerance=1e-3, extrapolate=True)
    assert int(found.products) > 1
    np.testing.assert_allclose(found.values[0], 3.0, rtol=1e-3)
    exact = np.linalg.norm(matrix @ start[0] - (start[0] @ matrix @ start[0]) * start[0])
    assert found.residuals[0] < exact


@pytest.mark.parametrize("kind", ["zero", "minus identity", "not finite"])
def test_extrapolation_of_degenerate_operators(kind):
    matrix = {"zero": 0.0, "minus identity": -1.0, "not finite": np.nan}[kind] * np.eye(P)
    found = search(matrix, np.zeros((1, P)), extrapolate=True)
    np.testing.assert_allclose(found.values, np.diag(matrix)[:1], atol=1e-12)
    assert np.all(np.isfinite(found.vectors))


def test_hessian_of_a_network_along_gradient_descent(network_problem, getkey):
    problem, theta = network_problem
    flat, unravel = ravel_pytree(theta)

    def risk(flat):
        return problem.empirical_risk(unravel(flat))

    @jax.jit
    def run(flat, key):
        def probe(state, key):
            flat, previous = state
            product = flat_product(hessian_product(problem.empirical_risk, unravel(flat)), theta)
            found = follow(product, previous, key, tolerance=1e-4)
            moved = jax.lax.fori_loop(0, 10, lambda _, t: t - 0.01 * jax.grad(risk)(t), flat)
            return (moved, found.vectors), (flat, found)

        return jax.lax.scan(probe, (flat, jnp.zeros((2, flat.size))), jax.random.split(key, 6))[1]

    points, found = run(flat, getkey())
    for point, values in zip(points, found.values, strict=True):
        exact = np.linalg.eigvalsh(dense_hessian(problem, unravel(point)))
        np.testing.assert_allclose(values, exact[::-1][:2], rtol=3e-4)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (4, {}, "k must be at most the number of parameters, 3, got 4"),
        (2, {"most_products": 1}, "most_products must be at least k = 2, got 1"),
        (1, {"noise": -0.1}, "noise must be a finite number, not negative"),
        (1, {"tolerance": -1.0}, "tolerance must be a positive finite number"),
    ],
)
def test_bad_numbers(rows, options, message):
    with pytest.raises(ValueError, match=message):
        follow(lambda v: v, jnp.zeros((rows, 3)), jax.random.key(0), **options)


@pytest.mark.parametrize("dense", [np.ones((4, 4)), np.array([[2.0, -1.0], [-1.0, 2.0]])])
def test_symmetric_eigenvectors_are_found_from_nothing(dense):
    """Vectors of signs would be orthogonal to them half of the time."""
    with jax.enable_x64(True):
        matrix, truth = jnp.asarray(dense), np.linalg.eigvalsh(dense)[-1]
        for seed in range(12):
            cold = jnp.zeros((1, len(dense)))
            search = follow(lambda v: matrix @ v, cold, jax.random.key(seed))
            assert float(search.values[0]) == pytest.approx(truth, rel=1e-3)


def test_a_multiple_eigenvalue_of_coordinates_is_found_from_nothing():
    with jax.enable_x64(True):
        spectrum = jnp.array([4.0] * 3 + [0.0] * 9)
        for seed in range(8):
            key = jax.random.fold_in(jax.random.key(0), seed)
            search = follow(
                lambda v: spectrum * v, jnp.zeros((3, 12)), key, tolerance=1e-10, noise=1e-6
            )
            np.testing.assert_allclose(search.values, 4.0, rtol=1e-9)
