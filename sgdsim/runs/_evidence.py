"""Exit bounds by evidence, certificate or plug-in, and the tables of both side by side."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from sgdsim.stagnation import Proved, Sampled, StayStatement, log_exit_bounds
from sgdsim.store import CONSTANTS, EVIDENCE, THEORIES


class EvidenceBounds(NamedTuple):
    """Exit bounds of a run or of a case.

    Attributes
    ----------
    values
        Variables of the dataset by name.
    sentences
        By kind of evidence: what the bound rests on, or why there is none.
    statements
        By kind of evidence, where there is one.
    """

    values: dict[str, Any]
    sentences: dict[str, str]
    statements: dict[str, StayStatement]


def tabulate_evidence(
    statements: Mapping[str, StayStatement], steps: Int[np.ndarray, " step"]
) -> dict[str, Any]:
    """Constants and bounds by evidence; NaN where there is no statement.

    Returns
    -------
    dict
        ``constant_value``, ``constant_low``, ``constant_high`` and ``constant_sample_size``
        (evidence, constant), ``assumption_violated`` (evidence,) and ``log_exit_bound``
        (evidence, theory, step).
    """
    shape = len(EVIDENCE), len(CONSTANTS)
    ends = {name: np.full(shape, np.nan) for name in ("value", "low", "high")}
    sizes = np.full(shape, -1, np.int32)
    bounds = np.full((len(EVIDENCE), len(THEORIES), steps.size), np.nan)
    violated = np.full(len(EVIDENCE), -1, np.int8)
    for row, kind in enumerate(EVIDENCE):
        if kind not in statements:
            continue
        statement = statements[kind]
        logs = log_exit_bounds(statement.constants, steps)
        bounds[row] = np.stack([logs[theory] for theory in THEORIES])
        violated[row] = statement.violation is not None
        for column, name in enumerate(CONSTANTS):
            # What a statement leaves out is zero by construction.
            source = statement.sources.get(name, Proved(0.0, "none"))
            for end, table in ends.items():
                table[row, column] = getattr(source, end, source.value)
            sizes[row, column] = source.sample_size if isinstance(source, Sampled) else 0
    return {
        **{f"constant_{end}": table for end, table in ends.items()},
        "constant_sample_size": sizes,
        "assumption_violated": violated,
        "log_exit_bound": bounds,
    }
