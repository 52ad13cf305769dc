r"""Measures from the perturbations that a network tolerates, as in Jiang et al. 2020.

``pacbayes.*`` read the scale :math:`\sigma` of normal noise, ``sharpness.*`` the half width
:math:`\alpha` of a box searched by gradient ascent, at which the training accuracy falls by 0.1;
:math:`\sigma'` and :math:`\alpha'` are relative to the size of every weight. Reported is
:math:`\sqrt{V/n}`. With :math:`\omega` parameters and ``R`` the squared norm of the parameters
(``orig``) or their squared distance from the initialisation (``init``), ``V`` is

* :math:`R/(4\sigma^2)+\ln(n/\sigma)+10`, for the box
  :math:`R\ln(2\omega)/(4\alpha^2)+\ln(n/\alpha)+10`;
* :math:`\frac14\sum_i\ln\frac{\epsilon^2+(\sigma'^2+c)R/\omega}
  {\epsilon^2+\sigma'^2(w_i-w_i^0)^2}+\ln(n/\sigma')+10` with :math:`\epsilon=10^{-3}`, ``c = 1``,
  for the box :math:`\alpha'` in place of :math:`\sigma'` and :math:`c=4\ln(2\omega)`.
"""

from collections.abc import Callable

import numpy as np

from sgdsim.bounds._measures_norms import JIANG
from sgdsim.bounds._reading import Compat, Factors, Product, Reading, log_or_nan
from sgdsim.bounds._types import Measure

#: Noise of weights that are zero, in the measures that follow the size of the weights.
MAGNITUDE_FLOOR = 1e-3

_SquaredNorm = Callable[[Reading], np.ndarray]
_DROPPED = "the training loss, the union over scales and the constants of the square root"


def _divergence(
    tolerance: str, squared_norm: _SquaredNorm, box: bool
) -> Callable[[Reading], Factors]:
    """Noise of one scale for all weights."""

    def factors(reading: Reading) -> Factors:
        scale = reading.measured(tolerance)
        weight = log_or_nan(2.0 * reading.parameters()) if box else 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            value = squared_norm(reading) * weight / (4.0 * scale**2) + _rest(reading, scale)
        return {"divergence": log_or_nan(np.asarray(value))}

    return factors


def _magnitude_divergence(
    tolerance: str, log_mean: str, squared_norm: _SquaredNorm, box: bool
) -> Callable[[Reading], Factors]:
    """Noise whose scale follows the size of the weights."""

    def factors(reading: Reading) -> Factors:
        scale = reading.measured(tolerance)
        count = reading.parameters()
        shift = 4.0 * log_or_nan(2.0 * count) if box else 1.0
        spread = MAGNITUDE_FLOOR**2 + (scale**2 + shift) * squared_norm(reading) / count
        ratio = count * (log_or_nan(np.asarray(spread)) - reading.measured(log_mean))
        return {"divergence": log_or_nan(np.asarray(0.25 * ratio + _rest(reading, scale)))}

    return factors


def _rest(reading: Reading, scale: np.ndarray) -> np.ndarray:
    return np.asarray(reading.log_size - log_or_nan(scale) + 10.0)


def _flatness(tolerance: str) -> Callable[[Reading], Factors]:
    return lambda reading: {"divergence": -2.0 * log_or_nan(reading.measured(tolerance))}


def _measures(
    prefix: str, tolerance: str, equations: tuple[int, int, int], log_mean: str | None = None
) -> tuple[Measure, ...]:
    """Make the three measures of one kind of perturbation: init, orig and flatness."""
    box = prefix.startswith("sharpness")
    published: Compat | None = None if box else "dziugaite2020"
    symbol = ("alpha" if box else "sigma") + ("'" if log_mean else "")
    measures = []
    norms: tuple[tuple[str, str, _SquaredNorm], ...] = (
        ("init", "||w - w0||^2", Reading.squared_distance),
        ("orig", "||w||^2", Reading.squared_norm),
    )
    for (suffix, text, squared_norm), equation in zip(norms, equations[:2], strict=True):
        if log_mean:
            shift = "4 ln(2 omega)" if box else "1"
            formula = (
                f"1/4 sum_i ln[(e^2 + ({symbol}^2 + {shift}) {text}/omega)"
                f"/(e^2 + {symbol}^2 (w_i - w0_i)^2)] + ln(n/{symbol}) + 10"
            )
            factors = _magnitude_divergence(tolerance, log_mean, squared_norm, box)
            needs = ("initial", tolerance, log_mean)
        else:
            weight = " ln(2 omega)" if box else ""
            formula = f"{text}{weight}/(4 {symbol}^2) + ln(n/{symbol}) + 10"
            factors = _divergence(tolerance, squared_norm, box)
            needs = ("initial", tolerance) if suffix == "init" else (tolerance,)
        source = f"{JIANG} {equation}"
        if box and log_mean:
            source += "; alpha' = 2 sqrt(ln(2 omega)) sigma' in pacbayes.mag"
        measures.append(
            Measure(
                name=f"{prefix}.{suffix}",
                formula=f"sqrt(V/n), V = {formula}",
                source=source,
                dropped=_DROPPED,
                evaluate=Product(factors, "root", published),
                needs=needs,
            )
        )
    measures.append(
        Measure(
            name=f"{prefix}.flatness",
            formula=f"1/({symbol} sqrt n)",
            source=f"{JIANG} {equations[2]}",
            dropped="the norm of the weights, all logarithms and constants",
            evaluate=Product(_flatness(tolerance), "root", published),
            needs=(tolerance,),
        )
    )
    return tuple(measures)


#: Measures from the perturbations that a network tolerates.
FLATNESS_MEASURES = (
    *_measures("pacbayes", "noise_tolerance", (48, 49, 53)),
    *_measures("pacbayes.mag", "magnitude_tolerance", (56, 57, 61), "magnitude_log_mean"),
    *_measures("sharpness", "ascent_tolerance", (51, 52, 54)),
    *_measures(
        "sharpness.mag",
        "magnitude_ascent_tolerance",
        (59, 60, 62),
        "magnitude_ascent_log_mean",
    ),
)
