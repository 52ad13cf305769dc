"""What faults are done to: processes that are killed, and disks that are full or read-only."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

_LONGEST = 600.0  # seconds; what takes longer hangs
_PAUSE = 0.02


class Session:
    """One command of sgdsim with its workers, in a process group of its own.

    Parameters
    ----------
    folder
        Where a file for what it prints is put.
    arguments
        The command, without ``sgdsim``.
    cluster
        Cluster that it is to use.
    """

    _numbers = itertools.count()

    def __init__(self, folder: Path, arguments: Sequence[str], cluster: str | None = None) -> None:
        self.command = [*arguments, *(("--cluster", cluster) if cluster else ())]
        self._printed = folder / f"printed-{next(self._numbers)}"
        # A file, because nobody would empty a pipe.
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from sgdsim._cli import app; app()", *self.command],
                stdout=printed,
                stderr=printed,
                start_new_session=True,
                env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
            )

    @property
    def workers(self) -> list[psutil.Process]:
        """Worker processes of the cluster."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    @property
    def printed(self) -> str:
        """What it has printed until now."""
        return self._printed.read_text(errors="replace")

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end, so long at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def end(self) -> int:
        """Wait for the end; exit status."""
        if not self.ends_within(_LONGEST):
            self.kill()
            raise SystemExit(f"sgdsim {' '.join(self.command)} hangs: {self.printed}")
        return self.process.returncode

    def succeed(self) -> None:
        """Wait for the end, which must be a good one."""
        if self.end() != 0:
            raise SystemExit(
                f"sgdsim {' '.join(self.command)} ended with status {self.process.returncode}: "
                f"{self.printed}"
            )

    def refused(self, words: str) -> bool:
        """Wait for the end; whether it is status 1 and one sentence that holds certain words."""
        status, lines = self.end(), self.printed.strip().splitlines() or [""]
        said = lines[-1].startswith("error: ") and words in lines[-1]
        if not (fine := status == 1 and said and "Traceback" not in self.printed):
            print(f"  sgdsim {self.command[0]}: status {status}, {self.printed[-2000:]}")
        return fine

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """Let the whole group stand still for a while."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        yield
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the whole group by SIGKILL and wait until nothing of it is alive."""
        group = [psutil.Process(self.process.pid)]
        with contextlib.suppress(psutil.Error):
            group += group[0].children(recursive=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_for(lambda: not any(map(_alive, group)))


def _alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], object], session: Session | None = None) -> None:
    """Wait until something holds; end if it cannot any more."""
    deadline = time.monotonic() + _LONGEST
    while not condition():
        if session is not None and session.ends_within(0):
            raise SystemExit(f"the sweep ended too early: {session.printed}")
        if time.monotonic() > deadline:
            raise SystemExit("the sweep does not get on")
        time.sleep(_PAUSE)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """Make a folder and mount a file system in memory there; tell whether that is permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    """Change a mounted disk: ``"ro"``, ``"size=100k"``."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def kilobytes(folder: Path) -> int:
    """Room that the files in a folder take in pages of memory."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sum(-(-file.stat().st_size // 4096) * 4 for file in files)
