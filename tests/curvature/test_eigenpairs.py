"""Eigenpairs against dense ones: values, honest residuals, the stop rule, breakdowns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import (
    Eigenpairs,
    eigenpairs,
    hessian_product,
    lanczos,
    random_direction,
    require_finite,
)
from sgdsim.testing._dense import dense_hessian

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

P = 12
SPECTRA = {
    "random": np.random.default_rng(2).normal(size=P),
    "degenerate": np.repeat([-1.0, 2.0, 5.0], P // 3),
    "rank-1": 3.0 * np.eye(P)[0],
    "identity": np.ones(P),
    "minus identity": -np.ones(P),
    "zero": np.zeros(P),
    "badly scaled": np.geomspace(1e-12, 1e4, P),
    "small": 1e-12 * np.arange(P),
}


def symmetric(spectrum: np.ndarray, seed: int = 2) -> np.ndarray:
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum),) * 2))[0]
    # The identity stays exact, so that rounding alone decides what comes after a breakdown.
    return np.diag(spectrum) if np.ptp(spectrum) == 0 else (basis * spectrum) @ basis.T


@functools.partial(jax.jit, static_argnames=("k", "most_products", "end"))
def _search(matrix, start, tolerance, **options):
    return eigenpairs(lambda v: matrix @ v, start, tolerance=tolerance, **options)


def search(matrix: np.ndarray, dtype=jnp.float64, tolerance=1e-3, **options) -> Eigenpairs:
    start = np.random.default_rng(1).normal(size=len(matrix))
    return _search(jnp.asarray(matrix, dtype), jnp.asarray(start, dtype), tolerance, **options)


def assert_honest(found: Eigenpairs, matrix: np.ndarray, rounding: float) -> None:
    """Every pair has the residual it claims, and its vectors are orthonormal."""
    values, vectors = np.asarray(found.values, float), np.asarray(found.vectors, float)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(len(values)), rtol=0, atol=1e-5)
    true = np.linalg.norm(vectors @ matrix - values[:, None] * vectors, axis=1)
    np.testing.assert_allclose(found.residuals, true, rtol=1e-3, atol=rounding)


@pytest.mark.parametrize("kind", SPECTRA)
def test_the_whole_of_any_spectrum(kind):
    """Every copy of a multiple eigenvalue, in a space that breaks down again and again."""
    matrix, exact = symmetric(SPECTRA[kind]), np.sort(SPECTRA[kind])[::-1]
    scale = np.abs(exact).max()
    found = search(matrix, k=P, tolerance=1e-12)
    np.testing.assert_allclose(found.values, exact, rtol=0, atol=1e-11 * scale)
    assert_honest(found, matrix, 1e-11 * scale)


@pytest.mark.parametrize("kind", SPECTRA)
def test_the_lower_end(kind):
    matrix, exact = symmetric(SPECTRA[kind]), np.unique(SPECTRA[kind])
    scale = np.abs(exact).max()
    found = search(matrix, k=2, tolerance=1e-12, end="smallest")
    assert_honest(found, matrix, 1e-11 * scale)
    np.testing.assert_allclose(found.values[0], exact[0], rtol=0, atol=1e-11 * scale)
    # A multiple eigenvalue may count once.
    assert np.abs(exact - float(found.values[1])).min() <= 1e-11 * scale


@pytest.mark.parametrize("kind", SPECTRA)
def test_single_precision(kind):
    matrix = symmetric(SPECTRA[kind])
    scale = np.abs(SPECTRA[kind]).max()
    found = search(matrix, jnp.float32, k=2)
    assert {leaf.dtype for leaf in found} == {jnp.dtype("float32"), jnp.dtype("int32")}
    np.testing.assert_allclose(found.values[0], SPECTRA[kind].max(), rtol=0, atol=2e-3 * scale)
    assert_honest(found, matrix, 2e-6 * scale)


@pytest.mark.parametrize("k", [1, 4])
def test_the_search_stops_by_its_residuals(k):
    """Not one product too early, and not one too late."""
    matrix = symmetric(np.geomspace(1.0, 1e-3, 60))
    reached = []
    for tolerance in [1e-1, 1e-6]:
        found = search(matrix, k=k, tolerance=tolerance, most_products=40)
        products = int(found.products)
        assert np.all(found.residuals <= tolerance * found.values[0])
        assert_honest(found, matrix, 1e-12)
        needed = products - (k + 2) // 4  # the others confirm
        before = search(matrix, k=k, tolerance=1e-15, most_products=needed - 1)
        assert int(before.products) == needed - 1
        assert np.any(before.residuals > tolerance * before.values[0])
        reached.append(products)
    assert k < reached[0] < reached[1] < 40


def test_the_same_krylov_space_as_matfree():
    matrix, depth = symmetric(np.random.default_rng(3).normal(size=30)), 8
    start = jnp.asarray(np.random.default_rng(1).normal(size=30))
    other = jax.jit(lambda a: lanczos(lambda v: a @ v, start, depth))(jnp.asarray(matrix))
    found = search(matrix, k=3, tolerance=1e-15, most_products=depth)
    np.testing.assert_allclose(found.values, other.values[::-1][:3], rtol=1e-10)
    np.testing.assert_allclose(found.residuals, other.residuals[::-1][:3], rtol=1e-8)
    overlaps = np.sum(np.asarray(found.vectors) * np.asarray(other.vectors[::-1][:3]), axis=1)
    np.testing.assert_allclose(np.abs(overlaps), 1.0, rtol=1e-10)


def _spectrum_with_outliers(random: np.random.Generator, p: int) -> np.ndarray:
    """A bulk around zero and up to ten outliers, as Hessians of networks have."""
    bulk = random.normal(size=p) * random.uniform(0.01, 0.2)
    outliers = int(random.integers(0, 11))
    bulk[:outliers] = random.uniform(0.3, 3.0, outliers)
    return bulk


@pytest.mark.statistical
def test_stated_residuals_are_at_least_the_true_errors():
    """Of 100 random cases at least 95, also against the eigenvalue that was meant."""
    random, p = np.random.default_rng(7), 60

    @jax.jit
    def largest(matrix, start):
        return eigenpairs(lambda v: matrix @ v, start, tolerance=1e-3)

    covered = reached = 0
    for case in range(100):
        spectrum = _spectrum_with_outliers(random, p)
        matrix = jnp.asarray(symmetric(spectrum, case))
        found = largest(matrix, jnp.asarray(random.normal(size=p)))
        error = abs(float(found.values[0]) - spectrum.max())
        covered += error <= float(found.residuals[0])
        reached += error <= 1e-3 * spectrum.max()
    assert covered >= 95
    assert reached >= 95


def test_hessian_of_a_network(network_problem, getkey):
    problem, theta = network_problem

    @jax.jit
    def measure(problem, theta, start):
        product = hessian_product(problem.empirical_risk, theta)
        top = eigenpairs(product, start, 3, tolerance=1e-8)
        return top, eigenpairs(product, start, tolerance=1e-8, end="smallest")

    top, bottom = measure(problem, theta, random_direction(getkey(), theta))
    exact = np.linalg.eigvalsh(dense_hessian(problem, theta))
    np.testing.assert_allclose(top.values, exact[::-1][:3], rtol=1e-7)
    np.testing.assert_allclose(bottom.values[0], exact[0], rtol=0, atol=1e-7 * exact[-1])
    assert top.vectors.shape == (3, ravel_pytree(theta)[0].size)


def test_searches_side_by_side_stop_one_by_one():
    """Under vmap and lax.map every search counts its own products, also where one is NaN."""
    matrices = np.stack([symmetric(spectrum) for spectrum in SPECTRA.values()])
    matrices = np.concatenate([matrices, np.full((1, P, P), np.nan)])
    start = jnp.asarray(np.random.default_rng(1).normal(size=P))

    def one(matrix):
        return eigenpairs(lambda v: matrix @ v, start, 2, tolerance=1e-6)

    together = jax.jit(jax.vmap(one))(jnp.asarray(matrices))
    in_turn = jax.jit(lambda a: jax.lax.map(one, a))(jnp.asarray(matrices))
    np.testing.assert_array_equal(together.products, in_turn.products)
    assert len(set(together.products.tolist())) > 3
    scales = np.abs(matrices).max(axis=(1, 2))
    for got, expected, scale in zip(together.values, in_turn.values, scales, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6 * scale if scale == scale else 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("when", [0, 2])
def test_products_that_are_not_finite_are_data(bad, when):
    """NaN in values and residuals, zeros in vectors, and the search ends at once."""
    diagonal = jnp.arange(1.0, P + 1)

    def product(v):
        # The start vector has no component along the last axis before product ``when``.
        shifted = jnp.roll(v, 1)
        return jnp.where(jnp.abs(v[when]) > 0, bad, diagonal * v + shifted + jnp.roll(v, -1))

    found = jax.jit(lambda start: eigenpairs(product, start, 2, tolerance=1e-9))(
        jnp.eye(P)[0] if when else jnp.ones(P)
    )
    for numbers in (found.values, found.residuals, found.errors):
        assert np.isnan(numbers).all()
    assert not np.any(found.vectors)
    assert int(found.products) == when + 1
    with pytest.raises(ValueError, match=f"Product {when + 1} of the operator .* is not finite"):
        require_finite(found)


def test_a_start_that_is_not_finite():
    found = eigenpairs(lambda v: v, jnp.full(3, jnp.nan))
    assert np.isnan(found.values).all()
    assert int(found.products) == 0


def test_require_finite_gives_back_what_is():
    found = search(symmetric(SPECTRA["random"]), k=P, tolerance=1e-12)
    assert require_finite(found) is found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "k must be at most the number of parameters, 3, got 4"),
        ({"k": 0}, "k must be a positive integer, got 0"),
        ({"k": 3, "most_products": 2}, "most_products must be at least k = 3, got 2"),
        ({"most_products": 0}, "most_products must be a positive integer"),
        ({"tolerance": 0.0}, "tolerance must be a positive finite number"),
        ({"tolerance": float("nan")}, "tolerance must be a positive finite number"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        eigenpairs(lambda v: v, jnp.ones(3), **options)
