r"""Certificate NBS: the PAC-Bayes margin bound of Neyshabur, Bhojanapalli and Srebro.

.. math::
    L_0 \le \hat L_\gamma
    + 4\sqrt{\frac{\mathrm{KL} + \ln(6n\,\mathrm{cells}^d/\delta)}{n-1}},\qquad
    \mathrm{KL} = \sum_i \frac{\|W_i\|_F^2}{2\sigma_i^2},\quad
    \sigma_i = \kappa\tilde s_i,\quad
    \kappa = \frac{\gamma}{4 e d B_x \prod_j\tilde s_j\,\sqrt{2h\ln(4hd)}}

with ``d`` layers, ``h`` the largest dimension (inputs and outputs included) and
:math:`\tilde s_i \ge \|W_i\|_2` rounded up to the grid. The paper rescales all layers to one
spectral norm, which needs a positively homogeneous activation. Here every layer has a prior of its
own scale instead, so that the statement holds for any 1-Lipschitz ``s`` with ``s(0) = 0``.

**Proof sketch.**

1. *Perturbation.* Let :math:`\|W_i\|\le\tilde s_i`, :math:`\|U_i\|\le\tilde s_i/d`. Layer by layer,
   :math:`|f_{w+u}(x)-f_w(x)| \le |x| \sum_j \|U_j\| \prod_{i<j}\|W_i\| \prod_{i>j}\|W_i+U_i\|
   \le (1+1/d)^{d-1} B_x \prod_i\tilde s_i \sum_j \|U_j\|/\tilde s_j`, and
   :math:`(1+1/d)^{d-1}<e`. Stated in the rounded norms it needs no lower bound on
   :math:`\|W_i\|`; in particular norms below the grid, even zero layers, are covered, and no
   factor for the grid ratio enters :math:`\kappa`.
2. *Noise.* Independent normal entries of standard deviation :math:`\sigma_i` give
   :math:`P(\|U_i\|>t\sigma_i) \le 2h\,e^{-t^2/(2h)}` (rows + columns at most 2h, variance
   parameter at most h). With :math:`t^2=2h\ln(4hd)` and a union over the ``d`` layers,
   :math:`\|U_i\| \le \tilde s_i\kappa t = \tilde s_i\gamma/(4edB_x\prod\tilde s)` holds for all
   layers with probability at least 1/2, and then step 1 gives a change of at most
   :math:`\gamma/4` (strictly less, even for ``d = 1``) for every input in the ball.
   Step 1 applies if :math:`\gamma\le4eB_x\prod\tilde s`. If not, all margins are at most
   :math:`2B_x\prod\tilde s<\gamma`, the empirical margin loss is 1 and nothing is to be proved.
3. *PAC-Bayes* (Lemma 1 of the paper). Restrict :math:`w+u` to that event:
   :math:`\mathrm{KL}(\tilde Q\|P)\le2(\mathrm{KL}(Q\|P)+1)`. No margin changes by more than
   :math:`\gamma/2`, so :math:`L_0(w)\le L_{\gamma/2}(w+u)` and
   :math:`\hat L_{\gamma/2}(w+u)\le\hat L_\gamma(w)`; here a margin *at most* :math:`\gamma` counts
   as an error. McAllester's bound :math:`2\sqrt{2(\mathrm{KL}(\tilde Q\|P)+\ln(2n/\delta))/(n-1)}`
   is at most the stated one because :math:`2e^2\le36n/\delta`.
4. *Union.* The prior :math:`N(0,\sigma_i^2)` may depend only on the grid points
   :math:`\tilde s`: :math:`\delta` is divided by :math:`\mathrm{cells}^d`.

Written out, :math:`\mathrm{KL} = 16e^2d^2h\ln(4hd)\,(B_x/\gamma)^2
\sum_i\|W_i\|_F^2\prod_{j\ne i}\tilde s_j^2`, which increases in every norm.
"""

import math

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import log, log_sum, log_sum_over_layers, product_of_others
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle


def log_noise_scales(
    inputs: BoundInputs, spectral: Float[np.ndarray, "... layer"]
) -> Float[np.ndarray, "... layer"]:
    r"""Logarithm of the standard deviation :math:`\sigma_i` of the prior and the posterior.

    Parameters
    ----------
    inputs
        Gives the shapes of the layers, the margin and the bound on the inputs.
    spectral
        :math:`\tilde s_i`, spectral norms rounded up to the grid.

    Notes
    -----
    :math:`\sigma_i` holds :math:`1/\prod_{j\ne i}\tilde s_j`, since :math:`\tilde s_i` cancels.
    """
    layers, width = inputs.layers, inputs.iterate.largest_dimension
    tail = math.sqrt(2.0 * width * math.log(4.0 * width * layers))
    scale = inputs.margin / (4.0 * math.e * layers * inputs.sample.input_bound * tail)
    return math.log(scale) - product_of_others(log(spectral))


def _pac_bayes(inputs: BoundInputs) -> Evaluation:
    grid, size = inputs.grid, inputs.sample.size
    spectral = grid.ceil(inputs.iterate.spectral_high)
    layers = 2.0 * (log(inputs.iterate.frobenius) - log_noise_scales(inputs, spectral))
    divergence = log_sum_over_layers(layers) - math.log(2.0)
    union = inputs.layers * grid.log_cells
    inverse_probability = math.log(6.0 * size) - math.log(inputs.failure_probability) + union
    inner = log_sum(divergence, math.log(inverse_probability))
    log_value = math.log(4.0) + 0.5 * (inner - math.log(size - 1))
    product = np.asarray(np.sum(log(spectral), axis=-1))
    width, depth = inputs.iterate.largest_dimension, inputs.layers
    ranks = 2.0 * (log(inputs.iterate.frobenius) - log(spectral))
    return settle(
        np.asarray(log_value),
        {
            "norms not finite": np.asarray(~inputs.finite),
            "one output has no margin": np.full(inputs.lead, inputs.outputs < 2),
            f"spectral norm above the grid, which ends at {grid.high:g}": np.asarray(
                np.isnan(spectral).any(axis=-1)
            ),
        },
        {
            "constant": math.log(16.0 * math.e),
            "spectral_product": product,
            "distance": 0.5 * log_sum_over_layers(ranks),
            "margin": -math.log(inputs.margin),
            "inputs": math.log(inputs.sample.input_bound),
            "size": -0.5 * math.log(size - 1),
            "dimension": math.log(depth) + 0.5 * math.log(width * math.log(4.0 * width * depth)),
        },
    )


PAC_BAYES = Certificate(
    name="NBS",
    formula=(
        "4 sqrt((KL + ln(6 n cells^d/delta))/(n-1)), "
        "KL = 16 e^2 d^2 h ln(4hd) (B_x/gamma)^2 sum_i ||W_i||_F^2 prod_{j != i} s_j^2, "
        "s_i rounded up to the grid"
    ),
    source=(
        "Neyshabur, Bhojanapalli & Srebro 2018, arXiv:1707.09564, Lemmas 1 and 2; prior with one "
        "scale per layer instead of normalized layers: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="zero_one",
    empirical_loss="margin",
    fixed_in_advance="margin, grid",
    union_bound="spectral norm of every layer",
    assumptions=COMMON_ASSUMPTIONS,
    evaluate=_pac_bayes,
)
