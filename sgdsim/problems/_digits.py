"""Handwritten digits that scikit-learn bundles: real data without a download."""

import numpy as np

from sgdsim.problems._classification import ClassificationTask, Rows

_PIXEL_MAXIMUM = 16.0


def digits(
    training: int, reference: int, split_seed: int, ridge: float, random_labels: float = 0.0
) -> ClassificationTask:
    r"""Split the 1,797 digits into training, reference and held-out rows.

    Inputs are the 64 pixels divided by 16 and a constant one, all divided by the square root of
    the dimension 65; hence :math:`\|x\| \le 1` for every image that could be drawn.

    Parameters
    ----------
    training, reference
        Numbers of rows; the rest is held out.
    split_seed
        Seed of the permutation that assigns rows, so that the split never depends on a run.
    ridge
        Penalty coefficient of the training loss.
    random_labels
        Share of all rows, held-out ones included, whose label is drawn anew, uniform on the ten
        classes: the population has random labels too. The rows of a smaller share are among
        those of a larger one. With 1 the inputs say nothing about the labels.

    Examples
    --------
    >>> from sgdsim.problems import digits
    >>> task = digits(training=1000, reference=400, split_seed=0, ridge=0.02)
    >>> task.training.inputs.shape, task.held_out.inputs.shape
    ((1000, 65), (397, 65))
    """
    from sklearn.datasets import load_digits  # a second to import, and only needed here

    pixels, labels = load_digits(return_X_y=True)
    inputs = np.column_stack([pixels / _PIXEL_MAXIMUM, np.ones(len(pixels))])
    inputs /= np.sqrt(inputs.shape[1])
    # A stream of its own: the split does not change with the share.
    random = np.random.default_rng([split_seed, 1])
    redrawn = random.permutation(len(labels))[: round(random_labels * len(labels))]
    labels = labels.copy()
    labels[redrawn] = random.integers(0, 10, len(labels))[redrawn]
    targets = np.eye(10)[labels]
    order = np.random.default_rng(split_seed).permutation(len(inputs))
    parts = np.split(order, [training, training + reference])
    return ClassificationTask(
        *(Rows(inputs[part], targets[part]) for part in parts), ridge=ridge, input_bound=1.0
    )
