"""Every operator against a dense matrix made another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.curvature import (
    block_product,
    chunked_hessian_product,
    eigenpairs,
    empirical_fisher_product,
    fisher_product,
    flat_product,
    gauss_newton_product,
    gaussian_fisher,
    hessian_product,
    noise_covariance_product,
    preconditioned_product,
    softmax_fisher,
)
from sgdsim.problems import OutputLoss, Problem
from sgdsim.testing._dense import (
    dense_covariance,
    dense_gradients,
    dense_hessian,
    dense_hessian_aligned,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

N, CLASSES = 7, 3


def dense(product, like) -> np.ndarray:
    """Matrix of an operator, column by column, compiled with the operator inside."""
    size = ravel_pytree(like)[0].size
    return np.asarray(jax.jit(jax.vmap(flat_product(product, like)))(jnp.eye(size))).T


def outputs(theta, rows):
    hidden = jnp.tanh(rows["inputs"] @ theta["first"] + theta["bias"][None])
    return hidden @ theta["last"]


def cross_entropy(logits, rows):
    return -jnp.sum(rows["targets"] * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def half_squares(means, rows):
    return 0.5 * jnp.sum((means - rows["targets"]) ** 2, axis=-1)


def quartic(means, rows):
    """A loss whose second derivative depends on the label."""
    return jnp.sum((means - rows["targets"]) ** 4, axis=-1)


LOSSES = {"cross-entropy": cross_entropy, "half squares": half_squares, "quartic": quartic}
FISHER = {"cross-entropy": softmax_fisher, "half squares": gaussian_fisher}


@pytest.fixture(scope="module")
def theta(x64):
    random = np.random.default_rng(3)
    shapes = {"first": (2, 4), "bias": (4,), "last": (4, CLASSES)}
    return {name: jnp.asarray(random.normal(size=shape)) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def problems(x64):
    random = np.random.default_rng(4)
    rows = {
        "inputs": jnp.asarray(random.normal(size=(N, 2))),
        "targets": jnp.asarray(np.eye(CLASSES)[random.integers(0, CLASSES, N)]),
    }
    return {
        name: Problem(OutputLoss(outputs, loss), rows, jnp.asarray(0.3))
        for name, loss in LOSSES.items()
    }


@pytest.mark.parametrize("loss", LOSSES)
def test_hessian(problems, theta, loss):
    found = dense(hessian_product(problems[loss].empirical_risk, theta), theta)
    np.testing.assert_allclose(found, dense_hessian(problems[loss], theta), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, N - 1, N, N + 5])
def test_chunks_of_any_size_give_the_hessian(problems, theta, chunk):
    problem = problems["quartic"]
    found = dense(chunked_hessian_product(problem, theta, chunk), theta)
    np.testing.assert_allclose(found, dense_hessian(problem, theta), rtol=1e-12, atol=1e-11)


def test_memory_of_chunks_does_not_grow_with_the_rows():
    def temporary_bytes(n: int, chunk: int) -> int:
        data = (jnp.ones((n, 50)), jnp.ones(n))
        loss = lambda t, rows: jnp.tanh(jnp.tanh(rows[0] @ t[0]) @ t[1]) * rows[1]  # noqa: E731
        theta = (jnp.ones((50, 40)), jnp.ones(40))

        def product(data, v):
            return chunked_hessian_product(Problem(loss, data), theta, chunk)(v)

        compiled = jax.jit(product).lower(data, theta).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporary_bytes(6400, 64) < 1.3 * temporary_bytes(640, 64)
    assert temporary_bytes(6400, 6400) > 5 * temporary_bytes(6400, 64)


@pytest.mark.parametrize("chunk", [0, -3, True])
def test_chunks_that_are_none(problems, theta, chunk):
    with pytest.raises(ValueError, match="chunk must be a positive integer"):
        chunked_hessian_product(problems["quartic"], theta, chunk)


@pytest.mark.parametrize("loss", LOSSES)
def test_gauss_newton_matrix(problems, theta, loss):
    """From Jacobians and loss Hessians of single rows; not equal to the Hessian here."""
    problem = problems[loss]
    bare = Problem(problem.losses, problem.data)
    ridge = 0.3 * np.eye(ravel_pytree(theta)[0].size)
    expected = dense_hessian_aligned(bare, theta, 1.0, "cross_entropy") + ridge
    found = dense(gauss_newton_product(problem, theta), theta)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11)
    assert np.abs(found - dense_hessian(problem, theta)).max() > 1e-3


def test_gauss_newton_matrix_of_a_linear_model_in_closed_form(problems):
    """Half squares of ``X W``: the Kronecker product of X'X/n and the identity."""
    data = problems["half squares"].data
    linear = OutputLoss(lambda theta, rows: rows["inputs"] @ theta, half_squares)
    problem = Problem(linear, data)
    x = np.asarray(data["inputs"])
    found = dense(gauss_newton_product(problem, jnp.zeros((2, CLASSES))), jnp.zeros((2, CLASSES)))
    np.testing.assert_allclose(found, np.kron(x.T @ x / N, np.eye(CLASSES)), atol=1e-13)


