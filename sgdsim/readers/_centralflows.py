"""Runs of centralflows: HDF5 files with one group for every process."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sgdsim.readers._columns import rate_of
from sgdsim.readers._foreign import ForeignRun, Optimizer, digest

#: Series of a process by their names in the file.
_SERIES = {
    "train_loss": "loss",
    "test_loss": "test_loss",
    "predicted_loss": "predicted_loss",
}
#: Optimizers by the names of their classes in config.json.
_OPTIMIZERS = {"GradientDescent": "gd", "RMSProp": "rmsprop", "ScalarRMSProp": "rmsprop"}
#: What a process is if the optimizer is gradient descent.
_PROCESSES = {"discrete": "gd", "central": "central_flow", "stable": "gradient_flow"}
_SUFFIXES = (".hdf5", ".h5")


def is_centralflows(path: Path) -> bool:
    """Whether a path is an HDF5 file, or the folder of an experiment of centralflows."""
    return path.suffix.lower() in _SUFFIXES or (path / "data.hdf5").is_file()


def read_centralflows(
    path: str | Path,
    *,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
) -> tuple[ForeignRun, ...]:
    r"""Read the processes of an experiment of centralflows.

    Parameters
    ----------
    path
        The file ``data.hdf5``, or the folder that holds it. ``config.json`` beside it says what
        the optimizer was.
    learning_rate
        Step size, if neither file says it.
    optimizer
        Optimizer of the experiment, ``gd`` or ``rmsprop``, if there is no ``config.json``.

    Returns
    -------
    tuple of ForeignRun
        ``discrete``, ``central`` and ``stable``, those that are there. Midpoints are
        ``midpoint_sharpness`` of ``discrete``.

    Raises
    ------
    ValueError
        If it is no such file, or the learning rate is not known.
    FileNotFoundError
        If there is no such file.
    ImportError
        If h5py is not installed.

    Notes
    -----
    Of every process these series are read: ``train_loss``, ``test_loss``, ``test_acc``,
    ``predicted_loss``, ``grad_norm_sq``, ``hessian_eigs``, ``effective_hessian_eigs``, ``opt.lr``.
    The *effective* Hessian contains the learning rate, so that its edge is 2; divided by the
    learning rate it is the preconditioned Hessian here, whose edge is :math:`2/\eta`. A midpoint
    there belongs to its middle step, here to its last, hence one step later. Rows that an
    interrupted experiment never reached are left out.
    """
    path = Path(path)
    file = path / "data.hdf5" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    groups, steps = _groups(file)
    config = _config(file.with_name("config.json"))
    base = _base(file, config, optimizer)
    sources = {file.name: digest(file)}
    if config:
        sources["config.json"] = digest(file.with_name("config.json"))
    known = config.get("lr")
    runs = [
        _run(name, groups, steps, base, _rates(name, groups[name], known, learning_rate), sources)
        for name in _PROCESSES
        if "train_loss" in groups.get(name, {})
    ]
    if not runs:
        raise ValueError(
            f"{file} holds no process of centralflows with a train_loss; it has "
            f"{', '.join(sorted(groups)) or 'nothing'}."
        )
    return tuple(runs)


def _groups(file: Path) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray | None]:
    """Series of every process, and the steps."""
    try:
        import h5py
    except ImportError:
        raise ImportError(
            f'Reading {file.name} needs h5py; install it with pip install "sgdsim[netcdf]".'
        ) from None
    try:
        opened = h5py.File(file, "r")
    except OSError:
        # An experiment that goes on, or was killed, leaves its file marked as being written.
        try:
            opened = h5py.File(file, "r", libver="latest", swmr=True)
        except OSError as error:
            raise ValueError(f"{file} is damaged or is no HDF5 file.") from error
    groups: dict[str, dict[str, np.ndarray]] = {}
    with opened:
        step = opened.get("step")
        steps = step[()] if isinstance(step, h5py.Dataset) else None
        for name, group in opened.items():
            if isinstance(group, h5py.Group):
                groups[name] = {
                    key: np.asarray(series[()], np.float64)
                    for key, series in group.items()
                    if isinstance(series, h5py.Dataset) and series.dtype.kind in "fiu"
                }
    return groups, steps


def _config(file: Path) -> dict[str, Any]:
    """Read the settings of the optimizer; empty if there are none."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("opt", {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is no configuration of centralflows; move it away.") from error
    return found if isinstance(found, dict) else {}


