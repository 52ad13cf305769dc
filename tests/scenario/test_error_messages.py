"""The messages themselves: where, what is wrong, what was given, what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgdsim._errors import ScenarioError
from sgdsim.scenario import KNOWN_QUANTITIES, Scenario, load_scenario, scenario_names

Write = Callable[[str, str], str]
#: Entries of the built-in scenario, which a file that extends it adds to.
CLAIMS = len(load_scenario("stagnation").claim)


def message(name: Any, overrides: list[str] | None = None) -> str:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, overrides or [])
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_all_mistakes_of_a_file_at_once(write: Write) -> None:
    name = write(
        "bad.toml",
        """extends = "stagnation"
name = "bad"
[problem]
model.kind = "sofmax"
[dynamics]
learning_rate = -0.1
batch_size = "32"
learning_rte = 0.1
[problem.data]
reference = 796
[bounds]
margin = "big"
grid_ratio = 1
[stagnatoin]
[[claim]]
quantity = "exit_bond"
text = ""
source = "s"
""",
    )
    assert message(name) == (
        "bad.toml: 11 problem(s)\n"
        "  line   4  problem.model.kind: unknown kind 'sofmax'. Did you mean 'softmax'? "
        "Known: softmax, mlp.\n"
        "  line   6  dynamics.learning_rate: should be greater than 0, because steps go "
        "downhill and time is counted in it (got -0.1).\n"
        "  line   7  dynamics.batch_size: should be a valid integer (got '32').\n"
        "  line   8  dynamics.learning_rte: unknown key. Did you mean 'learning_rate'?\n"
        "  line  10  problem.data.reference: training + reference should be at most 1795 of the "
        "1797 digits, to hold out at least 2 (got 1000 + 796).\n"
        "  line  12  bounds.margin: should be \"auto\" or a number greater than 0 (got 'big').\n"
        "  line  13  bounds.grid_ratio: should be greater than 1 (got 1).\n"
        "  line  14  stagnatoin: unknown key. Did you mean 'stagnation'?\n"
        f"  line  15  claim.{CLAIMS}: missing at_least, at_most or both.\n"
        f"  line  16  claim.{CLAIMS}.quantity: unknown quantity 'exit_bond'. Did you mean "
        f"'exit_bound'? Known: {', '.join(KNOWN_QUANTITIES['stagnation'])}.\n"
        f"  line  17  claim.{CLAIMS}.text: should not be empty."
    )


KINDS = (
    "Known: gd, gradient_flow, central_flow, edge_flow, sgd, gaussian_sgd, sde, svag, sgld, "
    "label_noise_sgd, heavy_ball, nesterov, rmsprop, adam, sam, underdamped_sde, rmsprop_sde, "
    "adam_sde."
)
# Settings on top of `stagnation`, and the line that tells what is wrong with them.
SETTINGS = {
    "dynamics.kind=sdg": "dynamics.kind: unknown kind 'sdg'. Did you mean 'sgd'? " + KINDS,
    "dynamics.kind=3": "dynamics.kind: unknown kind 3. " + KINDS,
    "dynamics.kind=sde": "dynamics.substeps: missing "
    "(Euler steps in the time eta of one SGD step).",
    "dynamics.batch_size=1001": "dynamics.batch_size: should be at most problem.data.training = "
    "1000, because a batch is drawn from these rows (got 1001).",
    "dynamics.batch_size=0": "dynamics.batch_size: should be at least 1, because the gradient of "
    "no row is not defined (got 0).",
    "dynamics.noise={variance=1}": "dynamics.noise.kind: missing. Known: minibatch, isotropic, "
    "langevin, hessian_aligned, diagonal, low_rank, label, constant, student, stable.",
    "dynamics.noise=isotropic": "dynamics.noise: should be a table (got 'isotropic').",
    "ensemble=3": "ensemble: should be a table (got 3).",
    "ensemble.steps=2001": "ensemble.chunk_steps: should divide ensemble.steps = 2001 (got 200).",
    "ensemble.record_every=11": "ensemble.chunk_steps: should be a multiple of "
    "ensemble.record_every = 11 (got 200).",
    "ensemble.steps=1e3": "ensemble.steps: should be a valid integer (got 1000.0).",
    "ensemble.trajectories=true": "ensemble.trajectories: should be a valid integer (got true).",
    "ensemble.seed=1979-05-27": "ensemble.seed: should be a valid integer (got 1979-05-27).",
    "ensemble.seed={}": "ensemble.seed: should be a valid integer (got a table).",
    "ensemble.frequency=1": "ensemble.frequency: unknown key. Known: trajectories, steps, "
    "record_every, chunk_steps, seed.",
    "bounds.grid_high=1e-4": "bounds.grid_high: should be greater than bounds.grid_low = 0.001 "
    "(got 0.0001).",
    "bounds.failure_probability=1": "bounds.failure_probability: should be less than 1 (got 1).",
    "stagnation.radius=nan": 'stagnation.radius: should be "auto" or a number greater than 0 '
    "(got nan).",
    "problem.ridge=inf": "problem.ridge: should be a finite number (got inf).",
    "problem.kind=regression": "problem.kind: unknown kind 'regression'. Known: classification.",
    "problem.kind=landscape": "problem.kind: should be classification, because certificates need "
    "data; a landscape belongs to study = \"dynamics\" (got 'landscape').",
    "study=dynamic": "study: unknown study 'dynamic'. Did you mean 'dynamics'? "
    "Known: bounds, dynamics, edge, exits, stagnation.",
    "study=3": "study: unknown study 3. Known: bounds, dynamics, edge, exits, stagnation.",
    "compute.precision=float46": "compute.precision: unknown value 'float46'. "
    "Did you mean 'float64'? Known: float32, float64.",
    "compute.devices=0": 'compute.devices: should be "auto" or an integer of at least 1 (got 0).',
    "name=a b": "name: should be letters, digits, '-', '_' or '.', beginning with a letter or a "
    "digit, because the folder of a run is named after it (got 'a b').",
    "claim=3": "claim: should be a list (got 3).",
    "claim.2.at_least=1": "claim.2.at_most: should not be smaller than at_least = 1.0 (got 0.01).",
    "claim.9.text=x": f"claim: there is no entry '9': it has {CLAIMS}, counted from 0.",
    "claim.first.text=x": f"claim: there is no entry 'first': it has {CLAIMS}, counted from 0.",
    "problem.ridge.x=1": "problem.ridge: is not a table, so --set problem.ridge.x is not possible.",
    "ensemble.steps": "write key=value, for example ensemble.trajectories=16 "
    "(got 'ensemble.steps').",
    "=3": "write key=value, for example ensemble.trajectories=16 (got '=3').",
    "a..b=3": "write key=value, for example ensemble.trajectories=16 (got 'a..b=3').",
    "title={x = '{text}'}": "title: should be a valid string (got a table).",
    "stagnation.radius='{text} %s'": 'stagnation.radius: should be "auto" or a number greater '
    "than 0 (got '{text} %s').",
    'ensemble."odd key"=1': "ensemble.'\"odd key\"': unknown key. Known: trajectories, steps, "
    "record_every, chunk_steps, seed.",
}


@pytest.mark.parametrize(("setting", "expected"), SETTINGS.items(), ids=SETTINGS.keys())
def test_settings(setting: str, expected: str) -> None:
    header, line = message("stagnation", [setting]).split("\n")
    assert header == "stagnation: 1 problem(s)"
    if expected.startswith(("ensemble.chunk_steps", "claim.2.at_most")):
        # The setting contradicts a key that was written in a file, and that key is pointed at.
        assert re.fullmatch(rf"  (parts/stagnation.toml )?line +\d+  {re.escape(expected)}", line)
    else:
        assert line == f"  --set  {expected}"


def test_long_values_are_cut() -> None:
    text = message("stagnation", [f"ensemble.steps={'9' * 500}x"])
    assert text.endswith("(got '99999999999999999999999999999999999999999999999999999999...).")


def test_a_mistake_in_the_extended_file_names_that_file(write: Write) -> None:
    write("parts/base.toml", '\nextends = "stagnation"\n[minimum]\ntolerance = 0\n')
    name = write("studies/mine.toml", 'extends = "../parts/base"\n[ensemble]\nsteps = 0\n')
    lines = message(name, ["ensemble.trajectories=0"]).splitlines()
    assert lines[0] == "studies/mine.toml: 3 problem(s)"
    assert lines[1] == "  line   3  ensemble.steps: should be greater than or equal to 1 (got 0)."
    assert lines[2].endswith(
        "parts/base.toml line   4  minimum.tolerance: should be greater than 0 (got 0)."
    )
    assert lines[3].startswith("  --set     ensemble.trajectories: ")
    write("parts/mine.toml", 'extends = "base"\n')
    assert "\n  base.toml line   4  minimum.tolerance: " in message("parts/mine.toml")


def test_a_mistake_against_a_built_in_part_names_it(write: Write) -> None:
    name = write("mine.toml", 'extends = "stagnation"\n[ensemble]\nsteps = 300\n')
    text = message(name)
    assert "  built-in parts/stagnation.toml line " in text
    assert text.endswith("ensemble.chunk_steps: should divide ensemble.steps = 300 (got 200).")


def test_missing_keys_are_explained_where_their_table_begins(write: Write) -> None:
    name = write("mine.toml", 'name = "mine"\n\n[minimum]\nseed = 0\n')
    lines = message(name).splitlines()
    assert lines[0] == "mine.toml: 9 problem(s)"
    assert lines[1] == (
        "  line   3  minimum.tolerance: missing (Norm of the float64 gradient at which the search "
        "(L-BFGS) ends)."
    )
    assert "            bounds: missing (How generalization bounds are evaluated)." in lines


def test_a_misspelt_key_is_not_reported_as_missing_too(write: Write) -> None:
    text = 'extends = "stagnation"\n[dynamics]\nkind = "sde"\nsubstep = 3\n'
    assert message(write("mine.toml", text)) == (
        "mine.toml: 1 problem(s)\n"
        "  line   4  dynamics.substep: unknown key. Did you mean 'substeps'?"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = = 2\n", "line   2  TOML syntax: Invalid value at column 5."),
        ("a = 1\na = 2\n", "line   2  TOML syntax: Cannot overwrite a value at column 6."),
        ('a = 1\n\nb = """x\ny', "line   4  TOML syntax: "),
        ("[a\n", "line   1  TOML syntax: "),
        ("a = 'x\n", "line   1  TOML syntax: "),
    ],
)
def test_toml_syntax(write: Write, text: str, expected: str) -> None:
    found = message(write("bad.toml", text))
    assert found.startswith(f"bad.toml: 1 problem(s)\n  {expected}")
    assert "(at" not in found
    child = write("child.toml", 'extends = "bad"')
    assert message(child) == found


