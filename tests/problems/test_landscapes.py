"""Analytic landscapes: stated minima, curvatures and projections against independent searches."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import linalg, optimize

from sgdsim.problems import (
    DeepLinear,
    DoubleWell,
    Hyperbola,
    LeastSquares,
    OutputLoss,
    PeriodicWells,
    Quadratic,
    Ripples,
    Sphere,
    TwoWells,
)

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(7)
ROTATION = linalg.qr(RNG.normal(size=(4, 4)))[0]
WIDE = RNG.normal(size=(3, 5)), RNG.normal(size=3)
TALL = RNG.normal(size=(9, 4)), RNG.normal(size=9)
TARGET = RNG.normal(size=(2, 3))

#: Made inside the tests, where double precision is on.
CASES = {
    "isotropic": lambda: Quadratic(1.5 * jnp.ones(3)),
    "valley": lambda: Quadratic(jnp.array([2.0, 0.5, 0.0, 0.0]), jnp.asarray(ROTATION)),
    "sphere": lambda: Sphere(1.7, 3),
    "hyperbola": lambda: Hyperbola(1.3),
    "hyperbola, negative": lambda: Hyperbola(-0.7),
    "product of vectors": lambda: DeepLinear(jnp.array([[0.8]]), (3,)),
    "three layers": lambda: DeepLinear(TARGET, (2, 4)),
    "double well": lambda: DoubleWell(1.4),
    "double well, 2-D": lambda: DoubleWell(1.4, 0.6),
    "periodic": lambda: PeriodicWells(0.9, 1.6),
    "two wells": lambda: TwoWells(0.3, 0.5, 1.4),
    "two wells, tilted": lambda: TwoWells(0.3, 1.2, 0.6, -0.2),
    "ripples": lambda: Ripples(1.0, 0.02, 0.25, 2),
    "wide regression": lambda: LeastSquares(*WIDE),
    "tall regression": lambda: LeastSquares(*TALL),
}
WELLS = [name for name in CASES if "well" in name or name == "periodic"]
#: Their minima near the point of the test move when all numbers grow by one factor.
MOVED = ("hyperbola", "hyperbola, negative", "product of vectors", "two wells", "two wells, tilted")
#: Their projections or formulas are the delicate ones in single precision.
SEARCHED = ("hyperbola", "product of vectors", "ripples", "two wells, tilted", "wide regression")
PROJECTED = [name for name in CASES if name != "three layers"]


def representative(landscape, row=0):
    return jax.tree.map(lambda leaf: leaf[row], landscape.minima)


def nearby(landscape, seed, size=0.3):
    """Give a point near a minimum, shaped like the parameters."""
    flat, unravel = ravel_pytree(representative(landscape))
    return unravel(flat + size * np.random.default_rng(seed).normal(size=flat.size))


@functools.partial(jax.jit, static_argnums=1)
def derivatives(landscape, unravel, flat):
    """Risk, gradient and Hessian on flat parameters, compiled once per kind of landscape."""

    def risk(v):
        return landscape.risk(unravel(v))

    return *jax.value_and_grad(risk)(flat), jax.hessian(risk)(flat)


def flat_derivatives(landscape, theta):
    flat, unravel = ravel_pytree(theta)
    return [np.asarray(a) for a in derivatives(landscape, unravel, flat)]


def flat_hessian(landscape, theta):
    return flat_derivatives(landscape, theta)[2]


def gradient_norm(landscape, theta):
    return float(np.linalg.norm(flat_derivatives(landscape, theta)[1]))


@jax.jit
def project(landscape, theta):
    return landscape.project(theta)


project_all = jax.jit(jax.vmap(lambda landscape, theta: landscape.project(theta), (None, 0)))


@jax.jit
def distance(landscape, theta):
    return landscape.distance(theta)


@pytest.mark.parametrize("name", CASES)
def test_the_stated_minima_are_minima(name):
    landscape = CASES[name]()
    for row in range(len(jax.tree.leaves(landscape.minima)[0])):
        theta = representative(landscape, row)
        assert gradient_norm(landscape, theta) < 1e-13
        assert np.linalg.eigvalsh(flat_hessian(landscape, theta))[0] > -1e-13
    assert gradient_norm(landscape, nearby(landscape, 0)) > 1e-3


@pytest.mark.parametrize("name", WELLS)
def test_barriers_and_curvatures_of_wells(name):
    wells = CASES[name]()
    assert gradient_norm(wells, wells.saddle) < 1e-13
    assert float(wells.curvature_saddle) < 0
    assert flat_hessian(wells, wells.saddle)[0, 0] == pytest.approx(float(wells.curvature_saddle))
    for row, (barrier, curvature) in enumerate(
        zip(wells.barrier, wells.curvature_minimum, strict=True)
    ):
        minimum = wells.minima[row]
        assert flat_hessian(wells, minimum)[0, 0] == pytest.approx(float(curvature))
        assert float(wells.risk(wells.saddle) - wells.risk(minimum)) == pytest.approx(
            float(barrier)
        )


def test_double_well_and_periodic_wells_are_those_of_the_theory():
    well, x, y = DoubleWell(1.4, 0.6), 0.37, -1.2
    value = 1.4 / 4 * (x**2 - 1) ** 2 + 0.6 / 2 * y**2
    assert float(well.risk(jnp.array([x, y]))) == pytest.approx(value, rel=1e-14)
    assert well.barrier.tolist() == [0.35, 0.35]
    assert (float(well.curvature_minimum[1]), float(well.curvature_saddle)) == (2.8, -1.4)
    wells = PeriodicWells(0.9, 1.6)
    value = 0.9 * (1 - np.cos(2 * np.pi * x / 1.6))
    assert float(wells.risk(jnp.array([x]))) == pytest.approx(value, rel=1e-14)
    assert wells.barrier.tolist() == [1.8]


slopes = jax.jit(jax.vmap(jax.grad(lambda wells, x: wells.risk(x), argnums=1), (None, 0)))


@pytest.mark.parametrize("tilt", [0.0, 0.7, -0.7])
def test_two_wells_have_the_stated_shape(tilt):
    wells = TwoWells(0.3, 0.5, 2.0, tilt)
    x = np.linspace(-6.01, 9, 40_001)
    slope = np.asarray(slopes(wells, jnp.asarray(x)[:, None]))[:, 0]
    turns = x[:-1][np.sign(slope[:-1]) != np.sign(slope[1:])]
    stated = [wells.minima[0, 0], wells.saddle[0], wells.minima[1, 0]]
    np.testing.assert_allclose(turns, stated, atol=1e-3)  # these and no others
    left, right = (float(wells.risk(m)) for m in wells.minima)
    assert (left, right - left) == pytest.approx((0, tilt), abs=1e-14)
    assert wells.curvature_minimum.tolist() == pytest.approx(
        [(2.4 + 1.5 * tilt) / 0.25, (2.4 - 1.5 * tilt) / 4]
    )


def nearest_on_hyperbola(point, a):
    """Search both branches over the logarithm of the first coordinate."""

    def square(log_u, sign):
        u = sign * np.exp(log_u)
        return (u - point[0]) ** 2 + (a / u - point[1]) ** 2

    grid = np.linspace(-12, 12, 4001)
    found = []
    for sign in (1.0, -1.0):
        best = grid[np.argmin(square(grid, sign))]
        nearest = optimize.fminbound(square, best - 0.01, best + 0.01, args=(sign,), xtol=1e-12)
        found.append(square(nearest, sign))
    return np.sqrt(min(found))


@pytest.mark.parametrize("a", [1.0, -1.0, 0.3, 1e-4, 25.0])
def test_hyperbola_projection_is_the_nearest_point(a):
    points = [*RNG.normal(size=(40, 2)) * 3, (0, 0), (3, 0), (0, -2), (5, 5), (5, -5), (0.01, 0.01)]
    hyperbola = Hyperbola(a)
    for point in points:
        nearest = project(hyperbola, jnp.asarray(point, float))
        assert float(nearest[0] * nearest[1]) == pytest.approx(a, abs=1e-13 * 50)
        found = float(distance(hyperbola, jnp.asarray(point, float)))
        assert found == pytest.approx(nearest_on_hyperbola(point, a), abs=2e-7)


def test_hyperbola_projection_far_away_on_the_set_and_without_a_product():
    hyperbola = Hyperbola(1.5)
    for u in (0.2, 1.0, 40.0):
        on_set = jnp.array([u, 1.5 / u])
        np.testing.assert_allclose(hyperbola.project(on_set), on_set, rtol=1e-13)
        # Along the normal, short of the centre of curvature, the foot does not move.
        moved = on_set + 0.1 * jnp.array([1.5 / u, u])
        np.testing.assert_allclose(hyperbola.project(moved), on_set, atol=1e-13 * u, rtol=1e-12)
    np.testing.assert_allclose(Hyperbola(0.0).project(jnp.array([3.0, -0.4])), [3.0, 0], atol=1e-15)
    np.testing.assert_allclose(Hyperbola(0.0).project(jnp.zeros(2)), [0, 0], atol=1e-15)


def test_product_of_vectors_projection_is_the_nearest_point():
    landscape, a = DeepLinear(jnp.array([[0.8]]), (3,)), 0.8
    for seed in range(6):
        theta = nearby(landscape, seed, size=1.2)
        point = np.concatenate([theta[0][:, 0], theta[1][0]])
        constraint = {"type": "eq", "fun": lambda v: v[:3] @ v[3:] - a}
        starts = [point, *np.random.default_rng(seed).normal(size=(6, 6))]
        found = [
            optimize.minimize(
                lambda v, at=point: np.sum((v - at) ** 2),
                start,
                constraints=constraint,
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 300},
            )
            for start in starts
        ]
        reached = [f for f in found if f.success and abs(constraint["fun"](f.x)) < 1e-9]
        best = np.sqrt(min(f.fun for f in reached))
        assert float(distance(landscape, theta)) == pytest.approx(best, rel=1e-6)
        assert flat_derivatives(landscape, project(landscape, theta))[0] < 1e-28


@pytest.mark.parametrize("name", ["valley", "wide regression", "tall regression"])
def test_affine_projections_are_orthogonal(name):
    landscape = CASES[name]()
    theta = nearby(landscape, 3, size=2.0)
    nearest = landscape.project(theta)
    assert gradient_norm(landscape, nearest) < 1e-13
    flat = linalg.null_space(flat_hessian(landscape, theta), rcond=1e-10)
    assert flat.shape[1] == {"valley": 2, "wide regression": 2, "tall regression": 0}[name]
    assert np.max(np.abs(flat.T @ np.asarray(theta - nearest)), initial=0) < 1e-13


@pytest.mark.parametrize("name", ["double well, 2-D", "two wells", "periodic"])
def test_projection_to_the_nearest_well(name):
    wells = CASES[name]()
    minima = np.asarray(wells.minima)
    if name == "periodic":
        minima = 1.6 * np.arange(-5, 6)[:, None]
    for theta in RNG.uniform(-3, 3, size=(25, minima.shape[1])):
        expected = np.min(np.linalg.norm(minima - theta, axis=1))
        assert float(distance(wells, jnp.asarray(theta))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("curvature", "amplitude", "period"),
    [(1.0, 0.02, 0.25), (1.0, 0.5, 0.3), (1.0, 0.0009, 0.2), (1.0, 0.001, 0.2), (2.0, 0.0136, 0.5)],
)
def test_ripples_know_all_their_local_minima(curvature, amplitude, period):
    bowl = Ripples(curvature, amplitude, period)
    q = 2 * np.pi / period

    def slope(x):
        return curvature * x + amplitude * q * np.sin(q * x)

    x = np.linspace(-2.03, 2.01, 200_000)
    rises = np.flatnonzero((slope(x[:-1]) < 0) & (slope(x[1:]) > 0))
    minima = np.array([optimize.brentq(slope, x[i], x[i + 1], xtol=1e-15) for i in rises])
    assert amplitude * q / curvature < 2 or len(minima) > 10
    within = int(bowl.outermost_cell) * period <= 2
    assert not within or len(minima) == 2 * int(bowl.outermost_cell) + 1
    points = np.append(RNG.uniform(-1.8, 1.8, size=200), minima[np.abs(minima) < 1.8])
    nearest = minima[np.argmin(np.abs(points[:, None] - minima), axis=1)]
    found = project_all(bowl, jnp.asarray(points)[:, None])[:, 0]
    np.testing.assert_allclose(found, nearest, atol=1e-12)
    assert float(bowl.risk(jnp.array([0.1]))) == pytest.approx(
        curvature / 200 + amplitude * (1 - np.cos(q * 0.1))
    )


def ratios(landscape, theta):
    """RSI, PL, QG and growth at a point, by their definitions."""
    foot = project(landscape, theta)
    u = np.asarray(theta - foot)
    value, gradient, _ = flat_derivatives(landscape, theta)
    value = value - flat_derivatives(landscape, foot)[0]
    square = u @ u
    return {
        "RSI": gradient @ u / square,
        "PL": gradient @ gradient / (2 * value),
        "QG": 2 * value / square,
        "growth": np.linalg.norm(gradient) / np.sqrt(square),
    }


def test_all_moduli_of_the_sphere_are_the_same():
    sphere = Sphere(1.7, 4)
    for theta in RNG.normal(size=(10, 4)) * np.geomspace(0.05, 5, 10)[:, None]:
        values = ratios(sphere, jnp.asarray(theta))
        assert list(values.values()) == pytest.approx([1.7] * 4, rel=1e-9)
    eigenvalues = np.linalg.eigvalsh(flat_hessian(sphere, sphere.minima[0]))
    np.testing.assert_allclose(eigenvalues, [0, 0, 0, 1.7], atol=1e-14)
    assert gradient_norm(sphere, jnp.zeros(4)) == 0
    assert sphere.project(jnp.zeros(4)).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("name", ["valley", "isotropic", "wide regression", "tall regression"])
def test_modulus_and_growth_are_valid_and_attained(name):
    landscape = CASES[name]()
    modulus, growth = float(landscape.modulus), float(landscape.growth)
    origin = representative(landscape)
    eigenvalues, vectors = np.linalg.eigh(flat_hessian(landscape, origin))
    steep = eigenvalues > 1e-10
    assert (modulus, growth) == pytest.approx((eigenvalues[steep][0], eigenvalues[-1]))
    for seed in range(10):
        at = ratios(landscape, nearby(landscape, seed))
        assert min(at["RSI"], at["PL"], at["QG"]) > modulus * (1 - 1e-9)
        assert at["growth"] < growth * (1 + 1e-9)
    softest = ratios(landscape, origin + vectors[:, steep][:, 0])
    assert softest["RSI"] == pytest.approx(modulus)
    assert ratios(landscape, origin + vectors[:, -1])["growth"] == pytest.approx(growth)


@pytest.mark.parametrize("a", [1.0, -0.4])
def test_hyperbola_identities(a):
    hyperbola = Hyperbola(a)
    for w in RNG.normal(size=(20, 2)):
        value, gradient, _ = flat_derivatives(hyperbola, jnp.asarray(w))
        assert gradient @ gradient == pytest.approx(2 * (w @ w) * value)
    for u in (0.5, 1.5):
        eigenvalues = np.linalg.eigvalsh(flat_hessian(hyperbola, jnp.array([u, a / u])))
        np.testing.assert_allclose(eigenvalues, [0, u**2 + a**2 / u**2], atol=1e-14)
    saddle = np.linalg.eigvalsh(flat_hessian(hyperbola, hyperbola.saddle))
    np.testing.assert_allclose(saddle, [-abs(a), abs(a)])
    assert flat_derivatives(hyperbola, hyperbola.saddle)[0] == float(hyperbola.barrier)


@pytest.mark.parametrize(("rho", "rsi"), [(0.1, 2.87996), (-0.1, 2.51444)])
def test_hyperbola_restricted_secant_numbers(rho, rsi):
    minimum = np.array([1.5, 1 / 1.5])
    normal = minimum[::-1] / np.linalg.norm(minimum)
    at = ratios(Hyperbola(1.0), jnp.asarray(minimum + rho * normal))
    assert at["RSI"] == pytest.approx(rsi, abs=6e-6)


def test_polyak_lojasiewicz_of_linear_networks():
    """The modulus is a lower bound, equal to the definition for two layers and tight."""
    smallest = []
    for shape, hidden in [((2, 3), (3,)), ((2, 2), (2,)), ((1, 1), (1, 1, 1)), ((2, 3), (4, 3))]:
        landscape = DeepLinear(RNG.normal(size=shape), hidden)
        for seed in range(8):
            theta = nearby(landscape, seed, size=0.7)
            value, gradient, _ = flat_derivatives(landscape, theta)
            modulus = float(jax.jit(DeepLinear.pl_modulus)(landscape, theta))
            smallest.append(gradient @ gradient / (2 * modulus * value))
            if len(hidden) == 1:
                first, second = (np.asarray(w) for w in theta)
                # EW_1^T has the smallest gain of W_1 on rows: zero if W_1 is taller than wide.
                gains = [np.linalg.eigvalsh(m)[0] for m in (second @ second.T, first.T @ first)]
                assert modulus == pytest.approx(sum(gains))
    assert 1 - 1e-9 < min(smallest) < 1.0001  # tight: equality for products of scalars


def test_the_minima_of_a_linear_network_are_balanced():
    landscape = DeepLinear(TARGET, (2, 4))
    first, second, third = (w[0] for w in landscape.minima)
    assert float(landscape.risk((first, second, third))) < 1e-28
    np.testing.assert_allclose(second.T @ second, first @ first.T, atol=1e-13)
    np.testing.assert_allclose(third.T @ third, second @ second.T, atol=1e-13)


@pytest.mark.parametrize(("eta", "ratio"), [(0.02, 0.9999), (0.05, 0.9994)])
def test_gradient_descent_on_a_product_of_four_ends_at_the_edge_of_stability(eta, ratio):
    """Zhu et al.: from a minimum of sharpness 1.15 * 2/eta the descent ends just below 2/eta."""
    landscape = DeepLinear(jnp.array([[1.0]]), (1, 1, 1))

    def unpack(flat):
        return tuple(flat.reshape(4, 1, 1))

    def sharpness(flat):
        return np.linalg.eigvalsh(flat_hessian(landscape, unpack(flat)))[-1] * eta / 2

    # At (c, c, 1/c, 1/c) the sharpness is 2 c^2 + 2/c^2.
    c = np.sqrt(np.max(np.roots([1, -1.15 / eta, 1])))
    start = jnp.array([c, c, 1 / c, 1 / c])
    assert sharpness(start) == pytest.approx(1.15)
    descend = jax.grad(lambda flat: landscape.risk(unpack(flat)))
    end = jax.lax.fori_loop(0, 100_000, lambda _, w: w - eta * descend(w), start.at[:2].mul(1.001))
    assert sharpness(end) == pytest.approx(ratio, abs=5e-5)


@pytest.mark.parametrize("name", CASES)
def test_as_a_problem_in_both_precisions_with_traced_numbers(name):
    traces = itertools.count()

    @jax.jit
    def evaluate(problem, landscape, theta):
        next(traces)
        batch = problem.take(jnp.array([0, 0, 0])).per_sample_losses(theta)
        pair = [jax.value_and_grad(f)(theta) for f in (problem.empirical_risk, landscape.risk)]
        foot = landscape.project(theta) if name in PROJECTED else theta
        return [(v, ravel_pytree(g)[0]) for v, g in pair], ravel_pytree(foot)[0], batch

    landscape = CASES[name]()
    theta = nearby(landscape, 1)
    (of_problem, of_landscape), foot, batch = evaluate(landscape.problem(), landscape, theta)
    for ours, stated in zip(of_problem, of_landscape, strict=True):
        np.testing.assert_allclose(ours, stated, rtol=1e-11, atol=1e-12)
    rows = len(landscape.targets) if isinstance(landscape, LeastSquares) else 1
    assert landscape.problem().n == rows
    assert batch.shape == (3,)
    if rows == 1:
        np.testing.assert_allclose(batch, of_problem[0])

    scaled = jax.tree.map(lambda leaf: 1.07 * leaf, landscape)
    (other, _), other_foot, _ = evaluate(scaled.problem(), scaled, theta)
    assert next(traces) == 1  # the second landscape is not compiled again
    assert other[0] != of_problem[0]
    assert np.any(other_foot != foot) or name not in MOVED

    single = jax.tree.map(lambda a: a.astype(jnp.float32), theta)
    arguments = (landscape.problem().astype(jnp.float32), landscape, single)
    shapes = jax.tree.leaves(jax.eval_shape(evaluate, *arguments))
    assert {shape.dtype for shape in shapes} == {jnp.dtype(jnp.float32)}
    if name in SEARCHED:
        expected = [*of_problem, *of_landscape, foot, batch]
        for found, exact in zip(jax.tree.leaves(evaluate(*arguments)), expected, strict=True):
            np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-5)


def test_least_squares_has_its_rows_and_the_solution_of_smallest_norm():
    x, y = WIDE
    landscape = LeastSquares(x, y)
    problem, theta = landscape.problem(), RNG.normal(size=5)
    assert isinstance(problem.losses, OutputLoss)
    outputs = problem.losses.outputs(jnp.asarray(theta), problem.data)
    np.testing.assert_allclose(outputs, (x @ theta)[:, None])
    losses = problem.per_sample_losses(jnp.asarray(theta))
    np.testing.assert_allclose(losses, 0.5 * (x @ theta - y) ** 2)
    np.testing.assert_allclose(landscape.minimum_norm, np.linalg.pinv(x) @ y)
    np.testing.assert_allclose(x @ landscape.null_component(jnp.asarray(theta)), 0, atol=1e-13)
    tall = LeastSquares(*TALL)
    np.testing.assert_allclose(tall.minimum_norm, np.linalg.lstsq(*TALL)[0])
    # Two equal columns: rank three, and the smallest norm shares the weight.
    twins = np.column_stack([TALL[0][:, :3], TALL[0][:, 2]])
    deficient = LeastSquares(twins, TALL[1])
    np.testing.assert_allclose(deficient.minimum_norm, np.linalg.pinv(twins) @ TALL[1])
    assert float(deficient.modulus) > 1e-3


@pytest.mark.parametrize("name", PROJECTED)
def test_distance_has_a_unit_gradient_away_from_the_minima(name):
    landscape = CASES[name]()
    theta = nearby(landscape, 2, size=0.1)
    flat, unravel = ravel_pytree(theta)
    foot = ravel_pytree(project(landscape, theta))[0]
    tiny = 1e-6 * np.random.default_rng(1).normal(size=flat.size)
    points = jnp.stack([flat, flat + tiny, flat - tiny, foot])
    values, steps = jax.jit(jax.vmap(jax.value_and_grad(lambda v: landscape.distance(unravel(v)))))(
        points
    )
    np.testing.assert_allclose(steps[0], (flat - foot) / np.linalg.norm(flat - foot), atol=1e-9)
    slope = float((values[1] - values[2]) / 2)
    assert slope == pytest.approx(float(steps[0] @ tiny), rel=1e-3, abs=1e-12)
    assert np.all(np.isfinite(steps[3]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Quadratic(jnp.array([1.0, -1.0])), "eigenvalues must not be negative"),
        (lambda: Quadratic(jnp.zeros(2)), "nor all zero"),
        (lambda: Sphere(0.0), "modulus must be a positive finite number, got 0"),
        (lambda: DoubleWell(-1.0), "height must be a positive finite number"),
        (lambda: DoubleWell(1.0, 0.0), "transverse must be a positive finite number"),
        (lambda: PeriodicWells(1.0, 0), "period must be a positive finite number"),
        (lambda: TwoWells(1.0, 1.0, 6.0), "factor of 5.83"),
        (lambda: TwoWells(0.3, 1.0, 1.0, 1.6), "one of the wells vanishes"),
        (lambda: Ripples(1.0, 0.0, 1.0), "amplitude must be a positive finite number"),
        (lambda: DeepLinear(jnp.ones((2, 3)), ()), "at least one width"),
        (lambda: DeepLinear(jnp.ones((2, 3)), (4, 1)), "none below 2"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_unknown_projection_is_refused():
    landscape = DeepLinear(TARGET, (2, 4))
    with pytest.raises(NotImplementedError, match="one hidden layer with one input and one output"):
        landscape.project(nearby(landscape, 0))
