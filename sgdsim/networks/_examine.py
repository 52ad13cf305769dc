"""Bounds and measures of a network that was trained elsewhere."""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdsim.bounds import (
    CERTIFICATES,
    FACTORS,
    MEASURES,
    ActivationName,
    Assessment,
    BoundInputs,
    GeometricGrid,
    GibbsErrors,
    LayerNorms,
    MarginSample,
    TrainingSample,
    assess,
    available,
    lookup,
)
from sgdsim.networks._architecture import Architecture
from sgdsim.networks._gibbs import gibbs_errors
from sgdsim.networks._ingredients import measure_network
from sgdsim.networks._layers import Activation, Convolution, Flatten, Linear
from sgdsim.networks._operator_norms import (
    operator_distances,
    operator_norms,
    with_bias_coordinate,
)
from sgdsim.networks._outputs import LabelledRows, call_network, network_margins
from sgdsim.networks._pools import MaxPool


@dataclass(frozen=True)
class FixedInAdvance:
    r"""What must be chosen without the training rows.

    Parameters
    ----------
    margin
        :math:`\gamma` of the ramp and margin losses.
    input_bound
        ``B_x``: norm that no input can exceed.
    failure_probability
        Probability with which any of the certificates may fail; each gets an equal share.
    grid
        Grid for norms, which a union bound pays for.
    deviations
        Standard deviations of the noisy weights of PAC-Bayes bounds.
    draws
        Random networks behind every mean error of these.
    """

    margin: float | int
    input_bound: float | int
    failure_probability: float = 0.05
    grid: GeometricGrid = field(default_factory=lambda: GeometricGrid(1e-3, 1e6, 1.05))
    deviations: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    draws: int = 64

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        for name in ("margin", "input_bound"):
            value = getattr(self, name)
            if not 0.0 < value < np.inf:
                raise ValueError(f"{name} must be positive and finite; got {value}.")
        if not 0.0 < self.failure_probability < 1.0:
            raise ValueError(
                f"failure_probability must be in (0, 1); got {self.failure_probability}."
            )


