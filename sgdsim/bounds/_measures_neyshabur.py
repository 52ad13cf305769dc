r"""Right-hand sides of five norm bounds without constants, as in the code of Neyshabur et al.

With ``d`` layers, inputs of ``m`` numbers and :math:`\alpha=\sqrt{d+\ln m}`. None has the factor
:math:`\|X\|_F/\sqrt n` of the bound behind it, so they compare networks on one set of inputs.
The margin is the 5th percentile.
"""

from collections.abc import Callable

import numpy as np

from sgdsim.bounds._logdomain import log_sum_over_layers
from sgdsim.bounds._reading import Factors, Product, Reading, log_or_nan
from sgdsim.bounds._types import Invariance, Measure

_DROPPED = "constants, additive logarithms, the confidence term and ||X||_F/sqrt n"
_SCALINGS: tuple[Invariance, ...] = ("permutation", "layer_rescaling", "output_scaling")


def _margin(reading: Reading) -> np.ndarray:
    return np.asarray(-reading.log_margin("margin_05"))


def _depth(reading: Reading) -> np.ndarray:
    return np.asarray(0.5 * log_or_nan(reading.layers + np.log(reading.input_size())))


def _one_inf(reading: Reading) -> Factors:
    return {
        "rest": np.sum(log_or_nan(reading.inputs.iterate.one_inf), axis=-1),
        "margin": _margin(reading),
        "dimension": _depth(reading),
        "size": -0.5 * reading.log_size,
    }


def _frobenius(reading: Reading) -> Factors:
    return {
        "frobenius_product": np.sum(reading.log_frobenius(), axis=-1),
        "margin": _margin(reading),
        "dimension": _depth(reading),
        "size": -0.5 * reading.log_size,
    }


def _three(reading: Reading) -> Factors:
    return {
        "rest": reading.measured("log_l3_15_product"),
        "margin": _margin(reading),
        "dimension": _depth(reading),
        "size": -reading.log_size / 3.0,
    }


def _spectral_two_one(reading: Reading) -> Factors:
    ratios = log_or_nan(reading.distances.two_one) - reading.log_spectral()
    return {
        "spectral_product": np.sum(reading.log_spectral(), axis=-1),
        "distance": 1.5 * log_sum_over_layers(2.0 / 3.0 * ratios),
        "margin": _margin(reading),
        "dimension": log_or_nan(np.log(reading.parameters())),
        "size": np.log(reading.log_size) - 0.5 * reading.log_size,
    }


def _spectral_frobenius(reading: Reading) -> Factors:
    units = np.array([rows for rows, _ in reading.inputs.iterate.shapes], np.float64)
    return {
        "spectral_product": np.sum(reading.log_spectral(), axis=-1),
        "distance": 0.5 * reading.log_ratio_sum(np.sqrt(units) * reading.distances.frobenius),
        "margin": _margin(reading),
        "dimension": float(np.log(reading.layers)),
        "size": -0.5 * reading.log_size,
    }


def _measure(
    name: str,
    formula: str,
    source: str,
    factors: Callable[[Reading], Factors],
    needs: tuple[str, ...] = (),
    invariances: tuple[Invariance, ...] = _SCALINGS,
) -> Measure:
    return Measure(
        name=name,
        formula=formula,
        source=f"{source}; form of the code of Neyshabur et al. 2018, generalization-bounds",
        dropped=_DROPPED,
        evaluate=Product(factors, "product", "neyshabur2018", "margin_05"),
        needs=("margin_05", *needs),
        invariances=invariances,
    )


#: Five norm bounds without their constants.
NEYSHABUR_MEASURES = (
    _measure(
        "neyshabur.l1.inf",
        "alpha prod ||A_i||_{1,inf} / (gamma sqrt n)",
        "Bartlett & Mendelson 2002",
        _one_inf,
        invariances=(*_SCALINGS, "width_doubling"),
    ),
    _measure(
        "neyshabur.fro",
        "alpha prod ||A_i||_F / (gamma sqrt n)",
        "Neyshabur, Tomioka & Srebro 2015, arXiv:1503.00036",
        _frobenius,
        invariances=(*_SCALINGS, "width_doubling"),
    ),
    _measure(
        "neyshabur.l3.15",
        "alpha prod ||A_i||_{3,1.5} / (gamma n^(1/3))",
        "Neyshabur, Tomioka & Srebro 2015, arXiv:1503.00036",
        _three,
        ("log_l3_15_product",),
        (*_SCALINGS, "width_doubling"),
    ),
    _measure(
        "neyshabur.spec.l21",
        "ln n ln(parameters) prod ||A_i||_2 "
        "(sum (||A_i - A_i^0||_{2,1}/||A_i||_2)^(2/3))^(3/2) / (gamma sqrt n)",
        "Bartlett, Foster & Telgarsky 2017, arXiv:1706.08498",
        _spectral_two_one,
        ("initial",),
    ),
    _measure(
        "neyshabur.spec.fro",
        "d prod ||A_i||_2 (sum h_i ||A_i - A_i^0||_F^2/||A_i||_2^2)^(1/2) / (gamma sqrt n), "
        "h_i output units",
        "Neyshabur, Bhojanapalli & Srebro 2018, arXiv:1707.09564",
        _spectral_frobenius,
        ("initial",),
    ),
)
