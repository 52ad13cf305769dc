"""What the bounds do when a relu network is rescaled without a change of its function."""

import numpy as np

from sgdsim.bounds import (
    LossBound,
    Neighbourhoods,
    TrainingSample,
    layer_norms,
    stagnation_terms,
)

SAMPLE = TrainingSample(size=4000, input_bound=1.0, frobenius=60.0)


def totals(weights):
    """G1, G2, G3 on a ball of one radius around the network."""
    terms = stagnation_terms(
        Neighbourhoods(norms=layer_norms(weights)),
        0.01,
        LossBound.clipped_half_squared(0.5),
        SAMPLE,
        0.01,
    )
    return np.array([float(term.total) for term in terms.values()])


def test_the_bounds_of_a_ball_are_not_invariant_under_rescaling():
    """The ball is not: the sharper network needs a smaller one (stagnation theory 13)."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(6, 4)), rng.normal(size=(2, 6))
    plain, scaled = totals([first, second]), totals([4 * first, second / 4])
    assert np.all(scaled > 1.2 * plain)
    product = [layer_norms([first, second]), layer_norms([4 * first, second / 4])]
    np.testing.assert_allclose(*(norms.spectral_high.prod() for norms in product), rtol=1e-12)
