"""The last acts of every run: figures, status, the finished dataset."""

import contextlib

import xarray as xr

from sgdsim._errors import StoreError
from sgdsim.plotting import save_figures
from sgdsim.runs._control import RunControl
from sgdsim.store import RunStore, is_remote, open_run

#: Verdict on processes that the gauges are not made for.
NOT_JUDGED = "SDE not judged: the verdict is about SGD without momentum or preconditioning."


def complete_run(store: RunStore, control: RunControl) -> xr.DataTree:
    """Draw the figures and give the dataset its final name.

    Returns
    -------
    xarray.DataTree
        The finished dataset.

    Raises
    ------
    StoreError
        If the disk refuses; the run can then be resumed.
    """
    paths = control.paths
    control.reporter.stage("drawing figures")
    try:
        save_figures(open_run(paths.partial), paths.figures)
    except OSError as error:
        raise StoreError(
            f"cannot write the figures to {paths.figures}: {error.strerror or error}; the dataset "
            f"is complete, make room and continue with 'sgdsim resume {paths.folder}'."
        ) from error
    control.lock.check()
    store.finish(paths.store)
    for number in range(store.points):
        files = paths.files(number)
        files.checkpoint.unlink(missing_ok=True)
        if not is_remote(files.folder):  # which has no folders
            with contextlib.suppress(OSError):  # the minima stay there, if there are any
                files.folder.rmdir()
    return open_run(paths.store)
