"""The end of a session: what it left is judged, put in words and written down; what a person must see is raised."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.errors import (
    CheckpointIncompatible,
    ConfigError,
    Diverged,
    KaggleManagerError,
    KernelFailed,
    NotFinished,
    Unavailable,
    VerificationError,
    one_line,
)
from kaggle_manager.orchestrator import stop_early
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import EndCause
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.protocol.sentences import exactness, score_in_words
from kaggle_manager.runs.budget import forecast, measure
from kaggle_manager.runs.lifecycle import Stage, Stop
from kaggle_manager.runs.retry_policy import LASTING_S, POLICIES, FailureKind, ends_the_run
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sessions.download import DownloadedSession
from kaggle_manager.sessions.lane import outputs_of
from kaggle_manager.sessions.metrics import measurements, past_sessions, progress_of, time_it_had
from kaggle_manager.sessions.missing import advice
from kaggle_manager.sessions.other_files import download_others
from kaggle_manager.sessions.outcome import Outcome, judge, normalised_failure
from kaggle_manager.sessions.started import versions_of
from kaggle_manager.sessions.stored_log import LOG_FILE
from kaggle_manager.sessions.wheels import damaged_in
from kaggle_manager.system.formatting import iso, size
from kaggle_manager.trees import compatibility

# A session denied for so long is given up even though its kernel is there.
DENIED_TO_GIVE_UP_S = LASTING_S
ERRORS_BY_KIND: dict[FailureKind, type[KaggleManagerError]] = {
    FailureKind.CHECKPOINT: CheckpointIncompatible,
    FailureKind.ORDER: ConfigError,
    FailureKind.MISFILED: ConfigError,
    FailureKind.OUTPUTS: VerificationError,
    FailureKind.DIVERGED: Diverged,
}


def close_session(run: RunContext, session: SessionRow, downloaded: DownloadedSession, *, restored: bool) -> Outcome:
    """Say how a session ended, from what it left, and make room for the next one."""
    head, final, result = run.head(), run.store.final(), downloaded.result
    target = min(run.config.target, session.facts.get("target", run.config.target))  # one raised since was not its own
    early = result.early if result and result.outcome == "completed" else ""
    missing = result.error.missing if result and result.error else None
    outcome = judge(
        result=result,
        time_it_had=time_it_had(session, result),
        remedy=advice(missing, run.config) if missing else "",
        platform_says=session.why,
        end_cause=EndCause(session.facts.get("end_cause", "")),
        log=downloaded.log,
        step_before=session.min_step,
        step_after=head.step if head else 0,
        target_reached=final is not None and (final.step >= target or bool(early)),
        wedged=progress_of(session).wedged,
        never_ran=progress_of(session).ran_s == 0 and not downloaded.log,
        asked_to_stop=bool(session.facts.get("cancel_asked")),  # also where the user has run it again since
    )
    facts = measurements(
        session, result, step_before=session.min_step, step_after=outcome.step, failed=bool(outcome.failure)
    )
    if versions := versions_of(downloaded.folder, session):
        facts["versions"] = versions
    elif result and result.python:
        facts["versions"] = {"python": result.python}
    if damaged := damaged_in(downloaded.log):
        facts["wheels_damaged"] = damaged
    if result and result.error:
        # What the user can accept: the session alone sees the files of its inputs.
        facts |= {"can_be_accepted": True} if result.error.can_be_accepted else {}
        facts |= {"input_files": dict(result.error.input_files)} if result.error.input_files else {}
    if early:
        facts |= stop_early.fact(run.config, session.facts.get("target", run.config.target), early)
    facts["counts"] = {**(result.counts if result else {}), "restores": int(restored)}
    with run.state.together():
        run.state.add_facts(session, **facts)
        run.note("closed", session.generation, outcome=outcome.kind, why=outcome.why, **facts)
        run.state.update_session(
            session,
            stage=Stage.CLOSED,
            outcome=outcome.kind,
            why=outcome.why,
            fingerprint=outcome.failure,
            kind=outcome.failure_kind,
            step=outcome.step,
        )
    (run.reporter.warn if outcome.failure else run.reporter.line)(f"session {session.generation} {outcome.why}")
    if restored:
        _forget_older(run)
    return outcome


def note_other_files(run: RunContext, session: SessionRow, downloaded: DownloadedSession) -> None:
    """Download and tell what the user's code left besides, now that nothing depends on it any more."""
    left = outputs_of(run.connection.client, session)
    caution = download_others(left, run.version_of(session), downloaded.folder, downloaded.result)
    if caution:
        run.reporter.warn(f"session {session.generation} left {caution}")
        with run.state.together():
            run.state.add_facts(session, caution=caution)
            run.note("caution", session.generation, caution=caution)


