"""What an environment needs beside its own module, seen by making it in a process of its own: for a new section."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.environment_ids import family_of
from kaggle_manager.sections.imports import imported_files, imports_of
from kaggle_manager.sections.new_training import Training
from kaggle_manager.sections.scaffold import Needs
from kaggle_manager.sessions.bundle import INSTALLED
from kaggle_manager.sessions.image_view import pins_for
from kaggle_manager.sessions.try_out import RUNNER, VARIABLE
from kaggle_manager.system.own_group import run_in_group
from kaggle_manager.system.scratch import scratch_folder

MODULE = "kaggle_manager.trainer.sb3.env_needs"
LONGEST_S = 120.0


def needs_of(project: Path, target: str, kwargs: Mapping[str, Any], pinned: list[str], training: Training) -> Needs:
    """Make `target` (`module:callable`) and play a moment; what could not be played is known by its text alone.

    Args:
        pinned: what the section pins in any case.
        target: "" to look at the algorithm alone, one of the user's own.
        training: what is put around it, and which algorithm names the policies.

    Raises:
        ConfigError: it cannot be imported.
    """
    # `gymnasium.make` imports the module before the colon of an id.
    modules = [target.partition(":")[0], *str(kwargs.get("id", "")).split(":")[:-1]]
    modules = [*filter(None, modules), *training.algorithm.split(":")[:-1]]
    by_text = tuple(dict.fromkeys(file for module in modules for file in imported_files(project, module)))
    imported = {module for file in by_text for module in imports_of(project / file)} | {*modules}
    family = family_of(str(kwargs.get("id", "")))
    usual = family.wrapper if family and not training.wrappers else ""
    unseen = Needs(wrapper=usual or None, packages=tuple(pins_for(imported, pinned)), files=by_text)
    if importlib.util.find_spec("gymnasium") is None:
        return unseen
    with scratch_folder("km_look_") as elsewhere:
        places = [*filter(None, [os.environ.get("PYTHONPATH")]), str(INSTALLED)]
        told = json.dumps({"code": str(elsewhere), "project": str(project.resolve())})
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(places), VARIABLE: told, "PYTHONIOENCODING": "utf-8"}
        told_too = json.dumps([training.wrappers, training.algorithm, usual])
        command = [sys.executable, "-m", RUNNER, MODULE, str(project), target, json.dumps(kwargs), told_too]
        try:
            done = run_in_group(command, timeout=LONGEST_S, cwd=elsewhere, env=environ)
            seen = json.loads(done.stdout[done.stdout.rindex('\n{"problem"') :].splitlines()[1])
        except (subprocess.TimeoutExpired, ValueError):
            return unseen  # its checks say why, or which library is not here
    if seen["problem"]:
        option = "--algo" if training.algorithm in seen["problem"] else "--env"
        raise ConfigError(seen["problem"], safe="nothing was written", next_step=f"correct {option}, or what it names")
    files = seen["files"] if seen["policy"] else dict.fromkeys([*seen["files"], *by_text])
    pins = tuple(pins_for(seen["modules"], pinned))
    return Needs(seen["policy"], pins, tuple(files), seen["like"], seen["takes"], seen["wrapper"])
