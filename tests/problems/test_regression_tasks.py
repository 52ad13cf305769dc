"""Regression tasks: rows against NumPy and scikit-learn, losses against plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev as polynomials
from scipy import stats
from sklearn.datasets import load_digits

from sgdsim.problems import (
    BiasedNetwork,
    OutputLoss,
    Rows,
    biased_network,
    cast,
    chebyshev,
    digit_targets,
    digits,
    error_rate,
    noisy_signs,
    random_network,
    wrong_share,
)

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize(("degree", "rows"), [(5, 20), (1, 2), (40, 33)])
def test_targets_are_chebyshev_polynomials(degree, rows):
    task = chebyshev(degree, rows)
    inputs, targets = (np.asarray(a)[:, 0] for a in (task.training.inputs, task.training.targets))
    np.testing.assert_array_equal(inputs, np.linspace(-1, 1, rows))
    coefficients = np.zeros(degree + 1)
    coefficients[-1] = 1
    np.testing.assert_allclose(targets, polynomials.chebval(inputs, coefficients), atol=1e-12)
    np.testing.assert_allclose(targets, np.cos(degree * np.arccos(inputs)), atol=1e-11)
    assert task.held_out is None


@pytest.mark.parametrize(("widths", "outputs"), [((3, 4, 1), 1), ((3, 4, 2), 2)])
def test_risk_against_a_plain_sum(getkey, widths, outputs):
    random = np.random.default_rng(1)
    rows = Rows(random.normal(size=(9, 3)), random.normal(size=(9, outputs)))
    network = biased_network(getkey(), widths)
    task = type(chebyshev(1, 2))(rows, None, 0.3)
    predicted = np.asarray(network(jnp.asarray(rows.inputs)))
    losses = [0.5 * sum((f - y) ** 2) for f, y in zip(predicted, rows.targets, strict=True)]
    squares = sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(network))
    problem = task.problem
    np.testing.assert_allclose(problem.empirical_risk(network), np.mean(losses) + 0.15 * squares)
    np.testing.assert_allclose(
        problem.per_sample_losses(network), np.array(losses) + 0.15 * squares
    )
    assert isinstance(problem.losses, OutputLoss)
    np.testing.assert_array_equal(problem.losses.outputs(network, rows), predicted)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_precision_is_that_of_the_problem(getkey, dtype):
    problem = noisy_signs((10, 0), 3, 0.1, 0).problem.astype(dtype)
    network = cast(biased_network(getkey(), (3, 4, 1)), dtype)
    gradient = jax.grad(problem.empirical_risk)(network)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(dtype)}


def test_rows_are_traced_not_compiled_in(getkey):
    """One program serves other rows: the second call traces nothing."""
    traces = []

    @jax.jit
    def risk(problem, network):
        traces.append(None)
        return problem.empirical_risk(network)

    network = biased_network(getkey(), (3, 4, 1))
    first, second = (noisy_signs((10, 0), 3, 0.1, seed).problem for seed in (0, 1))
    assert float(risk(first, network)) != float(risk(second, network))
    assert len(traces) == 1


@pytest.mark.statistical
def test_noisy_signs_come_from_a_plane_and_some_are_turned():
    rows, flips = 4000, 0.2
    noisy, clean = (noisy_signs((rows, 500), 5, share, seed=3) for share in (flips, 0.0))
    assert clean.held_out is not None
    inputs, signs = (np.asarray(a) for a in (clean.training.inputs, clean.training.targets))
    assert stats.kstest(inputs.ravel(), "norm").pvalue > 1e-3
    assert set(np.unique(signs)) == {-1.0, 1.0}
    # The mean of y x is along the normal of the plane, sqrt(2/pi) times its unit vector.
    mean = np.mean(signs * inputs, axis=0)
    z = (np.linalg.norm(mean) - (2 / np.pi) ** 0.5) * rows**0.5
    assert abs(z) < 4
    # Rows that are far on one side of the estimated plane are all on that side.
    depth = inputs @ mean / np.linalg.norm(mean)
    assert np.all(np.sign(depth)[abs(depth) > 0.5] == signs[abs(depth) > 0.5, 0])
    np.testing.assert_array_equal(noisy.training.inputs, inputs)
    for part in ("training", "held_out"):
        dirty, truth = (np.asarray(getattr(task, part).targets) for task in (noisy, clean))
        turned = np.mean(dirty != truth)
        assert abs(turned - flips) < 4 * (flips * (1 - flips) / len(dirty)) ** 0.5
    assert abs(np.corrcoef(inputs[:500, 0], np.asarray(clean.held_out.inputs)[:, 0])[0, 1]) < 0.2


def test_rows_of_one_seed_begin_alike():
    base, more = noisy_signs((20, 5), 4, 0.1, 7), noisy_signs((30, 0), 4, 0.3, 7)
    np.testing.assert_array_equal(more.training.inputs[:20], base.training.inputs)
    changed = base.training.targets != more.training.targets[:20]
    assert 0 < np.sum(changed) < 20
    clean = noisy_signs((20, 0), 4, 0.0, 7).training.targets
    few, many = (np.ravel(x != clean) for x in (base.training.targets, more.training.targets[:20]))
    assert np.all(many[few])  # what few flips turn, more flips turn too
    assert more.held_out is None
    other = noisy_signs((20, 5), 4, 0.1, 8)
    assert not np.array_equal(other.training.inputs, base.training.inputs)


def test_digits_are_pixels_and_unit_vectors():
    task = digit_targets(training=1500, split_seed=4)
    assert task.held_out is not None
    pixels, labels = load_digits(return_X_y=True)
    inputs = np.concatenate([task.training.inputs, task.held_out.inputs])
    targets = np.concatenate([task.training.targets, task.held_out.targets])
    assert inputs.shape == (1797, 64)
    order = np.random.default_rng(4).permutation(1797)
    np.testing.assert_allclose(inputs, pixels[order] / 16, atol=1e-12)
    np.testing.assert_array_equal(np.argmax(targets, axis=1), labels[order])
    assert np.all(np.sum(targets, axis=1) == 1)
    # The split is that of the classification task, and so are random labels.
    same = digits(1500, 100, 4, 0.0, 0.5)
    noisy = digit_targets(1500, 4, random_labels=0.5)
    np.testing.assert_array_equal(noisy.training.targets, same.training.targets)
    assert not np.array_equal(noisy.training.targets, task.training.targets)
    assert digit_targets(1797, 0).held_out is None


def test_wrong_share_of_signs_and_of_classes(getkey):
    identity = BiasedNetwork((jnp.eye(1),), (jnp.zeros(1),))
    rows = Rows(np.array([[1.0], [-2.0], [3.0], [0.0]]), np.array([[1.0], [1.0], [-1.0], [1.0]]))
    assert float(wrong_share(identity, rows)) == 0.75  # a tie is an error
    task = digits(100, 100, 0, 0.0)
    network = random_network(getkey(), (65, 8, 10))
    predicted = np.argmax(np.asarray(network(jnp.asarray(task.held_out.inputs))), axis=1)
    expected = np.mean(predicted != np.argmax(task.held_out.targets, axis=1))
    assert 0.5 < expected < 1
    np.testing.assert_allclose(wrong_share(network, task.held_out), expected)
    np.testing.assert_allclose(error_rate(network, task.held_out), expected)
    tied = BiasedNetwork((jnp.zeros((2, 1)),), (jnp.zeros(2),))
    assert float(wrong_share(tied, Rows(np.ones((1, 1)), np.array([[1.0, 0.0]])))) == 1.0
