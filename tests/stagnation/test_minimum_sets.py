"""Nearest minima against exact projections, normal spaces against dense Hessians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim._errors import SgdsimError
from sgdsim.problems import DeepLinear, DoubleWell, Hyperbola, Sphere
from sgdsim.stagnation import hessian_nullity, nearest_minimum, normal_space

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


def flat_rows(tree):
    leaves = [np.asarray(leaf).reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves, axis=1)


def oblique(landscape, point, offset, distances):
    """Points at given distances from a minimum, along a direction that is not normal."""
    return jax.tree.map(
        lambda p, o: p[None] + distances.reshape(-1, *[1] * p.ndim) * o[None], point, offset
    )


@pytest.mark.parametrize("name", ["hyperbola", "factors"])
def test_projection_and_the_error_of_the_quench_alone(name):
    """The gradient flow ends O(d^2) away from the nearest point; refinement removes the error."""
    if name == "hyperbola":
        landscape = Hyperbola(1.0)
        point, normal = jnp.array([1.6, 1 / 1.6]), jnp.array([1 / 1.6, 1.6])
        offset = normal / jnp.linalg.norm(normal)
    else:
        landscape = DeepLinear([[1.2]], hidden=(3,))
        first, second = jnp.array([[1.0], [0.5], [-0.4]]), jnp.array([[0.8, 0.6, -0.25]])
        point = (first, second)
        length = jnp.sqrt(jnp.sum(first**2) + jnp.sum(second**2))
        offset = (second.T / length, first.T / length)
    distances = jnp.array([0.05, 0.1, 0.2, 0.4])
    thetas = oblique(landscape, point, offset, distances)
    found = nearest_minimum(landscape.risk, thetas)
    exact = jax.vmap(landscape.project)(thetas)
    assert found.is_nearest.all(), found.reason
    np.testing.assert_allclose(flat_rows(found.theta), flat_rows(exact), atol=1e-7)
    np.testing.assert_allclose(found.distance, jax.vmap(landscape.distance)(thetas), rtol=1e-9)
    # Two sides of a right triangle: the error of the quench along the set is of second order.
    error = np.sqrt(found.quench_distance**2 - found.distance**2)
    slopes = np.diff(np.log(error)) / np.log(2)
    np.testing.assert_allclose(slopes[0], 2.0, atol=0.25)
    assert error[-1] > 1e-3

    known = nearest_minimum(landscape, thetas)
    np.testing.assert_allclose(flat_rows(known.theta), flat_rows(exact), atol=1e-12)
    assert np.isnan(known.quench_distance).all()


def test_sphere_from_inside_and_outside():
    """The flow is radial here, so the quench is exact already and stays so."""
    sphere = Sphere(2.0, dimension=4)
    thetas = jnp.array([[0.3, 0.1, -0.2, 0.1], [2.0, 1.0, 0.0, -3.0]])
    found = nearest_minimum(sphere.risk, thetas)
    np.testing.assert_allclose(found.theta, jax.vmap(sphere.project)(thetas), atol=1e-8)
    assert found.is_nearest.all()
    np.testing.assert_allclose(found.tangent, 0, atol=1e-8)


def test_deep_linear_network_is_nearest_among_its_neighbours():
    """No closed form: theta - p is normal, and no factorisation near p is nearer."""
    landscape = DeepLinear(jnp.array([[1.0, 0.3], [-0.2, 0.7]]), hidden=(2, 2))
    random = np.random.default_rng(0)
    theta = jax.tree.map(
        lambda leaf: jnp.asarray(leaf + 0.15 * random.normal(size=leaf.shape)), landscape.minima
    )
    found = nearest_minimum(landscape, theta)
    assert found.is_nearest.all(), found.reason
    assert found.distance[0] < found.quench_distance[0]
    point = jax.tree.map(lambda leaf: leaf[0], found.theta)
    dense = np.asarray(
        jax.hessian(lambda v: landscape.risk(unflatten(v, point)))(
            jnp.asarray(flat_rows(found.theta)[0])
        )
    )
    values, vectors = np.linalg.eigh(dense)
    displacement = flat_rows(theta)[0] - flat_rows(found.theta)[0]
    null = vectors[:, values < 1e-6 * values[-1]]
    assert null.shape[1] == 8
    assert np.linalg.norm(null.T @ displacement) < 1e-7
    starts = jax.tree.map(
        lambda leaf: leaf + 0.02 * jnp.asarray(random.normal(size=(20, *leaf.shape[1:]))),
        found.theta,
    )
    neighbours = nearest_minimum(landscape, starts, max_iterations=1)
    distances = np.linalg.norm(flat_rows(neighbours.theta) - flat_rows(theta), axis=1)
    assert distances.min() > found.distance[0]


def unflatten(vector, like):
    return ravel_pytree(like)[1](vector)


def test_normal_space_sees_multiple_eigenvalues():
    """A 2 x 2 factorisation has eigenvalues of multiplicity two; one Lanczos run sees one each."""
    landscape = DeepLinear(2.0 * jnp.eye(3), hidden=(3,))
    theta = jax.tree.map(lambda leaf: leaf[0], landscape.minima)
    normal = normal_space(landscape.risk, theta)
    vector, unravel = ravel_pytree(theta)
    dense = np.asarray(jax.hessian(lambda v: landscape.risk(unravel(v)))(vector))
    exact = np.linalg.eigvalsh(dense)[::-1]
    assert normal.vectors.shape == (9, 18)
    assert normal.nullity == hessian_nullity(landscape.risk, theta) == 9
    np.testing.assert_allclose(normal.eigenvalues, exact[:9], rtol=1e-8)
    np.testing.assert_allclose(normal.vectors @ normal.vectors.T, np.eye(9), atol=1e-9)
    np.testing.assert_allclose(
        normal.vectors @ dense, normal.eigenvalues[:, None] * normal.vectors, atol=1e-6
    )
    assert len(np.unique(np.round(exact[:9], 6))) < 9
    assert normal.rest < 1e-9


def test_no_flat_direction_and_nothing_but_flat_directions():
    assert hessian_nullity(DoubleWell(1.0, 2.0).risk, jnp.array([1.0, 0.0])) == 0
    assert hessian_nullity(lambda theta: 0.0 * jnp.sum(theta**2), jnp.ones(3)) == 3


def test_a_crowd_of_eigenvalues_is_not_resolved_silently():
    curvatures = jnp.linspace(1.0, 2.0, 400)
    with pytest.raises(SgdsimError, match="normal space is not resolved"):
        normal_space(lambda theta: jnp.sum(curvatures * theta**2), jnp.zeros(400), depth=3)


def test_a_saddle_has_no_nearest_minimum():
    found = nearest_minimum(DoubleWell(1.0, 2.0).risk, jnp.array([[0.0, 0.5], [0.4, 0.1]]))
    assert found.is_nearest.tolist() == [False, True]
    assert "eigenvalue -1.00e+00" in found.reason[0]
    np.testing.assert_allclose(found.theta[1], [1.0, 0.0], atol=1e-8)


def test_refusals():
    with jax.enable_x64(False), pytest.raises(ValueError, match="double precision"):
        nearest_minimum(Sphere(1.0).risk, jnp.ones((1, 2)))
    with pytest.raises(ValueError, match=r"tolerance must be below 1, got 2\.0"):
        normal_space(Sphere(1.0).risk, jnp.ones(2), tolerance=2.0)
    with pytest.raises(ValueError, match="max_iterations must be a positive"):
        nearest_minimum(Sphere(1.0).risk, jnp.ones((1, 2)), max_iterations=0)
