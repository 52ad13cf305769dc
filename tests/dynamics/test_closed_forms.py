"""Published closed forms, as what our steppers do: edges, stationary laws, catapult.

The numbers C2 to C15 are those of the table of closed forms in the literature on the edge of
stability. Where a process is linear, its exact second moments follow from the Jacobians of our
steps on every possible batch, without simulation.
"""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    SVAG,
    ConstantNoise,
    Iterate,
    MinibatchGradient,
    MinibatchNoise,
    adam,
    gaussian_sgd,
    gradient_descent,
    heavy_ball,
    minibatch_sgd,
    nesterov,
    rmsprop,
)
from sgdsim.problems import Problem
from sgdsim.stability import (
    adam_threshold,
    critical_curvature_variance,
    heavy_ball_threshold,
    nesterov_threshold,
    rmsprop_threshold,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


# ------------------------------------------------------------------ linear processes, exactly
def affine_maps(stepper, problem, iterate, randomness):
    """Jacobians and images of zero of a step, one for every entry of ``randomness``.

    The state is everything real in the iterate: parameters and memory.
    """
    real, rest = eqx.partition(iterate, eqx.is_inexact_array)
    state, unravel = ravel_pytree(real)

    def step(state, draw):
        moved, _ = stepper.step(problem, eqx.combine(unravel(state), rest), draw)
        return ravel_pytree(eqx.filter(moved, eqx.is_inexact_array))[0]

    @jax.jit
    @jax.vmap
    def both(draw):
        return jax.jacfwd(step)(state, draw), step(jnp.zeros_like(state), draw)

    jacobians, images = both(randomness)
    return np.asarray(jacobians), np.asarray(images)


def spectral_radius(matrix) -> float:
    return np.abs(np.linalg.eigvals(matrix)).max()


def second_moment_map(jacobians) -> np.ndarray:
    return np.mean([np.kron(a, a) for a in jacobians], axis=0)


def stationary_covariance(jacobians, images) -> np.ndarray:
    """Solve S = E[A S A'] + E[b b'] for a process with mean zero."""
    size = jacobians.shape[-1]
    source = np.einsum("ki,kj->ij", images, images) / len(images)
    solution = np.linalg.solve(np.eye(size**2) - second_moment_map(jacobians), source.ravel())
    return solution.reshape(size, size)


def every_batch(rows: int, batch_size: int):
    return jnp.asarray(list(itertools.product(range(rows), repeat=batch_size)))


@eqx.filter_jit
def run(stepper, problem, start, steps):
    """Final iterate and the risks of a deterministic process."""

    def body(iterate, _):
        moved, risk = stepper.step(problem, iterate, ())
        assert risk is not None
        return moved, risk

    return jax.lax.scan(body, start, None, length=steps)


def growth_of_run(stepper, problem, start, steps) -> float:
    """Distance from the minimum at 0 after twice as many steps, relative to that after once."""
    halfway, _ = run(stepper, problem, start, steps)
    final, _ = run(stepper, problem, halfway, steps)
    return float(jnp.linalg.norm(final.theta) / jnp.linalg.norm(halfway.theta))


NO_DRAW = jnp.zeros((1, 0))  # one step whose randomness is empty

CURVATURES = np.array([0.05, 0.4, 1.0])  # relative to the top one


@pytest.mark.parametrize(
    ("stepper", "edge"),
    [
        (heavy_ball(0.05, 0.9), heavy_ball_threshold(0.05, 0.9)),
        (nesterov(0.05, 0.9), nesterov_threshold(0.05, 0.9)),
        (heavy_ball(0.3, 0.0), 2 / 0.3),
    ],
)
def test_edges_of_momentum(quadratic, stepper, edge):
    """C2: spectral radius of the step one at the edge, and a run grows just above it."""
    growth = []
    for relative in (1 - 1e-3, 1.0, 1 + 1e-3):
        problem, *_ = quadratic(np.diag(relative * edge * CURVATURES), np.zeros((1, 3)))
        start = stepper.start(problem, jnp.ones(3))
        jacobians, _ = affine_maps(stepper, problem, start, NO_DRAW)
        radius = spectral_radius(jacobians[0])
        if relative == 1.0:
            assert abs(radius - 1) < 1e-9
        else:
            assert (radius > 1) == (relative > 1)

        growth.append(growth_of_run(stepper, problem, start, 1000))
    assert growth[0] < 0.5
    np.testing.assert_allclose(growth[1], 1, rtol=1e-6)
    assert growth[2] > 2


@pytest.mark.parametrize(
    ("stepper", "edge", "decay"),
    [
        (adam(0.02, 0.9, 0.99, 0.1), adam_threshold(0.02, 0.9), 0.99),
        (adam(0.02, 0.5, 0.99, 0.1), adam_threshold(0.02, 0.5), 0.99),
        (rmsprop(0.02, 0.95, 0.1), rmsprop_threshold(0.02), 0.95),
    ],
)
def test_preconditioned_edges(quadratic, stepper, edge, decay):
    """C15: with any second moments, the edge is that of the preconditioned Hessian."""
    random = np.random.default_rng(1)
    basis, _ = np.linalg.qr(random.normal(size=(3, 3)))
    hessian, moments = basis * CURVATURES @ basis.T, np.array([0.1, 1.0, 7.0])
    preconditioner = np.sqrt(decay * moments) + 0.1  # one step later, epsilon outside the root
    edge_of_hessian = edge / spectral_radius(hessian / preconditioner[:, None])
    for relative in (1 - 1e-3, 1.0, 1 + 1e-3):
        problem, *_ = quadratic(relative * edge_of_hessian * hessian, np.zeros((1, 3)))
        start = stepper.start(problem, jnp.zeros(3))
        memory = start.memory._replace(nu=jnp.asarray(moments))
        if isinstance(memory, optax.ScaleByAdamState):  # its corrections have worn off
            memory = memory._replace(count=jnp.asarray(1_000_000, jnp.int32))
        jacobians, _ = affine_maps(stepper, problem, start._replace(memory=memory), NO_DRAW)
        radius = spectral_radius(jacobians[0])
        assert abs(radius - 1) < 1e-9 if relative == 1.0 else (radius > 1) == (relative > 1)


@pytest.mark.parametrize(
    ("stepper", "edge"),
    [
        (adam(0.02, 0.9, 0.99, 1e8), adam_threshold(0.02, 0.9)),
        (rmsprop(0.02, 0.95, 1e8), rmsprop_threshold(0.02)),
    ],
)
def test_runs_with_a_frozen_preconditioner(quadratic, stepper, edge):
    """C15: a huge epsilon freezes the preconditioner; Adam's 38/eta is not RMSProp's edge."""
    growth = []
    for relative in (1 - 1e-3, 1 + 1e-3):
        problem, *_ = quadratic([[relative * edge * 1e8]], [[0.0]])

        # So small a start that the root of the second moment stays far below epsilon.
        start = stepper.start(problem, jnp.full((1,), 1e-80))
        growth.append(growth_of_run(stepper, problem, start, 200))
    assert growth[0] < 0.9
    assert growth[1] > 1.1


@pytest.fixture(scope="module")
def coin(quadratic):
    """Rows at -1 and 1, curvature 1: batches of one row have gradient noise of variance 1."""
    return quadratic([[1.0]], [[-1.0], [1.0]])[0]


def exact_variance(stepper, problem, batch_size=1) -> float:
    start = stepper.start(problem, jnp.zeros(1))
    batches = every_batch(problem.n, batch_size)
    return stationary_covariance(*affine_maps(stepper, problem, start, batches))[0, 0]


@pytest.mark.parametrize(("eta", "variance"), [(1.5, 3.0), (1.8, 9.0)])
def test_stationary_variance_of_sgd(coin, eta, variance):
    """C3 and C4: eta s^2/(lambda(2 - eta lambda)); the SDE has eta s^2/(2 lambda)."""
    np.testing.assert_allclose(exact_variance(minibatch_sgd(eta, 1), coin), variance, rtol=1e-12)
    np.testing.assert_allclose(
        exact_variance(minibatch_sgd(eta, 3), coin, 3), variance / 3, rtol=1e-12
    )


def test_stationary_variance_of_heavy_ball(coin):
    """C5: 21.1 at eta = 2, b = 0.9, where the SDE has 10; Nesterov's is another one."""
    eta, b = 2.0, 0.9
    expected = (1 + b) * eta / ((1 - b) * (2 * (1 + b) - eta))
    np.testing.assert_allclose(expected, 21.1, rtol=1e-3)
    stepper = heavy_ball(eta, b, MinibatchGradient(1))
    np.testing.assert_allclose(exact_variance(stepper, coin), expected, rtol=1e-12)


def ends(stepper, problem, start, steps, key, count):
    """Final points of many runs through ``draw`` and ``step``."""

    def path(key):
        def body(iterate, step):
            draw = stepper.draw(key, step, problem, iterate.theta)
            return stepper.step(problem, iterate, draw)[0], None

        return jax.lax.scan(body, stepper.start(problem, start), jnp.arange(steps))[0].theta

    return np.asarray(jax.jit(jax.vmap(path))(jax.random.split(key, count)))


def z_of_variance(samples, variance) -> float:
    """Standard error from the samples, since two-point noise is not Gaussian."""
    squares = samples[:, 0] ** 2
    return (squares.mean() - variance) / (squares.std() / math.sqrt(len(squares)))


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("stepper", "variance", "of_sde"),
    [
        (minibatch_sgd(1.5, 1), 3.0, 0.75),
        (minibatch_sgd(1.8, 1), 9.0, 0.9),
        (heavy_ball(2.0, 0.9, MinibatchGradient(1)), 3.8 / 0.18, 10.0),
    ],
)
def test_simulated_stationary_variance(coin, stepper, variance, of_sde, getkey):
    """C3 to C5 once more, with the batches that the steppers draw."""
    samples = ends(stepper, coin, jnp.zeros(1), 150, getkey(), 20_000)
    assert abs(z_of_variance(samples, variance)) < 5
    for wrong in (of_sde, 0.9 * variance):
        assert abs(z_of_variance(samples, wrong)) > 5


