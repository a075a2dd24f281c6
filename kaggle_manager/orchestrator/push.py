"""Start one generation of a run, once: the intent is written first, and no answer is taken for a refusal.

A push that was surely refused takes its intent back; one that was accepted, even not as asked, uses its generation up;
one whose answer never came is looked for before anything is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from kaggle_manager.checkpoints import Checkpoint
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.errors import (
    AmbiguousPush,
    CapacityReached,
    CheckpointIncompatible,
    Interrupted,
    KaggleManagerError,
    NotebookNotFound,
    NoVersionShown,
    PushMismatch,
    QuotaError,
    error_context,
)
from kaggle_manager.orchestrator import first_push, room
from kaggle_manager.orchestrator.image import (
    DOUBT_LONGEST_S,
    DOUBT_WAIT_S,
    IN_DOUBT,
    Refusal,
    image_for_next,
)
from kaggle_manager.orchestrator.publish import is_mountable, settle_name
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.orchestrator.start import Ask, SharedSession, start_session
from kaggle_manager.orchestrator.wheels import mountable_wheels
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.protocol.launch_order import LaunchOrder
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.retry_policy import FailureKind
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sections.inputs import LOCAL_FOLDER, Input
from kaggle_manager.sessions import launch
from kaggle_manager.sessions.bundle import Bundle, build_bundle, describe, render_script
from kaggle_manager.sessions.inputs import SettledInput, settle_inputs
from kaggle_manager.sessions.preflight import lanes_that_fit
from kaggle_manager.sessions.reconcile import check_not_elsewhere, look_for_push, unknown_session
from kaggle_manager.trees.compatibility import check_inputs_here

# Waits before the next look; each is doubled up to its longest, and none costs an attempt.
UNANSWERED_WAIT_S, UNANSWERED_LONGEST_S = 30.0, 900.0


def vouching(run: RunContext, parent: Checkpoint) -> str:
    """Who vouches for what the next session continues; the row of that session keeps it, beside the parent's hash.

    Raises:
        UntrustedTree: nobody does.
    """
    again = run.config.command("run", "--trust")
    vouched, tree = Vouched(run.config.state), run.config.tree
    return vouched.require(parent.manifest, tree=tree, doing="The next session", again=again, trust=run.config.trust)


def push_generation(
    run: RunContext,
    generation: int,
    parent: Checkpoint | None,
    accepted: str = "",
    shared: SharedSession | None = None,
) -> None:
    """Package and push `generation`, which continues `parent`; the journal then says what became of it.

    Without room, or without quota, the generation stays free and the journal says until when to wait.

    Args:
        accepted: what of the environment and the reward was changed since `parent`, on purpose; '' for nothing.
        shared: the session that it may share with other runs; None for one of its own.

    Raises:
        PushMismatch: the session was filed under another address; its generation is closed.
        UntrustedTree: nobody vouches for `parent`; nothing was started.
        ConfigError, AuthError, RemoteError: nothing was started, and the generation is free again.
    """
    config, row, client, reporter = run.config, run.row, run.connection.client, run.reporter
    reporter.step(1, f"package session {generation}")
    bundle = build_bundle(config.project_root, config.section)
    plan = run.plan
    who = vouching(run, parent) if parent else ""
    inputs, accepted = _settled_inputs(run, parent, accepted)
    try:
        newest, row = first_push.newest_kernel(run), run.row  # which may have another name now
    except first_push.NoNameFree:
        return
    if parent is not None:
        settle_name(run)
        row = run.row
    image = image_for_next(run, newest[0] if newest else None)
    wheels = mountable_wheels(run, image)
    shared = _to_share(run, shared, bundle, image)
    lead = shared.lead if shared else None
    order = launch.launch_order(
        config,
        row,
        generation,
        lane=shared.next_lane if shared else "",
        parent=parent,
        vouched_by=who,
        bundle=bundle,
        limits=client.limits(),
        wheels=wheels,
        inputs=inputs,
        identity=run.identity,
        accept_changes=run.changes_are_accepted,
        accepted_files=run.accepted_files,
        deadline_s=plan.deadline_s,
        image=image,
    )
    reporter.line(f"  {describe(bundle, render_script(bundle, order.as_json(), client.limits().source_bytes))}")
    known = run.state.journal.versions(row.run_id, row.address)
    if found := unknown_session(row, newest, reached=generation - 1, known=known, at=run.now()):
        with run.state.together():
            run.state.add_session(found)
            run.note("adopted", found.generation, version=found.version)
        reporter.warn(f"{found.version} is session {found.generation} of this run: adopted")
        return
    if newest is None and lead is None and not first_push.may_be_tried(run):
        return
    if parent is not None and not is_mountable(run, parent, generation):
        return
    if lead is None and not room.is_there(run, is_first=newest is None):
        return
    baseline = lead.baseline_version if lead else newest[0].id if newest else ""
    session = _row_of(run, order, bundle, parent, lead, baseline=baseline, vouched_by=who)
    with run.state.together():
        run.state.refresh()
        if run.row.stop_asked:  # while the tree was sent
            return
        if not run.own_quota_allows(plan.timeout_s, lead):  # another run has begun a session meanwhile
            return
        was_uncertain = first_push.is_uncertain(run)
        first_push.intend(run, session)
        if accepted:
            run.note("changes_accepted", generation, step=session.min_step, what=accepted)
    if run.was_unanswered(generation):  # Kaggle may show a push late, and elsewhere
        _check_not_elsewhere(run, session)
    _start(Ask(run, session, bundle, order, inputs, plan.timeout_s), shared, was_uncertain=was_uncertain)


def _settled_inputs(run: RunContext, parent: Checkpoint | None, accepted: str) -> tuple[Sequence[SettledInput], str]:
    """What the session gets as input data, and what is accepted of changes, newer versions of that data among it."""
    config = run.config
    trained_on = (parent.manifest.identity.get("inputs") or {}) if parent else {}
    asked = config.section.inputs_of(config.scenario_name)
    inputs = settle_inputs(run.connection.client, asked, trained_on, run.reporter.warn, run.accepted_inputs)
    if parent is None:
        return inputs, ""
    newer = {each.input.name: (trained_on.get(each.input.name), each.input.version) for each in inputs}
    others = [f"input {name}" for name, (then, now) in newer.items() if None not in (then, now) and then != now]
    if run.connection.platform == "local":
        _check_files_here(run, parent, [each.input for each in inputs])
    return inputs, ", ".join(dict.fromkeys(filter(None, [*accepted.split(", "), *others])))


def _row_of(
    run: RunContext,
    order: LaunchOrder,
    bundle: Bundle,
    parent: Checkpoint | None,
    lead: SessionRow | None,
    *,
    baseline: str,
    vouched_by: str,
) -> SessionRow:
    """The session as it is intended. `lead` is that of the run which a shared one was begun for."""
    plan = run.plan
    return SessionRow(
        run_id=run.row.run_id,
        generation=order.generation,
        stage=Stage.INTENDED,
        parent_sha256=parent.manifest.sha256 if parent else None,
        min_step=parent.step if parent else 0,
        bundle_sha256=bundle.sha256,
        baseline_version=baseline,
        started_at=run.now(),
        facts={
            "address": lead.address if lead else run.row.address,
            "pool": run.pool,
            **({"lane": order.lane} if order.lane else {}),
            **({"led_by": f"{lead.run_id}/{lead.generation}"} if lead else {}),
            "vouched_by": vouched_by,
            "target": order.target,
            "image_asked": order.image,
            "planned": {"timeout_s": plan.timeout_s, "deadline_s": plan.deadline_s, "steps": plan.steps},
        },
    )


def _start(ask: Ask, shared: SharedSession | None, *, was_uncertain: bool) -> None:
    """Push, and write down what became of it. Raises as `push_generation`."""
    run, session = ask.run, ask.session
    generation = session.generation
    try:
        pushed = shared.start(ask) if shared else start_session([ask])
    except Interrupted:  # while another run of this session was at work: it may have been started
        raise
    except CapacityReached as error:
        with run.state.together():
            first_push.take_back(run, session, was_uncertain=was_uncertain)
            if session.led_by is None:  # the others go with it
                room.stand_in_line(run)
            first_push.wait_after_refusal(run, session, room.NO_ROOM, error.message)
    except QuotaError as error:
        with run.state.together():
            first_push.take_back(run, session, was_uncertain=was_uncertain)
            if session.baseline_version or session.led_by:
                run.wait_until("quota", error.message, run.replan_at(run.week.refresh_at if run.week else None))
            else:
                first_push.wait_for_quota(run, error.message)
    except NotebookNotFound as error:
        with run.state.together():
            first_push.take_back(run, session, was_uncertain=was_uncertain)
            run.note("push_refused", generation, message=error.message)
            may_pass = session.led_by is not None or not session.baseline_version
            if may_pass:  # the next look tells whether Kaggle has kept an empty kernel
                first_push.wait_after_refusal(run, session, first_push.NOT_FOUND, error.message)
        if not may_pass:
            raise
    except AmbiguousPush as error:
        run.note("push_without_answer", generation, message=error.message)
        run.reporter.warn(f"the push was not answered ({error.message}); looking before anything is repeated")
    except PushMismatch as error:
        _changed(run, session, error)
    except KaggleManagerError as error:
        with run.state.together():
            first_push.take_back(run, session, was_uncertain=was_uncertain)
            run.note("push_refused", generation, message=error.message)
        raise
    else:
        if isinstance(pushed, Refusal):
            with run.state.together():
                first_push.take_back(run, session, was_uncertain=was_uncertain)
                run.note("push_refused", generation, message=pushed.message)
                run.postpone(IN_DOUBT, pushed.message, DOUBT_WAIT_S, DOUBT_LONGEST_S)
            return
        _accepted(run, session, pushed.version, pushed.url)


def _to_share(run: RunContext, shared: SharedSession | None, bundle: Bundle, image: str) -> SharedSession | None:
    """The session that this run can share; None for one of its own."""
    if shared is None or not shared.takes(bundle, image):
        return None
    fits = lanes_that_fit(run.config, run.connection.client.limits())
    if shared.size < fits:
        return shared
    run.reporter.warn(f"a session has memory for {fits} of these trainings: this one gets a session of its own")
    return None


def _check_files_here(run: RunContext, parent: Checkpoint, inputs: Sequence[Input]) -> None:
    """On this machine data of others lies in a folder: its session would refuse what can be seen here."""
    others = [each for each in inputs if each.kind != "dataset" or each.parts[0] != run.row.owner]
    accepted = run.accepted_files if run.changes_are_accepted else None
    root = run.config.state / LOCAL_FOLDER
    try:
        check_inputs_here(parent, others, root, safe="nothing was pushed", accepted_files=accepted)
    except CheckpointIncompatible as error:
        run.state.change_settings(told_files=error.input_files)
        raise


def reconcile(run: RunContext, sleep: Callable[[float], None]) -> None:
    """Look for a push whose answer never came; the journal then says what became of it.

    Raises:
        PushMismatch: it was filed under another address; its generation is closed.
        ConfigError: something else pushes to this kernel.
    """
    session = run.newest_session()
    try:
        version = _look_for_push(run, session, sleep)
    except NoVersionShown as error:
        if not session.baseline_version and session.led_by is None:
            _check_not_elsewhere(run, session)
            with suppress(first_push.NoNameFree):
                first_push.leave_empty(run, error, session)
            return
        raise
    if version is None:
        _check_not_elsewhere(run, session)
        why = "a push was neither answered nor accepted; no session was started"
        with run.state.together():
            run.state.drop_intent(session)
            run.note("push_not_accepted", session.generation)
            run.postpone("no answer", why, UNANSWERED_WAIT_S, UNANSWERED_LONGEST_S)
        return
    run.reporter.line(f"  the push of session {session.generation} had been accepted")
    _accepted(run, session, version)


def _look_for_push(run: RunContext, session: SessionRow, sleep: Callable[[float], None]) -> SessionRef | None:
    """As `look_for_push`; of a shared session, what the run that led it knows by now counts."""
    if session.led_by is not None:
        lead = run.state.journal.session(*session.led_by)
        if lead is None or not lead.lane or lead.started_at > session.started_at:  # taken back, or another since
            return None
        if lead.version is not None:
            return launch.version_of(run.row, replace(session, version=lead.version))
    return look_for_push(run.connection.client, run.row, session, sleep=sleep)


def _check_not_elsewhere(run: RunContext, session: SessionRow) -> None:
    try:
        check_not_elsewhere(run.connection.client, run.row, session)
    except PushMismatch as error:
        _changed(run, session, error)


def _accepted(run: RunContext, session: SessionRow, version: SessionRef, where: str = "") -> None:
    with run.state.together():
        run.state.update_session(session, stage=Stage.PUSHED, version=version.id)
        own = {} if session.led_by else {**first_push.NOTHING_KNOWN, "quota_refused": None, "first_refused": None}
        run.state.change_settings(**own, in_line=None)  # nothing but that there is a version
        run.note("pushed", session.generation, version=version.id)
    run.reporter.line(f"  accepted as {version.ref}" + (f": {where}" if where else ""))
    if session.led_by is None and (between := run.connection.client.others_between(session.baseline_version, version)):
        run.reporter.warn(f"something else started {between}; what it leaves is not used")


def _changed(run: RunContext, session: SessionRow, error: PushMismatch) -> None:
    """A session exists, but not as asked: never pushed again under this generation."""
    run.note("push_changed", session.generation, message=error.message, started=error.started)
    started = SessionRef.parse(error.started)
    if started.address == session.address:
        # An input was dropped: the kernel's own look at its mounts ends it within seconds, and says so.
        run.reporter.warn(error.message)
        _accepted(run, session, started)
        return
    with run.state.together():
        run.state.update_session(
            session,
            stage=Stage.CLOSED,
            outcome="misfiled",
            why=error.message,
            fingerprint="misfiled",
            kind=FailureKind.MISFILED,
            ended_at=run.now(),
        )
        run.note("closed", session.generation, outcome="misfiled", why=error.message)
    next_step = (
        f"delete {started.address} on {run.row.platform}, which ends that session, and run the same command again"
    )
    with error_context(next_step=next_step):
        raise error
