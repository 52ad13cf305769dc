"""Random networks and the inputs of the certificates for them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sgdsim.bounds import (
    BoundInputs,
    GeometricGrid,
    TrainingSample,
    layer_distances,
    layer_norms,
)

WIDTHS = (7, 12, 9, 4)


def random_weights(seed: int, lead: tuple[int, ...] = (), scale: float = 1.0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        scale * random.normal(size=(*lead, rows, cols)) / np.sqrt(cols)
        for cols, rows in pairwise(WIDTHS)
    ]


@pytest.fixture
def weights_of() -> Callable[..., list[np.ndarray]]:
    """``random_weights(seed, lead, scale)``: test modules cannot import each other."""
    return random_weights


@pytest.fixture
def make_inputs() -> Callable[..., BoundInputs]:
    """Build inputs; keywords replace single ones."""

    def make(
        centre: list[np.ndarray] | None = None,
        iterate: list[np.ndarray] | None = None,
        **changes: Any,
    ) -> BoundInputs:
        centre = random_weights(0) if centre is None else centre
        if iterate is None:
            noise = random_weights(1, (3, 2), 0.05)
            iterate = [a + b for a, b in zip(centre, noise, strict=True)]
        settings: dict[str, Any] = {
            "reference": layer_norms(centre),
            "iterate": layer_norms(iterate),
            "radius": layer_distances(iterate, centre).radius,
            "sample": TrainingSample(size=900, input_bound=1.25, frobenius=31.0),
            "margin": 0.8,
            "failure_probability": 0.05,
            "grid": GeometricGrid(1e-3, 1e4, 1.1),
        }
        return BoundInputs(**(settings | changes))

    return make
