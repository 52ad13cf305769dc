"""Dask clusters: named by a text, started or reached, checked."""

import asyncio
import contextlib
import difflib
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sgdsim._errors import SgdsimError

if TYPE_CHECKING:
    from distributed import Client

_LOCAL = re.compile(r"local:([0-9]+)")
_ADDRESS = re.compile(r"(tcp|tls|ucx)://(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")
_FORMS = (
    "give 'local:4' for 4 processes on this machine or 'tcp://HOST:PORT' for the scheduler of a "
    "running cluster"
)
#: Results depend on these, so they have to be the same everywhere.
_SAME_EVERYWHERE = ("python", "sgdsim", "jax", "jaxlib")
_PAUSE = 0.1


class ClusterError(SgdsimError):
    """The cluster is wrongly named, does not answer, or cannot be used."""

    exit_code = 2


def check_cluster(cluster: str | None) -> None:
    """Refuse a text that names no cluster, before anything heavy starts.

    Parameters
    ----------
    cluster
        ``None``, ``"local:4"`` or ``"tcp://host:port"`` (also ``tls://`` and ``ucx://``).

    Raises
    ------
    ClusterError
        If the text has neither form, or Dask distributed is not installed.

    Examples
    --------
    >>> from sgdsim.runs._connection import ClusterError, check_cluster
    >>> try:
    ...     check_cluster("lokal:4")
    ... except ClusterError as error:
    ...     print(str(error).partition(" Otherwise")[0])
    unknown cluster 'lokal:4'. Did you mean 'local:4'?
    """
    if cluster is None:
        return
    local = _LOCAL.fullmatch(cluster)
    if local and int(local[1]) == 0:
        raise ClusterError(
            f"the cluster {cluster!r} has no workers. Did you mean 'local:1'? Otherwise {_FORMS}."
        )
    if not local and not _ADDRESS.fullmatch(cluster):
        close = _nearest_cluster(cluster)
        hint = f". Did you mean {close!r}? Otherwise" if close else ";"
        raise ClusterError(f"unknown cluster {cluster!r}{hint} {_FORMS}.")
    try:
        import distributed  # noqa: F401  (only asked whether it is there)
    except ImportError as error:
        raise ClusterError(
            f"the cluster {cluster!r} needs Dask distributed, which is not installed; run "
            "'pip install sgdsim[cluster]', or leave the cluster away to use this process alone."
        ) from error


def _nearest_cluster(given: str) -> str | None:
    """Find the valid text that is most like the given one."""
    before, _, after = given.strip().lower().partition(":")
    if after.startswith("/"):
        scheme = difflib.get_close_matches(before, ["tcp", "tls", "ucx"], n=1) or ["tcp"]
        guess = f"{scheme[0]}://{after.strip('/')}"
    elif not after:
        guess = f"local:{before}"
    elif difflib.get_close_matches(before, ["local"], cutoff=0.75):  # not localhost
        guess = f"local:{after}"
    else:
        guess = f"tcp://{before}:{after}"
    return guess if _LOCAL.fullmatch(guess) or _ADDRESS.fullmatch(guess) else None


#: Gives a client, within a time limit; asks regularly whether to stop.
Connect = Callable[[Callable[[], None], float], contextlib.AbstractContextManager["Client"]]


@contextlib.contextmanager
def open_cluster(cluster: str) -> Iterator["Connect"]:
    """Start a local cluster, or make ready to reach one.

    Parameters
    ----------
    cluster
        As for `check_cluster`, which has accepted it.

    Yields
    ------
    Connect
        ``connect(stop, time_limit)``, a context manager that gives a client with at least one
        worker. It can be called again after the connection was lost.

    Raises
    ------
    ClusterError
        If the processes do not start; ``connect`` raises it if the scheduler does not answer,
        has no workers, or has workers with other versions.
    """
    local = _LOCAL.fullmatch(cluster)
    with _quiet():
        if local:
            with _local_cluster(cluster, int(local[1])) as started:
                yield lambda stop, time_limit: _connect(started, time_limit)
        else:
            yield lambda stop, time_limit: _reach(cluster, stop, time_limit)


def local_workers(cluster: str) -> int | None:
    """Count the processes of a local cluster; ``None`` for one that is somewhere else."""
    found = _LOCAL.fullmatch(cluster)
    return int(found[1]) if found else None


@contextlib.contextmanager
def reach_cluster(cluster: str, time_limit: float = 10.0) -> Iterator["Client"]:
    """Connect to a running cluster for a question or two.

    Raises
    ------
    ClusterError
        If the scheduler does not answer, has no workers, or has workers with other versions.
    """
    with _quiet(), _reach(cluster, lambda: None, time_limit) as client:
        yield client


