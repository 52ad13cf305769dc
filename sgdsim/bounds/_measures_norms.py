r"""Measures from norms, margins and counts, as in Jiang et al. 2020 and Dziugaite et al. 2020.

With :math:`s_i=\|A_i\|_2^2`, :math:`f_i=\|A_i\|_F^2`, :math:`D_i=\|A_i-A_i^0\|_F^2` and the margin
:math:`\gamma`, the raw numbers ``V`` are products of powers of these. Reported is
:math:`\sqrt{V/n}`, or its logarithm for the names ``log.*``.
"""

from collections.abc import Callable

import numpy as np

from sgdsim.bounds._reading import Factors, Product, Reading, log_or_nan
from sgdsim.bounds._types import Invariance, Measure

JIANG = "Jiang et al. 2020, arXiv:1912.02178, Eq."
_CODE = "; reported as in Dziugaite et al. 2020, arXiv:2010.11924"
_DROPPED = "all constants, logarithms, the confidence term and the norm of the inputs"
#: Rescalings of whole layers and copies of all units.
_LAYERWISE: tuple[Invariance, ...] = ("permutation", "width_doubling", "layer_rescaling")
_WITH_MARGIN: tuple[Invariance, ...] = (*_LAYERWISE, "output_scaling")


def _spectral(reading: Reading) -> Factors:
    return {"spectral_product": 2.0 * np.sum(reading.log_spectral(), axis=-1)}


def _spectral_fft(reading: Reading) -> Factors:
    return {"spectral_product": 2.0 * reading.measured("log_spectral_fft")}


def _frobenius(reading: Reading) -> Factors:
    return {"frobenius_product": 2.0 * np.sum(reading.log_frobenius(), axis=-1)}


def _margin(reading: Reading) -> Factors:
    return {"margin": -2.0 * reading.log_margin("margin_10")}


def _geometric_mean(product: Callable[[Reading], Factors]) -> Callable[[Reading], Factors]:
    """Take the geometric mean over the layers, times their number."""

    def factors(reading: Reading) -> Factors:
        layers = reading.layers
        means = {name: value / layers for name, value in product(reading).items()}
        return {**means, "dimension": float(np.log(layers))}

    return factors


def _joined(*parts: Callable[[Reading], Factors]) -> Callable[[Reading], Factors]:
    """Multiply what has different factors."""

    def factors(reading: Reading) -> Factors:
        return {name: value for part in parts for name, value in part(reading).items()}

    return factors


def _moved(reading: Reading) -> Factors:
    return {"distance": reading.log_ratio_sum(reading.distances.frobenius)}


def _stable_ranks(reading: Reading) -> Factors:
    return {"distance": reading.log_ratio_sum(reading.inputs.iterate.frobenius)}


def _logarithm_of(name: str, factor: str = "distance") -> Callable[[Reading], Factors]:
    def factors(reading: Reading) -> Factors:
        return {factor: log_or_nan(reading.measured(name))}

    return factors


def _path(reading: Reading) -> Factors:
    return {"path": 2.0 * log_or_nan(reading.measured("path_norm_2"))}


def _log_norm(reading: Reading) -> np.ndarray:
    return np.asarray(0.5 * log_or_nan(np.sum(reading.inputs.iterate.frobenius**2, axis=-1)))


def _log_distance(reading: Reading) -> np.ndarray:
    return np.asarray(0.5 * log_or_nan(np.sum(reading.distances.frobenius**2, axis=-1)))


def _measure(
    name: str,
    formula: str,
    equation: str,
    factors: Callable[[Reading], Factors],
    needs: tuple[str, ...] = (),
    invariances: tuple[Invariance, ...] = ("permutation",),
    dropped: str = _DROPPED,
) -> Measure:
    report = "logarithm" if name.startswith("log.") else "root"
    reported = "1/2 ln(V/n)" if report == "logarithm" else "sqrt(V/n)"
    return Measure(
        name=name,
        formula=f"{reported}, V = {formula}",
        source=f"{JIANG} {equation}{_CODE}",
        dropped=dropped,
        evaluate=Product(factors, report, "dziugaite2020"),
        needs=needs,
        invariances=invariances,
    )


_FFT = "_fft"
_MEAN = "d times the geometric mean over the d layers"


