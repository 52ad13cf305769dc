"""Random projections of parameters, short enough to store, by which distances are estimated."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree


def count_sketch(theta: PyTree, size: int, key: Key[Array, ""]) -> Float[Array, " size"]:
    r"""Random projection that keeps distances in the mean.

    .. math:: (Sx)_j = \sum_{i:\,h(i)=j} s_i x_i, \qquad E\|Sx\|^2 = \|x\|^2, \qquad
        \mathrm{Var}\,\|Sx\|^2 \le \tfrac{2}{m}\|x\|^4

    with independent random buckets ``h`` and signs ``s``. Parameters that fit into ``size``
    numbers are kept as they are, and distances are exact.

    Parameters
    ----------
    theta
        Any pytree, of p numbers.
    size
        ``m``, length of the projection.
    key
        Key of buckets and signs; projections of one key are compared with each other.

    Returns
    -------
    array
        Shape ``(size,)``.

    Notes
    -----
    Costs O(p), unlike a dense projection. Source: Charikar, Chen and Farach-Colton 2002; the
    variance is that of Weinberger et al. 2009, section 2.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim.ensemble import count_sketch
    >>> count_sketch(jnp.array([3.0, 4.0]), 3, jax.random.key(0)).tolist()
    [3.0, 4.0, 0.0]
    """
    flat = ravel_pytree(theta)[0]
    if flat.size <= size:
        return jnp.pad(flat, (0, size - flat.size))
    of_buckets, of_signs = jax.random.split(key)
    buckets = jax.random.randint(of_buckets, flat.shape, 0, size)
    signs = jax.random.rademacher(of_signs, flat.shape, flat.dtype)
    return jax.ops.segment_sum(signs * flat, buckets, size)
