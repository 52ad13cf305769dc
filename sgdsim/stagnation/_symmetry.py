"""Symmetries of a network that leave its function alone, and distances without them."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from sgdsim.problems import Network

_SWEEPS = 10_000

#: Activations with s(cz) = c s(z) for c > 0, and those with s(-z) = -s(z).
_HOMOGENEOUS = {"relu"}
_ODD = {"tanh"}


def balance(network: Network) -> Network:
    r"""Rescale hidden ReLU units until incoming and outgoing weights have equal norms.

    .. math:: (A_{l+1})_{\cdot j}\,\sigma\big((A_l)_{j\cdot}\,x\big)
        = c^{-1}(A_{l+1})_{\cdot j}\,\sigma\big(c\,(A_l)_{j\cdot}\,x\big), \quad c > 0

    The balanced network, :math:`\|(A_l)_{j\cdot}\| = \|(A_{l+1})_{\cdot j}\|` for every hidden
    unit, is the one of smallest norm on the orbit. It is in closed form for one hidden layer;
    with more, layers are balanced in turn until nothing changes.

    Parameters
    ----------
    network
        With the activation ``relu``.

    Returns
    -------
    Network
        The same function. A unit without incoming or without outgoing weights is set to zero,
        the limit to which its orbit leads.

    Raises
    ------
    ValueError
        The activation does not allow rescaling.

    Notes
    -----
    The norm is convex in the logarithms of the factors, so balancing in turn cannot end anywhere
    but in the smallest norm. Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit
    constants, this project), section 4.3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Network
    >>> from sgdsim.stagnation import balance
    >>> network = Network((jnp.array([[8.0]]), jnp.array([[0.5]])), activation="relu")
    >>> [weight.item() for weight in balance(network).weights]
    [2.0, 2.0]
    """
    if network.activation not in _HOMOGENEOUS:
        raise ValueError(
            f"the activation {network.activation!r} does not commute with rescaling, so balancing "
            "would change the function; leave it out (its symmetries are permutations and signs)."
        )
    weights = _matrices(network)
    for _ in range(_SWEEPS):
        change = 0.0
        for below, above in itertools.pairwise(range(len(weights))):
            incoming = np.linalg.norm(weights[below], axis=1)
            outgoing = np.linalg.norm(weights[above], axis=0)
            alive = (incoming > 0) & (outgoing > 0)
            safe_in, safe_out = np.where(alive, incoming, 1.0), np.where(alive, outgoing, 1.0)
            factor = np.sqrt(safe_out / safe_in)
            weights[below] = weights[below] * np.where(alive, factor, 0.0)[:, None]
            weights[above] = weights[above] * np.where(alive, 1 / factor, 0.0)[None, :]
            change = max(change, float(np.max(np.abs(np.log(factor)), initial=0.0)))
        if change < 1e-14:
            break
    return _network(network, weights)


def canonical(network: Network, reference: Network) -> Network:
    r"""Give the member of the symmetry orbit of a network that is near to a reference.

    ReLU networks, the reference too, are balanced first (`balance`). Then hidden units are
    permuted, and for tanh their signs turned (row in and column out together), to lower

    .. math:: \sum_l \|P_l A_l P_{l-1}^\top - B_l\|_F^2 .

    Parameters
    ----------
    network
        A network A.
    reference
        A network B of the same shape and activation.

    Returns
    -------
    Network
        The same function as ``network``.

    Raises
    ------
    ValueError
        Shapes or activations differ.

    Notes
    -----
    One hidden layer: the sum over pairs of units splits, the sign of a pair is that of the inner
    product of its weights, and an assignment problem gives the exact optimum over permutations
    and signs. More layers: each layer in turn given its neighbours, from two starts (the units
    as they stand; layer by layer from the inputs), the better one; not always the optimum.
    Source: Ainsworth, Hayase and Srinivasa 2023, "Git Re-Basin", section 3.2 (weight matching);
    signs added here.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Network
    >>> from sgdsim.stagnation import canonical
    >>> network = Network((jnp.array([[1.0], [-2.0]]), jnp.array([[3.0, 4.0]])))
    >>> turned = Network((jnp.array([[2.0], [1.0]]), jnp.array([[-4.0, 3.0]])))
    >>> [weight.tolist() for weight in canonical(turned, network).weights]
    [[[1.0], [-2.0]], [[3.0, 4.0]]]
    """
    weights, _ = _matched(network, reference)
    return _network(network, weights)


def symmetry_distance(network: Network, reference: Network) -> float:
    r"""Euclidean distance of two networks after their symmetries are removed.

    .. math:: \Big(\sum_l \|P_l A_l P_{l-1}^\top - B_l\|_F^2\Big)^{1/2}

    Both as `canonical` leaves them: balanced for ReLU, permutations and signs matched. Zero for
    two networks of one orbit with one hidden layer; an upper bound on the smallest distance of
    the two orbits, exact over permutations and signs for one hidden layer.

    Parameters
    ----------
    network, reference
        Of the same shape and activation.

    Raises
    ------
    ValueError
        Shapes or activations differ.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Network
    >>> from sgdsim.stagnation import symmetry_distance
    >>> network = Network((jnp.array([[1.0], [-2.0]]), jnp.array([[3.0, 4.0]])))
    >>> turned = Network((jnp.array([[2.0], [1.0]]), jnp.array([[-4.0, 3.0]])))
    >>> symmetry_distance(turned, network)
    0.0
    """
    return float(np.sqrt(_squared_distance(*_matched(network, reference))))


def _matched(network: Network, reference: Network) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights of the matched network and of the (balanced) reference."""
    shapes = [[weight.shape for weight in net.weights] for net in (network, reference)]
    if shapes[0] != shapes[1] or network.activation != reference.activation:
        raise ValueError(
            f"the networks have the shapes {shapes[0]} and {shapes[1]} and the activations "
            f"{network.activation!r} and {reference.activation!r}: units are matched between "
            "networks of one architecture only."
        )
    if network.activation in _HOMOGENEOUS:
        network, reference = balance(network), balance(reference)
    signed = network.activation in _ODD
    weights, target = _matrices(network), _matrices(reference)
    forward = list(weights)
    for layer in range(len(weights) - 1):
        gain = forward[layer] @ target[layer].T
        forward = _permute(forward, layer, gain, signed)
    candidates = [_match_in_turn(start, target, signed) for start in (weights, forward)]
    return min(candidates, key=lambda found: _squared_distance(found, target)), target


