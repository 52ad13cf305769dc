"""The command line: scenario files in, run folders out.

Nothing heavy is imported at the top, so that ``--help`` and completion answer at once.
"""

import os
import pathlib
from collections.abc import Callable
from typing import Annotated

import typer

from sgdsim._cli_bounds import bounds_command, explain_command
from sgdsim._cli_common import (
    ClusterOption,
    DebugOption,
    MultiHostOption,
    QuietOption,
    ScenarioArgument,
    SetOption,
    StoreArgument,
    clear_errors,
    fail,
)
from sgdsim._cli_edge import analyze_command, import_command
from sgdsim._cli_selftest import selftest_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_POINTS_FAILED = 3


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"sgdsim {_version()}")
        raise typer.Exit
    return wanted


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and end."
        ),
    ] = False,
) -> None:
    """Simulate SGD, watch where it stagnates, and see how tight the theory's bounds are.

    A scenario goes in, a labelled dataset comes out. To begin with:

        $ sgdsim list

        $ sgdsim run stagnation --set ensemble.trajectories=16
    """


@app.command("list")
def list_command(debug: DebugOption = False) -> None:
    """List the built-in scenarios."""
    with clear_errors(debug):
        from sgdsim.scenario import list_scenarios

        scenarios = list_scenarios()
        width = max(len(name) for name, _ in scenarios)
        for name, title in scenarios:
            typer.echo(f"{name:<{width}}  {title}")


