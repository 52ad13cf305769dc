"""A network as a list of layers: forward pass, shapes, Lipschitz constant."""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.core
import numpy as np
from jaxtyping import Array, Float

from sgdsim.networks._blocks import chain, fold_batch_norms, sequence_lipschitz
from sgdsim.networks._convolution import Interval
from sgdsim.networks._layers import Activation, Layer, Linear


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


class Architecture(eqx.Module):
    r"""Network :math:`f = l_m \circ \dots \circ l_1` of layers, a pytree of its weights.

    Parameters
    ----------
    layers
        First layer first.
    input_shape
        Shape of one input: ``(features,)`` or ``(channels, *space)``.

    Raises
    ------
    ValueError
        If the layers do not chain (the message names the layer and the shapes) or a weight is
        not finite.

    Notes
    -----
    The leaves are the arrays of the layers, as they were given: NumPy arrays in float64 keep
    their precision for norms, while the forward pass follows the precision of JAX.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Activation, Architecture, Linear
    >>> layers = (Linear(2.0 * jnp.eye(2)), Activation("relu"), Linear(jnp.ones((1, 2))))
    >>> architecture = Architecture(layers, input_shape=(2,))
    >>> architecture(jnp.array([[3.0, -1.0]])).tolist()
    [[6.0]]
    >>> round(architecture.lipschitz().high, 6)
    2.828427
    """

    layers: tuple[Layer, ...] = eqx.field(converter=tuple)
    input_shape: tuple[int, ...] = eqx.field(static=True, converter=_shape)

    def __check_init__(self) -> None:
        """Refuse layers that do not chain and weights that are not finite."""
        if not self.layers:
            raise ValueError("An architecture needs at least one layer; got none.")
        chain(self.layers, self.input_shape)
        for number, layer in enumerate(self.layers, start=1):
            for path, leaf in jax.tree.leaves_with_path(layer):
                known = not isinstance(leaf, jax.core.Tracer)
                if known and not np.isfinite(np.asarray(leaf)).all():
                    raise ValueError(
                        f"The weights {jax.tree_util.keystr(path)} of layer {number} "
                        f"({type(layer).__name__}) are not all finite; a run that diverged has no "
                        "norms."
                    )

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of one input, before and after every layer."""
        return tuple(chain(self.layers, self.input_shape))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output."""
        return self.shapes[-1]

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate the network on a batch of shape ``(n, *input_shape)``."""
        if inputs.shape[1:] != self.input_shape:
            raise ValueError(
                f"The inputs must have the shape (n, *{self.input_shape}); got {inputs.shape}."
            )
        return functools.reduce(lambda values, layer: layer(values), self.layers, inputs)

    def folded(self) -> "Architecture":
        """Fold every batch norm into the linear map right before it: the same function, in float64.

        Batch norms that follow something else stay.
        """
        return Architecture(fold_batch_norms(self.layers), self.input_shape)

    def lipschitz(self) -> Interval:
        r"""Enclose the product rule, an upper bound on the Lipschitz constant of the network.

        .. math::
            \mathrm{Lip}(f) \le \prod_j \mathrm{Lip}(l_j),\qquad
            \mathrm{Lip}(x\mapsto S(x)+B(x)) \le \mathrm{Lip}(S)+\mathrm{Lip}(B)

        Returns
        -------
        Interval
            ``high`` is the certified bound. ``low`` says how far the product itself could be
            below; it is no lower bound on the Lipschitz constant.

        Notes
        -----
        Linear maps count with their spectral norm, of the true map for convolutions; a batch norm
        that follows one is folded into it first. Activations count one, pools as in their classes.
        """
        return sequence_lipschitz(self.layers, self.input_shape)


def mlp(
    weights: Sequence[Float[Array, "_ _"] | Float[np.ndarray, "_ _"]],
    biases: Sequence[Float[Array, " _"] | Float[np.ndarray, " _"] | None] | None = None,
    activation: str = "relu",
) -> Architecture:
    r"""Build a fully connected architecture, with an activation between the linear maps.

    Parameters
    ----------
    weights
        ``A_j`` of shape ``(rows_j, cols_j)``, first layer first.
    biases
        One of shape ``(rows_j,)`` per layer, or none.
    activation
        A name of ``ACTIVATIONS``.

    Returns
    -------
    Architecture
        With inputs of shape ``(cols_1,)``.

    Raises
    ------
    ValueError
        If the layers do not chain or a weight is not finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import mlp
    >>> mlp([jnp.eye(2), jnp.ones((1, 2))]).shapes
    ((2,), (2,), (2,), (1,))
    """
    if biases is None:
        biases = [None] * len(weights)
    if not weights or len(biases) != len(weights):
        raise ValueError(
            f"An architecture needs at least one weight and a bias (or None) for each; got "
            f"{len(weights)} weights and {len(biases)} biases."
        )
    layers: list[Layer] = []
    for weight, bias in zip(weights, biases, strict=True):
        layers += [Linear(weight, bias), Activation(activation)]
    return Architecture(tuple(layers[:-1]), (weights[0].shape[1],))