def test_extends(write: Write) -> None:
    name = write("mine.toml", '# a comment\nextends = "stagnatoin"\n')
    expected = "extends: there is no 'stagnatoin', neither next to this file nor built in."
    assert message(name) == f"mine.toml: 1 problem(s)\n  line   2  {expected}"
    write("stagnation.toml", "")
    assert message(name).endswith(f"{expected} Did you mean 'stagnation.toml'?")
    write("number.toml", "extends = 3")
    assert "line   1  extends: should be the path of another scenario file (got 3)." in message(
        "number.toml"
    )
    assert message(write("empty.toml", "extends = ''")).endswith("scenario file (got '').")


def test_a_cycle(write: Write) -> None:
    write("a.toml", 'extends = "b"\n')
    write("b.toml", '\nextends = "sub/../c"\n')
    write("c.toml", '\n\nextends = "a"\n')
    write("sub/x.toml", "")
    assert message("a.toml") == (
        "a.toml: 1 problem(s)\n"
        "  c.toml line   3  extends: goes round in a circle: a.toml -> b.toml -> c.toml -> a.toml."
    )
    write("self.toml", 'extends = "self"')
    assert message("self.toml").endswith("goes round in a circle: self.toml -> self.toml.")


def test_unknown_names(write: Write) -> None:
    known = f"Built in: {', '.join(scenario_names())}. "
    advice = "For a scenario of your own, give the path of a file that ends in .toml."
    hint = " Did you mean 'stagnation'? "
    assert message("stagnatoin") == f"unknown scenario 'stagnatoin'.{hint}{known}{advice}"
    assert message("zzz") == f"unknown scenario 'zzz'. {known}{advice}"
    assert message("") == f"unknown scenario ''. {known}{advice}"
    write("zzz.toml", "")
    assert "Did you mean the file 'zzz.toml'?" in message("zzz")


