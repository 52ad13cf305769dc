"""Fixed-effort multilevel splitting of a chain: levels, particles, resampling."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from sgdsim._checks import check_count
from sgdsim.dynamics import AbstractStepper, Iterate
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import Problem

#: Share of the particles that the pilot sends from one level to the next.
_PILOT_SHARE = 0.25
_MOST_LEVELS = 200


@dataclasses.dataclass(frozen=True)
class Splitting:
    """How an exit probability is split into the probabilities of nested levels.

    Parameters
    ----------
    levels
        Inner levels as fractions of the radius, increasing, each in (0, 1); the radius itself is
        the last level and is added. ``None`` lets a pilot run choose levels that about a quarter
        of the particles reach from the one before.
    particles
        Trajectories per level and replica.
    replicas
        Independent repetitions, at least 2; the interval comes from their scatter.
    seed
        Of all random numbers; a JAX key where they must differ from those of other estimates.

    Raises
    ------
    ValueError
        The levels do not increase within (0, 1), or a count is too small.

    Examples
    --------
    >>> from sgdsim.stagnation import Splitting
    >>> Splitting(levels=(0.5, 0.8), particles=100).replicas
    20
    """

    levels: tuple[float, ...] | None = None
    particles: int = 1000
    replicas: int = 20
    seed: int | Key[Array, ""] = 0

    def __post_init__(self):
        check_count("particles", self.particles)
        check_count("replicas", self.replicas)
        if self.replicas < 2:
            raise ValueError("replicas must be at least 2, got 1: one shows no scatter.")
        if self.levels is not None:
            edges = np.array([0.0, *self.levels, 1.0])
            if not np.all(np.diff(edges) > 0):
                raise ValueError(
                    f"levels must increase strictly within (0, 1), got {self.levels}: they are "
                    "fractions of the radius, which is added as the last level."
                )


class Runs(NamedTuple):
    """Replicas: estimates of P(level i reached) and of P(exit after the burn-in)."""

    levels: Float[np.ndarray, " level"]
    prefix: Float[np.ndarray, "replica level"]
    late: Float[np.ndarray, " replica"]
    trajectory_steps: int


class _Chain(eqx.Module):
    """The Markov chain that is split, its start and its last step."""

    problem: Problem
    stepper: AbstractStepper
    region: AbstractRegion
    horizon: Int[Array, ""]


class _Particles(NamedTuple):
    """States in which particles reached a level or ran out of steps, leading axis particle."""

    iterate: Iterate
    step: Int[Array, "..."]
    reached: Bool[Array, "..."]
    #: Largest squared distance on the way, inf if not finite.
    maximum: Float[Array, "..."]


def run_splitting(
    problem: Problem,
    stepper: AbstractStepper,
    region: AbstractRegion,
    theta: PyTree,
    times: tuple[int, int],
    splitting: Splitting,
) -> Runs:
    """Choose the levels and run all replicas; ``times`` are the last step and the burn-in."""
    check_count("steps", times[0])
    stepper.check(problem, theta)
    radius, squared = float(region.radius), float(region.squared_distance(theta))
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(
            f"radius must be positive and finite, got {radius:g}: levels are fractions of it."
        )
    if not squared <= radius**2:
        raise ValueError(
            f"theta must be inside the region, its distance is {squared**0.5:g} and the radius "
            f"{radius:g}: from outside there is no exit to wait for."
        )
    # Numbers become traced arguments: other radii or learning rates reuse the compiled program.
    chain = jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if eqx.is_array_like(leaf) else leaf,
        _Chain(problem, stepper, region, jnp.asarray(times[0], jnp.int32)),
    )
    start = _start(chain, jax.tree.map(jnp.asarray, theta), splitting.particles)
    seed = splitting.seed
    root = seed if isinstance(seed, jax.Array) else jax.random.key(seed)
    work = 0
    inner = splitting.levels
    if inner is None:
        inner, work = _pilot(chain, jax.random.fold_in(root, 0), start)
    levels = np.array([*inner, 1.0])
    prefix, late = np.zeros((splitting.replicas, len(levels))), np.zeros(splitting.replicas)
    for replica in range(splitting.replicas):
        key = jax.random.fold_in(root, replica + 1)
        particles, product, reached = start, 1.0, np.ones(splitting.particles, bool)
        for number, level in enumerate(levels):
            particles, cost = _stage(chain, key, number, level, particles)
            work += cost
            reached = np.asarray(particles.reached)
            product *= reached.mean()
            prefix[replica, number] = product
            if product == 0:
                break
        if product > 0:
            after = np.asarray(particles.step)[reached] > times[1]
            late[replica] = product * after.mean()
    return Runs(levels, prefix, late, work)


def _pilot(chain: _Chain, key: Key[Array, ""], start: _Particles) -> tuple[tuple[float, ...], int]:
    """Levels that about a quarter of the particles reach from the one before, and the cost."""
    levels: list[float] = []
    particles, work = start, 0
    while len(levels) < _MOST_LEVELS:
        number = len(levels)
        ahead, cost = _stage(chain, key, number, 1.0, particles)
        work += cost
        far = float(np.quantile(np.asarray(ahead.maximum), 1.0 - _PILOT_SHARE, method="lower"))
        level = far**0.5 / float(chain.region.radius)
        if not level < 1.0:
            break
        # The same number once more: the same paths, stopped where they reach the level.
        particles, cost = _stage(chain, key, number, level, particles)
        work += cost
        if not np.any(np.asarray(particles.reached)) or (levels and level <= levels[-1]):
            break
        levels.append(level)
    return tuple(levels), work


@eqx.filter_jit
def _start(chain: _Chain, theta: PyTree, count: int) -> _Particles:
    iterate = chain.stepper.start(chain.problem, theta)
    squared = chain.region.squared_distance(theta)
    one = _Particles(iterate, jnp.zeros((), jnp.int32), jnp.ones((), bool), squared)
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *jnp.shape(a))), one)


def _stage(
    chain: _Chain, key: Key[Array, ""], number: int, level: float, particles: _Particles
) -> tuple[_Particles, int]:
    """Run all particles to the level with that number; also the number of steps taken."""
    edge = jnp.asarray(level, particles.maximum.dtype)
    arrived, work = _run_stage(chain, key, jnp.asarray(number, jnp.int32), edge, particles)
    return arrived, int(work)


@eqx.filter_jit
def _run_stage(
    chain: _Chain,
    key: Key[Array, ""],
    number: Int[Array, ""],
    level: Float[Array, ""],
    particles: _Particles,
) -> tuple[_Particles, Int[Array, ""]]:
    count = particles.step.shape[0]
    key = jax.random.fold_in(key, number)
    # Keys 0, ..., n - 1 belong to the particles.
    parents = _parents(jax.random.fold_in(key, count), particles.reached)
    iterate, step = jax.tree.map(lambda a: a[parents], (particles.iterate, particles.step))
    keys = jax.vmap(lambda particle: jax.random.fold_in(key, particle))(jnp.arange(count))
    new = jax.vmap(lambda *particle: _to_level(chain, level, *particle))(keys, iterate, step)
    return new, jnp.sum(new.step - step)


def _parents(key: Key[Array, ""], reached: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Particle from which each new one starts: those that arrived, in random order, in turn.

    All of them have the same mean number of copies, which is what makes the product unbiased.
    """
    lots = jax.random.uniform(key, reached.shape)
    order = jnp.argsort(jnp.where(reached, lots, 2.0))
    return order[jnp.arange(reached.shape[0]) % jnp.maximum(jnp.sum(reached), 1)]