@pytest.mark.statistical
@pytest.mark.parametrize("l", [1, 4, 16])
def test_svag_goes_from_sgd_to_the_sde(coin, l, getkey):
    """Steps of eta/l with the noise of the SDE: variance eta s^2/(lambda(2 - eta lambda/l))."""
    eta, steps = 1.8, 40 if l == 1 else 8

    def variance(l):
        return eta / (2 - eta / l)

    samples = ends(SVAG(eta, 1, l), coin, jnp.zeros(1), steps, getkey(), 30_000)
    assert abs(z_of_variance(samples, variance(l))) < 5
    # At l = 16 the SDE itself, l = infinity, is 6 % away.
    for other in {1, 4, 16, math.inf} - {l}:
        assert abs(z_of_variance(samples, variance(other))) > 5


@pytest.fixture(scope="module")
def anisotropic(quadratic):
    """Curvatures 0.3, 1.0, 1.9 in a rotated basis, six rows: (problem, H, noise of a row)."""
    random = np.random.default_rng(5)
    basis, _ = np.linalg.qr(random.normal(size=(3, 3)))
    hessian = basis * np.array([0.3, 1.0, 1.9]) @ basis.T
    return quadratic(hessian, random.normal(size=(6, 3)))


def lyapunov_closed_form(hessian, noise, eta, finite=1.0):
    """S_ij = eta Sigma_ij/(h_i + h_j - eta h_i h_j) in the eigenbasis of H."""
    h, basis = np.linalg.eigh(hessian)
    denominator = h[:, None] + h - finite * eta * np.outer(h, h)
    return basis @ (eta * (basis.T @ noise @ basis) / denominator) @ basis.T


