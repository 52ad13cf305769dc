import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from sgdsim.curvature import hessian_product
from sgdsim.dynamics import IsotropicNoise, MinibatchNoise
from sgdsim.problems import Quadratic
from sgdsim.stagnation import (
    effective_rank,
    low_dimension_report,
    participation_ratio,
    spectral_outliers,
    subspace_angles,
    top_space_energy,
    top_subspace,
)

pytestmark = pytest.mark.slow

EIGENVALUES = np.array([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])


def random_rotation(p, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(p, p)))[0]


def dense_ratio(snapshots):
    values = np.linalg.eigvalsh(np.cov(snapshots.T))
    return values.sum() ** 2 / np.sum(values**2)


def test_participation_ratio_is_that_of_the_dense_covariance():
    snapshots = np.random.default_rng(1).normal(size=(9, 6)) * EIGENVALUES + 100.0
    found = participation_ratio(snapshots)
    assert found.value == pytest.approx(dense_ratio(snapshots), rel=1e-10)
    assert participation_ratio(snapshots @ random_rotation(6)).value == pytest.approx(found.value)
    assert participation_ratio(3 * snapshots - 7).corrected == pytest.approx(found.corrected)
    # What the block of columns is must not matter.
    wide = np.tile(snapshots, (1, 20_000))
    assert participation_ratio(wide).corrected == pytest.approx(found.corrected, rel=1e-9)


def test_corrected_ratio_is_that_of_the_unbiased_u_statistics():
    """All quadruples of different snapshots, listed: unbiased for any law by construction."""
    x = np.random.default_rng(2).exponential(size=(7, 4)) * np.array([2.0, 1.0, 0.5, 0.3])
    i, j, k, l = (a.ravel() for a in np.meshgrid(*4 * [np.arange(7)], indexing="ij"))
    different = np.array([len({*q}) == 4 for q in zip(i, j, k, l, strict=True)])
    first, second = (x[i] - x[j])[different], (x[k] - x[l])[different]
    square_of_trace = np.mean(np.sum(first**2, axis=1) * np.sum(second**2, axis=1)) / 4
    trace_of_square = np.mean(np.sum(first * second, axis=1) ** 2) / 4
    found = participation_ratio(x)
    assert found.corrected == pytest.approx(square_of_trace / trace_of_square, rel=1e-10)


@pytest.mark.statistical
def test_participation_ratio_of_a_known_covariance():
    """Gaussian with a known S: the corrected value is central, the plug-in one is the mutant."""
    rng = np.random.default_rng(3)
    p, m, repeats = 60, 40, 300
    scale = np.geomspace(1.0, 0.1, p)
    exact = np.sum(scale**2) ** 2 / np.sum(scale**4)
    draws = rng.normal(size=(repeats, m, p)) * scale
    found = [participation_ratio(draw) for draw in draws]

    def z_score(values):
        return (np.mean(values) - exact) / (np.std(values, ddof=1) / np.sqrt(repeats))

    corrected = np.array([one.corrected for one in found])
    plug_in = np.array([one.value for one in found])
    assert abs(z_score(corrected)) < 5
    assert z_score(plug_in) < -50
    expected = exact / (1 + (exact + 1) / (m - 1))
    assert plug_in.mean() == pytest.approx(expected, rel=0.03)
    covered = np.mean([one.low < exact < one.high for one in found])
    assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / repeats)


@pytest.mark.statistical
def test_groups_make_the_standard_error_honest_on_a_trajectory():
    """AR(1) snapshots: single ones, taken for independent, understate the spread; groups do not."""
    rng = np.random.default_rng(4)
    decay, m, p, repeats = 0.8, 200, 5, 80
    noise = rng.normal(size=(m, repeats, p)) * np.sqrt(EIGENVALUES[:p])
    path = np.empty_like(noise)
    path[0] = noise[0] / np.sqrt(1 - decay**2)
    for step in range(1, m):
        path[step] = decay * path[step - 1] + noise[step]

    def reported_and_true(groups):
        found = [participation_ratio(path[:, i], groups=groups) for i in range(repeats)]
        quantile = scipy.stats.t.ppf(0.975, groups - 1)
        reported = [np.log(one.high / one.low) / (2 * quantile) for one in found]
        return np.mean(reported), np.std(np.log([one.corrected for one in found]), ddof=1)

    relative = 5 / np.sqrt(2 * repeats)
    reported, true = reported_and_true(10)
    assert reported == pytest.approx(true, rel=relative)
    reported, true = reported_and_true(m)
    assert reported < (1 - relative) * true