def examine(
    architecture: Architecture,
    rows: LabelledRows,
    fixed: FixedInAdvance,
    held_out: LabelledRows | None = None,
    initial: Architecture | None = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Evaluate every bound and measure that a network and its training rows suffice for.

    Parameters
    ----------
    architecture
        The trained network, a chain of layers. Biases of a fully connected relu network are
        written as weights of a constant input.
    rows
        Training rows, inputs of shape ``(n, *input_shape)``.
    fixed
        What was chosen without them.
    held_out
        Rows that the training has not seen; without them there are no gaps.
    initial
        The network at initialisation, for bounds on the distance from there and PAC-Bayes. It must
        not have the weights of the trained network.
    seed
        Of the noise behind noise tolerances and Gibbs errors.

    Returns
    -------
    xarray.Dataset
        Along ``bound``: ``value``, ``log_value``, ``generalization_gap``,
        ``generalization_gap_stderr``, ``tightness``, ``reason`` (why a certificate is NaN), with
        the coordinate ``kind``; ``log_factor`` along ``bound`` and ``factor``; norms along
        ``layer``. The attributes say what was fixed; ``left_out`` is a sentence about what this
        network does not allow, or empty.

    Raises
    ------
    ValueError
        If the network is no chain, has an activation after its last linear map or the weights of
        ``initial``, its rows do not fit, an input is longer than the bound, or a weight is not
        finite.

    Notes
    -----
    Convolutions count as the linear maps that they are. Max pools are no elementwise activation,
    so that with them only measures are evaluated. PAC-Bayes certificates are for ``Linear`` layers
    with activations only: there the norms of the maps are those of the weights that get the
    noise, which a kernel that repeats or a fixed factor would change.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import FixedInAdvance, LabelledRows, examine, mlp
    >>> random = np.random.default_rng(0)
    >>> inputs = random.uniform(-1.0, 1.0, (100, 2))
    >>> rows = LabelledRows(inputs, np.eye(2)[(inputs[:, 0] > 0) * 1])
    >>> network = mlp([np.array([[-1.0, 0.0], [1.0, 0.0]])])
    >>> found = examine(network, rows, FixedInAdvance(margin=0.1, input_bound=1.5))
    >>> round(float(found.value.sel(bound="linear")), 2), str(found.kind.sel(bound="l2").values)
    (6.48, 'measure')
    """
    _check_rows(rows, architecture, fixed)
    if held_out is not None:
        _check_rows(held_out, architecture, fixed)
    bound = float(fixed.input_bound)
    # Means and variances of batch norms are no weights: folded, nothing perturbs them.
    architecture = architecture.folded()
    initial = None if initial is None else initial.folded()
    _check_outputs(architecture)
    if _has_biases(architecture):
        architecture = with_bias_coordinate(architecture)
        initial = None if initial is None else with_bias_coordinate(initial)
        rows, bound = _with_constant(rows), float(np.hypot(bound, 1.0))
        held_out = None if held_out is None else _with_constant(held_out)
    elementwise = not any(isinstance(layer, MaxPool) for layer in architecture.layers)
    norms = operator_norms(architecture)
    distances = None if initial is None else operator_distances(architecture, initial)
    if initial is not None:
        _check_moved(architecture, initial)
    left_out = _without_gibbs(architecture)
    both = rows, held_out
    measured, gibbs = _measured(architecture, initial, both, fixed, seed, gibbs=not left_out)
    inputs = BoundInputs(
        iterate=norms,
        sample=TrainingSample.of(np.asarray(rows.inputs), bound),
        margin=fixed.margin,
        failure_probability=fixed.failure_probability,
        grid=fixed.grid,
        activation=_activation(architecture),
        initial=distances,
        gibbs=gibbs,
        measured=measured,
    )
    certificates = available(CERTIFICATES, inputs) if elementwise else []
    share = fixed.failure_probability / max(1, len(certificates))
    margins = None if held_out is None else _margins(architecture, rows, held_out)
    names = [*certificates, *available(MEASURES, inputs)]
    found = assess(replace(inputs, failure_probability=share), margins, names)
    return _dataset(found, norms, fixed, share).assign_attrs(left_out=left_out)


def _measured(
    architecture: Architecture,
    initial: Architecture | None,
    both: tuple[LabelledRows, LabelledRows | None],
    fixed: FixedInAdvance,
    seed: int,
    gibbs: bool,
) -> tuple[dict[str, np.ndarray], GibbsErrors | None]:
    """Ingredients of the measures, and errors of the network with noisy weights if wanted."""
    keys = jax.random.split(jax.random.key(seed))
    theta, start = (
        None if network is None else jax.tree.map(jnp.asarray, network)
        for network in (architecture, initial)
    )
    measured = measure_network(call_network, theta, start, both[0], keys[0])
    if not gibbs:
        return measured, None
    errors = gibbs_errors(call_network, theta, *both, fixed.deviations, fixed.draws, keys[1])
    return measured, errors


def _without_gibbs(architecture: Architecture) -> str:
    """Say why PAC-Bayes certificates are left out; nothing where the maps are the weights."""
    plain = (Linear, Activation, Flatten)
    others = [type(layer).__name__ for layer in architecture.layers if not isinstance(layer, plain)]
    if not others:
        return ""
    return (
        "PAC-Bayes certificates are left out: they are evaluated for networks of Linear layers and "
        f"activations only, and this one has {' and '.join(sorted(set(others)))} layers."
    )


def _check_outputs(architecture: Architecture) -> None:
    for layer in reversed(architecture.layers):
        if isinstance(layer, Linear | Convolution):
            return
        if isinstance(layer, Activation):
            raise ValueError(
                f"The network ends with {layer.name}, and certificates are about the outputs of "
                "the last linear map, whose margins are others; leave the final activation out."
            )


def _check_moved(architecture: Architecture, initial: Architecture) -> None:
    pairs = zip(jax.tree.leaves(architecture), jax.tree.leaves(initial), strict=True)
    if all(np.array_equal(leaf, start) for leaf, start in pairs):
        raise ValueError(
            "The initial weights equal the trained ones; give the weights from before training."
        )


def _check_rows(rows: LabelledRows, architecture: Architecture, fixed: FixedInAdvance) -> None:
    inputs, targets = np.asarray(rows.inputs), np.asarray(rows.targets)
    if inputs.shape[1:] != architecture.input_shape:
        raise ValueError(
            f"The network takes inputs of shape {architecture.input_shape}; the rows have inputs "
            f"of shape {inputs.shape[1:]}."
        )
    if (targets.shape[1:],) != (architecture.output_shape,):
        raise ValueError(
            f"The network has outputs of shape {architecture.output_shape}; the one-hot labels "
            f"have the shape {targets.shape[1:]}: give one column per output."
        )
    if not np.isfinite(inputs).all():
        raise ValueError("The inputs hold numbers that are not finite; remove those rows.")
    longest = float(np.linalg.norm(inputs.reshape(len(inputs), -1), axis=1).max(initial=0.0))
    if longest > fixed.input_bound * (1.0 + 1e-6):
        raise ValueError(
            f"An input has the norm {longest:.6g}, more than input_bound = {fixed.input_bound:g}; "
            "give a bound that holds for every possible input."
        )


def _has_biases(architecture: Architecture) -> bool:
    return any(
        isinstance(layer, Linear) and layer.bias is not None for layer in architecture.layers
    )


def _with_constant(rows: LabelledRows) -> LabelledRows:
    inputs = np.asarray(rows.inputs).reshape(len(rows.inputs), -1)
    return LabelledRows(np.column_stack([inputs, np.ones(len(inputs))]), rows.targets)


def _activation(architecture: Architecture) -> ActivationName:
    """Activation as the certificates know it; all others count as 1-Lipschitz only."""
    names = {layer.name for layer in architecture.layers if isinstance(layer, Activation)}
    if not names:
        return "linear"
    return "relu" if names == {"relu"} else "tanh"


def _margins(
    architecture: Architecture, rows: LabelledRows, held_out: LabelledRows
) -> MarginSample:
    training, fresh = (
        np.asarray(network_margins(call_network, architecture, part), np.float64)
        for part in (rows, held_out)
    )
    return MarginSample(training, fresh)


def _dataset(
    found: Assessment, norms: LayerNorms, fixed: FixedInAdvance, share: float
) -> xr.Dataset:
    columns = {
        "value": found.value,
        "log_value": found.log_value,
        "generalization_gap": found.gap,
        "generalization_gap_stderr": found.gap_stderr,
        "tightness": found.tightness,
        "reason": np.array([found.reasons.get(name, "") for name in found.names]),
    }
    layers = {
        "spectral_norm_low": norms.spectral_low,
        "spectral_norm_high": norms.spectral_high,
        "frobenius_norm": norms.frobenius,
    }
    return xr.Dataset(
        {name: ("bound", column) for name, column in columns.items()}
        | {name: ("layer", column) for name, column in layers.items()}
        | {"log_factor": (("bound", "factor"), found.log_factor)},
        coords={
            "bound": list(found.names),
            "kind": ("bound", [lookup(name).kind for name in found.names]),
            "factor": list(FACTORS),
        },
        attrs={
            "margin": float(fixed.margin),
            "input_bound": float(fixed.input_bound),
            "failure_probability": fixed.failure_probability,
            "failure_probability_of_each_certificate": share,
        },
    )
