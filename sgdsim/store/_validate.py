"""Checking a stored run against the contract."""

from pathlib import Path

import numpy as np
import zarr

from sgdsim._errors import StoreError
from sgdsim.store._files import read_metadata
from sgdsim.store._open import find_store
from sgdsim.store._schema import GROUPS, coordinates_of, variables_in

_STRING_KINDS = ("T", "U", "O")


def validate(path: Path | str) -> list[str]:
    """Compare a stored run with the contract and read every chunk.

    Parameters
    ----------
    path
        The run folder, or the ``run.zarr`` or ``run.zarr.partial`` inside it.

    Returns
    -------
    list of str
        One sentence per problem; empty if there is none. NaN is no problem: a diverged trajectory
        and a bound that does not apply are stored as NaN.
    """
    try:
        store = find_store(Path(path))
        metadata = read_metadata(store)
        root = zarr.open_group(store, mode="r", use_consolidated=False)
    except StoreError as error:
        return [str(error)]
    except Exception as error:  # whatever Zarr makes of damaged metadata
        return [f"{path}: cannot be opened ({_text(error)})"]
    precision = metadata["attributes"].get("precision")
    if precision not in ("float32", "float64"):
        return [f"{path}: attribute precision is {precision!r}"]
    study = metadata["attributes"]["study"]
    problems: list[str] = []
    lengths: dict[str, int] = {}
    for group in GROUPS[study]:
        for spec in coordinates_of(group):
            name = f"{group}/{spec.name}"
            array = _get(root, name, problems)
            if array is not None:
                wanted = None if spec.dtype == "str" else spec.dtype
                _check(array, name, (spec.dim,), wanted, spec.attributes(), problems)
                _check_lengths(array, name, (spec.dim,), lengths, problems)
    for spec in variables_in(study):
        array = _get(root, spec.path, problems)
        if array is not None:
            dims = ("point", *spec.dims)
            wanted = spec.resolve_dtype(precision)
            _check(array, spec.path, dims, wanted, spec.attributes(), problems)
            _check_lengths(array, spec.path, dims, lengths, problems)
    return problems


def _get(root: zarr.Group, name: str, problems: list[str]) -> zarr.Array | None:
    try:
        array = root[name]
    except KeyError:
        problems.append(f"{name}: missing")
    except Exception as error:  # damaged zarr.json of this array
        problems.append(f"{name}: description unreadable ({_text(error)})")
    else:
        if isinstance(array, zarr.Array):
            return array
        problems.append(f"{name}: is a group, not an array")
    return None


def _check(
    array: zarr.Array,
    name: str,
    dims: tuple[str, ...],
    dtype: str | None,
    attrs: dict,
    problems: list[str],
) -> None:
    """Dims, dtype, attributes, and whether every chunk can be read."""
    found = getattr(array.metadata, "dimension_names", None)
    if tuple(found or ()) != dims:
        problems.append(f"{name}: dims are {found}, expected {dims}")
    kind = np.dtype(array.dtype).kind
    if (kind not in _STRING_KINDS) if dtype is None else (np.dtype(array.dtype) != np.dtype(dtype)):
        problems.append(f"{name}: dtype is {array.dtype}, expected {dtype or 'text'}")
    for key, value in attrs.items():
        if key not in array.attrs:
            problems.append(f"{name}: attribute {key} is missing")
        elif key in ("units", "flag_values", "flag_meanings") and array.attrs[key] != value:
            problems.append(f"{name}: attribute {key} is {array.attrs[key]!r}, expected {value!r}")
    try:
        array[...]
    except Exception as error:  # codec, checksum and disk errors have no common base
        problems.append(f"{name}: values unreadable ({_text(error)})")


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


def _text(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
