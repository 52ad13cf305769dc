"""Runs in NumPy archives."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sgdsim.readers._columns import plain_name, rate_of, recognise, require, run_of_columns
from sgdsim.readers._foreign import ForeignRun, Optimizer, digest

#: Arrays without an axis, or of one text, that say what the optimizer was.
_PARAMETERS = {
    "optimizer": ("optimizer", "opt"),
    "momentum": ("momentum", "beta"),
    "b1": ("b1", "beta1", "beta_1"),
    "rho": ("rho",),
    "normalised": ("normalised", "normalized"),
    "batch_size": ("batch_size",),
    "substeps": ("substeps",),
    "weight_decay": ("weight_decay",),
}


def read_npz(
    path: str | Path,
    *,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    every: int | None = None,
    name: str | None = None,
) -> ForeignRun:
    r"""Read a run from a ``.npz`` file of arrays; nothing that was pickled is opened.

    Parameters
    ----------
    path
        Archive with the arrays step and loss, one number for every recorded step, and others
        under the names of ``COLUMNS``; eigenvalues have a second axis. Single values may say
        what the optimizer was: ``optimizer`` (a text), ``learning_rate``, ``momentum``, ``b1``,
        ``rho``, ``normalised``, ``batch_size``, ``substeps``, ``weight_decay``.
    learning_rate
        Step size, if the file does not have it.
    optimizer
        What moved the parameters, if the file does not say so.
    every
        Steps from one record to the next, if the file has no array of steps.
    name
        What to call the run; the name of the file if left out.

    Returns
    -------
    ForeignRun
        The run. Arrays that are not understood are named in ``ignored``.

    Raises
    ------
    ValueError
        If an array is missing or does not fit, the file is damaged, or it holds Python objects.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.readers import read_npz
    >>> np.savez(
    ...     "mine.npz", train_loss=[1.0, 0.9, 0.8], eigs=[[5.0, 1.0], [30.0, 1.5], [39.0, 2.0]],
    ...     optimizer="polyak", momentum=0.9, lr=0.1,
    ... )
    >>> run = read_npz("mine.npz", every=50)
    >>> run.optimizer.kind, run.step.tolist(), run.sharpness.tolist()
    ('heavy_ball', [0, 50, 100], [5.0, 30.0, 39.0])
    """
    path = Path(path)
    arrays = _archive(path)
    said = {
        here: label
        for label in arrays
        for here, others in _PARAMETERS.items()
        if plain_name(label) in others and arrays[label].size == 1
    }
    if "optimizer" not in said:
        said = {}  # momentum of what?
    rest = [label for label in arrays if label not in said.values()]
    named = recognise(rest, path.name)
    needed = ("step", "loss") if every is None else ("loss",)
    require(named, needed, path.name)
    columns = {known: _numeric(label, arrays, path) for known, label in named.columns.items()}
    if named.eigenvalues:
        each = [_numeric(label, arrays, path) for label in named.eigenvalues]
        if len({one.shape for one in each}) > 1:
            raise ValueError(f"{path.name}: the eigenvalues differ in shape; make them equal.")
        columns["eigenvalues"] = np.stack(each, axis=-1)
    if every is not None:
        if "step" in columns:
            raise ValueError(f"{path.name} has steps of its own; leave out --every.")
        columns["step"] = every * np.arange(columns["loss"].size)
    columns["step"] = _whole(columns["step"], path)
    found = columns.get("learning_rate")
    if found is not None and found.size == 1 and columns["loss"].size > 1:
        found = found.reshape(())
    columns["learning_rate"] = rate_of(path.name, found, learning_rate)
    return run_of_columns(
        name or path.stem,
        columns,
        _optimizer({here: arrays[label] for here, label in said.items()}, optimizer, path),
        ignored=named.ignored,
        sources={path.name: digest(path)},
    )


def _archive(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            reason = "holds Python objects, which can run code; save plain arrays of numbers"
        else:
            reason = "is damaged or is no .npz archive; write it again"
        raise ValueError(f"{path.name} {reason} by numpy.savez.") from error


def _numeric(label: str, arrays: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    array = arrays[label]
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path.name}: {label} holds {array.dtype}, not numbers; save numbers.")
    return array.astype(np.float64)


def _whole(steps: np.ndarray, path: Path) -> np.ndarray:
    wrong = steps[~(np.isfinite(steps) & (steps == np.floor(steps)))]
    if wrong.size:
        raise ValueError(
            f"{path.name}: step holds {wrong[0]:g}, which is no whole number; save the numbers of "
            "the steps."
        )
    return steps.astype(np.int64)


def _optimizer(said: Mapping[str, np.ndarray], given: Optimizer | None, path: Path) -> Optimizer:
    """Optimizer that the file names, or the one that the caller gives."""
    if "optimizer" not in said:
        return given or Optimizer()
    values = {name: value.reshape(()).item() for name, value in said.items()}
    kind = str(values.pop("optimizer"))
    found = Optimizer(kind, **values)
    if given is not None and given != found:
        raise ValueError(
            f"{path.name} says that the optimizer is {found.kind}, but {given.kind} was given; "
            "leave out --optimizer and its numbers."
        )
    return found
