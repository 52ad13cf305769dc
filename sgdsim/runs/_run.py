"""Run a scenario: prepare, simulate time chunk by time chunk, finish; resume after a kill."""

import os
import time

from sgdsim._errors import StoreError
from sgdsim.runs._again import stored_scenario
from sgdsim.runs._claims import print_claims
from sgdsim.runs._cluster import ClusterError, check_cluster
from sgdsim.runs._complete import complete_run
from sgdsim.runs._control import RunControl
from sgdsim.runs._failures import reopen_failed
from sgdsim.runs._hosts import copy_unfinished, is_first, is_spread, own_folder
from sgdsim.runs._lock import lock_run
from sgdsim.runs._output import RunPaths, check_output, clear_output, find_run
from sgdsim.runs._plan import make_plan, print_plan
from sgdsim.runs._progress import Reporter
from sgdsim.runs._session import layout_of, require_same_machine, session
from sgdsim.runs._signals import stop_on_signal
from sgdsim.runs._studies import STUDIES, create_store, point_store
from sgdsim.runs._study import StudyRun, next_leg
from sgdsim.runs._survey import survey
from sgdsim.runs._sweep import carry_on_sweep, start_sweep
from sgdsim.scenario import Scenario
from sgdsim.store import Location, RunStore, as_location


def run(
    scenario: Scenario,
    out: str | os.PathLike[str] | Location,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    cluster: str | None = None,
) -> Location:
    """Run a scenario, or all points of its sweep, into a folder.

    Parameters
    ----------
    scenario
        What to run.
    out
        Run folder, or a URL such as ``s3://bucket/run``; the dataset is ``out/run.zarr``, the
        figures are in ``out/figures``.
    overwrite
        Replace a run that is already there.
    quiet
        Show neither progress nor claims.
    cluster
        Where the batches of a sweep run: ``None`` (here), ``"local:4"`` (four processes) or the
        address of a Dask scheduler.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    StoreError
        If the folder cannot be used; nothing is written then.
    ClusterError
        If the cluster cannot be used, or there is no sweep to spread over it.
    RunInterrupted
        If a signal stopped the run; ``resume`` continues it.

    Notes
    -----
    On CPU it makes one JAX device per core for the whole process, if JAX has not started yet. A
    point of a sweep that fails does not stop the others: its status and reason are in the dataset.
    After ``jax.distributed.initialize`` the trajectories are spread over the devices of all
    processes, of which the first writes the dataset; all have to call this.

    Examples
    --------
    >>> import sgdsim
    >>> tiny = [
    ...     "problem.data.training=40", "problem.data.reference=40", "ensemble.trajectories=2",
    ...     "ensemble.steps=4", "ensemble.record_every=2", "ensemble.chunk_steps=2",
    ...     "convexity.directions=2", "convexity.eigenvectors=1", "convexity.radii=2",
    ... ]
    >>> scenario = sgdsim.load_scenario("stagnation", tiny)
    >>> folder = sgdsim.run(scenario, "sgdsim-runs/tiny", quiet=True)
    >>> sgdsim.open_run(folder)["trajectory"].loss.shape
    (2, 3)
    """
    _check_cluster(cluster, scenario)
    folder = own_folder(as_location(out), scenario)
    check_output(folder, overwrite)
    reporter = Reporter(quiet or folder != as_location(out))
    with (
        lock_run(folder) as lock,
        session(scenario),
        stop_on_signal(reporter.stage) as stop,
    ):
        control = RunControl(RunPaths(folder), reporter, stop, lock, time.monotonic())

        def stage(text: str) -> None:
            stop.check(f"stopped before the first step; nothing to resume in {folder}.")
            reporter.stage(text)

        if scenario.sweep is not None:
            workers = survey(cluster, scenario, folder)
            planned = {"plan": start_sweep(scenario, workers, reporter).to_json()}
            paths = clear_output(folder, overwrite)
            store = create_store(scenario, layout_of(scenario), paths, planned)
            carry_on_sweep(scenario, store, cluster, workers, control)
            return folder
        simulation = STUDIES[scenario.study].prepare(scenario, 0, stage)
        stage("compiling")
        # Only now: until here a run that is replaced was still whole.
        paths = clear_output(folder, overwrite)
        store = create_store(scenario, layout_of(scenario), paths)
        simulation.create(paths.files(0), point_store(store, scenario, 0))
        _carry_on(simulation, store, control)
    return folder


