"""Classification of the corners of a cube: a population so small that its risks are sums."""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sgdsim.problems._classification import ClassificationTask, Rows


class HypercubeTeacher(NamedTuple):
    """Who labels the corners.

    Attributes
    ----------
    dimension
        Number of inputs d.
    classes
        Number of labels.
    width
        Hidden tanh units of the teacher.
    seed
        Seed of the teacher and of random labels.
    """

    dimension: int
    classes: int = 2
    width: int = 8
    seed: int = 0


def hypercube(
    teacher: HypercubeTeacher,
    training: int,
    reference: int,
    split_seed: int,
    ridge: float,
    random_labels: float = 0.0,
) -> ClassificationTask:
    r"""Draw rows from the corners of a cube that a random network has labelled.

    .. math:: x \sim U\{-1, 1\}^d\times\{1\}\big/\sqrt{d + 1}, \qquad
              y = \arg\max_k f^*_k(x)

    The last input is a constant, so that :math:`\|x\| = 1`. The population has :math:`2^d` rows,
    all of them equally probable: it is what ``held_out`` holds, and its means are exact. Training
    and reference rows are independent draws from it, with replacement.

    Parameters
    ----------
    teacher
        Dimension, number of labels, and the network :math:`f^*`.
    training, reference
        Numbers of rows.
    split_seed
        Seed of the draws; the rows of a smaller number are the first of those of a larger one.
    ridge
        Penalty coefficient of the training loss.
    random_labels
        Share of the corners whose label is drawn anew, uniform on the labels, in the population
        too. The corners of a smaller share are among those of a larger one.

    Examples
    --------
    >>> from sgdsim.problems import HypercubeTeacher, hypercube
    >>> task = hypercube(HypercubeTeacher(dimension=8), 100, 50, split_seed=0, ridge=0.0)
    >>> task.held_out.inputs.shape, task.exact
    ((256, 9), True)
    """
    inputs = _corners(teacher.dimension)
    random = np.random.default_rng([teacher.seed, 0])
    hidden = random.normal(size=(teacher.width, teacher.dimension))
    output = random.normal(size=(teacher.classes, teacher.width))
    # Inputs of order one bend the tanh units; the constant is left out, so that f(-x) = -f(x).
    labels = np.argmax(np.tanh(inputs[:, :-1] @ hidden.T * 3.0) @ output.T, axis=1)
    corrupted = np.random.default_rng([teacher.seed, 1])
    redrawn = corrupted.permutation(len(labels))[: round(random_labels * len(labels))]
    labels[redrawn] = corrupted.integers(0, teacher.classes, len(labels))[redrawn]
    targets = np.eye(teacher.classes)[labels]
    parts = [
        np.random.default_rng([split_seed, purpose]).integers(0, len(inputs), rows)
        for purpose, rows in ((2, training), (3, reference))
    ]
    own, other = (Rows(inputs[part], targets[part]) for part in parts)
    return ClassificationTask(
        own, other, Rows(inputs, targets), ridge=ridge, input_bound=1.0, exact=True
    )


def _corners(dimension: int) -> Float[np.ndarray, "corner features"]:
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=dimension)))
    return np.column_stack([signs, np.ones(len(signs))]) / np.sqrt(dimension + 1)
