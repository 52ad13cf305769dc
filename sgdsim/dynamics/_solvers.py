"""Solvers of diffrax: what each converges to, for which noise it is right, why one is refused."""

import difflib
from typing import Any, Literal, NamedTuple

import diffrax
import jax.numpy as jnp

from sgdsim.dynamics._noise import AbstractGradientNoise


class SolverFacts(NamedTuple):
    """What one solver of diffrax is good for.

    Attributes
    ----------
    limit
        The equation that its steps converge to when the noise depends on the state; ``"langevin"``
        are solvers of the underdamped Langevin equation alone, ``"ode"`` those without noise.
    noise
        The noise that it is right for: any, additive, isotropic or none.
    levy
        Space-time Levy areas that a step consumes besides the increment: 0, 1 (``H``) or
        2 (``H`` and ``K``).
    fused
        Whether a stage can take drift and diffusion as one increment, hence one backward pass.
    refusal
        Why it cannot be used at all, if so.
    """

    limit: Literal["ito", "stratonovich", "langevin", "ode"]
    noise: Literal["any", "additive", "isotropic", "none"]
    levy: Literal[0, 1, 2] = 0
    fused: bool = False
    refusal: str = ""


_MATERIALISED = (
    "it needs the diffusion as a dense matrix, and products of two such matrices, which are never "
    "formed here"
)
_TWO_STEP = (
    "it carries a second copy of theta from step to step and adds up diffusion matrices, which "
    "are never formed here"
)
_IMPLICIT = "it is implicit and factorises the p x p Hessian, which is never formed here"

#: Solvers by the name of their class in diffrax, in lower case.
SOLVERS: dict[str, tuple[str, SolverFacts]] = {
    name.lower(): (name, facts)
    for name, facts in {
        "Euler": SolverFacts("ito", "any", fused=True),
        "ItoMilstein": SolverFacts("ito", "any", refusal=_MATERIALISED),
        "Heun": SolverFacts("stratonovich", "any", fused=True),
        "Midpoint": SolverFacts("stratonovich", "any", fused=True),
        "Ralston": SolverFacts("stratonovich", "any", fused=True),
        "EulerHeun": SolverFacts("stratonovich", "any"),
        "StratonovichMilstein": SolverFacts("stratonovich", "any"),
        "ReversibleHeun": SolverFacts("stratonovich", "any", refusal=_TWO_STEP),
        "GeneralShARK": SolverFacts("stratonovich", "any", levy=1),
        "SPaRK": SolverFacts("stratonovich", "any", levy=1),
        "SlowRK": SolverFacts("stratonovich", "any", levy=1),
        "ShARK": SolverFacts("stratonovich", "additive", levy=1),
        "SRA1": SolverFacts("stratonovich", "additive", levy=1),
        "SEA": SolverFacts("stratonovich", "additive", levy=1),
        "ALIGN": SolverFacts("langevin", "isotropic", levy=1),
        "ShOULD": SolverFacts("langevin", "isotropic", levy=2),
        "QUICSORT": SolverFacts("langevin", "isotropic", levy=2),
        "Tsit5": SolverFacts("ode", "none"),
        "Dopri5": SolverFacts("ode", "none"),
        "Dopri8": SolverFacts("ode", "none"),
        "Kvaerno5": SolverFacts("ode", "none", refusal=_IMPLICIT),
    }.items()
}


def lower_case(name: str) -> str:
    """Spell a solver as the tables here do."""
    return str(name).lower()


