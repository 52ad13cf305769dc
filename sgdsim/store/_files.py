"""Files of a store: recognising one, syncing it to disk, and wording what went wrong."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgdsim._errors import StoreError
from sgdsim.store._schema import CONVENTIONS, GROUPS

_ADVICE = {
    errno.ENOSPC: "free some space or choose another folder, then resume the run",
    errno.EDQUOT: "your quota is used up: free some space or choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "choose a folder that you may write to, or change its permissions",
    errno.EPERM: "choose a folder that you may write to, or change its permissions",
    errno.EEXIST: "choose another folder or remove what is there",
    errno.ENOTEMPTY: "choose another folder or remove what is there",
    errno.ENOENT: "the folder vanished: check that it is still there, then start again",
}


@contextlib.contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` raised inside into a ``StoreError`` of one sentence.

    Parameters
    ----------
    action
        What was tried: ``"write"``, ``"create"``, ...
    path
        The store that the user knows; the file inside it would only confuse.
    """
    try:
        yield
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        advice = _ADVICE.get(error.errno or 0, "check the disk, then start again")
        raise StoreError(f"cannot {action} {path}: {cause}; {advice}.") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Root metadata of a store, after checking that it is one of ours and is complete.

    Raises
    ------
    StoreError
        If ``path`` is no folder or no Zarr store, its metadata cannot be read, it follows
        another version of the conventions, or a group is missing.
    """
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise StoreError(f"{path} {what}; give a run folder or the run.zarr inside it.")
    metadata = _read_json(path / "zarr.json", path)
    conventions = metadata.get("attributes", {}).get("conventions")
    if conventions is None:
        raise StoreError(
            f"{path} is a Zarr store but not one of sgdsim: it has no attribute 'conventions'; "
            "give a run folder or the run.zarr inside it."
        )
    if conventions != CONVENTIONS:
        raise StoreError(
            f"{path} follows the conventions {conventions!r}, this version of sgdsim reads "
            f"{CONVENTIONS!r}; use the version of sgdsim that wrote it or run the scenario again."
        )
    study = metadata["attributes"].get("study")
    if study not in GROUPS:
        raise StoreError(
            f"{path} is the run of a study that this version of sgdsim does not know ({study!r}); "
            f"it reads {', '.join(GROUPS)}."
        )
    for group in GROUPS[study]:
        _read_json(path / group / "zarr.json", path)
    return metadata


def _read_json(file: Path, store: Path) -> dict[str, Any]:
    """Read one ``zarr.json``; ``store`` is what the message names."""
    inside = file.relative_to(store).as_posix()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        groups = {group for groups in GROUPS.values() for group in groups}
        if inside == "zarr.json" and not any((store / group).is_dir() for group in groups):
            raise StoreError(
                f"{store} is not a dataset of sgdsim (no zarr.json in it); give a run folder or "
                "the run.zarr inside it."
            ) from None
        raise _damaged(store, f"{inside} is missing") from None
    except ValueError as error:  # broken JSON and broken UTF-8
        raise _damaged(store, f"{inside} is not valid JSON") from error
    except OSError as error:
        raise StoreError(
            f"cannot read {store}: {error.strerror or error}; check the file {inside}."
        ) from error
    if not isinstance(content, dict):
        raise _damaged(store, f"{inside} is not a Zarr description")
    return content


def _damaged(store: Path, what: str) -> StoreError:
    return StoreError(
        f"{store} is damaged: {what}; restore it from a copy or run the scenario again with "
        "--overwrite."
    )


def damaged(store: Path, error: Exception) -> StoreError:
    """Error for a store whose metadata was refused by Zarr or xarray."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _damaged(store, f"it cannot be opened ({text[:160].rstrip('. ')})")


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to the disk, so that a rename is the last word.

    Zarr does not sync chunks; a process that dies loses nothing by that, a machine that dies may.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Flush the entries of one folder; a no-op where folders cannot be opened (Windows)."""
    if os.name != "nt":
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
