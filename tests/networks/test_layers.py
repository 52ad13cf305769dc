"""Forward passes against loops in NumPy and against PyTorch; Lipschitz constants against slopes."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.networks import (
    Activation,
    Architecture,
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    Linear,
    MaxPool,
    Residual,
    Scale,
    mlp,
)
from sgdsim.testing import dense_convolution

pytestmark = pytest.mark.usefixtures("x64", "unoptimised")


def statistics(random, channels):
    return BatchNorm(
        random.normal(size=channels),
        random.uniform(0.5, 2.0, channels),
        random.normal(size=channels),
        random.normal(size=channels),
        1e-3,
    )


def convolutional(random):
    """A network with every kind of layer, on images (2, 9, 8)."""
    normal = functools.partial(random.normal, scale=0.4)
    block = (
        Convolution(normal(size=(4, 4, 3, 3)), None, padding=1),
        statistics(random, 4),
        Activation("relu"),
        Convolution(normal(size=(6, 2, 3, 3)), normal(size=6), stride=2, padding=1, groups=2),
    )
    shortcut = (Convolution(normal(size=(6, 4, 1, 1)), None, stride=2), statistics(random, 6))
    return Architecture(
        (
            Convolution(normal(size=(4, 2, 3, 2)), normal(size=4), padding=((1, 1), (1, 0))),
            statistics(random, 4),
            Activation("tanh"),
            Residual(block, shortcut),
            Activation("relu"),
            MaxPool(2, stride=1, padding=1),
            Scale(-0.5),
            AveragePool((2, 3), stride=(2, 1)),
            Flatten(),
            Linear(normal(size=(7, 54)), normal(size=7)),
            Residual((Linear(normal(size=(7, 7))), Activation("relu"))),
            Linear(normal(size=(3, 7))),
        ),
        (2, 9, 8),
    )


def pooled(images, size, stride, padding, combine):
    """Loop over the windows; the padding never counts."""
    count = [(images.shape[2 + i] + 2 * padding - size[i]) // stride[i] + 1 for i in (0, 1)]
    result = np.zeros((*images.shape[:2], *count))
    for n, c, y, x in itertools.product(*(range(extent) for extent in result.shape)):
        top, left = y * stride[0] - padding, x * stride[1] - padding
        window = images[n, c, max(top, 0) : top + size[0], max(left, 0) : left + size[1]]
        result[n, c, y, x] = combine(window)
    return result


def evaluated(layer, images):
    """One layer of ``convolutional`` in NumPy, with dense matrices and loops."""
    match layer:
        case Linear():
            return images @ layer.weight.T + (0.0 if layer.bias is None else layer.bias)
        case Convolution():
            geometry = layer.geometry(images.shape[1:])
            matrix = dense_convolution(
                np.asarray(layer.weight),
                images.shape[1:],
                geometry.stride,
                geometry.padding,
                geometry.dilation,
                layer.groups,
            )
            outputs = images.reshape(len(images), -1) @ matrix.T
            outputs = outputs.reshape(len(images), layer.weight.shape[0], -1)
            outputs = outputs + (0.0 if layer.bias is None else layer.bias[None, :, None])
            return outputs.reshape(len(images), *geometry.output_shape)
        case BatchNorm():
            mean, variance, weight, bias = (
                np.asarray(vector)[:, None, None]
                for vector in (layer.mean, layer.variance, layer.weight, layer.bias)
            )
            return weight * (images - mean) / np.sqrt(variance + 1e-3) + bias
        case Residual():
            block = functools.reduce(lambda x, part: evaluated(part, x), layer.block, images)
            return block + functools.reduce(
                lambda x, part: evaluated(part, x), layer.shortcut, images
            )
        case MaxPool():
            return pooled(images, (2, 2), (1, 1), 1, np.max)
        case AveragePool():
            return pooled(images, (2, 3), (2, 1), 0, np.mean)
        case Scale():
            return layer.factor * images
        case Flatten():
            return images.reshape(len(images), -1)
    return {"relu": lambda x: np.maximum(x, 0.0), "tanh": np.tanh}[layer.name](images)


def test_forward_pass_against_loops():
    random = np.random.default_rng(0)
    architecture = convolutional(random)
    images = random.normal(size=(3, 2, 9, 8))
    expected = images
    for layer, shape in zip(architecture.layers, architecture.shapes[1:], strict=True):
        expected = evaluated(layer, expected)
        assert expected.shape[1:] == shape
    outputs = np.asarray(architecture(jnp.asarray(images)))
    assert outputs.shape == (3, *architecture.output_shape)
    np.testing.assert_allclose(outputs, expected, rtol=1e-10, atol=1e-11)
    folded = architecture.folded()
    np.testing.assert_allclose(folded(jnp.asarray(images)), expected, rtol=1e-9, atol=1e-10)
    kinds = [type(layer).__name__ for layer in folded.layers]
    assert "BatchNorm" not in kinds


def test_forward_pass_against_torch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.block = nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.LeakyReLU(), nn.Conv2d(8, 8, 1)
            )
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
            self.mean = nn.AvgPool2d(2)
            self.last = nn.Linear(32, 5)

        def forward(self, images):
            images = torch.relu(self.norm(self.first(images)))
            images = torch.tanh(images + self.block(images))
            images = nn.functional.elu(self.mean(self.pool(images)))
            return self.last(nn.functional.hardtanh(images.flatten(1)))

    net = Net().double()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 3, 17, 16, dtype=torch.float64))  # moves the statistics
        net.eval()
        images = torch.randn(4, 3, 17, 16, dtype=torch.float64)
        expected = net(images).numpy()
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    norm = [state[f"norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    block = (
        Convolution(state["block.0.weight"], state["block.0.bias"], padding=2, dilation=2),
        Activation("leaky_relu"),
        Convolution(state["block.2.weight"], state["block.2.bias"]),
    )
    architecture = Architecture(
        (
            Convolution(state["first.weight"], stride=2, padding=1),
            BatchNorm(*norm),
            Activation("relu"),
            Residual(block),
            Activation("tanh"),
            MaxPool(3, stride=2, padding=1),
            AveragePool(2),
            Activation("elu"),
            Flatten(),
            Activation("hard_tanh"),
            Linear(state["last.weight"], state["last.bias"]),
        ),
        (3, 17, 16),
    )
    outputs = architecture(jnp.asarray(images.numpy()))
    np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-10)


def test_signals_with_one_axis_against_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv1d(2, 4, 5, stride=2, padding=2), torch.nn.ReLU(), torch.nn.MaxPool1d(3, 1)
    ).double()
    signals = torch.randn(3, 2, 11, dtype=torch.float64)
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    architecture = Architecture(
        (
            Convolution(state["0.weight"], state["0.bias"], stride=2, padding=2),
            Activation("relu"),
            MaxPool(3, stride=1),
        ),
        (2, 11),
    )
    with torch.no_grad():
        np.testing.assert_allclose(
            architecture(jnp.asarray(signals.numpy())), net(signals).numpy(), rtol=1e-12
        )


def jacobian_norm(architecture, inputs):
    """Largest local slope, a lower bound on the Lipschitz constant."""
    jacobian = jax.vmap(jax.jacrev(lambda x: architecture(x[None])[0]))(inputs)
    return np.linalg.norm(np.asarray(jacobian).reshape(len(inputs), -1, inputs[0].size), 2, (1, 2))


def test_lipschitz_bound_is_above_all_slopes():
    random = np.random.default_rng(4)
    architecture = convolutional(random)
    bound = architecture.lipschitz()
    assert 0.0 < bound.low <= bound.high <= bound.low * 1.6
    slopes = jacobian_norm(architecture, jnp.asarray(random.normal(size=(6, 2, 9, 8))))
    assert slopes.max() <= bound.high
    # Folding a batch norm before taking the norm is tighter than multiplying two norms.
    linear, norm = architecture.layers[:2]
    parts = Architecture((linear,), (2, 9, 8)).lipschitz().low * norm.lipschitz((4, 9, 8)).low
    assert Architecture((linear, norm), (2, 9, 8)).lipschitz().high < 0.95 * parts


def test_lipschitz_bound_of_one_linear_map_is_its_norm():
    random = np.random.default_rng(5)
    weight = random.normal(size=(4, 6))
    architecture = mlp([weight, 2.0 * np.eye(4)], activation="tanh")
    bound = architecture.lipschitz()
    assert bound.low == pytest.approx(2.0 * np.linalg.norm(weight, 2), rel=1e-12)
    assert bound.low <= 2.0 * np.linalg.norm(weight, 2) * (1 + 1e-14)
    assert bound.high >= jacobian_norm(architecture, jnp.zeros((1, 6)))[0]


@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 1), ((2, 3), (1, 2)), (3, (2, 4))])
def test_average_pool_norm_is_that_of_its_matrix(size, stride):
    architecture = Architecture((AveragePool(size, stride),), (2, 7, 8))
    matrix = jax.jacrev(lambda x: architecture(x[None])[0])(jnp.zeros((2, 7, 8)))
    true = np.linalg.norm(np.asarray(matrix).reshape(-1, 2 * 7 * 8), 2)
    bound = architecture.lipschitz()
    assert bound.low == pytest.approx(true, rel=1e-12)
    assert bound.high == pytest.approx(true, rel=1e-12)
    assert bound.low <= true * (1 + 1e-13) <= bound.high * (1 + 2e-13)


def test_average_pool_without_overlap():
    bound = AveragePool(4).lipschitz((3, 8, 8))
    assert bound.high == pytest.approx(1 / 4, rel=1e-13)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "constant"), [(2, None, 0, 1.0), (3, 1, 0, 3.0), (3, 2, 1, 2.0)]
)
def test_max_pool_constant_is_attained(size, stride, padding, constant):
    pool = Architecture((MaxPool(size, stride, padding),), (1, 9, 9))
    bound = pool.lipschitz()
    assert bound.high == pytest.approx(constant)
    # One pixel above all others is the maximum of all windows that it is in.
    slopes = []
    for y, x in itertools.product(range(3, 6), repeat=2):
        peak = np.zeros((1, 1, 9, 9))
        peak[0, 0, y, x] = 1.0
        slopes.append(np.linalg.norm(np.asarray(pool(jnp.asarray(peak)))))
    assert max(slopes) == pytest.approx(constant)


def test_residual_sum_is_attained():
    layer = Residual((Linear(2.0 * np.eye(3)),), (Linear(np.diag([3.0, 1.0, 0.5])),))
    assert layer.lipschitz((3,)).high == pytest.approx(5.0)
    assert Residual((Linear(2.0 * np.eye(3)),)).lipschitz((3,)).high == pytest.approx(3.0)


def test_leaves_are_the_weights():
    architecture = mlp([np.ones((4, 2)), np.ones((1, 4))], [np.ones(4), None])
    assert [leaf.shape for leaf in jax.tree.leaves(architecture)] == [(4, 2), (4,), (1, 4)]
    doubled = jax.tree.map(lambda leaf: 2.0 * leaf, architecture)
    assert isinstance(doubled, Architecture)
    gradient = jax.grad(lambda network: jnp.sum(network(jnp.ones((3, 2)))))(
        jax.tree.map(jnp.asarray, architecture)
    )
    assert float(gradient.layers[0].weight[0, 0]) == pytest.approx(3.0)
    # Bound to a jitted function, the weights are arguments.
    outputs = jax.jit(lambda network, x: network(x))(doubled, jnp.ones((1, 2)))
    assert outputs.item() == pytest.approx(2 * 4 * (2 * 2 + 2))


def test_types_are_promoted():
    inputs = jnp.ones((1, 1, 4), jnp.float32)
    for dtype in (np.float32, np.float64):
        network = Architecture((Convolution(np.ones((1, 1, 2), dtype)), Flatten()), (1, 4))
        outputs = network(inputs)
        assert outputs.dtype == dtype
        assert outputs.tolist() == [[2.0, 2.0, 2.0]]


def test_half_a_batch_norm():
    random = np.random.default_rng(8)
    norm = BatchNorm(random.normal(size=2), np.ones(2))
    images = jnp.asarray(random.normal(size=(2, 2, 3, 3)))
    np.testing.assert_allclose(
        norm(images), (images - norm.mean[None, :, None, None]) / math.sqrt(1 + 1e-5), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ((Linear(np.ones((3, 2))), Linear(np.ones((1, 4)))), (2,), r"Layer 2 \(Linear\).*\(3,\)"),
        ((Linear(np.ones((3, 8))),), (2, 2, 2), "put a Flatten in between"),
        ((Linear(np.ones((3, 2)), np.ones(2)),), (2,), r"bias must have the shape \(3,\)"),
        ((Flatten(), AveragePool(2)), (2, 4, 4), r"Layer 2 \(AveragePool\).*a pool needs"),
        ((MaxPool(2, padding=2),), (2, 4, 4), "allows padding 1, not 2"),
        ((MaxPool(5),), (2, 4, 4), "does not fit into an input"),
        ((BatchNorm(np.zeros(3), np.ones(3)),), (2, 4, 4), "need inputs with 3 channels"),
        ((BatchNorm(np.zeros(2), np.ones(3)),), (2, 4, 4), "must have one length"),
        ((Residual((Linear(np.ones((3, 2))),)),), (2,), "add a projection to the shortcut"),
        ((Residual((Linear(np.ones((3, 4))),)),), (2,), r"Layer 1 \(Residual\).*Layer 1 \(Linear"),
        ((Convolution(np.ones((2, 3, 3, 3))),), (4, 8, 8), "reads 3 channels"),
        ((), (2,), "at least one layer"),
    ],
)
def test_refuses_layers_that_do_not_chain(layers, shape, message):
    with pytest.raises(ValueError, match=message):
        Architecture(layers, shape)


def test_refuses_what_cannot_be_certified():
    with pytest.raises(ValueError, match=r"layer 2 \(Linear\) are not all finite"):
        Architecture((Activation("relu"), Linear(np.full((2, 2), np.inf))), (2,))
    with pytest.raises(ValueError, match="Unknown activation 'gelu'"):
        Activation("gelu")
    with pytest.raises(ValueError, match="factor of a Scale must be finite"):
        Scale(math.inf)
    with pytest.raises(ValueError, match="must be positive"):
        Architecture((BatchNorm(np.zeros(2), -np.ones(2)),), (2,)).lipschitz()
    with pytest.raises(ValueError, match=r"must have the shape \(n, \*\(2,\)\)"):
        mlp([np.ones((1, 2))])(jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="a bias"):
        mlp([np.ones((1, 2))], [])
