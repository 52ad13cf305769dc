"""The throughput script runs with and without torch; its peers simulate the same process."""

import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # This process has its devices; the script must not ask for others.
    monkeypatch.setattr("sgdsim.ensemble.use_host_devices", lambda devices="auto": None)
    return importlib.import_module("throughput")


@pytest.fixture
def tiny(throughput, monkeypatch):
    """Both networks shrunk to almost nothing."""
    contenders = importlib.import_module("_contenders")
    shapes = {
        "small": (contenders.squared_errors, (3, 4, 1), (12, 4)),
        "large": (contenders.cross_entropies, (3, 4, 2), (12, 4)),
    }
    works = {name: contenders._workload(name, *shape, (1, 20, 2)) for name, shape in shapes.items()}
    for name, work in works.items():
        monkeypatch.setattr(contenders, f"{name}_workload", lambda work=work: work)
    return works


def without_torch(name: str):
    if name.startswith("torch"):
        raise ImportError(name)
    return importlib.import_module(name)


def test_without_torch_its_contenders_are_left_out_with_a_message(
    throughput, tiny, monkeypatch, capsys
):
    peers = importlib.import_module("_peers")
    monkeypatch.setattr(peers, "import_module", without_torch)
    throughput.main(["--quick", "--only", "small"])
    printed = capsys.readouterr().out
    assert re.search(r"torch is not installed, left out: torch, minibatch loop; ", printed)
    for name in (throughput.ENSEMBLE, throughput.SINGLE, "bare JAX scan, minibatch"):
        assert re.search(rf"^  {re.escape(name)} +[\d.]+ +[\d.]+ ", printed, re.MULTILINE)
    assert "| small: torch" not in printed
    assert str(BENCHMARKS) not in printed


@pytest.mark.parametrize("name", ["small", "large"])
def test_with_torch_every_target_has_its_row(throughput, tiny, capsys, name):
    pytest.importorskip("torchsde")
    throughput.main(["--quick", "--only", name])
    printed = capsys.readouterr().out
    peers = re.findall(rf"^\| {name}: (.*?) +\| (?:at least \d+|none) ", printed, re.MULTILINE)
    assert peers == [
        "torch, minibatch loop",
        "torch.func, per-sample gradients",
        "torchsde, Euler, general noise",
    ]


@pytest.mark.parametrize("name", ["small", "large"])
def test_the_sde_of_torchsde_has_the_drift_and_noise_of_this_library(throughput, tiny, name):
    torch = pytest.importorskip("torch")
    peers, contenders = importlib.import_module("_peers"), importlib.import_module("_contenders")
    work = tiny[name]
    net = peers.TorchNet(torch, work)
    start = torch.cat([weight.flatten() for weight in net.start])[None]
    drift, noise = (part[0].numpy() for part in peers.MinibatchSDE(net).f_and_g(0.0, start))

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    problem, theta = work.problem, work.theta
    np.testing.assert_allclose(drift, -flat(jax.grad(problem.empirical_risk)(theta)), atol=1e-6)
    jacobian = jax.jacobian(problem.per_sample_losses)(theta)
    rows = np.concatenate([np.reshape(a, (problem.n, -1)) for a in jax.tree.leaves(jacobian)], 1)
    covariance = np.cov(rows.T, ddof=0) / work.batch_size
    np.testing.assert_allclose(
        noise @ noise.T, contenders.LEARNING_RATE * covariance, atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["small", "large"])
def test_torch_loops_descend_the_risk(throughput, tiny, name):
    torch = pytest.importorskip("torch")
    peers = importlib.import_module("_peers")
    net = peers.TorchNet(torch, tiny[name])

    structure = jax.tree.structure(tiny[name].theta)

    def risk(weights):
        leaves = [jnp.asarray(weight.detach().numpy()) for weight in weights]
        return float(tiny[name].problem.empirical_risk(jax.tree.unflatten(structure, leaves)))

    for make in (peers.minibatch_loop, peers.per_sample_loop):
        weights = net.copies()
        make(net, weights, 100)()
        assert risk(weights) < 0.9 * risk(net.start)
