"""A project: a folder with sections, and which one a command is about.

Its sections lie in `sections/`, or in the folder that `[tool.kaggle-manager] sections = "..."` in its `pyproject.toml`
names. This program has no project of its own: where it is installed, nothing is ever written.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.fields import inside_its_folder
from kaggle_manager.sections.mistakes import listed
from kaggle_manager.sections.model import SECTION_FILE, Section, load_section
from kaggle_manager.sections.trial import check_sweep
from kaggle_manager.system.command_line import command

DEFAULT_FOLDER = "sections"
# In a project: where the journal, the downloads and the local Kaggle are.
STATE_FOLDER = ".kaggle_manager"
# The variable that names the project's folder, for commands called from elsewhere.
PROJECT_VARIABLE = "KM_PROJECT"
HOW_TO_BEGIN = f"{command('init', 'NAME')}\n  makes one in this folder; or change into the folder of one"


def sections_folder(root: Path) -> str:
    """The folder of the sections of the project at `root`, relative to it, with forward slashes.

    Raises:
        ConfigError: `pyproject.toml` is not TOML, or names something else than a folder of the project.
    """
    return _declared_folder(root) or DEFAULT_FOLDER


def find_sections(root: Path) -> dict[str, Path]:
    """Name -> `section.toml` of every section of the project at `root`. Files of sections are not read here."""
    return {path.parent.name: path for path in sorted((root / sections_folder(root)).glob(f"*/{SECTION_FILE}"))}


def offered_sections(root: Path) -> list[str]:
    """Names of the sections that can be trained: one that is not finished says `trains = false`, or is not valid."""
    offered = []
    for name, path in find_sections(root).items():
        with contextlib.suppress(ConfigError):
            offered += [name] if load_section(path).trains else []
    return offered


def find_project(start: Path, section: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """The project a command is about, see `find_project_or_none`.

    Raises:
        ConfigError: there is no project.
    """
    found = find_project_or_none(start, section, environ)
    if found is None:
        raise ConfigError(
            f"No project is here: neither {start} nor a folder above it has sections.",
            safe="nothing was written or started.",
            next_step=HOW_TO_BEGIN,
        )
    return found


def find_project_or_none(
    start: Path, section: str | None = None, environ: Mapping[str, str] = os.environ
) -> Path | None:
    """What `KM_PROJECT` names, else the nearest folder upwards with that section; None where there is no project.

    When no project has the section, or none is named, the nearest project at all. Folders of another owner than
    `start`'s, and those above them, are not looked at: a section names code to run, and a stranger's must not be found
    by accident.

    Raises:
        ConfigError: `KM_PROJECT` names no project, or a `pyproject.toml` cannot be used.
    """
    if given := environ.get(PROJECT_VARIABLE):
        folder = named_folder(given, PROJECT_VARIABLE)
        if not is_project(folder):
            raise ConfigError(
                f"{PROJECT_VARIABLE} names {folder}, which has no sections.",
                safe="nothing was written or started.",
                next_step=f"correct {PROJECT_VARIABLE}, or unset it",
            )
        return folder
    owner = start.stat().st_uid
    own = itertools.takewhile(lambda folder: folder.stat().st_uid == owner, (start, *start.parents))
    nearest: Path | None = None
    for folder in own:  # none above the project with that section is looked at, whatever is in it
        if is_project(folder):
            nearest = nearest or folder
            if section is None or section in find_sections(folder):
                return folder
    return nearest


def state_of(project: Path, base: Path) -> Path:
    """The state folder of what lies below `base`: the project itself, or the folder that --workdir names."""
    return project / STATE_FOLDER if base == project else base


def named_folder(given: str | Path, who: str) -> Path:
    """The absolute folder that a user names by an option or a variable.

    Raises:
        ConfigError: no folder can have this name: an unknown user's home, or a character that no path may hold.
    """
    try:
        return Path(given).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(
            f"{who} = {str(given)!r} names no folder: {error}.", safe="nothing was started", next_step="name another"
        ) from error


def is_project(folder: Path) -> bool:
    """Whether a folder has sections, or says where it will have them."""
    return _declared_folder(folder) is not None or bool(find_sections(folder))


def get_section(root: Path, name: str) -> Section:
    """The section `name` of the project at `root`.

    Raises:
        ConfigError: there is no such section (the message lists those there are), or its file is not valid.
    """
    sections, folder = find_sections(root), root / sections_folder(root)
    if not sections:
        raise ConfigError(
            f"{folder} has no section yet.",
            safe="nothing was started.",
            next_step=command("init", name or "NAME"),
        )
    if not name:
        several = offered_sections(root) or sorted(sections)
        raise ConfigError(
            f"{folder} has several sections, and none was named: {', '.join(several)}.",
            safe="nothing was started.",
            next_step=f"name one of them, such as {several[0]}",
        )
    if name not in sections:
        raise ConfigError(
            f"There is no section {name!r} in {folder}.",
            safe="nothing was started.",
            next_step=f"choose one of: {listed(offered_sections(root))}; or make it: {command('init', name)}",
        )
    section = load_section(sections[name])
    if section.sweep is not None:  # of no concern to a session
        check_sweep(section, section.sweep)
    return section


def gone_section(state: Path, name: str) -> Path | None:
    """The folder of section `name` that is not there any more, of the project whose state folder `state` is.

    None where it is there, and for a folder that --workdir named: which project that is of is not known.
    """
    project = state.parent
    if state.name != STATE_FOLDER:
        return None
    with contextlib.suppress(ConfigError):  # a project that cannot be read
        if name not in find_sections(project):
            return project / sections_folder(project) / name
    return None


def has_report(root: Path, name: str) -> bool:
    """Whether the section `name` of a project writes a report of its own: a package `report` that can be run."""
    return (root / sections_folder(root) / name / "report" / "__main__.py").is_file()


def module_of(root: Path, file: Path) -> str:
    """The name under which a Python file of the project is imported."""
    return ".".join(file.relative_to(root).with_suffix("").parts)


def _folder_of_sections(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError('`sections` must be a folder name in quotes, such as "experiments"')
    try:
        return inside_its_folder(given)
    except ValueError as error:
        raise ValueError(f"`sections` must be {error}") from None


def _declared_folder(root: Path) -> str | None:
    """What `[tool.kaggle-manager]` of the project says; None without such a table."""
    file = root / "pyproject.toml"
    try:
        if not file.is_file():
            return None
        tool = tomllib.loads(file.read_text(encoding="utf-8-sig")).get("tool", {}).get("kaggle-manager")
        return None if tool is None else _folder_of_sections(tool.get("sections", DEFAULT_FOLDER))
    except (OSError, ValueError, TypeError, AttributeError) as error:  # tomllib's and Unicode errors are ValueErrors
        raise ConfigError(
            f"{file} cannot be used: {error}.",
            safe="nothing was started.",
            next_step='correct it; its table reads: [tool.kaggle-manager] with sections = "FOLDER"',
        ) from error