def _spectral_family(suffix: str) -> tuple[Measure, ...]:
    """Spectral measures, with the norms of the layers or with those by FFT."""
    fft = suffix == _FFT
    product = _spectral_fft if fft else _spectral
    product_needs = ("log_spectral_fft",) if fft else ()
    moved = _logarithm_of("distance_over_spectral_fft") if fft else _moved
    moved_needs = ("distance_over_spectral_fft",) if fft else ("initial",)
    ranks = _logarithm_of("frobenius_over_spectral_fft") if fft else _stable_ranks
    ranks_needs = ("frobenius_over_spectral_fft",) if fft else ()
    norms = " (norms by FFT)" if fft else ""
    margin = ("margin_10",)
    return (
        _measure(
            f"log.spec.init.main{suffix}",
            f"prod s_i sum (D_i/s_i) / gamma^2{norms}",
            "29",
            _joined(product, _margin, moved),
            (*margin, *product_needs, *moved_needs),
            _WITH_MARGIN,
        ),
        _measure(
            f"log.spec.orig.main{suffix}",
            f"prod s_i sum (f_i/s_i) / gamma^2{norms}",
            "30",
            _joined(product, _margin, ranks),
            (*margin, *product_needs, *ranks_needs),
            _WITH_MARGIN,
        ),
        _measure(
            f"log.prod.of.spec.over.margin{suffix}",
            f"prod s_i / gamma^2{norms}",
            "31",
            _joined(product, _margin),
            (*margin, *product_needs),
            _WITH_MARGIN,
        ),
        _measure(
            f"log.prod.of.spec{suffix}",
            f"prod s_i{norms}",
            "32",
            product,
            product_needs,
            _LAYERWISE,
        ),
        _measure(
            f"fro.over.spec{suffix}",
            f"sum f_i/s_i{norms}",
            "33",
            ranks,
            ranks_needs,
            _WITH_MARGIN,
        ),
        _measure(
            f"log.sum.of.spec.over.margin{suffix}",
            f"{_MEAN} of prod s_i / gamma^2{norms}",
            "34",
            _geometric_mean(_joined(product, _margin)),
            (*margin, *product_needs),
            _WITH_MARGIN,
        ),
        _measure(
            f"log.sum.of.spec{suffix}",
            f"{_MEAN} of prod s_i{norms}",
            "35",
            _geometric_mean(product),
            product_needs,
            _LAYERWISE,
        ),
    )


def _spectral_distance(reading: Reading) -> Factors:
    moved = np.sum(reading.distances.spectral_high**2, axis=-1)
    return {"distance": log_or_nan(np.asarray(moved))}


#: Measures from norms, margins and counts.
NORM_MEASURES = (
    _measure(
        "params",
        "number of parameters, biases included",
        "20",
        lambda reading: {"dimension": log_or_nan(reading.parameters())},
        invariances=("permutation", "layer_rescaling", "node_rescaling", "output_scaling"),
    ),
    _measure(
        "inverse.margin",
        "1/gamma^2",
        "22",
        _margin,
        ("margin_10",),
        ("permutation", "width_doubling", "layer_rescaling", "node_rescaling"),
        "all norms, constants and logarithms",
    ),
    *_spectral_family(""),
    _measure(
        "log.prod.of.fro.over.margin",
        "prod f_i / gamma^2",
        "36",
        _joined(_frobenius, _margin),
        ("margin_10",),
        _WITH_MARGIN,
    ),
    _measure("log.prod.of.fro", "prod f_i", "37", _frobenius, (), _LAYERWISE),
    _measure(
        "log.sum.of.fro.over.margin",
        f"{_MEAN} of prod f_i / gamma^2",
        "38",
        _geometric_mean(_joined(_frobenius, _margin)),
        ("margin_10",),
        _WITH_MARGIN,
    ),
    _measure(
        "log.sum.of.fro", f"{_MEAN} of prod f_i", "39", _geometric_mean(_frobenius), (), _LAYERWISE
    ),
    _measure(
        "fro.dist",
        "sum D_i",
        "40",
        lambda reading: {"distance": 2.0 * _log_distance(reading)},
        ("initial",),
    ),
    _measure("dist.spec.init", "sum ||A_i - A_i^0||_2^2", "41", _spectral_distance, ("initial",)),
    _measure("param.norm", "sum f_i", "42", lambda reading: {"distance": 2.0 * _log_norm(reading)}),
    _measure(
        "path.norm.over.margin",
        "(sum over paths of the squared product of weights) / gamma^2",
        "43",
        _joined(_path, _margin),
        ("path_norm_2", "margin_10"),
        ("permutation", "layer_rescaling", "node_rescaling", "output_scaling"),
    ),
    _measure(
        "path.norm",
        "sum over paths of the squared product of weights",
        "44",
        _path,
        ("path_norm_2",),
        ("permutation", "layer_rescaling", "node_rescaling"),
    ),
    _measure(
        "l2",
        "||w||, of the weights",
        "42 without the square",
        lambda reading: {"distance": _log_norm(reading)},
    ),
    _measure(
        "l2.dist",
        "||w - w0||, of the weights",
        "40 without the square",
        lambda reading: {"distance": _log_distance(reading)},
        ("initial",),
    ),
    *_spectral_family(_FFT),
    _measure(
        "dist.spec.init_fft",
        "sum ||A_i - A_i^0||_2^2 (norms by FFT)",
        "41",
        _logarithm_of("spectral_distance_fft"),
        ("spectral_distance_fft",),
    ),
)