def test_files_that_cannot_be_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("mine.toml", "")
    assert message("mien.toml") == "there is no file mien.toml. Did you mean 'mine.toml'?"
    assert message("nowhere/mine.toml") == "there is no file nowhere/mine.toml."
    Path("folder.toml").mkdir()
    advice = "is a folder; give the path of a TOML file."
    assert message("folder.toml") == f"folder.toml {advice}"
    assert message(Path("folder.toml").absolute().parent).endswith(advice)
    Path("latin.toml").write_bytes('title = "é"'.encode("latin-1"))
    assert message("latin.toml") == (
        "latin.toml is not UTF-8 text (byte 0xe9 at position 9); save it as UTF-8."
    )

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert message("mine.toml") == "mine.toml cannot be read: Permission denied."


def test_absurdly_deep_files(write: Write) -> None:
    name = write("deep.toml", f"a = {'[' * 5000}{']' * 5000}")
    assert message(name) == "deep.toml is nested too deeply to be a scenario."


def test_json() -> None:
    with pytest.raises(ScenarioError, match=r"scenario JSON: 1 problem\(s\)\n  Invalid JSON: "):
        Scenario.from_json("{")
    text = load_scenario("stagnation").canonical_json().replace('"steps":2000', '"steps":"x"')
    with pytest.raises(ScenarioError, match=r"\n  ensemble\.steps: should be a valid integer"):
        Scenario.from_json(text)
    with pytest.raises(ScenarioError, match=r"should be a table \(got \[\]\)"):
        Scenario.from_json("[]")
    with pytest.raises(
        ScenarioError, match=r"problem\(s\)\n  study: unknown study 'stagnatoin'\. Did"
    ):
        Scenario.from_json(text.replace('"study":"stagnation"', '"study":"stagnatoin"'))
