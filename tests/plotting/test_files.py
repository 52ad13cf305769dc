"""Figures as files, and what plotting may import."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from sgdsim._errors import StoreError
from sgdsim.plotting import save_figures
from sgdsim.store import open_run
from sgdsim.testing import synthetic_dynamics_run

pytestmark = pytest.mark.slow

NAMES = [
    f"{name}.{kind}"
    for name in ("survival", "distance", "bounds", "convexity", "convexity_map")
    for kind in ("png", "svg")
]


def test_every_figure_is_saved_twice(tree, tmp_path):
    folder = tmp_path / "deep" / "figures"
    paths = save_figures(tree, folder)
    assert [path.name for path in paths] == NAMES
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    image = matplotlib.image.imread(folder / "survival.png")
    assert image.shape[:2] == (750, 1650)
    assert image[..., :3].min() < 0.1
    root = ET.parse(folder / "distance.svg").getroot()
    assert root.tag.endswith("svg")
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10
    # Again: files are replaced, and the same run gives the same picture.
    first = (folder / "bounds.png").read_bytes()
    save_figures(tree, folder)
    assert (folder / "bounds.png").read_bytes() == first


@pytest.mark.parametrize("escapes", [True, False])
def test_every_study_has_its_figures(tmp_path, escapes):
    """Escapes are drawn only where a scenario watches them."""
    tree = open_run(synthetic_dynamics_run(tmp_path / "run", escapes=escapes))
    stems = ["losses", "validity", *(["escapes"] if escapes else [])]
    names = [path.name for path in save_figures(tree, tmp_path / "figures")]
    assert names == [f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)


def test_a_failure_keeps_the_old_file_and_leaves_no_half_file(tree, tmp_path, monkeypatch):
    save_figures(tree, tmp_path)
    before = (tmp_path / "survival.png").read_bytes()

    def half(self, target, **kwargs):
        Path(target).write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(StoreError, match=r"cannot write figures to .*: No space left on device;"):
        save_figures(tree, tmp_path)
    assert (tmp_path / "survival.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_a_file_appears_in_one_rename(tree, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StoreError, match="Read-only file system"):
        save_figures(tree, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tree, tmp_path):
    (tmp_path / "figures").write_text("mine")
    with pytest.raises(StoreError, match="cannot write figures to"):
        save_figures(tree, tmp_path / "figures")


def test_plotting_needs_no_jax_no_pyplot_no_display():
    code = (
        "import sys, sgdsim.plotting\n"
        "heavy = {'jax', 'equinox', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PATH": "", "MPLBACKEND": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
