"""What is run: the words of a scenario as a command of this machine, and what the script finds in its environment."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections import notebook
from kaggle_manager.sections.script import ScriptScenario, file_named
from kaggle_manager.system.arithmetic import without_threads

_PYTHON = ("python", "python3")


def command_of(scenario: ScriptScenario, folder: Path, root: Path) -> list[str]:
    """The command of a script.

    Args:
        folder: the section's, where files are looked for first.
        root: the project, in which it is run.

    Raises:
        ConfigError: there is no such file, or no such program.
    """
    if scenario.module:
        return [sys.executable, "-u", "-m", scenario.module, *scenario.arguments]
    if isinstance(scenario.script, str):
        path = file_named(scenario.script, folder, root)
        if path is None:
            raise ConfigError(
                f"script = {scenario.script!r}: there is no such file in {folder.name} or in the project.",
                safe="nothing was trained",
                next_step="correct `script` in section.toml",
            )
        return [sys.executable, "-u", str(_runnable(path)), *scenario.arguments]
    program, *words = scenario.script
    if program in _PYTHON:
        return [sys.executable, "-u", *words, *scenario.arguments]
    beside = Path(sys.executable).parent
    found = shutil.which(program, path=os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise ConfigError(
            f"script: there is no program {program!r} in a session.",
            safe="nothing was trained",
            next_step="pin the package that brings it in `packages` in section.toml, or correct `script`",
        )
    return [found, *words, *scenario.arguments]


def _runnable(path: Path) -> Path:
    """A script; of a notebook the one that it is, written beside it."""
    if path.suffix != notebook.SUFFIX:
        return path
    try:
        text = notebook.as_python(path.read_bytes())
    except notebook.NoScript as error:
        raise ConfigError(
            f"{path.name} cannot be run as a script: {error}.",
            safe="nothing was trained",
            next_step="correct the notebook",
        ) from error
    script = path.with_name(f"{path.name}.py")
    script.write_text(text, encoding="utf-8")
    return script


def environment_of(
    base: Mapping[str, str],
    *,
    root: Path,
    target: int,
    seed: int,
    saves: Path,
    step: int = 0,
    resume: Path | None = None,
    stop_at: int | None = None,
    seconds_left: float | None = None,
) -> dict[str, str]:
    """What a script finds, by the contract of docs/scripts.md; how many threads it takes is its own business.

    Args:
        step, resume: the newest checkpoint; 0 and None at the start.
        stop_at: the step at which this session is over; None, or one at or after the target, for no such step.
        seconds_left: until it should have ended; None for no limit.
    """
    own = {
        "KM_SESSION_TARGET": str(target),
        "KM_SESSION_SEED": str(seed),
        "KM_SESSION_STEP": str(step),
        "KM_SESSION_SAVES": str(saves),
        "PYTHONPATH": os.pathsep.join(
            dict.fromkeys([str(root), *filter(None, base.get("PYTHONPATH", "").split(os.pathsep))])
        ),
        "PYTHONUNBUFFERED": "1",
    }
    if resume is not None:
        own["KM_SESSION_RESUME"] = str(resume)
    if stop_at is not None and stop_at < target:
        own["KM_SESSION_STOP_AT"] = str(stop_at)
    if seconds_left is not None:
        own["KM_SESSION_DEADLINE"] = f"{time.time() + seconds_left:.1f}"
    kept = {name: value for name, value in without_threads(base).items() if not name.startswith("KM_SESSION_")}
    return {**kept, **own}
