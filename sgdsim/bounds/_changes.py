"""Changes of a network under which a good bound should not grow: falsifiers."""

import numpy as np
from jaxtyping import Float

Matrices = list[Float[np.ndarray, "... _rows _cols"]]


def constant_predictor(weights: Matrices) -> Matrices:
    """Replace the last layer by zeros: a network that answers the same whatever it is asked.

    It has learnt nothing, so its gap is zero, and a bound should be near its smallest value.

    Parameters
    ----------
    weights
        Matrices of shape ``(..., rows_j, cols_j)``, first layer first.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import constant_predictor
    >>> constant_predictor([np.eye(2), np.ones((1, 2))])[-1].tolist()
    [[0.0, 0.0]]
    """
    return [*weights[:-1], np.zeros_like(weights[-1])]


def double_width(weights: Matrices) -> Matrices:
    r"""Copy every hidden unit and halve what leaves it: the same function, twice as wide.

    .. math:: A'_1 = \begin{pmatrix}A_1\\A_1\end{pmatrix},\quad
              A'_j = \frac12\begin{pmatrix}A_j&A_j\\A_j&A_j\end{pmatrix},\quad
              A'_L = \frac12\begin{pmatrix}A_L&A_L\end{pmatrix}

    Parameters
    ----------
    weights
        Matrices of shape ``(..., rows_j, cols_j)``, first layer first.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import double_width
    >>> [matrix.shape for matrix in double_width([np.eye(3), np.ones((2, 3))])]
    [(6, 3), (2, 6)]
    """
    wide = []
    for layer, matrix in enumerate(weights):
        if layer > 0:
            matrix = 0.5 * np.concatenate([matrix, matrix], axis=-1)
        if layer < len(weights) - 1:
            matrix = np.concatenate([matrix, matrix], axis=-2)
        wide.append(matrix)
    return wide


def rescale_nodes(weights: Matrices, seed: int = 0, spread: float = 1.0) -> Matrices:
    r"""Multiply what enters every hidden unit and divide what leaves it by a number of its own.

    .. math:: A'_j = D_j A_j D_{j-1}^{-1},\qquad D_j = \mathrm{diag}(e^{s\,u}),\ u\sim N(0, I)

    The function is the same for positively homogeneous activations only.

    Parameters
    ----------
    weights
        Matrices of shape ``(..., rows_j, cols_j)``, first layer first.
    seed
        Of the factors.
    spread
        Standard deviation ``s`` of their logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import rescale_nodes
    >>> first, last = rescale_nodes([np.eye(2), np.ones((1, 2))])
    >>> (last @ first).round(12).tolist()
    [[1.0, 1.0]]
    """
    random = np.random.default_rng(seed)
    rescaled, before = [], np.ones(weights[0].shape[-1])
    for layer, matrix in enumerate(weights):
        rows = matrix.shape[-2]
        last = layer == len(weights) - 1
        after = np.ones(rows) if last else np.exp(spread * random.normal(size=rows))
        rescaled.append(after[:, None] * matrix / before)
        before = after
    return rescaled
