"""Layers that act on other layers: batch norms, residual blocks and plain sequences."""

import functools
import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from sgdsim.networks._convolution import Interval
from sgdsim.networks._layers import Convolution, Layer, Linear, Vector, per_channel

_EPS = float(np.finfo(np.float64).eps)


class BatchNorm(Layer):
    r"""Batch normalisation with stored statistics (inference).

    .. math::
        x_c \mapsto w_c\,(x_c-\mu_c)/\sqrt{v_c+\varepsilon} + b_c

    Parameters
    ----------
    mean, variance
        Stored statistics of every channel. They are leaves of the pytree like the weights;
        ``Architecture.folded`` removes them.
    weight, bias
        Scale and shift of every channel; one and zero if left out.
    epsilon
        Added to the variances.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import BatchNorm
    >>> norm = BatchNorm(mean=jnp.ones(1), variance=4.0 * jnp.ones(1), epsilon=0.0)
    >>> norm(jnp.array([[5.0]])).tolist()
    [[2.0]]
    """

    mean: Vector
    variance: Vector
    weight: Vector | None = None
    bias: Vector | None = None
    epsilon: float | int = eqx.field(static=True, default=1e-5)

    def affine(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Scale and shift of every channel, in float64."""
        variance = np.asarray(self.variance, np.float64)
        if not (variance + self.epsilon > 0.0).all():
            raise ValueError(
                f"The variances of a batch norm plus epsilon={self.epsilon} must be positive; the "
                f"smallest variance is {variance.min()}."
            )
        weight = 1.0 if self.weight is None else np.asarray(self.weight, np.float64)
        bias = 0.0 if self.bias is None else np.asarray(self.bias, np.float64)
        scale = weight / np.sqrt(variance + self.epsilon)
        return scale, bias - scale * np.asarray(self.mean, np.float64)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Keep the shape."""
        channels = self.mean.shape[0]
        for vector in (self.variance, self.weight, self.bias):
            if vector is not None and vector.shape != (channels,):
                raise ValueError(
                    f"mean, variance, weight and bias must have one length; got {vector.shape} "
                    f"beside {(channels,)}"
                )
        if input_shape[0] != channels:
            raise ValueError(
                f"statistics of {channels} channels need inputs with {channels} channels"
            )
        return input_shape

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Largest scale of a channel."""
        largest = float(np.abs(self.affine()[0]).max())
        return Interval(largest * (1.0 - 4.0 * _EPS), largest * (1.0 + 4.0 * _EPS), "channels")

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate on a batch of shape ``(n, channels, ...)``."""
        scale = lax.rsqrt(jnp.asarray(self.variance) + self.epsilon)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -scale * self.mean
        if self.bias is not None:
            shift = shift + self.bias
        return inputs * per_channel(scale, inputs) + per_channel(shift, inputs)


class Residual(Layer):
    r"""Sum of a block of layers and a shortcut, :math:`x \mapsto S(x) + B(x)`.

    Parameters
    ----------
    block
        Layers of ``B``.
    shortcut
        Layers of ``S``; the identity if there are none.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Linear, Residual
    >>> Residual((Linear(2.0 * jnp.eye(2)),))(jnp.ones((1, 2))).tolist()
    [[3.0, 3.0]]
    """

    block: tuple[Layer, ...] = eqx.field(converter=tuple)
    shortcut: tuple[Layer, ...] = eqx.field(converter=tuple, default=())

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of both summands."""
        block, shortcut = chain(self.block, input_shape)[-1], chain(self.shortcut, input_shape)[-1]
        if block != shortcut:
            raise ValueError(
                f"the block gives the shape {block} and the shortcut {shortcut}, which cannot be "
                "added; add a projection to the shortcut"
            )
        return block

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Sum of the products of the two branches; a bound, even if all layers are linear."""
        branches = [sequence_lipschitz(part, input_shape) for part in (self.block, self.shortcut)]
        return Interval(
            sum(branch.low for branch in branches) * (1.0 - _EPS),
            sum(branch.high for branch in branches) * (1.0 + _EPS),
            "sum",
        )

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate both branches on a batch and add them."""
        block, shortcut = (
            functools.reduce(lambda values, layer: layer(values), layers, inputs)
            for layers in (self.block, self.shortcut)
        )
        return shortcut + block


def chain(layers: Sequence[Layer], input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes before and after every layer; a ValueError names the layer that does not fit.

    Parameters
    ----------
    layers
        First layer first.
    input_shape
        Of one input.
    """
    shapes = [input_shape]
    for number, layer in enumerate(layers, start=1):
        try:
            shapes.append(layer.output_shape(shapes[-1]))
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise ValueError(
                f"Layer {number} ({type(layer).__name__}) cannot take the shape {shapes[-1]} that "
                f"comes before it: {reason}."
            ) from None
    return shapes


def sequence_lipschitz(layers: Sequence[Layer], input_shape: tuple[int, ...]) -> Interval:
    """Product of the Lipschitz constants of layers whose batch norms are folded.

    Parameters
    ----------
    layers
        First layer first.
    input_shape
        Of one input.
    """
    folded = fold_batch_norms(layers)
    shapes = chain(folded, input_shape)[:-1]
    ends = [layer.lipschitz(shape) for layer, shape in zip(folded, shapes, strict=True)]
    # A product of d factors is rounded d - 1 times.
    slack = _EPS * len(ends)
    low = math.prod(end.low for end in ends) * (1.0 - slack)
    return Interval(low, math.prod(end.high for end in ends) * (1.0 + slack), "product")


def fold_batch_norms(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Replace a linear map and the batch norm that follows it by one linear map, in float64.

    A batch norm that follows something else is kept. Blocks of residual layers are folded, too.

    Parameters
    ----------
    layers
        First layer first.
    """
    folded: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Residual):
            layer = Residual(fold_batch_norms(layer.block), fold_batch_norms(layer.shortcut))
        before = folded[-1] if folded else None
        if isinstance(layer, BatchNorm) and isinstance(before, Linear | Convolution):
            folded[-1] = _absorb(before, layer)
        else:
            folded.append(layer)
    return tuple(folded)


def _absorb(linear: Linear | Convolution, norm: BatchNorm) -> Linear | Convolution:
    scale, shift = norm.affine()
    weight = np.asarray(linear.weight, np.float64)
    weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if linear.bias is not None:
        shift = shift + scale * np.asarray(linear.bias, np.float64)
    if isinstance(linear, Linear):
        return Linear(weight, shift)
    return Convolution(weight, shift, linear.stride, linear.padding, linear.dilation, linear.groups)
