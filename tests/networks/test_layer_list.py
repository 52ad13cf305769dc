"""Layer lists: what they build, and one clear sentence for every mistake."""

import json
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.networks import (
    ACTIVATIONS,
    BatchNorm,
    Convolution,
    LayerList,
    Linear,
    Residual,
    build_architecture,
    layers_of,
    read_layers,
)
from sgdsim.networks._layer_tables import KINDS

LIST = """
input = [3, 8, 8]
[[layer]]
kind = "convolution"
weight = "features.0.weight"
bias = "features.0.bias"
stride = 2
padding = [[1, 0], [1, 0]]
[[layer]]
kind = "batch_norm"
mean = "features.1.running_mean"
variance = "features.1.running_var"
epsilon = 1e-3
[[layer]]
kind = "relu"
[[layer]]
kind = "residual"
[[layer.block]]
kind = "convolution"
weight = "block.weight"
padding = "SAME"
groups = 2
[[layer.block]]
kind = "scale"
factor = 0.5
[[layer.shortcut]]
kind = "convolution"
weight = "projection.weight"
[[layer]]
kind = "max_pool"
size = 3
stride = 1
padding = 1
[[layer]]
kind = "average_pool"
size = [2, 2]
[[layer]]
kind = "flatten"
[[layer]]
kind = "linear"
weight = "last.weight"
"""


def weights():
    random = np.random.default_rng(0)
    return {
        "features.0.weight": random.normal(size=(4, 3, 3, 3)),
        "features.0.bias": random.normal(size=4),
        "features.1.running_mean": random.normal(size=4),
        "features.1.running_var": random.uniform(0.5, 1.5, 4),
        "features.1.num_batches_tracked": np.array(12),
        "block.weight": random.normal(size=(6, 2, 3, 3)),
        "projection.weight": random.normal(size=(6, 4, 1, 1)),
        "last.weight": random.normal(size=(5, 24)).astype(np.float16),
    }


