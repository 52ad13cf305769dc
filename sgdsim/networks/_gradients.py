"""What the gradients of the training rows say about a network."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim.networks._outputs import LabelledRows, Outputs, cross_entropies_of, mean_cross_entropy
from sgdsim.problems import Rows

# Numbers of a block of gradients that are in memory at once.
_BLOCK_NUMBERS = 2**18


def fisher_rao(outputs: Outputs, theta: PyTree, rows: Rows | LabelledRows) -> Float[Array, ""]:
    r"""Squared Fisher-Rao norm :math:`\theta^\top I(\theta)\,\theta`.

    .. math:: I(\theta)=\frac1n\sum_i \nabla\ell_i\nabla\ell_i^\top,\qquad
              \theta^\top I\theta = \frac1n\sum_i \langle\nabla\ell_i,\theta\rangle^2

    by one product of the Jacobian of the losses with ``theta``.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Training rows.

    Returns
    -------
    array
        A scalar, of the squared unit of the loss (nats).

    Notes
    -----
    For ``L`` layers without biases and a positively homogeneous activation it equals
    :math:`L^2\,\frac1n\sum_i\langle\partial\ell_i/\partial f,f_\theta(x_i)\rangle^2`: a property
    of the function. Liang et al. 2019, arXiv:1711.01530, with labels of the training rows.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, call_network, fisher_rao
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(jnp.array([[1.0]]), jnp.array([[1.0, 0.0]]))
    >>> network = Network((jnp.zeros((2, 1)),))
    >>> float(fisher_rao(call_network, network, rows))
    0.0
    """

    def losses(theta: PyTree) -> Float[Array, " n"]:
        return cross_entropies_of(outputs(theta, jnp.asarray(rows.inputs)), rows)

    _, slopes = jax.jvp(losses, (theta,), (theta,))
    return jnp.mean(slopes**2)


def gradient_noise(outputs: Outputs, theta: PyTree, rows: Rows | LabelledRows) -> Float[Array, ""]:
    r"""Trace :math:`\frac1n\sum_i\|\nabla\ell_i-\nabla L_n\|^2` of the covariance of one gradient.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    rows
        Training rows.

    Returns
    -------
    array
        A scalar. The noise of a batch of ``B`` rows drawn with replacement has this over ``B``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import LabelledRows, call_network, gradient_noise
    >>> from sgdsim.problems import Network
    >>> rows = LabelledRows(jnp.array([[1.0], [-1.0]]), jnp.array([[1.0, 0.0]] * 2))
    >>> float(gradient_noise(call_network, Network((jnp.zeros((2, 1)),)), rows))
    0.5
    """
    data = LabelledRows(jnp.asarray(rows.inputs), jnp.asarray(rows.targets))
    centre = jax.grad(lambda theta: mean_cross_entropy(outputs, theta, data))(theta)

    def of_row(row: LabelledRows) -> Float[Array, ""]:
        single = jax.tree.map(lambda a: a[None], row)
        gradient = jax.grad(lambda theta: mean_cross_entropy(outputs, theta, single))(theta)
        # Deviations are squared, not squares subtracted, which would cancel.
        deviation = jax.tree.map(lambda g, c: jnp.sum((g - c) ** 2), gradient, centre)
        return jnp.stack(jax.tree.leaves(deviation)).sum()

    size = sum(leaf.size for leaf in jax.tree.leaves(theta))
    block = max(1, min(data.inputs.shape[0], _BLOCK_NUMBERS // size))
    return jnp.mean(jax.lax.map(of_row, data, batch_size=block))