@contextlib.contextmanager
def _reach(cluster: str, stop: Callable[[], None], time_limit: float) -> Iterator["Client"]:
    with _connect(cluster, time_limit) as client:
        _wait_for_a_worker(client, cluster, stop, time_limit)
        _require_same_versions(client, cluster)
        yield client


@contextlib.contextmanager
def _local_cluster(cluster: str, workers: int) -> Iterator[Any]:
    """Start processes with one thread and their share of the cores each."""
    import dask.config
    from distributed import LocalCluster

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environment = {"SGDSIM_DEVICES": str(max(1, (cores or 1) // workers))}
    # Quiet from their first line on.
    early = {"DASK_LOGGING__DISTRIBUTED": "critical"}
    settings = {
        # JAX does not survive a fork.
        "distributed.worker.multiprocessing-method": "spawn",
        # Dask would give the BLAS of a worker one thread; that may change the last bits of what
        # the same task gives in this process.
        "distributed.nanny.pre-spawn-environ": early,
        # After so long a worker that did not come back is opened anew.
        "distributed.deploy.lost-worker-timeout": "10s",
    }
    # Dask sets the early ones, and the seed of hashes, in this process too.
    with dask.config.set(settings), _restored_environment(*early, "PYTHONHASHSEED"):
        try:
            started = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,  # Dask would kill a worker that uses the memory it was given
                silence_logs=logging.CRITICAL,
                env=environment,
                # A task that kills its workers is tried again alone; twice each time is enough.
                scheduler_kwargs={
                    "allowed_failures": 1,
                    # Its HTTP server starts all the same; a port of one's own may be taken.
                    "dashboard": False,
                    "dashboard_address": "127.0.0.1:0",
                },
            )
        except (RuntimeError, OSError, TimeoutError) as error:
            raise ClusterError(
                f"the processes of {cluster!r} did not start ({error}); a script that calls "
                "sgdsim has to do it under 'if __name__ == \"__main__\":'."
            ) from error
        with started:
            yield started


@contextlib.contextmanager
def _restored_environment(*names: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _connect(place: Any, time_limit: float) -> Iterator["Client"]:
    """Connect to a scheduler; on leaving, what was submitted and has not started is cancelled."""
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    if isinstance(place, str):
        _require_answer(place, time_limit)
    try:
        with warnings.catch_warnings():
            # We check the versions that matter, and refuse.
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = Client(place, timeout=time_limit, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise _no_answer(place, time_limit) from error
    with client:
        yield client


def _require_answer(cluster: str, time_limit: float) -> None:
    """Refuse the address of a scheduler that does not answer."""
    try:
        # In a thread, because a notebook has an event loop of its own in this one.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, _probe(cluster, time_limit)).result()
    except (OSError, TimeoutError) as error:
        raise _no_answer(cluster, time_limit) from error
    except (ImportError, ValueError, TypeError) as error:  # ucx not installed, no certificate
        raise ClusterError(f"cannot connect to {cluster}: {error}.") from error


def _no_answer(place: Any, time_limit: float) -> ClusterError:
    return ClusterError(
        f"no Dask scheduler answers at {place} within {time_limit:g} seconds; check the "
        "address and that the scheduler is running, or use 'local:4'."
    )


async def _probe(address: str, time_limit: float) -> None:
    """Ask for an answer; a Dask client would wait for ever where something listens in silence."""
    from distributed import Security
    from distributed.comm.core import connect

    arguments = Security().get_connection_args("client")
    call = connect(address, timeout=time_limit, **arguments)
    comm = await asyncio.wait_for(call, time_limit)
    await comm.close()


def _wait_for_a_worker(
    client: "Client", cluster: str, stop: Callable[[], None], time_limit: float
) -> None:
    deadline = time.monotonic() + time_limit
    while not client.nthreads():
        stop()
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the scheduler at {cluster} has no workers after {time_limit:g} seconds; start "
                f"some with 'dask worker {cluster} --nthreads 1' or wait until they are there."
            )
        time.sleep(_PAUSE)


def _require_same_versions(client: "Client", cluster: str) -> None:
    """Refuse workers whose results could differ from those of this process."""
    versions: Any = client.get_versions(packages=list(_SAME_EVERYWHERE[1:]))
    here = versions["client"]["packages"]
    differing = {}
    for worker in versions["workers"].values():
        for name in _SAME_EVERYWHERE:
            there = worker["packages"][name]
            if there != here[name]:
                differing[name, there] = (
                    f"{name} {there or 'missing'} (here {here[name] or 'missing'})"
                )
    if differing:
        raise ClusterError(
            f"the workers of {cluster} have other versions: {', '.join(differing.values())}; "
            "results would differ, so give the workers the environment of this process."
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs about lost workers and connections off the terminal."""
    import distributed  # noqa: F401  (makes its loggers)

    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
