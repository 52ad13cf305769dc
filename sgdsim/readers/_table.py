"""Runs in tables: CSV files with a header."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sgdsim.readers._columns import rate_of, recognise, require, run_of_columns
from sgdsim.readers._foreign import ForeignRun, Optimizer, digest

_SEPARATORS = ",;\t"
_BLANK = {"", "na", "n/a", "none", "null"}


def read_csv(
    path: str | Path,
    *,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    name: str | None = None,
) -> ForeignRun:
    r"""Read a run from a CSV file with one line for every recorded step.

    Parameters
    ----------
    path
        File with a header. It needs the columns step and loss, under these or other usual names
        (``iteration``, ``train_loss``, ...); ``COLUMNS`` lists all names that are understood.
        Cells are separated by commas, semicolons or tabs. A blank cell is a value that was not
        measured.
    learning_rate
        Step size, if the file has no column of it.
    optimizer
        What moved the parameters; gradient descent if left out.
    name
        What to call the run; the name of the file if left out.

    Returns
    -------
    ForeignRun
        The run. Columns that are not understood are named in ``ignored``.

    Raises
    ------
    ValueError
        If a column is missing, a cell is no number, or steps do not rise: said with the line.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sgdsim.readers import read_csv
    >>> lines = ["iteration,train loss,lambda_max", "0,1.0,3.5", "10,0.8,", "20,0.7,9.5"]
    >>> size = Path("mine.csv").write_text("\n".join(lines))
    >>> run = read_csv("mine.csv", learning_rate=0.2)
    >>> run.step.tolist(), run.sharpness.tolist()
    ([0, 10, 20], [3.5, nan, 9.5])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    header, lines, rows = _rows(path)
    named = recognise(header, path.name)
    require(named, ("step", "loss"), path.name)
    place = {label: i for i, label in enumerate(header)}
    step_column = place[named.columns["step"]]
    steps = _steps([row[step_column] for row in rows], lines, path)
    columns = {
        known: _numbers(label, [row[place[label]] for row in rows], lines, path)
        for known, label in named.columns.items()
        if known != "step"
    }
    if named.eigenvalues:
        each = [
            _numbers(label, [row[place[label]] for row in rows], lines, path)
            for label in named.eigenvalues
        ]
        columns["eigenvalues"] = np.stack(each, axis=1)
    columns["learning_rate"] = rate_of(path.name, columns.get("learning_rate"), learning_rate)
    return run_of_columns(
        name or path.stem,
        {"step": steps, **columns},
        optimizer or Optimizer(),
        ignored=named.ignored,
        sources={path.name: digest(path)},
    )


def _rows(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Header, and the line and the cells of every row that is not blank."""
    lines: list[int] = []
    rows: list[list[str]] = []
    header: list[str] | None = None
    for line, row in _records(path):
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = [cell.strip() for cell in row]
            if len(set(header)) < len(header):
                twice = next(cell for cell in header if header.count(cell) > 1)
                raise ValueError(f"{path.name}, line {line}: two columns are called {twice!r}.")
            continue
        if len(row) != len(header):
            raise ValueError(
                f"{path.name}, line {line}: there are {len(row)} cells, but the header names "
                f"{len(header)} columns; write as many."
            )
        lines.append(line)
        rows.append(row)
    if header is None:
        raise ValueError(f"{path.name} is empty; write a header such as step,loss,sharpness first.")
    if not rows:
        raise ValueError(
            f"{path.name} has a header but no rows; write one for every recorded step."
        )
    return header, lines, rows


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            reader = csv.reader(file, delimiter=max(_SEPARATORS, key=first.count), strict=True)
            for row in reader:
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8; save the table as CSV.") from error
    except csv.Error as error:
        raise ValueError(f"{path.name} is no CSV file ({error}); save the table as CSV.") from error


def _numbers(label: str, cells: Sequence[str], lines: Sequence[int], path: Path) -> np.ndarray:
    values = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        text = cell.strip()
        if text.lower() in _BLANK:
            continue
        try:
            values[i] = float(text)
        except ValueError:
            raise ValueError(
                f"{path.name}, line {lines[i]}: {label} is {text!r}, which is no number; write a "
                "number, or leave the cell blank if it was not measured."
            ) from None
    return values


def _steps(cells: Sequence[str], lines: Sequence[int], path: Path) -> np.ndarray:
    """Read whole numbers that rise from line to line."""
    steps = np.zeros(len(cells), np.int64)
    for i, cell in enumerate(cells):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not (value >= 0 and value.is_integer() and value < 2**53):
            said = (
                f"is {cell.strip()!r}, which is no whole number from 0 on" if cell.strip() else ""
            )
            raise ValueError(
                f"{path.name}, line {lines[i]}: the step {said or 'is missing'}; write the number "
                "of the step."
            )
        steps[i] = int(value)
        if i and steps[i] == steps[i - 1]:
            raise ValueError(
                f"{path.name}, line {lines[i]}: step {steps[i]} stands there again, after line "
                f"{lines[i - 1]}; write one line for each step."
            )
        if i and steps[i] < steps[i - 1]:
            raise ValueError(
                f"{path.name}, line {lines[i]}: step {steps[i]} comes after step {steps[i - 1]}; "
                "sort the lines by step."
            )
    return steps
