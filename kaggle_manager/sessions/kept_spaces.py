"""A model keeps the spaces it has: a change of them that the user accepts would end a session before it trains.

Only the environment itself knows its spaces, so it is made, in what travels (`try_out`) and in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import compare
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible
from kaggle_manager.sections.input_folders import as_variable
from kaggle_manager.sections.inputs import VARIABLE
from kaggle_manager.sessions.try_out import unpacked
from kaggle_manager.system.own_group import run_in_group

MODULE = "kaggle_manager.trainer.sb3.spaces"
LONGEST_S = 120.0
SHAPES = ("observation_space_shape", "action_space_shape")
IN_WORDS = ("observation_space", "action_space")
"""Compared where the same libraries wrote them: another one may put the same space in other words."""


def refuse_other_spaces(config: RunConfig, stated: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare the spaces that a checkpoint states with those of its environment now, where both are known.

    Raises:
        CheckpointIncompatible: they are others.
    """
    versions = stated.get("versions") or {}
    same = all(versions.get(name) == version for name, version in now.get("versions", {}).items())
    known = [name for name in (*SHAPES, *(IN_WORDS if same else ())) if None not in (stated.get(name), now.get(name))]
    verdict = compare({name: stated[name] for name in known}, {name: now[name] for name in known})
    if lines := [str(difference) for difference in verdict.differences if difference.field in known]:
        raise CheckpointIncompatible(
            "The checkpoint is of another experiment, also with --accept-changes, for its network fits its own spaces "
            "alone:\n  " + "\n  ".join(lines),
            safe=f"nothing was pushed; the training tree {config.tree} is untouched",
            next_step="restore those spaces and run the same command again, or add --fresh: it archives the tree "
            "with its replay and starts a new lineage from zero",
        )


def spaces_now(config: RunConfig, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """What `trainer/sb3/spaces` prints; {} where it does not get so far, of which the preflight says why."""
    with unpacked(config.project_root, config.section) as place:
        command = place.command(MODULE, config.section.name, config.scenario_in_section, *["--quick"] * config.quick)
        environ = place.environ | ({VARIABLE: as_variable(inputs)} if inputs else {})
        try:
            done = run_in_group(command, timeout=LONGEST_S, cwd=place.code, env=environ)
        except subprocess.TimeoutExpired:
            return {}
    for line in reversed(done.stdout.splitlines()):  # the environment itself may print, before it and after
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and found.keys() >= {*SHAPES, *IN_WORDS, "versions"}:
            return found
    return {}
