"""The last acts of every run: figures, status, the finished dataset."""

import time

from sgdsim._errors import StoreError
from sgdsim.plotting import save_figures
from sgdsim.runs._output import RunPaths
from sgdsim.runs._progress import Reporter
from sgdsim.store import RunStore, open_run

#: Verdict on processes that the gauges are not made for.
NOT_JUDGED = "SDE not judged: the verdict is about SGD without momentum or preconditioning."


def complete_run(store: RunStore, paths: RunPaths, reporter: Reporter, began: float) -> None:
    """Draw the figures, mark the dataset as done and give it its final name.

    Raises
    ------
    StoreError
        If the disk refuses; the run can then be resumed.
    """
    reporter.stage("drawing figures")
    try:
        save_figures(open_run(paths.partial), paths.figures)
    except OSError as error:
        raise StoreError(
            f"cannot write the figures to {paths.figures}: {error.strerror or error}; the dataset "
            f"is complete, make room and continue with 'sgdsim resume {paths.folder}'."
        ) from error
    store.set_attrs({"wall_seconds": time.monotonic() - began})
    store.set_status(0, "done")
    store.finish(paths.store)
    paths.checkpoint.unlink(missing_ok=True)
