"""Files of weights: what is read, and what is refused because it could run code."""

import pickle
import sys

import numpy as np
import pytest

from sgdsim.networks import Linear, build_architecture, layers_of, read_weights

WEIGHTS = {
    "first.weight": np.arange(6.0).reshape(2, 3),
    "first.bias": np.ones(2, np.float32),
    "norm.num_batches_tracked": np.array(7),
}


def test_npz(tmp_path):
    np.savez(tmp_path / "weights.npz", **WEIGHTS)
    read = read_weights(str(tmp_path / "weights.npz"))
    assert list(read) == list(WEIGHTS)
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(WEIGHTS, tmp_path / "weights.safetensors")
    read = read_weights(tmp_path / "weights.safetensors")
    assert read.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], array)


def test_safetensors_of_a_torch_model(tmp_path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    model = torch.nn.Linear(3, 2)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    read = read_weights(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(read["weight"], model.weight.detach().numpy())


def test_missing_library_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r'pip install "sgdsim\[safetensors\]"'):
        read_weights(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".npy"])
def test_other_formats_are_refused_unread(tmp_path, suffix):
    with pytest.raises(ValueError, match=r"safetensors\.torch\.save_file\(model\.state_dict"):
        read_weights(tmp_path / f"weights{suffix}")


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_python_objects_are_refused_and_not_run(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.array([Boom()], dtype=object))
    with pytest.raises(ValueError, match="holds Python objects"):
        read_weights(tmp_path / "weights.npz")
    (tmp_path / "pickled.npz").write_bytes(pickle.dumps(Boom()))
    with pytest.raises(ValueError, match=r"is damaged or is no \.npz archive"):
        read_weights(tmp_path / "pickled.npz")


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".npz":
        np.savez(path, **WEIGHTS)
    else:
        pytest.importorskip("safetensors.numpy").save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(path)


def test_bfloat16_becomes_float32(tmp_path):
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    matrix = torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)
    save_file({"a.weight": matrix}, tmp_path / "weights.safetensors")
    read = read_weights(tmp_path / "weights.safetensors")
    [linear] = build_architecture(read, layers_of(read, "relu")).layers
    assert isinstance(linear, Linear)
    assert linear.weight.dtype == np.float32
    np.testing.assert_array_equal(linear.weight, [[1.5, -2.0]])


def test_no_file_and_no_arrays(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^There is no file .*weights[.]npz[.]$"):
        read_weights(tmp_path / "weights.npz")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(ValueError, match="holds no arrays"):
        read_weights(tmp_path / "empty.npz")
