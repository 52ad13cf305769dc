"""Opening a run for reading."""

import difflib
from os import PathLike
from pathlib import Path

import numpy as np
import xarray as xr
from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.store._files import FINISHED, damaged, disk_errors, in_short, read_metadata
from sgdsim.store._location import Location, as_location, is_file
from sgdsim.store._opened import open_tree
from sgdsim.store._select import parsed_details, select_point

# The finished dataset wins over an unfinished one left beside it.
_NAMES = ("run.zarr", "run.zarr.partial")


def open_run(path: str | PathLike | UPath) -> xr.DataTree:
    """Open the dataset of a run, finished or not.

    Values are read from disk when they are used. What was not written yet is NaN (integers and
    flags: -1).

    Parameters
    ----------
    path
        The run folder, or the ``run.zarr`` or ``run.zarr.partial`` inside it; a path or a URL.

    Returns
    -------
    xarray.DataTree
        The groups of its study (``trajectory``, ``stagnation``, ``curvature``, ``bounds``, or
        ``dynamics``) and ``claims``, with labelled dimensions. The dimensions of a sweep stand in
        front of every variable; `open_point` opens one point of it by itself.

    Raises
    ------
    StoreError
        If there is no run, it is damaged or unreadable, or it follows other conventions.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sgdsim.store import open_run
    >>> from sgdsim.testing import synthetic_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree = open_run(synthetic_run(Path(folder)))
    ...     bound = tree["stagnation"].stay_lower_bound.sel(theory="S2").values
    >>> bound.ndim
    1
    """
    store, tree = _open(path)
    if tree.to_dataset()["status"].dims:
        return tree
    return _selected(store, tree, 0)


def open_point(path: str | PathLike | UPath, number: int) -> xr.DataTree:
    """Open one point of a sweep as a run of its own.

    Parameters
    ----------
    path
        As for `open_run`.
    number
        Number of the point, in C order over the dimensions of the sweep.

    Returns
    -------
    xarray.DataTree
        What `open_run` returns for a run without sweep, cut to the lengths of the point; what
        was said of the point is among the attributes of the root.

    Raises
    ------
    StoreError
        If there is no such run or point, or it is damaged.
    """
    store, tree = _open(path)
    points = tree.to_dataset()["status"].size
    if not 0 <= number < points:
        raise StoreError(
            f"{store} has no point {number}: its points are 0 ... {points - 1}; give one of them."
        )
    return _selected(store, tree, number)


def _open(path: str | PathLike | UPath) -> tuple[Location, xr.DataTree]:
    store = find_store(path)
    read_metadata(store)
    tree = open_tree(store)
    if missing := {"status", "details"} - set(tree.to_dataset()):
        raise damaged(store, f"{min(missing)} is missing")
    return store, tree


def _selected(store: Location, tree: xr.DataTree, number: int) -> xr.DataTree:
    details = tree.to_dataset()["details"].variable
    place = np.unravel_index(number, details.shape) if details.shape else ()
    try:
        with disk_errors("read", store):
            found = parsed_details(str(details[place].values.item()))
    except StoreError:
        raise
    except Exception as error:  # codec and checksum errors have no common base
        raise damaged(
            store, f"details of point {number} are unreadable ({in_short(error)})"
        ) from error
    return select_point(tree, number, {str(k): v for k, v in tree.attrs.items()}, found)


def is_finished(path: str | PathLike | UPath) -> bool:
    """Whether a dataset was finished, so that nothing of it is still to be computed.

    Parameters
    ----------
    path
        As for `open_run`.

    Raises
    ------
    StoreError
        If there is no run, or it is damaged.
    """
    store = find_store(path)
    marked = read_metadata(store)["attributes"].get(FINISHED) is True
    # Between the mark and the rename a local one is complete but does not have its name yet.
    return marked and not store.name.endswith(".partial")


def find_store(path: str | PathLike | UPath) -> Location:
    """Location of the dataset that a path or URL names.

    Raises
    ------
    StoreError
        If there is none; the message names run folders near by.
    """
    place = as_location(path)
    if isinstance(place, UPath):
        return _find_remote(place)
    if not place.exists():
        raise StoreError(f"there is no run at {place}.{_nearby(place)}")
    for name in _NAMES:
        if (place / name).is_dir():
            return place / name
    own = place.name.startswith("run.zarr")
    if place.is_dir() and not (place / "zarr.json").exists() and not own:
        raise StoreError(f"{place} holds no run (no run.zarr in it).{_nearby(place)}")
    return place


def _find_remote(place: UPath) -> UPath:
    # There is no rename, hence no name for an unfinished dataset.
    with disk_errors("read", place):
        for one in (place / _NAMES[0], place):
            if is_file(one / "zarr.json"):
                return one
    raise StoreError(f"there is no run at {place}; give the URL of a run folder.")


def _nearby(path: Path) -> str:
    """Sentence that names runs beside or inside a path that is none."""
    while path.name in _NAMES:
        path = path.parent
    places = [path, path.parent] if path.is_dir() else [path.parent]
    for place in places:
        runs = _runs_in(place)
        if runs:
            near = difflib.get_close_matches(path.name, runs, n=1)
            shown = ", ".join(runs[:5]) + (", ..." if len(runs) > 5 else "")
            hint = f" Did you mean {place / near[0]}?" if near else ""
            return f"{hint} Runs in {place}: {shown}."
    return " Give a run folder, the one that --out named."


def _runs_in(folder: Path) -> list[str]:
    try:
        return sorted(
            child.name
            for child in folder.iterdir()
            if any((child / name).is_dir() for name in _NAMES)
        )
    except OSError:  # a hint is not worth an error
        return []
