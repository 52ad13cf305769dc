"""Files as torch.save writes them, made without torch."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def _text(word: str) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def _number(value: int) -> bytes:
    return b"J" + int(value).to_bytes(4, "little", signed=True)


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_number(value) for value in values) + b"t"


def _describe(
    storage: str, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> bytes:
    """Pickle of one tensor, opcode by opcode."""
    numbers = f"ctorch\n{storage}\n".encode() + _text("0") + _text("cpu") + _number(count)
    return b"".join(
        [
            b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n",
            b"((" + _text("storage") + numbers + b"tQ",
            _number(offset) + _numbers(shape) + _numbers(strides),
            b"\x89ccollections\nOrderedDict\n)RtR.",
        ]
    )


@pytest.fixture(scope="session")
def describe_tensor() -> Callable[..., bytes]:
    """Pickle of one tensor: storage, its length, offset, shape, strides."""
    return _describe


@pytest.fixture(scope="session")
def save_archive() -> Callable[..., None]:
    """Write a pickle and raw numbers into an archive as torch does."""

    def save(path: Path, pickled: bytes, *storages: bytes, folder: str = "archive") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{folder}/data.pkl", pickled)
            archive.writestr(f"{folder}/version", b"3\n")
            for number, raw in enumerate(storages):
                archive.writestr(f"{folder}/data/{number}", raw)

    return save


@pytest.fixture(scope="session")
def save_tensor(save_archive: Callable[..., None]) -> Callable[[Path, np.ndarray], None]:
    """Write an array as a tensor."""

    def save(path: Path, array: np.ndarray) -> None:
        values = np.ascontiguousarray(array)
        strides = tuple(stride // values.itemsize for stride in values.strides)
        storage = _STORAGES[str(values.dtype)]
        pickled = _describe(storage, values.size, 0, values.shape, strides)
        save_archive(path, pickled, values.tobytes())

    return save
