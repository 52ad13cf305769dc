r"""Measures from the outputs, the gradients, the run and the architecture.

All are reported so that a larger number predicts a larger gap.
"""

import numpy as np

from sgdsim.bounds._reading import Factors, Number, Product, Reading
from sgdsim.bounds._types import Invariance, Measure

#: What depends on the outputs alone does not change with any change that keeps them.
_FUNCTION: tuple[Invariance, ...] = (
    "permutation",
    "width_doubling",
    "layer_rescaling",
    "node_rescaling",
)
_NOTHING = "nothing"
_JIANG = "Jiang et al. 2020, arXiv:1912.02178"


def _vc_dimension(reading: Reading) -> Factors:
    shapes = reading.inputs.iterate.shapes
    weights = np.array([rows * cols for rows, cols in shapes], np.float64)
    units = np.array([rows for rows, _ in shapes], np.float64)
    effective = np.sum(np.cumsum(weights))
    regions = np.sum(np.arange(1, len(shapes) + 1) * units)
    growth = np.log2(4.0 * np.e * regions * np.log2(2.0 * np.e * regions))
    return {"dimension": float(np.log(len(shapes) + effective * growth))}


def _compression(reading: Reading) -> Factors:
    return {
        "rest": reading.measured("log_compression"),
        "margin": -2.0 * reading.log_margin("margin_10"),
    }


def _number(
    name: str,
    formula: str,
    source: str,
    ingredient: str,
    invariances: tuple[Invariance, ...] = ("permutation",),
) -> Measure:
    return Measure(
        name=name,
        formula=formula,
        source=source,
        dropped=_NOTHING,
        evaluate=Number(lambda reading: reading.measured(ingredient)),
        needs=(ingredient,),
        invariances=invariances,
    )


_ANDRIUSHCHENKO = "Andriushchenko et al. 2023, arXiv:2302.07011"

#: Measures from the outputs, the gradients, the run and the architecture.
DATA_MEASURES = (
    Measure(
        name="vc.dimension",
        formula=(
            "sqrt(V/n), V = L + Wbar log2(4 e R log2(2 e R)), Wbar = sum_i #weights of the first i "
            "layers, R = sum_i i k_i, k_i units of layer i"
        ),
        source="Bartlett, Harvey, Liaw & Mehrabian 2019, arXiv:1703.02930",
        dropped="constants and ln(n/V) of the deviation bound, and that there are several outputs",
        evaluate=Product(_vc_dimension),
        invariances=("permutation", "layer_rescaling", "node_rescaling", "output_scaling"),
    ),
    _number(
        "cross.entropy",
        "mean cross-entropy of the training rows",
        _JIANG,
        "cross_entropy",
        _FUNCTION,
    ),
    Measure(
        name="entropy.of.output",
        formula="1 - mean entropy of the predicted label, nats",
        source=f"{_JIANG}; the sign makes confident networks the large ones",
        dropped=_NOTHING,
        evaluate=Number(lambda reading: 1.0 - reading.measured("output_entropy")),
        needs=("output_entropy",),
        invariances=_FUNCTION,
    ),
    _number(
        "fisher.rao",
        "theta^T I(theta) theta",
        "Liang et al. 2019, arXiv:1711.01530",
        "fisher_rao",
        _FUNCTION,
    ),
    _number(
        "gradient.noise.epoch.1",
        "trace of the covariance of one row's gradient after the first epoch",
        _JIANG,
        "gradient_noise_first_epoch",
    ),
    _number(
        "gradient.noise.final",
        "trace of the covariance of one row's gradient at the end",
        _JIANG,
        "gradient_noise_final",
    ),
    _number(
        "steps.to.0.1",
        "steps until the training loss is 0.1",
        _JIANG,
        "steps_to_loss_01",
        (*_FUNCTION, "output_scaling"),
    ),
    Measure(
        name="steps.0.1.to.0.01",
        formula="steps from a training loss of 0.1 to one of 0.01",
        source=_JIANG,
        dropped=_NOTHING,
        evaluate=Number(
            lambda reading: (
                reading.measured("steps_to_loss_001") - reading.measured("steps_to_loss_01")
            )
        ),
        needs=("steps_to_loss_01", "steps_to_loss_001"),
        invariances=(*_FUNCTION, "output_scaling"),
    ),
    Measure(
        name="compression",
        formula=(
            "sqrt(V/n), V = c^2 d^2 max ||f(x)||^2 sum_i 1/(mu_i mu_i->)^2 / gamma^2, "
            "mu_i, mu_i-> cushions of the layers"
        ),
        source="Arora et al. 2018, arXiv:1802.05296, Theorem 4.1",
        dropped=(
            "constants and logarithms; the bound is about the compressed network, not this one, "
            "and needs an interlayer smoothness that is not checked"
        ),
        evaluate=Product(_compression),
        needs=("log_compression", "margin_10"),
        invariances=("permutation", "layer_rescaling", "output_scaling"),
    ),
    _number(
        "sharpness.average",
        "E L(w + rho |w| N(0, I)) - L(w)",
        _ANDRIUSHCHENKO,
        "average_sharpness",
        ("permutation", "layer_rescaling", "node_rescaling"),
    ),
    _number(
        "sharpness.worst",
        "max over ||u/|w||| <= rho of L(w + u), minus L(w)",
        _ANDRIUSHCHENKO,
        "worst_sharpness",
        ("permutation", "layer_rescaling", "node_rescaling"),
    ),
)
