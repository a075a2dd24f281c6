"""A run in Weights & Biases: one run there over all sessions, under the id that it has here.

Promises: a call with nothing new sends nothing. What is new is sent with all that came before it, and takes the place
of what is there: Weights & Biases replaces a run by a later one of its id, and takes nothing into the middle of one. So
a call after an outage, one that was cut and one in offline mode leave the same run. Where it goes, and who may write
there, its own settings say (`WANDB_MODE`, `WANDB_PROJECT`, `WANDB_API_KEY`, `wandb login`, ...).
Never does: let the library look at this machine, its console or its repository.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import remove_tree, storage_errors, write_atomic
from kaggle_manager.checkpoints.sealed_json import canonical
from kaggle_manager.errors import ConfigError
from kaggle_manager.integrations.sent import Sent
from kaggle_manager.integrations.service_errors import answers_of, without_secrets
from kaggle_manager.integrations.tracked import OF_SESSIONS, TrackedRun
from kaggle_manager.system.files import sha256_bytes

PROJECT_VARIABLE, MODE_VARIABLE = "WANDB_PROJECT", "WANDB_MODE"
LINEAGE_FILE = "lineage.json"
# What decides where a run goes: told to another place, it is told whole.
_WHERE = (MODE_VARIABLE, PROJECT_VARIABLE, "WANDB_ENTITY", "WANDB_BASE_URL")
_SIGN_IN = "sign in with `wandb login`, or set WANDB_API_KEY, and run it again; without an account: WANDB_MODE=offline"
_STEPS, _SESSION = "timesteps", "session"


def send(run: TrackedRun, project: str | None, folder: Path) -> Sent:
    """Make the run in Weights & Biases what `run` is.

    Args:
        project: None: `WANDB_PROJECT`, else the section's name.
        folder: where the library writes, and where it is noted what was sent.

    Raises:
        ImportError: wandb is not installed.
        ConfigError: it is switched off.
        AuthError, NotFound, RateLimited, Unavailable: the service refused, or did not answer.
        StorageError: the disk refused.
    """
    if os.environ.get(MODE_VARIABLE) == "disabled":
        raise ConfigError(
            f"{MODE_VARIABLE}=disabled: Weights & Biases takes nothing.",
            safe="nothing was sent",
            next_step=f"unset {MODE_VARIABLE}, or set it to offline",
        )
    project = project or os.environ.get(PROJECT_VARIABLE) or run.section
    told = {"project": project, "where": [os.environ.get(name) for name in _WHERE], "run": vars(run)}
    digest, note = sha256_bytes(canonical(told)), folder / f"wandb-{run.run_id}.json"
    if (before := _noted(note)).get("digest") == digest:
        return Sent(run.run_id, before.get("where", ""), 0, is_new=False)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers
    with storage_errors(f"Writing into {folder}", safe="the run and its training tree"):
        folder.mkdir(parents=True, exist_ok=True)
    with answers_of("Weights & Biases", safe="the run and its training tree", sign_in=_SIGN_IN):
        import wandb

        place, rows = _send(wandb, run, project, folder)
    with storage_errors(f"Writing into {folder}", safe="the run and its training tree"):
        write_atomic(Disk(), note, json.dumps({"schema": 1, "digest": digest, "where": place}).encode())
    return Sent(run.run_id, place, rows, is_new=True)


def rows_of(run: TrackedRun) -> list[dict[str, float]]:
    """The points of all curves, one row for a step: first over timesteps, then over sessions."""
    over_steps: dict[int, dict[str, float]] = {}
    over_sessions: dict[int, dict[str, float]] = {}
    for name, points in run.series.items():
        axis, rows = (_SESSION, over_sessions) if name.startswith(OF_SESSIONS) else (_STEPS, over_steps)
        for point in points:
            rows.setdefault(point.step, {axis: point.step})[name] = point.value
    return [rows[step] for rows in (over_steps, over_sessions) for step in sorted(rows)]


def _send(wandb: Any, run: TrackedRun, project: str, folder: Path) -> tuple[str, int]:
    """Where it is then, and how many rows there were."""
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    rows = rows_of(run)
    with wandb.init(
        id=run.run_id,
        name=run.name,
        project=project,
        group=run.scenario,
        config=dict(run.parameters),
        dir=str(folder),
        settings=settings,
    ) as there:
        there.define_metric("*", step_metric=_STEPS)
        there.define_metric(f"{OF_SESSIONS}*", step_metric=_SESSION)
        for row in rows:
            there.log(row)
        there.summary.update(dict(run.facts))
        own = Path(there.dir)
        lineage = json.dumps({"run_id": run.run_id, "sessions": list(run.lineage)}, indent=1)
        (own / LINEAGE_FILE).write_text(lineage, encoding="utf-8")
        is_offline = there.settings.mode in ("offline", "dryrun")
        place = str(own.parent) if is_offline else without_secrets(there.url or "")
    for earlier in _folders(folder, run.run_id):
        if earlier != own.parent:  # it holds the beginning of what was sent now, and would take its place
            remove_tree(Disk(), earlier)
    return place, len(rows)


def _folders(folder: Path, run_id: str) -> Iterator[Path]:
    """Where the library keeps what it has sent, or would send, of a run."""
    return (path for path in sorted((folder / "wandb").glob(f"*run-*-{run_id}")) if path.is_dir())


def _noted(note: Path) -> dict[str, str]:
    """What was sent last; nothing where nobody knows: then the same is sent again, and replaces itself."""
    try:
        said = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) and said.get("schema") == 1 else {}
