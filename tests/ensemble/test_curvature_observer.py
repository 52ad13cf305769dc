"""Curvature along a run: equal to dense linear algebra, and to the bit after a resumed chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

import sgdsim
from sgdsim.curvature import SpectralDensity, hessian_product
from sgdsim.dynamics import Iterate, WithPast, adam, minibatch_sgd, preconditioner
from sgdsim.ensemble import CurvatureObserver, _curvature_further
from sgdsim.problems import BiasedNetwork, Network, Rows, cross_entropies, squared_errors

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64", "unoptimised")]

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
LABELS = _RNG.integers(0, 3, 12)
#: Weights of a network of two hidden units, for one output and for three.
WEIGHTS = [_RNG.standard_normal(shape) for shape in [(2, 3), (1, 2), (2,), (1,), (3, 2)]]


def squares():
    """Network of four parameter arrays, with half squared errors: problem and start."""
    hidden, outputs, *biases, _ = map(jnp.asarray, WEIGHTS)
    rows = Rows(jnp.asarray(INPUTS), jnp.asarray(TARGETS[:, None]))
    start = BiasedNetwork((hidden, outputs), tuple(biases))
    return sgdsim.Problem(squared_errors, rows, 0.1), start


def classes():
    """Network of two parameter arrays, with cross entropies: problem and start."""
    rows = Rows(jnp.asarray(INPUTS), jnp.asarray(np.eye(3)[LABELS]))
    start = Network((jnp.asarray(WEIGHTS[0]), jnp.asarray(WEIGHTS[-1])))
    return sgdsim.Problem(cross_entropies, rows, 0.1), start


def run(stepper, observer, chunk=20, problem=PROBLEM, start: PyTree = START):
    """Records of two trajectories."""
    whole = sgdsim.Ensemble(
        problem=problem,
        stepper=WithPast(stepper),
        region=sgdsim.Ball(centre=start, radius=1e6),
        observer=observer,
        schedule=sgdsim.Schedule(steps=20, record_every=5, chunk_steps=chunk),
        layout=sgdsim.choose_layout("map", 1),
    )
    state = whole.start(start, trajectories=2)
    chunks = list(whole.run(whole.keys(seed=1, trajectories=2), state))
    names = chunks[0].records
    return {name: np.concatenate([c.records[name] for c in chunks], axis=1) for name in names}


def path(stepper, steps, problem=PROBLEM, start: PyTree = START) -> list[Iterate]:
    """Iterates of a process without noise, one by one."""
    iterate = stepper.start(problem, jax.tree.map(jnp.asarray, start))
    found = [iterate]
    for _ in range(steps):
        iterate, _ = stepper.step(problem, iterate, ())
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
    assert "further_products" not in records


def test_a_diverged_trajectory_has_no_curvature():
    records = run(sgdsim.gradient_descent(1e300), CurvatureObserver(midpoint=False))
    assert np.isnan(records["loss"][0, -1])
    assert np.isnan(records["sharpness"][0, -1])
    assert records["products"][0, -1] == -1


@pytest.fixture(scope="module", params=[squares, classes])
def network(request, x64, unoptimised):
    """Problem of a network, what is recorded, and the iterate of the second record."""
    problem, start = request.param()
    observer = CurvatureObserver(
        tolerance=1e-9,
        midpoint=False,
        also=("smallest", "gauss_newton", "fisher", "noise", "blocks", "density"),
        density_probes=3,
        density_depth=20,
    )
    records = run(GD, observer, problem=problem, start=start)
    return problem, records, path(GD, 5, problem, start)[5].theta


def dense_outputs(problem, theta):
    """Outputs of every row, and their dense Jacobian of shape (n, outputs, p)."""
    flat, unravel = ravel_pytree(theta)
    inputs = jnp.asarray(problem.data.inputs)
    outputs = np.asarray(theta(inputs))
    return outputs, np.asarray(jax.jacfwd(lambda v: unravel(v)(inputs))(flat))


def dense_hessian(problem, theta):
    flat, unravel = ravel_pytree(theta)
    return np.asarray(jax.hessian(lambda v: problem.empirical_risk(unravel(v)))(flat))


def expected_information(problem, outputs):
    """Mean over labels of the model of the outer product of the slopes, row by row."""
    k = outputs.shape[1]
    if problem.losses is squared_errors:
        return np.broadcast_to(np.eye(k), (len(outputs), k, k))  # of normal labels
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    slopes = p[:, None] - np.eye(k)[None]  # for every label in turn
    return np.einsum("ny,nya,nyb->nab", p, slopes, slopes)


def test_fisher_is_that_of_labels_of_the_model(network):
    problem, records, theta = network
    outputs, jacobian = dense_outputs(problem, theta)
    inner = expected_information(problem, outputs)
    fisher = np.einsum("nap,nab,nbq->pq", jacobian, inner, jacobian) / len(outputs)
    top = np.linalg.eigvalsh(fisher)[-1]
    assert records["fisher_sharpness"][0, 1] == pytest.approx(top, rel=1e-8)
    # The Gauss-Newton matrix of these losses is the same, but for the ridge.
    assert records["gauss_newton_sharpness"][0, 1] == pytest.approx(top + 0.1, rel=1e-8)


def test_noise_is_the_covariance_of_the_gradients_of_rows(network):
    problem, records, theta = network
    outputs, jacobian = dense_outputs(problem, theta)
    targets = np.asarray(problem.data.targets)
    if problem.losses is cross_entropies:
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    rows = np.einsum("na,nap->np", outputs - targets, jacobian)
    covariance = np.cov(rows.T, ddof=0)
    top = np.linalg.eigvalsh(covariance)[-1]
    assert records["noise_eigenvalue"][0, 1] == pytest.approx(top, rel=1e-8)
    assert records["noise_trace"][0, 1] == pytest.approx(np.trace(covariance), rel=1e-10)
    assert abs(records["noise_eigenvalue"][0, 1] - top) <= records["noise_residual"][0, 1] + 1e-12


def test_a_search_that_is_cut_off_says_so_by_its_residual(network_problem):
    problem, theta = network_problem
    names = ("gauss_newton", "fisher", "noise", "blocks")
    observer = CurvatureObserver(midpoint=False, most_products=2, also=names)
    records = run(GD, observer, problem=problem, start=theta)
    for name in ("gauss_newton", "fisher", "noise"):
        assert 1e-4 < records[f"{name}_residual"][0, 0] < 1, name
    assert (records["block_residual"][0, 0] > 1e-4).all()


def test_blocks_are_slices_of_the_dense_hessian(network):
    problem, records, theta = network
    dense, ends = dense_hessian(problem, theta), []
    for leaf in jax.tree.leaves(theta):
        ends.append((ends[-1] if ends else 0) + leaf.size)
    starts = [0, *ends[:-1]]
    tops = [np.linalg.eigvalsh(dense[a:b, a:b])[-1] for a, b in zip(starts, ends, strict=True)]
    assert records["block_sharpness"].shape == (2, 4, len(tops))
    np.testing.assert_allclose(records["block_sharpness"][0, 1], tops, rtol=1e-8)
    assert (records["block_sharpness"].max(axis=-1) <= records["sharpness"] + 1e-9).all()


def test_a_block_of_negative_curvature_is_not_taken_for_zero():
    """Outside of its block an operator is zero, which is larger."""
    risk = lambda theta, rows: rows * (theta["a"] @ theta["a"] - theta["b"] @ theta["b"])  # noqa: E731
    start = {"a": np.ones(3), "b": np.ones(2)}
    observer = CurvatureObserver(midpoint=False, also=("blocks",))
    records = run(GD, observer, problem=sgdsim.Problem(risk, np.ones(2)), start=start)
    np.testing.assert_allclose(records["block_sharpness"][0, 0], [2.0, -2.0], rtol=1e-6)


def test_nodes_of_full_depth_are_the_eigenvalues_of_the_dense_hessian(network):
    problem, records, theta = network
    dense = np.linalg.eigvalsh(dense_hessian(problem, theta))
    # A Krylov space holds one vector for each eigenvalue; with classes that of the ridge is double.
    distinct = dense[np.diff(dense, prepend=-np.inf) > 1e-8]
    nodes, weights = records["density_node"][0, 1], records["density_weight"][0, 1]
    assert nodes.shape == weights.shape == (3, 20)
    # No more nodes than parameters; what is left over has no weight.
    assert np.isnan(nodes[:, dense.size :]).all()
    assert (weights[:, dense.size :] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-9)
    for own, weight in zip(nodes, weights, strict=True):
        seen = own[weight > 1e-8]
        np.testing.assert_allclose(seen, distinct, rtol=1e-6, atol=1e-8)
    assert (weights[0] != weights[1]).any()


def test_a_density_is_made_again_from_one_record(network):
    """As the documentation says: without the nodes that are left over."""
    problem, records, theta = network
    nodes, weights = records["density_node"][0, 1], records["density_weight"][0, 1]
    known = np.isfinite(nodes).all(axis=0)
    density = SpectralDensity(jnp.asarray(nodes[:, known]), jnp.asarray(weights[:, known]))
    mean = density.average(lambda x: x)
    trace = np.trace(dense_hessian(problem, theta)) / known.sum()
    assert abs(mean.value - trace) < 5 * mean.stderr


def test_a_shallow_density_has_the_moments_of_its_start_vectors():
    """Weights of many probes average to the moments of the spectrum, far below full depth."""
    observer = CurvatureObserver(
        midpoint=False, also=("density",), density_probes=400, density_depth=3
    )
    records = run(GD, observer)
    nodes, weights = records["density_node"][0, 1], records["density_weight"][0, 1]
    dense = np.linalg.eigvalsh(hessian(path(GD, 5)[5].theta))
    for power in (1, 2, 4):
        draws = np.sum(weights * nodes**power, axis=1)
        stderr = draws.std(ddof=1) / 400**0.5
        assert abs(draws.mean() - np.mean(dense**power)) < 5 * stderr


def test_further_products_are_those_that_were_taken(monkeypatch):
    """Counted by the operator itself, which calls back for every product."""
    taken = []

    def counting(risk, theta):
        product = hessian_product(risk, theta)

        def matvec(v):
            jax.debug.callback(lambda: taken.append(1))
            return product(v)

        return matvec

    monkeypatch.setattr(_curvature_further, "hessian_product", counting)
    problem, start = squares()
    observer = CurvatureObserver(midpoint=False, also=("smallest", "blocks", "density"))
    records = run(GD, observer, problem=problem, start=start)
    jax.effects_barrier()
    assert len(taken) == records["further_products"].sum()
    # One at least for every eigenvalue, all 11 possible ones for every density.
    assert (records["further_products"] >= 1 + 4 + 2 * 11).all()


def test_the_products_of_several_measurements_add_up(records):
    smallest, others, alignments = (
        run(GD, CurvatureObserver(eigenvalues=10, tolerance=1e-9, also=also))["further_products"]
        for also in (("smallest",), ("critical", "self_stabilisation"), ("alignment",))
    )
    assert (smallest >= 1).all()
    assert (others == 0).all()
    assert (alignments == 2 * (8 + 16)).all()  # both matrices, on eigenvectors and probes
    np.testing.assert_array_equal(records["further_products"], smallest + others + alignments)


def test_what_is_measured_does_not_depend_on_what_else_is():
    alone = run(GD, CurvatureObserver(midpoint=False, also=("blocks",)))
    both = run(GD, CurvatureObserver(midpoint=False, also=("density", "blocks")))
    np.testing.assert_array_equal(alone["block_sharpness"], both["block_sharpness"])
    np.testing.assert_array_equal(alone["sharpness"], both["sharpness"])


def test_a_diverged_trajectory_has_nothing_further():
    problem, start = squares()
    observer = CurvatureObserver(midpoint=False, also=("fisher", "noise", "blocks", "density"))
    records = run(sgdsim.gradient_descent(1e300), observer, problem=problem, start=start)
    for name in ("fisher_sharpness", "noise_eigenvalue", "noise_trace", "block_sharpness"):
        assert np.isnan(records[name][0, -1]).all(), name
    assert np.isnan(records["density_weight"][0, -1]).all()
    assert records["further_products"][0, -1] == -1


def test_products_that_are_not_finite_are_missing():
    problem, start = squares()
    huge = jax.tree.map(lambda a: a * 1e200, start)
    observer = CurvatureObserver(midpoint=False, also=("fisher", "noise", "blocks", "density"))
    records = run(sgdsim.gradient_descent(1e-300), observer, problem=problem, start=huge)
    assert np.isnan(records["noise_eigenvalue"][0, 0])
    assert np.isnan(records["noise_trace"][0, 0])
    assert np.isnan(records["density_node"][0, 0]).all()


def test_the_fisher_matrix_of_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="known for the losses cross_entropies and squared_errors"):
        run(GD, CurvatureObserver(midpoint=False, also=("fisher",)))
