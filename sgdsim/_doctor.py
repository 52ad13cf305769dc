"""Checks of an installation: versions, devices, a known JAX miscompilation, permissions."""

import dataclasses
import importlib
import importlib.metadata
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

REQUIRED = (
    "jax",
    "jaxlib",
    "diffrax",
    "equinox",
    "filelock",
    "jaxtyping",
    "lazy-loader",
    "lineax",
    "matfree",
    "matplotlib",
    "numpy",
    "optax",
    "optimistix",
    "psutil",
    "pydantic",
    "rich",
    "scikit-learn",
    "scipy",
    "typer",
    "universal-pathlib",
    "xarray",
    "zarr",
)
_LARGEST_PYTHON_WITH_OLD_JAX = (3, 11)


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    name
        What was checked.
    status
        ``ok`` or ``failed``.
    detail
        What was found and, after a failure, what to do.
    """

    name: str
    status: Literal["ok", "failed"]
    detail: str


@dataclasses.dataclass(frozen=True)
class Canary:
    """One computation that broken JAX versions get wrong, compared with NumPy.

    Attributes
    ----------
    dtype, rows, function
        What was computed: ``function`` of ``H @ w`` for so many rows ``w``.
    device
        Where.
    error
        Largest relative difference from NumPy.
    tolerance
        Difference that rounding explains.
    wrong_rows
        Number of rows beyond the tolerance.
    """

    dtype: str
    rows: int
    function: str
    device: str
    error: float
    tolerance: float
    wrong_rows: int


def run_canary() -> list[Canary]:
    """Compute ``jit(vmap(matvec + reduce))`` on many rows, as an ensemble of gradient norms does.

    jax 0.9.1 to 0.10.2 silently miscompile it on CPUs for more than 16 384 (float64) or 32 768
    (float32) rows, depending on the processor. It is computed on the default device and on the
    CPU, where minima and certificates may be computed even if there is an accelerator.

    Source: https://github.com/jax-ml/jax/issues/39103

    Returns
    -------
    list of Canary
        Two for every device.

    Examples
    --------
    >>> from sgdsim._doctor import run_canary
    >>> max(canary.wrong_rows for canary in run_canary())
    0
    """
    import jax

    devices = {str(device): device for device in (jax.devices()[0], jax.devices("cpu")[0])}
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        return [
            _canary(device, dtype, rows, squared)
            for device in devices.values()
            for dtype, rows, squared in (("float64", 32_769, True), ("float32", 40_000, False))
        ]


def _canary(device: Any, dtype: str, rows: int, squared: bool) -> Canary:
    import jax
    import jax.numpy as jnp

    random = np.random.default_rng(0)
    matrix = random.standard_normal((3, 3)).astype(dtype)
    vectors = random.standard_normal((rows, 3)).astype(dtype)

    def one(matrix, vector):
        product = matrix @ vector
        return jnp.sum(product**2) if squared else jnp.sum(product)

    placed = jax.device_put((matrix, vectors), device)
    computed = np.asarray(jax.jit(jax.vmap(one, in_axes=(None, 0)))(*placed))
    products = vectors.astype(np.float64) @ matrix.astype(np.float64).T
    expected = (products**2 if squared else products).sum(axis=1)
    error = np.abs(computed - expected) / (1 + np.abs(expected))
    tolerance = 100 * float(np.finfo(dtype).eps)
    return Canary(
        dtype,
        rows,
        "sum((H @ w)**2)" if squared else "sum(H @ w)",
        str(device),
        float(error.max()),
        tolerance,
        int((~(error <= tolerance)).sum()),  # this way round NaN counts as wrong
    )


def diagnose(folder: pathlib.Path) -> list[Check]:
    """Run all checks; a check that raises has failed, and the others still run.

    Parameters
    ----------
    folder
        Where runs would be written.

    Returns
    -------
    list of Check
        In the order in which they should be mended.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", _check_python),
        ("packages", _check_packages),
        ("JAX devices", _check_devices),
        ("JAX canary", _check_canary),
        ("current folder", lambda: _check_folder(folder)),
        ("built-in scenarios", _check_scenarios),
    ]
    return [_checked(name, check) for name, check in checks]


class _FailedCheckError(Exception):
    """A check found a fault; the message says which and what to do."""


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", check())
    except _FailedCheckError as error:
        return Check(name, "failed", str(error))
    except Exception as error:  # a broken installation can raise anything
        return Check(name, "failed", f"{type(error).__name__}: {error}")


def _check_python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _check_packages() -> str:
    versions, missing = [], []
    for package in ("sgdsim", *REQUIRED):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise _FailedCheckError(f"not installed: {', '.join(missing)}. Run: pip install sgdsim")
    return ", ".join(versions)


def _check_devices() -> str:
    import jax

    from sgdsim.ensemble import use_host_devices

    use_host_devices()  # as a run does: one device per core
    devices = jax.devices()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    return f"{len(devices)} {jax.default_backend()} ({kinds})"


def _check_canary() -> str:
    canaries = run_canary()
    wrong = [canary for canary in canaries if canary.wrong_rows]
    if wrong:
        advice = (
            '"jax>=0.8.2,<0.9"'
            if sys.version_info[:2] <= _LARGEST_PYTHON_WITH_OLD_JAX
            else '"jax>=0.11"'
        )
        cases = ", ".join(
            f"{c.function} in {c.dtype} on {c.device} ({c.wrong_rows} of {c.rows} rows)"
            for c in wrong
        )
        raise _FailedCheckError(
            f"this JAX computes wrong numbers: {cases}. Run: pip install {advice}"
        )
    return f"{len(canaries)} computations agree with NumPy"


def _check_folder(folder: pathlib.Path) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".sgdsim-doctor-"):
            pass
    except OSError as error:
        raise _FailedCheckError(
            f"cannot write to {folder} ({error.strerror}). Change the folder, or run with --out."
        ) from None
    return f"{folder} can be written to"


def _check_scenarios() -> str:
    from sgdsim.scenario import list_scenarios

    return ", ".join(name for name, _ in list_scenarios())
