"""Weights that another program has trained, read from files that cannot run code."""

import zipfile
from pathlib import Path

import numpy as np

_EXPORT = (
    'in PyTorch, write them with safetensors.torch.save_file(model.state_dict(), "weights'
    '.safetensors"); in NumPy, with np.savez'
)


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    r"""Read named arrays from a ``.npz`` or a ``.safetensors`` file.

    Parameters
    ----------
    path
        File of named arrays, for example the state dictionary of a PyTorch model.

    Returns
    -------
    dict
        Arrays by name, in the order of the file.

    Raises
    ------
    ValueError
        If the format is another one, the file is damaged or holds Python objects.
    FileNotFoundError
        If there is no such file.
    ImportError
        If the optional library ``safetensors`` is needed and missing.

    Notes
    -----
    Neither format can hold code. Files of pickled objects (``.pt``, ``.pth``, ``.pkl``) run code
    when they are opened, so they are refused.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.networks import read_weights
    >>> np.savez("weights.npz", **{"0.weight": np.ones((2, 3))})
    >>> {name: array.shape for name, array in read_weights("weights.npz").items()}
    {'0.weight': (2, 3)}
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".safetensors"):
        raise ValueError(
            f"Weights are read from .npz and .safetensors files, not from {path.name}, because "
            f"other formats can run code; {_EXPORT}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    weights = _read_npz(path) if suffix == ".npz" else _read_safetensors(path)
    if not weights:
        raise ValueError(f"{path.name} holds no arrays; {_EXPORT}.")
    return weights


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            reason = "holds Python objects, which can run code; save plain arrays of numbers"
        else:
            reason = "is damaged or is no .npz archive; write it again"
        raise ValueError(f"{path.name} {reason}: {_EXPORT}.") from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise ImportError(
            f"Reading {path.name} needs safetensors; install it with pip install "
            '"sgdsim[safetensors]".'
        ) from None
    try:
        return load_file(path)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        # Types that NumPy does not have raise various errors.
        raise ValueError(
            f"{path.name} is damaged or holds a type that NumPy does not have ({error}); convert "
            "the weights to float32 and write it again."
        ) from error