def _base(file: Path, config: Mapping[str, Any], given: Optimizer | None) -> str:
    """Kind of the optimizer of an experiment."""
    found = _OPTIMIZERS.get(str(config.get("class")))
    wanted = None if given is None else given.kind
    if wanted not in (None, "gd", "rmsprop"):
        raise ValueError(f"centralflows has gd and rmsprop, but {wanted} was given for {file}.")
    if found and wanted and found != wanted:
        raise ValueError(
            f"config.json beside {file} says {found}, but {wanted} was given; leave out "
            "--optimizer."
        )
    return found or wanted or "gd"


def _run(
    name: str,
    groups: Mapping[str, Mapping[str, np.ndarray]],
    steps: np.ndarray | None,
    base: str,
    rates: Float[np.ndarray, " rows"],
    sources: Mapping[str, str],
) -> ForeignRun:
    series = groups[name]
    count = len(rates)
    columns = {here: series[there][:count] for there, here in _SERIES.items() if there in series}
    if "test_acc" in series:
        columns["test_error_rate"] = np.clip(1 - series["test_acc"][:count], 0, 1)
    if "grad_norm_sq" in series:
        columns["gradient_norm"] = np.sqrt(series["grad_norm_sq"][:count])
    columns |= _curvature(series, rates, base)
    if name == "discrete" and "midpoint" in groups:
        middle = _curvature(groups["midpoint"], rates, base).get("eigenvalues")
        if middle is not None:
            # The first row is the initial iterate itself.
            columns["midpoint_sharpness"] = np.full(count, np.nan)
            columns["midpoint_sharpness"][2:] = middle[1:-1, 0]
    kind = _PROCESSES[name] if base == "gd" else base
    return ForeignRun(
        name=name,
        step=np.arange(count) if steps is None else steps[:count].astype(np.int64),
        learning_rate=rates,
        optimizer=Optimizer(kind),
        ignored=tuple(sorted(set(series) - _READ)),
        sources=sources,
        **columns,
    )


def _rates(
    name: str, series: Mapping[str, np.ndarray], known: Any, given: float | None
) -> Float[np.ndarray, " rows"]:
    """Learning rate at every row that the experiment reached."""
    reached = np.zeros(len(series["train_loss"]), bool)
    for key in ("train_loss", "grad_norm_sq", "opt.lr"):
        if key in series:
            reached |= ~np.isnan(series[key])
    count = int(np.flatnonzero(reached)[-1]) + 1 if reached.any() else len(reached)
    found = None if known is None else np.asarray(float(known))
    if "opt.lr" in series:
        found = series["opt.lr"][:count]
    return np.broadcast_to(rate_of(name, found, given), (count,))


_READ = {
    *_SERIES,
    "test_acc",
    "grad_norm_sq",
    "hessian_eigs",
    "effective_hessian_eigs",
    "opt.lr",
}


def _curvature(
    series: Mapping[str, np.ndarray], rates: np.ndarray, base: str
) -> dict[str, np.ndarray]:
    """Eigenvalues of the Hessian and of the preconditioned one."""
    count = len(rates)
    columns = {}
    if "effective_hessian_eigs" in series:
        scaled = series["effective_hessian_eigs"][:count].reshape(count, -1) / rates[:, None]
        if base == "gd":
            columns["eigenvalues"] = scaled  # the preconditioner is the learning rate alone
        else:
            columns["preconditioned_sharpness"] = np.fmax.reduce(scaled, axis=1)
    if "hessian_eigs" in series:
        columns["eigenvalues"] = series["hessian_eigs"][:count]
    return columns
