"""Quench: follow the gradient flow into the minimum of the basin, for many starts at once."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim.curvature import hessian_product, lanczos, random_direction
from sgdsim.problems import Problem
from sgdsim.stagnation._exponential_flow import follow_gradient_flow
from sgdsim.stagnation._minima import is_negative
from sgdsim.stagnation._refine import Objective, half_square_curvature, refine, risk_function

# So many starts are followed side by side.
_CHUNK = 64
_SEGMENT = np.linspace(0.0, 1.0, 17)


class Quench(NamedTuple):
    r"""Where the gradient flow from every start ends.

    Attributes
    ----------
    theta
        End points, float64, with the leading axis of the starts.
    risk
        Risk there, shape (start,).
    gradient_norm
        Euclidean norm of the gradient, shape (start,).
    smallest_eigenvalue
        Smallest Ritz value of the Hessian, an upper bound on its smallest eigenvalue, (start,).
    eigenvalue_residual
        Some eigenvalue lies this near to it, shape (start,).
    displacement
        Euclidean distance from the start, shape (start,).
    is_minimum
        The gradient is below the tolerance and no negative curvature was found, shape (start,).
    followed
        The flow itself arrived, or the local method moved from its last point along a segment on
        which the risk is convex (at 17 points), shape (start,). Otherwise the basin is not
        certain.
    reason
        One sentence for every start; empty for a minimum of the basin.
    """

    theta: PyTree
    risk: Float[np.ndarray, " start"]
    gradient_norm: Float[np.ndarray, " start"]
    smallest_eigenvalue: Float[np.ndarray, " start"]
    eigenvalue_residual: Float[np.ndarray, " start"]
    displacement: Float[np.ndarray, " start"]
    is_minimum: Bool[np.ndarray, " start"]
    followed: Bool[np.ndarray, " start"]
    reason: tuple[str, ...]


def quench(
    objective: Objective,
    starts: PyTree,
    tolerance: float = 1e-8,
    max_flow_steps: int = 5000,
    depth: int = 200,
) -> Quench:
    r"""Find the minimum in whose basin each start lies, in float64.

    .. math:: \dot\theta = -\nabla L(\theta), \qquad \theta(0) = \text{start}

    The basin of a minimum is what this flow carries into it, so the flow itself is followed until
    the gradient norm is at the tolerance, by an exponential integrator that is not held up by
    stiffness. Then a local method polishes the point: Levenberg-Marquardt where the loss is half
    a square of the outputs, and Newton with conjugate gradients. What it finds is kept only if
    the gradient norm falls, no eigenvalue of the Hessian is negative and the risk is convex along
    the segment to it. A saddle is thus reported only where the flow itself ends.

    Parameters
    ----------
    objective
        A problem (empirical risk; a problem on fresh rows gives the population risk), or the
        risk as a JAX function of ``theta``, such as ``landscape.risk``.
    starts
        Pytree of parameters with a leading axis over the starts.
    tolerance
        Largest gradient norm of a minimum.
    max_flow_steps
        Of the integrator.
    depth
        Hessian products of the Lanczos run that looks for negative curvature.

    Returns
    -------
    Quench
        A stationary point that is no minimum is reported, not raised: see ``is_minimum`` and
        ``reason``. `find_minimum` is the function for one start that raises.

    Raises
    ------
    ValueError
        Double precision is off, or a number is out of range.

    Notes
    -----
    The flow is followed with a local error of 1e-4, relative to the norm of the parameters: a
    start that close to the border of two basins may end in either. At the kinks of ReLU the steps
    get short; where the flow does not arrive in time the local method is tried from there.
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    sections 4.3 and 4.5.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.problems import DoubleWell
    >>> from sgdsim.stagnation import quench
    >>> with jax.enable_x64(True):
    ...     ends = quench(DoubleWell(1.0).risk, jnp.array([[-0.2], [0.3], [0.0]]))
    >>> ends.theta[:, 0].round(6).tolist(), ends.is_minimum.tolist()
    ([-1.0, 1.0, 0.0], [True, True, False])
    >>> ends.reason[2]
    'stationary, but no minimum: the Hessian has the eigenvalue -1.00e+00 (residual 0.0e+00).'
    """
    check_positive("tolerance", tolerance)
    check_count("max_flow_steps", max_flow_steps)
    check_count("depth", depth)
    require_double_precision("quench")
    starts = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), starts)
    if isinstance(objective, Problem):
        objective = objective.astype(jnp.float64)
    first, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], starts))
    flat = jax.vmap(lambda theta: ravel_pytree(theta)[0])(starts)
    curvature = half_square_curvature(objective, unravel(first))
    # As arrays, since Python numbers would be compiled in.
    numbers = (jnp.asarray(tolerance), None if curvature is None else jnp.asarray(curvature))
    counts = (max_flow_steps, min(depth, first.size))
    count = len(flat)
    chunk = min(count, _CHUNK)
    # Filled up with copies of the last start, so that one compiled program serves all chunks.
    padded = jnp.concatenate([flat, jnp.repeat(flat[-1:], -count % chunk, axis=0)])
    ends = [
        _quench_chunk(objective, padded[at : at + chunk], unravel, numbers, counts)
        for at in range(0, len(padded), chunk)
    ]
    end = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *ends)
    return _report(flat, end, unravel, tolerance)


def require_double_precision(name: str) -> None:
    """Refuse to work in single precision, where no gradient norm falls below the tolerance."""
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            f"{name} needs double precision and jax_enable_x64 is off: gradients in float32 stay "
            "above the tolerance; call it under `with jax.enable_x64(True)`."
        )


class _End(NamedTuple):
    """Numbers of `Quench` on flat parameters."""

    theta: Float[Array, "start p"]
    risk: Float[Array, " start"]
    gradient_norm: Float[Array, " start"]
    smallest: Float[Array, " start"]
    residual: Float[Array, " start"]
    followed: Bool[Array, " start"]


@eqx.filter_jit
def _quench_chunk(
    objective: Objective,
    starts: Float[Array, "start p"],
    unravel: Callable,
    numbers: tuple[Array, Array | None],
    counts: tuple[int, int],
) -> _End:
    tolerance, curvature = numbers
    max_flow_steps, depth = counts
    risk = risk_function(objective, unravel)

    def descend(start: Array) -> tuple[Array, Array, Array]:
        flow = follow_gradient_flow(risk, start, tolerance, max_steps=max_flow_steps)
        refined = refine(objective, unravel, flow.theta, tolerance, curvature)
        return flow.theta, flow.arrived, refined

    def inspect(flow: Array, arrived: Array, refined: Array) -> _End:
        straight = _is_convex_between(risk, flow, refined)

        # A loop of one or two passes rather than a choice, to compile Lanczos once.
        def look(state: tuple) -> tuple:
            end, is_refined, *_ = state
            start = random_direction(jax.random.key(0), end)
            smallest, residual = lanczos(hessian_product(risk, end), start, depth).smallest
            # Beside the path of the flow, which has an end of its own.
            again = is_refined & arrived & is_negative(smallest, residual)
            return jnp.where(again, flow, end), is_refined & ~again, smallest, residual, again

        keep = straight | ~arrived
        nan = jnp.full((), jnp.nan, flow.dtype)
        begin = (jnp.where(keep, refined, flow), keep, nan, nan, jnp.asarray(True))
        end, _, smallest, residual, _ = jax.lax.while_loop(lambda state: state[-1], look, begin)
        norm = jnp.linalg.norm(jax.grad(risk)(end))
        return _End(end, risk(end), norm, smallest, residual, straight | arrived)

    # One after another: the Krylov bases of all starts would need much memory.
    return jax.lax.map(lambda args: inspect(*args), jax.vmap(descend)(starts))


def _is_convex_between(risk: Callable, start: Array, end: Array) -> Array:
    """Slopes along the segment increase, up to rounding."""
    direction = end - start
    gradients = jax.vmap(lambda s: jax.grad(risk)(start + s * direction))(
        jnp.asarray(_SEGMENT, start.dtype)
    )
    slopes = gradients @ direction
    rounding = 1e-13 * jnp.linalg.norm(gradients[0]) * jnp.linalg.norm(direction)
    slack = 1e-3 * jnp.max(jnp.abs(slopes)) + rounding
    return jnp.all(jnp.diff(slopes) >= -slack)


def _report(flat: Array, end: _End, unravel: Callable, tolerance: float) -> Quench:
    risk, norm, smallest, residual, followed = (np.asarray(leaf) for leaf in end[1:])
    stationary = norm <= tolerance
    is_minimum = stationary & ~np.asarray(is_negative(end.smallest, end.residual))
    reasons = []
    for i in range(len(norm)):
        if not stationary[i]:
            reason = (
                f"the gradient norm stays at {norm[i]:.2e}, above the tolerance {tolerance:.0e}; "
                "raise max_flow_steps or the tolerance."
            )
        elif not is_minimum[i]:
            reason = (
                f"stationary, but no minimum: the Hessian has the eigenvalue {smallest[i]:.2e} "
                f"(residual {residual[i]:.1e})."
            )
        elif not followed[i]:
            reason = (
                "a minimum, but the risk is not convex on the way to it from where the flow was "
                "left: it may belong to another basin; raise max_flow_steps."
            )
        else:
            reason = ""
        reasons.append(reason)
    return Quench(
        theta=jax.vmap(unravel)(end.theta),
        risk=risk,
        gradient_norm=norm,
        smallest_eigenvalue=smallest,
        eigenvalue_residual=residual,
        displacement=np.linalg.norm(np.asarray(end.theta - flat), axis=1),
        is_minimum=is_minimum,
        followed=followed,
        reason=tuple(reasons),
    )