@pytest.mark.parametrize("loss", FISHER)
def test_fisher_matrix_by_summing_over_all_labels(problems, theta, loss):
    """Expectation over labels of the model of the outer product of the gradient.

    Normal labels of the half squares are replaced by the six points at distance sqrt(3) along the
    axes, which have the same covariance: the outer product is quadratic in the label.
    """
    problem = problems[loss]
    means = np.asarray(outputs(theta, problem.data))
    expected = 0.0
    for row in range(N):
        if loss == "cross-entropy":
            labels = np.eye(CLASSES)
            weights = np.exp(means[row]) / np.exp(means[row]).sum()
        else:
            labels = means[row] + np.sqrt(CLASSES) * np.concatenate(
                [np.eye(CLASSES), -np.eye(CLASSES)]
            )
            weights = np.full(2 * CLASSES, 1 / (2 * CLASSES))
        data = {
            "inputs": jnp.repeat(problem.data["inputs"][row][None], len(labels), axis=0),
            "targets": jnp.asarray(labels),
        }
        gradients = dense_gradients(Problem(problem.losses, data), theta)
        expected = expected + np.einsum("y,yp,yq->pq", weights, gradients, gradients) / N
    found = dense(fisher_product(problem, theta, FISHER[loss]), theta)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    # The statement of the documentation: without the ridge, the Gauss-Newton matrix is the same.
    newton = dense(gauss_newton_product(Problem(problem.losses, problem.data), theta), theta)
    np.testing.assert_allclose(found, newton, rtol=0, atol=1e-12)


def test_empirical_fisher_is_another_matrix(problems, theta):
    problem = problems["cross-entropy"]
    gradients = dense_gradients(problem, theta)
    found = dense(empirical_fisher_product(problem, theta), theta)
    np.testing.assert_allclose(found, gradients.T @ gradients / N, rtol=0, atol=1e-12)
    fisher = dense(fisher_product(problem, theta, softmax_fisher), theta)
    assert np.abs(found - fisher).max() > 1e-2


@pytest.mark.parametrize("loss", LOSSES)
def test_noise_covariance(problems, theta, loss):
    problem = problems[loss]
    found = dense(noise_covariance_product(problem, theta), theta)
    exact = dense_covariance(problem, theta)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


def test_noise_covariance_beside_a_large_mean_gradient():
    """Single precision: subtracting the outer product of the mean would leave no digit."""
    rows = jnp.asarray([1.0, 2.0, 3.0], jnp.float32)
    problem = Problem(lambda theta, z: (1e4 + z) * theta, rows)
    one = jnp.asarray(1.0, jnp.float32)
    found = noise_covariance_product(problem, 0 * one)(one)
    np.testing.assert_allclose(found, 2 / 3, rtol=1e-3)


