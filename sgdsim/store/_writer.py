"""Writing a run: create, write whole chunks, say that a point is done, finish."""

import difflib
import shutil
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import zarr

from sgdsim._errors import StoreError
from sgdsim.store._create import PRECISIONS, checked_coordinates, write_template
from sgdsim.store._files import damaged, disk_errors, read_metadata, sync_folder, sync_tree
from sgdsim.store._schema import GROUPS, coordinates_in, variables_in, variables_of
from sgdsim.store._specs import VariableSpec

_STATUS = {"pending": 0, "done": 1, "failed": 2}
_STALE_SECONDS = 3600.0
_ALL_GROUPS = sorted({group for groups in GROUPS.values() for group in groups})

Value = np.ndarray | np.generic | float | int


class RunStore:
    """A dataset that is being written: preallocated, written in whole chunks, finished atomically.

    Make one with `RunStore.create` or `RunStore.open`. A kill at any moment leaves a store that
    opens: creation and finishing are renames, and Zarr's local store replaces each chunk file
    atomically (a temporary file and a rename, in zarr 3.1.3 and later; read in 3.1.6 and 3.4.2).
    Several processes may write at once if no two of them write the same chunk.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sgdsim.store import RunStore, open_run
    >>> coords = dict(
    ...     trajectory=range(2), step=range(0, 30, 10), time=[0.0, 1.0, 2.0], probe=[0, 20],
    ...     convexity_radius=[0.1], bound=["G1"], kind=["certificate"], layer=[0],
    ...     claim=[], quantity=[], text=[], source=[],
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     partial, final = Path(folder, "run.zarr.partial"), Path(folder, "run.zarr")
    ...     store = RunStore.create(
    ...         partial, coords=coords, attrs={}, precision="float32",
    ...         chunk_sizes={"step": 2, "probe": 1},
    ...     )
    ...     store.write(
    ...         "trajectory", {"loss": np.ones((2, 2), np.float32)}, {"step": slice(0, 2)}
    ...     )
    ...     store.set_status(0, "done")
    ...     store.finish(final)
    ...     float(open_run(final)["trajectory"].loss.sel(step=10, trajectory=1))
    1.0
    """

    def __init__(self, path: Path, root: zarr.Group) -> None:
        """Wrap an opened store; use `create` or `open`."""
        self._path = path
        self._attach(root)

    def _attach(self, root: zarr.Group) -> None:
        self._root = root
        self._arrays: dict[str, zarr.Array] = {}
        for spec in variables_in(str(root.attrs["study"])):
            array = root[spec.path]
            if not isinstance(array, zarr.Array):
                raise TypeError(f"{spec.path} is no array")
            self._arrays[spec.path] = array

    @property
    def path(self) -> Path:
        """Where the store is now."""
        return self._path

    @property
    def attrs(self) -> dict[str, object]:
        """Attributes of the root group."""
        return dict(self._root.attrs)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        coords: Mapping[str, Sequence | np.ndarray],
        attrs: Mapping[str, str | int | float],
        precision: str,
        chunk_sizes: Mapping[str, int],
        study: str = "stagnation",
        points: int = 1,
    ) -> "RunStore":
        """Make a store with every variable of the contract preallocated.

        Parameters
        ----------
        path
            Where, usually ``run.zarr.partial``; must not exist yet.
        coords
            Values of every coordinate of the study; ``theory``, ``condition``, ``direction`` and
            ``eigen`` may be left out.
        attrs
            Attributes of the root; ``conventions`` and ``precision`` are added.
        precision
            ``"float32"`` or ``"float64"``: dtype of the observables in ``/trajectory``.
        chunk_sizes
            Chunk lengths along ``step`` and ``probe``; processes have chunks of their own.
        study
            ``"stagnation"`` or ``"dynamics"``: which groups there are.
        points
            Number of points of the sweep; each has chunks of its own.

        Raises
        ------
        StoreError
            If something is at ``path`` or the disk refuses.
        ValueError
            If the coordinates do not fit the contract.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")
        split = {"step", "probe"} & {spec.dim for spec in coordinates_in(study)}
        if set(chunk_sizes) != split or min(chunk_sizes.values(), default=1) < 1:
            names = " and ".join(sorted(split, reverse=True)) or "nothing"
            raise ValueError(f"chunk_sizes needs {names}, all >= 1, got {chunk_sizes}.")
        if points < 1:
            raise ValueError(f"points must be >= 1, got {points}.")
        arrays = checked_coordinates(coords, study)
        if path.exists():
            raise StoreError(
                f"cannot create {path}: it exists; choose another folder or pass --overwrite."
            )
        # A kill before the rename leaves only a hidden folder that the next creation sweeps away.
        temporary = path.with_name(f".{path.name}.creating-{uuid.uuid4().hex[:8]}")
        with disk_errors("create", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            try:
                write_template(temporary, arrays, attrs, study, precision, chunk_sizes, points)
                temporary.rename(path)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "RunStore":
        """Open an unfinished (or finished) store for writing, to resume it.

        Raises
        ------
        StoreError
            If there is no store, it is damaged, or it follows other conventions.
        """
        read_metadata(path)
        try:
            with disk_errors("open", path):
                # Consolidated copies of the metadata would go stale with the first attribute.
                return cls(path, zarr.open_group(path, mode="r+", use_consolidated=False))
        except StoreError:
            raise
        except Exception as error:  # Zarr raises many kinds for damaged metadata
            raise damaged(path, error) from error

    def write(
        self,
        group: str,
        values: Mapping[str, Value],
        region: Mapping[str, slice] = {},
        point: int = 0,
    ) -> None:
        """Write variables of one group, whole chunks only; nothing is read back or merged.

        Parameters
        ----------
        group
            Group of the contract, e.g. ``"trajectory"``.
        values
            Arrays by variable name, dims in the order of the contract without ``point``. The
            dtype must fit into the variable's without loss; cast explicitly where it does not.
        region
            Index range along each dimension that is written in part. It starts and ends at
            chunk borders, or ends at the end of the dimension. A variable without the dimension
            is refused.
        point
            Index of the point of the sweep.

        Raises
        ------
        ValueError
            If a name, shape, dtype, or region does not fit; nothing is written then.
        StoreError
            If the disk refuses.
        """
        # All checks come first: a refused call must not leave half of its variables behind.
        writes = [
            (name, *self._checked(group, name, value, region, point))
            for name, value in values.items()
        ]
        with disk_errors("write", self._path):
            for name, selection, array in writes:
                self._array(group, name)[selection] = array

    def set_status(self, point: int, status: str) -> None:
        """Mark a point ``"pending"``, ``"done"`` or ``"failed"``; written after all else of it."""
        if status not in _STATUS:
            raise ValueError(f"status must be one of {tuple(_STATUS)}, got {status!r}.")
        self.write("/", {"status": np.asarray(_STATUS[status], np.int8)}, point=point)

    def status(self, point: int = 0) -> str:
        """State of a point: ``"pending"``, ``"done"`` or ``"failed"``."""
        with disk_errors("read", self._path):
            code = int(np.asarray(self._array("/", "status")[point]))
        return next(name for name, value in _STATUS.items() if value == code)

    def set_attrs(self, attrs: Mapping[str, str | int | float]) -> None:
        """Add or replace attributes of the root."""
        fixed = {"conventions", "precision", "study"} & set(attrs)
        if fixed:
            raise ValueError(f"the attributes {sorted(fixed)} are fixed when a store is created.")
        with disk_errors("write", self._path):
            self._root.update_attributes(dict(attrs))

    def finish(self, final_path: Path) -> None:
        """Consolidate the metadata, flush everything to the disk, rename to ``final_path``.

        Raises
        ------
        StoreError
            If something is at ``final_path`` or the disk refuses; the store then stays where it
            is, complete, and can be finished again.
        """
        if final_path.exists():
            raise StoreError(
                f"cannot finish {self._path}: {final_path} exists; remove or rename it, then "
                "resume the run."
            )
        with disk_errors("finish", self._path):
            # What a killed writer left between a chunk's temporary file and its rename.
            for leftover in self._path.rglob("*.partial"):
                leftover.unlink()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Consolidated metadata is currently not")
                zarr.consolidate_metadata(self._path)
            sync_tree(self._path)
            self._path.rename(final_path)
            sync_folder(final_path.parent)
        self._path = final_path
        self._attach(zarr.open_group(final_path, mode="r+", use_consolidated=False))

    def _array(self, group: str, name: str) -> zarr.Array:
        return self._arrays[f"{group}/{name}".lstrip("/")]

    def _checked(
        self, group: str, name: str, value: Value, region: Mapping[str, slice], point: int
    ) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return selection and array of one write, or refuse it with what does not fit."""
        spec = _find_spec(group, name)
        if spec.path not in self._arrays:
            raise ValueError(f"a {self.attrs['study']} run has no group {group!r}.")
        array = self._array(group, name)
        label = f"{group.strip('/')}/{name}".lstrip("/")
        if not 0 <= point < array.shape[0]:
            raise ValueError(f"{label}: point {point} is outside 0 ... {array.shape[0] - 1}.")
        if foreign := sorted(set(region) - set(spec.dims)):
            raise ValueError(f"{label}: has no dimension {foreign}, it has {list(spec.dims)}.")
        selection = [slice(point, point + 1)]
        for dim, size, chunk in zip(spec.dims, array.shape[1:], array.chunks[1:], strict=True):
            selection.append(_aligned(label, dim, region.get(dim, slice(None)), size, chunk))
        new = np.asarray(value)
        shape = tuple(part.stop - part.start for part in selection[1:])
        if new.shape != shape:
            raise ValueError(f"{label}: expected shape {shape} along {spec.dims}, got {new.shape}.")
        wanted = np.dtype(array.dtype)
        same_kind = new.dtype.kind == wanted.kind or (wanted.kind == "i" and new.dtype.kind in "bu")
        if not (same_kind and np.can_cast(new.dtype, wanted, "safe")):
            raise ValueError(
                f"{label}: {new.dtype} does not fit into {wanted} without loss; cast it "
                "explicitly before writing."
            )
        return tuple(selection), new.astype(wanted)[None]


def _find_spec(group: str, name: str) -> VariableSpec:
    specs = variables_of(group)
    if not specs:
        raise ValueError(f"unknown group {group!r}; the contract has {['/', *_ALL_GROUPS]}.")
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


def _sweep(path: Path) -> None:
    """Remove what killed creations left; young ones may belong to a living process."""
    for old in path.parent.glob(f".{path.name}.creating-*"):
        if time.time() - old.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
