"""What to do about what a session did not have: the project and this machine's packages say where it is."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath

from kaggle_manager.config import RunConfig
from kaggle_manager.protocol.session_result import Missing
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import module_of
from kaggle_manager.sessions.bundle import build_bundle
from kaggle_manager.sessions.image_view import pins_for

# Where Kaggle mounts data.
INPUT_FOLDER = PurePosixPath("/kaggle/input")
_NOT_FOUND = re.compile(r"FileNotFoundError: .*: '([^'\n]+)'")


def advice(missing: Missing, config: RunConfig) -> str:
    """In one line, what brings it into a session; '' where that is not certain.

    The next session would miss it as well, for nothing but the project can change that. What is missing was named by
    the session, so it is only looked for.
    """
    return _of_module(missing.module, config) if missing.module else _of_file(missing.file, config)


def advice_on(words: str, project: Path, section: Section) -> str:
    """As `advice`, of a file of the project that the last line of a script's traceback says is not there."""
    found = _NOT_FOUND.search(words)
    parts = PurePosixPath(found[1]).parts if found else ()
    # An absolute path is one of the copy that was tried: its end is a path of the project.
    names = ["/".join(parts[at:]) for at in range(len(parts)) if at == 0 or parts[0] == "/"]
    name = next((name for name in names if _stays_here(project, section, name)), "")
    return _does_not_travel(name) if name else ""


def _of_module(name: str, config: RunConfig) -> str:
    parts = name.split(".")
    for number in range(len(parts), 0, -1):
        for file in ("/".join(parts[:number]) + ".py", "/".join(parts[:number])):
            if _stays_here(config.project_root, config.section, file):
                return _does_not_travel(file)
    beside = config.section.folder / f"{parts[0]}.py"
    if _is_there(config.section.folder, beside.name):
        return f"{beside.name} is a module of the section: import it as {module_of(config.project_root, beside)}"
    if pins := pins_for([name], config.section.kernel.packages):
        return f"a session has no {parts[0]}: add {json.dumps(pins[0])} to `packages` in section.toml"
    return f"a session has no module {name!r}: pin the package that brings it in `packages` of section.toml"


def _of_file(name: str, config: RunConfig) -> str:
    if _stays_here(config.project_root, config.section, name):
        return _does_not_travel(name)
    if PurePosixPath(name).is_relative_to(INPUT_FOLDER):
        return f"a session has no {name}: name the data in `inputs` of section.toml"
    if PurePosixPath(name).is_absolute() and os.path.lexists(name):
        return (
            f"{name} is a file of this machine: put it into the project, add it to `include` in section.toml, and have "
            "the code find it beside its own files (`Path(__file__).parent`)"
        )
    if "/" not in name and shutil.which(name):
        return f"a session has no program {name!r}: pin a package that brings it in `packages` of section.toml"
    return ""


def _does_not_travel(file: str) -> str:
    return f"{file} of the project does not travel: add {json.dumps(file)} to `include` in section.toml"


def _stays_here(project: Path, section: Section, name: str) -> bool:
    """Whether the project has a file or folder that does not travel."""
    if not _is_there(project, name):
        return False
    travels = [file for file, _ in build_bundle(project, section).files]
    return not any(file == name or file.startswith(f"{name}/") for file in travels)


def _is_there(folder: Path, name: str) -> bool:
    """Whether a file is there; a name from outside never leads out of the folder."""
    path = PurePosixPath(name)
    is_inside = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return is_inside and os.path.lexists(folder / path)  # which takes any name
