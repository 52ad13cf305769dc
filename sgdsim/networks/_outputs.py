"""Outputs of any network on labelled rows, and what follows from them alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sgdsim.problems import Rows

#: ``outputs(theta, inputs) -> (n, classes)``, for example ``call_network``.
Outputs = Callable[[Any, Any], Array]


class LabelledRows(NamedTuple):
    """Labelled rows whose inputs may have any shape, such as images.

    Attributes
    ----------
    inputs
        Shape ``(n, *input_shape)``.
    targets
        One-hot labels, shape ``(n, classes)``.
    """

    inputs: Float[Array, "n ..."] | Float[np.ndarray, "n ..."]
    targets: Float[Array, "n classes"] | Float[np.ndarray, "n classes"]


def call_network(network: Callable[[Array], Array], inputs: Array) -> Float[Array, "n classes"]:
    """Evaluate a network that is its own parameters, such as ``Network`` or ``Architecture``.

    Parameters
    ----------
    network
        Callable pytree.
    inputs
        Shape ``(n, *input_shape)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import call_network
    >>> from sgdsim.problems import Network
    >>> call_network(Network((2.0 * jnp.eye(2),)), jnp.array([[1.0, 3.0]])).tolist()
    [[2.0, 6.0]]
    """
    return network(inputs)


def network_margins(
    outputs: Outputs, theta: PyTree, rows: Rows | LabelledRows
) -> Float[Array, " n"]:
    r"""Margin :math:`f_\theta(x)_y - \max_{j\ne y} f_\theta(x)_j` of every row.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Labelled rows.

    Returns
    -------
    array
        Shape ``(n,)``; positive where the row is classified correctly.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, call_network, network_margins
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(jnp.array([[3.0, 1.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0]] * 2))
    >>> network_margins(call_network, Network((jnp.eye(2),)), rows).tolist()
    [2.0, -2.0]
    """
    return margins_of(outputs(theta, jnp.asarray(rows.inputs)), rows)


def margins_of(logits: Float[Array, "n classes"], rows: Rows | LabelledRows) -> Float[Array, " n"]:
    """Margins of outputs that are there already."""
    right = jnp.sum(logits * rows.targets, axis=-1)
    wrong = jnp.max(jnp.where(rows.targets > 0, -jnp.inf, logits), axis=-1)
    return right - wrong


def margin_percentile(margins: Float[Array, " n"], percent: int) -> Float[Array, ""]:
    r"""Take an order statistic of the margins: the :math:`\lceil np/100\rceil`-th smallest, signed.

    It is the smallest margin that at least ``p`` percent of the rows do not exceed, and is there
    for every number of rows.

    Parameters
    ----------
    margins
        Margins of the rows.
    percent
        ``p`` from 1 to 100.

    Raises
    ------
    ValueError
        If ``percent`` is not from 1 to 100.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import margin_percentile
    >>> float(margin_percentile(jnp.array([3.0, -1.0, 2.0]), 10))
    -1.0
    """
    if not 1 <= percent <= 100:
        raise ValueError(f"percent must be from 1 to 100; got {percent}.")
    return jnp.sort(margins)[-(-margins.size * percent // 100) - 1]


def cross_entropies_of(
    logits: Float[Array, "n classes"], rows: Rows | LabelledRows
) -> Float[Array, " n"]:
    """Cross-entropy of every row in nats."""
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * rows.targets, axis=-1)


def output_entropy(logits: Float[Array, "n classes"]) -> Float[Array, ""]:
    """Mean entropy in nats of the label that a network predicts."""
    logs = jax.nn.log_softmax(logits, axis=-1)
    # A label of probability zero has no part in the entropy.
    return jnp.mean(-jnp.sum(jnp.exp(logs) * jnp.maximum(logs, jnp.finfo(logs.dtype).min), axis=-1))


def accuracy(outputs: Outputs, theta: PyTree, rows: Rows | LabelledRows) -> Float[Array, ""]:
    """Share of rows with a positive margin; ties and outputs that are not finite are errors."""
    margins = network_margins(outputs, theta, rows)
    return jnp.mean((margins > 0).astype(margins.dtype))


def wrong_answers(outputs: Outputs, theta: PyTree, rows: Rows | LabelledRows) -> Int[Array, ""]:
    """Count the rows without a positive margin."""
    return jnp.sum(~(network_margins(outputs, theta, rows) > 0))


def mean_cross_entropy(
    outputs: Outputs, theta: PyTree, rows: Rows | LabelledRows
) -> Float[Array, ""]:
    """Mean cross-entropy in nats."""
    return jnp.mean(cross_entropies_of(outputs(theta, jnp.asarray(rows.inputs)), rows))
