"""Traces and the intervals around them, against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import hessian_product, trace, xtrace
from sgdsim.problems import Network, Problem, Rows, cast, cross_entropies
from sgdsim.testing._dense import dense_hessian

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

P = 100


def symmetric(kind: str) -> np.ndarray:
    random = np.random.default_rng(5)
    spectrum = {
        "decaying": 1 / np.arange(1, P + 1) ** 1.5,
        "rank 3": np.r_[5.0, -3.0, 1.0, np.zeros(P - 3)],
        "zero": np.zeros(P),
        "multiple of the identity": np.full(P, 2.5),
        "indefinite": random.normal(size=P),
    }[kind]
    basis = np.linalg.qr(random.normal(size=(P, P)))[0]
    return (basis * spectrum) @ basis.T


def operator(matrix: np.ndarray, dtype=jnp.float64):
    dense = jnp.asarray(matrix, dtype)
    return lambda v: dense @ v


@pytest.fixture(scope="module")
def trained(x64):
    """Tanh network 6-12-3 after some descent, with its Hessian: a few large eigenvalues."""
    random = np.random.default_rng(1)
    inputs = random.normal(size=(40, 6))
    rows = Rows(jnp.asarray(inputs), jax.nn.one_hot(jnp.argmax(inputs[:, :3], axis=1), 3))
    problem = Problem(cross_entropies, rows)
    theta = Network(tuple(jnp.asarray(random.normal(size=s)) / 3 for s in [(12, 6), (3, 12)]))

    @jax.jit
    def descend(theta):
        def step(theta, _):
            gradient = jax.grad(problem.empirical_risk)(theta)
            return jax.tree.map(lambda a, g: a - 0.3 * g, theta, gradient), None

        return jax.lax.scan(step, theta, None, length=200)[0]

    theta = descend(theta)
    return problem, theta, dense_hessian(problem, theta)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_exact_where_the_krylov_space_holds_everything(dtype, getkey):
    matrices = np.stack([symmetric(k) for k in ("rank 3", "zero", "multiple of the identity")])
    rounding = 1e3 * float(jnp.finfo(dtype).eps)

    def both(matrix):
        like, key = jnp.zeros(P, dtype), getkey()
        return trace(lambda v: matrix @ v, like, key), xtrace(lambda v: matrix @ v, like, key, 20)

    for found in jax.jit(lambda a: jax.lax.map(both, a))(jnp.asarray(matrices, dtype)):
        assert found.value.dtype == found.stderr.dtype == found.half_width.dtype == dtype
        exact = np.trace(matrices, axis1=1, axis2=2)
        np.testing.assert_allclose(found.value, exact, rtol=rounding, atol=rounding)
        assert np.all(found.half_width <= rounding * (1 + exact))
        assert np.all(found.products == 20)


def test_exact_with_as_many_products_as_dimensions(getkey):
    matrix = symmetric("indefinite")
    for found in [
        trace(operator(matrix), jnp.zeros(P), getkey(), most=P),
        trace(operator(matrix), jnp.zeros(P), getkey(), most=P + 20, together=2),
        xtrace(operator(matrix), jnp.zeros(P), getkey(), P),
        xtrace(operator(matrix), jnp.zeros(P), getkey(), P, vectorised=True),
    ]:
        np.testing.assert_allclose(found.value, np.trace(matrix), rtol=1e-12)
        assert found.stderr == found.half_width == 0
        assert found.products == P


def test_the_estimate_of_given_probes(getkey):
    """Value, standard error and Student interval of the probes as NumPy has them."""
    matrix, key, deflation, probes = symmetric("decaying"), getkey(), 5, 9
    found = trace(
        operator(matrix),
        jnp.zeros(P),
        key,
        relative_error=0,
        deflation=deflation,
        most=deflation + probes,
    )
    key_of_start, key_of_probes = jax.random.split(key)
    powers = [np.asarray(jax.random.normal(key_of_start, (P,)))]
    for _ in range(deflation - 1):
        powers.append(matrix @ powers[-1] / np.linalg.norm(powers[-1]))
    basis = np.linalg.qr(np.stack(powers, axis=1))[0]
    outside = np.eye(P) - basis @ basis.T
    draws = []
    for i in range(probes):
        w = outside @ np.asarray(jax.random.normal(jax.random.fold_in(key_of_probes, i), (P,)))
        w *= np.sqrt(P - deflation) / np.linalg.norm(w)
        draws.append(w @ matrix @ w)
    inside = np.trace(basis.T @ matrix @ basis)
    np.testing.assert_allclose(found.value, inside + np.mean(draws), rtol=1e-8)
    stderr = np.std(draws, ddof=1) / np.sqrt(probes)
    np.testing.assert_allclose(found.stderr, stderr, rtol=1e-6)
    width = scipy.stats.t.ppf(0.975, probes - 1) * stderr
    np.testing.assert_allclose(found.half_width, width, rtol=1e-4)
    assert found.products == deflation + probes


@pytest.mark.statistical
def test_stated_intervals_cover_the_truth_although_they_decide_when_to_stop(trained, getkey):
    _, _, hessian = trained
    p, exact, product = len(hessian), np.trace(hessian), operator(hessian)

    @jax.jit
    def runs(keys):
        return jax.lax.map(
            lambda key: trace(product, jnp.zeros(p), key, relative_error=0.1, most=60), keys
        )

    found = runs(jax.random.split(getkey(), 200))
    covered = np.abs(found.value - exact) <= found.half_width
    assert 0.90 <= np.mean(covered) <= 0.99
    assert len(np.unique(found.products)) > 2
    z = (np.mean(found.value) - exact) / (np.std(found.value) / np.sqrt(200))
    assert abs(z) < 4


@pytest.mark.statistical
def test_deflation_pays(trained, getkey):
    """As many products, a third of the error of Hutchinson's estimator."""
    _, _, hessian = trained
    p, exact, product = len(hessian), np.trace(hessian), operator(hessian)

    def root_mean_square(estimate) -> float:
        values = jax.jit(lambda keys: jax.lax.map(estimate, keys))(keys)
        return float(np.sqrt(np.mean((values - exact) ** 2)))

    keys = jax.random.split(getkey(), 100)
    options = {"relative_error": 0.0, "most": 24}
    ours = root_mean_square(lambda key: trace(product, jnp.zeros(p), key, **options).value)
    plain = root_mean_square(
        lambda key: trace(product, jnp.zeros(p), key, deflation=0, **options).value
    )
    peer = root_mean_square(lambda key: xtrace(product, jnp.zeros(p), key, 24).value)
    assert ours < plain / 3
    assert ours < 1.2 * peer
    assert ours < 0.05 * exact