ANISOTROPIC = {
    "gaussian sgd": (gaussian_sgd(0.9, MinibatchNoise(2.0)), 1 / 2),
    "sgd": (minibatch_sgd(0.9, 2), 1 / 2),
    "sgd without replacement": (minibatch_sgd(0.9, 2, replacement=False), 1 / 2 * 4 / 5),
    "constant noise": (None, 1 / 2),
}


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ANISOTROPIC)
def test_stationary_covariance_on_an_anisotropic_quadratic(
    anisotropic, z_of_covariance, kind, getkey
):
    problem, hessian, covariance = anisotropic
    stepper, factor = ANISOTROPIC[kind]
    noise, eta = factor * covariance, 0.9
    if kind == "constant noise":
        stepper = gaussian_sgd(eta, ConstantNoise(jnp.asarray(np.linalg.cholesky(noise))))
    samples = ends(stepper, problem, jnp.zeros(3), 60, getkey(), 20_000)
    expected = lyapunov_closed_form(hessian, noise, eta)
    np.testing.assert_allclose(  # the closed form solves the equation
        expected,
        (np.eye(3) - eta * hessian) @ expected @ (np.eye(3) - eta * hessian) + eta**2 * noise,
        atol=1e-14,
    )
    assert np.abs(z_of_covariance(samples, expected, gaussian=False)).max() < 5
    for wrong in (lyapunov_closed_form(hessian, noise, eta, finite=0.0), 0.9 * expected):
        assert np.abs(z_of_covariance(samples, wrong, gaussian=False)).max() > 5