def written(tmp_path, text, name="layers.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_builds_what_the_list_says(tmp_path):
    layers = read_layers(written(tmp_path, LIST))
    architecture = build_architecture(weights(), layers)
    assert architecture.shapes == (
        *((3, 8, 8), (4, 4, 4), (4, 4, 4), (4, 4, 4), (6, 4, 4)),
        *((6, 4, 4), (6, 2, 2), (24,), (5,)),
    )
    convolution, norm, _, residual, *_, last = architecture.layers
    assert isinstance(convolution, Convolution)
    assert convolution.padding == ((1, 0), (1, 0))
    assert convolution.stride == 2
    assert isinstance(norm, BatchNorm)
    assert norm.epsilon == 1e-3
    assert isinstance(residual, Residual)
    assert [type(layer).__name__ for layer in residual.block] == ["Convolution", "Scale"]
    assert isinstance(last, Linear)
    assert last.weight.dtype == np.float32
    np.testing.assert_array_equal(convolution.weight, weights()["features.0.weight"])
    assert architecture(jnp.ones((2, 3, 8, 8))).shape == (2, 5)


def test_json_and_toml_are_the_same(tmp_path):
    table = json.dumps(tomllib.loads(LIST))
    assert read_layers(written(tmp_path, table, "layers.json")) == read_layers(
        written(tmp_path, LIST)
    )


def test_every_activation_is_a_kind(tmp_path):
    assert set(ACTIVATIONS) < set(KINDS)
    for name in ACTIVATIONS:
        layers = read_layers(written(tmp_path, f'input = [2]\n[[layer]]\nkind = "{name}"'))
        inputs = jnp.array([[-0.5, 2.0]])
        np.testing.assert_array_equal(
            build_architecture({}, layers)(inputs), ACTIVATIONS[name](inputs)
        )


def test_guess_for_a_fully_connected_network():
    random = np.random.default_rng(1)
    state = {
        "0.weight": random.normal(size=(4, 3)),
        "0.bias": random.normal(size=4),
        "2.weight": random.normal(size=(2, 4)),
    }
    architecture = build_architecture(state, layers_of(state, "tanh"))
    inputs = random.normal(size=(5, 3))
    expected = np.tanh(inputs @ state["0.weight"].T + state["0.bias"]) @ state["2.weight"].T
    with jax.enable_x64(True):
        np.testing.assert_allclose(architecture(jnp.asarray(inputs)), expected, rtol=1e-12)


def test_guess_for_a_torch_model():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    inputs = torch.randn(7, 3)
    with torch.no_grad():
        expected = model(inputs).numpy()
    architecture = build_architecture(state, layers_of(state, "relu"))
    np.testing.assert_allclose(architecture(jnp.asarray(inputs.numpy())), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a.kernel": np.ones((2, 2))}, r"got a\.kernel\. Write a layer list"),
        ({"a.weight": np.ones((2, 2, 3))}, r"got a\.weight"),
        ({"a.weight": np.ones((2, 3)), "b.bias": np.ones(2)}, r"got b\.bias"),
        ({"a.weight": np.ones((2, 3)), "b.weight": np.ones((2, 3))}, r"b\.weight .*cannot follow"),
        ({}, "Layers are guessed only for"),
    ],
)
def test_guess_refuses_what_is_not_plain(state, message):
    with pytest.raises(ValueError, match=message):
        layers_of(state, "relu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "relu"', 'kind = "rellu"'), "layer 3 has the unknown kind 'rellu'.*'relu'"),
        (('kind = "relu"', 'kind = "7"'), "unknown kind '7'; known are linear"),
        (('kind = "relu"\n', ""), "layer 3 has no kind"),
        (("stride = 2", "strid = 2"), "layer 1 has the unknown key 'strid'.*'stride'"),
        (("groups = 2", "group = 2"), "layer 4, block 1 has the unknown key 'group'.*'groups'"),
        (("input =", "inputs ="), "lacks the key 'input'"),
        (('weight = "last.weight"', ""), "layer 8 lacks the key 'weight'"),
        (("stride = 2", 'stride = "2"'), "layer 1, key stride.* is wrong"),
        (("size = [2, 2]", "size = 0"), "layer 6, key size.* is wrong"),
        (("factor = 0.5", "factor = nan"), "layer 4, block 2, key factor is wrong.*finite"),
        (("input = [3, 8, 8]", "input = []"), "key input is wrong"),
        (("[[layer]]", "[layer"), "cannot be read"),
    ],
)
def test_mistakes_in_a_list(tmp_path, change, message):
    old, new = change
    assert old in LIST
    path = written(tmp_path, LIST.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        read_layers(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("layers.toml")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a \.toml or a \.json file"):
        read_layers(tmp_path / "layers.py")
    with pytest.raises(FileNotFoundError, match=r"^There is no file .*[.]toml[.]$"):
        read_layers(tmp_path / "layers.toml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_layers(written(tmp_path, "{", "layers.json"))
    for name in ("layers.toml", "layers.json"):
        (tmp_path / name).write_bytes(LIST.encode("utf-16"))
        with pytest.raises(ValueError, match=f"^{name} is no text in UTF-8; save it in") as caught:
            read_layers(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"last.weight": None, "lost.weight": np.ones((5, 24))}, "'last.weight'; the nearest"),
        ({"extra.weight": np.ones(3)}, r"does not use the weights extra\.weight"),
        ({"last.weight": np.full((5, 24), np.nan)}, "'last.weight' are not all finite"),
        ({"last.weight": np.ones((5, 24), int)}, "'last.weight' must be real numbers"),
        ({"last.weight": np.ones((5, 20))}, r"Layer 8 \(Linear\) cannot take the shape \(24,\)"),
        ({"block.weight": np.ones((6, 2, 3, 3, 1))}, "'block.weight' must have 3 or 4 axes"),
        ({"features.0.bias": np.ones((4, 1))}, "'features.0.bias' must have 1 axes"),
        ({"features.1.running_var": np.ones(3)}, "must have one length"),
    ],
)
def test_mistakes_in_the_weights(tmp_path, change, message):
    state = {name: array for name, array in (weights() | change).items() if array is not None}
    with pytest.raises(ValueError, match=message) as caught:
        build_architecture(state, read_layers(written(tmp_path, LIST)))
    assert "\n" not in str(caught.value)


def test_a_weight_may_be_used_twice():
    table = {"kind": "linear", "weight": "a"}
    layers = LayerList.model_validate({"input": [2], "layer": [table, table]})
    architecture = build_architecture({"a": 2.0 * np.eye(2)}, layers)
    assert architecture.lipschitz().high == pytest.approx(4.0)
