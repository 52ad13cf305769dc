"""Reading whatever a path holds."""

from pathlib import Path

from sgdsim.readers._arrays import read_npz
from sgdsim.readers._centralflows import is_centralflows, read_centralflows
from sgdsim.readers._foreign import ForeignRun, Optimizer
from sgdsim.readers._locuslab import is_locuslab, read_locuslab
from sgdsim.readers._table import read_csv

_TABLES = (".csv", ".tsv", ".txt")


def read_runs(
    path: str | Path,
    *,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    every: int | None = None,
) -> tuple[ForeignRun, ...]:
    r"""Read the runs that a file or folder holds, whoever wrote it.

    Parameters
    ----------
    path
        A CSV file, a ``.npz`` file, a folder of locuslab/edge-of-stability, or an HDF5 file of
        centralflows; the suffix decides, of a folder what is in it.
    learning_rate
        Step size, where the file does not say it.
    optimizer
        What moved the parameters, where the file does not say it.
    every
        Steps between records: of the eigenvalues in a folder of locuslab, of all rows in a
        ``.npz`` file without steps.

    Returns
    -------
    tuple of ForeignRun
        One run or several.

    Raises
    ------
    ValueError
        If the format is not known, or the file cannot be read; the sentence says what to change.
    FileNotFoundError
        If there is nothing at ``path``.
    ImportError
        If a library is missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sgdsim.readers import read_runs
    >>> text = "step,loss,sharpness,eta\n0,1.0,3.5,0.1\n10,0.8,5.0,0.1\n"
    >>> size = Path("mine.csv").write_text(text)
    >>> [run.name for run in read_runs("mine.csv")]
    ['mine']
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}.")
    suffix = path.suffix.lower()
    if is_centralflows(path):
        _no_frequency(path, every)
        return read_centralflows(path, learning_rate=learning_rate, optimizer=optimizer)
    if path.is_dir():
        if is_locuslab(path):
            return read_locuslab(
                path, learning_rate=learning_rate, optimizer=optimizer, every=every
            )
        raise ValueError(
            f"{path} is a folder without data.hdf5 (centralflows) or train_loss_final "
            "(locuslab/edge-of-stability); give the folder or the file of a run."
        )
    if suffix in _TABLES:
        _no_frequency(path, every)
        return (read_csv(path, learning_rate=learning_rate, optimizer=optimizer),)
    if suffix == ".npz":
        return (read_npz(path, learning_rate=learning_rate, optimizer=optimizer, every=every),)
    raise ValueError(
        f"{path.name} is of no format that can be read; give .csv, .npz, .hdf5, or a folder of "
        "locuslab/edge-of-stability."
    )


def _no_frequency(path: Path, every: int | None) -> None:
    if every is not None:
        raise ValueError(f"{path} has steps of its own; leave out --every.")