@pytest.mark.statistical
def test_xtrace_is_unbiased(getkey):
    matrix = symmetric("decaying")
    found = jax.jit(
        lambda keys: jax.lax.map(
            lambda key: xtrace(operator(matrix), jnp.zeros(P), key, 12)[:2], keys
        )
    )(jax.random.split(getkey(), 400))
    values, stderr = (np.asarray(a) for a in found)
    z = (values.mean() - np.trace(matrix)) / (values.std() / np.sqrt(400))
    assert abs(z) < 4
    # Its stated error is of the right size, if a little small.
    assert 0.5 < np.sqrt(np.mean(stderr**2)) / values.std() < 1.2


def test_a_trace_of_zero_spends_everything(getkey):
    matrix = symmetric("indefinite")
    matrix -= np.trace(matrix) / P * np.eye(P)
    found = trace(operator(matrix), jnp.zeros(P), getkey(), relative_error=0.05, most=40)
    assert found.products == 40
    assert abs(found.value) < 3 * found.half_width


def test_the_hessian_of_a_pytree_inside_jit_and_scan(trained, getkey):
    problem, theta, hessian = trained
    keys = jax.random.split(getkey(), 2)

    @jax.jit
    def measure(problem, theta, keys, relative_error):
        def one(carry, key):
            product = hessian_product(problem.empirical_risk, theta)
            return carry, trace(product, theta, key, relative_error=relative_error)

        return jax.lax.scan(one, None, keys)[1]

    found = measure(problem, theta, keys, 0.05)
    for i, key in enumerate(keys):
        flat = trace(operator(hessian), ravel_pytree(theta)[0], key, relative_error=0.05)
        np.testing.assert_allclose(found.value[i], flat.value, rtol=1e-6)
        assert found.products[i] == flat.products < 64
    assert np.all(np.abs(found.value - np.trace(hessian)) < 2 * found.half_width)
    wider = measure(problem, theta, keys, 0.2)
    assert np.all(wider.products < found.products)


def test_probes_mapped_together_are_the_same(getkey):
    matrix, key, deflation = symmetric("decaying"), getkey(), 6
    options = {"relative_error": 0.02, "deflation": deflation, "most": deflation + 40}
    spend_all = options | {"relative_error": 0}
    one = trace(operator(matrix), jnp.zeros(P), key, **spend_all)
    ten = trace(operator(matrix), jnp.zeros(P), key, together=10, **spend_all)
    np.testing.assert_allclose(ten.value, one.value, rtol=1e-10)
    np.testing.assert_allclose(ten.stderr, one.stderr, rtol=1e-8)
    stopped = trace(operator(matrix), jnp.zeros(P), key, together=4, **options)
    assert (stopped.products - deflation) % 4 == 0


def test_precision_follows_that_of_the_parameters(trained, getkey):
    problem, theta, hessian = trained
    single = problem.astype(jnp.float32), cast(theta, jnp.float32)
    found = trace(hessian_product(single[0].empirical_risk, single[1]), single[1], getkey())
    assert found.value.dtype == jnp.float32
    assert abs(found.value - np.trace(hessian)) < 2 * found.half_width


@pytest.mark.parametrize(("bad", "deflation"), [(np.nan, 14), (np.inf, 0)])
def test_what_is_not_finite_shows_and_ends_the_search(getkey, bad, deflation):
    found = trace(lambda v: bad * v, jnp.zeros(P), getkey(), deflation=deflation)
    assert not np.isfinite(found.value)
    assert not np.isfinite(found.half_width)
    assert found.products == (20 if deflation else 16)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deflation": -1}, "got deflation = -1 and most = 64"),
        ({"deflation": 10, "most": 11}, "got deflation = 10 and most = 11"),
        ({"most": 0}, "most must be a positive integer, got 0"),
        ({"together": 7}, "most - deflation = 50, got 7"),
        ({"relative_error": np.nan}, "relative_error must be a finite number"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(getkey, options, words):
    with pytest.raises(ValueError, match=words):
        trace(operator(np.eye(P)), jnp.zeros(P), getkey(), **options)


@pytest.mark.parametrize("products", [2, 7])
def test_xtrace_needs_an_even_number_of_products(getkey, products):
    with pytest.raises(ValueError, match=f"an even number from 4 on, got {products}"):
        xtrace(operator(np.eye(P)), jnp.zeros(P), getkey(), products)
