r"""Certificate BFT: the spectrally normalized margin bound of Bartlett, Foster and Telgarsky.

.. math::
    \frac{8}{n^{3/2}} + \frac{72\,\|X\|_F\sqrt{\ln(2W^2)}\,\ln(n)\,R_A}{\gamma n}
    + 3\sqrt{\frac{\ln(2/\delta)}{2n}},\qquad
    R_A = \prod_i s_i\,\Big(\sum_i (b_i/s_i)^{2/3}\Big)^{3/2}

for the class :math:`\|A_i\|_2\le s_i`, :math:`\|A_i^T\|_{2,1}\le b_i` (reference matrices zero).

**The constant 72.** The covering theorem bounds :math:`\ln N(\varepsilon)` of the losses by
:math:`C/\varepsilon^2`, :math:`\sqrt C = (2/\gamma)\|X\|_F\sqrt{\ln(2W^2)}R_A`, with the constant 2
that the paper gives to the margin. Dudley from :math:`\alpha=1/n` to :math:`\sqrt n`:
:math:`2\hat{\mathcal R} \le 8\alpha/\sqrt n + (24/n)\sqrt C\ln(\sqrt n/\alpha)
= 8/n^{3/2} + (24\cdot\tfrac32\cdot2)\,\|X\|_F\cdots/(\gamma n)`, and :math:`36\cdot2=72`.
The margin is in truth :math:`\sqrt2`-Lipschitz, which leaves a factor :math:`\sqrt2`; it more than
pays for the :math:`\ln(2W^2+1)` that a covering without rounding needs (see the notes of
``_stagnation.py``), because :math:`\ln 3/\ln 2<2`. The published form is therefore kept as it is.

**Sample norm.** The third term is that of the *empirical* Rademacher complexity (two applications
of McDiarmid, hence the 3), so :math:`\|X\|_F` of the training rows is the right quantity here.

**Uniform version.** :math:`R_A=(\sum_i(b_i\prod_{j\ne i}s_j)^{2/3})^{3/2}` increases in every
argument. All :math:`2L` norms are rounded up to the geometric grid and :math:`\delta` is divided by
the number :math:`\mathrm{cells}^{2L}` of classes.
"""

import math

import numpy as np

from sgdsim.bounds._logdomain import log, log_sum, log_sum_over_layers, product_of_others
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, BoundInputs, Certificate, Evaluation, settle


def _spectrally_normalized(inputs: BoundInputs) -> Evaluation:
    grid, sample = inputs.grid, inputs.sample
    spectral = grid.ceil(inputs.iterate.spectral_high)
    two_one = grid.ceil(inputs.iterate.two_one)
    capacity = 1.5 * log_sum_over_layers(
        2.0 / 3.0 * (log(two_one) + product_of_others(log(spectral)))
    )
    dimension = math.log(2.0 * inputs.iterate.largest_dimension**2)
    size = sample.size
    factor = 72.0 * math.sqrt(dimension) * math.log(size) / (inputs.margin * size)
    union = 2 * inputs.layers * grid.log_cells
    inverse_probability = math.log(2.0) - math.log(inputs.failure_probability) + union
    log_value = log_sum(
        math.log(8.0) - 1.5 * math.log(size),
        math.log(factor) + log(np.asarray(sample.frobenius, np.float64)) + capacity,
        math.log(3.0) + 0.5 * math.log(inverse_probability / (2 * size)),
    )
    end = f"above the grid, which ends at {grid.high:g}"
    return settle(
        log_value,
        {
            "norms not finite": np.asarray(~inputs.finite),
            f"spectral norm {end}": np.asarray(np.isnan(spectral).any(axis=-1)),
            f"(2,1) norm {end}": np.asarray(np.isnan(two_one).any(axis=-1)),
        },
    )


SPECTRALLY_NORMALIZED = Certificate(
    name="BFT",
    formula=(
        "8/n^(3/2) + 72 ||X||_F sqrt(ln(2W^2)) ln(n) R_A/(gamma n) "
        "+ 3 sqrt(ln(2 cells^(2L)/delta)/(2n)), "
        "R_A = prod_i s_i (sum_i (b_i/s_i)^(2/3))^(3/2), s_i, b_i rounded up to the grid"
    ),
    source=(
        "Bartlett, Foster & Telgarsky 2017, arXiv:1706.08498, Lemma 3.1, Theorem 3.3 and Lemma A.5 "
        "for a fixed class; union over the grid: this project"
    ),
    statement="with probability 1 - delta over the training rows, for all networks at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="margin, grid",
    union_bound="spectral norm and (2,1) norm of every layer",
    assumptions=COMMON_ASSUMPTIONS,
    evaluate=_spectrally_normalized,
)
