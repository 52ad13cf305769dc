"""Which dynamics fit which problem: what needs rows, what needs matrices, how many there are."""

from typing import Any, NamedTuple

from sgdsim.scenario._classification import Classification
from sgdsim.scenario._dynamics import CentralFlow, Dynamics, EdgeFlow
from sgdsim.scenario._fields import mistake
from sgdsim.scenario._known_problem import CaseProblem, ManyMinima
from sgdsim.scenario._modifiers import SpectralProjection
from sgdsim.scenario._noise import ConstantNoise, HessianAlignedNoise, Noise
from sgdsim.scenario._problem import Landscape, Problem
from sgdsim.scenario._regression import Regression


class Misfit(NamedTuple):
    """Why dynamics do not fit a problem, and the path of the key that is at fault."""

    text: str
    at: tuple[str, ...]


def misfit(dynamics: Dynamics, problem: Problem | CaseProblem) -> Misfit | None:
    """Say why dynamics do not fit a problem; ``None`` if they do.

    Parameters
    ----------
    dynamics
        How parameters move.
    problem
        What is minimised.
    """
    if isinstance(dynamics, CentralFlow | EdgeFlow) and dynamics.weight_decay:
        text = "a flow at the edge knows no decoupled decay; leave it out, or take problem.ridge"
        return Misfit(text, ("weight_decay",))
    if isinstance(problem, Landscape):
        return _on_landscape(dynamics, problem.landscape.dimension)
    if isinstance(problem, ManyMinima):
        return _on_landscape(dynamics, 1)
    if isinstance(problem, Classification | Regression):
        loss = "cross_entropy" if isinstance(problem, Classification) else "mse"
        return _on_data(dynamics, problem.data.training, "problem.data.training", loss)
    return _on_data(dynamics, problem.samples, "problem.samples", "mse")


def _on_data(dynamics: Dynamics, rows: int, key: str, loss: str) -> Misfit | None:
    noise, at = _gaussian_noise(dynamics)
    if isinstance(noise, HessianAlignedNoise) and noise.form != loss:
        text = f"should be {loss!r}, because that is the loss of the problem (got {noise.form!r})"
        return Misfit(text, (*at, "form"))
    batch_size = getattr(dynamics, "batch_size", None)
    if dynamics.draws_rows and batch_size is not None and batch_size > rows:
        text = (
            f"should be at most {key} = {rows}, because a batch is drawn from "
            f"these rows (got {batch_size})"
        )
        return Misfit(text, ("batch_size",))
    return None


def _on_landscape(dynamics: Dynamics, dimension: int) -> Misfit | None:
    without = "a landscape has no samples; take gaussian_sgd or sde with"
    usable = "langevin, isotropic or constant noise"
    noise, at = _gaussian_noise(dynamics)
    if noise is not None and noise.from_rows:
        text = f"{noise.kind!r} noise comes from samples, and a landscape has none; take {usable}"
        return Misfit(text, (*at, "kind"))
    if dynamics.draws_rows:
        # For these kinds batches are part of the algorithm; the others can do without.
        needed = dynamics.kind in ("sgd", "svag", "label_noise_sgd")
        if needed:
            return Misfit(f"{dynamics.kind!r} draws batches, and {without} {usable}", ("kind",))
        return Misfit(
            "a landscape has no samples to draw batches of; leave it out", ("batch_size",)
        )
    if isinstance(noise, ConstantNoise) and len(noise.covariance) != dimension:
        text = (
            f"should have {dimension} rows, as many as the problem has parameters "
            f"(got {len(noise.covariance)})"
        )
        return Misfit(text, (*at, "covariance"))
    if isinstance(dynamics.projection, SpectralProjection):
        text = "'spectral' bounds weight matrices, and a landscape has none; take ball or box"
        return Misfit(text, ("projection", "kind"))
    return None


def _gaussian_noise(dynamics: Dynamics) -> tuple[Noise | None, tuple[str, ...]]:
    """Find the Gaussian noise of dynamics, also below heavy tails, and its path."""
    noise, at = getattr(dynamics, "noise", None), ("noise",)
    if noise is not None and noise.kind in ("student", "stable"):
        return noise.base, (*at, "base")
    return noise, at


def with_data(problem: Any, why: str) -> Any:
    """Give back the values of a problem table, unless it is a landscape, which has no data.

    Raises
    ------
    pydantic_core.PydanticCustomError
        If it is one; ``why`` says why data are needed.
    """
    if isinstance(problem, dict) and problem.get("kind") == "landscape":
        raise mistake(
            f"should be classification, because {why}; a landscape belongs to "
            "study = \"dynamics\" (got 'landscape')",
            at=("kind",),
        )
    return problem


def fitting(dynamics: Dynamics, problem: Problem | CaseProblem | None) -> Dynamics:
    """Give back dynamics that fit a problem, or one that is wrong itself (``None``).

    Raises
    ------
    pydantic_core.PydanticCustomError
        If they do not fit, at the key that is at fault.
    """
    wrong = None if problem is None else misfit(dynamics, problem)
    if wrong is not None:
        raise mistake(wrong.text, at=wrong.at)
    return dynamics
