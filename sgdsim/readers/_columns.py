"""From named columns, whatever their names are elsewhere, to a run."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from sgdsim.readers._foreign import SERIES, ForeignRun, Optimizer

#: What a column is, and under which names others write it; spelling is compared by `plain_name`.
COLUMNS: dict[str, tuple[str, ...]] = {
    "step": ("step", "steps", "global_step", "iter", "iteration", "iterations", "t"),
    "loss": ("loss", "train_loss", "training_loss", "full_loss", "full_batch_loss"),
    "learning_rate": ("learning_rate", "lr", "eta", "step_size"),
    "sharpness": (
        "sharpness",
        "lambda_max",
        "max_eigenvalue",
        "top_eigenvalue",
        "largest_eigenvalue",
        "hessian_max_eigenvalue",
        "hessian_top_eigenvalue",
    ),
    "sharpness_residual": ("sharpness_residual", "residual"),
    "midpoint_sharpness": ("midpoint_sharpness", "sharpness_midpoint"),
    "preconditioned_sharpness": ("preconditioned_sharpness",),
    "batch_sharpness": ("batch_sharpness",),
    "batch_sharpness_stderr": ("batch_sharpness_stderr", "batch_sharpness_se"),
    "gradient_norm": ("gradient_norm", "grad_norm", "full_grad_norm"),
    "test_loss": ("test_loss", "val_loss", "valid_loss", "validation_loss"),
    "test_error_rate": ("test_error_rate", "test_error", "test_err", "val_error"),
    "test_accuracy": ("test_accuracy", "test_acc", "val_accuracy", "val_acc"),
    "predicted_loss": ("predicted_loss",),
    "eigenvalues": ("eigenvalues", "eigs", "hessian_eigs"),
}
_EIGENVALUE = re.compile(r"(?:hessian_)?(?:eig|eigenvalue|lambda)_?(\d+)")


class Named(NamedTuple):
    """Which columns of a file are what.

    Attributes
    ----------
    columns
        Name in the file of every column that is known, by the name here.
    eigenvalues
        Names in the file of single eigenvalues.
    ignored
        Names in the file of everything else.
    """

    columns: dict[str, str]
    eigenvalues: tuple[str, ...]
    ignored: tuple[str, ...]


def plain_name(name: str) -> str:
    """Name of a column in small letters, words joined by one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def recognise(names: Iterable[str], source: str) -> Named:
    """Find out which column is what.

    Parameters
    ----------
    names
        Names in the file.
    source
        What to call the file in a message.

    Raises
    ------
    ValueError
        If two columns are the same thing.
    """
    meaning = {other: here for here, others in COLUMNS.items() for other in others}
    columns: dict[str, str] = {}
    numbered: dict[int, str] = {}
    ignored: list[str] = []
    for name in names:
        plain = plain_name(name)
        single = _EIGENVALUE.fullmatch(plain)
        known = meaning.get(plain)
        before = numbered.get(int(single[1])) if single else columns.get(known or "")
        if before is not None:
            raise ValueError(
                f"{source}: the columns {before!r} and {name!r} are the same; remove or rename one "
                "of them."
            )
        if single:
            numbered[int(single[1])] = name
        elif known:
            columns[known] = name
        else:
            ignored.append(name)
    return Named(columns, tuple(numbered.values()), tuple(ignored))


def require(named: Named, needed: Iterable[str], source: str) -> None:
    """Refuse a file that lacks a column, with what it has."""
    for name in needed:
        if name not in named.columns:
            there = [*named.columns.values(), *named.eigenvalues, *named.ignored]
            raise ValueError(
                f"{source}: there is no column {name!r}; name one of them so (or "
                f"{', '.join(COLUMNS[name][1:4])}), it has {', '.join(there) or 'none'}."
            )


def rate_of(source: str, found: np.ndarray | None, given: float | None) -> np.ndarray:
    """Learning rate from a file, or from the caller if the file has none.

    A missing value of a column repeats the learning rate before it.

    Raises
    ------
    ValueError
        If nobody knows it, or both know it and differ.
    """
    measured = np.isfinite(found) if found is not None else np.zeros(0, bool)
    if found is None or not measured.any():
        if given is None:
            raise ValueError(
                f"{source}: the learning rate is not in the file, and without it there is no "
                "threshold; give it by --lr."
            )
        return np.asarray(float(given))
    if given is not None and not np.allclose(found[measured], given, rtol=1e-6, atol=0):
        ends = (f"{rate:g}" for rate in (np.min(found[measured]), np.max(found[measured])))
        shown = " to ".join(dict.fromkeys(ends))
        raise ValueError(
            f"{source}: the learning rate in the file is {shown}, but {given:g} was given; leave "
            "out --lr."
        )
    if found.ndim == 1 and not measured.all():
        known = np.flatnonzero(measured)
        last = np.searchsorted(known, np.arange(len(found)), side="right") - 1
        found = found[known[np.maximum(last, 0)]]
    return found


def run_of_columns(
    name: str,
    columns: Mapping[str, np.ndarray],
    optimizer: Optimizer,
    *,
    ignored: tuple[str, ...],
    sources: Mapping[str, str],
) -> ForeignRun:
    """Make a run of columns that have their names here.

    ``test_accuracy`` becomes an error rate; everything else is taken as it is.

    Raises
    ------
    ValueError
        If an accuracy is no share, both accuracy and error rate are there, or the run itself
        refuses the numbers.
    """
    known = dict(columns)
    if "test_accuracy" in known:
        accuracy = known.pop("test_accuracy")
        if "test_error_rate" in known:
            raise ValueError(f"{name!r} has both accuracy and error rate; remove one of them.")
        if np.any((accuracy < 0) | (accuracy > 1)):
            raise ValueError(
                f"test accuracy of {name!r} must be a share in [0, 1], got "
                f"{float(np.nanmax(accuracy)):g}; divide percentages by 100."
            )
        known["test_error_rate"] = 1 - accuracy
    fields = ("step", "loss", "learning_rate", "eigenvalues", *SERIES)
    return ForeignRun(
        name=name,
        optimizer=optimizer,
        ignored=ignored,
        sources=dict(sources),
        **{key: known[key] for key in fields if key in known},
    )
