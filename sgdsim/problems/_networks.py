"""Fully connected networks without biases: the architecture that the bounds speak of."""

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

#: Activations that are 1-Lipschitz and vanish at zero, as every bound of sgdsim requires.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class Network(eqx.Module):
    r"""Feed-forward network :math:`f(x) = A_L\,\sigma(A_{L-1}\,\sigma(\cdots A_1 x))`.

    Its leaves are the weight matrices alone, so a network *is* a parameter pytree ``theta``.
    A bias is a constant column of the input.

    Parameters
    ----------
    weights
        ``A_j`` of shape ``(rows_j, cols_j)``, first layer first.
    activation
        Elementwise, 1-Lipschitz, zero at zero; a name of ``ACTIVATIONS``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Network
    >>> network = Network((jnp.eye(2), jnp.ones((1, 2))), activation="relu")
    >>> network(jnp.array([[3.0, -1.0]])).tolist()
    [[3.0]]
    """

    weights: tuple[Float[Array, "_ _"], ...]
    activation: str = eqx.field(static=True, default="tanh")

    def __call__(self, inputs: Float[Array, "n features"]) -> Float[Array, "n classes"]:
        """Evaluate the network (logits) on a batch of rows."""
        activation = ACTIVATIONS[self.activation]
        *hidden, last = self.weights
        for matrix in hidden:
            inputs = activation(inputs @ matrix.T)
        return inputs @ last.T


def random_network(
    key: Key[Array, ""], widths: Sequence[int], activation: str = "tanh", gain: float = 3.0
) -> Network:
    r"""Network with independent normal weights of standard deviation ``gain / sqrt(cols)``.

    Parameters
    ----------
    key
        Random key.
    widths
        Units of every layer, inputs first and outputs last.
    activation
        A name of ``ACTIVATIONS``.
    gain
        Scale of the hidden layers; the rows of the digits have norms near one half, so a gain
        above one lets the hidden units leave the linear range of tanh.
    """
    weights = tuple(
        jax.random.normal(jax.random.fold_in(key, layer), (rows, cols)) * (gain * cols**-0.5)
        for layer, (cols, rows) in enumerate(itertools.pairwise(widths))
    )
    return Network(weights, activation)