# --------------------------------------------------------- multiplicative noise, exactly
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.95])
def test_edge_of_heavy_ball_with_random_curvature(momentum, level):
    """C10: (1+b) eta s^2 = (1-b) h (2(1+b) - eta h) for rows whose curvature varies."""
    eta = 0.5
    curvature = level * heavy_ball_threshold(eta, momentum)
    deviation = np.sqrt(critical_curvature_variance(eta, momentum, curvature))
    stepper = heavy_ball(eta, momentum, MinibatchGradient(1))
    for relative in (1 - 1e-3, 1.0, 1 + 1e-3):
        rows = jnp.asarray(curvature + relative * deviation * np.array([-1.0, 1.0]))
        problem = Problem(lambda theta, a: 0.5 * a * theta[0] ** 2, rows)
        start = stepper.start(problem, jnp.zeros(1))
        jacobians, _ = affine_maps(stepper, problem, start, every_batch(2, 1))
        radius = spectral_radius(second_moment_map(jacobians))
        assert abs(radius - 1) < 1e-9 if relative == 1.0 else (radius > 1) == (relative > 1)


def gaussian_like_rows(curvatures) -> np.ndarray:
    """Equally weighted features with the first five moments of N(0, diag(curvatures)).

    One coordinate: +-sqrt(3) once each and 0 four times, the three-point Gauss-Hermite rule.
    """
    nodes = np.sqrt(3) * np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    grid = np.array(list(itertools.product(nodes, repeat=len(curvatures))))
    return grid * np.sqrt(curvatures)


@pytest.mark.parametrize(
    ("curvatures", "batch_size"), [([1.0], 1), ([1.0], 4), ([1.0, 0.5], 1), ([1.0, 0.5], 2)]
)
def test_mean_square_threshold_of_least_squares(curvatures, batch_size):
    r"""C8: K = (eta/B) sum h_i/(2 - eta h_i (1+1/B)) = 1 for Gaussian features.

    Second moments of a step only see fourth moments of the features, so that rows which have
    those of a Gaussian give the threshold exactly, over all batches of SGD.
    """
    h = np.array(curvatures)

    def gauge(eta):
        return eta / batch_size * np.sum(h / (2 - eta * h * (1 + 1 / batch_size))) - 1

    pole = 2 / (h.max() * (1 + 1 / batch_size))
    edge = float(scipy.optimize.brentq(gauge, 1e-6, pole * (1 - 1e-9), xtol=1e-15))  # pyright: ignore[reportArgumentType]
    rows = gaussian_like_rows(h)
    problem = Problem(lambda theta, x: 0.5 * (x @ theta) ** 2, jnp.asarray(rows))
    batches = every_batch(len(rows), batch_size)
    for relative in (1 - 1e-3, 1.0, 1 + 1e-3):
        stepper = minibatch_sgd(relative * edge, batch_size)
        start = stepper.start(problem, jnp.zeros(len(h)))
        jacobians, _ = affine_maps(stepper, problem, start, batches)
        moments = np.einsum("kab,kcd->acbd", jacobians, jacobians) / len(jacobians)
        radius = spectral_radius(moments.reshape(len(h) ** 2, -1))
        assert abs(radius - 1) < 1e-9 if relative == 1.0 else (radius > 1) == (relative > 1)
    # C9: the SDE, with eta tr(H)/(2B) = 1 for isotropic features, loses stability later.
    assert edge < 2 * batch_size / h.sum()


