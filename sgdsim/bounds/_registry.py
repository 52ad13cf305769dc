"""Certificates, expectation bounds and measures by name, in the order of tables and datasets."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

from sgdsim.bounds._bartlett import (
    SPECTRALLY_NORMALIZED,
    SPECTRALLY_NORMALIZED_CUT,
    SPECTRALLY_NORMALIZED_FIXED,
    SPECTRALLY_NORMALIZED_FROM_INITIAL,
)
from sgdsim.bounds._dimension import VC
from sgdsim.bounds._frobenius import GOLOWICH_FROBENIUS, NEYSHABUR_FROBENIUS
from sgdsim.bounds._information_statements import INFORMATION_BOUNDS
from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._linear import LINEAR
from sgdsim.bounds._measures_data import DATA_MEASURES
from sgdsim.bounds._measures_flatness import FLATNESS_MEASURES
from sgdsim.bounds._measures_neyshabur import NEYSHABUR_MEASURES
from sgdsim.bounds._measures_norms import NORM_MEASURES
from sgdsim.bounds._neyshabur import PAC_BAYES
from sgdsim.bounds._one_norm import GOLOWICH_ROWS, PATH_NORM
from sgdsim.bounds._pac_bayes import GIBBS_CERTIFICATES
from sgdsim.bounds._stagnation import CENTRE, ENTROPY_OF_BALL, ENTROPY_OF_LAYERS
from sgdsim.bounds._types import Certificate, Evaluation, ExpectationBound, Measure

#: Certificates by name, read-only.
CERTIFICATES: Mapping[str, Certificate] = MappingProxyType(
    {
        certificate.name: certificate
        for certificate in (
            CENTRE,
            ENTROPY_OF_BALL,
            ENTROPY_OF_LAYERS,
            SPECTRALLY_NORMALIZED,
            PAC_BAYES,
            SPECTRALLY_NORMALIZED_CUT,
            SPECTRALLY_NORMALIZED_FROM_INITIAL,
            SPECTRALLY_NORMALIZED_FIXED,
            NEYSHABUR_FROBENIUS,
            GOLOWICH_FROBENIUS,
            GOLOWICH_ROWS,
            PATH_NORM,
            VC,
            LINEAR,
            *GIBBS_CERTIFICATES,
        )
    }
)

#: Measures by name, read-only.
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            *NORM_MEASURES,
            *FLATNESS_MEASURES,
            *NEYSHABUR_MEASURES,
            *DATA_MEASURES,
        )
    }
)

#: Bounds on the mean gap by name, read-only.
EXPECTATION_BOUNDS: Mapping[str, ExpectationBound] = MappingProxyType({**INFORMATION_BOUNDS})


def evaluate_all(inputs: BoundInputs, names: Sequence[str] | None = None) -> dict[str, Evaluation]:
    r"""Evaluate every certificate whose inputs are there.

    Each holds on its own with probability :math:`1-\delta`; for all of them together, or for the
    smallest, divide ``failure_probability`` by their number beforehand.

    Parameters
    ----------
    inputs
        Norms of the iterates and what was fixed in advance.
    names
        Which certificates; all that ``inputs`` suffices for if left out.

    Returns
    -------
    dict
        Evaluations of shape ``(...)`` by name, in the order of ``CERTIFICATES``.

    Raises
    ------
    ValueError
        If a certificate is asked for by name and something that it needs is missing.

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
    >>> for name, evaluation in evaluate_all(inputs, ["G1", "G2", "G3", "BFT", "NBS"]).items():
    ...     print(name, evaluation.value.round(2), evaluation.vacuous)
    G1 [0.12 0.89] [False False]
    G2 [0.18 1.43] [False  True]
    G3 [0.74 6.82] [False  True]
    BFT [83.94 92.3 ] [ True  True]
    NBS [6.59 7.24] [ True  True]
    """
    return {name: CERTIFICATES[name](inputs) for name in available(CERTIFICATES, inputs, names)}


def available(
    registry: Mapping[str, Certificate] | Mapping[str, Measure],
    inputs: BoundInputs,
    names: Sequence[str] | None = None,
) -> list[str]:
    """Names of the entries that the inputs suffice for.

    Parameters
    ----------
    registry
        ``CERTIFICATES`` or ``MEASURES``.
    inputs
        What there is.
    names
        Which entries; then all of them must be available.

    Raises
    ------
    ValueError
        If one of ``names`` is unknown or lacks something that it needs.
    """
    if names is None:
        return [name for name, entry in registry.items() if not inputs.missing(entry.needs)]
    for name in names:
        missing = inputs.missing(lookup(name, registry).needs)
        if missing:
            raise ValueError(
                f"{name} needs {', '.join(missing)}, which the inputs do not have; give it, or "
                "leave the bound out."
            )
    return list(names)


def lookup(
    name: str,
    registry: Mapping[str, Certificate] | Mapping[str, Measure] | None = None,
) -> Certificate | ExpectationBound | Measure:
    """Find a bound or a measure by its name.

    Parameters
    ----------
    name
        Key of a registry.
    registry
        Where to look; in all three if left out.

    Raises
    ------
    ValueError
        If there is none of that name; the nearest one is suggested, whatever its case.

    Examples
    --------
    >>> from sgdsim.bounds import lookup
    >>> lookup("BFT").kind
    'certificate'
    """
    known: dict[str, Certificate | ExpectationBound | Measure] = dict(registry or {})
    if registry is None:
        known = {**CERTIFICATES, **EXPECTATION_BOUNDS, **MEASURES}
    if name not in known:
        folded = {key.casefold(): key for key in known}
        close = get_close_matches(name.casefold(), folded, 1, cutoff=0.4)
        hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
        raise ValueError(f"There is no bound or measure {name!r}.{hint}")
    return known[name]


def certificate(name: str) -> Certificate:
    """Find a certificate by its name; a measure is refused.

    Parameters
    ----------
    name
        Key of ``CERTIFICATES``.

    Raises
    ------
    TypeError
        If the name is that of a measure or of an expectation bound.
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> from sgdsim.bounds import certificate
    >>> certificate("G1").fixed_in_advance
    'centre (minimum on independent reference rows), margin'
    """
    entry = lookup(name)
    if isinstance(entry, Measure):
        raise TypeError(
            f"{name} is a measure (dropped: {entry.dropped}): it ranks networks and bounds "
            f"nothing; the certificates are {', '.join(CERTIFICATES)}."
        )
    if isinstance(entry, ExpectationBound):
        raise TypeError(
            f"{name} bounds the mean gap over training rows and noise, not that of one run; the "
            f"certificates are {', '.join(CERTIFICATES)}."
        )
    return entry


def explain(name: str) -> str:
    """Say in plain text what a bound or a measure is.

    Parameters
    ----------
    name
        Key of a registry.

    Returns
    -------
    str
        Kind, formula, statement, assumptions, invariances, source: one paragraph each.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> from sgdsim.bounds import explain
    >>> print(explain("G1").splitlines()[0])
    G1: certificate
    """
    entry = lookup(name)
    lines = [f"{entry.name}: {_KINDS[entry.kind]}", f"  formula      {entry.formula}"]
    if isinstance(entry, Certificate):
        lines += [
            f"  bounds       {entry.population_loss} loss of the population minus "
            f"{entry.empirical_loss} loss of the training rows",
            f"  holds        {entry.statement}",
            f"  fixed before {entry.fixed_in_advance}",
            f"  union over   {entry.union_bound}",
        ]
    elif isinstance(entry, ExpectationBound):
        lines.append(f"  holds        {entry.statement}")
    else:
        lines.append(f"  dropped      {entry.dropped}")
    if not isinstance(entry, Measure):
        lines += [
            f"  {'assumes' if not i else '':<12} {text}" for i, text in enumerate(entry.assumptions)
        ]
    if not isinstance(entry, ExpectationBound):
        lines.append(f"  unchanged by {', '.join(entry.invariances) or 'nothing'}")
    if entry.needs:
        lines.append(f"  needs        {', '.join(entry.needs)}")
    return "\n".join([*lines, f"  source       {entry.source}"])


_KINDS = {
    "certificate": "certificate",
    "expectation": "bound on the mean gap",
    "measure": "measure, no bound",
}
