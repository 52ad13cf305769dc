"""Networks, cross-entropy, margins and what is known about the curvature of one layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from sgdsim.problems import (
    ACTIVATIONS,
    ClassificationTask,
    Network,
    Rows,
    build_task,
    cross_entropies,
    digits,
    error_rate,
    initial_network,
    margins,
    random_network,
)
from sgdsim.scenario import StagnationScenario, load_scenario
from sgdsim.testing._dense import dense_hessian

pytestmark = pytest.mark.usefixtures("x64")


def random_rows(seed: int = 0, n: int = 6, features: int = 3, classes: int = 4) -> Rows:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    return Rows(
        jnp.asarray(random.normal(size=(n, features))), jnp.asarray(np.eye(classes)[labels])
    )


@pytest.mark.parametrize(
    ("activation", "function"), [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))]
)
def test_network_is_the_product_of_its_layers(getkey, activation, function):
    network = random_network(getkey(), (3, 5, 4), activation)
    rows = random_rows()
    first, second = (np.asarray(matrix) for matrix in network.weights)
    expected = function(np.asarray(rows.inputs) @ first.T) @ second.T
    np.testing.assert_allclose(network(jnp.asarray(rows.inputs)), expected, rtol=1e-12)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_satisfy_what_the_bounds_require(name):
    x = jnp.linspace(-4, 4, 801)
    y = ACTIVATIONS[name](x)
    assert float(ACTIVATIONS[name](jnp.zeros(()))) == 0.0
    assert np.max(np.abs(np.diff(y))) <= np.max(np.diff(x)) * (1 + 1e-12)


def test_random_weights_have_the_documented_scale(getkey):
    network = random_network(getkey(), (400, 300, 10), gain=3.0)
    for matrix in network.weights:
        z = (np.std(matrix) * np.sqrt(matrix.shape[1]) / 3.0 - 1) * np.sqrt(2 * matrix.size)
        assert abs(z) < 5
    assert [matrix.shape for matrix in network.weights] == [(300, 400), (10, 300)]


def test_cross_entropy_and_margins_against_numpy(getkey):
    network, rows = random_network(getkey(), (3, 4)), random_rows()
    logits = np.asarray(network(jnp.asarray(rows.inputs)))
    label = np.argmax(rows.targets, axis=1)
    picked = logits[np.arange(6), label]
    expected = -np.log(scipy.special.softmax(logits, axis=1)[np.arange(6), label])
    np.testing.assert_allclose(cross_entropies(network, rows), expected, rtol=1e-12)
    others = [np.delete(row, y).max() for row, y in zip(logits, label, strict=True)]
    np.testing.assert_allclose(margins(network, rows), picked - others, rtol=1e-12)
    wrong = np.mean(np.argmax(logits, axis=1) != label)
    assert 0 < wrong < 1
    np.testing.assert_allclose(error_rate(network, rows), wrong)


def test_cross_entropy_survives_huge_logits():
    network = Network((jnp.asarray([[1e4], [-1e4]]),))
    rows = Rows(jnp.ones((2, 1)), jnp.eye(2))
    np.testing.assert_allclose(cross_entropies(network, rows), [0.0, 2e4])


def test_ties_count_as_errors():
    network = Network((jnp.zeros((4, 3)),))
    np.testing.assert_array_equal(margins(network, random_rows()), np.zeros(6))
    assert float(error_rate(network, random_rows())) == 1.0


def test_known_curvature_bounds_the_hessian_everywhere(getkey):
    rows = random_rows(1, n=9)
    task = ClassificationTask(rows, rows, rows, ridge=0.05, input_bound=10.0)
    network = random_network(getkey(), (3, 4))
    known = task.known_curvature(network)
    assert known is not None
    mu, beta = known
    largest = 0.0
    for scale in [0.0, 0.3, 1.0, 10.0]:
        theta = jax.tree.map(lambda a, s=scale: s * a, network)
        spectrum = np.linalg.eigvalsh(dense_hessian(task.problem(rows), theta))
        assert spectrum[0] >= mu - 1e-12
        assert spectrum[-1] <= beta + 1e-12
        largest = max(largest, spectrum[-1])
        # Shifting the logits of all classes together changes nothing: mu is attained.
        np.testing.assert_allclose(spectrum[0], mu, atol=1e-12)
    # At theta = 0 with k classes the bound is reached up to the factor 2 / k.
    assert largest >= 0.5 * beta
    np.testing.assert_allclose(largest - 0.05, (beta - 0.05) * 2 / 4, rtol=1e-10)


def test_the_curvature_bound_is_attained_for_two_classes():
    """With two classes diag(p) - pp' reaches 1/2, so that no smaller beta is right."""
    rows = random_rows(2, classes=2)
    task = ClassificationTask(rows, rows, rows, ridge=0.05, input_bound=10.0)
    network = Network((jnp.zeros((2, 3)),))
    top = np.linalg.eigvalsh(dense_hessian(task.problem(rows), network))[-1]
    known = task.known_curvature(network)
    assert known is not None
    np.testing.assert_allclose(known, (0.05, top), rtol=1e-12)


def test_nothing_is_known_with_hidden_layers(getkey):
    rows = random_rows()
    task = ClassificationTask(rows, rows, rows, ridge=0.05, input_bound=10.0)
    assert task.known_curvature(random_network(getkey(), (3, 5, 4))) is None


