"""State files: flat, pickle-free, replaced atomically."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim._errors import StoreError
from sgdsim.ensemble import on_host
from sgdsim.store import Location


def save_tree(path: Location, tree: PyTree, digest: str, **scalars: int | float) -> None:
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
    arrays = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(on_host(tree)))}
    arrays |= {name: np.asarray(value) for name, value in scalars.items()}
    arrays["digest"] = np.asarray(digest)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    try:
        _replace(path, content.getvalue())
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; what was computed before is kept: "
            "make room, then continue with 'sgdsim resume'."
        ) from error


def _replace(path: Location, content: bytes) -> None:
    if not isinstance(path, Path):
        path.write_bytes(content)  # objects appear whole
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A worker that was given up for lost may still write: every writer has a file of its own.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_tree(path: Location, like: PyTree, digest: str) -> tuple[PyTree, dict[str, Any]]:
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
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            leaves = [stored[f"leaf_{i}"] for i in range(structure.num_leaves)]
            scalars = {k: stored[k].item() for k in stored.files if not k.startswith("leaf_")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); the run cannot be resumed, start it again with "
            "--overwrite."
        ) from error
    if scalars.pop("digest", None) != digest:
        raise StoreError(f"{path} belongs to another scenario; the run cannot be resumed.")
    shapes = jax.tree.leaves(jax.eval_shape(lambda tree: tree, like))
    for leaf, expected in zip(leaves, shapes, strict=True):
        if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
            raise StoreError(
                f"{path} holds a state of another shape or precision; the run cannot be resumed."
            )
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves]), scalars
