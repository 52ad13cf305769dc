"""Projections: nearest point, non-expansive, idempotent; in float32, jit and vmap."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    BallProjection,
    BoxProjection,
    Iterate,
    Projected,
    SpectralProjection,
    gradient_descent,
    heavy_ball,
)

pytestmark = pytest.mark.usefixtures("x64")

RADIUS, LOW, HIGH, BOUND, COUNT = 2.0, -0.5, 0.8, 1.2, 200
SHAPES = {"w": (4, 3), "v": (2, 4), "b": (3,)}


def points(key, dtype=jnp.float64) -> dict:
    """Random pytrees, stacked, of sizes from well inside to far outside."""
    keys = jax.random.split(key, len(SHAPES))
    sizes = jnp.exp(jnp.linspace(-3, 2, COUNT))
    return {
        name: (sizes.reshape(-1, *[1] * len(shape)) * jax.random.normal(k, (COUNT, *shape))).astype(
            dtype
        )
        for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }


def rows(tree) -> np.ndarray:
    return np.asarray(jax.vmap(lambda leaf: ravel_pytree(leaf)[0])(tree))


CENTRE = {name: np.full(shape, 0.1) for name, shape in SHAPES.items()}


def projections() -> dict:
    centre = jax.tree.map(jnp.asarray, CENTRE)
    return {
        "ball": BallProjection(centre, RADIUS),
        "box": BoxProjection(LOW, HIGH),
        "spectral": SpectralProjection(BOUND),
    }


def violation(name: str, tree) -> np.ndarray:
    """How far outside the set each point is, from the definition of the set."""
    if name == "ball":
        return np.linalg.norm(rows(tree) - 0.1, axis=1) - RADIUS
    if name == "box":
        return np.maximum(LOW - rows(tree), rows(tree) - HIGH).max(axis=1)
    norms = [np.linalg.norm(np.asarray(tree[k]), 2, axis=(1, 2)) for k in ("w", "v")]
    return np.max(norms, axis=0) - BOUND


@pytest.mark.parametrize("name", ["ball", "box", "spectral"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_nearest_point(name, dtype, tolerance, getkey):
    """In the set, points of the set stay, and <x - P(x), y - P(x)> <= 0 for every y of the set.

    The last is what makes P(x) the nearest point of a convex set.
    """
    project = jax.jit(jax.vmap(projections()[name]))
    x = points(getkey(), dtype)
    image = project(x)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(image)} == {dtype}
    outside = violation(name, x) > 0
    assert 20 < outside.sum() < COUNT - 20, "points on both sides are needed"
    assert violation(name, image).max() < 10 * tolerance
    inside = ~outside
    if name != "spectral":
        np.testing.assert_array_equal(rows(image)[inside], rows(x)[inside])
    np.testing.assert_allclose(rows(image)[inside], rows(x)[inside], rtol=0, atol=tolerance)
    np.testing.assert_allclose(rows(project(image)), rows(image), rtol=0, atol=10 * tolerance)

    away = rows(x) - rows(image)
    members = rows(project(points(getkey(), dtype)))
    products = away @ members.T - np.sum(away * rows(image), axis=1)[:, None]
    scale = 1 + np.linalg.norm(away, axis=1)[:, None]
    assert (products / scale).max() < 100 * tolerance
    assert np.abs(products).max() > 1


@pytest.mark.parametrize("name", ["ball", "box", "spectral"])
def test_distances_do_not_grow(name, getkey):
    project = jax.vmap(projections()[name])
    x, y = points(getkey()), points(getkey())
    before = np.linalg.norm(rows(x) - rows(y), axis=1)
    after = np.linalg.norm(rows(project(x)) - rows(project(y)), axis=1)
    assert (after <= before * (1 + 1e-12)).all()
    assert after.min() > 0


def test_spectral_projection_leaves_vectors_alone(getkey):
    x = points(getkey())
    np.testing.assert_array_equal(jax.vmap(projections()["spectral"])(x)["b"], x["b"])


def test_projected_descent_stops_at_the_nearest_point_of_the_set(quadratic):
    """Minimum outside the ball: with H = I the limit is its projection."""
    problem, *_ = quadratic(np.eye(2), [[0.0, 0.0]])
    stepper = Projected(gradient_descent(0.3), BallProjection(jnp.array([3.0, 4.0]), 1.0))
    iterate = Iterate(jnp.array([3.0, 4.5]))
    step = eqx.filter_jit(stepper.step)
    for _ in range(60):
        iterate, _ = step(problem, iterate, ())
    np.testing.assert_allclose(iterate.theta, [2.4, 3.2], atol=1e-10)
    # By-products of the stepper inside come through.
    np.testing.assert_allclose(np.asarray(step(problem, iterate, ())[1]), 8.0)


def test_momentum_is_not_projected(quadratic):
    problem, *_ = quadratic(np.eye(2), [[0.0, 0.0]])
    inside = heavy_ball(3.9, 0.95)
    stepper = Projected(inside, BoxProjection(-0.5, 0.5))
    start = stepper.start(problem, jnp.array([0.4, -0.3]))
    moved, _ = stepper.step(problem, start, ())
    free, _ = inside.step(problem, start, ())
    np.testing.assert_array_equal(moved.theta, np.clip(free.theta, -0.5, 0.5))
    np.testing.assert_array_equal(moved.memory.trace, free.memory.trace)


def test_impossible_sets_are_refused():
    with pytest.raises(ValueError, match="radius must be a positive"):
        BallProjection(jnp.zeros(2), 0.0)
    with pytest.raises(ValueError, match="bound must be a positive"):
        SpectralProjection(-1.0)
    for low, high in [(1.0, 1.0), (2, 1), (float("nan"), 1.0)]:
        with pytest.raises(ValueError, match="a box needs low < high, got low="):
            BoxProjection(low, high)
