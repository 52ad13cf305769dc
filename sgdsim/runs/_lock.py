"""One run at a time in a run folder: a lock that a crash releases."""

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdsim._errors import StoreError

if TYPE_CHECKING:
    from upath import UPath

LOCK_NAME = ".sgdsim-lock"
OWNER_NAME = ".sgdsim-lock-owner.json"
#: Seconds that a lease is valid, between two renewals, and before the first one is believed.
LEASE, RENEWAL, SETTLING = 30.0, 10.0, 1.0
#: Long enough to outlast `who_holds`, which takes the lock for a moment.
_PATIENCE = 0.5
_UNKNOWN = {"host": "an unknown host", "process": "of unknown number", "started": "unknown time"}
_now = time.time  # the tests turn this clock


class RunLock:
    """A held lock.

    Attributes
    ----------
    owner
        What the lock says about this run: host, process, start time.
    """

    def __init__(self, owner: dict[str, Any]) -> None:
        self.owner = owner

    def check(self) -> None:
        """Do nothing: the kernel keeps the lock of a local folder as long as the process lives."""


@contextlib.contextmanager
def lock_run(folder: "Path | UPath") -> Iterator[RunLock]:
    """Hold a run folder for this process, or refuse if another run has it.

    A local folder is locked by the kernel, which releases the lock when the process ends in
    whatever way. The lock is a hidden file *in* the folder, because there a run must be able to
    write, while the folder above may be read-only (a mounted volume) or shared. The folder is
    created if needed, and removed at the end if it is still empty. The hidden files are removed at
    the end; what a crash leaves there locks nothing.

    An object store knows no locks. There the run keeps a *lease*: an object that is valid for 30
    seconds and renewed every 10. After a crash the next run has to wait until the lease has
    expired. The clocks of the machines must agree within 20 seconds. Two runs that start at the
    same time both write the lease, wait a second and read it back, and the one that was
    overwritten gives up; should a write take longer than that second, the loser notices at its
    next renewal. So a run asks `RunLock.check` now and then, which fails when the lease is lost.

    Parameters
    ----------
    folder
        The run folder, local or remote.

    Yields
    ------
    RunLock
        The lock; ask its ``check`` before something is published.

    Raises
    ------
    StoreError
        If another run has the folder, or the folder cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sgdsim.runs._lock import lock_run
    >>> with lock_run(Path("run")):
    ...     sorted(file.name for file in Path("run").iterdir())
    ['.sgdsim-lock', '.sgdsim-lock-owner.json']
    >>> Path("run").exists()
    False
    """
    owner = {
        "host": platform.node(),
        "process": os.getpid(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "token": uuid.uuid4().hex,
    }
    if isinstance(folder, Path):
        lock = _lock_local(folder, owner)
    else:
        lock = _lock_remote(folder, owner)
    with lock as held:
        yield held


def who_holds(folder: "Path | UPath") -> dict[str, Any] | None:
    """Give the run that has a folder now.

    Parameters
    ----------
    folder
        The run folder, local or remote; nothing is changed there.

    Returns
    -------
    dict or None
        ``host``, ``process`` and ``started`` of that run; ``None`` if there is none.
    """
    if not isinstance(folder, Path):
        lease = Lease(folder, {"token": ""})
        found = lease._read()
        return _UNKNOWN | found if lease._seconds_left(found) > 0 else None
    from filelock import FileLock, Timeout

    if not (folder / LOCK_NAME).exists():
        return None
    try:
        with FileLock(folder / LOCK_NAME, timeout=0, thread_local=False):
            return None
    except Timeout:
        return _owner_in(folder)
    except OSError:  # a read-only disk, or a folder of somebody else: the lock cannot be tried
        owner = _owner_in(folder)
        return None if _has_died(owner) else owner


def _has_died(owner: dict[str, Any]) -> bool:
    """Whether a process was of this machine and is no more; one of another may live."""
    import psutil

    return owner["host"] == platform.node() and not psutil.pid_exists(owner["process"])


@contextlib.contextmanager
def _lock_local(folder: Path, owner: dict[str, Any]) -> Iterator[RunLock]:
    from filelock import FileLock, Timeout

    created = not folder.exists()
    described = folder / OWNER_NAME
    # Any thread may release it: a run need not end where it began.
    lock = FileLock(folder / LOCK_NAME, timeout=_PATIENCE, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise StoreError(_refusal(folder, _owner_in(folder))) from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        # Beside the lock, because on some systems nobody can read a locked file.
        try:
            described.write_text(json.dumps(owner))
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield RunLock(owner)
    finally:
        # Removed while it is held: whoever waits for a removed file starts over with a new one.
        for file in (described, folder / LOCK_NAME):
            with contextlib.suppress(OSError):
                file.unlink()
        lock.release()
        if created:
            with contextlib.suppress(OSError):  # not empty: a run is there
                folder.rmdir()


@contextlib.contextmanager
def _lock_remote(folder: "UPath", owner: dict[str, Any]) -> Iterator[RunLock]:
    lease = Lease(folder, owner)
    lease.take()
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(RENEWAL):
            lease.renew()

    # A daemon: it must not keep a process alive whose run has failed.
    keeper = threading.Thread(target=keep, name="sgdsim-lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        ended.set()
        keeper.join(RENEWAL)  # a renewal after the release would lock the folder for nobody
        lease.release()


class Lease(RunLock):
    """A lock in an object store: valid for a while and renewed.

    Parameters
    ----------
    folder
        Remote run folder.
    owner
        Whose lease it is; its ``token`` tells two runs apart.
    settle
        Waits until the write of a run that started at the same time has arrived.
    """

    def __init__(
        self, folder: "UPath", owner: dict[str, Any], settle: Callable[[], None] | None = None
    ) -> None:
        super().__init__(owner)
        self.folder = folder
        self.path = folder / OWNER_NAME
        self.settle = settle or (lambda: time.sleep(SETTLING))
        self.expires = 0.0
        self.lost = False

    def take(self) -> None:
        """Take the lease if it is free or has expired.

        Raises
        ------
        StoreError
            If another run has it, or the store cannot be written.
        """
        try:
            self._refuse_if_alive(self._read())
            self._write()
            self.settle()
            self._refuse_if_alive(self._read())
        except StoreError:
            raise
        except Exception as error:  # every store has errors of its own
            raise _unwritable(self.folder, error) from error

    def renew(self) -> None:
        """Make the lease valid for longer, unless it belongs to another run by now."""
        try:
            if self._read().get("token", self.owner["token"]) != self.owner["token"]:
                self.lost = True
            if not self.lost:
                self._write()
        except Exception:
            # The store may answer again at the next renewal; until then the lease runs on.
            return

    def release(self) -> None:
        """Remove the lease, if it is ours; if the store does not answer it expires by itself."""
        with contextlib.suppress(Exception):
            if self._read().get("token") == self.owner["token"]:
                self.path.fs.rm_file(self.path.path)

    def check(self) -> None:
        """Refuse to go on without the lease.

        Raises
        ------
        StoreError
            If another run took the lease, or it could not be renewed in time.
        """
        if self.lost or _now() > self.expires:
            raise StoreError(
                f"this run has lost its lease on {self.folder}, because it could not renew it for "
                f"{LEASE:g} seconds or another run took it; resume it when the store answers and "
                "no other run works there."
            )

    def _refuse_if_alive(self, found: dict[str, Any]) -> None:
        left = self._seconds_left(found)
        if found.get("token") != self.owner["token"] and left > 0:
            raise StoreError(
                _refusal(self.folder, found)
                + f" If that process is dead, the folder is free in {left:.0f} seconds."
            )

    def _seconds_left(self, found: dict[str, Any]) -> float:
        return float(found.get("expires", 0)) - _now()

    def _read(self) -> dict[str, Any]:
        # Not path.read_bytes: the file system may remember how long the object was.
        return _read_owner(lambda: self.path.fs.cat_file(self.path.path))

    def _write(self) -> None:
        expires = _now() + LEASE
        text = json.dumps(self.owner | {"expires": expires})
        self.path.fs.pipe_file(self.path.path, text.encode())
        self.expires = expires


def _owner_in(folder: Path) -> dict[str, Any]:
    try:
        return _UNKNOWN | _read_owner((folder / OWNER_NAME).read_bytes)
    except OSError:
        return _UNKNOWN


def _read_owner(read: Callable[[], bytes | str]) -> dict[str, Any]:
    """Read what an owner wrote; nothing if it is gone or was cut off by a crash."""
    try:
        found = json.loads(read())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(folder: "Path | UPath", found: dict[str, Any]) -> str:
    owner = _UNKNOWN | found
    return (
        f"{folder} is in use by the run that process {owner['process']} on {owner['host']} started "
        f"at {owner['started']}; wait for it, stop it and resume, or choose another --out."
    )


def _unwritable(folder: "Path | UPath", error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or error
    return StoreError(f"cannot lock {folder}, because nothing can be written there: {reason}.")
