"""The commands about bounds: what a run or a network from elsewhere certifies, what a bound is."""

import os
import pathlib
from typing import Annotated

import typer

from sgdsim._cli_common import DebugOption, clear_errors, complete_run
from sgdsim._errors import SgdsimError

#: Columns of a table that is written to a pipe or a file.
_WIDTH = 120
#: Files of weights; everything else is the folder of a run.
_WEIGHTS = (".npz", ".safetensors", ".pt", ".pth", ".pkl", ".bin", ".ckpt")


def _complete_bound(incomplete: str) -> list[str]:
    from sgdsim.bounds import CERTIFICATES, EXPECTATION_BOUNDS, MEASURES

    names = [*CERTIFICATES, *EXPECTATION_BOUNDS, *MEASURES]
    return [name for name in names if name.startswith(incomplete)]


def explain_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a bound or measure; all of them are listed without one.",
            autocompletion=_complete_bound,
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Say what a bound or a measure is: formula, what holds, assumptions, source.

    A certificate holds with a stated probability. A measure ranks networks and bounds nothing.

        $ sgdsim explain

        $ sgdsim explain BFT
    """
    with clear_errors(debug):
        from sgdsim.bounds import CERTIFICATES, EXPECTATION_BOUNDS, MEASURES, explain

        if name is not None:
            try:
                typer.echo(explain(name))
            except ValueError as error:
                raise SgdsimError(str(error)) from error
            return
        for title, registry in (
            ("Certificates", CERTIFICATES),
            ("Bounds on the mean gap", EXPECTATION_BOUNDS),
            ("Measures (no bounds)", MEASURES),
        ):
            typer.echo(f"{title}:")
            width = max((len(key) for key in registry), default=0)
            for key, entry in registry.items():
                typer.echo(f"  {key:<{width}}  {entry.formula}")


def bounds_command(
    path: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER_OR_WEIGHTS",
            help="Folder of a run, or a file of weights: .npz or .safetensors.",
            autocompletion=complete_run,
        ),
    ],
    layers: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Layer list of the network (TOML or JSON). Without it the weights must be those "
            "of a fully connected network, first layer first."
        ),
    ] = None,
    data: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Rows (.npz) with the arrays inputs and labels, and, for the gap, test_inputs "
            "and test_labels. Needed for weights."
        ),
    ] = None,
    initial: Annotated[
        pathlib.Path | None,
        typer.Option(help="Weights at initialisation, for bounds on the distance from there."),
    ] = None,
    activation: Annotated[
        str, typer.Option(help="Activation between the layers if there is no layer list.")
    ] = "relu",
    margin: Annotated[
        float | None,
        typer.Option(help="Margin gamma, chosen without the training rows. Needed for weights."),
    ] = None,
    input_bound: Annotated[
        float | None,
        typer.Option(help="Norm that no input can exceed, known in advance. Needed for weights."),
    ] = None,
    delta: Annotated[
        float,
        typer.Option(help="Probability with which any of the certificates may fail, of weights."),
    ] = 0.05,
    debug: DebugOption = False,
) -> None:
    """Show what every bound and measure says, beside the measured gap.

    Of a run, at its last probe; of a sweep, also how well each ranks the networks by the gap of
    their error rate:

        $ sgdsim bounds sgdsim-runs/bound-tightness

    Of a network that was trained elsewhere (PyTorch: safetensors.torch.save_file(
    model.state_dict(), "net.safetensors")):

        $ sgdsim bounds net.safetensors --layers net.toml --data rows.npz --margin 1 --input-bound 1
    """
    with clear_errors(debug):
        from rich.console import Console

        console = Console()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(width=_WIDTH)  # rich takes 80 for a pipe or a file
        if pathlib.Path(path).suffix not in _WEIGHTS:
            from sgdsim.runs._bounds_table import print_run_bounds

            print_run_bounds(path, console)
            return
        from sgdsim.runs._bounds_table import WeightFiles, print_weight_bounds

        files = WeightFiles(pathlib.Path(path), layers, data, initial)
        known = {"margin": margin, "input_bound": input_bound}
        try:
            print_weight_bounds(files, activation, known, delta, console)
        except (ValueError, FileNotFoundError, ImportError) as error:
            raise SgdsimError(str(error)) from error
