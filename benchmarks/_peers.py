"""Peers written with torch and torchsde: the same networks, rows, penalty and learning rate.

Each is the leanest form that its library allows: no modules, no data loader, updates in place
without a graph, batches drawn as indices, and of one thread or all cores what is faster (small
matrices lose by a second thread). torch and torchsde are never required: without them their
contenders are left out, and a line says so.
"""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from _common import Contender
from _contenders import LEARNING_RATE, Workload, squared_errors

MINIBATCH = "torch, minibatch loop"
STACKED = "torch, minibatch loop, stacked networks"
PER_SAMPLE = "torch.func, per-sample gradients"
SDE = "torchsde, Euler, general noise"


def torch_contenders(
    work: Workload, minibatch_steps: int, dense_steps: int, networks: int
) -> list[Contender]:
    """Contenders of the libraries that are installed; ``networks`` of them in the stacked one."""
    torch = _load("torch", (MINIBATCH, STACKED, PER_SAMPLE, SDE))
    if torch is None:
        return []
    net = TorchNet(torch, work)
    one = minibatch_loop(net, net.copies(), minibatch_steps)
    stacked = minibatch_loop(net, net.copies(networks), minibatch_steps)
    contenders = [
        Contender(MINIBATCH, one, minibatch_steps),
        Contender(STACKED, stacked, minibatch_steps * networks),
        Contender(PER_SAMPLE, per_sample_loop(net, net.copies(), dense_steps), dense_steps),
    ]
    torchsde = _load("torchsde", (SDE,))
    if torchsde is not None:
        # The solver evaluates the coefficients once more to check them: a step more.
        contenders.append(Contender(SDE, _sde(torchsde, net, dense_steps), dense_steps + 1))
    print(f"  torch {torch.__version__}")
    return [_on_best_threads(torch, contender) for contender in contenders]


def _on_best_threads(torch: Any, contender: Contender) -> Contender:
    """Let a contender use one thread or as many as there are cores, what is faster in two calls."""

    def on(threads: int) -> Callable[[], None]:
        def call() -> None:
            torch.set_num_threads(threads)
            contender.call()

        return call

    seconds = {}
    for threads in (1, len(os.sched_getaffinity(0))):
        on(threads)()
        began = time.perf_counter()
        on(threads)()
        seconds[threads] = time.perf_counter() - began
    best = min(seconds, key=seconds.__getitem__)
    print(f"  {contender.name}: threads: {best}")
    return dataclasses.replace(contender, call=on(best))


class TorchNet:
    """Weights, rows and losses of a workload as torch tensors."""

    def __init__(self, torch: Any, work: Workload):
        self.torch = torch
        self.inputs, targets = (
            torch.tensor(np.asarray(leaf)) for leaf in (work.problem.data.inputs, _targets(work))
        )
        self.classes = work.problem.losses is not squared_errors
        self.targets = targets
        self.start = [torch.tensor(np.asarray(weight)) for weight in work.theta.weights]
        self.n, self.batch_size = work.problem.n, work.batch_size
        self.ridge = float(work.problem.ridge)

    def copies(self, *networks: int) -> list[Any]:
        """Weights to be moved in place: of one network, or of as many as said, stacked."""
        return [weight.expand(*networks, *weight.shape).clone() for weight in self.start]

    def loss(self, weights: Sequence[Any], inputs: Any, targets: Any) -> Any:
        """Sum of the losses of rows, of one network or of stacked ones."""
        *hidden, last = weights
        for weight in hidden:
            inputs = self.torch.tanh(inputs @ weight.mT)
        outputs = inputs @ last.mT
        if not self.classes:
            return 0.5 * (outputs - targets).square().sum()
        flat = outputs.reshape(-1, outputs.shape[-1])
        cross_entropy = self.torch.nn.functional.cross_entropy
        return cross_entropy(flat, targets.reshape(-1), reduction="sum")

    def per_sample_gradients(self, weights: Sequence[Any]) -> tuple[Any, ...]:
        """Gradients of the losses of all rows, ``(n, *shape)`` for every weight matrix."""
        gradient = self.torch.func.grad(self.loss)
        each_row = self.torch.func.vmap(gradient, in_dims=(None, 0, 0))
        return each_row(tuple(weights), self.inputs, self.targets)


class MinibatchSDE:
    """The SDE of SGD for torchsde: the noise a matrix of per-sample gradients."""

    noise_type, sde_type = "general", "ito"

    def __init__(self, net: TorchNet):
        self.net = net
        self.scale = math.sqrt(LEARNING_RATE / (net.n * net.batch_size))

    def f_and_g(self, t: Any, theta: Any) -> tuple[Any, Any]:
        """Drift ``(1, p)`` and diffusion ``(1, p, n)``, both of one pass over the rows."""
        net = self.net
        sizes = [weight.numel() for weight in net.start]
        parts = theta[0].split(sizes)
        weights = [part.view_as(start) for part, start in zip(parts, net.start, strict=True)]
        gradients = [g.flatten(1) for g in net.per_sample_gradients(weights)]
        matrix = net.torch.cat(gradients, dim=1)
        mean = matrix.mean(0)
        drift = -(mean + net.ridge * theta[0])
        return drift[None], matrix.sub_(mean).mul_(self.scale).T[None]


def minibatch_loop(net: TorchNet, weights: Sequence[Any], steps: int) -> Callable[[], None]:
    """Loop of SGD steps on weights of one network or of stacked ones."""
    torch, networks = net.torch, weights[0].shape[:-2]
    for weight in weights:
        weight.requires_grad_()
    decay, rate = 1 - LEARNING_RATE * net.ridge, LEARNING_RATE / net.batch_size

    def call() -> None:
        batches = torch.randint(net.n, (steps, *networks, net.batch_size))
        for rows in batches:
            loss = net.loss(weights, net.inputs[rows], net.targets[rows])
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.mul_(decay).sub_(gradient, alpha=rate)

    return call


def per_sample_loop(net: TorchNet, weights: Sequence[Any], steps: int) -> Callable[[], None]:
    """Loop of Gaussian SGD: a random mixture of the gradients of all rows at every step."""
    torch = net.torch
    decay, scale = 1 - LEARNING_RATE * net.ridge, 1 / math.sqrt(net.n * net.batch_size)

    def call() -> None:
        with torch.no_grad():
            for normals in torch.randn(steps, net.n):
                gradients = net.per_sample_gradients(weights)
                mix = (normals - normals.mean()).mul_(scale).add_(1 / net.n)
                for weight, gradient in zip(weights, gradients, strict=True):
                    move = (mix @ gradient.flatten(1)).view_as(weight)
                    weight.mul_(decay).sub_(move, alpha=LEARNING_RATE)

    return call


def _sde(torchsde: Any, net: TorchNet, steps: int) -> Callable[[], None]:
    torch, sde = net.torch, MinibatchSDE(net)
    start = torch.cat([weight.flatten() for weight in net.start])[None]
    times = torch.tensor([0.0, steps * LEARNING_RATE])

    def call() -> None:
        with torch.no_grad():
            torchsde.sdeint(sde, start, times, dt=LEARNING_RATE, method="euler")

    return call


def _targets(work: Workload) -> np.ndarray:
    """Targets of regression; class numbers of classification, which torch takes."""
    targets = np.asarray(work.problem.data.targets)
    return targets if work.problem.losses is squared_errors else targets.argmax(axis=-1)


def _load(library: str, names: Sequence[str]) -> Any:
    """Import an optional library, or say which contenders are left out and return None."""
    try:
        return import_module(library)
    except ImportError:
        print(f"  {library} is not installed, left out: {'; '.join(names)}")
        return None
