"""The commands about the edge of stability: runs made elsewhere come in, any run is judged."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Annotated

import typer

from sgdsim._cli_common import DebugOption, StoreArgument, clear_errors
from sgdsim._errors import SgdsimError

#: Columns of a table that is written to a pipe or a file.
_WIDTH = 120


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Show what a reader refuses as it stands."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise SgdsimError(str(error)) from error


def import_command(
    paths: Annotated[
        list[pathlib.Path],
        typer.Argument(
            metavar="PATH",
            help="Files or folders of runs: .csv, .npz, a folder of locuslab/edge-of-stability "
            "(or one above several), data.hdf5 of centralflows.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the dataset, or a URL. Default: sgdsim-runs/<name of the first path>.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--lr", metavar="ETA", help="Learning rate, if the files do not have it."),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="gd, sgd, heavy_ball (polyak), nesterov, rmsprop, adam (adamw), sam, "
            "gaussian_sgd, sde, gradient_flow or central_flow, if the files do not say it. "
            "Default: gd.",
        ),
    ] = None,
    momentum: Annotated[
        float | None, typer.Option(help="Momentum of heavy_ball or nesterov.", metavar="B")
    ] = None,
    b1: Annotated[
        float | None, typer.Option("--b1", help="First momentum of adam.", metavar="B1")
    ] = None,
    rho: Annotated[float | None, typer.Option(help="Distance uphill of sam.")] = None,
    unnormalised: Annotated[
        bool,
        typer.Option("--unnormalised", help="The sam whose rho is multiplied by the gradient."),
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows of a minibatch; all rows if left out.")
    ] = None,
    substeps: Annotated[
        int | None, typer.Option(help="Euler steps of an sde in the time eta.")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Decoupled weight decay.")] = 0.0,
    every: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            help="Steps between eigenvalues (locuslab: its --eig_freq), or between rows of an "
            ".npz file without steps.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the dataset.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that is already there.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Make a dataset of runs that were made elsewhere, so that they can be analyzed.

    A CSV file needs the columns step and loss, and sharpness to be judged;
    learning rate, batch sharpness, eigenvalues and others are understood too.
    A blank cell was not measured.

        $ sgdsim import mine.csv --lr 0.01 --out runs/mine

        $ sgdsim import sgd.csv --lr 0.5 --optimizer sgd --batch-size 32

    Several runs become processes side by side; options are for all of them:

        $ sgdsim import eta-0.01.csv eta-0.02.csv --out runs/both

    Published programs say most things in the names of their files:

        $ sgdsim import results/cifar10-5k/fc-tanh/seed_0 --every 50

        $ sgdsim import experiments/my-run/data.hdf5

    Then look at them:

        $ sgdsim analyze runs/mine
    """
    with clear_errors(debug):
        from sgdsim.readers import Optimizer, read_runs

        numbers = {
            "momentum": momentum,
            "b1": b1,
            "rho": rho,
            "batch_size": batch_size,
            "substeps": substeps,
            "normalised": not unnormalised,
            "weight_decay": weight_decay,
        }
        given = {momentum, b1, rho, batch_size, substeps} - {None}
        with _sentences():
            if optimizer is None and (given or unnormalised or weight_decay):
                raise ValueError(
                    "Numbers of an optimizer were given, but not which one; give --optimizer too."
                )
            wanted = None if optimizer is None else Optimizer(optimizer, **numbers)
            runs = [
                run
                for path in paths
                for run in read_runs(
                    path, learning_rate=learning_rate, optimizer=wanted, every=every
                )
            ]
        for run in runs:
            typer.echo(run.summary())
            if run.ignored:
                typer.echo(f"  not read: {', '.join(run.ignored)}")
        folder = out or str(pathlib.Path("sgdsim-runs", paths[0].stem or "imported"))
        from sgdsim.runs import import_runs

        import_runs(runs, folder, title=title, overwrite=overwrite)
        typer.echo(folder)


def analyze_command(
    store: StoreArgument,
    band: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Relative distance from the threshold within which a run is at the edge. "
            "Default: that of the run, 0.1 for an imported one.",
        ),
    ] = None,
    point: Annotated[
        int | None, typer.Option(metavar="N", help="Number of the point of a sweep.")
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the figures of the run again.")
    ] = True,
    debug: DebugOption = False,
) -> None:
    """Say what a run does at the edge of stability: a row and a sentence for every process.

    The table has the threshold with its formula and operator, sharpness over
    threshold in the last quarter with its standard error, and when the run came
    to the edge. The figures in the folder of the run are drawn again.

        $ sgdsim analyze sgdsim-runs/edge-of-stability

        $ sgdsim analyze runs/mine --band 0.05

    Runs made elsewhere are read by `sgdsim import` first. Of a run of the study
    dynamics the eigenvalues at its probes are judged, without figures.
    """
    with clear_errors(debug):
        from rich.console import Console

        from sgdsim.runs._edge_analysis import analyze

        console = Console()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(width=_WIDTH)  # rich takes 80 for a pipe or a file
        with _sentences():
            analyze(store, console, band=band, point=point, figures=figures)