def test_jackknife_is_that_of_deleted_groups():
    snapshots = np.random.default_rng(5).exponential(size=(13, 4)) + 5.0
    parts = np.array_split(np.arange(13), 4)
    without = [participation_ratio(np.delete(snapshots, part, 0)).corrected for part in parts]
    spread = np.sqrt(3 / 4 * np.sum((np.log(without) - np.mean(np.log(without))) ** 2))
    found = participation_ratio(snapshots, 0.9, groups=4)
    quantile = scipy.stats.t.ppf(0.95, 3)
    assert np.log(found.high / found.corrected) == pytest.approx(quantile * spread, rel=1e-9)
    assert np.log(found.corrected / found.low) == pytest.approx(quantile * spread, rel=1e-9)


def test_snapshots_that_tell_nothing_about_the_dimension():
    corners = participation_ratio(np.eye(8))
    assert corners.value == pytest.approx(7.0)
    assert np.isnan([corners.corrected, corners.low, corners.high]).all()
    assert "do not tell the number of directions" in corners.assumption_violated
    still = participation_ratio(np.ones((6, 3)))
    assert np.isnan(still.value)
    assert "do not differ" in still.assumption_violated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confidence": 1.0}, "confidence must lie strictly"),
        ({"groups": 1}, "groups must be at least 2"),
        ({"groups": 9}, "at most the number of snapshots 8"),
        ({"groups": 2, "rows": 7}, "at least 4 must be left"),
    ],
)
def test_participation_ratio_refuses(arguments, message):
    snapshots = np.random.default_rng(0).normal(size=(arguments.pop("rows", 8), 3))
    with pytest.raises(ValueError, match=message):
        participation_ratio(snapshots, **arguments)


def test_effective_rank_and_outliers():
    values = np.linalg.eigvalsh(np.diag([4.0, 1.0, 1.0]))
    assert effective_rank(float(values.sum()), float(values.max())) == 1.5
    assert_allclose(effective_rank(np.array([6.0, 0.0]), np.array([1.0, 0.0])), [6.0, np.nan])
    for trace, norm in [(1.0, 2.0), (1.0, -1.0)]:
        with pytest.raises(ValueError, match="must be at least the operator norm"):
            effective_rank(trace, norm)
    assert spectral_outliers(np.array([10.0, 8.0, 7.0, 0.2, 0.1])) == 3
    assert spectral_outliers(np.array([1.0])) == 0


def test_angles_of_known_subspaces():
    angle = 1e-7
    tilted = np.array([[np.cos(angle), 0, np.sin(angle), 0], [0, 1, 0, 0]])
    found = subspace_angles(np.eye(4)[:2], tilted @ np.diag([1.0, 3.0, 1.0, 1.0]))
    assert_allclose(found.angles, [angle, 0.0], rtol=1e-7, atol=1e-15)
    assert found.overlap == pytest.approx((1 + np.cos(angle) ** 2) / 2)
    line = subspace_angles(np.array([[1.0, 1.0, 0.0]]), np.eye(3)[:2])
    assert_allclose(line.angles, [0.0], atol=1e-7)
    assert line.null_overlap == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="not linearly independent"):
        subspace_angles(np.ones((2, 3)), np.eye(3)[:2])
    with pytest.raises(ValueError, match="is empty"):
        subspace_angles(np.zeros((0, 3)), np.eye(3)[:2])


