"""One run on several machines: every process computes its trajectories, the first one keeps them.

All processes do the same, in the same order (jax.distributed), and see the same numbers: between
two time chunks every process gathers what the others computed. So each of them writes the same
dataset; that of all but the first is in memory and ends with the process.
"""

import os

import jax
from upath import UPath

from sgdsim._errors import ScenarioError, SgdsimError
from sgdsim.ensemble import use_host_devices
from sgdsim.runs._output import RunPaths
from sgdsim.scenario import Scenario
from sgdsim.store import Location, as_location

#: For machines without a scheduler that JAX knows (it knows SLURM and Open MPI).
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_NOWHERE = "memory://sgdsim-other-processes"


def join_hosts() -> None:
    """Become one of the processes of one JAX program.

    SLURM and Open MPI say which; elsewhere the environment has to: ``JAX_COORDINATOR_ADDRESS``
    (``host:port`` of the first process), ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``.

    Raises
    ------
    SgdsimError
        If nobody says it, or not all processes come.
    """
    told = {name: os.environ.get(name) for name in _VARIABLES}
    count, number = told["JAX_NUM_PROCESSES"], told["JAX_PROCESS_ID"]
    try:
        jax.distributed.initialize(
            coordinator_address=told["JAX_COORDINATOR_ADDRESS"],
            num_processes=None if count is None else int(count),
            process_id=None if number is None else int(number),
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise SgdsimError(
            f"this process cannot join the others ({' '.join(str(error).split())}); start it by "
            f"srun or mpirun, or set {', '.join(_VARIABLES)}."
        ) from error


def is_spread() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this process keeps what all compute; starts JAX."""
    return jax.process_index() == 0


def own_folder(folder: Location, scenario: Scenario) -> Location:
    """Give the run folder of this process: in memory for all but the first.

    Raises
    ------
    ScenarioError
        If the scenario wants what several machines cannot do together.
    """
    if not is_spread():
        return folder
    if scenario.sweep is not None:
        raise ScenarioError(
            f"{scenario.name}: a sweep is spread over machines by its points; use --cluster "
            "instead of --multi-host."
        )
    if scenario.compute.devices != "auto":
        raise ScenarioError(
            f"{scenario.name}: compute.devices = {scenario.compute.devices}, but with --multi-host "
            "every process takes part with all its devices; leave it at 'auto'."
        )
    use_host_devices()
    return folder if is_first() else as_location(_NOWHERE)


def copy_unfinished(run: RunPaths, own: RunPaths) -> None:
    """Read an unfinished run, so that this process can continue it beside the first one."""
    for part, target in ((run.partial, own.partial), (run.state, own.state)):
        source = UPath(part)
        for file in source.rglob("*"):
            if file.is_file():
                copy = target / file.relative_to(source).as_posix()
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
