"""Random keys by purpose: what must be independent never shares a stream."""

import jax
from jaxtyping import Array, Int, Key

# Trajectories take fold_in(key(seed), point) with small points; these lie far above them.
_PURPOSES = {
    "start": 2**31,
    "convexity": 2**31 + 1,
    "noise": 2**31 + 2,
    "probe": 2**31 + 3,
    "sketch": 2**31 + 4,
}


def stream(seed: int | Int[Array, ""], purpose: str) -> Key[Array, ""]:
    """Give the key of one purpose, independent of all others also where the seeds are equal."""
    return jax.random.fold_in(jax.random.key(seed), _PURPOSES[purpose])