def _match_in_turn(
    weights: Sequence[np.ndarray], target: Sequence[np.ndarray], signed: bool
) -> list[np.ndarray]:
    """Match every hidden layer given the others until the distance falls no more."""
    best = list(weights)
    distance = _squared_distance(best, target)
    while True:
        trial = best
        for layer in range(len(best) - 1):
            gain = trial[layer] @ target[layer].T + trial[layer + 1].T @ target[layer + 1]
            trial = _permute(trial, layer, gain, signed)
        after = _squared_distance(trial, target)
        # Rounding must not keep two equally good matchings changing places for ever.
        if not after < distance * (1 - 1e-12):
            return best
        best, distance = trial, after


def _permute(
    weights: Sequence[np.ndarray], layer: int, gain: np.ndarray, signed: bool
) -> list[np.ndarray]:
    """Assign the units of a layer to those of the target with the largest total gain."""
    size = np.abs(gain) if signed else gain
    units, places = linear_sum_assignment(size, maximize=True)
    order = units[np.argsort(places)]
    signs = np.ones(len(order))
    if signed:
        signs = np.where(gain[order, np.arange(len(order))] < 0, -1.0, 1.0)
    result = list(weights)
    result[layer] = signs[:, None] * result[layer][order]
    result[layer + 1] = result[layer + 1][:, order] * signs[None, :]
    return result


def _squared_distance(weights: Sequence[np.ndarray], target: Sequence[np.ndarray]) -> float:
    return float(sum(np.sum((a - b) ** 2) for a, b in zip(weights, target, strict=True)))


def _matrices(network: Network) -> list[np.ndarray]:
    return [np.asarray(weight, np.float64) for weight in network.weights]


def _network(like: Network, weights: Sequence[np.ndarray]) -> Network:
    pairs = zip(weights, like.weights, strict=True)
    return Network(tuple(jnp.asarray(new, old.dtype) for new, old in pairs), like.activation)
