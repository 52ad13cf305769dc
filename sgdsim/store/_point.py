"""Writing one point of a dataset: whole chunks of its own, what is said of it, its state."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
import zarr

from sgdsim.store._files import damaged, disk_errors
from sgdsim.store._location import Location
from sgdsim.store._opened import OpenedStore
from sgdsim.store._schema import GROUPS, STATUSES, coordinates_of, variables_of
from sgdsim.store._select import LENGTHS, select_point
from sgdsim.store._specs import CoordinateSpec, VariableSpec

_ALL_GROUPS = sorted({group for groups in GROUPS.values() for group in groups})

Value = np.ndarray | np.generic | float | int


class _Write(NamedTuple):
    array: zarr.Array
    selection: tuple[slice, ...]
    values: np.ndarray


class PointStore:
    """One point of a dataset that is being written; make it by `RunStore.point`.

    Everything written here goes into chunks that belong to this point alone, and no chunk is read
    back and merged. So several processes may write at once if no two of them write the same
    point. A kill at any moment leaves a store that opens: Zarr's local store replaces each chunk
    file atomically (a temporary file and a rename, in zarr 3.1.3 and later; read in 3.1.6 and
    3.4.2), and object stores replace an object as a whole.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sgdsim.store import RunStore, SweepAxis, open_point
    >>> coords = dict(
    ...     case=["ball"], series=[""], trajectory=range(2), coordinate=[], look=[0], shell=[],
    ...     bound=[], kind=[], claim=[], quantity=[], text=[], source=[],
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = RunStore.create(
    ...         Path(folder, "run.zarr"), coords=coords, attrs={}, precision="float32",
    ...         chunk_sizes={}, study="exits",
    ...         sweep=[SweepAxis("radius", {"radius": [0.1, 0.2]})],
    ...     )
    ...     point = store.point(1)
    ...     point.write("exits", {"exit_step": np.array([[3, -1]], np.int32)})
    ...     point.write_coords({"learning_rate": np.array([0.5])})
    ...     point.set_attrs({"verdict": "One of two leaves."})
    ...     point.set_status("done")
    ...     one = open_point(store.path, 1)
    ...     print(one["exits"].exit_step.values.tolist(), one.attrs["verdict"])
    [[3, -1]] One of two leaves.
    """

    def __init__(
        self, opened: OpenedStore, number: int, lengths: Mapping[str, int] | None = None
    ) -> None:
        """Wrap one point of an opened store; use `RunStore.point`."""
        self._opened = opened
        self._number = number
        self._lengths = {dim: int(length) for dim, length in (lengths or {}).items()}
        place = np.unravel_index(number, tuple(opened.shape.values())) if opened.shape else ()
        self._place = tuple(int(i) for i in place)

    @property
    def number(self) -> int:
        """Number of the point, in C order over the dimensions of the sweep."""
        return self._number

    @property
    def path(self) -> Location:
        """Where the store is now."""
        return self._opened.location

    def write(
        self, group: str, values: Mapping[str, Value], region: Mapping[str, slice] = {}
    ) -> None:
        """Write variables of one group, whole chunks only; nothing is read back or merged.

        Parameters
        ----------
        group
            Group of the contract, e.g. ``"trajectory"``.
        values
            Arrays by variable name, dims in the order of the contract without those of the sweep,
            in the lengths of this point. The dtype must fit into the variable's without loss;
            cast explicitly where it does not.
        region
            Index range along each dimension that is written in part. It starts and ends at
            chunk borders, or ends at the end of the dimension. A variable without the dimension
            is refused.

        Raises
        ------
        ValueError
            If a name, shape, dtype, or region does not fit; nothing is written then.
        StoreError
            If the disk refuses.
        """
        # All checks come first: a refused call must not leave half of its variables behind.
        writes = []
        for name, value in values.items():
            spec = _find_spec(group, name, self._opened.study)
            writes.append(self._checked(group, spec, spec.dims, value, region))
        self._carry_out(writes)

    def write_coords(self, values: Mapping[str, Value]) -> None:
        """Write coordinates that differ from point to point, into every group that has them.

        Parameters
        ----------
        values
            One-dimensional arrays by name, such as ``time``, in the lengths of this point.

        Raises
        ------
        ValueError
            If a name, shape or dtype does not fit; nothing is written then.
        StoreError
            If the disk refuses.
        """
        writes = []
        for name, value in values.items():
            places = [
                (group, spec)
                for group in GROUPS[self._opened.study]
                for spec in coordinates_of(group, self._opened.study)
                if spec.name == name and spec.per_point
            ]
            if not places:
                raise ValueError(f"{name!r} is no coordinate that differs from point to point.")
            for group, spec in places:
                writes.append(self._checked(group, spec, (spec.dim,), value, {}))
        self._carry_out(writes)

    @property
    def attrs(self) -> dict[str, Any]:
        """What was said of this point by `set_attrs`."""
        known = self._opened.details(self._place) or {}
        return {key: value for key, value in known.items() if key != LENGTHS}

    def set_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Add or replace what is said of this point: texts and numbers that JSON can hold.

        All of it is kept as one text in the variable ``details``; it becomes attributes of the
        root where the point is read by itself. ``None`` removes a word.
        """
        if LENGTHS in attrs:
            raise ValueError(f"the attribute {LENGTHS!r} is kept by the store itself.")
        known = self._opened.details(self._place) or {}
        own = {LENGTHS: self._lengths} if self._lengths else {}
        said = {name: value for name, value in {**known, **attrs}.items() if value is not None}
        self._write_details(json.dumps({**said, **own}, ensure_ascii=False))

    def _write_details(self, text: str) -> None:
        array = self._opened.array("/", _find_spec("/", "details", self._opened.study))
        value = np.asarray(text, np.dtypes.StringDType()).reshape([1] * array.ndim)
        with disk_errors("write", self.path):
            array[self._front] = value

    def status(self) -> str:
        """State of the point: ``"pending"``, ``"done"`` or ``"failed"``."""
        array = self._opened.array("/", _find_spec("/", "status", self._opened.study))
        with disk_errors("read", self.path):
            code = int(np.asarray(array[self._front]).item())
        if not 0 <= code < len(STATUSES):
            raise damaged(self.path, f"the status of point {self._number} is {code}")
        return STATUSES[code]

    def set_status(self, status: str) -> None:
        """Mark the point ``"pending"``, ``"done"`` or ``"failed"``; written after all else of it.

        A point that is done or failed always has ``details``, by which `validate` tells it from
        one that lost them. Of a point that is marked pending again nothing is said any more.
        """
        if status not in STATUSES:
            raise ValueError(f"status must be one of {STATUSES}, got {status!r}.")
        if status != "pending":
            self.set_attrs({})
        self.write("/", {"status": np.asarray(STATUSES.index(status), np.int8)})
        if status == "pending":
            # Also where they cannot be read any more: this is how such a point is repaired.
            self._write_details("")

    def tree(self) -> xr.DataTree:
        """Open this point alone, cut to its lengths, as a run without sweep would be opened."""
        details = self._opened.details(self._place) or {}
        if self._lengths:
            details |= {LENGTHS: self._lengths}
        return select_point(self._opened.tree(), self._number, self._opened.attributes(), details)

    @property
    def _front(self) -> tuple[slice, ...]:
        return tuple(slice(i, i + 1) for i in self._place)

    def _carry_out(self, writes: Sequence[_Write]) -> None:
        with disk_errors("write", self.path):
            for write in writes:
                write.array[write.selection] = write.values

    def _checked(
        self,
        group: str,
        spec: VariableSpec | CoordinateSpec,
        dims: tuple[str, ...],
        value: Value,
        region: Mapping[str, slice],
    ) -> _Write:
        """Return array, selection and values of one write, or refuse it with what does not fit."""
        label = f"{group.strip('/')}/{spec.name}".lstrip("/")
        array = self._opened.array(group, spec)
        if foreign := sorted(set(region) - set(dims)):
            raise ValueError(f"{label}: has no dimension {foreign}, it has {list(dims)}.")
        depth = len(self._place)
        new = np.asarray(value)
        selection, shape, missing = [*self._front], [], []
        for dim, size, chunk in zip(dims, array.shape[depth:], array.chunks[depth:], strict=True):
            length = min(self._lengths.get(dim, size), size)
            part = _aligned(label, dim, region.get(dim, slice(None)), length, chunk)
            shape.append(part.stop - part.start)
            # The last chunk of a shorter point is written whole, so that nothing is read back.
            stop = part.stop if part.stop < length else min(-(-part.stop // chunk) * chunk, size)
            missing.append((0, stop - part.stop))
            selection.append(slice(part.start, stop))
        if new.shape != tuple(shape):
            raise ValueError(
                f"{label}: expected shape {tuple(shape)} along {dims}, got {new.shape}."
            )
        wanted = np.dtype(array.dtype)
        same_kind = new.dtype.kind == wanted.kind or (wanted.kind == "i" and new.dtype.kind in "bu")
        if not (same_kind and np.can_cast(new.dtype, wanted, "safe")):
            raise ValueError(
                f"{label}: {new.dtype} does not fit into {wanted} without loss; cast it "
                "explicitly before writing."
            )
        fill = spec.fill if isinstance(spec, VariableSpec) else np.nan
        whole = new.astype(wanted)
        if any(after for _, after in missing):
            whole = np.pad(whole, missing, constant_values=fill)
        return _Write(array, tuple(selection), whole[(None,) * depth])


def _find_spec(group: str, name: str, study: str) -> VariableSpec:
    if not variables_of(group):
        raise ValueError(f"unknown group {group!r}; the contract has {['/', *_ALL_GROUPS]}.")
    if group not in ("/", *GROUPS[study]):
        raise ValueError(f"a {study} run has no group {group!r}.")
    specs = variables_of(group, study)
    if name not in specs:
        near = difflib.get_close_matches(name, specs, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"group {group!r} has no variable {name!r}.{hint}")
    return specs[name]


def _aligned(label: str, dim: str, part: slice, size: int, chunk: int) -> slice:
    """Slice with plain bounds, refused unless it covers whole chunks."""
    if part.step not in (None, 1):
        raise ValueError(f"{label}: the region along {dim!r} must have step 1, got {part}.")
    start = 0 if part.start is None else part.start
    stop = size if part.stop is None else part.stop
    if not 0 <= start <= stop <= size or (start == stop and size > 0):
        raise ValueError(f"{label}: the region {start}:{stop} along {dim!r} is outside 0:{size}.")
    if start % chunk or (stop % chunk and stop != size):
        raise ValueError(
            f"{label}: the region {start}:{stop} along {dim!r} cuts a chunk of {chunk}; write "
            "whole chunks."
        )
    return slice(start, stop)
