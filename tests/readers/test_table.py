"""Runs in CSV files: what is understood, and the line at which something is wrong."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from sgdsim.readers import COLUMNS, ForeignRun, Optimizer, read_csv
from sgdsim.readers._columns import recognise


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "run.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path: Path, learning_rate: float | None = 0.1) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_csv(path, learning_rate=learning_rate)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(path.name)
    return said


def read(path: Path, learning_rate: float | None = 0.1) -> ForeignRun:
    return read_csv(path, learning_rate=learning_rate)


def test_a_plain_table(write):
    path = write("step,loss,sharpness,eta\n0,1.0,3.5,0.2\n100,0.5,9.75,0.2\n")
    run = read_csv(path)
    assert run.name == "run"
    assert run.step.tolist() == [0, 100]
    assert run.loss.tolist() == [1.0, 0.5]
    assert np.asarray(run.sharpness).tolist() == [3.5, 9.75]
    assert run.learning_rate.tolist() == [0.2, 0.2]
    assert run.optimizer == Optimizer("gd")
    assert run.sources == {"run.csv": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_blank_cells_were_not_measured(write):
    run = read(write("step,loss,sharpness\n0,1,3\n1,0.9,\n2,0.8, NaN \n3,0.7,n/a\n4,inf,5\n"))
    np.testing.assert_array_equal(np.asarray(run.sharpness), [3, np.nan, np.nan, np.nan, 5])
    assert run.loss[-1] == np.inf


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_spreadsheets(tmp_path, separator):
    path = tmp_path / "run.csv"
    lines = [["Step", "Train Loss", "Hessian/max eigenvalue"], ["0", "1", "2"], ["5", "0.5", "3"]]
    text = "\r\n".join(separator.join(f'"{cell}"' for cell in line) for line in lines)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    run = read(path)
    assert run.step.tolist() == [0, 5]
    assert np.asarray(run.sharpness).tolist() == [2, 3]


@pytest.mark.parametrize("here", [name for name in COLUMNS if name not in ("step", "eigenvalues")])
def test_every_other_name_means_the_same(write, here):
    for other in COLUMNS[here]:
        lines = ["step,loss" if here != "loss" else "step"] * 1
        path = write(f"{lines[0]},{other.upper()}\n0{',1' * (here != 'loss')},0.5\n")
        run = read_csv(path, learning_rate=None if here == "learning_rate" else 0.1)
        found = run.test_error_rate if here == "test_accuracy" else getattr(run, here)
        assert np.asarray(found).tolist() == [0.5]
        assert run.ignored == ()


def test_wandb_names(write):
    run = read(write("_step,train/loss,train/grad_norm,_runtime\n3,1.0,2.0,17\n"))
    assert run.step.tolist() == [3]
    assert run.ignored == ("train/grad_norm", "_runtime")


def test_single_eigenvalues_make_a_spectrum(write):
    run = read(write("step,loss,eig2,eig1,note\n0,1,1.5,4.0,7\n1,1,,5.0,7\n"))
    np.testing.assert_array_equal(np.asarray(run.eigenvalues), [[4.0, 1.5], [5.0, np.nan]])
    np.testing.assert_array_equal(np.asarray(run.sharpness), [4.0, 5.0])
    assert run.ignored == ("note",)


def test_an_accuracy_becomes_an_error_rate(write):
    run = read(write("step,loss,test acc\n0,1,0.25\n1,1,\n"))
    np.testing.assert_array_equal(np.asarray(run.test_error_rate), [0.75, np.nan])
    with pytest.raises(ValueError, match="got 93; divide percentages by 100"):
        read(write("step,loss,test acc\n0,1,93\n"))


def test_blank_learning_rates_repeat_the_one_before(write):
    run = read(write("step,loss,lr\n0,1,\n1,1,0.1\n2,1,\n3,1,0.4\n4,1,\n"), None)
    assert run.learning_rate.tolist() == [0.1, 0.1, 0.1, 0.4, 0.4]


def test_the_learning_rate_must_be_known_and_agreed(write):
    assert "give it by --lr" in refused(write("step,loss\n0,1\n"), None)
    assert "give it by --lr" in refused(write("step,loss,lr\n0,1,\n"), None)
    table = write("step,loss,lr\n0,1,0.1\n1,1,0.3\n")
    assert "is 0.1 to 0.3, but 0.1 was given; leave out --lr" in refused(table)
    assert read(write("step,loss,lr\n0,1,0.1\n")).learning_rate.tolist() == [0.1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss,sharpness\n1,2\n", "no column 'step'; name one of them so (or steps, global_step, "),
        ("step,sharpness\n1,2\n", "no column 'loss'"),
        ("step,loss\n0,1\n20,1\n10,1\n", "line 4: step 10 comes after step 20; sort the lines"),
        ("step,loss\n0,1\n\n10,1\n10,1\n", "line 5: step 10 stands there again, after line 4"),
        ("step,loss,sharpness\n0,1,2\n1,1,big\n", "line 3: sharpness is 'big', which is no number"),
        ("step,loss\n0,1\n1.5,1\n", "line 3: the step is '1.5', which is no whole number"),
        ("step,loss\n-1,1\n", "line 2: the step is '-1'"),
        ("step,loss\n0,1\n,1\n", "line 3: the step is missing"),
        ("step,loss\nnan,1\n", "line 2: the step is 'nan'"),
        ("step,loss\n0,1\n1\n", "line 3: there are 1 cells, but the header names 2 columns"),
        ("step,loss\n0,1,2\n", "line 2: there are 3 cells"),
        ("step,loss,train_loss\n0,1,2\n", "the columns 'loss' and 'train_loss' are the same"),
        ("step,loss,eig1,eig_1\n0,1,2,2\n", "the columns 'eig1' and 'eig_1' are the same"),
        ("step,loss,loss\n0,1,2\n", "line 1: two columns are called 'loss'"),
        ("", "is empty"),
        ("step,loss\n\n", "has a header but no rows"),
        ('step,loss\n0,"1\n', "is no CSV file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write, text, said):
    assert said in refused(write(text))


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "run.csv"
    path.write_bytes(b"step,loss\n\xff\xfe\n")
    assert "no text in UTF-8" in refused(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_csv(tmp_path / "absent.csv")


def test_no_name_means_two_things():
    names = [name for others in COLUMNS.values() for name in others]
    assert len(set(names)) == len(names)
    for here, others in COLUMNS.items():
        for other in others:
            assert recognise([other], "file").columns == {here: other}