@pytest.mark.statistical
@pytest.mark.parametrize(("a", "b"), [(3, 3), (2, 5)])
def test_overlap_of_random_subspaces_is_its_null_value(a, b):
    rng = np.random.default_rng(6)
    p, repeats = 30, 1000
    found = [
        subspace_angles(rng.normal(size=(a, p)), rng.normal(size=(b, p))) for _ in range(repeats)
    ]
    overlaps = np.array([one.overlap for one in found])
    stderr = overlaps.std(ddof=1) / np.sqrt(repeats)
    assert abs(overlaps.mean() - found[0].null_overlap) < 5 * stderr
    assert abs(overlaps.mean() - (max(a, b) - 1) / p) > 5 * stderr
    assert_allclose(overlaps[0], np.mean(np.cos(found[0].angles) ** 2))


@pytest.mark.statistical
def test_energy_share_of_a_known_covariance():
    """tr(PS)/tr(S) for Gaussian displacements in a rotated frame, with honest standard errors."""
    rng = np.random.default_rng(7)
    rotation, m, repeats = random_rotation(6, 1), 150, 400
    basis = np.array([[1.0, 1.0], [0.0, 2.0]]) @ rotation.T[:2]  # spans the top two directions
    exact = EIGENVALUES[:2].sum() / EIGENVALUES.sum()
    draws = rng.normal(size=(repeats, m, 6)) * np.sqrt(EIGENVALUES) @ rotation.T
    found = [top_space_energy(draw, basis) for draw in draws]
    shares = np.array([one.share for one in found])
    stderr = shares.std(ddof=1)
    assert abs(shares.mean() - exact) < 5 * stderr / np.sqrt(repeats) + 2 / m**1.5
    assert abs(shares.mean() - EIGENVALUES[0] / EIGENVALUES.sum()) > 0.1
    reported = np.mean([one.stderr for one in found])
    assert reported == pytest.approx(stderr, rel=5 / np.sqrt(2 * repeats))
    grouped = np.mean([top_space_energy(draw, basis, groups=15).stderr for draw in draws])
    assert grouped == pytest.approx(stderr, rel=5 / np.sqrt(2 * repeats))
    assert found[0].null_share == pytest.approx(1 / 3)
    isotropic = top_space_energy(rng.normal(size=(4000, 6)), basis)
    assert abs(isotropic.share - isotropic.null_share) < 5 * isotropic.stderr


