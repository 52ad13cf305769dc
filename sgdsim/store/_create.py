"""The empty store: every array of the contract, preallocated with its attributes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from sgdsim.store._schema import (
    CONVENTIONS,
    FIXED_LABELS,
    GROUPS,
    VARIABLES,
    coordinates_in,
    coordinates_of,
    variables_in,
)
from sgdsim.store._specs import CoordinateSpec, VariableSpec

PRECISIONS = ("float32", "float64")


def checked_coordinates(
    coords: Mapping[str, Sequence | np.ndarray], study: str
) -> dict[str, np.ndarray]:
    """Coordinates of a study as arrays, the labels that the contract fixes filled in.

    Raises
    ------
    ValueError
        If a name is unknown or missing, values have the wrong type or number of dimensions,
        lengths along one dimension differ, or labels of a dimension repeat.
    """
    known = {spec.name: spec for spec in coordinates_in(study)}
    if unknown := sorted(set(coords) - set(known)):
        raise ValueError(f"unknown coordinates {unknown}; the contract has {sorted(known)}.")
    fixed = {name: labels for name, labels in FIXED_LABELS.items() if name in known}
    given = {**fixed, **coords}
    if missing := sorted(set(known) - set(given)):
        raise ValueError(f"missing coordinates {missing}.")
    arrays = {name: _checked_values(spec, given[name]) for name, spec in known.items()}
    for name, spec in known.items():
        length = len(arrays[spec.dim])
        if len(arrays[name]) != length:
            raise ValueError(
                f"coordinate {name!r} has length {len(arrays[name])}, its dimension {spec.dim!r} "
                f"has length {length}."
            )
    return arrays


def _checked_values(spec: CoordinateSpec, values: Sequence | np.ndarray) -> np.ndarray:
    if spec.dtype == "str":
        labels = list(values)
        if not all(isinstance(label, str) for label in labels):
            raise ValueError(f"coordinate {spec.name!r} holds text, got {labels!r}.")
        array = np.asarray(labels, dtype=np.dtypes.StringDType())
    else:
        array = np.asarray(values)
        wanted = np.dtype(spec.dtype)
        # An empty list comes as float64; it holds nothing that could be lost.
        if array.size and (array.dtype.kind == "f") > (wanted.kind == "f"):
            raise ValueError(f"coordinate {spec.name!r} holds integers, got {array.dtype}.")
        array = array.astype(wanted)
    if array.ndim != 1:
        raise ValueError(f"coordinate {spec.name!r} must be one-dimensional, got {array.shape}.")
    if spec.name == spec.dim and len(set(array.tolist())) != len(array):
        raise ValueError(f"labels of dimension {spec.name!r} must differ, got {array.tolist()}.")
    return array


def write_template(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    attrs: Mapping[str, str | int | float],
    study: str,
    precision: str,
    chunk_sizes: Mapping[str, int],
    points: int,
) -> None:
    """Write the empty store: groups, coordinates, and every variable filled with its fill value.

    Parameters
    ----------
    folder
        Where; must not exist yet.
    arrays
        What ``checked_coordinates`` returned.
    attrs
        Attributes of the root group.
    study
        A key of ``GROUPS``.
    precision
        ``"float32"`` or ``"float64"``.
    chunk_sizes
        Chunk lengths along ``step`` and ``probe``; processes and cases have chunks of their own,
        other dimensions are never split.
    points
        Number of points of the sweep.
    """
    sizes = {spec.dim: len(arrays[spec.dim]) for spec in coordinates_in(study)}
    root = zarr.create_group(
        folder,
        zarr_format=3,
        attributes={**attrs, "conventions": CONVENTIONS, "study": study, "precision": precision},
    )
    nodes = {"/": root}
    for name in GROUPS[study]:
        # CF: what is a coordinate without being a dimension is named by this attribute.
        further = [spec.name for spec in coordinates_of(name) if spec.name != spec.dim]
        attributes = {"coordinates": " ".join(further)} if further else {}
        nodes[name] = root.create_group(name, attributes=dict(attributes))
    # Each group carries its own coordinates, so that it can also be opened alone.
    for name in GROUPS[study]:
        for spec in coordinates_of(name):
            values = arrays[spec.name]
            array = nodes[name].create_array(
                spec.name,
                shape=values.shape,
                # Variable-length text: a registered Zarr v3 extension type, unlike fixed width.
                dtype=str if spec.dtype == "str" else spec.dtype,
                chunks=(max(1, len(values)),),
                dimension_names=(spec.dim,),
                attributes=dict(spec.attributes()),
            )
            array[:] = values
    for spec in variables_in(study):
        lengths = [sizes[dim] for dim in spec.dims]
        chunks = [
            max(1, min({"process": 1, "case": 1, **chunk_sizes}.get(dim, size), size))
            for dim, size in zip(spec.dims, lengths, strict=True)
        ]
        nodes[spec.group].create_array(
            spec.name,
            shape=(points, *lengths),
            dtype=spec.resolve_dtype(precision),
            chunks=(1, *chunks),
            # The checksum makes a damaged chunk an error instead of wrong numbers.
            compressors=ZstdCodec(level=3, checksum=True),
            fill_value=spec.fill,
            dimension_names=("point", *spec.dims),
            attributes=_attributes(spec),
        )


def _attributes(spec: VariableSpec) -> dict:
    attrs = dict(spec.attributes())
    partner = f"{spec.name}_stderr"
    if any(other.group == spec.group and other.name == partner for other in VARIABLES):
        attrs["ancillary_variables"] = partner
    return attrs
