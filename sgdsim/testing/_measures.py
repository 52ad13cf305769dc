"""Slow and obvious: measures of one network from its matrices and margins, in plain loops."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

Matrices = Sequence[Float[np.ndarray, "_rows _cols"]]


def plain_measures(
    weights: Matrices,
    initial: Matrices,
    margins: Float[np.ndarray, " n"],
    numbers: Mapping[str, float],
    published: bool = False,
) -> dict[str, float]:
    """Measures of one fully connected network, one line of the literature after another.

    Parameters
    ----------
    weights, initial
        Matrices of the network and of its initialisation.
    margins
        Of the training rows.
    numbers
        What cannot be had from these: ``sigma``, ``sigma_mag``, ``alpha``, ``alpha_mag``, and
        ingredients that are reported as they are.
    published
        With the margins of the published code.
    """
    n, d = len(margins), len(weights)
    ordered = sorted(float(m) for m in margins)
    if published:
        gamma = abs(ordered[n // 10 - 1])
        fifth = float(np.percentile(margins, 5))
    else:
        gamma = ordered[math.ceil(n / 10) - 1]
        fifth = ordered[math.ceil(n / 20) - 1]
    omega = sum(a.size for a in weights)
    spec = [np.linalg.svd(a)[1][0] ** 2 for a in weights]
    fro = [sum(x * x for x in a.ravel()) for a in weights]
    moved = [a - b for a, b in zip(weights, initial, strict=True)]
    dist = [sum(x * x for x in a.ravel()) for a in moved]
    dist_spec = [np.linalg.svd(a)[1][0] ** 2 for a in moved]
    over_margin = -2 * math.log(gamma)
    prod_spec = sum(math.log(s) for s in spec)
    prod_fro = sum(math.log(f) for f in fro)
    path = plain_path_norm(weights, 2) ** 2
    raw = {
        "params": omega,
        "inverse.margin": 1 / gamma**2,
        "log.spec.init.main": prod_spec
        + over_margin
        + math.log(sum(a / s for a, s in zip(dist, spec, strict=True))),
        "log.spec.orig.main": prod_spec
        + over_margin
        + math.log(sum(a / s for a, s in zip(fro, spec, strict=True))),
        "log.prod.of.spec.over.margin": prod_spec + over_margin,
        "log.prod.of.spec": prod_spec,
        "fro.over.spec": sum(a / s for a, s in zip(fro, spec, strict=True)),
        "log.sum.of.spec.over.margin": math.log(d) + (prod_spec + over_margin) / d,
        "log.sum.of.spec": math.log(d) + prod_spec / d,
        "log.prod.of.fro.over.margin": prod_fro + over_margin,
        "log.prod.of.fro": prod_fro,
        "log.sum.of.fro.over.margin": math.log(d) + (prod_fro + over_margin) / d,
        "log.sum.of.fro": math.log(d) + prod_fro / d,
        "fro.dist": sum(dist),
        "dist.spec.init": sum(dist_spec),
        "param.norm": sum(fro),
        "path.norm.over.margin": path / gamma**2,
        "path.norm": path,
        "l2": math.sqrt(sum(fro)),
        "l2.dist": math.sqrt(sum(dist)),
    }
    # For matrices the norms by FFT are the spectral norms.
    for name in list(raw):
        if "spec" in name:
            raw[f"{name}_fft"] = raw[name]
    raw |= _flatness(weights, moved, n, numbers)
    raw["vc.dimension"] = _vc_dimension(weights)
    raw["compression"] = math.exp(numbers["log_compression"]) / gamma**2
    result = {
        name: 0.5 * (v - math.log(n)) if name.startswith("log.") else math.sqrt(v / n)
        for name, v in raw.items()
    }
    result |= _neyshabur(weights, moved, n, fifth)
    return result | {
        "cross.entropy": numbers["cross_entropy"],
        "entropy.of.output": 1 - numbers["output_entropy"],
        "fisher.rao": numbers["fisher_rao"],
        "gradient.noise.epoch.1": numbers["gradient_noise_first_epoch"],
        "gradient.noise.final": numbers["gradient_noise_final"],
        "steps.to.0.1": numbers["steps_to_loss_01"],
        "steps.0.1.to.0.01": numbers["steps_to_loss_001"] - numbers["steps_to_loss_01"],
        "sharpness.average": numbers["average_sharpness"],
        "sharpness.worst": numbers["worst_sharpness"],
    }


def plain_path_norm(weights: Matrices, power: int) -> float:
    """Path norm by going through all paths, one unit of every layer after another."""
    widths = [weights[0].shape[1], *(a.shape[0] for a in weights)]
    total = 0.0
    for path in itertools.product(*(range(width) for width in widths)):
        product = 1.0
        for matrix, (below, above) in zip(weights, itertools.pairwise(path), strict=True):
            product *= abs(matrix[above, below]) ** power
        total += product
    return total ** (1 / power)


def _flatness(
    weights: Matrices, moved: Matrices, n: int, numbers: Mapping[str, float]
) -> dict[str, float]:
    """PAC-Bayes measures and their worst-case twins."""
    w = np.concatenate([a.ravel() for a in weights])
    delta = np.concatenate([a.ravel() for a in moved])
    omega, result = len(w), {}
    for prefix, scale, weight, shift in (
        ("pacbayes", numbers["sigma"], 1.0, 0.0),
        ("pacbayes.mag", numbers["sigma_mag"], None, 1.0),
        ("sharpness", numbers["alpha"], math.log(2 * omega), 0.0),
        ("sharpness.mag", numbers["alpha_mag"], None, 4 * math.log(2 * omega)),
    ):
        result[f"{prefix}.flatness"] = 1 / scale**2
        for suffix, vector in (("init", delta), ("orig", w)):
            square = float(vector @ vector)
            if weight is not None:
                v = square * weight / (4 * scale**2)
            else:
                above = 1e-6 + (scale**2 + shift) * square / omega
                v = 0.25 * sum(math.log(above / (1e-6 + scale**2 * x * x)) for x in delta)
            result[f"{prefix}.{suffix}"] = v + math.log(n / scale) + 10
    return result


def _vc_dimension(weights: Matrices) -> float:
    effective = regions = counted = 0
    for layer, matrix in enumerate(weights, start=1):
        counted += matrix.size
        effective += counted
        regions += layer * matrix.shape[0]
    return len(weights) + effective * math.log2(
        4 * math.e * regions * math.log2(2 * math.e * regions)
    )


def _neyshabur(weights: Matrices, moved: Matrices, n: int, gamma: float) -> dict[str, float]:
    """Bounds of Neyshabur's code, whose norms are not squared."""
    d = len(weights)
    alpha = math.sqrt(d + math.log(weights[0].shape[1]))
    spec = [np.linalg.svd(a)[1][0] for a in weights]
    product = math.prod(spec) / gamma
    ratios = [sum(np.linalg.norm(row) for row in a) / s for a, s in zip(moved, spec, strict=True)]
    squares = [len(a) * np.sum(a**2) / s**2 for a, s in zip(moved, spec, strict=True)]
    largest = [max(sum(abs(x) for x in row) for row in a) for a in weights]
    three = [
        sum(sum(abs(x) ** 3 for x in row) ** (1.5 / 3) for row in a) ** (1 / 1.5) for a in weights
    ]
    parameters = sum(a.size for a in weights)
    return {
        "neyshabur.l1.inf": alpha * math.prod(largest) / gamma / math.sqrt(n),
        "neyshabur.fro": alpha
        * math.prod(math.sqrt(np.sum(a**2)) for a in weights)
        / gamma
        / math.sqrt(n),
        "neyshabur.l3.15": alpha * math.prod(three) / gamma / n ** (1 / 3),
        "neyshabur.spec.l21": math.log(n)
        * math.log(parameters)
        * product
        * sum(r ** (2 / 3) for r in ratios) ** 1.5
        / math.sqrt(n),
        "neyshabur.spec.fro": d * product * math.sqrt(sum(squares)) / math.sqrt(n),
    }
