"""Where a run puts its files; decided and checked before JAX is imported."""

import dataclasses
import os
import shutil
import uuid
from pathlib import Path

from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.store import Location, as_location, is_finished, is_remote
from sgdsim.store._files import disk_errors, sync_folder
from sgdsim.store._location import files_below, is_file

_PROBE = ".sgdsim-writable"
#: Start of the names that files have while they are deleted.
_DISCARDED = ".run.zarr.discarded-"


@dataclasses.dataclass(frozen=True)
class PointFiles:
    """What one point of a run is resumed from.

    Attributes
    ----------
    folder
        Folder of the point, inside that of the run.
    """

    folder: Location

    @property
    def preparation(self) -> Location:
        """Minima and constants, written once before the first step."""
        return self.folder / "preparation.npz"

    @property
    def checkpoint(self) -> Location:
        """The ensemble at the end of the last finished time chunk."""
        return self.folder / "ensemble.npz"


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Files of one run folder.

    Attributes
    ----------
    folder
        The run folder, what ``--out`` names: a path, or the URL of a remote one.
    """

    folder: Location

    @property
    def store(self) -> Location:
        """The finished dataset."""
        return self.folder / "run.zarr"

    @property
    def partial(self) -> Location:
        """The dataset while the run goes on; a remote one cannot be renamed at the end."""
        return self.store if is_remote(self.folder) else self.folder / "run.zarr.partial"

    @property
    def dataset(self) -> Location:
        """The dataset as far as it has come."""
        return self.store if self.finished else self.partial

    @property
    def finished(self) -> bool:
        """Whether the dataset is there and complete."""
        with disk_errors("read", self.folder):
            return is_file(self.store / "zarr.json") and is_finished(self.store)

    @property
    def unfinished(self) -> bool:
        """Whether there is a dataset that is not complete."""
        with disk_errors("read", self.folder):
            # A local one appears whole. A remote one has its root last, and loses it first.
            partial = self.partial
            there = is_file(partial / "zarr.json") if is_remote(partial) else partial.exists()
        return there and not self.finished

    @property
    def remains(self) -> bool:
        """Whether there is a dataset without a root: one whose creation or deletion was killed."""
        with disk_errors("read", self.folder):
            if isinstance(self.store, Path):
                there = self.store.exists()
            else:
                there = bool(files_below(self.store))
            return there and not is_file(self.store / "zarr.json")

    @property
    def state(self) -> Location:
        """What a resumed run starts from."""
        return self.folder / "state"

    @property
    def figures(self) -> Location:
        """Figures as PNG and SVG."""
        return self.folder / "figures"

    def files(self, point: int) -> PointFiles:
        """State of one point of a sweep; a run without one is point 0."""
        return PointFiles(self.state / f"{point:06d}")


def check_output(out: str | os.PathLike[str] | Location, overwrite: bool) -> None:
    """Refuse an output folder that would lose something or cannot be written.

    Parameters
    ----------
    out
        Folder of the run, or its URL.
    overwrite
        Whether an earlier run there may be deleted.

    Raises
    ------
    StoreError
        If the folder holds a run and ``overwrite`` is false, is no folder, holds files of
        somebody else, or cannot be created or written.
    """
    paths = RunPaths(as_location(out))
    folder = paths.folder
    with disk_errors("write to", folder):
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"cannot write to {folder}: it is a file; choose another --out.")
        if not overwrite:
            _refuse_run(paths)
        ours = {paths.store.name, paths.partial.name, paths.state.name, paths.figures.name}
        # A killed run may leave hidden temporary files, which are ours as well.
        remains = (f".{paths.store.name}", _PROBE, ".sgdsim")
        found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        strangers = [n for n in found if n not in ours and not n.startswith(remains)]
        if strangers:
            raise StoreError(
                f"{folder} holds files that are not of a run ({', '.join(strangers[:3])}); choose "
                "another --out."
            )
        _try_writing(folder)


def _refuse_run(paths: RunPaths) -> None:
    """Refuse a folder in which a run is, which would be lost."""
    folder = paths.folder
    if paths.finished:
        raise StoreError(
            f"{folder} already holds a finished run; pass --overwrite to replace it or choose "
            "another --out."
        )
    if paths.unfinished:
        raise StoreError(
            f"{folder} holds an unfinished run; continue it with 'sgdsim resume {folder}', pass "
            "--overwrite to discard it, or choose another --out."
        )
    # Nothing of ours leaves a local one, so that somebody may still want to repair it.
    if not is_remote(folder) and paths.remains:
        raise StoreError(
            f"{folder} holds a damaged run (no zarr.json in {paths.store.name}); pass --overwrite "
            "to replace it or choose another --out."
        )


def _try_writing(folder: Location) -> None:
    created = not folder.exists()
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    probe = folder / _PROBE
    probe.write_bytes(b"sgdsim")
    probe.unlink()
    if created and not is_remote(folder):  # an object store has no empty folders
        folder.rmdir()


def clear_output(out: str | os.PathLike[str] | Location, overwrite: bool = True) -> RunPaths:
    """Make an empty run folder, deleting what an earlier run left there.

    Parameters
    ----------
    out
        Folder of the run, or its URL; this process holds its lock.
    overwrite
        Whether a run there may be deleted. Another one may have run here since `check_output`
        was asked, before the lock was taken.

    Raises
    ------
    StoreError
        If a run is there and ``overwrite`` is false, or something cannot be deleted.
    """
    paths = RunPaths(as_location(out))
    with disk_errors("write to", paths.folder):
        if not overwrite:
            _refuse_run(paths)
        old = (paths.partial, paths.store, paths.state, paths.figures)
        if isinstance(paths.folder, Path):
            _discard(paths.folder, [one for one in old if isinstance(one, Path)])
            paths.state.mkdir(parents=True, exist_ok=True)
        else:
            for one in old:
                remove(one)
    return paths


def _discard(folder: Path, old: list[Path]) -> None:
    """Delete local files that are parts of a run, and what an earlier killed deletion left."""
    # A deletion takes long; killed in the middle it would leave half a dataset under its name.
    for one in old:
        if os.path.lexists(one):
            one.rename(folder / f"{_DISCARDED}{uuid.uuid4().hex}")
    discarded = sorted(folder.glob(f"{_DISCARDED}*"))
    if discarded:
        sync_folder(folder)
    for one in discarded:
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


def remove(folder: Location) -> None:
    """Delete a folder with all that is in it, if it is there."""
    if isinstance(folder, UPath):
        _remove_remote(folder)
    elif folder.exists():
        shutil.rmtree(folder)


def _remove_remote(folder: UPath) -> None:
    root = folder / "zarr.json"
    # First of all: without it what a killed deletion leaves is no dataset.
    if is_file(root):
        folder.fs.rm_file(root.path)
    if files_below(folder):
        folder.fs.rm(folder.path, recursive=True)


def is_run(place: str) -> bool:
    """Whether there is a run in a folder or at a URL."""
    paths = RunPaths(as_location(place))
    return paths.finished or paths.unfinished


def find_run(place: str | os.PathLike[str] | Location) -> RunPaths:
    """Run folder of a path that names the folder itself or a dataset in it."""
    path = as_location(place)
    if path.name in {"run.zarr", "run.zarr.partial"}:
        path = path.parent
    paths = RunPaths(path)
    if not paths.finished and not paths.unfinished:
        if paths.remains:
            raise StoreError(
                f"{path} holds no run but remains of one (no zarr.json in {paths.store.name}), so "
                "there is nothing to read or resume; run the scenario again with --overwrite."
            )
        raise StoreError(f"{path} holds no run (no {paths.store.name} in it).")
    return paths
