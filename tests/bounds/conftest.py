"""Random networks and the inputs of the certificates for them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sgdsim.bounds import (
    BoundInputs,
    GeometricGrid,
    GibbsErrors,
    TrainingSample,
    layer_distances,
    layer_norms,
)
from sgdsim.testing import CertificateCase, path_norm

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


@pytest.fixture
def case_of() -> Callable[..., CertificateCase]:
    """Build a network for the oracles near its initialisation; keywords replace fields."""

    def build(
        seed: int = 0, widths: tuple[int, ...] = (5, 8, 6, 3), move: float = 0.1, **changes: Any
    ) -> CertificateCase:
        random = np.random.default_rng(seed)

        def near(matrices: list[np.ndarray], size: float) -> list[np.ndarray]:
            return [a + size * random.normal(size=a.shape) / np.sqrt(a.size) for a in matrices]

        initial = near([np.zeros((rows, cols)) for cols, rows in pairwise(widths)], 2.0)
        weights = near(initial, move)
        fields: dict[str, Any] = {
            "weights": weights,
            "initial": initial,
            "centre": near(weights, move),
            "caps": [1.5 * a for a in weights],
        }
        return CertificateCase(**(fields | changes))

    return build


@pytest.fixture
def inputs_of() -> Callable[..., BoundInputs]:
    """Inputs for one oracle case, or for several with the same settings; keywords replace."""

    def convert(*cases: CertificateCase, **changes: Any) -> BoundInputs:
        first = cases[0]
        single = len(cases) == 1

        def stacked(columns: list[Any]) -> np.ndarray:
            return np.asarray(columns[0] if single else columns, np.float64)

        weights = [
            np.asarray(layer[0] if single else np.stack(layer))
            for layer in zip(*(case.weights for case in cases), strict=True)
        ]
        settings: dict[str, Any] = {
            "iterate": layer_norms(weights),
            "reference": layer_norms(first.centre),
            "radius": layer_distances(weights, first.centre).radius,
            "initial": layer_distances(weights, first.initial),
            "caps": layer_norms(first.caps),
            "sample": TrainingSample(
                size=first.n,
                input_bound=first.input_bound,
                frobenius=first.x_frobenius,
                largest_column=first.x_column,
            ),
            "margin": first.gamma,
            "failure_probability": first.delta,
            "grid": GeometricGrid(*first.grid),
            "activation": "relu",
            "gibbs": GibbsErrors(
                deviations=np.array(first.deviations),
                training=stacked([case.errors for case in cases]),
                draws=first.draws,
                parameters=sum(a.size for a in first.weights),
            ),
            "measured": {"path_norm_1": stacked([path_norm(case.weights) for case in cases])},
        }
        return BoundInputs(**(settings | changes))

    return convert
