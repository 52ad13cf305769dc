"""Where a run puts its files; decided and checked before anything heavy is imported."""

import dataclasses
import os
import shutil
from pathlib import Path

from sgdsim._errors import StoreError

_PROBE = ".sgdsim-writable"


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Files of one run folder.

    Attributes
    ----------
    folder
        The run folder, what ``--out`` names.
    """

    folder: Path

    @property
    def store(self) -> Path:
        """The finished dataset."""
        return self.folder / "run.zarr"

    @property
    def partial(self) -> Path:
        """The dataset while the run goes on."""
        return self.folder / "run.zarr.partial"

    @property
    def state(self) -> Path:
        """What a resumed run starts from."""
        return self.folder / "state"

    @property
    def preparation(self) -> Path:
        """Minima and constants, written once before the first step."""
        return self.state / "preparation.npz"

    @property
    def checkpoint(self) -> Path:
        """The ensemble at the end of the last finished time chunk."""
        return self.state / "ensemble.npz"

    @property
    def figures(self) -> Path:
        """Figures as PNG and SVG."""
        return self.folder / "figures"


def check_output(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that would lose something or cannot be written.

    Parameters
    ----------
    out
        Folder of the run.
    overwrite
        Whether an earlier run there may be deleted.

    Raises
    ------
    StoreError
        If the folder holds a run and ``overwrite`` is false, is no folder, holds files of
        somebody else, or cannot be created or written.
    """
    paths = RunPaths(out)
    if out.exists() and not out.is_dir():
        raise StoreError(f"cannot write to {out}: it is a file; choose another --out.")
    if paths.store.exists() and not overwrite:
        raise StoreError(
            f"{out} already holds a finished run; pass --overwrite to replace it or choose "
            "another --out."
        )
    if paths.partial.exists() and not overwrite:
        raise StoreError(
            f"{out} holds an unfinished run; continue it with 'sgdsim resume {out}', pass "
            "--overwrite to discard it, or choose another --out."
        )
    ours = {paths.store.name, paths.partial.name, paths.state.name, paths.figures.name}
    # A killed run may leave hidden temporary files, which are ours as well.
    remains = (f".{paths.store.name}", _PROBE)
    found = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
    strangers = [name for name in found if name not in ours and not name.startswith(remains)]
    if strangers:
        raise StoreError(
            f"{out} holds files that are not of a run ({', '.join(strangers[:3])}); choose "
            "another --out."
        )
    probe = out / _PROBE
    created = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"sgdsim")
        probe.unlink()
        if created:
            out.rmdir()
    except OSError as error:
        raise StoreError(f"cannot write to {out}: {error.strerror or error}.") from error


def clear_output(out: Path) -> RunPaths:
    """Make an empty run folder, deleting what an earlier run left there."""
    paths = RunPaths(out)
    try:
        for old in (paths.partial, paths.store, paths.state, paths.figures):
            if old.exists():
                shutil.rmtree(old)
        paths.state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write to {out}: {error.strerror or error}.") from error
    return paths


def find_run(path: Path) -> RunPaths:
    """Run folder of a path that names the folder itself or a dataset in it."""
    path = Path(os.path.normpath(path))
    if path.name in {"run.zarr", "run.zarr.partial"}:
        path = path.parent
    paths = RunPaths(path)
    if not paths.store.exists() and not paths.partial.exists():
        raise StoreError(f"{path} holds no run (no {paths.store.name} in it).")
    return paths
