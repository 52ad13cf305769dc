"""Fully connected networks with biases: what the literature on the edge of stability trains."""

import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sgdsim.problems._networks import ACTIVATIONS


class BiasedNetwork(eqx.Module):
    r"""Feed-forward network :math:`f(x) = A_L\,\sigma(\cdots\sigma(A_1 x + b_1)\cdots) + b_L`.

    Its leaves are the weight matrices and the biases, so a network *is* a parameter pytree
    ``theta``. The bounds speak of networks without biases, of `Network`.

    Parameters
    ----------
    weights
        ``A_j`` of shape ``(rows_j, cols_j)``, first layer first.
    biases
        ``b_j`` of shape ``(rows_j,)``; that of the outputs may be left out.
    activation
        Elementwise; a name of ``ACTIVATIONS``.

    Raises
    ------
    ValueError
        A hidden layer has no biases, or there are more biases than weight matrices.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import BiasedNetwork
    >>> weights, biases = (jnp.eye(2), jnp.ones((1, 2))), (jnp.array([-1.0, 2.0]), jnp.zeros(1))
    >>> network = BiasedNetwork(weights, biases, activation="relu")
    >>> network(jnp.array([[3.0, -1.0]])).tolist()
    [[3.0]]
    """

    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    activation: str = eqx.field(static=True, default="tanh")

    def __check_init__(self):
        layers = len(self.weights)
        if len(self.biases) not in (layers - 1, layers):
            raise ValueError(
                f"biases must be {layers} vectors, one per weight matrix, or {layers - 1} without "
                f"those of the outputs, got {len(self.biases)}."
            )

    def __call__(self, inputs: Float[Array, "n features"]) -> Float[Array, "n outputs"]:
        """Evaluate the network on a batch of rows."""
        activation = ACTIVATIONS[self.activation]
        *hidden, last = self.weights
        for matrix, bias in zip(hidden, self.biases, strict=False):
            inputs = activation(inputs @ matrix.T + bias[None])
        outputs = inputs @ last.T
        return outputs + self.biases[-1][None] if len(self.biases) > len(hidden) else outputs


def biased_network(
    key: Key[Array, ""],
    widths: Sequence[int],
    activation: str = "tanh",
    initial: str = "uniform",
    hidden_gain: float = 1.0,
    output_bias: bool = True,
) -> BiasedNetwork:
    r"""Draw a network by one of the usual laws.

    .. math:: A_j, b_j \sim U\bigl(-\text{cols}_j^{-1/2}, \text{cols}_j^{-1/2}\bigr)
        \quad\text{or}\quad
        A_j \sim N\Bigl(0, \frac{2}{\text{cols}_j + \text{rows}_j}\Bigr),\ b_j = 0

    Parameters
    ----------
    key
        Random key.
    widths
        Units of every layer, inputs first and outputs last.
    activation
        A name of ``ACTIVATIONS``.
    initial
        ``"uniform"`` (the law of ``torch.nn.Linear``) or ``"xavier"`` (Glorot's normal law).
    hidden_gain
        Factor of the weights of all layers but the last; biases are left as they are.
    output_bias
        Whether the outputs have biases.

    Returns
    -------
    BiasedNetwork
        In the default precision.

    Raises
    ------
    ValueError
        ``initial`` is unknown.

    Notes
    -----
    The regression networks of Cohen et al. 2021, arXiv:2103.00065, with one hidden layer of 100
    units, have the law ``"xavier"`` with the hidden gain 1.9 and no output bias.

    Examples
    --------
    >>> import jax
    >>> from sgdsim.problems import biased_network
    >>> network = biased_network(jax.random.key(0), (16, 32, 32, 1))
    >>> sum(leaf.size for leaf in jax.tree.leaves(network))
    1633
    """
    if initial not in ("uniform", "xavier"):
        raise ValueError(f"initial must be 'uniform' or 'xavier', got {initial!r}.")
    weights, biases = [], []
    layers = len(widths) - 1
    for layer, (cols, rows) in enumerate(itertools.pairwise(widths)):
        of_weights, of_biases = jax.random.split(jax.random.fold_in(key, layer))
        if initial == "uniform":
            reach = cols**-0.5
            matrix = jax.random.uniform(of_weights, (rows, cols), minval=-reach, maxval=reach)
            bias = jax.random.uniform(of_biases, (rows,), minval=-reach, maxval=reach)
        else:
            matrix = (2 / (cols + rows)) ** 0.5 * jax.random.normal(of_weights, (rows, cols))
            bias = jnp.zeros(rows)
        weights.append(matrix if layer == layers - 1 else hidden_gain * matrix)
        biases.append(bias)
    biases = biases if output_bias else biases[:-1]
    return BiasedNetwork(tuple(weights), tuple(biases), activation)
