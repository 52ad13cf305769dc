r"""Certificates G1, G2, G3: the gap of an iterate that stays near a minimum of other rows.

With the centre :math:`\theta_1` (one minimum, ``K = 1``), a radius ``r``, the ramp loss of margin
:math:`\gamma`, its Lipschitz constant :math:`\lambda = \sqrt2/\gamma` and its range
:math:`B_\ell = 1`,

.. math::
    S_j = \|A_j^{(1)}\|_2 + r,\qquad
    \Lambda = \prod_j S_j\,\Big(\sum_j S_j^{-2}\Big)^{1/2},\qquad
    \Delta = \lambda B_x \Lambda r .

**Perturbation.** Change the layers of the network one at a time. Every matrix met on the way has
spectral norm at most :math:`S_j`, so :math:`\|f_\theta(x)-f_{\theta'}(x)\| \le \|x\| \sum_j
\prod_{i\ne j}S_i \|A_j-A'_j\|_2 \le \|x\|\Lambda\|\theta-\theta'\|` by Cauchy-Schwarz. The margin
:math:`f_y-\max_{j\ne y}f_j` moves by at most :math:`|a|+|b| \le \sqrt2\,(a^2+b^2)^{1/2}` over two
different coordinates, and the ramp is :math:`1/\gamma`-Lipschitz in it; hence
:math:`|\ell(\theta,z)-\ell(\theta_1,z)| \le \Delta` for every possible row.

**G1.** Hoeffding at the centre, and :math:`\Delta` twice (population and sample). The only random
event is at the centre and does not know ``r``: G1 needs no union over radii and is evaluated at
the radius itself.

**G2, G3.** Half of :math:`\delta` pays for Hoeffding at the centre, once. The other half is divided
among the radii of the grid: for each, McDiarmid (one row moves the supremum by at most
:math:`2\Delta/n`, or :math:`2B_\ell/n`) and symmetrization bound the supremum of the centred class
:math:`\ell(\theta,\cdot)-\ell(\theta_1,\cdot)` by
:math:`2\,\mathrm E\,\mathcal R_n + \min(B_\ell,\Delta)\sqrt{2\log(2\,\mathrm{cells}/\delta)/n}`.
Dudley: :math:`\mathcal R_n \le 4\alpha/\sqrt n + (12/n)\int_\alpha^{\infty}\sqrt{\log N}` with the
covering number ``N`` in the Euclidean norm of the n values.

*G2:* a ball in ``p`` dimensions has :math:`N \le (1+2r/\varepsilon)^p`, hence
:math:`2\mathcal R_n \le 24\,\Delta\sqrt{p/n}\int_0^1\sqrt{\log(1+2/u)}\,du`, which is
:math:`32.46\,\Delta\sqrt{p/n}`.

*G3:* the covering theorem of Bartlett, Foster and Telgarsky with the centre as reference,
:math:`\|(A_j-A_j^{(1)})^T\|_{2,1} \le \sqrt{w_j}\,r`, :math:`w_j` output rows:
:math:`\log N \le (\lambda\|X\|_F R)^2\ln(2W^2+1)/\varepsilon^2`. With :math:`\alpha=1/\sqrt n`,
:math:`2\mathcal R_n \le 8/n + 24\lambda\ln(n)\sqrt{\ln(2W^2+1)}\,\|X\|_F R/n`.
Two details matter for a certificate:

* McDiarmid on the supremum leaves the *expected* complexity, so the norm of the training inputs
  must not be plugged in; :math:`\mathrm E\|X\|_F \le \sqrt n B_x` is used. (The empirical norm
  would need a second concentration step.)
* Maurey's sparsification gives a cover of log-size :math:`\lceil x\rceil\ln N_0`, with
  :math:`x=a^2b^2/\varepsilon^2` and :math:`N_0=2W^2` points, but the theorem quotes
  :math:`x\ln N_0`. Add 0 to the cover: an element longer than :math:`\varepsilon` is then
  approximated by averages of only :math:`k=\lceil x\rceil-1<x` points, since their mean squared
  error is at most :math:`(a^2b^2-\varepsilon^2)/k\le\varepsilon^2`. The cover has at most
  :math:`1+N_0^k\le(N_0+1)^k` elements; hence :math:`2W^2+1`.

The terms, for any clipped loss and several centres, are in ``_stagnation_terms.py``; the
certificates evaluate them for the ramp and one centre.
"""

import math

import numpy as np
from jaxtyping import Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import log, log_sum_over_layers
from sgdsim.bounds._stagnation_entropy import ENTROPY_INTEGRAL, ball_entropy
from sgdsim.bounds._stagnation_terms import BoundName, log_lipschitz, stagnation_terms
from sgdsim.bounds._stagnation_types import LossBound, Neighbourhoods
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle

_PROJECT = "stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project)"
_CHANGE = (
    "Delta(r) = sqrt(2)/gamma B_x r prod_j S_j (sum_j S_j^-2)^(1/2), S_j = ||A_j(centre)||_2 + r"
)
_FIXED = "centre (minimum on independent reference rows), margin, grid"
_ASSUMPTIONS = (
    *COMMON_ASSUMPTIONS,
    "the centre is independent of the training rows (one centre, K = 1)",
    "the iterate is in the stagnation set",
)


