"""What the commands share: arguments, options, completion, errors as one message."""

import contextlib
import os
import pathlib
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated

import typer

from sgdsim._errors import SgdsimError

_UNEXPECTED = 1
_INTERRUPTED = 130


def complete_scenario(incomplete: str) -> list[str]:
    """Names of built-in scenarios and of files that begin so."""
    from sgdsim.scenario import scenario_names

    folder = os.path.dirname(incomplete)
    found = pathlib.Path(folder).glob("*.toml")
    files = sorted(os.path.join(folder, file.name) for file in found)
    return [name for name in [*scenario_names(), *files] if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Folders of runs that begin so."""
    folder = os.path.dirname(incomplete)
    found = sorted(pathlib.Path(folder).glob("*/run.zarr*"))
    runs = {os.path.join(folder, store.parent.name): None for store in found}
    if not runs and not folder:
        found = sorted(pathlib.Path("sgdsim-runs").glob("*/run.zarr*"))
        runs = {str(store.parent): None for store in found}
    return [run for run in runs if run.startswith(incomplete)]


ScenarioArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_FILE",
        help="Name of a built-in scenario (see `sgdsim list`), a TOML file, or the folder of a "
        "run.",
        autocompletion=complete_scenario,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key, for example ensemble.trajectories=16. May be given several times.",
    ),
]
StoreArgument = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER", help="Folder of a run, or its URL.", autocompletion=complete_run
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Workers for the batches of a sweep: local:4 (processes here) or "
        "tcp://host:port (a Dask scheduler). Default: this process.",
    ),
]
MultiHostOption = Annotated[
    bool,
    typer.Option(
        "--multi-host",
        help="One ensemble over several machines: start this command once per machine (srun, "
        "mpirun). The first process writes the run.",
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no tables; only errors.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextlib.contextmanager
def clear_errors(debug: bool) -> Iterator[None]:
    """Show an error as one message and end with its status; the traceback only with ``--debug``."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except SgdsimError as error:
        fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        fail("interrupted.", _INTERRUPTED, debug)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error}"
        advice = "" if debug else "\nRun the command again with --debug to see where it happened."
        fail(text + advice, _UNEXPECTED, debug)


def fail(message: str, status: int, debug: bool) -> None:
    """Print a message to the error stream and end with a status."""
    if debug:
        traceback.print_exc(file=sys.stderr)
    colour = None if os.environ.get("NO_COLOR") else typer.colors.RED
    typer.secho(f"error: {message}", fg=colour, err=True)
    raise typer.Exit(status)
