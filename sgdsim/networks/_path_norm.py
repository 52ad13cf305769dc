"""Path norms by one forward pass, and the other norms of weights that ``LayerNorms`` lacks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim.networks._architecture import Architecture
from sgdsim.networks._blocks import Residual
from sgdsim.networks._layers import Activation, Convolution, Flatten, Layer, Linear, Scale
from sgdsim.networks._outputs import Outputs
from sgdsim.networks._pools import AveragePool, MaxPool
from sgdsim.problems import Network

#: Layers whose forward pass with powers of the weights sums over the paths.
_PASSED = Linear | Convolution | Flatten | MaxPool


def path_norm(
    outputs: Outputs,
    theta: PyTree,
    input_shape: tuple[int, ...],
    power: int = 1,
) -> Float[Array, ""]:
    r"""Path norm :math:`\big(\sum_{\mathrm{paths}}\prod_{e}|w_e|^p\big)^{1/p}`.

    Over all paths from an input to an output. One forward pass of ones through the network with
    the weights :math:`|w|^p`; a bias starts a path of its own.

    Parameters
    ----------
    outputs
        ``outputs(theta, inputs) -> (n, classes)``.
    theta
        Parameters.
    input_shape
        Shape of one input.
    power
        ``p``, 1 or 2.

    Returns
    -------
    array
        A scalar; infinite beyond the largest float.

    Raises
    ------
    ValueError
        If ``power`` is neither 1 nor 2, or a layer of an ``Architecture`` has no known paths, such
        as a batch norm that is not folded.

    Notes
    -----
    The path norm knows the weights only. For a ``Network`` and an ``Architecture`` activations are
    left out. Fixed factors are weights of the paths, too: a ``Scale`` counts with
    :math:`|c|^p`, every position of a mean over ``m`` with :math:`1/m^p`, a shortcut with its own
    paths; a maximum passes on the largest sum of its window. Any other network must have
    activations that leave numbers from zero on as they are and no fixed factors, since the forward
    pass knows the powers of the weights only. Fold batch norms first, with
    ``Architecture.folded``. Neyshabur, Salakhutdinov & Srebro 2015, arXiv:1506.02617.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import call_network, path_norm
    >>> from sgdsim.problems import Network
    >>> network = Network((jnp.array([[1.0, -2.0], [0.0, 3.0]]), jnp.array([[2.0, -1.0]])))
    >>> float(path_norm(call_network, network, (2,)))  # 2 * 1 + 2 * 2 + 1 * 3
    9.0
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2; got {power}.")
    powers = jax.tree.map(lambda leaf: jnp.abs(leaf) ** power, theta)
    dtype = jax.tree.leaves(powers)[0].dtype
    if isinstance(powers, Network):
        flow = jnp.ones(input_shape, dtype)
        for matrix in powers.weights:
            flow = matrix @ flow
    elif isinstance(powers, Architecture):
        flow = _flow(powers.layers, jnp.ones((1, *input_shape), dtype), power)
    else:
        flow = outputs(powers, jnp.ones((1, *input_shape), dtype))
    return jnp.sum(flow) ** (1.0 / power)


def layers_without_paths(layers: Sequence[Layer]) -> list[str]:
    """Names of the kinds of layers whose paths are not known."""
    unknown: list[str] = []
    for layer in layers:
        if isinstance(layer, Residual):
            unknown += layers_without_paths((*layer.block, *layer.shortcut))
        elif not isinstance(layer, _PASSED | Activation | Scale | AveragePool):
            unknown.append(type(layer).__name__)
    return unknown


def _flow(layers: Sequence[Layer], flow: Array, power: int) -> Array:
    """Sum over the paths through layers whose weights are powers already."""
    unknown = layers_without_paths(layers)
    if unknown:
        raise ValueError(
            f"The path norm is not known for {unknown[0]} layers; fold batch norms right after "
            "linear maps with architecture.folded(), or leave the path norm out."
        )
    for layer in layers:
        if isinstance(layer, Residual):
            flow = _flow(layer.block, flow, power) + _flow(layer.shortcut, flow, power)
        elif isinstance(layer, Scale):
            flow = flow * abs(float(layer.factor)) ** power
        elif isinstance(layer, AveragePool):
            flow = layer(flow) / layer.window(flow.shape[1:]) ** (power - 1)
        elif isinstance(layer, _PASSED):
            flow = layer(flow)
    return flow


def weight_matrices(theta: PyTree) -> list[Float[Array, "rows cols"]]:
    """Weights without biases, kernels reshaped to (out, rest)."""
    return [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(theta) if leaf.ndim > 1]


def log_l3_15_product(theta: PyTree) -> Float[Array, ""]:
    r"""Give :math:`\sum_i\ln\|W_i\|_{3,1.5}`: 3-norms of the rows, then their 1.5-norm."""
    total = jnp.zeros((), jax.tree.leaves(theta)[0].dtype)
    for matrix in weight_matrices(theta):
        rows = jnp.sum(jnp.abs(matrix) ** 3, axis=-1) ** (1.0 / 3.0)
        total += jnp.log(jnp.sum(rows**1.5)) / 1.5
    return total
