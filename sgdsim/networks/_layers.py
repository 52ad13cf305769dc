"""Layers of an architecture, each with its rule of shapes and its Lipschitz constant."""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from sgdsim.bounds import layer_norms
from sgdsim.networks._convolution import Interval, convolution_norm
from sgdsim.networks._geometry import ConvolutionGeometry, Padding, convolution_geometry
from sgdsim.problems import ACTIVATIONS as BASIC_ACTIVATIONS

#: Weights, as they were given: NumPy arrays keep their precision until they are evaluated.
Weight = Float[Array, "..."] | Float[np.ndarray, "..."]
Vector = Float[Array, " _"] | Float[np.ndarray, " _"]
#: A number of pixels for all axes, or one per axis.
Extent = int | Sequence[int]

#: Elementwise functions that are 1-Lipschitz and vanish at zero, as every bound requires.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    **BASIC_ACTIVATIONS,
    "elu": jax.nn.elu,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": jax.nn.leaky_relu,
}


def as_static(value: Extent | Padding) -> Any:
    """Make what a user gave hashable."""
    if isinstance(value, int | str):
        return value
    return tuple(as_static(part) for part in value)


class Layer(eqx.Module):
    """One step of an architecture; the leaves of the pytree are its weights."""

    @abc.abstractmethod
    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one output, or a ValueError if the input does not fit."""

    @abc.abstractmethod
    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Enclose the norm of the layer if it is linear, else a Lipschitz constant."""

    @abc.abstractmethod
    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate the layer on a batch."""


class Linear(Layer):
    r"""Fully connected layer :math:`x \mapsto Ax + b`.

    Parameters
    ----------
    weight
        ``A``, shape ``(rows, cols)``, the layout of PyTorch.
    bias
        ``b``, shape ``(rows,)``, or none.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Linear
    >>> Linear(jnp.array([[1.0, 2.0]]), jnp.array([0.5]))(jnp.ones((1, 2))).tolist()
    [[3.5]]
    """

    weight: Float[Array, "rows cols"] | Float[np.ndarray, "rows cols"]
    bias: Vector | None = None

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """``(rows,)``."""
        rows, cols = self.weight.shape
        _check_bias(self.bias, rows)
        if input_shape != (cols,):
            hint = "; put a Flatten in between" if math.prod(input_shape) == cols else ""
            raise ValueError(
                f"a weight of shape {(rows, cols)} needs inputs of shape {(cols,)}{hint}"
            )
        return (rows,)

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Spectral norm, by a dense decomposition."""
        norms = layer_norms([np.asarray(self.weight)])
        return Interval(float(norms.spectral_low[0]), float(norms.spectral_high[0]), "dense")

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate on a batch of shape ``(n, cols)``."""
        outputs = inputs @ self.weight.T
        return outputs if self.bias is None else outputs + self.bias[None, :]


class Convolution(Layer):
    r"""Convolution (cross-correlation) over one or two axes of space.

    Parameters
    ----------
    weight
        Kernel ``(out, in / groups, *taps)``, the layout of PyTorch.
    bias
        ``(out,)``, or none.
    stride, padding, dilation, groups
        As for ``convolution_norm``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Convolution
    >>> layer = Convolution(jnp.ones((1, 1, 3)), padding=1)
    >>> layer(jnp.ones((1, 1, 4))).tolist()
    [[[2.0, 3.0, 3.0, 2.0]]]
    """

    weight: Float[Array, "out fan *taps"] | Float[np.ndarray, "out fan *taps"]
    bias: Vector | None = None
    stride: Extent = eqx.field(static=True, default=1, converter=as_static)
    padding: Padding = eqx.field(static=True, default=0, converter=as_static)
    dilation: Extent = eqx.field(static=True, default=1, converter=as_static)
    groups: int = eqx.field(static=True, default=1)

    def geometry(self, input_shape: tuple[int, ...]) -> ConvolutionGeometry:
        """Resolve the sizes for inputs of one shape."""
        return convolution_geometry(
            self.weight.shape, input_shape, self.stride, self.padding, self.dilation, self.groups
        )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """``(out, *space)``."""
        _check_bias(self.bias, self.weight.shape[0])
        return self.geometry(input_shape).output_shape

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Spectral norm of the linear map."""
        geometry = self.geometry(input_shape)
        return convolution_norm(
            np.asarray(self.weight),
            input_shape,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            self.groups,
        )

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate on a batch of shape ``(n, in, *space)``."""
        geometry = self.geometry(inputs.shape[1:])
        # Unlike matrix products, convolutions do not promote types themselves.
        dtype = jnp.result_type(inputs, self.weight)
        outputs = lax.conv_general_dilated(
            jnp.asarray(inputs, dtype),
            jnp.asarray(self.weight, dtype),
            geometry.stride,
            geometry.padding,
            rhs_dilation=geometry.dilation,
            feature_group_count=self.groups,
        )
        return outputs if self.bias is None else outputs + per_channel(self.bias, outputs)


class Activation(Layer):
    """Elementwise function of ``ACTIVATIONS``: 1-Lipschitz and zero at zero.

    Parameters
    ----------
    name
        ``relu``, ``tanh``, ``elu``, ``hard_tanh`` or ``leaky_relu``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Activation
    >>> Activation("relu")(jnp.array([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """

    name: str = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse a function whose Lipschitz constant is not known to be one."""
        if self.name not in ACTIVATIONS:
            raise ValueError(
                f"Unknown activation {self.name!r}; the 1-Lipschitz functions with s(0) = 0 that "
                f"are known are {', '.join(sorted(ACTIVATIONS))}."
            )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Keep the shape."""
        return input_shape

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """One."""
        return Interval(1.0, 1.0, "exact")

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Apply the function to every number."""
        return ACTIVATIONS[self.name](inputs)


class Flatten(Layer):
    """Image to vector, channel by channel as in PyTorch.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Flatten
    >>> Flatten()(jnp.ones((5, 3, 4, 4))).shape
    (5, 48)
    """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """One axis."""
        return (math.prod(input_shape),)

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """One."""
        return Interval(1.0, 1.0, "exact")

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Evaluate on a batch."""
        return inputs.reshape(inputs.shape[0], -1)


class Scale(Layer):
    """Multiplication by a fixed number.

    Parameters
    ----------
    factor
        Any finite number; it is not a weight.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import Scale
    >>> Scale(-0.5)(jnp.ones((1, 2))).tolist()
    [[-0.5, -0.5]]
    """

    factor: float | int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse a factor that is not finite."""
        if not math.isfinite(self.factor):
            raise ValueError(f"The factor of a Scale must be finite; got {self.factor}.")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Keep the shape."""
        return input_shape

    def lipschitz(self, input_shape: tuple[int, ...]) -> Interval:
        """Magnitude of the factor."""
        return Interval(abs(float(self.factor)), abs(float(self.factor)), "exact")

    def inf_lipschitz(self) -> float:
        """Lipschitz constant in the largest entry: the magnitude of the factor."""
        return abs(float(self.factor))

    def __call__(self, inputs: Float[Array, "n *input"]) -> Float[Array, "n *output"]:
        """Multiply."""
        return inputs * self.factor


def _check_bias(bias: Vector | None, rows: int) -> None:
    if bias is not None and bias.shape != (rows,):
        raise ValueError(f"its bias must have the shape {(rows,)} and has {bias.shape}")


def per_channel(values: Vector, like: Float[Array, "n *shape"]) -> Float[Array, "1 *_"]:
    """Give one number per channel the rank of a batch."""
    return jnp.asarray(values).reshape(1, -1, *(1,) * (like.ndim - 2))
