"""The claims of a scenario as lines of the self-test."""

import math
from pathlib import Path

import pytest
import xarray as xr

from sgdsim._errors import RunInterrupted
from sgdsim.scenario import load_scenario
from sgdsim.selftest import NETWORKS, claim_lines, network_claims, run_check

#: Langevin dynamics in a double well; of the claims the first holds and the second does not.
TINY = """study = "dynamics"
name = "tiny"
title = "Two processes in a double well"
[problem]
kind = "landscape"
landscape = { kind = "double_well", height = 1.0 }
[start]
kind = "point"
theta = [-1.0]
[ensemble]
trajectories = 4
steps = 8
record_every = 2
chunk_steps = 4
seed = 0
[[process]]
name = "one"
[process.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.1
noise = { kind = "isotropic", variance = 0.01 }
[[process]]
name = "other"
[process.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.1
noise = { kind = "isotropic", variance = 0.01 }
[[claim]]
quantity = "loss_agreement"
processes = ["one", "other"]
at_least = 0.9
at_most = 1.0
text = "Equal processes have equal losses."
source = "the same noise"
[[claim]]
quantity = "loss_agreement"
processes = ["one", "other"]
at_most = 0.5
text = "They do not."
source = "nobody"
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny scenario in place of the built-in one; temporary folders lie in the one given."""
    file, temporary = tmp_path / "tiny.toml", tmp_path / "temporary"
    file.write_text(TINY)
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(
        "sgdsim.selftest._networks.load_scenario", lambda name: load_scenario(str(file))
    )
    return temporary


def test_claims_become_lines(tiny: Path, capfd: pytest.CaptureFixture):
    first, second = network_claims()
    assert first.quantity == "Equal processes have equal losses."
    assert first.source == "the same noise"
    assert (first.expected, first.got, first.holds) == ("0.9 to 1", 1.0, True)
    assert (second.expected, second.got, second.holds) == ("<= 0.5", 1.0, False)
    assert list(tiny.iterdir()) == []  # nothing is left
    assert capfd.readouterr() == ("", "")  # and nothing was printed


def test_a_stopped_run_stops_the_selftest(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    def stopped(*_: object, **__: object):
        error = RunInterrupted("stopped; continue with: sgdsim resume /somewhere")
        error.exit_code = 143
        raise error

    monkeypatch.setattr("sgdsim.selftest._networks.run", stopped)
    with pytest.raises(RunInterrupted, match=r"^the self-test was stopped\.$") as caught:
        run_check("networks", NETWORKS["networks at the edge"])
    assert caught.value.exit_code == 143
    assert list(tiny.iterdir()) == []


def claims(*rows: tuple[str, float, float, float]) -> xr.Dataset:
    text, low, high, measured = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {"text": text, "source": text, "expected_low": low, "expected_high": high}
    columns |= {"measured": measured}
    return xr.Dataset({name: ("claim", list(column)) for name, column in columns.items()})


def test_a_claim_that_was_not_measured_does_not_hold():
    (line,) = claim_lines(claims(("GD", 0.97, 1.03, math.nan)))
    assert not line.holds


def test_open_ends():
    above, below = claim_lines(
        claims(("SDE", 1.2, math.inf, 1.3), ("collapse", -math.inf, 0.1, 0.2))
    )
    assert (above.expected, above.holds) == (">= 1.2", True)
    assert (below.expected, below.holds) == ("<= 0.1", False)


def test_no_claims_are_refused():
    with pytest.raises(ValueError, match="makes no claims"):
        claim_lines(claims())
