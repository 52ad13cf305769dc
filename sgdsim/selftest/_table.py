"""The table *quantity, source, expected, got, tolerance, ok*."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sgdsim.selftest._line import Line


def print_lines(lines: Sequence[Line], console: Console) -> None:
    """Print one row per line, and how many hold.

    Parameters
    ----------
    lines
        Of the self-test.
    console
        Where.

    Examples
    --------
    >>> import io
    >>> from rich.console import Console
    >>> from sgdsim.selftest import near, print_lines
    >>> text = io.StringIO()
    >>> print_lines([near("runs", "theory", 20, 19, 0)], Console(file=text, width=80))
    >>> text.getvalue().splitlines()[-1]
    '0 of 1 hold.'
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("quantity", overflow="fold")
    table.add_column("source", overflow="fold")
    for name in ("expected", "got", "tolerance", "ok"):
        table.add_column(name, no_wrap=True)
    for line in lines:
        table.add_row(
            Text(line.quantity),
            Text(line.source),
            line.expected,
            _number(line),
            line.tolerance,
            Text("yes", "green") if line.holds else Text("NO", "bold red"),
        )
    console.print(table)
    console.print(f"{sum(line.holds for line in lines)} of {len(lines)} hold.", highlight=False)


def _number(line: Line) -> str:
    """Print what was found, with more digits where it is refused."""
    if math.isnan(line.got):
        return "nothing"
    return f"{line.got:.6g}" if line.holds else f"{line.got:.12g}"
