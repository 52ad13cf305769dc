"""Runs made elsewhere come in, and any run is judged by the edge of stability."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import sgdsim
from sgdsim._cli import app
from sgdsim.readers import ForeignRun
from sgdsim.runs._edge_analysis import judged
from sgdsim.runs._imported import distinct, import_runs
from sgdsim.store import EDGE_OPERATORS, EDGE_STATES, validate
from sgdsim.testing import synthetic_dynamics_run, synthetic_edge_run, synthetic_run

runner = CliRunner()
STEP = np.arange(0, 5001, 50)
LOSS = np.exp(-STEP / 2000)


def call(*arguments: object, status: int = 0) -> str:
    """Run the command line in this process; returns the output, or the errors if it fails."""
    result = runner.invoke(app, [str(part) for part in arguments], prog_name="sgdsim")
    assert result.exit_code == status, result.output
    return result.stderr if status else result.stdout


def judge(*arguments: object) -> str:
    """What `sgdsim analyze` prints."""
    return call("analyze", *arguments, "--no-figures")


def refused(*arguments: object) -> str:
    """The one sentence with which a command ends."""
    said = call(*arguments, status=1)
    assert said.startswith("error: ")
    assert "unexpected" not in said
    assert said.count("\n") == 1
    return said.removeprefix("error: ").rstrip("\n")


def cells(text: str) -> dict[str, list[str]]:
    """Cells of a printed table by the name in its first column."""
    rows = [line for line in text.splitlines() if line.startswith("│")]
    split = [[cell.strip() for cell in row.split("│")[1:-1]] for row in rows]
    return {name: rest for name, *rest in split}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


def write_table(name: str, **columns: np.ndarray) -> None:
    header = ",".join(columns)
    rows = zip(*columns.values(), strict=True)
    lines = [",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in rows]
    Path(name).write_text("\n".join([header, *lines]) + "\n")


def rising(edge: float, to: float = 1.0) -> np.ndarray:
    """Sharpness that rises by a straight line to a multiple of the edge and stays."""
    return np.minimum(edge * (0.25 + STEP / 2000), to * edge)


def state_of(folder: str, process: int = 0) -> str:
    edge = sgdsim.open_run(folder)["edge"].to_dataset()
    return EDGE_STATES[int(edge["final_state"][process, 0])]


def content(folder: str) -> dict[Path, bytes]:
    files = Path(folder, "run.zarr").rglob("*")
    return {path: path.read_bytes() for path in files if path.is_file()}


def test_a_table_comes_in_and_is_judged():
    write_table("mine.csv", step=STEP, loss=LOSS, sharpness=rising(20.0), wall_time=STEP / 7)
    printed = call("import", "mine.csv", "--lr", 0.1, "--out", "runs/mine").splitlines()
    assert printed == [
        "mine: 101 records of the steps 0 to 5,000, gd at eta = 0.1, with loss, sharpness",
        "  not read: wall_time",
        "runs/mine",
    ]
    assert validate("runs/mine") == []
    assert "the dataset is whole" in call("validate", "runs/mine")
    edge = sgdsim.open_run("runs/mine")["edge"].to_dataset()
    assert edge["process"].values.tolist() == ["mine"]
    np.testing.assert_array_equal(edge["sharpness"][0, 0], rising(20.0))
    np.testing.assert_array_equal(edge["hessian_eigenvalue"][0, 0, :, 0], rising(20.0))
    np.testing.assert_array_equal(edge["threshold"][0, 0], np.full(101, 20.0))
    np.testing.assert_allclose(edge["time"][0], 0.1 * STEP, rtol=1e-12)
    assert EDGE_OPERATORS[int(edge["operator"][0])] == "hessian"
    assert state_of("runs/mine") == "at_the_edge"
    assert edge["entry_step"].values.tolist() == [[1500]]
    text = judge("runs/mine")
    eta, threshold, late, batch, entry, state = cells(text)["mine"]
    assert (eta, threshold, batch) == ("0.1", "20 = 2/eta (hessian)", "-")
    assert late.startswith("1.000 +- ")
    assert entry == "1,500 (1,450 to 1,500)"
    assert state == "at the edge"
    assert "mine: at the edge from step 1,500 (1,450 to 1,500); sharpness is 1.000 " in text
    assert not Path("runs/mine/figures").exists()
    call("analyze", "runs/mine")
    names = {path.name for path in Path("runs/mine/figures").iterdir()}
    assert {"sharpness.png", "sharpness.svg"} <= names


def test_where_it_came_from_is_kept():
    write_table("mine.csv", step=STEP, loss=LOSS, lr=np.full(101, 0.1))
    call("import", "mine.csv", "--title", "My network")
    attrs = sgdsim.open_run("sgdsim-runs/mine").attrs
    ((name, digest),) = json.loads(attrs["imported"])["mine"].items()
    assert name == "mine.csv"
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert attrs["title"] == "My network"
    assert {"sgdsim", "numpy", "python"} <= set(json.loads(attrs["versions"]))


@pytest.mark.parametrize(
    ("options", "threshold"),
    [
        (["--optimizer", "polyak", "--momentum", 0.9], "38 = (1+b) (2/eta) (hessian)"),
        (["--optimizer", "nesterov", "--momentum", 0.9], "13.571 = (1+b)/(1+2b) (2/eta) (hessian)"),
        (["--optimizer", "sgd", "--batch-size", 8], "20 = 2/eta (hessian)"),
        (["--optimizer", "sam", "--rho", 0.1, "--unnormalised"], "10 "),
    ],
)
def test_the_threshold_is_that_of_the_optimizer(options, threshold):
    """Unnormalised SAM: lambda (1 + rho lambda) = 2/eta, here 10 (1 + 0.1 10) = 20."""
    write_table("mine.csv", step=STEP, loss=LOSS, sharpness=rising(20.0))
    call("import", "mine.csv", "--lr", 0.1, *options)
    assert cells(judge("sgdsim-runs/mine"))["mine"][1].startswith(threshold)


def test_adaptive_methods_are_judged_by_the_preconditioned_hessian():
    columns = {"sharpness": rising(1.0), "preconditioned_sharpness": rising(200.0)}
    write_table("mine.csv", step=STEP, loss=LOSS, **columns)
    call("import", "mine.csv", "--lr", 0.01, "--optimizer", "rmsprop")
    cell = cells(judge("sgdsim-runs/mine"))["mine"]
    assert cell[1] == "200 = 2/eta (preconditioned hessian)"
    assert cell[-1] == "at the edge"


def test_sgd_is_judged_by_its_batch_sharpness_too():
    below, batch = rising(20.0, to=0.75), rising(20.0)
    write_table("mine.csv", step=STEP, loss=LOSS, sharpness=below, batch_sharpness=batch)
    call("import", "mine.csv", "--lr", 0.1, "--optimizer", "sgd", "--batch-size", 32)
    cell = cells(judge("sgdsim-runs/mine"))["mine"]
    assert cell[3].startswith("1.000 +- ")
    assert cell[-1] == "below the edge"


def test_a_schedule_moves_the_threshold():
    rates = np.where(STEP < 2500, 0.1, 0.05)
    write_table("mine.csv", step=STEP, loss=LOSS, sharpness=rising(20.0), lr=rates)
    call("import", "mine.csv")
    edge = sgdsim.open_run("sgdsim-runs/mine")["edge"].to_dataset()
    np.testing.assert_array_equal(edge["threshold"][0, 0], 2 / rates)
    expected = np.concatenate([[0], np.cumsum(rates[:-1] * 50)])
    np.testing.assert_allclose(edge["time"][0], expected, rtol=1e-12)


def test_runs_side_by_side_with_steps_of_their_own():
    write_table("a.csv", step=STEP[::2], loss=LOSS[::2], sharpness=rising(20.0)[::2])
    write_table("b.csv", step=STEP[:51] + 1, loss=LOSS[:51], sharpness=rising(20.0)[:51])
    call("import", "a.csv", "b.csv", "a.csv", "--lr", 0.1, "--out", "both")
    edge = sgdsim.open_run("both")["edge"].to_dataset()
    assert edge["process"].values.tolist() == ["a", "b", "a (2)"]
    assert edge["step"].values.tolist() == sorted({*STEP[::2].tolist(), *(STEP[:51] + 1).tolist()})
    b = edge.sel(process="b", trajectory=0)
    np.testing.assert_array_equal(b["sharpness"].dropna("step"), rising(20.0)[:51])
    assert set(b["step"].values[np.isfinite(b["threshold"])]) <= set(range(2502))
    assert edge["diverged_step"].values.tolist() == [[-1], [-1], [-1]]
    assert edge["status"].values.tolist() == [[1], [1], [1]]
    alone = Path("alone")
    call("import", "b.csv", "--lr", 0.1, "--out", alone)
    own = sgdsim.open_run(alone)["edge"].to_dataset().isel(process=0, trajectory=0)
    for name in ("final_state", "reason", "entry_step", "entry_low", "entry_high", "late_ratio"):
        assert b[name].item() == own[name].item(), name


def test_states_last_from_one_measured_record_to_the_next():
    sparse = np.where(STEP % 150 == 0, rising(20.0), np.nan)
    write_table("mine.csv", step=STEP, loss=LOSS, sharpness=sparse)
    call("import", "mine.csv", "--lr", 0.1)
    edge = sgdsim.open_run("sgdsim-runs/mine")["edge"].to_dataset()
    state = edge["state"].values[0, 0]
    last = np.flatnonzero(np.isfinite(sparse))[-1]
    assert (state[: last + 1] != 0).all()
    assert (state[last + 1 :] == 0).all()
    for row in range(last):
        assert state[row] == state[row - row % 3]


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_a_run_that_diverged(lost):
    loss, sharpness = LOSS.copy(), rising(40.0)
    loss[80:], sharpness[80:] = lost, np.nan
    write_table("mine.csv", step=STEP, loss=loss, sharpness=sharpness)
    call("import", "mine.csv", "--lr", 0.1)
    edge = sgdsim.open_run("sgdsim-runs/mine")["edge"].to_dataset()
    assert edge["diverged_step"].values.tolist() == [[4000]]
    assert edge["status"].values.tolist() == [[2]]


def test_a_run_that_is_too_short_or_has_no_sharpness():
    write_table("short.csv", step=STEP[:5], loss=LOSS[:5], sharpness=rising(20.0)[:5])
    write_table("blind.csv", step=STEP, loss=LOSS)
    call("import", "short.csv", "blind.csv", "--lr", 0.1, "--out", "both")
    text = judge("both")
    assert cells(text)["short"][-1] == cells(text)["blind"][-1] == "not judged"
    assert re.search(r"^short: .*5 records", text, re.MULTILINE)
    assert re.search(r"^blind: .*not measured", text, re.MULTILINE)


@pytest.mark.parametrize("process", ["GD", "catapult", "SGD", "SDE", "Adam", "central flow"])
def test_a_run_of_the_edge_study_is_judged_alike_after_an_export(tmp_path, process):
    """What sgdsim measured goes out as arrays, comes in again, and has the same states."""
    tree = sgdsim.open_run(synthetic_edge_run(tmp_path / "own", diverged=0)).load()
    scenario = json.loads(str(tree.attrs["scenario"]))
    for one in scenario["process"]:
        one["dynamics"] |= {"b1": 0.9, "substeps": 2}
    tree.attrs["scenario"] = json.dumps(scenario)
    table = next(one["dynamics"] for one in scenario["process"] if one["name"] == process)
    edge = tree["edge"].to_dataset()
    tree["edge"] = edge.assign(step_size=edge["learning_rate"] + 0 * edge["step"])
    own = judged(tree)["edge"].to_dataset().sel(process=process, trajectory=0)
    rows = np.flatnonzero(np.isfinite(own["loss"].values))
    names = [
        "loss",
        "sharpness",
        "sharpness_residual",
        "midpoint_sharpness",
        "preconditioned_sharpness",
    ]
    names += ["batch_sharpness", "batch_sharpness_stderr", "gradient_norm"]
    arrays = {name: own[name].values[rows] for name in ["step", *names]}
    numbers = {name: table[name] for name in ("batch_size", "b1", "substeps") if name in table}
    np.savez("run.npz", optimizer=table["kind"], lr=table["learning_rate"], **arrays, **numbers)
    call("import", "run.npz", "--out", "again")
    again = sgdsim.open_run("again")["edge"].to_dataset().isel(process=0, trajectory=0)
    assert int(again["final_state"]) != 0
    np.testing.assert_array_equal(again["state"], own["state"].values[rows])
    for name in ("operator", "final_state", "reason", "entry_step", "entry_low", "entry_high"):
        assert int(again[name]) == int(own[name]), name
    for name in ("late_ratio", "late_ratio_stderr", "late_batch_ratio", "maximum_ratio"):
        np.testing.assert_allclose(again[name], own[name], rtol=1e-12, err_msg=name)


def test_a_narrower_band_changes_the_verdict_but_not_the_dataset():
    # Odd distances: at even ones a sharpness above the edge may be one phase of period two.
    write_table("mine.csv", step=STEP // 50 * 51, loss=LOSS, sharpness=rising(20.0, to=1.09))
    call("import", "mine.csv", "--lr", 0.1)
    before = content("sgdsim-runs/mine")
    assert cells(judge("sgdsim-runs/mine"))["mine"][-1] == "at the edge"
    narrow = cells(judge("sgdsim-runs/mine", "--band", 0.02))["mine"][-1]
    assert narrow == "above the edge"
    assert state_of("sgdsim-runs/mine") == "at_the_edge"
    assert content("sgdsim-runs/mine") == before
    assert "between 0 and 1, got 1.5" in refused("analyze", "sgdsim-runs/mine", "--band", 1.5)


def test_a_folder_that_is_taken():
    write_table("mine.csv", step=STEP, loss=LOSS)
    call("import", "mine.csv", "--lr", 0.1, "--out", "taken")
    before = (Path("taken") / "run.zarr" / "zarr.json").read_bytes()
    said = refused("import", "mine.csv", "--lr", 0.2, "--out", "taken")
    assert "already holds a finished run" in said
    assert (Path("taken") / "run.zarr" / "zarr.json").read_bytes() == before
    call("import", "mine.csv", "--lr", 0.2, "--out", "taken", "--overwrite")
    assert sgdsim.open_run("taken")["edge"]["learning_rate"].item() == 0.2
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    said = refused("import", "mine.csv", "--lr", 0.2, "--out", "other", "--overwrite")
    assert "holds files that are not of a run (notes.txt)" in said


def test_nothing_is_left_where_writing_fails(monkeypatch):
    from sgdsim.runs import _imported

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(_imported, "_write_ends", fail)
    run = ForeignRun("mine", step=STEP, loss=LOSS, learning_rate=np.array(0.1))
    with pytest.raises(OSError, match="no space"):
        import_runs([run], "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ("step,loss\n0,1\n5,1\n3,1\n", ["--lr", 1], "mine.csv, line 4: step 3 comes after step 5"),
        ("loss\n1\n", ["--lr", 1], "there is no column 'step'"),
        ("step,loss\n0,1\n", [], "give it by --lr"),
        ("step,loss\n0,1\n", ["--lr", -1], "one positive number"),
        ("step,loss\n0,1\n", ["--lr", 1, "--optimizer", "lion"], "'lion' is not known"),
        ("step,loss\n0,1\n", ["--lr", 1, "--optimizer", "adam"], "give it by --b1"),
        ("step,loss\n0,1\n", ["--lr", 1, "--momentum", 0.9], "give --optimizer too"),
        ("step,loss\n0,1\n", ["--lr", 1, "--every", 5], "leave out --every"),
    ],
)
def test_what_cannot_come_in_leaves_nothing(table, options, said):
    Path("mine.csv").write_text(table)
    assert said in refused("import", "mine.csv", "--out", "out", *options)
    assert not Path("out").exists()


def test_a_file_that_is_not_there():
    assert refused("import", "absent.csv", "--lr", 1) == "There is nothing at absent.csv."


def test_names_that_come_again():
    assert distinct(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]


def test_probes_of_a_dynamics_run_are_judged(tmp_path):
    folder = synthetic_dynamics_run(tmp_path / "run")
    text = call("analyze", folder)
    found = cells(text)
    dynamics = sgdsim.open_run(folder)["dynamics"].to_dataset()
    assert list(found) == dynamics["process"].values.tolist()
    assert found["SGD, large"][:2] == ["1", "2 = 2/eta (hessian)"]
    assert not (folder / "figures").exists()


def test_other_studies_say_what_they_lack(tmp_path):
    folder = synthetic_run(tmp_path / "run")
    said = refused("analyze", folder)
    assert "is a run of the study 'stagnation', in which no process has a sharpness" in said
    assert "holds no run (no run.zarr in it)" in refused("analyze", tmp_path)


@pytest.mark.parametrize("command", ["import", "analyze"])
def test_help_teaches_by_examples(command):
    text = call(command, "--help")
    assert f"$ sgdsim {command} " in text
