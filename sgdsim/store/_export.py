"""Export of a run to NetCDF."""

import importlib.util
import uuid
from os import PathLike
from pathlib import Path

from upath import UPath

from sgdsim._errors import StoreError
from sgdsim.store._files import disk_errors
from sgdsim.store._open import open_run


def export_netcdf(path: str | PathLike | UPath, out: Path) -> Path:
    """Write the dataset of a run to one NetCDF-4 file with the same groups.

    Parameters
    ----------
    path
        The run folder, or the ``run.zarr`` or ``run.zarr.partial`` inside it; a path or a URL.
    out
        File to write, on this machine; must not exist yet.

    Returns
    -------
    pathlib.Path
        ``out``.

    Raises
    ------
    StoreError
        If the run cannot be read, ``out`` exists, the disk refuses, or h5netcdf is not installed.
    """
    if any(importlib.util.find_spec(name) is None for name in ("h5netcdf", "h5py")):
        raise StoreError(
            "export to NetCDF needs h5netcdf, which is not installed; install it with "
            "'pip install sgdsim[netcdf]'."
        )
    tree = open_run(path)
    if out.exists():
        raise StoreError(f"cannot write {out}: it exists; choose another name.")
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    with disk_errors("write", out):
        try:
            tree.to_netcdf(temporary, engine="h5netcdf")
            temporary.rename(out)
        finally:
            temporary.unlink(missing_ok=True)
    return out