def solver_facts(name: str) -> SolverFacts:
    """Look up what is known of a solver, its name in lower case.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in SOLVERS:
        near = difflib.get_close_matches(str(name).lower().replace("_", ""), SOLVERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown solver {name!r}.{hint} Known: {', '.join(SOLVERS)}.")
    return SOLVERS[name][1]


def make_solver(name: str, dtype: Any = jnp.float32) -> diffrax.AbstractSolver:
    """Make the solver of diffrax; only forward simulation is asked of it."""
    kind = getattr(diffrax, SOLVERS[name][0])
    options = kind.__dataclass_fields__
    if "scan_kind" in options:
        return kind(scan_kind="lax")  # the default keeps checkpoints for a backward pass
    if "taylor_threshold" in options:  # what diffrax advises
        return kind(0.1 if dtype == jnp.float32 else 0.01)
    return kind()


def check_solver(
    name: str,
    noise: AbstractGradientNoise,
    *,
    ito_correction: bool = False,
    adaptive: bool = False,
    substeps: int = 1,
    resolution: int | None = None,
) -> None:
    """Refuse a solver that would converge to another process than the Ito equation of SGD.

    Parameters
    ----------
    name
        Solver, the name of its class in diffrax, in any case.
    noise
        Model of the gradient noise.
    ito_correction
        Whether the drift carries the Ito correction of the noise.
    adaptive
        Whether the step size is to be adapted.
    substeps
        Steps of the solver per step of SGD.
    resolution
        Points of the Brownian path per step of SGD; ``substeps`` if not given.

    Raises
    ------
    ValueError
        Naming the reason and the alternatives.

    Examples
    --------
    >>> from sgdsim.dynamics import IsotropicNoise, MinibatchNoise, check_solver
    >>> check_solver("heun", IsotropicNoise(0.1))
    >>> check_solver("heun", MinibatchNoise(16), ito_correction=True)
    >>> check_solver("heun", MinibatchNoise(16))
    Traceback (most recent call last):
        ...
    ValueError: solver 'heun' is refused: it converges to the Stratonovich equation, and with \
state-dependent noise that is another process than the Ito equation of SGD; take 'euler', or \
ito_correction=True.
    """
    name = lower_case(name)
    facts = solver_facts(name)
    points = resolution or substeps
    model = type(noise).__name__
    reason, alternatives = "", _alternatives(noise)
    if adaptive:
        raise ValueError(
            "adaptive steps are refused on an SDE: Euler has no error estimate, and with any "
            "solver a rejected step would need the Brownian path refined; take more substeps than "
            f"{substeps}."
        )
    if facts.limit == "ode":
        reason = "it is for equations without noise"
        alternatives += ", or GradientFlow for the equation without noise"
    elif facts.refusal:
        reason = facts.refusal
    elif facts.limit == "langevin":
        reason = "it solves the underdamped Langevin equation alone"
        alternatives += ", or UnderdampedSDE for SGD with momentum"
    elif not noise.brownian and (name != "euler" or points > 1):
        reason = (
            f"{model} is not Gaussian, so that it has no limit driven by Brownian motion and only "
            "whole SGD steps make sense"
        )
        alternatives = "solver='euler' with substeps=1 and without resolution"
    elif facts.noise == "additive" and not noise.additive:
        reason = f"it is for additive noise, and the covariance of {model} depends on theta"
    elif facts.limit == "ito" and ito_correction:
        reason = "it converges to the Ito equation as it is, and ito_correction would be in excess"
        alternatives = "ito_correction=False"
    elif facts.limit == "stratonovich" and not noise.additive and not ito_correction:
        reason = (
            "it converges to the Stratonovich equation, and with state-dependent noise that is "
            "another process than the Ito equation of SGD"
        )
        alternatives = "'euler', or ito_correction=True" if _has_correction(noise) else "'euler'"
    elif ito_correction and not _has_correction(noise):
        reason = f"the Ito correction of {model} is not known"
    if reason:
        raise ValueError(f"solver {name!r} is refused: {reason}; take {alternatives}.")


def _has_correction(noise: AbstractGradientNoise) -> bool:
    return noise.additive or (
        type(noise).ito_correction is not AbstractGradientNoise.ito_correction
    )


def _alternatives(noise: AbstractGradientNoise) -> str:
    """Solvers that are right for a noise, as a phrase."""

    def usable(kind: str) -> str:
        return ", ".join(
            repr(name)
            for name, (_, facts) in SOLVERS.items()
            if facts.limit == "stratonovich" and facts.noise == kind and not facts.refusal
        )

    if noise.additive and noise.brownian:
        return f"'euler', {usable('any')}, {usable('additive')}"
    if noise.brownian and _has_correction(noise):
        return f"'euler', or with ito_correction=True one of {usable('any')}"
    return "'euler'"
