"""Tensors that torch.save wrote, read without torch and without running what a pickle says."""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

#: What NumPy calls the types of storages of torch.
_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SAVE_AGAIN = "load it with torch and save it again by torch.save, or as .npz by numpy.savez"


def read_tensor(path: str | Path) -> np.ndarray:
    r"""Read one tensor from a file of ``torch.save``, without torch.

    Parameters
    ----------
    path
        File that torch 1.6 or later wrote, with one dense tensor in it.

    Returns
    -------
    numpy.ndarray
        The tensor, in its own type.

    Raises
    ------
    ValueError
        If the file is damaged, older, or holds something else.
    FileNotFoundError
        If there is no such file.

    Notes
    -----
    Such a file is a ZIP archive of raw numbers and of a pickle that says how they are laid out.
    The pickle is opened by an unpickler that knows nothing but tensors, so that it can run
    nothing; the numbers are read by NumPy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is no file of torch 1.6 or later; {_SAVE_AGAIN}.")
    try:
        with zipfile.ZipFile(path) as archive:
            tensor = _Tensors(archive).load()
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} cannot be read: {error}; {_SAVE_AGAIN}.") from error
    except (LookupError, ValueError, TypeError, AttributeError, EOFError, RuntimeError) as error:
        # Whatever a damaged pickle or an unusual archive lead to.
        raise ValueError(f"{path.name} is damaged; {_SAVE_AGAIN}.") from error
    if not isinstance(tensor, np.ndarray):
        raise ValueError(
            f"{path.name} holds {type(tensor).__name__}, not one tensor; {_SAVE_AGAIN}."
        )
    return tensor


class _Type(NamedTuple):
    """Type of a storage, as a pickle names it."""

    code: str


class _Rebuild:
    """Makes an array of a storage; in the place of torch's own function."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *further: Any
    ) -> np.ndarray:
        """Lay out numbers as a tensor; a view of a longer storage is common."""
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, np.ndarray) or not all(
            type(number) is int and number >= 0 for number in numbers
        ):
            raise pickle.UnpicklingError("a tensor in it has no plain layout")
        if math.prod(shape) > storage.size:
            raise pickle.UnpicklingError("a tensor in it is longer than its numbers")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if math.prod(shape) and last >= storage.size:
            raise pickle.UnpicklingError("a tensor in it ends beyond its numbers")
        view = np.lib.stride_tricks.as_strided(
            storage[offset:], shape, [stride * storage.itemsize for stride in strides]
        )
        return view.copy()


class _Tensors(pickle.Unpickler):
    """An unpickler that knows tensors and nothing else."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise pickle.UnpicklingError("it has no data.pkl")
        super().__init__(io.BytesIO(archive.read(names[0])))
        self._archive = archive
        self._folder = names[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        big = order in archive.namelist() and archive.read(order) == b"big"
        self._order: Literal["<", ">"] = ">" if big else "<"

    def find_class(self, module: str, name: str) -> Any:
        """Give the few things that a tensor is made of; refuse all else."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _TYPES:
            return _Type(_TYPES[name])
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of a tensor")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Read the numbers of one storage."""
        word, kind, key, _, count = pid
        if word != "storage" or not isinstance(kind, _Type) or not str(key).isdigit():
            raise pickle.UnpicklingError("it holds something other than numbers")
        raw = self._archive.read(f"{self._folder}data/{key}")
        values = np.frombuffer(raw, np.dtype(kind.code).newbyteorder(self._order))
        if values.size < count:
            raise pickle.UnpicklingError("numbers are missing in it")
        return values.astype(values.dtype.newbyteorder("="))
