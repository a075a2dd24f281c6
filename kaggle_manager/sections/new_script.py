"""`init --script`: a new section for a script of the user's - `sections/NAME/section.toml` and nothing else.

Never changes or runs the script; what it needs is read off its text.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath

from kaggle_manager.errors import ConfigError, error_context
from kaggle_manager.sections.imports import imports_of
from kaggle_manager.sections.model import SECTION_FILE, Section, section_of
from kaggle_manager.sections.project import sections_folder
from kaggle_manager.sections.scaffold import NewSection, filled
from kaggle_manager.sections.script import script_files
from kaggle_manager.sections.toml_text import text_of

HELPERS = Path(__file__).resolve().parents[1] / "trainer/script"
"""Where the files are that a script may copy: `resumable.py` and those that go with it."""
# Of these, the one to copy where a script imports the library.
FITTING = {
    "torch": "resumable_state",
    "lightning": "resumable_lightning",
    "pytorch_lightning": "resumable_lightning",
    "transformers": "resumable_transformers",
}
TARGET, QUICK = 1_000, 20


def new_script(
    name: str,
    project: Path,
    script: str | list[str],
    *,
    target: int | None = None,
    helper: bool = False,
    pins: Callable[[Iterable[str]], Sequence[str]] = lambda modules: (),
) -> NewSection:
    """Write a section for a script into `project`.

    Args:
        name: a lower-case name; that of its folder.
        script: a file of the project, relative to it, `-m package.module`, or the words of a command.
        target: steps in all; None for 1,000.
        helper: copy `resumable.py` beside the script, and what fits its framework. What it imports is copied anyway.
        pins: what to pin so that a session can import these modules.

    Raises:
        ConfigError: the name is taken or cannot be used, or there is no such script; nothing is written.
    """
    place = sections_folder(project)
    folder = project / place / name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise _refused(f"{name!r} cannot be the name of a section.", "give a lower-case name such as my_model")
    if folder.exists():
        raise _refused(f"{folder} exists already.", "choose another name, or edit what is there")
    is_file = isinstance(script, str) and not script.startswith("-m ")
    if isinstance(script, str) and is_file and not (project / script).is_file():
        raise _refused(f"There is no file {script} in {project}.", "name a file of the project, relative to it")

    def text(packages: Sequence[str]) -> str:
        return filled(
            "script.toml",
            name=name,
            title=name.replace("_", " "),
            script=text_of(script),
            packages=", ".join(map(text_of, packages)),
            target=text_of(target or TARGET),
            quick=min(QUICK, target or TARGET),
        )

    with error_context(ConfigError, safe="nothing was written", next_step="give another --script"):
        bare = section_of(text(()), folder / SECTION_FILE)
    files = _files(bare, project)[:1] if isinstance(script, list) else [script] * is_file  # a command may name one
    copies = _helpers(project, files[0], helper) if files else {}
    needed = dict.fromkeys(module for file in _files(bare, project) for module in imports_of(project / file))
    found = text(pins(needed))
    section = section_of(found, folder / SECTION_FILE)
    folder.mkdir(parents=True)
    (folder / SECTION_FILE).write_text(found, encoding="utf-8")
    for file, source in copies.items():
        shutil.copyfile(source, project / file)
    return NewSection(project, section, tuple(sorted([f"{place}/{name}/{SECTION_FILE}", *copies])))


def _files(section: Section, project: Path) -> list[str]:
    scenario = section.scenario()
    return script_files(scenario, section.folder, project)  # type: ignore[arg-type]


def _helpers(project: Path, script: str, wanted: bool) -> dict[str, Path]:
    """Files to copy beside the script -> where they are, of those that are not there yet."""
    modules = [*imports_of(project / script)]
    if wanted:
        libraries = {module.partition(".")[0] for module in modules}
        modules += ["resumable", *(FITTING[library] for library in libraries & FITTING.keys())]
    found: dict[str, Path] = {}
    while modules:
        module = modules.pop()
        source = HELPERS / f"{module}.py"
        beside = PurePosixPath(script).with_name(f"{module}.py").as_posix()
        is_one = module.startswith("resumable") and "." not in module and source.is_file()
        if is_one and beside not in found and not (project / beside).exists():
            found[beside] = source
            modules += imports_of(source)
    return found


def _refused(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, safe="nothing was written", next_step=next_step)
