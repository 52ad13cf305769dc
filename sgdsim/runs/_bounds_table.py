"""What ``sgdsim bounds`` prints: of a run, of a sweep, of a network from elsewhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sgdsim._errors import SgdsimError
from sgdsim.evaluation import final_bounds
from sgdsim.networks import (
    Architecture,
    FixedInAdvance,
    LabelledRows,
    build_architecture,
    examine,
    layers_of,
    read_layers,
    read_weights,
)
from sgdsim.runs._training_report import print_mean_gaps, rows as rows_of
from sgdsim.store import open_run

_STUDIES = ("bounds", "stagnation")
_TITLES = {
    "certificate": "Certificates",
    "expectation": "Bounds on the mean gap",
    "measure": "Measures (no bounds)",
}


class WeightFiles(NamedTuple):
    """Files about a network that was trained elsewhere.

    Attributes
    ----------
    weights
        The trained weights.
    layers
        Layer list; guessed for a fully connected network if ``None``.
    data
        Training rows, and held-out ones.
    initial
        Weights at initialisation.
    """

    weights: Path
    layers: Path | None
    data: Path | None
    initial: Path | None


def print_run_bounds(path: str, console: Console) -> None:
    """Print bounds and measures at the last probe of a run, rankings of a sweep.

    Bounds on the mean gap follow, where a run has them.

    Raises
    ------
    SgdsimError
        If the run has no bounds.
    """
    tree = open_run(path)
    study = str(tree.attrs["study"])
    if study not in _STUDIES:
        raise SgdsimError(
            f"{path} is a run of the study {study!r}, which evaluates no bounds; the studies that "
            f"do are {' and '.join(_STUDIES)}."
        )
    swept = bool(tree.to_dataset()["status"].dims)
    if swept and study == "bounds":
        _print_sweep(tree, console)
        return
    if swept:
        raise SgdsimError(
            f"{path} is a sweep of the study 'stagnation'; open one point of it with "
            'sgdsim.store.open_point, or run study = "bounds".'
        )
    bounds = tree["bounds"].to_dataset().isel(probe=-1)
    table = _table(str(tree.attrs["title"]), ("kind", "value", "gap", "value / gap", "factor"))
    for kind in dict.fromkeys(bounds["kind"].values.tolist()):
        for name, *cells in rows_of(bounds.sel(bound=bounds["kind"] == kind)):
            table.add_row(name, str(kind), *cells)
    console.print(table)
    print_mean_gaps(bounds, console)


def _print_sweep(tree: xr.DataTree, console: Console) -> None:
    """Print one table for every kind, narrow enough for 80 columns."""
    found = final_bounds(tree).table()
    runs = int(found["runs"].max())
    console.print(
        escape(f"{tree.attrs['title']} (medians over {runs} runs, ranked by the error rate gap)"),
        highlight=False,
    )
    kinds = found["kind"].values.tolist()
    errors = np.nan_to_num(found["sign_error_mean"].values, nan=np.inf).tolist()
    for kind in dict.fromkeys(kinds):
        vacuous = () if kind == "measure" else ("vacuous",)
        columns = ("value", "gap", *vacuous, "tau", "sign\nerror", "worst")
        table = _table(_TITLES[kind], columns, no_wrap=True)
        own = [i for i in range(len(kinds)) if kinds[i] == kind]
        for i in sorted(own, key=lambda i: errors[i]):
            one = found.isel(bound=i)
            table.add_row(
                str(one["bound"].values),
                _number(one["value"]),
                _number(one["gap"]),
                *([_percent(one["vacuous_share"])] if vacuous else []),
                _rounded(one["tau"]),
                _rounded(one["sign_error_mean"]),
                _rounded(one["sign_error_max"]),
            )
        console.print(table)
    print_mean_gaps(tree["bounds"].to_dataset().isel(probe=-1), console)


def print_weight_bounds(
    files: WeightFiles,
    activation: str,
    known: Mapping[str, float | None],
    delta: float,
    console: Console,
) -> None:
    """Print bounds and measures of a network from files.

    Parameters
    ----------
    files
        Weights, layer list, rows, initialisation.
    activation
        Between the layers, if there is no layer list.
    known
        ``margin`` and ``input_bound``; both must be given.
    delta
        Probability with which any of the certificates may fail.
    console
        Where to print.

    Raises
    ------
    ValueError
        If something is missing or does not fit.
    """
    for name, value in known.items():
        if value is None:
            raise ValueError(
                f"--{name.replace('_', '-')} is missing: it must be chosen without the training "
                "rows, so it cannot be taken from the files."
            )
    fixed = FixedInAdvance(failure_probability=delta, **known)  # pyright: ignore[reportArgumentType]
    if files.data is None:
        raise ValueError(
            "--data is missing: bounds are about training rows, an .npz file with inputs and "
            "labels."
        )
    architecture = _architecture(files.weights, files.layers, activation)
    initial = None
    if files.initial is not None:
        initial = _architecture(files.initial, files.layers, activation)
    rows, held_out = _rows(files.data, architecture)
    found = examine(architecture, rows, fixed, held_out, initial)
    table = _table(
        f"{files.weights.name}: {len(rows.inputs)} training rows, margin {fixed.margin:g}, "
        f"certificates hold together with probability {1 - delta:g}",
        ("kind", "value", "gap", "value / gap", "factor"),
    )
    for name, *cells in rows_of(found.expand_dims("trajectory")):
        one = found.sel(bound=name)
        reason = str(one["reason"].values)
        if reason:
            cells[0] = f"not applicable: {reason}"
        table.add_row(name, str(one["kind"].values), *map(escape, cells))
    console.print(table)
    if found.attrs["left_out"]:
        console.print(escape(str(found.attrs["left_out"])), highlight=False)


def _architecture(weights: Path, layers: Path | None, activation: str) -> Architecture:
    arrays = read_weights(weights)
    if layers is not None:
        return build_architecture(arrays, read_layers(layers))
    if activation not in ("relu", "tanh"):
        raise ValueError(f"--activation must be relu or tanh; got {activation!r}.")
    kind: Literal["relu", "tanh"] = activation
    return build_architecture(arrays, layers_of(arrays, kind))


def _rows(path: Path, architecture: Architecture) -> tuple[LabelledRows, LabelledRows | None]:
    arrays = read_weights(path)
    outputs = int(np.prod(architecture.output_shape))

    def labelled(inputs: str, labels: str) -> LabelledRows:
        given, known = arrays[inputs], arrays[labels]
        if given.ndim < 2 or given.dtype.kind not in "fiu":
            raise ValueError(
                f"{inputs} in {path.name} must be real numbers, one row for every label; got "
                f"{given.dtype} of shape {given.shape}."
            )
        whole = known.ndim == 1 and known.dtype.kind in "iu"
        if not whole or known.min(initial=0) < 0 or known.max(initial=0) >= outputs:
            raise ValueError(
                f"{labels} in {path.name} must be integers from 0 to {outputs - 1}, one per row; "
                f"got {known.dtype} of shape {known.shape}."
            )
        if len(known) != len(given):
            raise ValueError(
                f"{path.name} has {len(given)} {inputs} and {len(known)} {labels}; there "
                "must be as many."
            )
        return LabelledRows(given, np.eye(outputs)[known])

    missing = [name for name in ("inputs", "labels") if name not in arrays]
    if missing:
        raise ValueError(
            f"{path.name} has no array {' and no '.join(missing)}; it has {', '.join(arrays)}."
        )
    rows = labelled("inputs", "labels")
    if len(rows.inputs) < 2:
        raise ValueError(f"{path.name} has {len(rows.inputs)} rows; a bound needs at least 2.")
    held_out = [name for name in ("test_inputs", "test_labels") if name in arrays]
    if not held_out:
        return rows, None
    if len(held_out) == 1:
        other = "test_labels" if held_out == ["test_inputs"] else "test_inputs"
        raise ValueError(f"{path.name} has {held_out[0]} and no {other}; give both or neither.")
    fresh = labelled("test_inputs", "test_labels")
    if not len(fresh.inputs):
        raise ValueError(
            f"{path.name} has 0 test_inputs; give some, or leave out test_inputs and test_labels."
        )
    return rows, fresh


def _table(title: str, columns: tuple[str, ...], *, no_wrap: bool = False) -> Table:
    table = Table(title=escape(title), title_justify="left")
    table.add_column("bound", no_wrap=True)
    for column in columns:
        justify = "left" if column == "kind" else "right"
        table.add_column(column, justify=justify, no_wrap=no_wrap)
    return table


def _number(value: xr.DataArray) -> str:
    number = float(value)
    return "" if np.isnan(number) else f"{number:.3g}"


def _percent(value: xr.DataArray) -> str:
    return "" if np.isnan(float(value)) else f"{100 * float(value):.0f} %"


def _rounded(value: xr.DataArray) -> str:
    return "" if np.isnan(float(value)) else f"{float(value):.2f}"
