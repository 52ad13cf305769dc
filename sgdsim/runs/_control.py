"""What a run obeys and answers to while it goes on."""

import time
from typing import NamedTuple

from sgdsim.runs._lock import RunLock
from sgdsim.runs._output import RunPaths
from sgdsim.runs._progress import Reporter
from sgdsim.runs._signals import StopRequest


class RunControl(NamedTuple):
    """Terminal, request to stop, lock and clock of a run.

    Attributes
    ----------
    paths
        Files of the run.
    reporter
        Terminal.
    stop
        Whether somebody asked the run to stop.
    lock
        Lock of the folder; one on an object store can be lost.
    began
        Start on the monotonic clock; that of a resumed run lies before it by what was done.
    """

    paths: RunPaths
    reporter: Reporter
    stop: StopRequest
    lock: RunLock
    began: float

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self.began

    def check(self) -> None:
        """End here if asked to, or if another run has taken the folder.

        Raises
        ------
        RunInterrupted, StoreError
            As the case may be.
        """
        self.lock.check()
        self.stop.check(f"stopped; continue with: sgdsim resume {self.paths.folder}")
