"""Curvature along a run: equal to dense linear algebra, and to the bit after a resumed chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim
from sgdsim.dynamics import Iterate, WithPast, adam, minibatch_sgd, preconditioner
from sgdsim.ensemble import CurvatureObserver

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")

_RNG = np.random.default_rng(0)
INPUTS = _RNG.standard_normal((12, 3))
TARGETS = _RNG.standard_normal(12)
START = 0.5 * _RNG.standard_normal(8)
GD = sgdsim.gradient_descent(0.3)
#: Nearly everything that can be recorded; batches of all rows have no spread.
EVERYTHING = CurvatureObserver(
    eigenvalues=10,
    tolerance=1e-9,
    batch_size=12,
    replacement=False,
    most_batches=4,
    also=("smallest", "critical", "self_stabilisation", "alignment"),
)


def losses(theta, rows):
    inputs, targets = rows
    return 0.5 * (jnp.tanh(inputs @ theta[:6].reshape(3, 2)) @ theta[6:] - targets) ** 2


PROBLEM = sgdsim.Problem(losses, (INPUTS, TARGETS))


def run(stepper, observer, chunk=20):
    """Records of two trajectories."""
    whole = sgdsim.Ensemble(
        problem=PROBLEM,
        stepper=WithPast(stepper),
        region=sgdsim.Ball(centre=START, radius=1e6),
        observer=observer,
        schedule=sgdsim.Schedule(steps=20, record_every=5, chunk_steps=chunk),
        layout=sgdsim.choose_layout("map", 1),
    )
    state = whole.start(START, trajectories=2)
    chunks = list(whole.run(whole.keys(seed=1, trajectories=2), state))
    names = chunks[0].records
    return {name: np.concatenate([c.records[name] for c in chunks], axis=1) for name in names}


def path(stepper, steps) -> list[Iterate]:
    """Iterates of a process without noise, one by one."""
    iterate = stepper.start(PROBLEM, jnp.asarray(START))
    found = [iterate]
    for _ in range(steps):
        iterate, _ = stepper.step(PROBLEM, iterate, ())
        found.append(iterate)
    return found


def hessian(theta):
    return np.asarray(jax.hessian(PROBLEM.empirical_risk)(theta))


@pytest.fixture(scope="module")
def thetas(x64, unoptimised):
    """Iterates of gradient descent."""
    return [np.asarray(iterate.theta) for iterate in path(GD, 15)]


@pytest.fixture(scope="module")
def records(x64, unoptimised):
    """What is recorded of gradient descent."""
    return run(GD, EVERYTHING)


def test_eigenvalues_are_those_of_the_dense_hessian(records, thetas):
    for column, theta in enumerate(thetas[::5]):
        dense = np.linalg.eigvalsh(hessian(theta))[::-1]
        np.testing.assert_allclose(
            records["hessian_eigenvalue"][0, column, :8], dense, rtol=1e-6, atol=1e-8
        )
        assert records["sharpness"][0, column] == records["hessian_eigenvalue"][0, column, 0]
        assert records["smallest_eigenvalue"][0, column] == pytest.approx(dense[-1], rel=1e-6)


def test_more_eigenvalues_than_parameters_are_missing(records):
    assert np.isfinite(records["hessian_eigenvalue"][..., :8]).all()
    assert np.isnan(records["hessian_eigenvalue"][..., 8:]).all()


def test_midpoints_are_between_the_last_three_iterates(records, thetas):
    for column in (1, 2, 3):
        k = 5 * column
        between = 0.25 * (thetas[k - 2] + 2 * thetas[k - 1] + thetas[k])
        top = np.linalg.eigvalsh(hessian(between))[-1]
        assert records["midpoint_sharpness"][0, column] == pytest.approx(top, rel=1e-6)


def test_batches_of_all_rows_see_the_curvature_along_the_gradient(records, thetas):
    gradient = np.asarray(jax.grad(PROBLEM.empirical_risk)(thetas[5]))
    expected = gradient @ hessian(thetas[5]) @ gradient / (gradient @ gradient)
    assert records["batch_sharpness"][0, 1] == pytest.approx(expected, rel=1e-6)
    assert records["gradient_noise_interaction"][0, 1] == pytest.approx(expected, rel=1e-6)
    assert (records["batches"] == 4).all()


def test_third_derivatives_are_differences_of_hessians(records, thetas):
    theta, h = thetas[5], 1e-5
    gradient = np.asarray(jax.grad(PROBLEM.empirical_risk)(theta))
    u = np.linalg.eigh(hessian(theta))[1][:, -1]
    slopes = np.array(
        [u @ (hessian(theta + h * e) - hessian(theta - h * e)) @ u / (2 * h) for e in np.eye(8)]
    )
    slopes -= (slopes @ u) * u
    assert records["sharpening"][0, 1] == pytest.approx(-gradient @ slopes, rel=1e-4)
    assert records["sharpening_slope"][0, 1] == pytest.approx(slopes @ slopes, rel=1e-4)


def test_critical_sharpness_brackets_where_the_loss_rises(records, thetas):
    theta, risk = jnp.asarray(thetas[5]), PROBLEM.empirical_risk
    gradient = jax.grad(risk)(theta)
    low, high = records["critical_sharpness_low"][0, 1], records["critical_sharpness_high"][0, 1]
    assert risk(theta - 2 / low * 1.001 * gradient) > risk(theta)
    assert risk(theta - 2 / high * 0.999 * gradient) < risk(theta)


def test_alignments_are_those_of_dense_matrices(thetas):
    observer = CurvatureObserver(tolerance=1e-9, midpoint=False, also=("alignment",))
    records = run(GD, observer)
    gradient = np.asarray(jax.grad(PROBLEM.empirical_risk)(thetas[5]))
    top = np.linalg.eigh(hessian(thetas[5]))[1][:, -1]
    share = (top @ gradient) ** 2 / (gradient @ gradient)
    assert records["gradient_alignment"][0, 1] == pytest.approx(share, rel=1e-5)
    rows = np.asarray(jax.jacobian(PROBLEM.per_sample_losses)(thetas[5]))
    noise = np.cov(rows.T, ddof=0)
    along = top @ noise @ top / np.trace(noise)
    assert records["noise_alignment"][0, 1] == pytest.approx(along, rel=0.2)  # trace is sampled


def test_preconditioned_sharpness_is_that_of_the_dense_product():
    stepper = adam(0.01)
    records = run(stepper, CurvatureObserver(tolerance=1e-9, midpoint=False))
    assert np.isnan(records["preconditioned_sharpness"][:, 0]).all()  # no step, no preconditioner
    for column, iterate in list(enumerate(path(stepper, 15)[::5]))[1:]:
        scale = np.asarray(preconditioner(stepper, iterate))
        dense = np.linalg.eigvals(hessian(iterate.theta) / scale[:, None]).real.max()
        assert records["preconditioned_sharpness"][0, column] == pytest.approx(dense, rel=1e-6)


def test_two_chunks_observe_what_one_does_bit_for_bit():
    observer = CurvatureObserver(eigenvalues=2, batch_size=3, most_batches=8, trace_products=4)
    whole = run(minibatch_sgd(0.3, 3), observer)
    halves = run(minibatch_sgd(0.3, 3), observer, chunk=10)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, halves[name], err_msg=name)
    # Trajectories measure with random numbers of their own, and each starts cold.
    assert whole["loss"][0, 0] == whole["loss"][1, 0]
    assert whole["batch_sharpness"][0, 0] != whole["batch_sharpness"][1, 0]
    assert whole["products"].dtype == np.int32


def test_a_warm_start_takes_fewer_products():
    records = run(sgdsim.gradient_descent(0.01), CurvatureObserver(midpoint=False))
    assert records["products"][0, 1:].max() < records["products"][0, 0]


def test_a_diverged_trajectory_has_no_curvature():
    records = run(sgdsim.gradient_descent(1e300), CurvatureObserver(midpoint=False))
    assert np.isnan(records["loss"][0, -1])
    assert np.isnan(records["sharpness"][0, -1])
    assert records["products"][0, -1] == -1
