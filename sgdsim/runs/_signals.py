"""Ctrl-C and SIGTERM: finish the time chunk, keep everything, say how to go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sgdsim._errors import RunInterrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked the run to stop, and by which signal."""

    def __init__(self) -> None:
        self.number = 0

    def check(self, message: str) -> None:
        """Stop here if asked to.

        Raises
        ------
        RunInterrupted
            With ``message`` and the exit status that shells expect, 128 plus the signal.
        """
        if self.number:
            error = RunInterrupted(message)
            error.exit_code = 128 + self.number
            raise error


@contextmanager
def stop_on_signal(announce: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turn the first signal into a request; a second one ends the process as usual."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may install handlers
        return

    def handle(number: int, frame: FrameType | None) -> None:
        request.number = number
        signal.signal(number, previous[signal.Signals(number)])
        announce("stopping after the present time chunk (once more to stop at once)")

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
