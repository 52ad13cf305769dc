r"""How a measure reads its ingredients, and how its number is reported.

A *recipe* takes a ``Reading`` and gives the logarithms of the factors of a raw number ``V``, or a
plain number. What is reported of ``V`` with ``n`` training rows is

* ``root``: :math:`\sqrt{V/n}`;
* ``logarithm``: :math:`\tfrac12(\ln V-\ln n)`, the logarithm of the same, for names ``log.*``;
* ``product``: ``V`` itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import exponential, log, log_sum_over_layers
from sgdsim.bounds._norms import LayerDistances
from sgdsim.bounds._types import Score, decomposed

#: Published code whose numbers can be reproduced, with its errors.
Compat = Literal["dziugaite2020", "neyshabur2018"]

#: Ingredients that published code measures in its own way.
PUBLISHED_INGREDIENTS: Mapping[Compat, Mapping[str, str]] = {
    "dziugaite2020": {
        "margin_10": "margin_10_dziugaite2020",
        "noise_tolerance": "noise_tolerance_dziugaite2020",
        "magnitude_tolerance": "magnitude_tolerance_dziugaite2020",
        "magnitude_log_mean": "magnitude_log_mean_dziugaite2020",
    },
    "neyshabur2018": {"margin_05": "margin_05_neyshabur2018"},
}

Factors = Mapping[str, Float[np.ndarray, "..."] | float]


@dataclass(frozen=True, eq=False)
class Reading:
    """Ingredients in float64 under one convention.

    Parameters
    ----------
    inputs
        What was measured.
    compat
        Published code whose convention is followed; ``None`` for the correct one.
    """

    inputs: BoundInputs
    compat: Compat | None = None

    @property
    def log_size(self) -> float:
        """Logarithm of the number of training rows."""
        return float(np.log(self.inputs.sample.size))

    @property
    def layers(self) -> int:
        """Number of weight matrices."""
        return self.inputs.layers

    @property
    def distances(self) -> LayerDistances:
        """Distances from the initialisation, which ``needs`` has ensured."""
        assert self.inputs.initial is not None
        return self.inputs.initial

    def measured(self, name: str) -> Float[np.ndarray, "..."]:
        """Give an ingredient, as the convention measures it."""
        return np.asarray((self.inputs.measured or {})[self.name_of(name)], np.float64)

    def name_of(self, name: str) -> str:
        """Name of an ingredient under the convention."""
        if self.compat is None:
            return name
        return PUBLISHED_INGREDIENTS[self.compat].get(name, name)

    def has(self, name: str) -> bool:
        """Tell whether an optional ingredient was measured."""
        return name in (self.inputs.measured or {})

    def log_margin(self, name: str) -> Float[np.ndarray, "..."]:
        """Logarithm of a margin: nan where it is negative, of its size in published code."""
        margin = self.measured(name)
        return log_or_nan(np.abs(margin) if self.compat else margin)

    def log_spectral(self) -> Float[np.ndarray, "... layer"]:
        """Logarithms of the spectral norms."""
        return log(self.inputs.iterate.spectral_high)

    def log_frobenius(self) -> Float[np.ndarray, "... layer"]:
        """Logarithms of the Frobenius norms."""
        return log(self.inputs.iterate.frobenius)

    def log_ratio_sum(self, above: Float[np.ndarray, "... layer"]) -> Float[np.ndarray, "..."]:
        r"""Give :math:`\ln\sum_i (a_i/\|A_i\|_2)^2`."""
        # A layer of zeros over itself is not defined: nan, without a warning.
        with np.errstate(invalid="ignore"):
            quotients = log_or_nan(above) - self.log_spectral()
        return log_sum_over_layers(2.0 * quotients)

    def parameters(self) -> Float[np.ndarray, "..."]:
        """Give the number of parameters; without biases where Dziugaite et al. count them."""
        if self.compat != "dziugaite2020" and self.has("parameters"):
            return self.measured("parameters")
        return np.full(self.inputs.lead, float(self.inputs.iterate.parameter_count))

    def squared_norm(self) -> Float[np.ndarray, "..."]:
        """Squared norm of the parameters that the tolerances perturb."""
        if self.compat is None and self.has("parameter_norm"):
            return np.asarray(self.measured("parameter_norm") ** 2)
        return np.asarray(np.sum(self.inputs.iterate.frobenius**2, axis=-1))

    def squared_distance(self) -> Float[np.ndarray, "..."]:
        """Squared distance of the same parameters from the initialisation."""
        if self.compat is None and self.has("parameter_distance"):
            return np.asarray(self.measured("parameter_distance") ** 2)
        return np.asarray(np.sum(self.distances.frobenius**2, axis=-1))

    def input_size(self) -> Float[np.ndarray, "..."]:
        """Numbers in one input."""
        if self.has("input_size"):
            return self.measured("input_size")
        return np.full(self.inputs.lead, float(self.inputs.iterate.shapes[0][1]))


@dataclass(frozen=True)
class Product:
    """Recipe of a measure that is a product of factors.

    Parameters
    ----------
    factors
        Logarithms of the factors of the raw number, by a name of ``FACTORS``.
    report
        See the head of this module.
    published
        Code that computes this measure.
    signed_by
        Margin whose sign the published number has.
    """

    factors: Callable[[Reading], Factors]
    report: Literal["root", "logarithm", "product"] = "root"
    published: Compat | None = None
    signed_by: str | None = None

    def __call__(self, inputs: BoundInputs, compat: Compat | None = None) -> Score:
        """Evaluate."""
        reading = Reading(inputs, compat)
        factors = dict(self.factors(reading))
        if self.report != "product":
            factors["size"] = factors.get("size", 0.0) - reading.log_size
            factors = {name: 0.5 * value for name, value in factors.items()}
        log_value = np.zeros(inputs.lead)
        # A zero distance and a zero margin have no product: nan, without a warning.
        with np.errstate(invalid="ignore"):
            for value in factors.values():
                log_value = log_value + value
        value = log_value if self.report == "logarithm" else exponential(np.asarray(log_value))
        if compat and self.signed_by:
            value = value * np.sign(reading.measured(self.signed_by))
            log_value = np.where(value < 0.0, np.nan, log_value)
        log_value = np.asarray(log_value)
        told = {name: value for name, value in factors.items() if name != "rest"}
        return Score(np.asarray(value), log_value, decomposed(log_value, told))


@dataclass(frozen=True)
class Number:
    """Recipe of a measure that is a plain number, of any sign.

    Parameters
    ----------
    number
        The number.
    """

    number: Callable[[Reading], Float[np.ndarray, "..."]]
    published: Compat | None = None

    def __call__(self, inputs: BoundInputs, compat: Compat | None = None) -> Score:
        """Evaluate."""
        value = np.broadcast_to(self.number(Reading(inputs, compat)), inputs.lead)
        log_value = log_or_nan(value)
        return Score(np.array(value), log_value, decomposed(log_value, {}))


def log_or_nan(value: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """Return the logarithm, nan where the value is negative, without a warning."""
    return log(np.asarray(np.where(np.asarray(value) >= 0.0, value, np.nan), np.float64))
