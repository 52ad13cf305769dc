"""Runs of locuslab/edge-of-stability: folders of tensors."""

import re
from pathlib import Path

import numpy as np

from sgdsim.readers._columns import rate_of
from sgdsim.readers._foreign import ForeignRun, Optimizer, digest
from sgdsim.readers._torch_file import read_tensor

_LOSS = "train_loss"
#: Names of the tensors, without the ending "_final" of a run that came to its end.
_TENSORS = (_LOSS, "test_loss", "test_acc", "eigs")
_KINDS = {"gd": "gd", "polyak": "heavy_ball", "nesterov": "nesterov", "flow": "gradient_flow"}


def is_locuslab(folder: Path) -> bool:
    """Whether there is a run of locuslab/edge-of-stability in a folder or below."""
    return folder.is_dir() and bool(_run_folders(folder))


def read_locuslab(
    folder: str | Path,
    *,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    every: int | None = None,
) -> tuple[ForeignRun, ...]:
    r"""Read runs of locuslab/edge-of-stability, one folder or all below one.

    Parameters
    ----------
    folder
        Folder with the tensors ``train_loss_final`` and ``eigs_final``, or one above several such
        folders. Learning rate and optimizer are in its path, as in
        ``cifar10-5k/fc-tanh/seed_0/mse/polyak/lr_0.01_beta_0.9``.
    learning_rate
        Step size, if the path does not name it.
    optimizer
        What moved the parameters, if the path does not name it.
    every
        Steps from one row of eigenvalues to the next, the option ``--eig_freq`` of the run, which
        is not stored. If left out it follows from the numbers of rows where only one value fits.

    Returns
    -------
    tuple of ForeignRun
        The runs, in the order of their paths. Of a run that was interrupted the tensors without
        ``_final`` are read.

    Raises
    ------
    ValueError
        If there is no run, a tensor cannot be read, or the path and the caller leave something
        open.

    Notes
    -----
    Losses belong to every step, eigenvalues to every ``every``-th; NaN stands between them. Of a
    flow the learning rate is the time between two records. Only the first rows of the training
    set may have gone into the eigenvalues (``--abridged_size``), which the files do not say.
    """
    folder = Path(folder)
    found = _run_folders(folder)
    if not found:
        raise ValueError(
            f"{folder} holds no run of locuslab/edge-of-stability: there is no {_LOSS}_final in it "
            "or below; give the folder of a run."
        )
    return tuple(_read(one, learning_rate, optimizer, every) for one in found)


def _run_folders(folder: Path) -> list[Path]:
    files = [*folder.rglob(_LOSS), *folder.rglob(f"{_LOSS}_final")]
    return sorted({file.parent for file in files if file.is_file()})


def _read(
    folder: Path, learning_rate: float | None, optimizer: Optimizer | None, every: int | None
) -> ForeignRun:
    tensors, sources = _tensors(folder)
    loss = tensors[_LOSS]
    count = len(loss)
    columns = {}
    if "test_loss" in tensors:
        columns["test_loss"] = tensors["test_loss"]
    if "test_acc" in tensors:
        # Shares that single precision has summed up may exceed 1 in the last digit.
        columns["test_error_rate"] = np.clip(1 - tensors["test_acc"], 0, 1)
    eigs = tensors.get("eigs")
    if eigs is not None and eigs.size:
        spectrum = np.full((count, eigs.shape[1]), np.nan)
        rows = np.arange(len(eigs)) * _frequency(folder, count, len(eigs), every)
        spectrum[rows] = eigs
        columns["eigenvalues"] = spectrum
    kind, rate, momentum = _settings(folder)
    rate = rate_of(str(folder), None if rate is None else np.asarray(rate), learning_rate)
    return ForeignRun(
        name=f"{folder.parent.name} {folder.name}",
        step=np.arange(count),
        loss=loss,
        learning_rate=rate,
        optimizer=_optimizer(folder, kind, momentum, optimizer),
        sources=sources,
        **columns,
    )


def _tensors(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors of one run by name, and the digests of their files."""
    ending = "_final" if (folder / f"{_LOSS}_final").is_file() else ""
    tensors, sources = {}, {}
    for name in _TENSORS:
        path = folder / f"{name}{ending}"
        if not path.is_file():
            continue
        tensor = read_tensor(path).astype(np.float64)
        axes = 2 if name == "eigs" else 1
        if tensor.ndim != axes:
            raise ValueError(f"{path} has {tensor.ndim} axes, expected {axes}; it is no such run.")
        tensors[name] = tensor
        sources[path.name] = digest(path)
    return tensors, sources


def _frequency(folder: Path, count: int, rows: int, every: int | None) -> int:
    """Find the steps ``f`` between rows of eigenvalues: ``count // f`` is the number of rows."""
    if every is not None:
        if every < 1 or count // every != rows:
            raise ValueError(
                f"{folder}: {rows} rows of eigenvalues in {count} steps are not {every} steps "
                "apart; give another --every, the option --eig_freq of that run."
            )
        return every
    low, high = count // (rows + 1) + 1, count // rows
    if low == high:
        return low
    if low > high:
        raise ValueError(
            f"{folder}: {rows} rows of eigenvalues do not fit {count} steps; give --every, the "
            "option --eig_freq of that run."
        )
    raise ValueError(
        f"{folder}: {rows} rows of eigenvalues in {count} steps may be {low} to {high} steps "
        "apart; give --every, the option --eig_freq of that run."
    )


def _settings(folder: Path) -> tuple[str | None, float | None, float | None]:
    """Optimizer, learning rate and momentum that a path names."""
    kind = _KINDS.get(folder.parent.name)
    match = re.fullmatch(r"(?:lr|tick)_([^_]+)(?:_beta_([^_]+))?", folder.name)
    if match is None:
        return kind, None, None
    try:
        return kind, float(match[1]), None if match[2] is None else float(match[2])
    except ValueError:
        return kind, None, None


def _optimizer(
    folder: Path, kind: str | None, momentum: float | None, given: Optimizer | None
) -> Optimizer:
    if kind is None:
        return given or Optimizer()
    if given is None:
        return Optimizer(kind, momentum=momentum)
    if given.kind != kind or (momentum is not None and given.momentum != momentum):
        raise ValueError(
            f"{folder} names the optimizer {folder.parent.name} {folder.name}, but {given.kind} "
            "was given; leave out --optimizer and its numbers."
        )
    return given