def _evaluate(inputs: BoundInputs, name: BoundName) -> Evaluation:
    assert inputs.reference is not None  # the registry asks for what a certificate needs
    assert inputs.radius is not None
    radius = np.where(inputs.finite, inputs.radius, np.nan)
    bound = stagnation_terms(
        Neighbourhoods(norms=inputs.reference),
        radius,
        LossBound.ramp(inputs.margin),
        inputs.sample,
        inputs.failure_probability,
        inputs.grid,
        (name,),
    )[name]
    inside = np.ones(inputs.radius.shape, bool) if inputs.inside is None else inputs.inside
    violations = {
        "norms not finite": np.asarray(~inputs.finite),
        **bound.violations,
        "outside the stagnation set": np.asarray(~inside),
    }
    rounded = radius if name == "G1" else inputs.grid.ceil(radius)
    return settle(bound.log_total, violations, _factors(inputs, name, rounded))


def _factors(
    inputs: BoundInputs, name: BoundName, radius: Float[np.ndarray, "..."]
) -> dict[str, Float[np.ndarray, "..."] | float]:
    """Factors of the term that grows with the radius: displacement (G1) or entropy (G2, G3)."""
    assert inputs.reference is not None
    spectral, size = inputs.reference.spectral_high, inputs.sample.size
    shared: dict[str, Float[np.ndarray, "..."] | float] = {
        "margin": -math.log(inputs.margin),
        "inputs": math.log(inputs.sample.input_bound),
    }
    if name == "G3":
        sizes = log(spectral + radius[..., None])
        product = np.asarray(np.sum(sizes, axis=-1))
        rows = np.array([rows for rows, _ in inputs.reference.shapes], np.float64)
        moved = 0.5 * np.log(rows) + log(radius)[..., None] - sizes
        width = inputs.reference.largest_dimension
        return {
            **shared,
            "constant": math.log(24.0 * math.sqrt(2.0)),
            "spectral_product": product,
            "distance": 1.5 * log_sum_over_layers(2.0 / 3.0 * moved),
            "size": math.log(math.log(size)) - 0.5 * math.log(size),
            "dimension": 0.5 * math.log(math.log(2.0 * width**2 + 1.0)),
        }
    lipschitz = log_lipschitz(spectral[None], radius)[0][..., 0]
    shared |= {"spectral_product": lipschitz, "distance": log(radius)}
    if name == "G1":
        return {**shared, "constant": math.log(2.0 * math.sqrt(2.0))}
    entropy = ball_entropy(inputs.reference.parameter_count)
    return {
        **shared,
        "constant": math.log(24.0 * math.sqrt(2.0) * ENTROPY_INTEGRAL),
        "dimension": math.log(entropy / ENTROPY_INTEGRAL),
        "size": -0.5 * math.log(size),
    }


CENTRE = Certificate(
    name="G1",
    formula=f"sqrt(ln(1/delta)/(2n)) + 2 Delta(r), {_CHANGE}",
    source=f"{_PROJECT}, section 7.2, G1",
    statement="with probability 1 - delta over the training rows, for all iterates at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance="centre (minimum on independent reference rows), margin",
    union_bound="nothing: the random event is at the centre, for every radius the same",
    assumptions=_ASSUMPTIONS,
    evaluate=lambda inputs: _evaluate(inputs, "G1"),
    needs=("reference", "radius"),
    invariances=(),
)

ENTROPY_OF_BALL = Certificate(
    name="G2",
    formula=(
        "sqrt(ln(2/delta)/(2n)) + 32.46 Delta(r) sqrt(p/n) "
        f"+ Delta(r) sqrt(2 ln(2 cells/delta)/n), {_CHANGE}, r rounded up to the grid"
    ),
    source=f"{_PROJECT}, section 7.2, G2",
    statement="with probability 1 - delta over the training rows, for all iterates at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance=_FIXED,
    union_bound="radius",
    assumptions=_ASSUMPTIONS,
    evaluate=lambda inputs: _evaluate(inputs, "G2"),
    needs=("reference", "radius"),
    invariances=(),
)

ENTROPY_OF_LAYERS = Certificate(
    name="G3",
    formula=(
        "sqrt(ln(2/delta)/(2n)) + 8/n + 24 sqrt(2)/gamma ln(n) sqrt(ln(2W^2+1)) B_x R(r)/sqrt(n) "
        "+ min(1, Delta(r)) sqrt(2 ln(2 cells/delta)/n), "
        f"R(r) = prod_j S_j (sum_j (sqrt(w_j) r/S_j)^(2/3))^(3/2), {_CHANGE}, "
        "r rounded up to the grid"
    ),
    source=f"{_PROJECT}, section 7.2, G3, on the covering of arXiv:1706.08498, Theorem 3.3",
    statement="with probability 1 - delta over the training rows, for all iterates at once",
    population_loss="ramp",
    empirical_loss="ramp",
    fixed_in_advance=_FIXED,
    union_bound="radius",
    assumptions=_ASSUMPTIONS,
    evaluate=lambda inputs: _evaluate(inputs, "G3"),
    needs=("reference", "radius"),
    invariances=(),
)
