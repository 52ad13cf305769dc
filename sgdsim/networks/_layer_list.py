"""Layer lists from TOML or JSON files, and the architectures that they describe."""

import itertools
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from pydantic import ValidationError

from sgdsim.networks._architecture import Architecture
from sgdsim.networks._blocks import BatchNorm, Residual
from sgdsim.networks._layer_mistakes import first_mistake, listed, nearest
from sgdsim.networks._layer_tables import (
    ActivationTable,
    AveragePoolTable,
    BatchNormTable,
    ConvolutionTable,
    LayerList,
    LinearTable,
    MaxPoolTable,
    ResidualTable,
    ScaleTable,
    Table,
)
from sgdsim.networks._layers import Activation, Convolution, Flatten, Layer, Linear, Scale
from sgdsim.networks._pools import AveragePool, MaxPool


def read_layers(path: str | Path) -> LayerList:
    r"""Read a layer list from a TOML or JSON file.

    Parameters
    ----------
    path
        File with ``input``, the shape of one input, and one ``[[layer]]`` per layer with its
        ``kind`` and the names of its weights.

    Returns
    -------
    LayerList
        Checked, but not yet compared with any weights.

    Raises
    ------
    ValueError
        If the file is no layer list; the message names the layer, the key and the nearest match.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sgdsim.networks import read_layers
    >>> text = 'input = [2]\n[[layer]]\nkind = "linear"\nweight = "0.weight"\n'
    >>> _ = Path("layers.toml").write_text(text, encoding="utf-8")
    >>> read_layers("layers.toml").layer[0].weight
    '0.weight'
    """
    path = Path(path)
    if path.suffix.lower() not in (".toml", ".json"):
        raise ValueError(f"A layer list is a .toml or a .json file; got {path.name}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8; save it in this encoding.") from error
    try:
        table = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}.") from error
    try:
        return LayerList.model_validate(table)
    except ValidationError as error:
        raise ValueError(f"{path.name}: {first_mistake(error)}") from error


def layers_of(weights: Mapping[str, np.ndarray], activation: Literal["relu", "tanh"]) -> LayerList:
    r"""Guess the layer list of a plain fully connected network from the names of its weights.

    Parameters
    ----------
    weights
        Matrices ``*.weight`` of shape (out, in), in the order of the layers, each with or without
        a ``*.bias``.
    activation
        Function between the layers; the file does not tell it.

    Returns
    -------
    LayerList
        Linear layers with the activation between them.

    Raises
    ------
    ValueError
        If a name ends otherwise, a weight is no matrix or the matrices do not chain.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import layers_of
    >>> guess = layers_of({"0.weight": np.ones((4, 2)), "2.weight": np.ones((1, 4))}, "tanh")
    >>> guess.input, [layer.kind for layer in guess.layer]
    ((2,), ['linear', 'tanh', 'linear'])
    """
    names = [name for name in weights if name.rpartition(".")[2] == "weight"]
    biases = {name: f"{name.removesuffix('weight')}bias" for name in names}
    others = [name for name in weights if name not in names and name not in biases.values()]
    bad = others or [name for name in names if weights[name].ndim != 2]
    if bad or not names:
        raise ValueError(
            "Layers are guessed only for matrices named *.weight and their *.bias; got "
            f"{listed(bad or list(weights))}. Write a layer list and read it with read_layers."
        )
    for below, above in itertools.pairwise(names):
        if weights[above].shape[1] != weights[below].shape[0]:
            raise ValueError(
                f"{above} of shape {weights[above].shape} cannot follow {below} of shape "
                f"{weights[below].shape}; give the weights in the order of the layers, as "
                "(out, in)."
            )
    layers: list[Any] = []
    for name in names:
        bias = biases[name] if biases[name] in weights else None
        layers.append(LinearTable(kind="linear", weight=name, bias=bias))
        layers.append(ActivationTable(kind=activation))
    return LayerList(input=(weights[names[0]].shape[1],), layer=tuple(layers[:-1]))


def build_architecture(weights: Mapping[str, np.ndarray], layers: LayerList) -> Architecture:
    r"""Put named weights into the layers that use them.

    Parameters
    ----------
    weights
        Arrays by name, as from ``read_weights``.
    layers
        As from ``read_layers`` or ``layers_of``.

    Returns
    -------
    Architecture
        Every array is used once or more. Half precision becomes float32.

    Raises
    ------
    ValueError
        If a name is missing, an array is not used (a bound that leaves out weights would be
        wrong), is not of real numbers or not finite, or shapes do not chain.

    Notes
    -----
    Counters named ``*num_batches_tracked``, which PyTorch stores beside batch norms, are not
    weights and may be left out.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import build_architecture, layers_of
    >>> weights = {"0.weight": np.ones((4, 2)), "2.weight": np.ones((1, 4))}
    >>> build_architecture(weights, layers_of(weights, "relu")).output_shape
    (1,)
    """
    source = _Source(weights)
    built = tuple(source.layer(table) for table in layers.layer)
    unused = [
        name
        for name in weights
        if name not in source.used and name.rpartition(".")[2] != "num_batches_tracked"
    ]
    if unused:
        raise ValueError(
            f"The layer list does not use the weights {listed(unused)}; a bound that leaves out "
            "weights would be wrong, so add their layers or remove them from the file."
        )
    return Architecture(built, layers.input)


class _Source:
    """Named weights, and which of them have been used."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.used: set[str] = set()

    def array(self, name: str) -> np.ndarray:
        """Give one array of real numbers."""
        if name not in self.weights:
            raise ValueError(f"There are no weights named {name!r}{nearest(name, self.weights)}.")
        self.used.add(name)
        array = np.asarray(self.weights[name])
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"The weights {name!r} must be real numbers in floating point; got {array.dtype}."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"The weights {name!r} are not all finite; a run that diverged has no norms."
            )
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)

    def matrix(self, name: str, axes: Sequence[int]) -> np.ndarray:
        """Give one array with an allowed number of axes."""
        array = self.array(name)
        if array.ndim not in axes:
            raise ValueError(
                f"The weights {name!r} must have {' or '.join(map(str, axes))} axes here; their "
                f"shape is {array.shape}."
            )
        return array

    def vector(self, name: str | None) -> np.ndarray | None:
        """Give one vector, if there is a name."""
        return None if name is None else self.matrix(name, (1,))

    def layer(self, table: Table) -> Layer:
        """Build one layer."""
        match table:
            case LinearTable():
                return Linear(self.matrix(table.weight, (2,)), self.vector(table.bias))
            case ConvolutionTable():
                return Convolution(
                    self.matrix(table.weight, (3, 4)),
                    self.vector(table.bias),
                    table.stride,
                    table.padding,
                    table.dilation,
                    table.groups,
                )
            case ActivationTable():
                return Activation(table.kind)
            case AveragePoolTable():
                return AveragePool(table.size, table.stride)
            case MaxPoolTable():
                return MaxPool(table.size, table.stride, table.padding)
            case BatchNormTable():
                return BatchNorm(
                    self.matrix(table.mean, (1,)),
                    self.matrix(table.variance, (1,)),
                    self.vector(table.weight),
                    self.vector(table.bias),
                    table.epsilon,
                )
            case ScaleTable():
                return Scale(table.factor)
            case ResidualTable():
                return Residual(
                    tuple(self.layer(part) for part in table.block),
                    tuple(self.layer(part) for part in table.shortcut),
                )
            case _:
                return Flatten()
