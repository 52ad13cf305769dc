"""Tasks that behave badly; workers of a cluster can import them."""

import os
import signal
import time
from pathlib import Path


class Awkward(Exception):
    """An exception that pickle cannot restore."""

    def __init__(self, what: str, *, where: str) -> None:
        super().__init__(f"{what} at {where}")


def raise_awkward(task: int) -> int:
    """Fail in a way that is hard to send home."""
    raise Awkward("failure", where=f"task {task}")


def exit_if_negative(task: int) -> int:
    """Kill the process that computes a negative square."""
    time.sleep(0.5)
    if task < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return task**2


def wait_for_permission(task: tuple[str, int]) -> int:
    """Note this process in ``folder/started-NUMBER-PID``; go on when ``folder/go`` is there."""
    folder, number = Path(task[0]), task[1]
    (folder / f"started-{number}-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    return number


def devices_of_worker(task: int) -> str:
    """Give what the worker was told about its share of the cores."""
    return os.environ.get("SGDSIM_DEVICES", "")
