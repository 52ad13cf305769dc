"""The empty store: every array of the contract, preallocated with its attributes."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from sgdsim.store._sweep import SweepAxis, checked_sweep, stored_name

#: The checksum makes a damaged chunk an error instead of wrong numbers.
_CODEC = ZstdCodec(level=3, checksum=True)
PRECISIONS = ("float32", "float64")
# Processes and cases are written one after the other, each into chunks of its own.
_ALONE = {"process": 1, "case": 1}


class Template(NamedTuple):
    """What decides the shape of an empty store, checked.

    Attributes
    ----------
    study
        A key of ``GROUPS``.
    precision
        ``"float32"`` or ``"float64"``.
    chunk_sizes
        Chunk lengths along ``step`` and ``probe``.
    arrays
        Values of the coordinates that all points share, by name.
    sweep
        Coordinates of every axis of the sweep, ``{axis: {name: values}}``.
    """

    study: str
    precision: str
    chunk_sizes: dict[str, int]
    arrays: dict[str, np.ndarray]
    sweep: dict[str, dict[str, np.ndarray]]


def checked_template(
    coords: Mapping[str, Sequence | np.ndarray],
    precision: str,
    chunk_sizes: Mapping[str, int],
    study: str,
    sweep: Sequence[SweepAxis],
) -> Template:
    """Check what a store is to be made of, before anything is written.

    Raises
    ------
    ValueError
        If the coordinates, the sweep, the precision or the chunks do not fit the contract.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")
    split = {"step", "probe"} & {spec.dim for spec in coordinates_in(study)}
    if set(chunk_sizes) != split or min(chunk_sizes.values(), default=1) < 1:
        names = " and ".join(sorted(split, reverse=True)) or "nothing"
        raise ValueError(f"chunk_sizes needs {names}, all >= 1, got {chunk_sizes}.")
    arrays = _checked_coordinates(coords, study)
    return Template(study, precision, dict(chunk_sizes), arrays, checked_sweep(sweep, study))


def _checked_coordinates(
    coords: Mapping[str, Sequence | np.ndarray], study: str
) -> dict[str, np.ndarray]:
    """Coordinates that all points share, the labels that the contract fixes filled in."""
    specs = coordinates_in(study)
    own = {spec.name for spec in specs if spec.per_point}
    known = {spec.name: spec for spec in specs if not spec.per_point}
    if early := sorted(set(coords) & own):
        raise ValueError(f"coordinates {early} differ by point: write them by write_coords.")
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
    folder: Path, template: Template, attrs: Mapping[str, str | int | float]
) -> None:
    """Write the empty store: groups, coordinates, and every variable with its fill value.

    Parameters
    ----------
    folder
        Where, on this machine; must not exist yet.
    template
        What ``checked_template`` returned.
    attrs
        Attributes of the root group.
    """
    study, sweep = template.study, template.sweep
    swept = {name: axis for axis, coords in sweep.items() for name in coords}
    fixed = {"conventions": CONVENTIONS, "study": study, "precision": template.precision}
    nodes: dict[str, zarr.Group] = {}
    for group in ("/", *GROUPS[study]):
        specs = coordinates_of(group, study)
        further = [stored_name(spec, swept) for spec in specs if spec.name != spec.dim]
        further += [name for name, axis in swept.items() if name != axis]
        # CF: what is a coordinate without being a dimension is named by this attribute.
        named: dict = {"coordinates": " ".join(further)} if further else {}
        if group == "/":
            attributes = {**attrs, **fixed, **named}
            nodes["/"] = zarr.create_group(folder, zarr_format=3, attributes=attributes)
        else:
            nodes[group] = nodes["/"].create_group(group, attributes=named)
        # Each group carries its own coordinates, so that it can also be opened alone.
        for axis, coords in sweep.items():
            for name, values in coords.items():
                described = {"long_name": name.replace("_", " "), "units": "1"}
                _write_coordinate(nodes[group], name, axis, values, described)
        for spec in specs:
            if spec.per_point:
                _preallocate(nodes[group], spec, (spec.dim,), template)
            else:
                values = template.arrays[spec.name]
                name = stored_name(spec, swept)
                _write_coordinate(nodes[group], name, spec.dim, values, spec.attributes())
    for spec in variables_in(study):
        _preallocate(nodes[spec.group], spec, spec.dims, template)
    # Nothing but attributes of the root changes from here on, so that a copy of all metadata in
    # the root stays true, and opening the store costs every worker one request.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not")
        zarr.consolidate_metadata(folder)


def _write_coordinate(
    group: zarr.Group, name: str, dim: str, values: np.ndarray, attrs: Mapping[str, str]
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        # Variable-length text: a registered Zarr v3 extension type, unlike fixed width.
        dtype=str if values.dtype.kind == "T" else values.dtype,
        chunks=(max(1, len(values)),),
        compressors=_CODEC,
        dimension_names=(dim,),
        attributes=dict(attrs),
    )
    array[:] = values


def _preallocate(
    group: zarr.Group,
    spec: VariableSpec | CoordinateSpec,
    dims: tuple[str, ...],
    template: Template,
) -> None:
    """Make an array that the points fill, each its own chunks."""
    attrs: dict[str, Any]
    swept = {name for coords in template.sweep.values() for name in coords}
    points = [len(coords[axis]) for axis, coords in template.sweep.items()]
    sizes = [len(template.arrays[dim]) for dim in dims]
    split = _ALONE | template.chunk_sizes
    chunks = [
        max(1, min(split.get(dim, size), size)) for dim, size in zip(dims, sizes, strict=True)
    ]
    if isinstance(spec, CoordinateSpec):
        # One number of one process is no chunk worth a file: a point writes all of them at once.
        chunks = [max(1, size) for size in sizes]
        dtype, fill, attrs = spec.dtype, float("nan"), dict(spec.attributes())
    else:
        dtype, fill = spec.resolve_dtype(template.precision), spec.fill
        attrs = _attributes(spec)
    group.create_array(
        stored_name(spec, swept),
        shape=(*points, *sizes),
        dtype=str if dtype == "str" else dtype,
        chunks=(*(1 for _ in points), *chunks),
        compressors=_CODEC,
        fill_value=fill,
        dimension_names=(*template.sweep, *dims),
        attributes=attrs,
    )


def _attributes(spec: VariableSpec) -> dict[str, Any]:
    attrs = dict(spec.attributes())
    partner = f"{spec.name}_stderr"
    if any(other.group == spec.group and other.name == partner for other in VARIABLES):
        attrs["ancillary_variables"] = partner
    return attrs
