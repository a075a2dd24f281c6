"""What ends a run until the user has done something, as the error that a command ends with."""

from __future__ import annotations

from typing import NoReturn

from kaggle_manager.errors import (
    CheckpointIncompatible,
    ConfigError,
    Diverged,
    KaggleManagerError,
    KernelFailed,
    NotFinished,
    VerificationError,
)
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs.lifecycle import Stop
from kaggle_manager.runs.retry_policy import POLICIES, FailureKind, ends_the_run
from kaggle_manager.sessions.stored_log import LOG_FILE
from kaggle_manager.trees import compatibility

ERRORS_BY_KIND: dict[FailureKind, type[KaggleManagerError]] = {
    FailureKind.CHECKPOINT: CheckpointIncompatible,
    FailureKind.ORDER: ConfigError,
    FailureKind.MISFILED: ConfigError,
    FailureKind.OUTPUTS: VerificationError,
    FailureKind.DIVERGED: Diverged,
}


def raise_trouble(run: RunContext, action: Stop) -> NoReturn:
    """Tell the user what does not pass by itself, once; the next `run` has every try again, a `tick` has none.

    Of a kind that ends the run, only a fresh start has one: see `retry_policy.Policy`.

    Raises:
        KernelFailed, CheckpointIncompatible, ConfigError, VerificationError, Diverged: by the kind of the failure.
        NotFinished: the user has asked for the stop.
    """
    again = run.config.command("run")
    if action.kind is FailureKind.NONE:
        raise NotFinished(
            f"Run {run.row.run_id} is stopped: {action.why}.", safe=f"the tree {run.config.tree}", next_step=again
        )
    newest = run.newest_session()
    is_over = ends_the_run(action.kind)
    own_target = run.config.target == run.config.scenario.target
    fresh = run.config.command("run", *([] if own_target else ["--timesteps", run.config.target]), "--fresh")
    log = run.folder_of(newest) / LOG_FILE
    if action.kind is FailureKind.CHECKPOINT:
        accepted = bool(newest.facts.get("can_be_accepted"))
        next_step = compatibility.way_out(can_be_accepted=accepted, again=f"`{again}`")
    else:
        last = f"start from zero, which archives this tree: {fresh}" if is_over else f"run `{again}` again"
        reading = f"read {log}, " if log.is_file() else ""
        next_step = f"{reading}{POLICIES[action.kind].advice}, and {last}"
    if run.row.trouble is None or not run.row.trouble.is_stop:
        run.note("stopped", newest.generation, why=action.why, failure=action.kind, next=next_step)
    raise ERRORS_BY_KIND.get(action.kind, KernelFailed)(
        f"Run {run.row.run_id} was stopped: {action.why}.\nLast: session {newest.generation} {newest.why}",
        safe=f"the training tree {run.config.tree} is as the last restore left it",
        next_step=next_step,
    )
