"""The sections of the curvature benchmark that measure products and eigenvalues."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _common import Contender, Row, interleave, paired
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree
from sklearn.datasets import load_digits

from sgdsim.curvature import (
    chunked_hessian_product,
    eigenpairs,
    flat_product,
    follow,
    hessian_product,
    lanczos,
)
from sgdsim.problems import Network, Problem, Rows, cross_entropies, random_network

#: Rows whose activations fit into the cache of a core.
CHUNK = 450
BATCH, STEPS_BETWEEN = 64, 10
#: Stated error at which a probe takes another product.
TOLERANCE = 6e-3


def digits_network() -> tuple[Problem, Network]:
    """All digits, pixels in [0, 1], and a 64-256-256-10 tanh network at its initialisation."""
    pixels, labels = load_digits(return_X_y=True)
    rows = Rows(jnp.asarray(pixels / 16, jnp.float32), jnp.asarray(np.eye(10)[labels], jnp.float32))
    theta = random_network(jax.random.key(3), (64, 256, 256, 10), gain=1.0)
    return Problem(cross_entropies, rows), theta


def measure_product(rounds: int) -> list[Row]:
    """Scans over gradients and over products."""
    problem, theta = digits_network()

    def whole(problem: Problem, theta: PyTree, v: PyTree) -> PyTree:
        return hessian_product(problem.empirical_risk, theta)(v)

    def chunked(problem: Problem, theta: PyTree, v: PyTree) -> PyTree:
        return chunked_hessian_product(problem, theta, CHUNK)(v)

    def gradient(problem: Problem, theta: PyTree, v: PyTree) -> PyTree:
        return jax.grad(problem.empirical_risk)(theta)

    contenders = [
        _repeated(function.__name__, function, problem, theta)
        for function in (gradient, whole, chunked)
    ]
    times = interleave(contenders, rounds)
    rows = []
    for contender in contenders[1:]:
        ratio, of_best = paired(times[contender.name].cpu, times["gradient"].cpu)
        print(f"product, {contender.name}: {ratio:.2f} gradients ({of_best:.2f} of best rounds)")
        name = f"Hessian product / gradient, {contender.name}"
        rows.append(Row(name, "at most 2.6", f"{ratio:.2f}", ratio <= 2.6))
    return rows


def measure_spectrum() -> list[Row]:
    """The ten largest from a cold start; the largest ten steps after it was known."""
    problem, theta = digits_network()
    search = jax.jit(
        lambda problem, theta, start: eigenpairs(
            hessian_product(problem.empirical_risk, theta), start, 10, tolerance=1e-2
        )
    )
    _, (points, _) = _train(problem, theta, _unknown(theta), jax.random.key(1), 0.1, 61, False)
    tops, warm = [], []
    for number in (0, 10, 30, 60):
        point = _at(points, number)
        exact = _reference(problem, point, 60)
        found = search(problem, point, _direction(number, theta))
        error = float(np.max(np.abs(found.values / exact[:10] - 1)))
        tops.append((int(found.products), error))
    follow_one = jax.jit(_sharpness, static_argnums=(4, 5))
    previous = _unknown(theta)
    for number in range(61):
        point = _at(points, number)
        found = follow_one(problem, point, previous, jax.random.key(number), 1e-3, False)
        previous = found.vectors
        if number and number % 6 == 0:
            error = abs(float(found.values[0] / _reference(problem, point, 24)[0]) - 1)
            warm.append((int(found.products), error))
    print(f"spectrum: ten largest, (products, largest relative error): {_shown(tops)}")
    print(f"spectrum: largest, warm, (products, relative error): {_shown(warm)}")
    most, worst = max(count for count, _ in tops), max(error for _, error in tops)
    good = most <= 24 and worst <= 1e-2
    count, error = max(count for count, _ in warm), float(np.median([e for _, e in warm]))
    return [
        Row("ten largest to 1e-2", "24 products", f"{most}, error {worst:.0e}", good),
        Row(
            "largest, warm, to 1e-3",
            "5 products",
            f"{count}, median error {error:.0e}",
            count <= 5 and error <= 1e-3,
        ),
    ]


def measure_residuals(cases: int) -> list[Row]:
    """Random symmetric matrices with a bulk and up to ten outliers."""
    rows = []
    for k, tolerance in ((1, 1e-3), (3, 1e-3), (3, 1e-2)):
        covered, estimated, products = _coverage(cases, k, tolerance)
        print(
            f"residuals, {k} largest to {tolerance:g}: at least all errors in {covered} of {cases} "
            f"cases, the sharper estimates in {estimated}; {products:.1f} products",
            flush=True,
        )
        name = f"residual at least the error, {k} largest to {tolerance:g}"
        good = covered >= 0.95 * cases
        rows.append(Row(name, "95 of 100", f"{covered} of {cases}", good))
    return rows


def _coverage(cases: int, k: int, tolerance: float) -> tuple[int, int, float]:
    """Cases in which residuals, and estimates, are at least all true errors; mean products."""
    random, p = np.random.default_rng(0), 200
    search = jax.jit(lambda a, start: eigenpairs(lambda v: a @ v, start, k, tolerance=tolerance))
    covered = estimated = products = 0
    for _ in range(cases):
        spectrum = random.normal(size=p) * random.uniform(0.01, 0.2)
        outliers = int(random.integers(0, 11))
        spectrum[:outliers] = random.uniform(0.3, 3.0, outliers)
        basis = np.linalg.qr(random.normal(size=(p, p)))[0]
        matrix = jnp.asarray((basis * spectrum) @ basis.T, jnp.float32)
        found = search(matrix, jnp.asarray(random.normal(size=p), jnp.float32))
        error = np.abs(np.asarray(found.values) - np.sort(spectrum)[::-1][:k])
        rounding = 1e-5 * np.abs(spectrum).max()
        covered += bool(np.all(error <= found.residuals + rounding))
        estimated += bool(np.all(error <= found.errors + rounding))
        products += int(found.products)
    return covered, estimated, products / cases


def measure_probe(eta: float, rounds: int, probes: int) -> list[Row]:
    """A run with and without probes, and the error of each probe."""
    problem, theta = digits_network()
    vectors, key = _unknown(theta), jax.random.key(0)
    # Cost is measured halfway, errors over the whole run.
    (warm, known), _ = _train(problem, theta, vectors, key, eta, probes // 2, True)
    contenders = []
    for name, probed in (("steps", False), ("probed", True)):
        run = functools.partial(_train, problem, warm, known, key, eta, 10, probed)
        contenders.append(Contender(name, lambda run=run: jax.block_until_ready(run()), 1))
        contenders[-1].call()
    times = interleave(contenders, rounds)
    ratio, _ = paired(times["probed"].cpu, times["steps"].cpu)

    _, (points, found) = _train(problem, theta, vectors, key, eta, probes, True)
    exact = [_reference(problem, _at(points, number), 20)[0] for number in range(probes)]
    errors = np.abs(np.asarray(found.values[:, 0]) / exact - 1)[1:]
    stated = np.asarray(found.errors[:, 0])[1:] / exact[1:]
    products = float(np.mean(found.products[1:]))
    late = errors[len(errors) // 3 :]
    _, (_, halfway) = contenders[1].call()
    print(
        f"probe, eta {eta:g}: {100 * (ratio - 1):.1f} % of the steps at "
        f"{float(np.mean(halfway.products)):.2f} products per probe halfway, {products:.2f} over "
        f"the whole run; relative errors: median {np.median(errors):.1e}, 90 % below "
        f"{np.quantile(errors, 0.9):.1e}, median of the last two thirds {np.median(late):.1e}; "
        f"stated errors cover {100 * np.mean(errors <= stated):.0f} %",
        flush=True,
    )
    good = ratio <= 1.25 and np.median(errors) <= 1e-3
    measured = f"{100 * (ratio - 1):.0f} %, {np.median(errors):.1e}"
    return [Row(f"probe every 10 steps, eta {eta:g}", "25 %, error 1e-3", measured, bool(good))]


@functools.partial(jax.jit, static_argnames=("blocks", "probed"))
def _train(problem, theta, vectors, key, eta, blocks: int, probed: bool):
    """Gaussian SGD with the covariance of a minibatch; a probe before every ten steps."""
    n = problem.n

    def block(state, number):
        point, vectors = state
        found = None
        if probed:
            drawn = jax.random.fold_in(key, number)
            found = _sharpness(problem, point, vectors, drawn, TOLERANCE, True)
            vectors = found.vectors

        def step(i, point):
            drawn = jax.random.fold_in(key, 1_000_000 + STEPS_BETWEEN * number + i)
            xi = jax.random.normal(drawn, (n,))
            weights = 1 / n + (xi - jnp.mean(xi)) / (n * BATCH) ** 0.5
            gradient = jax.grad(lambda t: weights @ problem.per_sample_losses(t))(point)
            return jax.tree.map(lambda a, g: a - eta * g, point, gradient)

        return (jax.lax.fori_loop(0, STEPS_BETWEEN, step, point), vectors), (point, found)

    return jax.lax.scan(block, (theta, vectors), jnp.arange(blocks))


def _sharpness(problem, theta, vectors, key, tolerance: float, extrapolate: bool):
    product = flat_product(chunked_hessian_product(problem, theta, CHUNK), theta)
    return follow(
        product,
        vectors,
        key,
        tolerance=tolerance,
        most_products=4 if extrapolate else 8,
        noise=3e-3,
        extrapolate=extrapolate,
    )


def _unknown(theta: Network) -> Array:
    """One row of zeros: no eigenvector is known."""
    return jnp.zeros((1, ravel_pytree(theta)[0].size))


def _at(points: Network, number: int) -> Network:
    return jax.tree.map(lambda leaf: leaf[number], points)


@functools.partial(jax.jit, static_argnums=2)
def _largest(problem: Problem, theta: Network, depth: int) -> Array:
    product = hessian_product(problem.empirical_risk, theta)
    return lanczos(product, _direction(99, theta), depth).values[::-1][:10]


def _reference(problem: Problem, theta: Network, depth: int) -> np.ndarray:
    """Largest eigenvalues from a search without a stop rule, by another library."""
    return np.asarray(_largest(problem, theta, depth), np.float64)


def _direction(seed: int, like: PyTree) -> PyTree:
    flat, unravel = ravel_pytree(like)
    return unravel(jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype))


def _repeated(name: str, function: Callable[..., Any], *arguments: Any) -> Contender:
    """Twenty in a row, in one program, each from the result of the one before."""
    work = 20

    @jax.jit
    def run(problem, theta):
        def one(state, _):
            theta, v = state
            image = function(problem, theta, v)
            return (jax.tree.map(lambda a, b: a + 1e-9 * b, theta, image), image), None

        return jax.lax.scan(one, (theta, _direction(0, theta)), None, length=work)[0]

    def call() -> object:
        return jax.block_until_ready(run(*arguments))

    call()
    return Contender(name, call, work)


def _shown(pairs: list[tuple[int, float]]) -> str:
    return ", ".join(f"({count}, {error:.0e})" for count, error in pairs)
