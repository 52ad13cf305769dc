r"""From the Rademacher complexity of a class of networks to a certificate of the ramp loss.

**Gap.** For losses in [0, 1] and independent signs :math:`\epsilon_i`, with probability
:math:`1-\delta`, for all members of a class at once,

.. math::
    L - \hat L \le 2\hat{\mathcal R} + 3\sqrt{\frac{\ln(2/\delta)}{2n}},\qquad
    \hat{\mathcal R} = \frac1n\,\mathrm E_\epsilon\sup\sum_i\epsilon_i\ell(f(x_i), y_i),

by symmetrization and two applications of McDiarmid, half of :math:`\delta` each (one bounds the
supremum of the gap, one replaces :math:`\mathrm E\hat{\mathcal R}` by :math:`\hat{\mathcal R}`,
which moves by at most :math:`1/n` with one row and counts twice: hence the 3).

**Two outputs.** The margin is :math:`\pm(f_1-f_2)`, in which the ramp is
:math:`1/\gamma`-Lipschitz; Talagrand's contraction gives
:math:`\hat{\mathcal R}\le\mathcal R(f_1-f_2)/\gamma`.

**More outputs.** The ramp is :math:`\sqrt2/\gamma`-Lipschitz in the Euclidean norm of the outputs.
Maurer's vector contraction (arXiv:1605.00251, Corollary 4) with signs :math:`\epsilon_{ij}` for
every row and output costs another :math:`\sqrt2`:

.. math:: n\hat{\mathcal R} \le \frac2\gamma\,\mathrm E\sup\sum_{ij}\epsilon_{ij}f_j(x_i).

**Rounding.** The bounds grow with one size of the network in units of the margin,
:math:`q = P B_x/\gamma`, for example with ``P`` the product of the norms of ``L`` layers. A network
with a positively homogeneous activation can be rescaled so that all layers have the same norm,
hence :math:`q\le\hat q` describes a class, and one grid suffices for all layers: the mean per layer
:math:`q^{1/L}` is rounded up to it. The margin and :math:`B_x` are known in advance, so this class
is too.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import exponential, log, log_sum

#: Assumption of the certificates that round one size for all layers.
HOMOGENEITY = "the activation satisfies s(c x) = c s(x) for c >= 0"


def round_up(
    inputs: BoundInputs, log_product: Float[np.ndarray, "*shape"], layers: int
) -> Float[np.ndarray, "*shape"]:
    r"""Logarithm of the size :math:`P B_x/\gamma`, its mean per layer rounded up to the grid.

    Parameters
    ----------
    inputs
        Give the grid, the margin and the bound on the inputs.
    log_product
        Logarithm of ``P``.
    layers
        Number ``L`` of norms whose product is ``P``.
    """
    size = log_product + math.log(inputs.sample.input_bound / inputs.margin)
    mean = exponential(np.asarray(size / layers))
    return np.asarray(layers * log(inputs.grid.ceil(mean)))


def log_product_of(norms: Float[np.ndarray, "*shape layer"]) -> Float[np.ndarray, "*shape"]:
    """Logarithm of the product over the layers."""
    return np.asarray(np.sum(log(norms), axis=-1))


def log_gap_bound(
    inputs: BoundInputs, log_complexity: Float[np.ndarray, "*shape"], log_classes: float
) -> Float[np.ndarray, "*shape"]:
    r"""Logarithm of :math:`2\hat{\mathcal R}+3\sqrt{\ln(2\,\mathrm{classes}/\delta)/(2n)}`.

    Parameters
    ----------
    inputs
        Give the failure probability and the number of rows.
    log_complexity
        Logarithm of a bound on the empirical complexity of the ramp loss.
    log_classes
        Logarithm of the number of classes that a union bound pays for.
    """
    inverse_probability = math.log(2.0 / inputs.failure_probability) + log_classes
    deviation = 3.0 * math.sqrt(inverse_probability / (2.0 * inputs.sample.size))
    return log_sum(math.log(2.0) + log_complexity, math.log(deviation))


def violations_of(
    inputs: BoundInputs, rounded: Float[np.ndarray, "*shape"], what: str
) -> dict[str, Bool[np.ndarray, "*shape"]]:
    """Where a certificate with one rounded size claims nothing.

    Parameters
    ----------
    inputs
        Norms and shapes of the network.
    rounded
        Size after rounding, nan above the grid.
    what
        Name of the size that is rounded.
    """
    return {
        "norms not finite": np.asarray(~inputs.finite),
        "one output has no margin": np.full(inputs.lead, inputs.outputs < 2),
        f"{what} above the grid, which ends at {inputs.grid.high:g}": np.asarray(np.isnan(rounded)),
    }


def not_homogeneous(inputs: BoundInputs) -> dict[str, Bool[np.ndarray, "..."]]:
    """Every iterate, if the activation is not positively homogeneous."""
    broken = np.full(inputs.lead, not inputs.homogeneous)
    return {f"the activation {inputs.activation} is not positively homogeneous": broken}
