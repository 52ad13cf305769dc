"""The certificates by name, in the order in which tables and datasets list them."""

from collections.abc import Mapping
from types import MappingProxyType

from sgdsim.bounds._bartlett import SPECTRALLY_NORMALIZED
from sgdsim.bounds._neyshabur import PAC_BAYES
from sgdsim.bounds._stagnation import CENTRE, ENTROPY_OF_BALL, ENTROPY_OF_LAYERS
from sgdsim.bounds._types import BoundInputs, Certificate, Evaluation

#: Certificates G1, G2, G3, BFT, NBS, read-only.
CERTIFICATES: Mapping[str, Certificate] = MappingProxyType(
    {
        certificate.name: certificate
        for certificate in (
            CENTRE,
            ENTROPY_OF_BALL,
            ENTROPY_OF_LAYERS,
            SPECTRALLY_NORMALIZED,
            PAC_BAYES,
        )
    }
)


def evaluate_all(inputs: BoundInputs) -> dict[str, Evaluation]:
    r"""Evaluate every certificate.

    Each holds on its own with probability :math:`1-\delta`; for all of them together, or for the
    smallest, divide ``failure_probability`` by their number beforehand.

    Parameters
    ----------
    inputs
        Norms of the iterates and what was fixed in advance.

    Returns
    -------
    dict
        Evaluations of shape ``(...)`` by name, in the order of ``CERTIFICATES``.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     BoundInputs, GeometricGrid, TrainingSample, evaluate_all, layer_distances, layer_norms
    ... )
    >>> centre = [np.eye(3)]
    >>> iterates = [np.eye(3) + np.array([0.01, 0.1])[:, None, None]]  # two of them
    >>> inputs = BoundInputs(
    ...     reference=layer_norms(centre),
    ...     iterate=layer_norms(iterates),
    ...     radius=layer_distances(iterates, centre).radius,
    ...     sample=TrainingSample(size=1000, input_bound=1.0, frobenius=30.0),
    ...     margin=1.0,
    ...     failure_probability=0.05,
    ...     grid=GeometricGrid(low=1e-3, high=1e4, ratio=1.1),
    ... )
    >>> for name, evaluation in evaluate_all(inputs).items():
    ...     print(name, evaluation.value.round(2), evaluation.vacuous)
    G1 [0.12 0.89] [False False]
    G2 [0.18 1.43] [False  True]
    G3 [0.74 6.82] [False  True]
    BFT [83.94 92.3 ] [ True  True]
    NBS [6.59 7.24] [ True  True]
    """
    return {name: certificate.evaluate(inputs) for name, certificate in CERTIFICATES.items()}
