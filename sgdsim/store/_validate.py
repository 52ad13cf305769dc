"""Checking a stored run against the contract, and counting the states of its points."""

from collections.abc import Iterator, Mapping
from os import PathLike
from typing import NamedTuple

import numpy as np
import zarr
from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.store._files import disk_errors, in_short, read_metadata
from sgdsim.store._location import zarr_store
from sgdsim.store._open import find_store
from sgdsim.store._opened import OpenedStore, dimensions
from sgdsim.store._schema import (
    GROUPS,
    STATUSES,
    coordinates_of,
    variables_in,
    variables_of,
)
from sgdsim.store._select import parsed_details
from sgdsim.store._sweep import stored_name

_STRING_KINDS = ("T", "U", "O")


class _Expected(NamedTuple):
    """What the contract says of one array on disk."""

    dims: tuple[str, ...]
    dtype: str
    attrs: Mapping[str, object]
    by_point: bool


def count_statuses(path: str | PathLike | UPath) -> dict[str, int]:
    """Count the points of a run by their state.

    Parameters
    ----------
    path
        The run folder, or the ``run.zarr`` or ``run.zarr.partial`` inside it; a path or a URL.

    Returns
    -------
    dict
        Number of points by state: ``"pending"``, ``"done"``, ``"failed"``.

    Raises
    ------
    StoreError
        If there is no run, or it is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.store import count_statuses
    >>> from sgdsim.testing import synthetic_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     count_statuses(synthetic_run(Path(folder)))
    {'pending': 0, 'done': 1, 'failed': 0}
    """
    opened = OpenedStore(find_store(path))
    with disk_errors("read", opened.location):
        codes = opened.statuses()
    return {name: int(np.sum(codes == code)) for code, name in enumerate(STATUSES)}


def validate(path: str | PathLike | UPath) -> list[str]:
    """Compare a stored run with the contract and read every chunk.

    A chunk file that vanished as a whole cannot be told from one that was never written.

    Parameters
    ----------
    path
        The run folder, or the ``run.zarr`` or ``run.zarr.partial`` inside it; a path or a URL.

    Returns
    -------
    list of str
        One sentence per problem; empty if there is none. NaN is no problem: a diverged trajectory
        and a bound that does not apply are stored as NaN.
    """
    try:
        store = find_store(path)
        metadata = read_metadata(store)
        root = zarr.open_group(zarr_store(store), mode="r", use_consolidated=False)
        sweep = dimensions(_member(root, "status"))
    except StoreError as error:
        return [str(error)]
    except KeyError:
        return [f"{path}: status is missing"]
    except Exception as error:  # whatever Zarr makes of damaged metadata
        return [f"{path}: cannot be opened ({in_short(error)})"]
    precision = metadata["attributes"].get("precision")
    if precision not in ("float32", "float64"):
        return [f"{path}: attribute precision is {precision!r}"]
    problems: list[str] = []
    lengths: dict[str, int] = {}
    found: dict[str, zarr.Array] = {}
    for name, expected in _contract(root, metadata["attributes"]["study"], precision, sweep):
        array = _get(root, name, problems)
        if array is not None:
            _check(array, name, expected, problems)
            _check_lengths(array, name, expected.dims, lengths, problems)
            _check_values(array, name, len(sweep) if expected.by_point else 0, problems)
            found[name] = array
    if {"status", "details"} <= set(found):
        _check_details(found["status"], found["details"], problems)
    return problems


def _contract(
    root: zarr.Group, study: str, precision: str, sweep: tuple[str, ...]
) -> Iterator[tuple[str, _Expected]]:
    """Every array that a store should have, by its path."""
    axes = {name: array for name, array in root.arrays() if name not in variables_of("/")}
    for group in ("/", *GROUPS[study]):
        for name, array in axes.items():
            dtype = "str" if _is_text(array) else str(array.dtype)
            yield f"{group}/{name}".lstrip("/"), _Expected(dimensions(array), dtype, {}, False)
        for spec in coordinates_of(group, study):
            dims = (*(sweep if spec.per_point else ()), spec.dim)
            expected = _Expected(dims, spec.dtype, spec.attributes(), spec.per_point)
            yield f"{group}/{stored_name(spec, axes)}", expected
    for spec in variables_in(study):
        expected = _Expected(
            (*sweep, *spec.dims), spec.resolve_dtype(precision), spec.attributes(), True
        )
        yield f"{spec.group}/{stored_name(spec, axes)}".lstrip("/"), expected


def _get(root: zarr.Group, name: str, problems: list[str]) -> zarr.Array | None:
    try:
        return _member(root, name)
    except KeyError:
        problems.append(f"{name}: missing")
    except Exception as error:  # damaged zarr.json of this array
        problems.append(f"{name}: description unreadable ({in_short(error)})")
    return None


def _member(root: zarr.Group, name: str) -> zarr.Array:
    array = root[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} is a group, not an array")
    return array


def _check(array: zarr.Array, name: str, expected: _Expected, problems: list[str]) -> None:
    """Dims, dtype and attributes."""
    if dimensions(array) != expected.dims:
        problems.append(f"{name}: dims are {dimensions(array)}, expected {expected.dims}")
    wanted = expected.dtype
    fits = _is_text(array) if wanted == "str" else str(array.dtype) == wanted
    if not fits:
        wanted = "text" if wanted == "str" else wanted
        problems.append(f"{name}: dtype is {array.dtype}, expected {wanted}")
    for key, value in expected.attrs.items():
        if key not in array.attrs:
            problems.append(f"{name}: attribute {key} is missing")
        elif key in ("units", "flag_values", "flag_meanings") and array.attrs[key] != value:
            problems.append(f"{name}: attribute {key} is {array.attrs[key]!r}, expected {value!r}")


def _check_lengths(
    array: zarr.Array,
    name: str,
    dims: tuple[str, ...],
    lengths: dict[str, int],
    problems: list[str],
) -> None:
    """Every dimension has one length in the whole store."""
    for dim, length in zip(dims, array.shape, strict=False):
        expected = lengths.setdefault(dim, length)
        if length != expected:
            problems.append(f"{name}: length along {dim} is {length}, elsewhere {expected}")


def _check_values(array: zarr.Array, name: str, depth: int, problems: list[str]) -> None:
    """Whether every chunk can be read; point by point, so that memory holds one and names it."""
    for number, place in enumerate(np.ndindex(*array.shape[:depth])):
        try:
            array[(*place, ...)]
        except Exception as error:  # codec, checksum and disk errors have no common base
            where = f" of point {number}" if depth else ""
            problems.append(f"{name}: values{where} unreadable ({in_short(error)})")


def _check_details(status: zarr.Array, details: zarr.Array, problems: list[str]) -> None:
    """Check that a point that has ended has details, and that they are a JSON object."""
    for number, place in enumerate(np.ndindex(*status.shape)):
        where = f"point {number}" if status.ndim else "the run"
        try:
            code = int(np.asarray(status[place]).item())
            text = str(np.asarray(details[place]).item())
        except Exception:  # reported where the values were read
            continue
        if not 0 <= code < len(STATUSES):
            problems.append(f"status: code of {where} is {code}")
        elif code and not text:
            problems.append(f"details: {where} is {STATUSES[code]} but has none")
        try:
            parsed_details(text)
        except ValueError:
            problems.append(f"details: text of {where} is no JSON object")


def _is_text(array: zarr.Array) -> bool:
    return np.dtype(array.dtype).kind in _STRING_KINDS