def _to_level(
    chain: _Chain, level: Float[Array, ""], key: Key[Array, ""], iterate: Iterate, step: Array
) -> _Particles:
    """Run one particle until it is beyond the level or at the last step."""
    problem, stepper, region = chain.problem, chain.stepper, chain.region

    def look(theta: PyTree) -> tuple[Array, Array]:
        squared = region.squared_distance(theta)
        edge = level * jnp.asarray(region.radius, squared.dtype)
        # Not finite is beyond every level.
        return ~(squared <= edge * edge), jnp.where(jnp.isfinite(squared), squared, jnp.inf)

    def going(carry: Any) -> Array:
        particle, _ = carry
        return ~particle.reached & (particle.step < chain.horizon)

    def move(carry: Any) -> Any:
        particle, randomness = carry
        moved, _ = stepper.step(problem, particle.iterate, randomness)
        step = particle.step + 1
        reached, squared = look(moved.theta)
        new = _Particles(moved, step, reached, jnp.maximum(particle.maximum, squared))
        # Drawn ahead and carried: XLA then makes the normals once, as in the ensemble's loop.
        return new, stepper.draw(key, step, problem, moved.theta)

    first = _Particles(iterate, step, *look(iterate.theta))
    randomness = stepper.draw(key, step, problem, iterate.theta)
    return jax.lax.while_loop(going, move, (first, randomness))[0]
