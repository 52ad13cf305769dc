"""Axes of a sweep: dimensions in front of every variable, and the names that they displace."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgdsim.store._schema import GROUPS, coordinates_in, coordinates_of, variables_in, variables_of
from sgdsim.store._specs import CoordinateSpec, VariableSpec


class SweepAxis(NamedTuple):
    """One axis of a sweep.

    Attributes
    ----------
    name
        Name of the dimension.
    coords
        What varies along it, by name: its own labels under its own name, and whatever else
        changes with them. Numbers, truth values or text; a mixture is stored as text.
    """

    name: str
    coords: Mapping[str, Sequence]


def stored_name(spec: VariableSpec | CoordinateSpec, swept: Collection[str]) -> str:
    """Name of an array on disk: a name that the sweep takes gets its dimension or group in front.

    Parameters
    ----------
    spec
        A variable or coordinate of the contract.
    swept
        Names of the coordinates of the sweep.

    Returns
    -------
    str
        For example ``"process_learning_rate"`` in a sweep over ``learning_rate``.
    """
    if spec.name not in swept:
        return spec.name
    front = spec.dim if isinstance(spec, CoordinateSpec) else spec.group
    return f"{front}_{spec.name}"


def checked_sweep(sweep: Sequence[SweepAxis], study: str) -> dict[str, dict[str, np.ndarray]]:
    """Coordinates of every axis as arrays, ``{axis: {name: values}}``.

    Raises
    ------
    ValueError
        If an axis is empty or has no labels of its own, its labels repeat, lengths along it
        differ, or a name is taken by another axis or by the dataset itself.
    """
    axes: dict[str, dict[str, np.ndarray]] = {}
    names: list[str] = []
    for axis in sweep:
        arrays = {name: _as_array(axis.name, name, one) for name, one in axis.coords.items()}
        if axis.name not in arrays:
            raise ValueError(f"sweep axis {axis.name!r} has no labels: coords has {list(arrays)}.")
        labels = arrays[axis.name].tolist()
        if not labels:
            raise ValueError(f"sweep axis {axis.name!r} is empty.")
        if len(set(labels)) < len(labels):
            raise ValueError(f"labels of the sweep axis {axis.name!r} must differ, got {labels}.")
        for name, values in arrays.items():
            if len(values) != len(labels):
                raise ValueError(
                    f"{name!r} has length {len(values)} along the sweep axis {axis.name!r}, which "
                    f"has length {len(labels)}."
                )
        names.extend(arrays)
        axes[axis.name] = arrays
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names of the sweep must differ, {twice} come twice.")
    if taken := sorted(set(names) & _reserved(names, study)):
        raise ValueError(
            f"a sweep cannot be called {taken[0]!r}: a {study} run has a dimension or variable of "
            "that name."
        )
    return axes


def _reserved(swept: Collection[str], study: str) -> set[str]:
    """Names in a store with this sweep that cannot give way to it."""
    dims = {spec.dim for spec in coordinates_in(study)}
    dims |= {dim for spec in variables_in(study) for dim in spec.dims}
    names = set(dims) | set(variables_of("/")) | set(GROUPS[study])
    for group in GROUPS[study]:
        specs = (*variables_of(group, study).values(), *coordinates_of(group, study))
        names |= {stored_name(spec, swept) for spec in specs}
    return names


def _as_array(axis: str, name: str, values: Sequence) -> np.ndarray:
    plain: list[Any] = [v.item() if isinstance(v, np.generic) else v for v in values]
    kinds = {_kind(value) for value in plain}
    if None in kinds:
        raise ValueError(
            f"{name!r} along the sweep axis {axis!r} holds numbers, truth values or text, got "
            f"{plain!r}."
        )
    if kinds <= {"number"}:
        return np.asarray(plain, np.int64 if all(isinstance(v, int) for v in plain) else np.float64)
    if kinds == {"bool"}:
        return np.asarray(plain, np.bool_)
    text = [value if isinstance(value, str) else json.dumps(value) for value in plain]
    return np.asarray(text, dtype=np.dtypes.StringDType())


def _kind(value: object) -> str | None:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "text"
    return "number" if isinstance(value, int | float) else None
