"""Opening a run for reading."""

import difflib
from pathlib import Path

import xarray as xr

from sgdsim._errors import StoreError
from sgdsim.store._files import damaged, disk_errors, read_metadata

# The finished dataset wins over an unfinished one left beside it.
_NAMES = ("run.zarr", "run.zarr.partial")


def open_run(path: Path | str) -> xr.DataTree:
    """Open the dataset of a run, finished or not.

    Values are read from disk when they are used. What was not written yet is NaN (integers and
    flags: -1).

    Parameters
    ----------
    path
        The run folder, or the ``run.zarr`` or ``run.zarr.partial`` inside it.

    Returns
    -------
    xarray.DataTree
        The groups of its study (``trajectory``, ``stagnation``, ``curvature``, ``bounds``, or
        ``dynamics``) and ``claims``, with labelled dimensions; without a sweep there is no
        dimension ``point``.

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
    store = find_store(Path(path))
    metadata = read_metadata(store)
    consolidated = metadata.get("consolidated_metadata") is not None
    try:
        with disk_errors("read", store):
            tree = xr.open_datatree(store, engine="zarr", consolidated=consolidated)
    except StoreError:
        raise
    except Exception as error:  # Zarr and xarray raise many kinds for damaged metadata
        raise damaged(store, error) from error
    if tree.sizes.get("point", 1) > 1:
        return tree
    return xr.DataTree.from_dict(
        {
            node.path: node.to_dataset(inherit=False).isel(
                point=0, drop=True, missing_dims="ignore"
            )
            for node in tree.subtree
        }
    )


def find_store(path: Path) -> Path:
    """Folder of the dataset that a path names.

    Raises
    ------
    StoreError
        If there is none; the message names run folders near by.
    """
    if not path.exists():
        raise StoreError(f"there is no run at {path}.{_nearby(path)}")
    for name in _NAMES:
        if (path / name).is_dir():
            return path / name
    if path.is_dir() and not (path / "zarr.json").exists() and not path.name.startswith("run.zarr"):
        raise StoreError(f"{path} holds no run (no run.zarr in it).{_nearby(path)}")
    return path


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
