"""The scenarios that come with sgdsim."""

import pathlib

from sgdsim._errors import ScenarioError


def scenario_root() -> pathlib.Path:
    """Find the folder of the built-in scenarios: in the installed package, else in a checkout.

    Returns
    -------
    pathlib.Path
        Existing folder.

    Raises
    ------
    ScenarioError
        If the installation is damaged.
    """
    package = pathlib.Path(__file__).resolve().parents[1]
    packaged = package / "_builtin_scenarios"
    if packaged.is_dir():
        return packaged
    # Without the check for pyproject.toml a damaged installation would read a folder `scenarios`
    # of the environment, which belongs to somebody else.
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "scenarios").is_dir():
        return checkout / "scenarios"
    raise ScenarioError(
        f"sgdsim's built-in scenarios are missing: there is no folder {packaged}. "
        "Reinstall sgdsim, or give the path of a scenario file."
    )


def scenario_names() -> list[str]:
    """Names of the built-in scenarios, sorted; the files are not read.

    Examples
    --------
    >>> from sgdsim.scenario import scenario_names
    >>> "stagnation" in scenario_names()
    True
    """
    return sorted(file.stem for file in scenario_root().glob("*.toml"))
