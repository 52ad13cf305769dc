"""Where a run puts its files; decided and checked before anything heavy is imported."""

import dataclasses
import os
import shutil
from pathlib import Path

from sgdsim._errors import StoreError
from sgdsim.store import Location, as_location, is_finished, is_remote

_PROBE = ".sgdsim-writable"


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
    def finished(self) -> bool:
        """Whether the dataset is there and complete."""
        return self.store.exists() and is_finished(self.store)

    @property
    def unfinished(self) -> bool:
        """Whether there is a dataset that is not complete."""
        return self.partial.exists() and not self.finished

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
    try:
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"cannot write to {folder}: it is a file; choose another --out.")
        if not overwrite and paths.finished:
            raise StoreError(
                f"{folder} already holds a finished run; pass --overwrite to replace it or choose "
                "another --out."
            )
        if not overwrite and paths.unfinished:
            raise StoreError(
                f"{folder} holds an unfinished run; continue it with 'sgdsim resume {folder}', "
                "pass --overwrite to discard it, or choose another --out."
            )
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
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror or error}.") from error


def _try_writing(folder: Location) -> None:
    created = not folder.exists()
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)
    probe = folder / _PROBE
    probe.write_bytes(b"sgdsim")
    probe.unlink()
    if created and not is_remote(folder):  # an object store has no empty folders
        folder.rmdir()


def clear_output(out: str | os.PathLike[str] | Location) -> RunPaths:
    """Make an empty run folder, deleting what an earlier run left there."""
    paths = RunPaths(as_location(out))
    try:
        for old in (paths.partial, paths.store, paths.state, paths.figures):
            remove(old)
        if not is_remote(paths.folder):
            paths.state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write to {paths.folder}: {error.strerror or error}.") from error
    return paths


def remove(folder: Location) -> None:
    """Delete a folder with all that is in it, if it is there."""
    if not folder.exists():
        return
    if isinstance(folder, Path):
        shutil.rmtree(folder)
    else:
        folder.fs.rm(folder.path, recursive=True)


def is_run(place: str) -> bool:
    """Whether a text names the folder of a run, not a scenario."""
    if place.endswith(".toml") or not ("://" in place or os.path.isdir(place)):
        return False
    paths = RunPaths(as_location(place))
    return paths.finished or paths.unfinished


def find_run(place: str | os.PathLike[str] | Location) -> RunPaths:
    """Run folder of a path that names the folder itself or a dataset in it."""
    path = as_location(place)
    if path.name in {"run.zarr", "run.zarr.partial"}:
        path = path.parent
    paths = RunPaths(path)
    if not paths.finished and not paths.unfinished:
        raise StoreError(f"{path} holds no run (no {paths.store.name} in it).")
    return paths
