"""The command `selftest`: what it prints and how it ends; the checks themselves are made up."""

import pytest
from typer.testing import CliRunner

from sgdsim import selftest
from sgdsim._cli import app
from sgdsim._errors import RunInterrupted
from sgdsim.selftest import Line, near

runner = CliRunner()
CALLED: list[str] = []


def good() -> list[Line]:
    CALLED.append("good")
    return [near("one and one", "arithmetic", 2, 2, 0), near("two", "arithmetic", 2, 2.01, 0.1)]


def bad() -> list[Line]:
    CALLED.append("bad")
    return [near("three", "arithmetic", 3, 4, 0)]


def broken() -> list[Line]:
    raise ValueError("no bracket")


def stopped() -> list[Line]:
    raise RunInterrupted("the self-test was stopped.")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch):
    """Run the command with given checks; gives its status, its output and its errors."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: str, closed: dict, networks: dict) -> tuple[int, str, str]:
        CALLED.clear()
        monkeypatch.setattr(selftest, "CLOSED_FORMS", closed)
        monkeypatch.setattr(selftest, "NETWORKS", networks)
        result = runner.invoke(app, ["selftest", *arguments], prog_name="sgdsim")
        return result.exit_code, result.stdout, result.stderr

    return call


def test_one_row_per_line(call):
    status, table, progress = call(closed={"sums": good}, networks={"nets": good})
    assert status == 0
    head, *rows, last = [line.split() for line in table.rstrip("\n").split("\n")]
    assert head == ["quantity", "source", "expected", "got", "tolerance", "ok"]
    assert rows[0] == ["one", "and", "one", "arithmetic", "2", "2", "exact", "yes"]
    assert rows[1] == ["two", "arithmetic", "2", "2.01", "0.1", "yes"]
    assert len(rows) == 4
    assert last == ["4", "of", "4", "hold."]
    assert "nets" in progress
    assert "nets" not in table


def test_a_line_that_fails_gives_status_one(call):
    status, table, _ = call(closed={"sums": good}, networks={"nets": bad})
    assert status == 1
    assert CALLED == ["good", "bad"]
    assert "2 of 3 hold." in table
    assert "NO" in table


def test_quick_leaves_the_networks_out(call):
    status, table, progress = call("--quick", closed={"sums": good}, networks={"nets": bad})
    assert status == 0
    assert CALLED == ["good"]
    assert "three" not in table
    assert "nets" not in progress


def test_an_error_does_not_hide_the_other_checks(call):
    status, table, _ = call("--quick", closed={"edges": broken, "sums": good}, networks={})
    assert status == 1
    assert "edges: ValueError: no bracket" in table
    assert "2 of 3 hold." in table


def test_a_signal_ends_it_with_its_status(call):
    status, table, errors = call(closed={"sums": good}, networks={"nets": stopped})
    assert status == 130
    assert table == ""
    assert "error: the self-test was stopped." in errors


def test_help_says_what_is_done(call):
    status, text, _ = call("--help", closed={}, networks={})
    assert status == 0
    words = " ".join(text.split())
    assert "--quick" in words
    assert "sgdsim selftest --quick" in words
    assert "status 1 if one is off" in words