# ----------------------------------------------------------------------- nonlinear examples
def test_catapult():
    """C11: two linear layers, width 1024, one sample: lazy, catapult, divergence."""
    width, seeds = 1024, 20
    problem = Problem(lambda t, x: 0.5 * (jnp.sum(t[0] * t[1]) / width**0.5 * x) ** 2, jnp.ones(1))
    starts = jax.random.normal(jax.random.key(0), (seeds, 2, width))

    def kernel(theta):  # the only curvature of the linearised model
        return jnp.sum(theta**2) / width

    @jax.jit
    @jax.vmap
    def throw(product):
        def one(theta):
            eta = product / kernel(theta)
            final, risks = run(gradient_descent(eta), problem, Iterate(theta), 1000)
            peak = jnp.max(risks) / risks[0]
            return risks[-1] / risks[0], peak, eta * kernel(final.theta)

        return jax.vmap(one)(starts)

    products = jnp.array([1.5, 1.9, 2.1, 2.5, 3.0, 3.5, 3.8, 4.2])
    remaining, peaks, curvatures = (np.asarray(a) for a in throw(products))
    converged = np.sum(remaining < 1e-3, axis=1)  # the flattest converge slowly
    np.testing.assert_array_equal(converged, [20, 20, 20, 20, 20, 20, 20, 0])
    assert (curvatures[:-1] < 2).all()
    np.testing.assert_array_equal(peaks[:2], 1)  # below 2 the loss never rises
    medians = np.median(peaks[2:-1], axis=1)
    assert medians[0] > 5
    assert (np.diff(medians) > 0).all()
    # Catapults leave for flatter ground; lazy runs stay where they are.
    np.testing.assert_allclose(curvatures[0], 1.5, rtol=0.02)
    assert (curvatures[3:-1] < 0.9 * np.asarray(products)[3:-1, None]).all()


def test_a_product_of_four_ends_just_under_the_edge():
    """C12: L = (1 - xyzw)^2/2 from near the minima where the sharpness is 1.15 * 2/eta.

    Minima with x = y = 1/a, z = w = a have sharpness 2(a^2 + 1/a^2).
    """
    etas = np.array([0.01, 0.02, 0.05])
    steep = 1.15 * 2 / etas
    a = np.sqrt(steep / 4 + np.sqrt((steep / 4) ** 2 - 1))
    starts = jnp.asarray(np.stack([1 / a, 1 / a, a, a], axis=1))
    problem = Problem(lambda t, z: 0.5 * (1 - jnp.prod(t) * z) ** 2, jnp.ones(1))

    def relative_sharpness(theta, eta):
        return jnp.linalg.eigvalsh(jax.hessian(problem.empirical_risk)(theta))[-1] * eta / 2

    @jax.jit
    @jax.vmap
    def settle(theta, eta):
        # The start is a little off the minima: on them nothing moves.
        def body(iterate, _):
            return gradient_descent(eta).step(problem, iterate, ())[0], None

        final = jax.lax.scan(body, Iterate(1.0002 * theta), None, length=1_000_000)[0].theta
        return relative_sharpness(theta, eta), relative_sharpness(final, eta), final

    before, after, final = settle(starts, jnp.asarray(etas))
    np.testing.assert_allclose(before, 1.15, rtol=1e-12)
    np.testing.assert_allclose(jnp.prod(final, axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(after, [0.99995, 0.9999, 0.9994], rtol=1e-3)
    # The gap below the edge is of second order in eta.
    gaps = 1 - np.asarray(after)
    np.testing.assert_allclose(gaps / etas**2, gaps[0] / etas[0] ** 2, rtol=0.05)
