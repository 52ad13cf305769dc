"""What a case leaves behind for its evaluation."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, PyTree

from sgdsim.ensemble import NEVER, Track
from sgdsim.problems import Hyperbola, Quadratic, Sphere
from sgdsim.runs._cases import CaseBench
from sgdsim.runs._plain import substeps_of, why_not_plain
from sgdsim.scenario import (
    BallRegion,
    Case,
    Dynamics,
    GaussianSgd,
    Noise,
    Sde,
    TubeRegion,
    WellsRegion,
)

#: Noise whose covariance is the same everywhere, so that it is known and not sampled.
_CONSTANT_NOISE = ("isotropic", "langevin", "constant")


class CaseResult(NamedTuple):
    """A case whose trajectories have run.

    Attributes
    ----------
    number, case, bench
        Which case, its table, what ran.
    steps
        Steps that were run.
    theta
        Final iterates, along a leading axis.
    track
        Records of the trajectories.
    """

    number: int
    case: Case
    bench: CaseBench
    steps: int
    theta: PyTree
    track: Track

    @property
    def exits(self) -> Int[np.ndarray, " trajectory"]:
        """First step outside, a change of the basin included where it counts; -1 for never."""
        exits, switches = np.asarray(self.track.exit_step), np.asarray(self.track.switch_step)
        if not getattr(self.case.region, "same_basin", False):
            return exits
        both = np.stack(
            [np.where(s == NEVER, np.iinfo(np.int32).max, s) for s in (exits, switches)]
        )
        return np.where(both.min(0) == np.iinfo(np.int32).max, NEVER, both.min(0))

    @property
    def starts_outside(self) -> bool:
        """Whether a trajectory starts outside, so that staying says nothing."""
        return bool(np.any(np.asarray(self.track.entry_step) != 0))

    @property
    def left_along_minima(self) -> bool:
        """Whether the set is a ball around one point of a continuum of minima.

        It is left along them too, of which whatever is known about the distance to them is silent.
        """
        landscape = self.bench.landscape
        flat = isinstance(landscape, Quadratic) and bool(np.any(landscape.eigenvalues == 0))
        continuum = flat or isinstance(landscape, Sphere | Hyperbola)
        return continuum and self.case.region.kind == "ball"

    @property
    def substeps(self) -> int:
        """Steps of the recursion per recorded step."""
        return substeps_of(self.case.dynamics)


def constant_noise(dynamics: Dynamics) -> Noise | None:
    """Table of the noise if its covariance is the same everywhere, so that it is known."""
    if why_not_plain(dynamics) or not isinstance(dynamics, GaussianSgd | Sde):
        return None
    return dynamics.noise if dynamics.noise.kind in _CONSTANT_NOISE else None


def euclidean_radius(case: Case) -> float:
    """Radius of a set that is left where the distance to its minimum exceeds it; else NaN."""
    region = case.region
    if isinstance(region, BallRegion | TubeRegion | WellsRegion):
        return float(region.radius)
    return math.nan
