"""Semidefinite complementarity: closed forms, scipy, and the conditions themselves in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from sgdsim.dynamics import solve_complementarity, symmetric_basis

pytestmark = pytest.mark.usefixtures("x64")

solve = jax.jit(solve_complementarity)


def apply(operator, x):
    """The map on a matrix, entry by entry, without the basis of the library."""
    k = len(x)
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    coordinates = np.array([x[i, j] * (1 if i == j else 2**0.5) for i, j in pairs])
    image = np.zeros((k, k))
    for (i, j), value in zip(pairs, operator @ coordinates, strict=True):
        image[i, j] = image[j, i] = value * (1 if i == j else 2**-0.5)
    return image


def negative_part(offset):
    return np.linalg.norm(np.minimum(np.linalg.eigvalsh(offset), 0))


def random_problem(seed, k, room=0.0):
    """A well conditioned operator, and an offset with eigenvalues of both signs."""
    random = np.random.default_rng(seed)
    m = k * (k + 1) // 2
    factor = random.normal(size=(m, 2 * m)) * np.exp(random.normal(size=(m, 1)))
    offset = random.normal(size=(k, k))
    offset = (offset + offset.T) / 2 - np.outer(factor[:k, 0], factor[:k, 0])
    return factor @ factor.T / 2, offset - np.diag([3.0] + (k - 1) * [-room])


def test_the_basis_is_orthonormal_and_spans_the_symmetric_matrices():
    basis = symmetric_basis(4).reshape(10, 16)
    np.testing.assert_allclose(basis @ basis.T, np.eye(10), atol=1e-15)
    np.testing.assert_array_equal(basis, basis.reshape(10, 4, 4).swapaxes(1, 2).reshape(10, 16))


@pytest.mark.parametrize("offset", [-3.0, 0.0, 2.0])
def test_one_dimension_has_a_closed_form(offset):
    found = solve(jnp.array([[1.5]]), jnp.array([[offset]]))
    assert found.solution.item() == pytest.approx(max(0.0, -offset / 1.5), abs=1e-14)
    assert found.slack.item() == pytest.approx(max(0.0, offset), abs=1e-14)
    assert max(found.violation, found.gap) < 1e-14


@pytest.mark.parametrize("k", [2, 3, 5])
def test_under_the_identity_the_solution_is_the_positive_part(k):
    _, offset = random_problem(k, k)
    found = solve(jnp.eye(k * (k + 1) // 2), jnp.asarray(offset))
    values, vectors = np.linalg.eigh(-offset)
    positive = vectors * np.maximum(values, 0) @ vectors.T
    tolerance = 1e-7 * np.linalg.norm(offset)
    np.testing.assert_allclose(found.solution, positive, atol=float(tolerance))
    np.testing.assert_allclose(found.slack, positive + offset, atol=float(tolerance))


@pytest.mark.parametrize("seed", range(4))
def test_diagonal_problems_are_non_negative_least_squares(seed):
    """Signs of coordinates may be flipped, so the solution is diagonal too."""
    random = np.random.default_rng(seed)
    factor, target = random.normal(size=(5, 3)), random.normal(size=5)
    operator = np.eye(6)
    on_diagonal = [0, 3, 5]
    operator[np.ix_(on_diagonal, on_diagonal)] = factor.T @ factor
    found = solve(jnp.asarray(operator), jnp.asarray(np.diag(-factor.T @ target)))
    expected, _ = scipy.optimize.nnls(factor, target)
    np.testing.assert_allclose(found.solution, np.diag(expected), atol=1e-6)


@pytest.mark.parametrize(("k", "room"), [(2, 0.0), (3, 0.0), (3, 5.0), (5, 0.0), (5, 1000.0)])
def test_random_problems_satisfy_the_conditions(k, room):
    for seed in range(5):
        operator, offset = random_problem(seed, k, room)
        found = solve(jnp.asarray(operator), jnp.asarray(offset))
        x = np.asarray(found.solution)
        slack, scale = apply(operator, x) + offset, negative_part(offset)
        assert np.linalg.norm(x) > 1e-3, "nothing was asked for"
        np.testing.assert_allclose(found.slack, slack, atol=1e-9 * float(np.linalg.norm(offset)))
        assert np.linalg.eigvalsh(x)[0] > -1e-12
        assert np.linalg.eigvalsh(slack)[0] > -1e-6 * scale
        assert abs(np.sum(x * slack)) < 1e-6 * scale * np.linalg.norm(x)
        assert max(found.violation, found.gap) < 1e-6
        assert found.iterations < 40


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_solution_is_the_minimum_that_scipy_finds(k):
    operator, offset = random_problem(10 + k, k)
    lower = np.tril_indices(k)

    def unpack(entries):
        root = np.zeros((k, k))
        root[lower] = entries
        return root

    def objective(entries):
        root = unpack(entries)
        x = root @ root.T
        image = apply(operator, x)
        slope = 2 * (image + offset) @ root
        return np.sum(x * image) / 2 + np.sum(offset * x), slope[lower]

    best = scipy.optimize.minimize(
        objective, np.eye(k)[lower], jac=True, method="BFGS", options={"gtol": 1e-10}
    )
    expected = unpack(best.x) @ unpack(best.x).T
    found = solve(jnp.asarray(operator), jnp.asarray(offset))
    x = np.asarray(found.solution)
    value = np.sum(x * apply(operator, x)) / 2 + np.sum(offset * x)
    assert value < best.fun + 1e-8 * abs(best.fun)
    np.testing.assert_allclose(x, expected, atol=1e-4 * float(np.linalg.norm(expected)))


def test_with_room_everywhere_nothing_is_done():
    found = solve(jnp.eye(3), jnp.array([[2.0, 1.0], [1.0, 2.0]]))
    np.testing.assert_array_equal(found.solution, 0.0)
    assert (found.iterations, found.violation, found.gap) == (0, 0.0, 0.0)


@pytest.mark.parametrize("operator", [np.zeros((3, 3)), np.diag([1.0, 1.0, 0.0])])
def test_without_a_solution_the_certificate_says_so(operator):
    """The second diagonal entry is asked to rise, and nothing can raise it."""
    found = solve(jnp.asarray(operator), jnp.array([[1.0, 0.0], [0.0, -1.0]]))
    assert max(found.violation, found.gap) > 0.1


def test_problems_may_be_mapped_and_their_scale_does_not_matter():
    problems = [random_problem(seed, 3) for seed in range(4)]
    problems.append((np.eye(6), np.eye(3)))  # nothing to do, beside others that work
    operators, offsets = (jnp.asarray(np.stack(part)) for part in zip(*problems, strict=True))
    mapped = jax.jit(jax.vmap(solve_complementarity))(1e6 * operators, 1e-6 * offsets)
    for i, (operator, offset) in enumerate(problems):
        alone = solve(jnp.asarray(operator), jnp.asarray(offset))
        size = 1 + np.linalg.norm(alone.solution)
        np.testing.assert_allclose(
            1e12 * mapped.solution[i], alone.solution, atol=1e-6 * float(size)
        )


def test_single_precision_stays_single_and_comes_close():
    operator, offset = random_problem(0, 3)
    found = solve(jnp.asarray(operator, jnp.float32), jnp.asarray(offset, jnp.float32))
    assert found.solution.dtype == found.gap.dtype == jnp.float32
    x = np.asarray(found.solution, float)
    slack, scale = apply(operator, x) + offset, negative_part(offset)
    assert np.linalg.eigvalsh(slack)[0] > -1e-3 * scale
    assert abs(np.sum(x * slack)) < 1e-3 * scale * np.linalg.norm(x)


def test_shapes_must_belong_together():
    with pytest.raises(ValueError, match=r"operator must have the shape \(3, 3\) for an offset"):
        solve_complementarity(jnp.eye(4), jnp.eye(2))
    with pytest.raises(ValueError, match="k must be a positive integer"):
        symmetric_basis(0)
