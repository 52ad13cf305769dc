r"""The curve of the theory: how step size, batch size, time and curvature enter the gap.

.. math::
    \mathrm{gap} \lesssim B_\ell\sqrt{\log(\bar K/\delta')/2n} + 2\lambda B_x\Lambda(\delta(p))\,
    \delta(p),\qquad
    \delta(p) = \sqrt{\frac{\eta\,\bar\tau}{2\mu}}
        + \sqrt{\frac{\eta\,\bar s\log(T/p)}{\mu}},\qquad \bar s,\bar\tau\propto 1/B .

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float, Real

from sgdsim.bounds._inputs import TrainingSample
from sgdsim.bounds._stagnation_terms import stagnation_terms
from sgdsim.bounds._stagnation_types import BoundTerms, LossBound, Neighbourhoods

Entries = Real[np.ndarray, "..."] | float | int


@dataclass(frozen=True, eq=False, kw_only=True)
class StationarySGD:
    r"""Settings of SGD around a minimum: numbers, or arrays that broadcast against each other.

    Parameters
    ----------
    learning_rate
        :math:`\eta`.
    batch_size
        ``B``.
    steps
        ``T``: length of the window, in steps.
    rsi
        :math:`\mu`: modulus of the restricted secant inequality of the population risk.
    noise_operator_norm, noise_trace
        Largest eigenvalue and trace of the covariance of *one* per-sample gradient: those of the
        noise are divided by ``B``.
    exit_probability
        ``p``: aimed probability of leaving within the window.
    """

    learning_rate: Entries
    batch_size: Entries
    steps: Entries
    rsi: Entries
    noise_operator_norm: Entries
    noise_trace: Entries
    exit_probability: Entries


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneralizationCurve:
    r"""The curve at an array of settings.

    Parameters
    ----------
    spread
        :math:`\sqrt{\eta\bar\tau/2\mu}`, shape ``(...)``: stationary distance from the minimum.
    excursion
        :math:`\sqrt{\eta\bar s\log(T/p)/\mu}`: what rare events add to it.
    bound
        G1 at the radius spread + excursion: the K-term ``centre`` and the ``displacement``, which
        is the share of temperature and curvature.
    """

    spread: Float[np.ndarray, "*shape"]
    excursion: Float[np.ndarray, "*shape"]
    bound: BoundTerms

    @property
    def radius(self) -> Float[np.ndarray, "..."]:
        r""":math:`\delta(p)`, in units of the parameters."""
        return np.asarray(self.spread + self.excursion)


def generalization_curve(
    sgd: StationarySGD,
    neighbourhoods: Neighbourhoods,
    loss: LossBound,
    sample: TrainingSample,
    failure_probability: float,
) -> GeneralizationCurve:
    r"""Evaluate the loss-surface implicit regularization curve.

    .. math:: B_\ell\sqrt{\log(\bar K/\delta')/2n} + 2\lambda B_x\Lambda(\delta(p))\,\delta(p)

    Parameters
    ----------
    sgd
        Step size, batch size, window, curvature and noise, arrays of the shape ``(...)``.
    neighbourhoods
        Centres and their number.
    loss
        Range and Lipschitz constant.
    sample
        Number of training rows and bound on the inputs.
    failure_probability
        :math:`\delta'` over the training rows.

    Returns
    -------
    GeneralizationCurve
        Shape ``(...)``. nan, with a reason in ``bound.reason``, where a setting is outside its
        range: :math:`\eta,B,\mu,\bar s>0`, :math:`\eta\mu<1`, :math:`\bar\tau\ge\bar s`,
        :math:`T\ge1`, :math:`0<p<1`.

    Notes
    -----
    The radius is asymptotic (small steps, Gaussian or sub-Gaussian noise, gradient deviation
    :math:`\varepsilon_n = 0`): the bound on the gap is proved inside the radius, the exit
    probability ``p`` is its limit. ``combined_statement`` with S2 gives the proved pair.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    A step size and a batch size that are both doubled leave the curve where it is.

    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     LossBound, Neighbourhoods, StationarySGD, TrainingSample, generalization_curve,
    ...     layer_norms,
    ... )
    >>> sgd = StationarySGD(
    ...     learning_rate=np.array([0.001, 0.002, 0.002]), batch_size=np.array([1, 1, 2]),
    ...     steps=1000, rsi=1.0, noise_operator_norm=0.01, noise_trace=0.03, exit_probability=0.01,
    ... )
    >>> curve = generalization_curve(
    ...     sgd,
    ...     Neighbourhoods(norms=layer_norms([np.eye(3)])),
    ...     LossBound.clipped_half_squared(0.5),
    ...     TrainingSample(size=1000, input_bound=1.0, frobenius=30.0),
    ...     failure_probability=0.05,
    ... )
    >>> curve.radius.round(4).tolist(), curve.bound.total.round(4).tolist()
    ([0.0146, 0.0207, 0.0146], [0.0486, 0.0607, 0.0486])
    """
    names = [field.name for field in fields(sgd)]
    arrays = [np.asarray(getattr(sgd, name), dtype=np.float64) for name in names]
    rate, batch, steps, rsi, operator, trace, probability = np.broadcast_arrays(*arrays)
    violations = {
        "settings not finite": ~np.logical_and.reduce(
            [np.isfinite(a) for a in np.broadcast_arrays(*arrays)]
        ),
        "learning rate or batch size not positive": ~((rate > 0.0) & (batch > 0.0)),
        "curvature mu not positive: the centre is no minimum": ~(rsi > 0.0),
        "learning rate times mu not below 1": ~(rate * rsi < 1.0),
        "noise not positive, or its trace below its largest eigenvalue": ~(
            (operator > 0.0) & (trace >= operator * (1.0 - 1e-9))
        ),
        "steps below 1 or exit probability not in (0, 1)": ~(
            (steps >= 1.0) & (probability > 0.0) & (probability < 1.0)
        ),
    }
    good = ~np.logical_or.reduce(list(violations.values()))
    spread, excursion = np.full(good.shape, np.nan), np.full(good.shape, np.nan)
    step = rate[good] / batch[good] / rsi[good]
    spread[good] = np.sqrt(step * trace[good] / 2.0)
    excursion[good] = np.sqrt(step * operator[good] * np.log(steps[good] / probability[good]))
    bound = stagnation_terms(
        neighbourhoods, spread + excursion, loss, sample, failure_probability, names=("G1",)
    )["G1"]
    settings = {text: np.asarray(where) for text, where in violations.items()}
    return GeneralizationCurve(
        spread=spread,
        excursion=excursion,
        bound=replace(bound, violations={**settings, **bound.violations}),
    )
