"""State files: flat, pickle-free, replaced atomically."""

import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim._errors import StoreError


def save_tree(path: Path, tree: PyTree, digest: str, **scalars: int | float) -> None:
    """Write the leaves of a pytree; a kill leaves either the old file or the new one.

    Parameters
    ----------
    path
        Target, ``.npz``.
    tree
        Any pytree of arrays.
    digest
        Digest of the scenario that the state belongs to.
    scalars
        Values stored beside it under their names.
    """
    arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
    arrays |= {name: np.asarray(value) for name, value in scalars.items()}
    arrays["digest"] = np.asarray(digest)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; what was computed before is kept: "
            "make room, then continue with 'sgdsim resume'."
        ) from error


def load_tree(path: Path, like: PyTree, digest: str) -> tuple[PyTree, dict[str, Any]]:
    """Read what ``save_tree`` wrote into the structure of ``like``.

    Returns
    -------
    tree
        Same structure, shapes and dtypes as ``like``.
    scalars
        The values stored beside it.
    """
    structure = jax.tree.structure(like)
    try:
        with np.load(path, allow_pickle=False) as stored:
            leaves = [stored[f"leaf_{i}"] for i in range(structure.num_leaves)]
            scalars = {k: stored[k].item() for k in stored.files if not k.startswith("leaf_")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); the run cannot be resumed, start it again with "
            "--overwrite."
        ) from error
    if scalars.pop("digest", None) != digest:
        raise StoreError(f"{path} belongs to another scenario; the run cannot be resumed.")
    for leaf, expected in zip(leaves, map(np.asarray, jax.tree.leaves(like)), strict=True):
        if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
            raise StoreError(
                f"{path} holds a state of another shape or precision; the run cannot be resumed."
            )
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves]), scalars