def check_is_gone(run: RunContext, session: SessionRow) -> None:
    """Hold a lasting denial of `session` against its kernel: one that is deleted is gone, with all its versions.

    Raises:
        Unavailable: the kernel is there, this version or a later one, and the denial is not a day old.
    """
    client = run.connection.client
    version = run.version_of(session)
    newest = client.newest(version.owner, version.slug)
    is_recent = progress_of(run.newest_session()).denied_s < DENIED_TO_GIVE_UP_S
    if is_recent and newest is not None and not client.is_later(version.id, newest[0].id):
        raise Unavailable(
            f"The platform shows {newest[0].ref} and denies its session {session.version}: one of the two is wrong.",
            safe="what the session saved is there; the local training tree is untouched",
            next_step="run the same command again later; after a day of this the session is given up",
        )


def give_up(
    run: RunContext, session: SessionRow, outcome: str, why: str, kind: FailureKind, *, cause: str = ""
) -> None:
    """Close a session that left nothing to judge."""
    run.reporter.warn(f"session {session.generation} is {outcome}: {why}")
    with run.state.together():
        run.state.update_session(
            session,
            stage=Stage.CLOSED,
            outcome=outcome,
            why=why,
            fingerprint=normalised_failure(cause or outcome),
            kind=kind,
            ended_at=session.ended_at or run.now(),
        )
        run.note("closed", session.generation, outcome=outcome, why=why)


def note_forecast(run: RunContext, generation: int, remaining: int) -> None:
    """Write down what is left of the quota, and when the target should be reached, to be held against what comes."""
    quota = run.week  # as the plan was made with: a second answer may be another
    if quota is not None:
        run.note("quota", generation, left_s=quota.left_s, total_s=quota.total_s, refresh_at=quota.refresh_at)
    seen = forecast(
        remaining,
        run.session_limit_s,
        pace=measure(past_sessions(run.sessions)),
        quota=run.allowed,
        now=run.clock(),
        rollout=run.config.scenario.rollout,
    )
    if seen is not None:
        run.note(
            "forecast",
            generation,
            done_at=iso(seen.done_at),
            sessions=seen.sessions,
            accelerator_s=round(seen.accelerator_s),
            made_at=run.now(),
        )