@pytest.mark.parametrize(
    "select",
    [
        {"first": True, "bias": False, "last": False},
        {"first": False, "bias": True, "last": True},
        {"first": np.arange(8).reshape(2, 4) % 3 == 0, "bias": False, "last": True},
    ],
    ids=["one leaf", "two leaves", "entries"],
)
def test_blocks(problems, theta, select):
    problem = problems["half squares"]
    if not isinstance(select["first"], bool):
        select = {**select, "first": jnp.asarray(select["first"])}
    filled = {name: np.broadcast_to(select[name], theta[name].shape) for name in theta}
    inside = np.asarray(ravel_pytree(filled)[0], bool)
    product = hessian_product(problem.empirical_risk, theta)
    found = dense(block_product(product, theta, select), theta)
    expected = np.where(np.outer(inside, inside), dense_hessian(problem, theta), 0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.count_nonzero(inside) < inside.size


def test_a_block_of_whole_subtrees():
    theta = {"a": (jnp.ones(2), jnp.ones(1)), "b": jnp.ones(2)}
    block = block_product(lambda v: v, theta, {"a": True, "b": False})
    assert ravel_pytree(block(theta))[0].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_preconditioned_hessian_has_the_spectrum_of_the_unsymmetric_matrix(problems, theta):
    problem = problems["cross-entropy"]
    size = ravel_pytree(theta)[0].size
    diagonal = np.random.default_rng(5).uniform(0.1, 3.0, size)
    preconditioner = ravel_pytree(theta)[1](jnp.asarray(diagonal))
    product = preconditioned_product(hessian_product(problem.empirical_risk, theta), preconditioner)
    found = dense(product, theta)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12)
    exact = np.linalg.eigvals(dense_hessian(problem, theta) / diagonal[:, None])
    np.testing.assert_allclose(np.linalg.eigvalsh(found), np.sort(exact.real), atol=1e-10)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_a_preconditioner_that_is_not_positive_gives_nan(bad):
    product = preconditioned_product(lambda v: v, jnp.asarray([1.0, bad]))
    found = eigenpairs(product, jnp.ones(2))
    assert np.isnan(found.values).all()
    assert np.isnan(found.residuals).all()


@pytest.mark.parametrize(
    ("product", "what"),
    [
        (gauss_newton_product, "Gauss-Newton"),
        (lambda problem, theta: fisher_product(problem, theta, softmax_fisher), "Fisher"),
    ],
)
def test_losses_that_hide_their_outputs(product, what):
    problem = Problem(lambda theta, z: z * theta**2, jnp.ones(3))
    with pytest.raises(ValueError, match=f"The {what} matrix needs the outputs of the model"):
        product(problem, jnp.asarray(1.0))


def test_operators_keep_single_precision(problems, theta):
    problem = problems["cross-entropy"].astype(jnp.float32)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), theta)
    for product in [
        hessian_product(problem.empirical_risk, single),
        chunked_hessian_product(problem, single, 3),
        gauss_newton_product(problem, single),
        fisher_product(problem, single, softmax_fisher),
        empirical_fisher_product(problem, single),
        noise_covariance_product(problem, single),
        preconditioned_product(lambda v: v, jax.tree.map(jnp.ones_like, single)),
        block_product(lambda v: v, single, {"first": True, "bias": False, "last": True}),
    ]:
        assert {leaf.dtype for leaf in jax.tree.leaves(product(single))} == {jnp.dtype("float32")}


def test_one_compilation_serves_other_numbers(problems, theta):
    """Data, ridge and parameters are traced, also inside a scan."""
    compilations = 0

    @jax.jit
    def measure(problem, theta):
        nonlocal compilations
        compilations += 1

        def probe(total, scale):
            point = jax.tree.map(lambda a: scale * a, theta)
            product = gauss_newton_product(problem, point)
            return total, eigenpairs(product, theta, tolerance=1e-6).values[0]

        return jax.lax.scan(probe, 0.0, jnp.array([1.0, 0.5]))[1]

    problem = problems["cross-entropy"]
    other = Problem(problem.losses, problem.data, jnp.asarray(0.0))
    first, second = measure(problem, theta), measure(other, theta)
    np.testing.assert_allclose(first - second, 0.3, atol=1e-4)
    assert compilations == 1
