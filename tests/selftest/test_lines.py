"""Lines of the self-test: ranges, the words for them, the printed table."""

import io
import math

import pytest
from rich.console import Console

from sgdsim.selftest import Line, between, close, near, print_lines


@pytest.mark.parametrize(
    ("got", "holds"),
    [(4.0, True), (3.96, True), (4.04, True), (3.9599, False), (4.0401, False), (math.nan, False)],
)
def test_a_share_of_what_is_expected(got, holds):
    line = close("edge", "theory", 4.0, got, 0.01)
    assert line.holds is holds
    assert (line.expected, line.tolerance) == ("4", "1 %")


def test_a_share_of_a_negative_number():
    assert close("drift", "theory", -4.0, -4.03, 0.01).holds
    assert not close("drift", "theory", -4.0, -4.05, 0.01).holds


@pytest.mark.parametrize(("got", "holds"), [(2, True), (1.95, True), (2.06, False)])
def test_a_distance(got, holds):
    assert near("order", "theory", 2, got, 0.05).holds is holds


def test_a_count_is_exact():
    assert near("runs", "theory", 20, 20, 0).holds
    assert not near("runs", "theory", 20, 19, 0).holds
    assert near("runs", "theory", 20, 20, 0).tolerance == "exact"


@pytest.mark.parametrize(
    ("low", "high", "words", "inside", "outside"),
    [
        (0.9, 1.1, "0.9 to 1.1", 1.0, 1.2),
        (1.2, math.inf, ">= 1.2", 50.0, 1.1),
        (-math.inf, 0.5, "<= 0.5", -3.0, 0.6),
    ],
)
def test_a_range(low, high, words, inside, outside):
    assert between("ratio", "theory", low, high, inside).holds
    assert not between("ratio", "theory", low, high, outside).holds
    assert not between("ratio", "theory", low, high, math.nan).holds
    assert between("ratio", "theory", low, high, inside).expected == words


def printed(*lines: Line) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_lines(lines, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_says_what_holds():
    text = printed(
        close("edge [of GD]", "2/eta", 4.0, 4.0, 1e-9),
        close("variance", "[theory]", 9.0, 9.123456789, 0.01),
        between("batch sharpness", "N9", 1.2, math.inf, math.nan),
    )
    head, *rows, last = text.rstrip("\n").split("\n")
    assert head.split() == ["quantity", "source", "expected", "got", "tolerance", "ok"]
    assert rows[0].split() == ["edge", "[of", "GD]", "2/eta", "4", "4", "1e-07", "%", "yes"]
    assert rows[1].split() == ["variance", "[theory]", "9", "9.123456789", "1", "%", "NO"]
    assert rows[2].split()[-4:] == ["1.2", "nothing", "range", "NO"]
    assert last == "1 of 3 hold."