def stop(run: RunContext, action: Stop) -> NoReturn:
    """Put what cannot mend itself before a person, once; the next `run` has every try again, a `tick` has none.

    Of a kind that ends the run, only a fresh start has one: see `retry_policy.Policy`.

    Raises:
        KernelFailed, CheckpointIncompatible, ConfigError, VerificationError, Diverged: by the kind of the failure.
        NotFinished: a person has asked for the stop.
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


def _forget_older(run: RunContext) -> None:
    """Free the room of copies beyond the two newest; logs and results stay."""
    downloaded = _by_number(run.folder_of(run.newest_session()).parent.glob(f"generation_*/{TREE_FOLDER}"), -2)
    replaced = _by_number(run.replaced_by(run.newest_session()).parent.glob("before_generation_*"), -1)
    for older in downloaded[:-2] + replaced[:-2]:
        shutil.rmtree(older, ignore_errors=True)


def _by_number(folders: Iterable[Path], part: int) -> list[Path]:
    """Folders by the session number at the end of this part of their path; what has none is left alone."""
    numbered = [(folder.parts[part].rpartition("_")[2], folder) for folder in folders if folder.is_dir()]
    return [folder for number, folder in sorted((int(n), f) for n, f in numbered if n.isdecimal())]


# What a quick run exists to show; counted by the trainer and the manager, never assumed.
REQUIRED_BY_QUICK = {"updates": "gradient update", "evaluations": "evaluation", "restores": "restore"}
_METRICS_READ = 1_000_000
REQUIRED_OF_SCRIPTS = {"restores": "restore"}


def check_quick_run(run: RunContext, counts: Mapping[str, int]) -> None:
    """Hold a finished quick run against what it promises.

    Raises:
        VerificationError: something a quick run must exercise did not happen; names what.
    """
    scenario = run.config.scenario
    script = scenario if isinstance(scenario, ScriptScenario) else None
    required = REQUIRED_OF_SCRIPTS if script else REQUIRED_BY_QUICK
    missing = [name for key, name in required.items() if counts.get(key, 0) < 1]
    steps = sorted(checkpoint.step for checkpoint in run.store.valid_checkpoints())
    # Not always at the target itself: algorithms that train in rollouts end with the one that reaches it.
    next_step = f"do not start a long run on this; fix the {'script' if script else 'trainer'} first"
    if script and not counts.get("restores"):
        next_step += ": where KM_SESSION_STOP_AT is set, it is to save and end at that step"
    if run.config.target >= 2 and (len(steps) < 2 or steps[-1] < run.config.target):
        if script is None and steps and steps[-1] >= run.config.target:  # where the text does not say how long one is
            next_step = (
                f"the one rollout that it trained has {steps[-1]:,} timesteps: in section.toml, set quick.timesteps of "
                f"{run.config.scenario_name} to {2 * steps[-1]}, and run the same command again"
            )
        missing.append(f"two valid checkpoints, the newer at step {run.config.target} (found {steps})")
    if run.store.best() is None and (script is None or script.best):
        by_metric = f"best checkpoint by {script.best.metric} ({_told(run)})" if script and script.best else ""
        missing.append(by_metric or "best model")
    if run.store.final() is None:
        missing.append("final model")
    if script is None and not run.tree.metadata.is_file():
        missing.append("training metadata")
    if missing:
        raise VerificationError(
            f"The quick run reached its target but did not show: {', '.join(missing)}.",
            safe=f"what it made is in {run.config.tree}",
            next_step=next_step,
        )


def _told(run: RunContext) -> str:
    """In words, of which metrics a script has told values."""
    names: dict[str, None] = {}
    with contextlib.suppress(OSError), (run.tree.history / "metrics.jsonl").open(encoding="utf-8") as file:
        for line in file.read(_METRICS_READ).splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                names[one_line(json.loads(line)["name"], 40)] = None
    return f"it told {', '.join([*names][:20])}" if names else "it told no metric"


def describe_tree(run: RunContext) -> Iterator[str]:
    """The training tree in lines: the three levels of checkpoints, with steps and sizes."""
    for checkpoint in sorted(run.store.valid_checkpoints(), key=lambda found: found.step):
        yield _level("latest", checkpoint)
    for name, level in (("best", run.store.best()), ("final", run.store.final())):
        if level is not None:
            yield _level(name, level) + (f", {worth}" if (worth := score_in_words(level.manifest)) else "")
    final = run.store.final()
    if final is not None and final.manifest.file("replay_buffer") is None and any(run.tree.replay.glob("*")):
        yield f"the final model's replay buffer: {run.config.command('checkpoints export-sb3', 'latest', 'exported')}"
    if (head := run.head()) is not None and (lost := exactness(head.manifest.exact)):
        yield lost
    yield f"tree    {run.config.tree}"


def _level(name: str, checkpoint: Checkpoint) -> str:
    total = sum(file.size for file in checkpoint.manifest.files)
    is_agents = checkpoint.manifest.file("model") is not None
    where = (
        checkpoint.model_path.name
        if is_agents
        else checkpoint.tree.own_files(checkpoint.manifest.kind, checkpoint.step).name
    )
    return f"{name:<6}  step {checkpoint.step:>8}  {size(total):>9}  {where}"
