"""Places of a dataset: a folder of this machine, or the URL of a file system that fsspec knows."""

import difflib
import os
import re
from pathlib import Path

import fsspec
from fsspec.core import get_filesystem_class
from upath import UPath
from zarr.storage import FsspecStore, LocalStore

from sgdsim._errors import StoreError

#: A local path, or the URL of a remote one.
Location = Path | UPath

_LOCAL = ("file", "local")


def as_location(place: str | os.PathLike | UPath) -> Location:
    """Read a path or a URL.

    Options of a file system (an endpoint, keys) come from where its own client looks for them,
    such as the environment or fsspec's configuration files; or give a ``UPath`` that has them.

    Parameters
    ----------
    place
        A local path, ``file://`` included, or a URL such as ``s3://bucket/folder``.

    Returns
    -------
    pathlib.Path or upath.UPath
        A local path is always a ``pathlib.Path``.

    Raises
    ------
    StoreError
        If the protocol of the URL is unknown, or its package is not installed.

    Examples
    --------
    >>> from sgdsim.store import as_location
    >>> as_location("memory://runs/first").name
    'first'
    >>> as_location("file:///runs/first") == as_location("/runs/first")
    True
    """
    if isinstance(place, UPath):
        return Path(place.path) if place.protocol in ("", *_LOCAL) else place
    text = os.fspath(place)
    protocol = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if isinstance(place, Path) or protocol is None:
        return Path(text)
    name = protocol[1].lower()
    try:
        system = get_filesystem_class(name)
        if name in _LOCAL:
            return Path(system._strip_protocol(text))
        return UPath(text)
    except ImportError as error:
        # fsspec's text names the package: "Install s3fs to access S3".
        raise StoreError(
            f"cannot use {text}: a package for {name}:// is missing ({error}); install it, then "
            "start again."
        ) from error
    except ValueError as error:
        near = difflib.get_close_matches(name, fsspec.available_protocols(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}://?" if near else "give a local folder or a known URL."
        raise StoreError(f"cannot use {text}: the protocol {name}:// is unknown; {hint}") from error


def is_remote(location: Location) -> bool:
    """Whether a location is a URL, where nothing can be renamed in one step."""
    return isinstance(location, UPath)


def zarr_store(location: Location) -> LocalStore | FsspecStore:
    """Zarr's store of a location."""
    if isinstance(location, UPath):
        return FsspecStore.from_url(str(location), storage_options=dict(location.storage_options))
    return LocalStore(location)


def read_bytes(location: Location) -> bytes:
    """Content of one file, never an outdated one from the cache of a remote file system.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if isinstance(location, UPath):
        content = location.fs.cat_file(location.path)
        assert isinstance(content, bytes)
        return content
    return location.read_bytes()


def is_file(location: Location) -> bool:
    """Whether there is a file now."""
    if isinstance(location, UPath):
        # Not fsspec's isfile: it takes a refused connection for a missing file.
        location.fs.invalidate_cache()
        try:
            return location.fs.info(location.path)["type"] == "file"
        except FileNotFoundError:
            return False
    return location.is_file()


def files_below(location: UPath) -> list[str]:
    """Paths of all files below a remote folder; empty if there is none."""
    location.fs.invalidate_cache()
    return sorted(location.fs.find(location.path))
