r"""Norms of the layers of an architecture as linear maps, ready for the certificates.

The certificates speak of :math:`f(x) = A_L\,s(A_{L-1}\cdots s(A_1x))` with 1-Lipschitz ``s`` that
vanish at zero. A pool ``P`` between two layers has a Lipschitz constant :math:`\rho` other than
one, so that :math:`A_{j+1}P = (\rho A_{j+1})(P/\rho)` with the 1-Lipschitz map :math:`P/\rho`: the
norms of the layer *after* a pool (or a ``Scale``) are multiplied by its constant. Those after the
last linear map multiply the last linear map, since pools are positively homogeneous.

:math:`\rho` is the constant in the Euclidean norm, which the spectral, the Frobenius and the (2,1)
norm need. The (1,inf) norm, the largest 1-norm of a row, is the norm of a map between largest
entries, so that it is multiplied by the constant in that norm: one for a pool.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from sgdsim.bounds import LayerDistances, LayerNorms, layer_norms
from sgdsim.networks._architecture import Architecture
from sgdsim.networks._blocks import BatchNorm, Residual, fold_batch_norms
from sgdsim.networks._convolution import Interval, convolution_norms
from sgdsim.networks._layers import Activation, Convolution, Flatten, Layer, Linear, Scale
from sgdsim.networks._pools import AveragePool, MaxPool

# Activations with s(1) = 1, through which a constant coordinate passes unchanged.
_KEEP_ONE = {"relu", "leaky_relu", "elu", "hard_tanh"}


class _LinearMap(NamedTuple):
    """A linear layer, the shape of its inputs and the constants of what stands between."""

    layer: Linear | Convolution
    input_shape: tuple[int, ...]
    factor: Interval
    inf_factor: float


def operator_norms(architecture: Architecture) -> LayerNorms:
    r"""Evaluate the norms of every linear map of a chain: convolutions with their true size.

    .. math::
        \|A_j\|_2,\quad \|A_j\|_F,\quad \|A_j^T\|_{2,1},\quad \|A_j\|_{1,\infty}

    Parameters
    ----------
    architecture
        A chain of ``Linear`` and ``Convolution`` without biases, with activations, pools,
        ``Scale`` and ``Flatten`` between them. Batch norms are folded into the linear map right
        before them; what shift remains is a bias.

    Returns
    -------
    LayerNorms
        Shape ``(layer,)``, one entry per linear map. ``shapes`` are those of the linear maps, so
        ``parameter_count`` counts the entries of the maps, not the shared weights of a kernel.

    Raises
    ------
    ValueError
        If the architecture is not a chain or has biases; the message says what to change.

    Notes
    -----
    The Lipschitz constant of a pool or a ``Scale`` multiplies the norms of the linear map that
    follows, or of the last one: the constant in the Euclidean norm, for ``one_inf`` the one in the
    largest entry (see the module). A maximum over windows is not elementwise: a
    certificate whose proof needs elementwise activations does not cover it.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import Architecture, AveragePool, Convolution, Flatten, Linear
    >>> from sgdsim.networks import operator_norms
    >>> layers = (Convolution(np.ones((1, 1, 1, 1))), AveragePool(2), Flatten(), Linear(np.eye(4)))
    >>> norms = operator_norms(Architecture(layers, input_shape=(1, 4, 4)))
    >>> norms.spectral_high.round(6).tolist(), norms.shapes
    ([1.0, 0.5], ((16, 16), (4, 4)))
    """
    return _joined([_map_norms(part) for part in _chain_of_maps(architecture)])


def operator_distances(architecture: Architecture, reference: Architecture) -> LayerDistances:
    r"""Evaluate how far every linear map is from that of a reference network.

    .. math::
        \|A_j-A_j^{\mathrm{ref}}\|_2,\quad \|A_j-A_j^{\mathrm{ref}}\|_F,\quad
        \|(A_j-A_j^{\mathrm{ref}})^T\|_{2,1}

    Parameters
    ----------
    architecture, reference
        Two networks with the same layers, as for ``operator_norms``.

    Returns
    -------
    LayerDistances
        Of the linear maps; pools count as in ``operator_norms``. The radius of convolutions is
        that of the maps, which repeat a kernel at every position.

    Raises
    ------
    ValueError
        If the networks do not have the same layers or are no chains.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import mlp, operator_distances
    >>> moved, start = mlp([3.0 * np.ones((2, 2))]), mlp([np.ones((2, 2))])
    >>> operator_distances(moved, start).frobenius.tolist()
    [4.0]
    """
    _check_same(architecture, reference)
    pairs = zip(_chain_of_maps(architecture), _chain_of_maps(reference), strict=True)
    norms = _joined([_map_norms(_difference(part, centre)) for part, centre in pairs])
    return _distances(norms)


def kernel_norms(architecture: Architecture) -> LayerNorms:
    r"""Evaluate the norms of every kernel reshaped to a matrix, as published measures do.

    Parameters
    ----------
    architecture
        Any network, residual ones too. Biases are left out; batch norms are folded first.

    Returns
    -------
    LayerNorms
        Norms of the matrices ``(out, in * taps)``, one per linear map in the order of the layers,
        blocks before shortcuts.

    Notes
    -----
    For a convolution the spectral norm of this matrix is neither an upper nor a lower bound on
    that of the linear map. Use it to reproduce published measures (Jiang et al. 2020,
    arXiv:1912.02178; Dziugaite et al. 2020, arXiv:2010.11924), never in a certificate.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import Architecture, Convolution, kernel_norms
    >>> network = Architecture((Convolution(np.ones((1, 1, 3, 3))),), input_shape=(1, 8, 8))
    >>> kernel_norms(network).spectral_high.round(6).tolist()
    [3.0]
    """
    return _joined([layer_norms([matrix]) for matrix in kernel_matrices(architecture)])


def kernel_distances(architecture: Architecture, reference: Architecture) -> LayerDistances:
    r"""Evaluate the distances of the kernels from those of a reference, as published measures do.

    Parameters
    ----------
    architecture, reference
        Two networks with the same layers, as for ``kernel_norms``.

    Returns
    -------
    LayerDistances
        Of the matrices ``(out, in * taps)``.

    Raises
    ------
    ValueError
        If the networks do not have the same layers.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import Architecture, Convolution, kernel_distances
    >>> moved, start = (
    ...     Architecture((Convolution(np.full((1, 1, 2, 2), size)),), (1, 4, 4))
    ...     for size in (3.0, 1.0)
    ... )
    >>> kernel_distances(moved, start).frobenius.tolist()
    [4.0]
    """
    _check_same(architecture, reference)
    pairs = zip(kernel_matrices(architecture), kernel_matrices(reference), strict=True)
    return _distances(_joined([layer_norms([matrix - centre]) for matrix, centre in pairs]))


def kernel_matrices(architecture: Architecture) -> list[Float[np.ndarray, "out rest"]]:
    r"""Reshape the weights of every linear map to ``(out, rest)``, in float64.

    Parameters
    ----------
    architecture
        Any network; batch norms are folded, biases are left out.

    Returns
    -------
    list
        One matrix per linear map, blocks of residual layers before their shortcuts.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import Architecture, Convolution, kernel_matrices
    >>> network = Architecture((Convolution(np.ones((4, 3, 2, 2))),), input_shape=(3, 8, 8))
    >>> [matrix.shape for matrix in kernel_matrices(network)]
    [(4, 12)]
    """
    weights = _all_weights(fold_batch_norms(architecture.layers))
    return [np.asarray(weight, np.float64).reshape(len(weight), -1) for weight in weights]


def with_bias_coordinate(architecture: Architecture) -> Architecture:
    r"""Write the biases of a fully connected network as weights of a constant coordinate.

    .. math::
        A_j' = \begin{pmatrix}A_j & b_j\\ 0 & 1\end{pmatrix},\qquad A_L' = (A_L \;\; b_L)

    Parameters
    ----------
    architecture
        ``Linear`` layers and activations with ``s(1) = 1`` (relu, leaky_relu, elu, hard_tanh);
        batch norms right after linear maps are folded.

    Returns
    -------
    Architecture
        Without biases. Its inputs are those of the original with a 1 appended, so a bound
        ``B_x`` on the inputs becomes :math:`\sqrt{B_x^2+1}`; its outputs are the same.

    Raises
    ------
    ValueError
        If a layer does not let the constant through.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.networks import mlp, with_bias_coordinate
    >>> network = mlp([jnp.eye(2), jnp.ones((1, 2))], [jnp.ones(2), jnp.ones(1)])
    >>> network(jnp.array([[1.0, 2.0]])).tolist()
    [[6.0]]
    >>> with_bias_coordinate(network)(jnp.array([[1.0, 2.0, 1.0]])).tolist()
    [[6.0]]
    """
    layers = list(fold_batch_norms(architecture.layers))
    if isinstance(layers[0], Flatten):
        layers = layers[1:]
    last = max((n for n, layer in enumerate(layers) if isinstance(layer, Linear)), default=-1)
    if last < 0:
        raise ValueError(
            "The architecture has no fully connected layer, whose bias could be written as a "
            "weight; give at least one Linear."
        )
    augmented: list[Layer] = []
    for number, layer in enumerate(layers):
        if isinstance(layer, Linear):
            augmented.append(_with_constant(layer, keep=number < last))
        elif isinstance(layer, Activation) and (layer.name in _KEEP_ONE or number > last):
            augmented.append(layer)
        else:
            name = layer.name if isinstance(layer, Activation) else type(layer).__name__
            raise ValueError(
                f"{name} does not pass a constant 1 on, so biases cannot be written as weights; "
                f"use fully connected layers with {', '.join(sorted(_KEEP_ONE))}, or train "
                "without biases."
            )
    return Architecture(tuple(augmented), (math.prod(architecture.input_shape) + 1,))


def _with_constant(layer: Linear, keep: bool) -> Linear:
    weight = np.asarray(layer.weight, np.float64)
    bias = np.zeros(len(weight)) if layer.bias is None else np.asarray(layer.bias, np.float64)
    matrix = np.column_stack([weight, bias])
    if not keep:
        return Linear(matrix)
    return Linear(np.vstack([matrix, np.eye(1, matrix.shape[1], matrix.shape[1] - 1)]))


def _chain_of_maps(architecture: Architecture) -> list[_LinearMap]:
    """Linear maps with the constants of the pools before them; anything else is refused."""
    layers = fold_batch_norms(architecture.layers)
    folded = Architecture(layers, architecture.input_shape)
    maps: list[_LinearMap] = []
    pending, pending_inf = Interval(1.0, 1.0, "exact"), 1.0
    for layer, shape in zip(layers, folded.shapes[:-1], strict=True):
        if isinstance(layer, Linear | Convolution):
            _refuse_bias(layer, len(maps) + 1)
            maps.append(_LinearMap(layer, shape, pending, pending_inf))
            pending, pending_inf = Interval(1.0, 1.0, "exact"), 1.0
        elif isinstance(layer, AveragePool | MaxPool | Scale):
            pending = _times(pending, layer.lipschitz(shape))
            pending_inf *= layer.inf_lipschitz()
        elif isinstance(layer, Residual):
            raise ValueError(
                "The architecture has a residual block, and certificates are for plain chains of "
                "layers; use architecture.lipschitz(), which covers it."
            )
        elif isinstance(layer, BatchNorm):
            raise ValueError(
                "A batch norm that does not directly follow a linear map cannot be folded, and "
                "certificates are for networks without; put it right after a linear map."
            )
    if not maps:
        raise ValueError("The architecture has no linear map; give at least one layer of weights.")
    last = maps[-1]
    maps[-1] = last._replace(
        factor=_times(last.factor, pending), inf_factor=last.inf_factor * pending_inf
    )
    return maps


def _refuse_bias(layer: Linear | Convolution, number: int) -> None:
    if layer.bias is not None and np.any(np.asarray(layer.bias) != 0.0):
        raise ValueError(
            f"Linear map {number} ({type(layer).__name__}) has a bias (of its own or of a folded "
            "batch norm), and certificates are for networks without; use with_bias_coordinate for "
            "a fully connected relu network, or train without biases."
        )


def _times(first: Interval, second: Interval) -> Interval:
    return Interval(first.low * second.low, first.high * second.high, "product")


def _map_norms(part: _LinearMap) -> LayerNorms:
    """Norms of one linear map, each times the constant in its norm before it."""
    layer, shape, factor, inf_factor = part
    weight = np.asarray(layer.weight, np.float64)
    if isinstance(layer, Linear):
        norms = layer_norms([weight])
    else:
        sizes = layer.geometry(shape)
        values = convolution_norms(
            weight, shape, sizes.stride, sizes.padding, sizes.dilation, sizes.groups
        )
        norms = LayerNorms(
            spectral_low=np.array([values.spectral.low]),
            spectral_high=np.array([values.spectral.high]),
            frobenius=np.array([values.frobenius]),
            two_one=np.array([values.two_one]),
            one_inf=np.array([values.one_inf]),
            shapes=(values.shape,),
        )
    factors = {"spectral_low": factor.low, "one_inf": inf_factor}
    scaled = {
        name: getattr(norms, name) * factors.get(name, factor.high) for name in _array_fields()
    }
    return dataclasses.replace(norms, **scaled)


def _array_fields() -> list[str]:
    return [field.name for field in dataclasses.fields(LayerNorms) if field.name != "shapes"]


def _joined(parts: Sequence[LayerNorms]) -> LayerNorms:
    """Put layers one after another, whether or not their shapes chain."""
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in _array_fields()
    }
    return LayerNorms(**arrays, shapes=tuple(shape for part in parts for shape in part.shapes))


def _distances(norms: LayerNorms) -> LayerDistances:
    return LayerDistances(
        frobenius=norms.frobenius, two_one=norms.two_one, spectral_high=norms.spectral_high
    )


def _difference(part: _LinearMap, centre: _LinearMap) -> _LinearMap:
    """Linear map whose kernel is the difference of two."""
    weight, other = (np.asarray(one.layer.weight, np.float64) for one in (part, centre))
    return part._replace(layer=eqx.tree_at(lambda layer: layer.weight, part.layer, weight - other))


def _check_same(architecture: Architecture, reference: Architecture) -> None:
    same = jax.tree.structure(architecture) == jax.tree.structure(reference)
    shapes = [
        [np.shape(leaf) for leaf in jax.tree.leaves(one)] for one in (architecture, reference)
    ]
    if not same or shapes[0] != shapes[1]:
        raise ValueError(
            "The two networks must have the same layers; got weights of the shapes "
            f"{shapes[0]} and {shapes[1]}{'' if same else ' in other layers'}."
        )


def _all_weights(layers: Sequence[Layer]) -> list[np.ndarray]:
    weights: list[np.ndarray] = []
    for layer in layers:
        if isinstance(layer, Linear | Convolution):
            weights.append(np.asarray(layer.weight))
        elif isinstance(layer, Residual):
            weights += _all_weights(layer.block) + _all_weights(layer.shortcut)
    return weights