@app.command()
def show(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Canonical JSON instead of commented TOML.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Show a scenario completely, with an explanation of every key.

    What it extends and what --set changes is filled in. The output is a scenario file itself, a
    good start for one of your own:

        $ sgdsim show stagnation > mine.toml

        $ sgdsim show stagnation --set dynamics.kind=sgd
    """
    with clear_errors(debug):
        from sgdsim.scenario import load_scenario, to_toml

        loaded = load_scenario(scenario, settings or ())
        typer.echo(loaded.canonical_json() if as_json else to_toml(loaded), nl=as_json)


@app.command()
def schema(debug: DebugOption = False) -> None:
    """Print the JSON schema of scenario files, for completion in an editor.

    Save it, and begin your scenario files with the line "#:schema scenario.schema.json":

        $ sgdsim schema > scenario.schema.json
    """
    with clear_errors(debug):
        import json

        from sgdsim.scenario import scenario_schema

        typer.echo(json.dumps(scenario_schema(), indent=2))


@app.command()
def doctor(debug: DebugOption = False) -> None:
    """Check the installation; ends with status 1 if something is wrong.

    Looks at versions and devices, at whether this JAX computes correctly, whether the current
    folder can be written to, and whether the built-in scenarios load.
    """
    with clear_errors(debug):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from sgdsim._doctor import diagnose

        checks = diagnose(pathlib.Path.cwd())
        table = Table("check", "status", "found", box=None)
        for check in checks:
            colour = "green" if check.status == "ok" else "bold red"
            table.add_row(check.name, Text(check.status, colour), Text(check.detail))
        Console().print(table)
        if any(check.status == "failed" for check in checks):
            raise typer.Exit(1)


@app.command()
def run(
    scenario: ScenarioArgument,
    settings: SetOption = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the run, or a URL such as s3://bucket/run. Default: "
            "sgdsim-runs/<name of the scenario>.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that is already there.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="The same as --set ensemble.seed=N.", metavar="N")
    ] = None,
    cluster: ClusterOption = None,
    multi_host: MultiHostOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only print the plan: points, compiled programs, batches, memory.",
        ),
    ] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a scenario; the folder with dataset and figures is printed at the end.

    A run that is interrupted can be finished with `sgdsim resume`. Given the folder of a run
    instead of a scenario, exactly that run is made again.

        $ sgdsim run stagnation

        $ sgdsim run mine.toml --set dynamics.learning_rate=0.25 --seed 1 --out runs/second

    A scenario that sweeps runs all its points into one dataset; axes can also be given here:

        $ sgdsim run stagnation --set 'sweep.learning_rate=[0.1, 0.2]' --dry-run

        $ sgdsim run phase.toml --cluster local:2

        $ sgdsim run runs/second --out runs/second-again
    """
    with clear_errors(debug):
        if seed is not None:
            settings = [*(settings or ()), f"ensemble.seed={seed}"]
        # Mistakes in the scenario and a folder that is taken are told before JAX is imported.
        again = _is_run(scenario)
        if again:
            from sgdsim.runs._again import scenario_of

            loaded = scenario_of(scenario, settings or ())
        else:
            from sgdsim.scenario import load_scenario

            loaded = load_scenario(scenario, settings or ())
        folder = out or str(pathlib.Path("sgdsim-runs", loaded.name))
        if again and os.path.realpath(folder) == os.path.realpath(scenario):
            fail(f"{scenario} cannot be made again in its own place; give an --out.", 2, debug)
        from sgdsim.runs._cluster import check_cluster
        from sgdsim.runs._output import check_output

        check_cluster(cluster)
        if dry_run:
            from sgdsim.runs._run import plan

            plan(loaded, cluster)
            return
        if not multi_host:
            check_output(folder, overwrite)
        is_first = _join_other_hosts(multi_host)
        from sgdsim.runs._run import run as run_scenario

        run_scenario(loaded, folder, overwrite=overwrite, quiet=quiet, cluster=cluster)
        if not is_first():
            return
        if again:
            from sgdsim.runs._again import print_differences

            print_differences(scenario, folder)
        _end_of_run(folder)


@app.command()
def resume(
    store: StoreArgument,
    cluster: ClusterOption = None,
    multi_host: MultiHostOption = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Also run the points of a sweep again that failed."),
    ] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Finish an interrupted run; the result is that of an uninterrupted one.

    For example, after a run of the scenario stagnation was stopped:

        $ sgdsim resume sgdsim-runs/stagnation

    Of a sweep only what is missing runs, here or on a cluster:

        $ sgdsim resume sgdsim-runs/phase --cluster local:2 --retry-failed
    """
    with clear_errors(debug):
        is_first = _join_other_hosts(multi_host)
        from sgdsim.runs._run import resume as resume_run

        folder = resume_run(store, quiet=quiet, cluster=cluster, retry_failed=retry_failed)
        if not is_first():
            return
        _end_of_run(str(folder))


@app.command()
def status(store: StoreArgument, debug: DebugOption = False) -> None:
    """Say how far a run is: points done, pending and failed, with the reasons.

    $ sgdsim status sgdsim-runs/phase
    """
    with clear_errors(debug):
        from sgdsim.runs._status import print_status

        print_status(store)


@app.command()
def validate(store: StoreArgument, debug: DebugOption = False) -> None:
    """Read every chunk of a dataset and compare it with the contract.

    Ends with status 1 if something is damaged, and says where.

        $ sgdsim validate sgdsim-runs/stagnation
    """
    with clear_errors(debug):
        from sgdsim.store import validate as validate_store

        problems = validate_store(store)
        for problem in problems:
            typer.echo(problem, err=True)
        if problems:
            raise typer.Exit(1)
        typer.echo("the dataset is whole: every chunk can be read and fits the contract.")


app.command("bounds")(bounds_command)
app.command("explain")(explain_command)
app.command("import")(import_command)
app.command("analyze")(analyze_command)
app.command("selftest")(selftest_command)


def _is_run(scenario: str) -> bool:
    """Whether a folder or URL of a run was given; the name of a file imports nothing heavy."""
    if scenario.endswith(".toml") or not ("://" in scenario or os.path.isdir(scenario)):
        return False
    from sgdsim.runs._output import is_run

    return is_run(scenario)


def _join_other_hosts(multi_host: bool) -> Callable[[], bool]:
    """Take part in a program of several processes; tells whether this is the first of them."""
    if not multi_host:
        return lambda: True
    from sgdsim.runs._hosts import is_first, join_hosts

    join_hosts()
    return is_first


def _end_of_run(folder: str) -> None:
    """Print the folder; a sweep with failed points ends with a status of its own."""
    from sgdsim.runs._status import failed_points

    typer.echo(folder)
    if failed_points(folder):
        raise typer.Exit(_POINTS_FAILED)


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("sgdsim")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed; in a checkout, run: pip install -e .)"
