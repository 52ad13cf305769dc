"""The command that computes the numbers of the theory anew."""

import os
from typing import Annotated

import typer

from sgdsim._cli_common import DebugOption, clear_errors

#: Columns of a table that is written to a pipe or a file.
_WIDTH = 120


def selftest_command(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only the closed forms, without training networks."),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Compute the numbers of the theory anew and compare; status 1 if one is off.

    Closed forms first (half a minute): edges of stability, stationary variances, orders,
    mean-square thresholds, catapult, central flow, each by the library's own steps against the
    formula. Then the runs of the scenario edge-of-stability on small networks (minutes), whose
    claims are the other lines.

        $ sgdsim selftest --quick

        $ sgdsim selftest
    """
    with clear_errors(debug):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from sgdsim.ensemble import use_host_devices
        from sgdsim.selftest import CLOSED_FORMS, NETWORKS, print_lines, run_check

        use_host_devices()  # before the first computation, or the networks get one core
        lines = []
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
        with Progress(*columns, console=Console(stderr=True)) as progress:
            for checks in (CLOSED_FORMS,) if quick else (CLOSED_FORMS, NETWORKS):
                # A single check says nothing of how far it is.
                total = len(checks) if len(checks) > 1 else None
                task = progress.add_task("", total=total)

                for done, (name, check) in enumerate(checks.items()):
                    progress.update(task, description=name, completed=done)
                    lines += run_check(name, check)
                progress.update(task, total=len(checks), completed=len(checks))
        console = Console()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(width=_WIDTH)  # rich takes 80 for a pipe or a file
        print_lines(lines, console)
        if not all(line.holds for line in lines):
            raise typer.Exit(1)
