"""Regression tasks: rows that a network fits by least squares."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.problems._biased import BiasedNetwork
from sgdsim.problems._classification import Rows
from sgdsim.problems._digits import digits
from sgdsim.problems._networks import Network
from sgdsim.problems._problem import OutputLoss, Problem


class RegressionTask(eqx.Module):
    r"""Rows and the penalised mean of half their squared errors.

    .. math:: L_n(\theta) = \frac1n\sum_{i=1}^n \tfrac12\|f_\theta(x_i) - y_i\|^2
        + \frac{r}{2}\|\theta\|^2

    Parameters
    ----------
    training
        Rows that SGD sees.
    held_out
        Rows that estimate the test error; ``None`` where targets have no classes, or without
        such rows.
    ridge
        Penalty coefficient r.
    """

    training: Rows
    held_out: Rows | None
    ridge: float

    @property
    def problem(self) -> Problem:
        """Penalised half squared errors on the training rows."""
        return Problem(squared_errors, self.training, self.ridge)


def _outputs(network: Network | BiasedNetwork, rows: Rows) -> Float[Array, "n outputs"]:
    return network(jnp.asarray(rows.inputs))


def _half_squares(outputs: Float[Array, "n outputs"], rows: Rows) -> Float[Array, " n"]:
    return 0.5 * jnp.sum(jnp.square(outputs - rows.targets), axis=-1)


#: Half the squared error of every row, summed over the outputs.
squared_errors = OutputLoss(_outputs, _half_squares)


def wrong_share(network: Network | BiasedNetwork, rows: Rows) -> Float[Array, ""]:
    r"""Share of rows whose class the outputs get wrong; ties count as errors.

    With one output the classes are the signs of targets -1 and +1; with several, the largest
    output has to be that of the class.

    Parameters
    ----------
    network
        What is judged.
    rows
        Rows whose targets are signs or unit vectors.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import BiasedNetwork, Rows, wrong_share
    >>> identity = BiasedNetwork((jnp.eye(1),), (jnp.zeros(1),))
    >>> rows = Rows(jnp.array([[0.5], [2.0], [-1.0], [3.0]]), jnp.array([[1.0], [-1], [-1], [1]]))
    >>> float(wrong_share(identity, rows))
    0.25
    """
    outputs, targets = _outputs(network, rows), jnp.asarray(rows.targets)
    if targets.shape[1] == 1:
        margin = (outputs * targets)[:, 0]
    else:
        right = jnp.sum(outputs * targets, axis=-1)
        margin = right - jnp.max(jnp.where(targets > 0, -jnp.inf, outputs), axis=-1)
    return jnp.mean((margin <= 0).astype(margin.dtype))


def chebyshev(degree: int, training: int, ridge: float = 0.0) -> RegressionTask:
    r"""Chebyshev polynomial on an even grid.

    .. math:: x_i = -1 + \frac{2i}{n - 1}, \qquad y_i = T_k(x_i) = \cos(k \arccos x_i)

    Parameters
    ----------
    degree
        k.
    training
        Number n of points, at least 2.
    ridge
        Penalty coefficient.

    Notes
    -----
    With degree 5 and 20 points it is the task ``chebyshev-5-20`` of Cohen et al. 2021,
    arXiv:2103.00065.

    Examples
    --------
    >>> from sgdsim.problems import chebyshev
    >>> task = chebyshev(degree=2, training=3)
    >>> task.training.inputs.ravel().tolist(), task.training.targets.ravel().tolist()
    ([-1.0, 0.0, 1.0], [1.0, -1.0, 1.0])
    """
    inputs = np.linspace(-1, 1, training)[:, None]
    targets = np.polynomial.chebyshev.Chebyshev.basis(degree)(inputs)
    return RegressionTask(Rows(inputs, targets), None, ridge)


def noisy_signs(
    sizes: tuple[int, int],
    dimension: int,
    flips: float,
    seed: int,
    ridge: float = 0.0,
    *,
    noise: float = 0.0,
) -> RegressionTask:
    r"""Sides of a random plane, some of them wrong, seen through noise.

    .. math:: x \sim N(0, I_d), \qquad y = \pm\,\mathrm{sign}(v^\top x) + s\,\zeta, \quad
        P(-) = \text{flips}, \quad \zeta \sim N(0, 1)

    Parameters
    ----------
    sizes
        Numbers of training and of held-out rows.
    dimension
        d.
    flips
        Probability that a label has the wrong sign, in held-out rows too.
    seed
        Seed of v and of the rows. Rows of one seed begin alike at all numbers of rows, and the
        labels that few flips turn are among those that more flips turn.
    ridge
        Penalty coefficient.
    noise
        Standard deviation s of what is added to the targets of training rows; those of held-out
        rows stay signs, by which errors are counted.

    Examples
    --------
    >>> from sgdsim.problems import noisy_signs
    >>> task = noisy_signs((1024, 100), dimension=16, flips=0.1, seed=0)
    >>> task.training.inputs.shape, task.held_out.targets.shape
    ((1024, 16), (100, 1))
    """
    direction = np.random.default_rng([seed, 0]).normal(size=dimension)

    def rows(count: int, part: int, noise: float) -> Rows:
        inputs = np.random.default_rng([seed, part, 0]).normal(size=(count, dimension))
        turned = np.random.default_rng([seed, part, 1]).random(count) < flips
        signs = np.where((inputs @ direction >= 0) != turned, 1.0, -1.0)
        added = noise * np.random.default_rng([seed, part, 2]).normal(size=count)
        return Rows(inputs, (signs + added)[:, None])

    training, held_out = sizes
    known = rows(held_out, 2, 0.0) if held_out else None
    return RegressionTask(rows(training, 1, noise), known, ridge)


def digit_targets(
    training: int, split_seed: int, random_labels: float = 0.0, ridge: float = 0.0
) -> RegressionTask:
    """Digits as numbers to fit: 64 pixels between 0 and 1, labels as the ten unit vectors.

    Parameters
    ----------
    training
        Number of training rows, the first ones of the split of `digits`; the rest is held out.
    split_seed
        Seed of the permutation that assigns rows.
    random_labels
        Share of all rows whose label is drawn anew.
    ridge
        Penalty coefficient.

    Examples
    --------
    >>> from sgdsim.problems import digit_targets
    >>> task = digit_targets(training=1500, split_seed=0)
    >>> task.training.inputs.shape, task.held_out.targets.shape
    ((1500, 64), (297, 10))
    """
    split = digits(training, 0, split_seed, ridge, random_labels)

    def pixels(rows: Rows) -> Rows:
        # The last column is the constant that `digits` scales with the pixels, in place of a bias.
        return Rows(np.asarray(rows.inputs)[:, :-1] / np.asarray(rows.inputs)[:, -1:], rows.targets)

    held_out = pixels(split.held_out) if len(split.held_out.inputs) else None
    return RegressionTask(pixels(split.training), held_out, ridge)
