"""Schema of a layer list: what a table of each kind of layer holds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sgdsim.networks._layers import ACTIVATIONS

_Count = Annotated[int, Field(ge=1)]
_Zeros = Annotated[int, Field(ge=0)]


def _as_tuples(value: Any) -> Any:
    """Turn the lists of TOML and JSON into the tuples that frozen tables hold."""
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list) else value


_Extent = Annotated[_Count | tuple[_Count] | tuple[_Count, _Count], BeforeValidator(_as_tuples)]
_Padding = Annotated[
    Literal["SAME", "VALID"]
    | _Zeros
    | tuple[_Zeros]
    | tuple[_Zeros, _Zeros]
    | tuple[tuple[_Zeros, _Zeros], ...],
    BeforeValidator(_as_tuples),
]
_PoolPadding = Annotated[
    _Zeros | tuple[_Zeros] | tuple[_Zeros, _Zeros], BeforeValidator(_as_tuples)
]


class Table(BaseModel):
    """A table of a layer list: unknown keys are refused, numbers are not guessed from text."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class LinearTable(Table):
    """Fully connected layer: names of its weight (out, in) and bias."""

    kind: Literal["linear"]
    weight: str
    bias: str | None = None


class ConvolutionTable(Table):
    """Convolution: names of its kernel (out, in / groups, *taps) and bias, and its geometry."""

    kind: Literal["convolution"]
    weight: str
    bias: str | None = None
    stride: _Extent = 1
    padding: _Padding = 0
    dilation: _Extent = 1
    groups: _Count = 1


class ActivationTable(Table):
    """Elementwise function."""

    kind: Literal["relu", "tanh", "elu", "hard_tanh", "leaky_relu"]


class FlattenTable(Table):
    """Image to vector."""

    kind: Literal["flatten"]


class AveragePoolTable(Table):
    """Means over windows."""

    kind: Literal["average_pool"]
    size: _Extent
    stride: _Extent | None = None


class MaxPoolTable(Table):
    """Maxima over windows."""

    kind: Literal["max_pool"]
    size: _Extent
    stride: _Extent | None = None
    padding: _PoolPadding = 0


class BatchNormTable(Table):
    """Batch norm in inference: names of its statistics, scale and shift."""

    kind: Literal["batch_norm"]
    mean: str
    variance: str
    weight: str | None = None
    bias: str | None = None
    epsilon: Annotated[float, Field(ge=0)] = 1e-5


class ScaleTable(Table):
    """Multiplication by a number."""

    kind: Literal["scale"]
    factor: float


class ResidualTable(Table):
    """Block of layers whose output is added to that of its shortcut, or to its input."""

    kind: Literal["residual"]
    block: Annotated[tuple["LayerTable", ...], BeforeValidator(_as_tuples)] = Field(min_length=1)
    shortcut: Annotated[tuple["LayerTable", ...], BeforeValidator(_as_tuples)] = ()


LayerTable = Annotated[
    LinearTable
    | ConvolutionTable
    | ActivationTable
    | FlattenTable
    | AveragePoolTable
    | MaxPoolTable
    | BatchNormTable
    | ScaleTable
    | ResidualTable,
    Field(discriminator="kind"),
]

#: Tables by the kinds of layers that they describe.
KINDS: dict[str, type[Table]] = {
    "linear": LinearTable,
    "convolution": ConvolutionTable,
    "flatten": FlattenTable,
    "average_pool": AveragePoolTable,
    "max_pool": MaxPoolTable,
    "batch_norm": BatchNormTable,
    "scale": ScaleTable,
    "residual": ResidualTable,
    **dict.fromkeys(sorted(ACTIVATIONS), ActivationTable),
}


class LayerList(Table):
    """Layers of a network by the names of their weights, and the shape of one input."""

    input: Annotated[tuple[_Count, ...], BeforeValidator(_as_tuples)] = Field(
        min_length=1, max_length=3
    )
    layer: Annotated[tuple[LayerTable, ...], BeforeValidator(_as_tuples)] = Field(min_length=1)


ResidualTable.model_rebuild()
LayerList.model_rebuild()
