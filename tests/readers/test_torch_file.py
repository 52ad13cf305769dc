"""Tensors without torch: the numbers are right, and nothing is run."""

import io
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from sgdsim.readers import read_tensor

VALUES = np.arange(12, dtype=np.float32)


def refused(path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_tensor(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(path.name)
    assert said.endswith("save it again by torch.save, or as .npz by numpy.savez.")
    return said


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_tensor_made_without_torch(tmp_path, save_tensor, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    save_tensor(tmp_path / "tensor", array)
    found = read_tensor(tmp_path / "tensor")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_a_view_of_a_longer_storage(tmp_path, save_archive, describe_tensor):
    """Such as the first rows of a table that was allocated for all steps."""
    pickled = describe_tensor("FloatStorage", 12, 2, (2, 3), (4, 1))
    save_archive(tmp_path / "tensor", pickled, VALUES.tobytes())
    np.testing.assert_array_equal(read_tensor(tmp_path / "tensor"), [[2, 3, 4], [6, 7, 8]])


def test_transposed_and_empty(tmp_path, save_archive, describe_tensor):
    turned = describe_tensor("FloatStorage", 12, 0, (4, 3), (1, 4))
    save_archive(tmp_path / "turned", turned, VALUES.tobytes())
    np.testing.assert_array_equal(read_tensor(tmp_path / "turned"), VALUES.reshape(3, 4).T)
    save_archive(tmp_path / "empty", describe_tensor("FloatStorage", 0, 0, (0, 2), (2, 1)), b"")
    assert read_tensor(tmp_path / "empty").shape == (0, 2)


def test_bytes_in_the_other_order(tmp_path, describe_tensor):
    with zipfile.ZipFile(tmp_path / "tensor", "w") as archive:
        archive.writestr("a/data.pkl", describe_tensor("FloatStorage", 12, 0, (12,), (1,)))
        archive.writestr("a/byteorder", b"big")
        archive.writestr("a/data/0", VALUES.astype(">f4").tobytes())
    found = read_tensor(tmp_path / "tensor")
    np.testing.assert_array_equal(found, VALUES)
    assert found.dtype == np.float32


class TestWithTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize(
        "kind",
        ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"],
    )
    def test_every_type(self, torch, tmp_path, kind):
        tensor = torch.arange(-3, 4).to(getattr(torch, kind))
        torch.save(tensor, tmp_path / "tensor")
        found = read_tensor(tmp_path / "tensor")
        np.testing.assert_array_equal(found, tensor.numpy())
        assert str(found.dtype) == kind

    def test_layouts(self, torch, tmp_path):
        base = torch.arange(24.0).reshape(4, 6)
        for tensor in (base[:3], base[1:, 2:5], base.t(), base[:, 0], base[2, 3], base[:0]):
            torch.save(tensor, tmp_path / "tensor")
            np.testing.assert_array_equal(read_tensor(tmp_path / "tensor"), tensor.numpy())

    def test_what_needs_a_gradient(self, torch, tmp_path):
        torch.save(torch.ones(3, requires_grad=True), tmp_path / "tensor")
        np.testing.assert_array_equal(read_tensor(tmp_path / "tensor"), np.ones(3))

    def test_what_is_no_tensor(self, torch, tmp_path):
        torch.save({"a": torch.ones(2)}, tmp_path / "dictionary")
        assert "holds dict, not one tensor" in refused(tmp_path / "dictionary")
        torch.save(torch.nn.Linear(2, 2), tmp_path / "module")
        assert "torch.nn.modules.linear.Linear, which is no part of a tensor" in refused(
            tmp_path / "module"
        )

    def test_types_that_numpy_does_not_have(self, torch, tmp_path):
        torch.save(torch.ones(2, dtype=torch.bfloat16), tmp_path / "tensor")
        assert "torch.BFloat16Storage" in refused(tmp_path / "tensor")

    def test_the_format_before_torch_1_6(self, torch, tmp_path):
        torch.save(torch.ones(2), tmp_path / "old", _use_new_zipfile_serialization=False)
        assert "no file of torch 1.6 or later" in refused(tmp_path / "old")


class Trap:
    """Fails the test if it is ever loaded."""

    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


@pytest.mark.parametrize(
    "pickled",
    [
        pickle.dumps(Trap(), protocol=2),
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02cbuiltins\ngetattr\n.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n.",
        b"\x80\x04\x8c\x05torch\x8c\x0e_utils.os.name\x93.",
    ],
)
def test_nothing_is_run(tmp_path, save_archive, pickled):
    save_archive(tmp_path / "tensor", pickled)
    assert "which is no part of a tensor" in refused(tmp_path / "tensor")


def test_what_rebuilds_tensors_cannot_be_changed(tmp_path, save_archive):
    """BUILD writes attributes of an object; here there are none to write."""
    pickled = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__call__K\x01sb."
    save_archive(tmp_path / "tensor", pickled)
    assert "is damaged" in refused(tmp_path / "tensor")


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((13,), (1,), 0),  # longer than its numbers
        ((12,), (1,), 1),
        ((3, 5), (5, 1), 0),
        ((2,), (1_000_000,), 0),  # far outside
        ((2,), (-1,), 5),  # backwards
        ((-1,), (1,), 0),
        ((2, 2), (1,), 0),
        ((1_000_000,), (0,), 0),  # one number, said to be there a million times
    ],
)
def test_a_layout_outside_of_the_numbers(
    tmp_path, save_archive, describe_tensor, shape, strides, offset
):
    pickled = describe_tensor("FloatStorage", 12, offset, shape, strides)
    save_archive(tmp_path / "tensor", pickled, VALUES.tobytes())
    refused(tmp_path / "tensor")


def test_missing_numbers(tmp_path, save_archive, describe_tensor):
    pickled = describe_tensor("FloatStorage", 12, 0, (4,), (1,))
    save_archive(tmp_path / "short", pickled, VALUES[:4].tobytes())
    assert "numbers are missing" in refused(tmp_path / "short")
    save_archive(tmp_path / "none", pickled)
    assert "is damaged" in refused(tmp_path / "none")


def test_a_key_that_leaves_the_archive(tmp_path, save_archive, describe_tensor):
    pickled = describe_tensor("FloatStorage", 12, 0, (4,), (1,))
    wrong = pickled.replace(b"X\x01\x00\x00\x000", b"X\x07\x00\x00\x00../data")
    save_archive(tmp_path / "tensor", wrong, VALUES.tobytes())
    assert "something other than numbers" in refused(tmp_path / "tensor")


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_pickle_that_ends_early(tmp_path, save_archive, describe_tensor, cut):
    pickled = describe_tensor("FloatStorage", 12, 0, (12,), (1,))
    save_archive(tmp_path / "tensor", pickled[:-cut], VALUES.tobytes())
    refused(tmp_path / "tensor")


def test_other_archives_and_files(tmp_path):
    np.savez(tmp_path / "run.npz", a=VALUES)
    assert "it has no data.pkl" in refused(tmp_path / "run.npz")
    (tmp_path / "text").write_text("1 2 3")
    assert "no file of torch 1.6 or later" in refused(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_tensor(tmp_path / "absent")


def test_a_cut_archive(tmp_path, save_archive, describe_tensor):
    pickled = describe_tensor("FloatStorage", 12, 0, (12,), (1,))
    save_archive(tmp_path / "tensor", pickled, VALUES.tobytes())
    whole = (tmp_path / "tensor").read_bytes()
    broken = io.BytesIO(whole.replace(VALUES.tobytes(), VALUES[::-1].tobytes()))
    (tmp_path / "tensor").write_bytes(broken.getvalue())  # the checksum of the archive is wrong
    assert "Bad CRC-32" in refused(tmp_path / "tensor")


def test_torch_is_not_imported():
    code = (
        "import sys, sgdsim.readers;"
        "sys.exit(bool({'torch', 'jax', 'h5py', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
