"""The dataset of a run that is being written: create it, open it, finish it."""

import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.store._create import Template, checked_template, write_template
from sgdsim.store._files import FINISHED, disk_errors, sync_folder, sync_tree
from sgdsim.store._location import Location, as_location, files_below
from sgdsim.store._opened import OpenedStore
from sgdsim.store._point import PointStore
from sgdsim.store._sweep import SweepAxis

_STALE_SECONDS = 3600.0


class RunStore:
    """A dataset that is being written: preallocated, point by point, finished in one step.

    Make one with `RunStore.create` or `RunStore.open`; write through `RunStore.point`. On a local
    disk creation and finishing are renames. A remote file system has none: there the dataset has
    its final name from the start, its root metadata are written last when it is created, and
    `finish` marks it by writing them once more. Several processes may write different points at
    once.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sgdsim.store import RunStore, open_run
    >>> coords = dict(
    ...     trajectory=range(2), step=range(0, 30, 10), probe=[0, 20], shell=[0],
    ...     bound=["G1"], kind=["certificate"], layer=[0],
    ...     claim=[], quantity=[], text=[], source=[],
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     partial, final = Path(folder, "run.zarr.partial"), Path(folder, "run.zarr")
    ...     store = RunStore.create(
    ...         partial, coords=coords, attrs={}, precision="float32",
    ...         chunk_sizes={"step": 2, "probe": 1},
    ...     )
    ...     point = store.point()
    ...     point.write_coords({"time": np.array([0.0, 1.0, 2.0])})
    ...     point.write(
    ...         "trajectory", {"loss": np.ones((2, 2), np.float32)}, {"step": slice(0, 2)}
    ...     )
    ...     point.set_status("done")
    ...     store.finish(final)
    ...     float(open_run(final)["trajectory"].loss.sel(step=10, trajectory=1))
    1.0
    """

    def __init__(self, opened: OpenedStore) -> None:
        """Wrap an opened store; use `create` or `open`."""
        self._opened = opened

    @property
    def path(self) -> Location:
        """Where the store is now."""
        return self._opened.location

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the root group."""
        return self._opened.attributes()

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions of the sweep; empty without one."""
        return tuple(self._opened.shape.values())

    @property
    def points(self) -> int:
        """Number of points; one without a sweep."""
        return prod(self.shape)

    @classmethod
    def create(
        cls,
        path: str | PathLike | UPath,
        *,
        coords: Mapping[str, Sequence | np.ndarray],
        attrs: Mapping[str, str | int | float],
        precision: str,
        chunk_sizes: Mapping[str, int],
        study: str = "stagnation",
        sweep: Sequence[SweepAxis] = (),
    ) -> "RunStore":
        """Make a store with every variable of the contract preallocated.

        Parameters
        ----------
        path
            Where, usually ``run.zarr.partial`` (a URL: ``run.zarr``); must not exist yet.
        coords
            Values of every coordinate of the study that all points share; ``theory``,
            ``condition``, ``direction`` and others that the contract fixes may be left out.
        attrs
            Attributes of the root; ``conventions``, ``study`` and ``precision`` are added.
        precision
            ``"float32"`` or ``"float64"``: dtype of the observables in ``/trajectory``.
        chunk_sizes
            Chunk lengths along ``step`` and ``probe``; processes have chunks of their own.
        study
            ``"stagnation"``, ``"dynamics"`` or ``"exits"``: which groups there are.
        sweep
            Axes of the sweep, each a dimension in front of every variable; every point has
            chunks of its own.

        Raises
        ------
        StoreError
            If something is at ``path`` or the disk refuses.
        ValueError
            If the coordinates or the sweep do not fit the contract.
        """
        location = as_location(path)
        template = checked_template(coords, precision, chunk_sizes, study, sweep)
        with disk_errors("create", location):
            if isinstance(location, Path):
                _create_local(location, template, attrs)
            else:
                _create_remote(location, template, attrs)
        return cls.open(location)

    @classmethod
    def open(cls, path: str | PathLike | UPath) -> "RunStore":
        """Open an unfinished (or finished) store for writing, to resume it.

        Raises
        ------
        StoreError
            If there is no store, it is damaged, or it follows other conventions.
        """
        return cls(OpenedStore(as_location(path)))

    def point(self, number: int = 0, lengths: Mapping[str, int] | None = None) -> PointStore:
        """Open one point for writing.

        Parameters
        ----------
        number
            Number of the point, in C order over the dimensions of the sweep.
        lengths
            Lengths of this point along dimensions in which it is shorter than the arrays, such as
            ``{"step": 11}``; the rest stays unwritten and is cut off where the point is read by
            itself.

        Raises
        ------
        ValueError
            If there is no such point, or it is longer than the arrays.
        """
        if not 0 <= number < self.points:
            raise ValueError(f"point {number} is outside 0 ... {self.points - 1}.")
        sizes = self._opened.sizes
        for dim, length in (lengths or {}).items():
            if not 0 <= length <= sizes.get(dim, -1):
                raise ValueError(
                    f"a point of length {length} along {dim!r} does not fit: the dataset has "
                    f"{sizes.get(dim, 'no such dimension')}."
                )
        return PointStore(self._opened, number, lengths)

    def statuses(self) -> np.ndarray:
        """Codes of the states of all points, 0 pending, 1 done, 2 failed, shape ``(points,)``."""
        with disk_errors("read", self.path):
            return self._opened.statuses().reshape(-1)

    def set_attrs(self, attrs: Mapping[str, str | int | float]) -> None:
        """Add or replace attributes of the root; for one process only, unlike those of a point."""
        fixed = {"conventions", "precision", "study", FINISHED} & set(attrs)
        if fixed:
            raise ValueError(f"the attributes {sorted(fixed)} are the store's own.")
        with disk_errors("write", self.path):
            self._opened.root.update_attributes(dict(attrs))

    def finish(self, final_path: str | PathLike | UPath) -> None:
        """Mark the store as finished, flush everything to the disk, rename to ``final_path``.

        Parameters
        ----------
        final_path
            Where the finished store is to be; on a remote file system where it is already.

        Raises
        ------
        StoreError
            If something is at ``final_path`` or the disk refuses; the store then stays where it
            is, complete, and can be finished again.
        """
        final = as_location(final_path)
        if isinstance(self.path, Path) and isinstance(final, Path):
            self._finish_local(self.path, final)
        elif final == self.path:
            with disk_errors("finish", self.path):
                self._mark()
        else:
            raise ValueError(f"{self.path} is finished where it is, not at {final}.")
        self._opened.attach(final)

    def reopen(self, partial_path: str | PathLike | UPath) -> None:
        """Undo `finish`, so that points can be computed again.

        Parameters
        ----------
        partial_path
            Where the unfinished store is to be; on a remote file system where it is already.

        Raises
        ------
        StoreError
            If something is at ``partial_path`` or the disk refuses.
        """
        partial = as_location(partial_path)
        with disk_errors("reopen", self.path):
            if isinstance(self.path, Path) and isinstance(partial, Path):
                if partial.exists():
                    raise StoreError(
                        f"cannot reopen {self.path}: {partial} exists; remove or rename it first."
                    )
                # The name comes first: by it alone a local store counts as unfinished.
                self.path.rename(partial)
                self._opened.attach(partial)
            elif partial != self.path:
                raise ValueError(f"{self.path} is reopened where it is, not at {partial}.")
            self._opened.root.update_attributes({FINISHED: False})

    def _finish_local(self, path: Path, final: Path) -> None:
        if final.exists():
            raise StoreError(
                f"cannot finish {path}: {final} exists; remove or rename it, then resume the run."
            )
        with disk_errors("finish", path):
            # What a killed writer left between a chunk's temporary file and its rename.
            for leftover in path.rglob("*.partial"):
                leftover.unlink()
            self._mark()
            sync_tree(path)
            path.rename(final)
            sync_folder(final.parent)

    def _mark(self) -> None:
        self._opened.root.update_attributes({FINISHED: True})


