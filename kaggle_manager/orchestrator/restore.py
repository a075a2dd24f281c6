"""What a session left becomes the local training tree, all of it or nothing, once it is known to belong to it."""

from __future__ import annotations

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, RestoreReport, TrainingTree, restore_tree
from kaggle_manager.checkpoints.vouched import Vouched, manifests_of
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, OutputDamaged, VerificationError
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.download import DownloadedSession
from kaggle_manager.sessions.preflight import refuse_mistakes
from kaggle_manager.sessions.stored_log import LOG_FILE
from kaggle_manager.system.formatting import size
from kaggle_manager.trees import compatibility


def vouch_for(config: RunConfig, session: SessionRow, downloaded: DownloadedSession) -> None:
    """What a session of this journal saved was made by code that was sent from here: it may be continued.

    A checkpoint that only lies there, of another run or session, is not vouched for by that.

    Raises:
        StorageError: this machine's disk refused.
    """
    if downloaded.tree is not None:
        left = manifests_of(TrainingTree(downloaded.tree, config.scenario_name))
        own = [it for it in left if (it.lineage.run_id, it.lineage.generation) == (session.run_id, session.generation)]
        who = f"brought by session {session.generation} of run {session.run_id}"
        Vouched(config.state).add(own, who)


def restore_downloaded(run: RunContext, session: SessionRow, downloaded: DownloadedSession) -> RestoreReport | None:
    """Put the downloaded tree in the place of the local one: all of it, or nothing.

    Returns None when the session failed and left nothing newer; anything else that restores nothing is an error.

    Raises:
        OutputDamaged: a session that says it trained left no checkpoint.
        LineageMismatch, CheckpointCorrupt: the tree may not be restored; it stays in the download folder and the local
            tree is untouched.
    """
    result = downloaded.result
    trained = result is not None and result.outcome in ("completed", "interrupted")
    source = TrainingTree(downloaded.tree, run.config.scenario_name) if downloaded.tree else None
    valid = CheckpointStore(source).valid_checkpoints() if source else []
    if not valid:
        if result is not None and trained and result.step is not None:
            raise OutputDamaged(
                f"Session {session.generation} says it trained, but left no checkpoint.",
                safe=f"nothing was restored; what it left is in {downloaded.folder}",
                next_step=f"read {downloaded.folder / LOG_FILE}",
            )
        return None
    found = valid[0]
    lineage = found.manifest.lineage
    nothing_new = found.manifest.sha256 == session.parent_sha256
    if nothing_new and not (result is not None and result.outcome == "completed"):
        return None  # it ended before its first save: what came back is what went in
    own = (lineage.run_id, lineage.generation) == (session.run_id, session.generation)
    if not own and result is not None and not trained:
        return None  # it refused what was mounted; that is no work of its own
    files = found.manifest.files
    run.reporter.checkpoint(
        f"found step {found.step} of session {lineage.generation}: "
        + ", ".join(f"{file.name} ({size(file.size)})" for file in files)
    )
    # Of which run and session it is decides here; what the user has edited meanwhile, `check_compatible` before a push.
    report = restore_tree(
        found.tree.root,
        run.tree,
        run_id=session.run_id,
        # Only the final model may have been missing; then the newest checkpoint is still the parent.
        generation=lineage.generation if nothing_new else session.generation,
        min_step=session.min_step,
        keep_replaced=run.replaced_by(session),
        warn=run.reporter.warn,
    )
    for problem in report.left_out:
        run.reporter.warn(f"left out, for it does not verify: {problem}")
    run.reporter.checkpoint(f"restored into {run.config.tree}; the next session resumes from step {report.step}")
    if report.replaced is not None:
        run.reporter.checkpoint(f"the tree it replaces is kept in {report.replaced}")
    return report


def ensure_final(run: RunContext, head: Checkpoint) -> None:
    """Where no session has written the final model of its newest step, the newest checkpoint's model is that model.

    A session to train nothing would write the same bytes. Its replay buffer stays where it is, in the checkpoint.

    Raises:
        StorageError: this machine's disk refused; the run is finished next time.
    """
    final, vouched = run.store.final(), Vouched(run.config.state)
    files = head.usable()
    if final is None or final.step < head.step:
        manifest = head.manifest
        final = run.store.save_final(
            step=head.step,
            files=files,
            target=manifest.target,
            lineage=manifest.lineage,
            bundle_sha256=manifest.bundle_sha256,
            identity=manifest.identity,
            exact=manifest.exact,
        )
        run.reporter.checkpoint(f"no session wrote a final model of step {head.step}: it is that of the checkpoint")
    # The same bytes are as trustworthy under another name.
    are_same = all(final.manifest.sha256_of(role) == head.manifest.sha256_of(role) for role in files)
    if not vouched.who(final.manifest) and are_same and (who := vouched.who(head.manifest)):
        vouched.add([final.manifest], who)


def check_compatible(run: RunContext, checkpoint: Checkpoint) -> str:
    """Compare a checkpoint's identity with what this run trains; what the user has accepted is changed, '' for nothing.

    Raises:
        CheckpointIncompatible: with every difference, and what to do about each.
        VerificationError: a difference is a mistake in section.toml, such as a misspelt name.
    """
    safe = f"the training tree {run.config.tree} is untouched, with everything the sessions have saved"
    try:
        verdict = compatibility.check(
            checkpoint, run.config, safe=safe, warn=run.warn_once, accept_changes=run.changes_are_accepted
        )
    except CheckpointIncompatible:
        refuse_mistakes(run.config)
        raise
    return verdict.accepted


def check_finished(run: RunContext, head: Checkpoint) -> None:
    """As `check_compatible`, but what its last session was sent to train is finished, whatever was edited meanwhile.

    Raises:
        CheckpointIncompatible: it was finished before, and is not what the user would have trained now.
    """
    newest = run.state.newest
    try:
        check_compatible(run, head)
    except (CheckpointIncompatible, ConfigError, VerificationError) as error:
        if newest is None or newest.facts.get("finished"):
            raise
        run.reporter.warn(
            f"{error.message}\n  It was changed while the last session trained. That training is finished, as it was "
            "before the change; no further session continues it with the change"
        )
