"""State files: flat, pickle-free, replaced atomically."""

import contextlib
import io
import os
import time
import uuid
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
from sgdsim.store._files import disk_errors
from sgdsim.store._location import read_bytes

#: Age at which a temporary file is none that anybody still writes.
_STALE_SECONDS = 3600.0


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
        with disk_errors("write", path):
            _replace(path, content.getvalue())
    except StoreError as error:
        raise StoreError(
            f"{str(error).removesuffix('.')}; what was computed before is kept, and 'sgdsim "
            "resume' continues it."
        ) from error


def _replace(path: Location, content: bytes) -> None:
    if not isinstance(path, Path):
        path.write_bytes(content)  # objects appear whole
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A worker that was given up for lost may still write: every writer has a file of its own, of
    # a name that processes of other machines or containers cannot have either.
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # on a full disk above all
        raise
    _sweep_away(path)


def _sweep_away(path: Path) -> None:
    """Remove temporary files of killed writers; young ones may belong to a living process."""
    for old in path.parent.glob(f"{path.stem}.*.tmp"):
        with contextlib.suppress(OSError):  # they only take up space
            if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                old.unlink()


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
    with disk_errors("read", path):
        try:
            content = read_bytes(path)
        except FileNotFoundError as error:
            raise _unusable(path, error) from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            leaves = [stored[f"leaf_{i}"] for i in range(structure.num_leaves)]
            scalars = {k: stored[k].item() for k in stored.files if not k.startswith("leaf_")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise _unusable(path, error) from error
    if scalars.pop("digest", None) != digest:
        raise StoreError(f"{path} belongs to another scenario; the run cannot be resumed.")
    shapes = jax.tree.leaves(jax.eval_shape(lambda tree: tree, like))
    for leaf, expected in zip(leaves, shapes, strict=True):
        if leaf.shape != expected.shape or leaf.dtype != expected.dtype:
            raise StoreError(
                f"{path} holds a state of another shape or precision; the run cannot be resumed."
            )
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves]), scalars


def _unusable(path: Location, error: Exception) -> StoreError:
    """Error for a state that is not there or is damaged."""
    return StoreError(
        f"{path} cannot be read ({error}); the run cannot be resumed, start it again with "
        "--overwrite."
    )