def test_energy_of_no_displacement_and_bad_groups():
    still = top_space_energy(np.zeros((3, 4)), np.eye(4)[:1])
    assert np.isnan(still.share)
    assert still.null_share == 0.25
    with pytest.raises(ValueError, match="a standard error needs repetitions"):
        top_space_energy(np.ones((1, 4)), np.eye(4)[:1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_top_subspace_of_a_spectrum_with_multiplicities(x64, dtype):
    spectrum = np.concatenate([[7.0, 5.0, 5.0, 5.0], np.linspace(1.0, 0.01, 36), -3 * np.ones(5)])
    rotation = random_rotation(45, 2)
    matrix = jnp.asarray(rotation * spectrum @ rotation.T, dtype)
    like = {"a": jnp.zeros((5, 6), dtype), "b": jnp.zeros(15, dtype)}

    def product(v):
        flat, unravel = ravel_pytree(v)
        return unravel(matrix @ flat)

    found = top_subspace(product, like, 4, jax.random.key(0))
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    assert_allclose(found.values, [7.0, 5.0, 5.0, 5.0], atol=tolerance)
    overlap = subspace_angles(found.vectors, rotation.T[:4]).overlap
    assert overlap == pytest.approx(1.0, abs=tolerance)
    assert_allclose(found.vectors @ found.vectors.T, np.eye(4), atol=1e-6)
    assert np.all(found.residuals < 10 * tolerance)


def test_top_subspace_gives_no_more_directions_than_there_are(x64):
    rows = np.random.default_rng(8).normal(size=(2, 12))

    def product(v):
        return jnp.asarray(rows).T @ (jnp.asarray(rows) @ v)

    found = top_subspace(product, jnp.zeros(12), 5, jax.random.key(1))
    assert_allclose(found.values, np.linalg.svd(rows)[1] ** 2, rtol=1e-10)
    assert subspace_angles(found.vectors, rows).overlap == pytest.approx(1.0)
    zero = top_subspace(lambda v: 0 * v, jnp.zeros(12), 2, jax.random.key(1))
    assert zero.vectors.shape == (0, 12)
    with pytest.raises(ValueError, match="rank = 13 is larger than the number of parameters, 12"):
        top_subspace(product, jnp.zeros(12), 13, jax.random.key(1))


def test_report_on_a_network_against_dense_decompositions(network_problem):
    problem, theta = network_problem
    noise = MinibatchNoise(2)
    flat, unravel = ravel_pytree(theta)
    hessian = np.asarray(jax.hessian(lambda v: problem.empirical_risk(unravel(v)))(flat))
    gradients = np.asarray(jax.jacobian(lambda v: problem.per_sample_losses(unravel(v)))(flat))
    covariance = np.cov(gradients.T, bias=True) / 2
    snapshots = np.asarray(flat) + np.random.default_rng(9).normal(size=(30, 20))
    report = low_dimension_report(problem, theta, noise, snapshots, 3, jax.random.key(2), groups=10)

    h_values, h_vectors = np.linalg.eigh(hessian)
    c_values, c_vectors = np.linalg.eigh(covariance)
    top_h, top_c = h_vectors[:, -3:], c_vectors[:, -3:]
    assert_allclose(report.hessian.values, h_values[:-4:-1], rtol=1e-9)
    assert_allclose(report.noise.values, c_values[:-4:-1], rtol=1e-9)
    cosines = np.linalg.svd(top_h.T @ top_c)[1]
    assert_allclose(np.cos(report.alignment.angles), np.sort(cosines), rtol=1e-7)
    assert report.alignment.overlap == pytest.approx(np.mean(cosines**2))
    assert report.alignment.null_overlap == pytest.approx(3 / 20)
    assert report.effective_rank == pytest.approx(np.trace(covariance) / c_values[-1])
    moved = snapshots - np.asarray(flat)
    for energy, top in [(report.hessian_energy, top_h), (report.noise_energy, top_c)]:
        assert energy.share == pytest.approx(np.sum((moved @ top) ** 2) / np.sum(moved**2))
    assert report.participation.value == pytest.approx(dense_ratio(snapshots))
    ratios = h_values[:-4:-1][:-1] / h_values[:-4:-1][1:]
    assert report.hessian_outliers == 1 + np.argmax(ratios)


def test_report_without_noise_directions_and_bad_snapshots():
    problem = Quadratic([3.0, 1.0]).problem()
    snapshots = np.random.default_rng(10).normal(size=(8, 2))
    # One row: its minibatch noise is zero.
    arguments = problem, jnp.zeros(2), MinibatchNoise(4)
    report = low_dimension_report(*arguments, snapshots, 1, jax.random.key(0))
    assert report.noise.vectors.shape == (0, 2)
    assert np.isnan(
        [report.effective_rank, report.noise_energy.share, report.alignment.overlap]
    ).all()
    with pytest.raises(ValueError, match="snapshots have 3 parameters, but theta has 2"):
        low_dimension_report(*arguments, np.ones((8, 3)), 1, jax.random.key(0))


def test_top_subspaces_of_library_operators(x64):
    problem = Quadratic(jnp.asarray(EIGENVALUES), jnp.asarray(random_rotation(6, 3))).problem()
    theta = jnp.ones(6)
    hessian = top_subspace(
        hessian_product(problem.empirical_risk, theta), theta, 2, jax.random.key(3)
    )
    assert_allclose(hessian.values, [5.0, 3.0], rtol=1e-10)
    assert subspace_angles(hessian.vectors, random_rotation(6, 3).T[:2]).overlap > 1 - 1e-10
    isotropic = top_subspace(
        IsotropicNoise(0.5).covariance(problem, theta), theta, 2, jax.random.key(3)
    )
    assert_allclose(isotropic.values, [0.5, 0.5], rtol=1e-10)