def _create_local(path: Path, template: Template, attrs: Mapping[str, str | int | float]) -> None:
    if path.exists():
        raise StoreError(_exists(path))
    # A kill before the rename leaves only a hidden folder that the next creation sweeps away.
    temporary = path.with_name(f".{path.name}.creating-{uuid.uuid4().hex[:8]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_away(path)
    try:
        write_template(temporary, template, attrs)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _create_remote(
    location: UPath, template: Template, attrs: Mapping[str, str | int | float]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, "template")
        write_template(local, template, attrs)
        files = {
            (location / file.relative_to(local).as_posix()).path: file.read_bytes()
            for file in local.rglob("*")
            if file.is_file()
        }
    root = (location / "zarr.json").path
    there = {_stripped(name) for name in files_below(location)}
    # A killed creation leaves a part of the template without its root.
    if _stripped(root) in there or not there <= {_stripped(name) for name in files}:
        raise StoreError(_exists(location))
    last = files.pop(root)
    location.fs.pipe(files)
    location.fs.pipe_file(root, last)


def _stripped(name: str) -> str:
    return name.lstrip("/")


def _exists(location: Location) -> str:
    return f"cannot create {location}: it exists; choose another folder or pass --overwrite."


def _sweep_away(path: Path) -> None:
    """Remove what killed creations left; young ones may belong to a living process."""
    for old in path.parent.glob(f".{path.name}.creating-*"):
        if time.time() - old.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
