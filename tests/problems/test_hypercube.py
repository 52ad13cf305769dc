"""Rows from the corners of a cube, of which the population is known."""

import numpy as np
import pytest

from sgdsim.problems import HypercubeTeacher, build_task, hypercube
from sgdsim.scenario import BoundsScenario, load_scenario, sweep_points

TEACHER = HypercubeTeacher(dimension=7, classes=3, width=6, seed=1)


def labels(targets):
    return np.argmax(targets, axis=1)


def task_of(training=60, random_labels=0.0, split_seed=0, teacher=TEACHER):
    return hypercube(teacher, training, 30, split_seed, 0.0, random_labels)


def test_the_population_is_every_corner_once():
    rows = task_of().held_out
    signs = rows.inputs * np.sqrt(8)
    assert rows.inputs.shape == (128, 8)
    np.testing.assert_allclose(np.abs(signs), 1.0)
    assert len({tuple(row) for row in np.sign(signs)}) == 128
    assert (signs[:, -1] > 0).all()
    np.testing.assert_allclose(np.linalg.norm(rows.inputs, axis=1), 1.0)
    np.testing.assert_array_equal(rows.targets.sum(axis=1), 1.0)


def test_rows_are_labelled_as_in_the_population():
    task = task_of(random_labels=0.3)
    corners = zip(task.held_out.inputs, labels(task.held_out.targets), strict=True)
    known = {x.tobytes(): y for x, y in corners}
    for part in (task.training, task.reference):
        assert [known[x.tobytes()] for x in part.inputs] == labels(part.targets).tolist()


def test_rows_are_drawn_with_replacement_and_uniformly():
    rows = task_of(training=12_800).training.inputs
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(counts) == 128
    # Poisson counts of mean 100: a chi-square with 127 degrees of freedom.
    assert 90 < ((counts - 100.0) ** 2 / 100.0).sum() < 170


def test_smaller_samples_begin_larger_ones():
    few, many = task_of(20), task_of(50)
    np.testing.assert_array_equal(few.training.inputs, many.training.inputs[:20])
    np.testing.assert_array_equal(few.reference.inputs, many.reference.inputs)
    assert (task_of(split_seed=1).training.inputs != few.training.inputs[:1]).any()


def test_two_labels_of_an_odd_teacher_are_balanced():
    targets = task_of(teacher=HypercubeTeacher(8)).held_out.targets
    assert targets.mean(axis=0).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_the_labels_is_random_in_the_population(share):
    true, noisy = (labels(task_of(random_labels=s).held_out.targets) for s in (0.0, share))
    changed = (true != noisy).mean()
    # A new label is another one in two of three cases.
    assert abs(changed - share * 2 / 3) < 3.5 * np.sqrt(share * 2 / 9 / 128)


def test_a_scenario_builds_it():
    point = sweep_points(load_scenario("bound-tightness"))[0]
    assert isinstance(point, BoundsScenario)
    task = build_task(point.problem)
    assert task.exact
    assert len(task.training.inputs) == point.problem.data.training
