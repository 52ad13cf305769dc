"""Files of a store: recognising one, syncing it to disk, and wording what went wrong."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgdsim._errors import StoreError
from sgdsim.store._location import Location, is_file, is_remote, read_bytes
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


#: Attribute of the root of a finished store.
FINISHED = "finished"

# Clients of remote file systems raise errors of their own beside OSError.
_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "azure", "gcsfs", "google", "requests"}
_REMOTE_ADVICE = "check the address, the credentials and the network, then start again"


@contextlib.contextmanager
def disk_errors(action: str, location: Location) -> Iterator[None]:
    """Turn an error of a file system raised inside into a ``StoreError`` of one sentence.

    Parameters
    ----------
    action
        What was tried: ``"write"``, ``"create"``, ...
    location
        The store that the user knows; the file inside it would only confuse.
    """
    try:
        yield
    except Exception as error:
        if not _is_disk_error(error):
            raise
        raise StoreError(
            f"cannot {action} {location}: {_cause(error)}; {_advice(error, location)}."
        ) from error


def _is_disk_error(error: Exception) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & _CLIENTS)


def _cause(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, OSError) and error.errno:
        text = os.strerror(error.errno)
    else:
        text = str(error)
    text = " ".join(text.split()) or type(error).__name__
    # Servers answer in several sentences.
    return text.partition(". ")[0][:200].rstrip(". ")


def _advice(error: Exception, location: Location) -> str:
    if is_remote(location):
        return _REMOTE_ADVICE
    number = error.errno if isinstance(error, OSError) else None
    return _ADVICE.get(number or 0, "check the disk, then start again")


def read_metadata(location: Location) -> dict[str, Any]:
    """Root metadata of a store, after checking that it is one of ours and is complete.

    Raises
    ------
    StoreError
        If there is no folder or no Zarr store, its metadata cannot be read, it follows another
        version of the conventions, or a group is missing.
    """
    if isinstance(location, Path) and not location.is_dir():
        what = "is a file, not a folder" if location.exists() else "does not exist"
        raise StoreError(f"{location} {what}; give a run folder or the run.zarr inside it.")
    metadata = _read_json(location, "zarr.json")
    conventions = metadata.get("attributes", {}).get("conventions")
    if conventions is None:
        raise StoreError(
            f"{location} is a Zarr store but not one of sgdsim: it has no attribute "
            "'conventions'; give a run folder or the run.zarr inside it."
        )
    if conventions != CONVENTIONS:
        raise StoreError(
            f"{location} follows the conventions {conventions!r}, this version of sgdsim reads "
            f"{CONVENTIONS!r}; use the version of sgdsim that wrote it or run the scenario again."
        )
    study = metadata["attributes"].get("study")
    if study not in GROUPS:
        raise StoreError(
            f"{location} is the run of a study that this version of sgdsim does not know "
            f"({study!r}); it reads {', '.join(GROUPS)}."
        )
    if metadata.get("consolidated_metadata") is None:
        raise damaged(location, "zarr.json has no copy of the other metadata")
    # Requests cost more than looks at a disk: a remote store is trusted to be whole.
    for group in GROUPS[study] if isinstance(location, Path) else ():
        _read_json(location, f"{group}/zarr.json")
    return metadata


def _read_json(store: Location, inside: str) -> dict[str, Any]:
    """Read one ``zarr.json`` of a store."""
    try:
        content = json.loads(read_bytes(store / inside).decode("utf-8"))
    except FileNotFoundError:
        groups = {group for groups in GROUPS.values() for group in groups}
        if inside == "zarr.json" and not any(is_file(store / g / "zarr.json") for g in groups):
            raise StoreError(
                f"{store} is not a dataset of sgdsim (no zarr.json in it); give a run folder or "
                "the run.zarr inside it."
            ) from None
        raise damaged(store, f"{inside} is missing") from None
    except ValueError as error:  # broken JSON and broken UTF-8
        raise damaged(store, f"{inside} is not valid JSON") from error
    except Exception as error:
        if not _is_disk_error(error):
            raise
        advice = _REMOTE_ADVICE if is_remote(store) else f"check the file {inside}"
        raise StoreError(f"cannot read {store}: {_cause(error)}; {advice}.") from error
    if not isinstance(content, dict):
        raise damaged(store, f"{inside} is not a Zarr description")
    return content


def damaged(store: Location, what: str) -> StoreError:
    """Error for a store that is there but cannot be used."""
    return StoreError(
        f"{store} is damaged: {what}; restore it from a copy or run the scenario again with "
        "--overwrite."
    )


def unopenable(store: Location, error: Exception) -> StoreError:
    """Error for a store whose metadata was refused by Zarr or xarray."""
    return damaged(store, f"it cannot be opened ({in_short(error).rstrip('. ')})")


def in_short(error: Exception) -> str:
    """Give what an error says, in one line of bounded length."""
    return (" ".join(str(error).split()) or type(error).__name__)[:160]


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