def resume(
    path: str | os.PathLike[str] | Location,
    *,
    quiet: bool = False,
    cluster: str | None = None,
    retry_failed: bool = False,
) -> Location:
    """Continue an interrupted run from its last finished time chunk.

    Parameters
    ----------
    path
        Run folder or the dataset in it.
    quiet
        Show neither progress nor claims.
    cluster
        As for ``run``; it may be another one than before.
    retry_failed
        Also run the points of a sweep again that failed, of a finished one too.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    StoreError
        If there is no run, it is finished, it was made by another version of the conventions,
        or its state cannot be read.
    """
    check_cluster(cluster)
    paths = find_run(path)
    if is_spread() and not paths.finished:
        paths = _seen_from_here(paths)
    if paths.finished and not retry_failed:
        raise StoreError(f"{paths.folder} is finished already; open it with sgdsim.open_run.")
    reporter = Reporter(quiet or (is_spread() and not is_first()))
    with lock_run(paths.folder) as lock:
        store = RunStore.open(paths.dataset)
        scenario = stored_scenario(store)
        _check_cluster(cluster, scenario)
        begins_anew = scenario.sweep is None and not paths.files(0).checkpoint.exists()
        if begins_anew and "wall_seconds" in store.point().attrs:  # steps were made
            raise StoreError(
                f"{paths.files(0).checkpoint} is gone, and without it the run cannot go on; the "
                f"dataset in {paths.partial} can still be read. Start again with --overwrite."
            )
        if not begins_anew:
            with session(scenario), stop_on_signal(reporter.stage) as stop:
                require_same_machine(store, layout_of(scenario))
                control = RunControl(paths, reporter, stop, lock, time.monotonic())
                _resume(scenario, store, cluster, control, retry_failed)
    if begins_anew:  # outside of the lock, which it takes itself
        run(scenario, paths.folder, overwrite=True, quiet=quiet)
    return paths.folder


def _check_cluster(cluster: str | None, scenario: Scenario) -> None:
    check_cluster(cluster)
    if cluster is not None and scenario.sweep is None:
        raise ClusterError(
            f"{scenario.name} has no sweep, so there is nothing to spread over {cluster}; leave "
            "--cluster away, or sweep something, as in --set 'sweep.learning_rate=[0.1, 0.2]'."
        )


def _seen_from_here(paths: RunPaths) -> RunPaths:
    """Files that this process continues beside the others: a copy for all but the first."""
    own = RunPaths(own_folder(paths.folder, stored_scenario(RunStore.open(paths.partial))))
    if own != paths:
        copy_unfinished(paths, own)
    return own


def plan(scenario: Scenario, cluster: str | None = None) -> None:
    """Print what ``run`` would do; nothing is run or written.

    Parameters
    ----------
    scenario
        With or without a sweep.
    cluster
        Where it would run.
    """
    _check_cluster(cluster, scenario)
    reporter = Reporter()
    with session(scenario):
        workers = survey(cluster, scenario)
        if scenario.sweep is not None:
            start_sweep(scenario, workers, reporter)
        else:
            print_plan(scenario, make_plan(scenario, workers.budget), reporter.console)


def _resume(
    scenario: Scenario,
    store: RunStore,
    cluster: str | None,
    control: RunControl,
    retry_failed: bool,
) -> None:
    """Take up what is there; nothing has been changed until here."""
    paths = control.paths
    if scenario.sweep is not None:
        workers = survey(cluster, scenario, paths.folder)
        if retry_failed:
            reopen_failed(paths, store)
        before = float(str(store.attrs.get("wall_seconds", 0.0)))
        control = control._replace(began=control.began - before)
        carry_on_sweep(scenario, store, cluster, workers, control)
        return
    if retry_failed and paths.finished:
        raise StoreError(f"{paths.folder} is finished and has no sweep; there is nothing to retry.")
    part = point_store(store, scenario, 0)
    before = float(str(part.attrs.get("wall_seconds", 0.0)))
    simulation = STUDIES[scenario.study].restore(scenario, 0, paths.files(0))
    simulation.load(paths.files(0), part)
    _carry_on(simulation, store, control._replace(began=control.began - before))


def _carry_on(simulation: StudyRun, store: RunStore, control: RunControl) -> None:
    """Simulate what is left of one run, then finish it."""
    part, reporter = simulation.store, control.reporter
    with reporter.bar(simulation.scenario.name, simulation.done, simulation.total, "steps"):
        requests = simulation.simulate()
        leg = next(requests, None)
        while leg is not None:
            leg = next_leg(requests, leg.advance())
            part.set_attrs({"wall_seconds": control.seconds})
            reporter.reached(simulation.done)
            control.check()
    simulation.finish(reporter.stage)
    part.set_attrs({"wall_seconds": control.seconds})
    tree = complete_run(store, control)
    simulation.report(tree, reporter.console)
    reporter.files(control.paths)
    print_claims(tree, reporter.console)
