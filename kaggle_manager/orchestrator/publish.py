"""Send the tree that the next session continues to the platform, once, however long the platform processes it.

What is ordered is in the journal before it is ordered, with what it takes to find it again. So any later pass, also of
another process after a kill, first waits for what was ordered, and publishes anew only what was surely lost.
"""

from __future__ import annotations

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.errors import ConfigError, NotFound
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import NotReady, PublishedInputs, Submission
from kaggle_manager.runs.leftovers import following_tree
from kaggle_manager.runs.retry_policy import passed
from kaggle_manager.sessions import launch

# Cause of a wait until the platform has processed a tree.
PROCESSING = "processing"
# While the platform processes a tree it is looked at after this long at first, twice as long each time.
PROCESSING_WAIT_S, PROCESSING_LONGEST_S = 60.0, 600.0


def settle_name(run: RunContext) -> None:
    """Leave the name of a training tree that was deleted on the platform, by hand or by `clean` on another machine.

    Of a dataset that was deleted and made again a user reports that every push with it fails.

    Raises:
        AuthError, RemoteError: the platform did not say whether it is there.
    """
    slug = launch.tree_dataset(run.row)
    if run.row.published is not None or run.row.settings.get("tree_there") != slug:
        return  # it is on its way, or was never there
    try:
        run.connection.client.input_versions(run.row.owner, slug)
    except NotFound:
        following = following_tree(slug)
        run.state.change_settings(tree_dataset=following)
        run.reporter.warn(
            f"dataset {run.row.owner}/{slug}, which had the training tree, was deleted; the next one is {following}"
        )


def is_mountable(run: RunContext, parent: Checkpoint, generation: int) -> bool:
    """Whether a session pushed now would find the tree of `parent`; else the journal says until when to wait.

    Raises:
        ConfigError: the platform could not process it, or something else publishes there; it is sent anew when the user
            runs the command again.
        OutputDamaged, AuthError, RemoteError: nothing was published, or what was is looked for again.
    """
    is_news = run.row.wait is not None and run.row.wait.cause == PROCESSING
    try:
        found = _submitted(run, parent)
        if found is NotReady.LOST:
            found, is_news = _publish(run, parent, generation), True
    except ConfigError:
        if run.row.published is not None and not run.row.published.failed:
            run.note("publication_failed", generation)
        raise
    if isinstance(found, PublishedInputs):
        if run.row.settings.get("tree_there") != found.slug:
            run.state.change_settings(tree_there=found.slug)
        if is_news:
            run.reporter.checkpoint(f"step {parent.step} goes in as dataset {found.ref}")
        if found.caution:
            run.reporter.warn(f"dataset {found.ref} is ready under its names: {found.caution}")
        return True
    why = f"The platform is processing the training tree of step {parent.step:,}, and no session can mount it yet."
    run.note("processing", generation, looked_at=run.clock())
    run.postpone(PROCESSING, why, PROCESSING_WAIT_S, PROCESSING_LONGEST_S)
    return False


def _submitted(run: RunContext, parent: Checkpoint) -> PublishedInputs | NotReady:
    """What became of the tree, if it was ordered already."""
    known = run.row.published
    if known is None or known.manifest_sha256 != parent.manifest.sha256:
        return NotReady.LOST
    run.reporter.phase("waiting until sessions can read the tree")
    found = run.connection.client.find_published(
        owner=run.row.owner,
        slug=launch.tree_dataset(run.row),
        submission=Submission(known.after, known.newest, known.sizes),
        accepted=known.accepted,
        age_s=known.waited_s + passed(known.looked_at, run.clock()),
    )
    if found is NotReady.LOST:
        run.note("not_published")
        run.reporter.warn("the training tree that was sent did not become mountable, and is sent again")
    return found


def _publish(run: RunContext, parent: Checkpoint, generation: int) -> PublishedInputs | NotReady:
    def order(submission: Submission) -> None:
        run.note(
            "submitting",
            generation,
            manifest_sha256=parent.manifest.sha256,
            after=submission.after,
            newest=submission.newest,
            sizes=dict(submission.sizes),
            looked_at=run.clock(),
        )

    return launch.publish_tree(
        run.connection.client,
        run.row,
        run.tree,
        parent,
        generation,
        reporter=run.reporter,
        uploads=run.config.state / "uploads" / run.row.run_id,  # an upload is used once: never by two runs
        on_order=order,
        on_accepted=lambda: run.note("submitted", generation),
    )
