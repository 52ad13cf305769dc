"""Stagnation sets against closed forms, brute-force searches and the law they are shaped by."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import optimize, stats

from sgdsim.problems import (
    DeepLinear,
    DoubleWell,
    Hyperbola,
    Network,
    PeriodicWells,
    Problem,
    Quadratic,
    Sphere,
)
from sgdsim.stagnation import (
    AffineTube,
    Ball,
    Below,
    Ellipsoid,
    FunctionBall,
    Sublevel,
    Tube,
    Union,
    basins_of,
    ellipsoid_of_stationary_covariance,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

RNG = np.random.default_rng(42)
ROTATION = np.linalg.qr(RNG.normal(size=(6, 6))).Q
POINTS = RNG.normal(size=(12, 6))


def circle(t):
    return np.array([np.cos(t), np.sin(t)])


def branch(t):
    """Hyperbola of product 1, one branch for each sign of t."""
    s = np.copysign(1.0, t)
    return np.array([s * np.exp(np.abs(t) - 6), s * np.exp(6 - np.abs(t))])


def nearest(curve, point, low, high):
    """Distance to a curve: a fine grid, then a scalar search around its best point."""

    def distance(t):
        return float(np.linalg.norm(curve(t) - point))

    grid = np.linspace(low, high, 4001)
    best = grid[np.argmin([distance(t) for t in grid])]
    step = grid[1] - grid[0]
    return distance(optimize.fminbound(distance, best - step, best + step, xtol=1e-12))


@pytest.mark.parametrize(
    ("landscape", "curve", "span"),
    [(lambda: Sphere(1.0), circle, np.pi), (lambda: Hyperbola(1.0), branch, 12.0)],
    ids=["ring", "hyperbola"],
)
def test_tube_against_a_search_along_the_minima(landscape, curve, span):
    tube = Tube(landscape=landscape(), radius=0.3)
    for point in 1.5 * POINTS[:, :2]:
        found = float(tube.squared_distance(jnp.asarray(point)))
        assert found == pytest.approx(nearest(curve, point, -span, span) ** 2, rel=1e-8)


def test_tube_around_factorisations_takes_the_parameters_of_a_network():
    """One hidden layer with one input and output and width 1 is the hyperbola."""
    theta = jnp.array([[1.3]]), jnp.array([[0.4]])
    tube = Tube(landscape=DeepLinear(jnp.ones((1, 1)), (1,)), radius=0.3)
    expected = nearest(branch, np.array([1.3, 0.4]), -12.0, 12.0) ** 2
    assert float(tube.squared_distance(theta)) == pytest.approx(expected, rel=1e-8)


def test_affine_tube_from_either_space():
    """Against least squares over the coordinates along the valley, and against the landscape."""
    centre, tangent, normal = RNG.normal(size=6), ROTATION[:2], ROTATION[2:]
    shifted = jnp.asarray(centre)
    of_tangent = AffineTube(centre=shifted, radius=1.0, tangent=jnp.asarray(tangent))
    of_normal = AffineTube(centre=shifted, radius=1.0, normal=jnp.asarray(normal))
    quadratic = Quadratic(jnp.array([0.0, 0.0, 1.0, 2.0, 3.0, 4.0]), jnp.asarray(ROTATION.T))
    for point in POINTS:
        along = np.linalg.lstsq(tangent.T, point - centre)[0]
        expected = np.sum((point - centre - tangent.T @ along) ** 2)
        theta = jnp.asarray(point)
        for tube in (of_tangent, of_normal):
            assert float(tube.squared_distance(theta)) == pytest.approx(expected, rel=1e-12)
        tube = Tube(landscape=quadratic, radius=1.0)
        assert float(tube.squared_distance(theta - shifted)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("side", ["normal", "tangent"])
def test_affine_tube_far_out_in_the_valley(side):
    """No cancellation in single precision: distance 1 after a walk of 1e5 along the valley."""
    basis = {"normal": ROTATION[2:], "tangent": ROTATION[:2]}[side]
    tube = AffineTube(centre=jnp.zeros(6), radius=1.0, **{side: jnp.asarray(basis, jnp.float32)})
    theta = jnp.asarray(ROTATION[2] + 1e5 * ROTATION[0], jnp.float32)
    assert float(tube.squared_distance(theta)) == pytest.approx(1.0, abs=0.05)


def dense_mahalanobis(ellipsoid, u):
    """With the whole covariance, or with that of the coordinates along the axes."""
    axes, scales = np.asarray(ellipsoid.axes), np.asarray(ellipsoid.scales)
    rest = 1.0 if ellipsoid.rest_scale is None else float(ellipsoid.rest_scale)
    covariance = rest**2 * (np.eye(6) - axes.T @ axes) + (axes.T * scales**2) @ axes
    if ellipsoid.rest_scale is None:
        u, covariance = axes @ u, axes @ covariance @ axes.T
    return u @ np.linalg.solve(covariance, u)


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("rest", [None, 0.7])
def test_ellipsoid_against_the_dense_covariance(rank, rest):
    scales = jnp.asarray(RNG.uniform(0.2, 3.0, rank))
    centre = RNG.normal(size=6)
    ellipsoid = Ellipsoid(
        centre={"a": jnp.asarray(centre[:4].reshape(2, 2)), "b": jnp.asarray(centre[4:])},
        axes=jnp.asarray(ROTATION[:rank]),
        scales=scales,
        rest_scale=rest,
    )
    for point in POINTS:
        theta = {"a": jnp.asarray(point[:4].reshape(2, 2)), "b": jnp.asarray(point[4:])}
        expected = dense_mahalanobis(ellipsoid, point - centre)
        assert float(ellipsoid.squared_distance(theta)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.statistical
def test_stationary_ellipsoid_holds_the_chi_square_share():
    """z-test on the stationary AR process; the continuous-time shape is rejected."""
    eta, paths, steps, share = 0.4, 20_000, 80, 0.8
    h = np.array([3.0, 2.0, 0.5, 0.5, 0.5, 0.5])
    variance = np.array([1.0, 0.3, 0.6, 0.6, 0.6, 0.6])
    random = np.random.default_rng(1)
    u = np.zeros((paths, 6))
    for _ in range(steps):
        u = u - eta * (h * u + np.sqrt(variance) * random.normal(size=u.shape))
    # Powers of 1 - eta h: what the start at the minimum leaves is below 1e-7.
    assert np.max(np.abs(1 - eta * h)) ** (2 * steps) < 1e-7
    ellipsoid = ellipsoid_of_stationary_covariance(
        jnp.zeros(6),
        jnp.asarray(ROTATION[:2]),
        jnp.asarray(h[:2]),
        jnp.asarray(variance[:2]),
        eta,
        radius=float(np.sqrt(stats.chi2.ppf(share, 6))),
        rest=(0.5, 0.6),
    )
    theta = jnp.asarray(u @ ROTATION)

    def z_score(region):
        squared = jax.vmap(region.squared_distance)(theta)
        inside = np.mean(np.asarray(squared) <= float(region.radius) ** 2)
        return (inside - share) / np.sqrt(share * (1 - share) / paths)

    assert abs(z_score(ellipsoid)) < 5
    continuous = jnp.sqrt(eta * variance[:2] / (2 * h[:2]))
    mutants = {
        "scales": continuous,
        "rest_scale": float(np.sqrt(eta * 0.6 / (2 * 0.5))),
    }
    for name, wrong in mutants.items():
        mutant = eqx.tree_at(lambda e, name=name: getattr(e, name), ellipsoid, wrong)
        assert abs(z_score(mutant)) > 5, name


def test_sublevel_set_of_a_quadratic_is_an_ellipsoid():
    h = np.array([4.0, 1.0, 0.5, 2.0, 2.0, 2.0])
    problem = Quadratic(jnp.asarray(h), jnp.asarray(ROTATION.T)).problem()
    sublevel = Sublevel(problem=problem, minimum_risk=0.0, height=0.7)
    axes, scales = jnp.asarray(ROTATION), jnp.asarray(np.sqrt(2 / h))
    ellipsoid = Ellipsoid(centre=jnp.zeros(6), axes=axes, scales=scales, radius=np.sqrt(0.7))
    assert float(sublevel.radius) == pytest.approx(float(ellipsoid.radius))
    for point in POINTS:
        theta = jnp.asarray(point)
        found = float(sublevel.squared_distance(theta))
        assert found == pytest.approx(float(ellipsoid.squared_distance(theta)), rel=1e-12)
    # Below the supposed minimum a point is inside, not at an imaginary distance.
    raised = Sublevel(problem=problem, minimum_risk=50.0, height=0.7)
    assert float(raised.squared_distance(jnp.asarray(POINTS[0]))) == 0.0


def test_function_ball_sees_the_function_only():
    """Permuted and sign-flipped hidden units are the same tanh network."""
    rows, rng = RNG.normal(size=(9, 3)), np.random.default_rng(3)
    first, second = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))

    def outputs(theta, x):
        return jnp.tanh(x @ theta[0].T) @ theta[1].T

    theta = jnp.asarray(first), jnp.asarray(second)
    reference = outputs(theta, jnp.asarray(rows))
    ball = FunctionBall(outputs=outputs, rows=jnp.asarray(rows), reference=reference, radius=0.5)
    order, signs = np.array([2, 0, 3, 1]), np.array([1.0, -1.0, -1.0, 1.0])
    twin = jnp.asarray(signs[:, None] * first[order]), jnp.asarray(second[:, order] * signs)
    assert float(ball.squared_distance(twin)) < 1e-28
    assert float(Ball(centre=theta, radius=0.5).squared_distance(twin)) > 1

    weights = [(first, second), (first + 0.1, second - 0.2)]
    moved = tuple(map(jnp.asarray, weights[1]))
    before, after = (np.tanh(rows @ a.T) @ b.T for a, b in weights)
    expected = sum(np.sum((after[i] - before[i]) ** 2) for i in range(9)) / 9
    assert float(ball.squared_distance(moved)) == pytest.approx(expected, rel=1e-12)


def test_union_takes_the_nearest_in_units_of_its_radius():
    """Kinds in mixed order against a plain loop over the regions."""
    regions = [
        Ball(centre=jnp.array([2.0, 0.0]), radius=0.5),
        Tube(landscape=Sphere(1.0), radius=0.1),
        Ball(centre=jnp.array([-2.0, 1.0]), radius=1.5),
        AffineTube(centre=jnp.zeros(2), radius=0.2, normal=jnp.array([[0.6, 0.8]])),
        Ball(centre=jnp.array([0.0, -3.0]), radius=1.0),
    ]
    union = Union(regions)
    assert [type(region) for region in union] == [type(region) for region in regions]
    assert [float(region.radius) for region in union] == [float(r.radius) for r in regions]
    seen = set()
    for point in 2 * np.concatenate([POINTS[:, :2], POINTS[:, 2:4], POINTS[:, 4:]]):
        theta = jnp.asarray(point)
        scaled = [float(r.squared_distance(theta)) / float(r.radius) ** 2 for r in regions]
        assert float(union.squared_distance(theta)) == pytest.approx(min(scaled), rel=1e-12)
        assert int(union.basin(theta)) == int(np.argmin(scaled))
        seen.add(int(np.argmin(scaled)))
    assert seen == set(range(5))


def test_basins_of_wells():
    basins = basins_of(PeriodicWells(1.0, 0.5), radius=0.25, periods=3)
    for x in np.linspace(-1.72, 1.72, 40):
        theta = jnp.array([x])
        cell = round(x / 0.5)
        assert int(basins.basin(theta)) == cell + 3
        expected = ((x - 0.5 * cell) / 0.25) ** 2
        assert float(basins.squared_distance(theta)) == pytest.approx(expected, abs=1e-12)
    assert float(basins.squared_distance(jnp.array([2.0]))) == pytest.approx(4.0)


def every_region(dtype):
    """One region of every kind for two parameters, with some numbers in double precision."""
    rows = jnp.ones((3, 1), dtype)
    problem = Problem(lambda theta, x: jnp.sum(jnp.square(theta)) * x[:, 0], rows)
    return {
        "ball": Ball(centre=jnp.zeros(2), radius=0.5),
        "below": Below(coordinate=0, level=1.0),
        "tube": Tube(landscape=Sphere(1.0), radius=0.5),
        "normal": AffineTube(centre=jnp.zeros(2), radius=0.5, normal=jnp.array([[0.6, 0.8]])),
        "tangent": AffineTube(centre=jnp.zeros(2), radius=0.5, tangent=jnp.array([[0.6, 0.8]])),
        "ellipsoid": Ellipsoid(
            centre=jnp.zeros(2), axes=jnp.array([[0.6, 0.8]]), scales=jnp.ones(1), rest_scale=2.0
        ),
        "sublevel": Sublevel(problem=problem, minimum_risk=0.0, height=0.5),
        "function": FunctionBall(
            outputs=lambda theta, x: jnp.tanh(x @ theta[None]),
            rows=rows,
            reference=jnp.zeros((3, 2)),
            radius=0.5,
        ),
        "union": basins_of(DoubleWell(1.0, 2.0), radius=0.5),
    }


@pytest.mark.parametrize("name", sorted(every_region(float)))
def test_precision_divergence_and_tracing(name):
    """Float32 stays float32, a divergent iterate is seen, new numbers reuse the program."""
    for dtype in (jnp.float32, jnp.float64):
        region = every_region(dtype)[name]
        theta = jnp.asarray([1.2, 0.3], dtype)
        assert region.squared_distance(theta).dtype == dtype
        if name != "below":
            for bad in (np.nan, np.inf, -np.inf):
                for where in (0, 1):
                    broken = theta.at[where].set(bad)
                    assert not np.isfinite(region.squared_distance(broken))

    calls = []

    @eqx.filter_jit
    def both(region, theta):
        calls.append(1)
        return region.squared_distance(theta) / (1 + region.radius**2), region.basin(theta)

    def arrays(leaf):
        return jnp.asarray(leaf) if eqx.is_array_like(leaf) else leaf

    region = jax.tree.map(arrays, region)
    larger = jax.tree.map(lambda leaf: 3 * leaf, region)
    first, second = both(region, theta)[0], both(larger, theta)[0]
    assert len(calls) == 1
    assert float(first) != float(second)


def test_a_falling_risk_does_not_hide_a_divergence():
    problem = Problem(lambda theta, z: -jnp.exp(theta[0]) * z, jnp.ones(2))
    region = Sublevel(problem=problem, minimum_risk=0.0, height=1.0)
    assert float(region.squared_distance(jnp.array([800.0]))) != 0.0
    assert float(region.squared_distance(jnp.array([8.0]))) == 0.0


def test_on_the_parameters_of_a_network(network_problem):
    """The flattening of axes and parameters agree; outputs of the model serve a function ball."""
    problem, theta = network_problem
    flat, unravel = ravel_pytree(theta)
    direction = np.zeros((1, flat.size))
    direction[0, 5] = 1.0
    moved = unravel(flat + 3.0 * jnp.asarray(direction[0]))
    tube = AffineTube(centre=theta, radius=1.0, normal=jnp.asarray(direction))
    assert float(tube.squared_distance(moved)) == pytest.approx(9.0)
    outputs = problem.losses.outputs
    reference = outputs(theta, problem.data)
    ball = FunctionBall(outputs=outputs, rows=problem.data, reference=reference, radius=1.0)
    assert isinstance(theta, Network)
    difference = np.asarray(moved(problem.data.inputs) - theta(problem.data.inputs))
    expected = np.mean(np.linalg.norm(difference, axis=1) ** 2)
    assert float(ball.squared_distance(moved)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tube(landscape=Sphere(1.0), radius=0.0), "radius must be a positive"),
        (lambda: AffineTube(centre=jnp.zeros(2), radius=1.0), "exactly one of normal and tangent"),
        (
            lambda: AffineTube(centre=jnp.zeros(2), radius=1.0, normal=jnp.array([[1.0, 1.0]])),
            "rows of normal must be orthonormal",
        ),
        (
            lambda: Ellipsoid(centre=jnp.zeros(2), axes=jnp.eye(2), scales=jnp.array([1.0, 0.0])),
            "scales must be positive",
        ),
        (
            lambda: ellipsoid_of_stationary_covariance(
                jnp.zeros(1), jnp.eye(1), jnp.array([4.0]), jnp.ones(1), 0.5, radius=1.0
            ),
            "must be below 2",
        ),
        (
            lambda: ellipsoid_of_stationary_covariance(
                jnp.zeros(1), jnp.eye(1), jnp.array([0.0]), jnp.ones(1), 0.5, radius=1.0
            ),
            "must be positive",
        ),
        (
            lambda: Sublevel(problem=Sphere(1.0).problem(), minimum_risk=0.0, height=-1.0),
            "height must be a positive",
        ),
        (lambda: Union([]), "regions is empty"),
        (lambda: Union([Below(coordinate=0, level=1.0)]), "region 0 has the radius 0"),
        (lambda: basins_of(DoubleWell(1.0), radius=1.01), "radius must be at most 1,"),
        (lambda: basins_of(PeriodicWells(1.0, 0.5), 0.3, periods=1), "at most 0.25,"),
        (lambda: basins_of(DoubleWell(1.0), 0.5, periods=1), "periods belongs to PeriodicWells"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
