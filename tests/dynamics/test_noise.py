"""The gradient noise has the covariance that its model states: exactly, and in the draws."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    AbstractGradientNoise,
    Clock,
    ConstantNoise,
    DiagonalNoise,
    HessianAlignedNoise,
    IsotropicNoise,
    Iterate,
    LabelNoise,
    LangevinNoise,
    LowRankNoise,
    MinibatchNoise,
    gaussian_sgd,
    per_sample_square_norms,
)
from sgdsim.dynamics._per_sample import sum_over_rows
from sgdsim.problems import Network, OutputLoss, Problem
from sgdsim.testing._dense import (
    dense_batch_covariance,
    dense_covariance,
    dense_gradients,
    dense_hessian_aligned,
    dense_ito_correction,
    dense_label_noise,
    dense_low_rank,
    dense_root,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

ETA, BATCH, VARIANCE, STD, DRAWS = 0.3, 2.5, 0.4, 0.7, 20_000


class Case(NamedTuple):
    """A noise model with its variance times a factor, and its dense oracle."""

    noise: Callable[[float], AbstractGradientNoise]
    covariance: Callable[[Problem, Network], np.ndarray]
    squared: bool = False


def constant_matrix(theta):
    """Rank three, for twenty parameters."""
    factor = np.random.default_rng(8).normal(size=(ravel_pytree(theta)[0].size, 3))
    return factor @ factor.T


def constant_noise(factor):
    theta = Network((jnp.zeros((4, 3), float), jnp.zeros((2, 4), float)))
    return ConstantNoise.from_covariance(factor * constant_matrix(theta), theta)


def label_covariance(problem, theta):
    def relabelled(labels):
        rows = eqx.tree_at(lambda rows: rows.targets, problem.data, labels)
        return Problem(problem.losses, rows, problem.ridge)

    return STD**2 * dense_label_noise(relabelled, problem.data.targets, theta, BATCH)


def identity(theta):
    return np.eye(ravel_pytree(theta)[0].size)


CASES = {
    "minibatch": Case(
        lambda f: MinibatchNoise(BATCH / f), lambda p, t: dense_covariance(p, t) / BATCH
    ),
    "isotropic": Case(lambda f: IsotropicNoise(VARIANCE * f), lambda p, t: VARIANCE * identity(t)),
    "langevin": Case(
        lambda f: LangevinNoise(5.0 / f, ETA), lambda p, t: 2 / (5.0 * ETA) * identity(t)
    ),
    "hessian mse": Case(
        lambda f: HessianAlignedNoise(BATCH / f, "mse"),
        lambda p, t: dense_hessian_aligned(p, t, BATCH, "mse"),
        squared=True,
    ),
    "hessian cross-entropy": Case(
        lambda f: HessianAlignedNoise(BATCH / f, "cross_entropy"),
        lambda p, t: dense_hessian_aligned(p, t, BATCH, "cross_entropy"),
    ),
    "label, cross-entropy": Case(lambda f: LabelNoise(BATCH, STD * f**0.5), label_covariance),
    "label, mse": Case(lambda f: LabelNoise(BATCH, STD * f**0.5), label_covariance, squared=True),
    "diagonal": Case(
        lambda f: DiagonalNoise(BATCH / f),
        lambda p, t: np.diag(np.diag(dense_covariance(p, t))) / BATCH,
    ),
    "low rank": Case(
        lambda f: LowRankNoise(BATCH / f, rank=2),
        lambda p, t: dense_low_rank(dense_covariance(p, t) / BATCH, 2),
    ),
    "constant": Case(constant_noise, lambda p, t: constant_matrix(t)),
}
NAMES = sorted(CASES)
#: Models that need more than the one pass of the increment.
COSTLY = ["diagonal", "low rank"]
FUSED = [name for name in NAMES if name not in COSTLY]


@pytest.fixture(scope="module")
def problems(network_problem):
    """Give the network with its cross-entropy, or with half squared errors: two outputs."""
    problem, theta = network_problem
    squared = OutputLoss(
        lambda network, rows: network(rows.inputs),
        lambda outputs, rows: 0.5 * jnp.sum((outputs - rows.targets) ** 2, axis=1),
    )
    # Only one of the two has a penalty.
    return {False: problem, True: Problem(squared, problem.data)}, theta


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def zero_normals(noise, problem, theta):
    normals = noise.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
    return jax.tree.map(jnp.zeros_like, normals)


class UncentredNoise(MinibatchNoise):
    """A classic mistake: normals that are not centred, hence second moment for covariance."""

    def increment(self, problem, theta, normals, clock):
        h, eta, _ = clock
        losses, pullback = jax.vjp(problem.per_sample_losses, theta)
        scale = jnp.sqrt(eta * h / (problem.n * self.batch_size))
        return pullback(scale * normals - h / problem.n)[0], jnp.mean(losses)


@pytest.mark.parametrize("name", NAMES)
def test_root_increment_and_moments_against_dense_matrices(problems, getkey, name):
    case, theta = CASES[name], problems[1]
    problem, noise = problems[0][case.squared], case.noise(1.0)
    expected = case.covariance(problem, theta)
    flat, unravel = ravel_pytree(zero_normals(noise, problem, theta))
    xi = jax.random.normal(getkey(), flat.shape)
    h = ETA / 3

    def root(normals):
        return ravel_pytree(noise.root(problem, theta, unravel(normals)))[0]

    def increment(normals):
        clock = Clock(*jnp.asarray([h, ETA, ETA]))
        moved, risk = noise.increment(problem, theta, unravel(normals), clock)
        return ravel_pytree(moved)[0], risk

    @jax.jit
    def everything(xi):
        product = noise.covariance(problem, theta)
        unravel_theta = ravel_pytree(theta)[1]
        columns = jax.vmap(lambda v: ravel_pytree(product(unravel_theta(v)))[0])(identity(theta))
        diagonal = ravel_pytree(noise.diagonal(problem, theta))[0]
        roots = jax.vmap(root)(jnp.concatenate([xi[None], jnp.eye(xi.size)]))
        moves = jax.vmap(increment)(jnp.stack([xi, jnp.zeros_like(xi)]))
        return roots, moves, columns, diagonal, noise.trace(problem, theta)

    roots, (moves, risks), columns, diagonal, trace = everything(xi)
    noisy, matrix = roots[0], roots[1:].T
    assert_near(noisy, matrix @ xi)  # linear
    assert_near(matrix @ matrix.T, expected)
    assert_near(columns, expected)
    assert_near(trace, np.trace(expected))
    assert_near(diagonal, np.diag(expected))

    gradient = dense_gradients(problem, theta).mean(axis=0)
    assert_near(moves[1], -h * gradient)
    assert_near(moves[0], np.sqrt(h * ETA) * noisy - h * gradient)
    assert_near(risks[0], problem.empirical_risk(theta))


@pytest.mark.parametrize("name", ["minibatch", "langevin"])
def test_noisy_gradient_is_the_negative_increment_whatever_the_clock(problems, getkey, name):
    (by_loss, theta), noise = problems, CASES[name].noise(1.0)
    problem = by_loss[False]
    normals = noise.draw(getkey(), jnp.asarray(0), problem, theta)
    clock = Clock(*jnp.full(3, ETA))

    @jax.jit
    def both(normals):
        gradient = noise.gradient(problem, theta, normals)
        return *gradient, *noise.increment(problem, theta, normals, clock)

    gradient, risk, moved, same_risk = both(normals)
    np.testing.assert_allclose(-ETA * ravel_pytree(gradient)[0], ravel_pytree(moved)[0], rtol=1e-12)
    assert risk == same_risk


def test_langevin_noise_keeps_its_temperature_under_a_schedule(problems, getkey):
    """The increment at another learning rate than the model's own."""
    (by_loss, theta), noise = problems, LangevinNoise(5.0, ETA)
    normals = noise.draw(getkey(), jnp.asarray(0), by_loss[False], theta)
    h = 0.07
    clock = Clock(*jnp.asarray([h, ETA / 8, ETA / 8]))
    moved = jax.jit(lambda xi: noise.increment(by_loss[False], theta, xi, clock)[0])(normals)
    gradient = dense_gradients(by_loss[False], theta).mean(axis=0)
    diffusion = np.sqrt(2 * h / 5.0) * ravel_pytree(normals)[0]
    expected = diffusion - h * gradient
    np.testing.assert_allclose(ravel_pytree(moved)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("replacement", [True, False])
def test_minibatch_covariance_against_all_batches(problems, replacement):
    problem, theta = problems[0][False], problems[1]
    expected = dense_batch_covariance(problem, theta, 3, replacement)
    noise = MinibatchNoise(3, replacement)
    zero = zero_normals(noise, problem, theta)
    matrix = dense_root(lambda t, normals: noise.root(problem, t, normals), theta, zero)
    np.testing.assert_allclose(matrix @ matrix.T, expected, atol=1e-12)

    @jax.jit
    def moments(theta):
        product, diagonal = noise.covariance(problem, theta), noise.diagonal(problem, theta)
        trees = (product(theta), diagonal)
        return noise.trace(problem, theta), *(ravel_pytree(tree)[0] for tree in trees)

    trace, product, diagonal = moments(theta)
    np.testing.assert_allclose(trace, np.trace(expected), rtol=1e-12)
    np.testing.assert_allclose(diagonal, np.diag(expected), rtol=1e-11)
    np.testing.assert_allclose(product, expected @ ravel_pytree(theta)[0], atol=1e-12)
    other = dense_batch_covariance(problem, theta, 3, not replacement)
    assert np.abs(matrix @ matrix.T - other).max() > 1e-3


def test_a_batch_of_all_rows_has_no_noise_and_a_larger_one_is_refused(problems):
    problem, theta = problems[0][False], problems[1]
    whole = MinibatchNoise(problem.n, replacement=False)
    normals = whole.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
    whole_root = jax.jit(lambda normals: whole.root(problem, theta, normals))
    assert not ravel_pytree(whole_root(normals))[0].any()
    assert jax.jit(lambda theta: whole.trace(problem, theta))(theta) == 0
    more = MinibatchNoise(8, replacement=False)
    for method, *arguments in [(more.trace,), (more.diagonal,), (more.root, normals)]:
        with pytest.raises(ValueError, match=r"8 rows cannot be drawn without .* take at most 7"):
            jax.eval_shape(method, problem, theta, *arguments)


def test_the_exact_comparison_rejects_uncentred_normals(problems):
    problem, theta = problems[0][False], problems[1]
    noise = UncentredNoise(BATCH)

    def root(theta, normals):
        return noise.increment(problem, theta, normals, Clock(*jnp.ones(3)))[0]

    matrix = dense_root(root, theta, zero_normals(noise, problem, theta))
    covariance = CASES["minibatch"].covariance(problem, theta)
    assert np.abs(matrix @ matrix.T - covariance).max() > 1e-3


@pytest.mark.statistical
@pytest.mark.parametrize("name", [name for name in NAMES if name != "label, cross-entropy"])
def test_draws_have_mean_zero_and_the_covariance(problems, z_of_covariance, getkey, name):
    case, theta, key = CASES[name], problems[1], getkey()
    problem = problems[0][case.squared]
    gradient = dense_gradients(problem, theta).mean(axis=0)

    @jax.jit
    def noise_draws(noise):
        stepper = gaussian_sgd(ETA, noise)

        def draw(step):
            normals = stepper.draw(key, step, problem, theta)
            moved = stepper.step(problem, Iterate(theta), normals)[0].theta
            return (ravel_pytree(theta)[0] - ravel_pytree(moved)[0]) / ETA - gradient

        return jax.vmap(draw)(jnp.arange(DRAWS))

    def traced(noise):
        return jax.tree.map(lambda a: jnp.asarray(a, float), noise)

    covariance = case.covariance(problem, theta)
    right, wrong = case.noise(1.0), case.noise(0.9)
    assert np.abs(z_of_covariance(noise_draws(traced(right)), covariance)).max() < 5
    assert z_of_covariance(noise_draws(traced(wrong)), covariance).min() < -5


@pytest.mark.parametrize("name", FUSED)
def test_ito_correction_against_the_derivatives_of_the_dense_root(problems, name):
    case, theta = CASES[name], problems[1]
    problem, noise = problems[0][case.squared], case.noise(1.0)
    found = jax.jit(lambda theta: noise.ito_correction(problem, theta, ETA))(theta)
    zero = zero_normals(noise, problem, theta)
    expected = dense_ito_correction(lambda t, xi: noise.root(problem, t, xi), theta, zero, ETA)
    np.testing.assert_allclose(ravel_pytree(found)[0], expected, rtol=1e-10, atol=1e-12)
    assert noise.additive == (np.abs(expected).max() == 0)


@pytest.mark.parametrize("name", COSTLY)
def test_an_unknown_ito_correction_is_refused(problems, name):
    noise, (by_loss, theta) = CASES[name].noise(1.0), problems
    assert noise.brownian
    assert not noise.additive
    with pytest.raises(NotImplementedError, match=r"Ito correction of \w+ is not known"):
        noise.ito_correction(by_loss[False], theta, ETA)


@pytest.mark.parametrize("name", FUSED)
def test_one_backward_pass_per_increment(problems, name):
    """Count passes through the network while tracing."""
    case, theta = CASES[name], problems[1]
    problem, count = problems[0][case.squared], {"forward": 0, "backward": 0}

    @jax.custom_vjp
    def counted(outputs):
        return outputs

    def forward(outputs):
        count["forward"] += 1
        return outputs, None

    def backward(_, cotangent):
        count["backward"] += 1
        return (cotangent,)

    counted.defvjp(forward, backward)

    def outputs(theta, rows):
        return counted(problem.losses.outputs(theta, rows))

    watched = Problem(OutputLoss(outputs, problem.losses.loss), problem.data, problem.ridge)
    noise = case.noise(1.0)
    normals = noise.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
    clock = Clock(*jnp.full(3, ETA))
    jax.eval_shape(lambda t: noise.increment(watched, t, normals, clock), theta)
    assert count == {"forward": 1, "backward": 1}


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_single(problems, name):
    case = CASES[name]
    problem = problems[0][case.squared].astype(jnp.float32)
    theta = jax.tree.map(lambda a: a.astype(jnp.float32), problems[1])
    noise = jax.tree.map(lambda a: np.asarray(a, np.float64)[()], case.noise(1.0))
    clock = Clock(*jnp.full(3, ETA, jnp.float32))

    def everything(theta):
        normals = noise.draw(jax.random.key(0), jnp.asarray(0), problem, theta)
        return {
            "draw": normals,
            "root": noise.root(problem, theta, normals),
            "increment": noise.increment(problem, theta, normals, clock),
            "covariance": noise.covariance(problem, theta)(theta),
            "trace": noise.trace(problem, theta),
            "diagonal": noise.diagonal(problem, theta),
        }

    found = jax.eval_shape(everything, theta)
    dtypes = {name: {a.dtype for a in jax.tree.leaves(v)} for name, v in found.items()}
    assert dtypes == {name: {np.dtype("float32")} for name in found}


def test_the_trace_does_not_cancel_in_single_precision():
    """Gradients of size 30 with deviations of 0.003: the difference of mean squares is noise."""
    rows = 30 + 0.003 * np.random.default_rng(0).normal(size=(64, 30))
    rows = jnp.asarray(rows, jnp.float32)
    problem = Problem(lambda theta, z: 0.5 * jnp.sum((theta[None] - z) ** 2, axis=1), rows)
    theta = jnp.zeros(30, jnp.float32)
    found = MinibatchNoise(2).trace(problem, theta)
    assert found.dtype == jnp.float32
    expected = np.asarray(rows, np.float64).var(axis=0).sum() / 2
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    norms = per_sample_square_norms(problem, theta)
    plain = (jnp.mean(norms) - jnp.sum(jnp.mean(rows, axis=0) ** 2)) / 2
    assert abs(float(plain) / expected - 1) > 0.1


@pytest.mark.parametrize("block", [1, 3, 7, 125, None])
def test_per_sample_square_norms_do_not_depend_on_the_block(network_problem, block):
    problem, theta = network_problem
    expected = np.sum(dense_gradients(problem, theta) ** 2, axis=1)
    norms = jax.jit(lambda theta: per_sample_square_norms(problem, theta, block))
    np.testing.assert_allclose(norms(theta), expected, rtol=1e-12)


@pytest.mark.parametrize("block", [1, 3, 7, 125])
def test_sums_over_rows_do_not_depend_on_the_block(block):
    rows = {"a": jnp.arange(14.0).reshape(7, 2), "b": jnp.arange(7)}
    total = sum_over_rows(lambda row: {"s": row["a"] * row["b"]}, rows, block)
    expected = np.asarray(rows["b"]) @ np.asarray(rows["a"])
    np.testing.assert_allclose(total["s"], expected, rtol=1e-13)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
def test_impossible_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="batch_size must be a positive finite number, got"):
        MinibatchNoise(float(bad))
    with pytest.raises(ValueError, match="variance must be a positive finite number, got"):
        IsotropicNoise(float(bad))