def test_digits_are_split_into_disjoint_parts_that_the_seed_fixes():
    task = digits(training=1000, reference=400, split_seed=0, ridge=0.02)
    parts = [task.training, task.reference, task.held_out]
    assert [len(part.inputs) for part in parts] == [1000, 400, 397]
    every = np.concatenate([part.inputs for part in parts])
    whole = digits(training=1797, reference=0, split_seed=5, ridge=0.02).training
    # The same rows, each as often as in the whole set: nothing lost, nothing shared.
    assert sorted(map(tuple, every)) == sorted(map(tuple, np.asarray(whole.inputs)))
    assert len(np.unique(whole.inputs, axis=0)) == 1797

    again = digits(training=1000, reference=400, split_seed=0, ridge=0.5)
    np.testing.assert_array_equal(again.training.inputs, task.training.inputs)
    np.testing.assert_array_equal(again.training.targets, task.training.targets)
    other = digits(training=1000, reference=400, split_seed=1, ridge=0.02)
    assert not np.array_equal(other.training.inputs, task.training.inputs)


def test_digits_have_a_bias_column_norm_at_most_one_and_one_hot_labels():
    task = digits(training=1000, reference=400, split_seed=0, ridge=0.02)
    for rows in (task.training, task.reference, task.held_out):
        inputs, targets = np.asarray(rows.inputs), np.asarray(rows.targets)
        np.testing.assert_allclose(inputs[:, -1], 65**-0.5, rtol=1e-15)
        assert np.linalg.norm(inputs, axis=1).max() <= task.input_bound == 1.0
        assert inputs.shape[1] == 65
        assert set(np.unique(targets)) == {0.0, 1.0}
        np.testing.assert_array_equal(targets.sum(axis=1), 1.0)
        assert np.all(targets.sum(axis=0) > 0)


def test_a_full_white_image_would_have_norm_one():
    """The bound belongs to the way inputs are made: all 64 pixels at 16."""
    task = digits(training=1000, reference=400, split_seed=0, ridge=0.02)
    pixel_maximum = max(np.max(rows.inputs) for rows in (task.training, task.held_out))
    np.testing.assert_allclose(pixel_maximum, 65**-0.5, rtol=1e-15)


@pytest.mark.parametrize(
    ("overrides", "shapes", "activation"),
    [
        ([], [(10, 65)], "tanh"),
        (
            ["problem.model={kind='mlp', hidden=[8, 5], activation='relu'}"],
            [(8, 65), (5, 8), (10, 5)],
            "relu",
        ),
    ],
)
def test_scenario_to_task_and_network(overrides, shapes, activation):
    rows = ["problem.data.training=20", "problem.data.reference=10", "problem.data.split_seed=3"]
    scenario = load_scenario("stagnation", [*overrides, *rows, "problem.ridge=0.25"])
    assert isinstance(scenario, StagnationScenario)
    task = build_task(scenario.problem)
    expected = digits(20, 10, 3, 0.25)
    assert task.ridge == 0.25
    np.testing.assert_array_equal(task.training.inputs, expected.training.inputs)
    network = initial_network(scenario.problem, task, jax.random.key(1))
    assert [matrix.shape for matrix in network.weights] == shapes
    assert network.activation == activation


def every_label(share: float, split_seed: int = 0) -> np.ndarray:
    task = digits(1000, 400, split_seed, 0.02, share)
    parts = (task.training, task.reference, task.held_out)
    return np.concatenate([np.argmax(rows.targets, axis=1) for rows in parts])


def test_random_labels_replace_a_share_of_all_rows_and_nothing_else():
    true, few, many = (every_label(share) for share in (0.0, 0.2, 0.7))
    np.testing.assert_array_equal(true, every_label(0.0))
    changed = (few != true, many != true)
    # One redrawn label in ten is the true one by chance; none or two in ten would be seen.
    for rows, redrawn in zip(changed, (359, 1258), strict=True):
        assert abs(rows.sum() - 0.9 * redrawn) < 5 * (0.09 * redrawn) ** 0.5
    assert abs(changed[1].sum() - 0.8 * 1258) > 5 * (0.16 * 1258) ** 0.5
    assert abs(changed[1].sum() - 1258) > 5 * (0.09 * 1258) ** 0.5
    # Rows of the smaller share belong to the larger one and keep their label there.
    np.testing.assert_array_equal(many[changed[0]], few[changed[0]])
    for part in np.split(changed[1], [1000, 1400]):
        assert 0.5 < part.mean() < 0.75
    first, second = (digits(1000, 400, 0, 0.02, share).training.inputs for share in (0.0, 1.0))
    np.testing.assert_array_equal(first, second)


@pytest.mark.statistical
def test_wholly_random_labels_know_nothing_of_the_digit():
    true, random = every_label(0.0), every_label(1.0)
    table = np.zeros((10, 10))
    np.add.at(table, (true, random), 1)
    independent = np.outer(table.sum(axis=1), np.full(10, 0.1))
    assert scipy.stats.chi2.sf(np.sum((table - independent) ** 2 / independent), 90) > 1e-6
    half = np.zeros((10, 10))
    np.add.at(half, (true, every_label(0.5)), 1)
    assert scipy.stats.chi2.sf(np.sum((half - independent) ** 2 / independent), 90) < 1e-6


def test_labels_do_not_depend_on_the_sizes_of_the_parts_but_on_the_seed():
    other = digits(30, 20, 0, 0.02, 0.7)
    np.testing.assert_array_equal(np.argmax(other.training.targets, axis=1), every_label(0.7)[:30])
    whole = [digits(1797, 0, seed, 0.02, 1.0).training for seed in (0, 1)]
    by_image = [
        dict(zip(map(tuple, r.inputs), np.argmax(r.targets, 1), strict=True)) for r in whole
    ]
    same = np.mean([by_image[1][image] == label for image, label in by_image[0].items()])
    assert same < 0.3
