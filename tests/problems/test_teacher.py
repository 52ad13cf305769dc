"""Teacher and student: constants of the teacher, its loss, and gaps against brute force."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from sgdsim.problems import Network, TeacherStudent, teacher_network, teacher_student
from sgdsim.problems._teacher import mean_clipped_loss
from sgdsim.testing._dense import dense_hessian

pytestmark = pytest.mark.usefixtures("x64")

NOISE, CLIP = 0.6, 0.3


def draw(samples=200, fresh=4000, seed=0, noise=NOISE, clip=CLIP, spectral_norm=2.0):
    teacher = teacher_network((5, 3, 1), "tanh", spectral_norm, seed=3)
    return teacher_student(teacher, samples, noise, clip, fresh, seed)


def shifted(network: Network, scale: float, seed: int = 0) -> Network:
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + scale * random.normal(size=a.shape), network)


gap = eqx.filter_jit(lambda known, theta: known.gap(theta))


@pytest.mark.parametrize(
    ("offset", "noise", "clip"),
    [(0.3, 0.5, 0.4), (2.0, 0.1, 0.5), (0.0, 0.3, 0.01), (-0.7, 1.0, 2.0), (0.1, 1e-3, 5.0)],
)
def test_mean_clipped_loss_against_quadrature(offset, noise, clip):
    corners = [x for x in (-((2 * clip) ** 0.5), (2 * clip) ** 0.5) if abs(x - offset) < 12 * noise]
    expected = integrate.quad(
        lambda u: min(u**2 / 2, clip) * stats.norm.pdf(u, offset, noise),
        offset - 12 * noise,
        offset + 12 * noise,
        points=corners or None,
    )[0]
    ours = mean_clipped_loss(*(jnp.asarray(x) for x in (offset, noise, clip)))
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize(("offset", "expected"), [(0.5, 0.125), (-3.0, 2.0), (0.0, 0.0)])
def test_mean_clipped_loss_without_noise(offset, expected):
    arguments = [jnp.asarray(x) for x in (offset, 0.0, 2.0)]
    assert float(mean_clipped_loss(*arguments)) == expected
    assert np.isfinite(jax.grad(mean_clipped_loss)(*arguments))


@pytest.mark.parametrize("noise", [0.0, 0.1, 2.0])
def test_no_prediction_beats_the_teacher_under_the_clipped_loss(noise):
    """Also where most labels are clipped (noise 2, reach 0.77)."""
    offsets = jnp.linspace(0, 3, 61)
    losses = jax.vmap(lambda x: mean_clipped_loss(x, jnp.asarray(noise), jnp.asarray(CLIP)))
    assert np.all(np.diff(losses(offsets)) >= -1e-15)
    np.testing.assert_allclose(losses(-offsets), losses(offsets), rtol=1e-12)
    assert losses(offsets)[10] > losses(offsets)[0]


@pytest.mark.parametrize("hidden", [(3,), (5,), (40,), (2, 9), (9, 2), (7, 7, 7)])
def test_weights_have_the_given_spectral_norm_at_every_width(hidden):
    teacher = teacher_network((5, *hidden, 1), "relu", 1.7, seed=2)
    shapes = [matrix.shape for matrix in teacher.weights]
    assert shapes == [(rows, cols) for cols, rows in itertools.pairwise((5, *hidden, 1))]
    for matrix in teacher.weights:
        singular = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(singular, 1.7, rtol=1e-12)  # all of them
    assert not np.allclose(
        teacher.weights[0], teacher_network((5, *hidden, 1), "relu", 1.7, seed=3).weights[0]
    )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_outputs_do_not_fade_with_the_width(activation):
    for width in (4, 16, 64, 256):
        teacher = teacher_network((10, width, 1), activation, 1.0, seed=1)
        known = teacher_student(teacher, 500, 0.0, CLIP, 2, seed=0)
        assert 0.4 < float(jnp.std(known.targets)) < 1.1


def test_facts_about_the_loss():
    known = draw()
    facts = known.loss
    norms = np.linalg.norm(np.concatenate([known.inputs, known.fresh]), axis=1)
    np.testing.assert_allclose(norms, facts.input_bound, rtol=1e-12)
    assert facts.value_range == CLIP
    assert facts.samples == 200
    u = np.linspace(-3, 3, 60_001)
    slopes = np.abs(np.diff(np.minimum(u**2 / 2, CLIP)) / np.diff(u))
    np.testing.assert_allclose(slopes.max(), facts.lipschitz, rtol=1e-3)
    assert slopes.max() <= facts.lipschitz
    assert known.weights(known.centre) is known.teacher.weights


@pytest.mark.statistical
def test_inputs_are_uniform_on_the_sphere(z_of_covariance):
    inputs = np.asarray(draw(fresh=20_000).fresh)
    z = z_of_covariance(inputs[:, :4], np.eye(4), gaussian=False)
    assert np.all(np.abs(z) < 5)


@pytest.mark.statistical
def test_gap_against_rows_with_noisy_labels():
    """The population risk by brute force, from other rows, labels and all."""
    known, theta = draw(fresh=20_000), shifted(draw().teacher, 0.3)
    other = draw(samples=200_000, fresh=2, seed=9)
    residual = np.ravel(theta(other.inputs) - other.targets)
    own = np.ravel(theta(known.inputs) - known.targets)
    ours = gap(known, theta)

    def z_score(loss) -> float:
        losses = loss(residual)
        stderr = np.hypot(losses.std() / len(losses) ** 0.5, ours.stderr)
        return float((ours.value - (losses.mean() - loss(own).mean())) / stderr)

    assert abs(z_score(lambda u: np.minimum(u**2 / 2, CLIP))) < 5
    assert abs(z_score(lambda u: u**2 / 2)) > 5


@pytest.mark.statistical
def test_standard_error_is_the_spread_over_fresh_inputs():
    known, theta = draw(), shifted(draw().teacher, 0.3)
    samples = draw(fresh=320_000, seed=1).fresh.reshape(800, 400, 5)

    @jax.vmap
    def estimate(fresh):
        return eqx.tree_at(lambda known: known.fresh, known, fresh).gap(theta)

    values, stderrs = (np.asarray(array) for array in estimate(samples))
    ratio = values.var(ddof=1) / np.mean(stderrs**2)
    assert abs(ratio - 1) < 5 * (2 / 799) ** 0.5
    # A standard error that is a half too large would be seen.
    assert abs(ratio / 1.5**2 - 1) > 5 * (2 / 799) ** 0.5
    assert float(gap(known, known.centre).stderr) < 1e-16


@pytest.mark.statistical
def test_the_mean_gap_of_the_teacher_is_zero():
    """The teacher knows no training row; the standard error of its gap is zero."""
    gaps = [float(gap(draw(seed=seed, fresh=10), draw().teacher).value) for seed in range(300)]
    stderr = np.std(gaps, ddof=1) / len(gaps) ** 0.5
    assert abs(np.mean(gaps)) < 5 * stderr
    # The risk of the unclipped loss in place of that of the clipped one would be seen.
    clipped = mean_clipped_loss(*(jnp.asarray(x) for x in (0.0, NOISE, CLIP)))
    assert abs(np.mean(gaps) + NOISE**2 / 2 - float(clipped)) > 5 * stderr


def smallest_eigenvalues(known: TeacherStudent) -> np.ndarray:
    return np.linalg.eigvalsh(dense_hessian(known.population, known.centre))


def test_curvature_at_small_teachers():
    """Isolated for tanh; for relu one flat direction per hidden unit, its rescaling."""
    spectrum = smallest_eigenvalues(draw(fresh=20_000))
    assert 0.007 < spectrum[0] < 0.010
    assert 0.9 < spectrum[-1] < 1.3
    rectified = teacher_network((5, 3, 1), "relu", 1.0, seed=0)
    spectrum = smallest_eigenvalues(teacher_student(rectified, 10, 0.0, CLIP, 20_000, 0))
    np.testing.assert_allclose(spectrum[:3], 0, atol=1e-12)
    assert spectrum[3] > 1e-3


def test_rows_begin_alike_at_every_number_of_rows():
    long, short = draw(samples=300, fresh=500), draw(samples=200, fresh=400)
    np.testing.assert_array_equal(long.inputs[:200], short.inputs)
    np.testing.assert_allclose(long.targets[:200], short.targets, rtol=1e-12)
    np.testing.assert_array_equal(long.fresh[:400], short.fresh)
    assert not np.array_equal(draw(seed=1).inputs, draw().inputs)
    assert not np.array_equal(short.inputs, short.fresh[:200])
