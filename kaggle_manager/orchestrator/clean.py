"""What runs that are over have left on the platform: found, and deleted where the user says so.

Every deletion is decided anew right before it, under the lock of its run, and stands alone: killed anywhere, the same
command continues. Never deletes what a run that is not over may need, nor the only copy of what a run has trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import AuthError, Busy, KaggleManagerError, NotFound, NoVersionShown, RemoteError
from kaggle_manager.orchestrator.first_push import EMPTY_AFTER_S, EMPTY_LOOKS, after
from kaggle_manager.platforms.platform import Belonging
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.leftovers import (
    KnownRun,
    Verdict,
    following_tree,
    is_ours,
    is_wheels,
    kernel_of,
    verdict_on_run,
    verdict_on_wheels,
)
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sections.project import gone_section
from kaggle_manager.sessions.bundle import order_of
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.gone import cleaned_note
from kaggle_manager.sessions.launch import kernel_names, tree_dataset, version_of
from kaggle_manager.system.formatting import iso
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trees.backups import is_kept_here

Action = Literal["delete", "empty", "keep", "deleted", "emptied", "gone", "refused"]


@dataclass(frozen=True)
class Leftover:
    """One kernel or dataset, what happens or happened to it, and why."""

    thing: Belonging
    platform: str
    owner: str
    action: Action
    why: str
    run_id: str = ""

    @property
    def name(self) -> str:
        return f"{self.owner}/{self.thing.slug}"


class Cleaner:
    """The leftovers of the runs of a journal on one platform.

    Args:
        now: seconds since the epoch.
    """

    def __init__(self, connection: Connection, journal: Journal, now: float) -> None:
        self._connection, self._journal, self._now = connection, journal, now
        # Whatever is not answered keeps its thing, and the next `clean` asks again: no reason to be patient. Kaggle
        # answers 500 about each kernel without a version, every time.
        self._asked = connection.client.asked_once()

    def find(self, told: Callable[[str], None] = lambda text: None) -> list[Leftover]:
        """What is there, with what would happen to it; things that no run of this journal has left are not named.

        Args:
            told: what is asked about now.

        Raises:
            AuthError, RemoteError: the platform does not say what is there.
        """
        there = self._connection.client.belongings(self._connection.owner)
        known = self._runs_of(there, told)
        unused = self._verdicts_on_wheels(there, there, known)
        left = {slug: row for row in self._rows() for slug in self._left_empty(row)}
        found = []
        for slug, row in left.items():
            told(slug)
            found.append(self._leftover(Belonging("session", slug), self._on_empty(row, slug)))
        for thing in there:
            if thing.kind == "session" and thing.slug in left:
                continue
            verdict = unused[thing.slug] if _has_wheels(thing) else verdict_on_run(thing.slug, known)
            found.append(self._leftover(thing, verdict))
        return [leftover for leftover in found if leftover is not None]

    def _runs_of(self, there: Sequence[Belonging], told: Callable[[str], None]) -> dict[str, KnownRun]:
        """The runs that have left something of what is there, by the slug of their kernel."""
        rows = {slug: row for row in self._rows() for slug in kernel_names(row.scenario, row.run_id)}
        rows |= {row.slug: row for row in self._rows()}
        known, asked = {}, dict[str, KnownRun]()
        for slug in sorted({kernel_of(thing.slug) for thing in there} & rows.keys()):
            row = rows[slug]
            if row.run_id not in asked:
                told(slug)
                asked[row.run_id] = self._known(row)
            known[slug] = asked[row.run_id]
        return known

    def _verdicts_on_wheels(
        self, things: Sequence[Belonging], there: Sequence[Belonging], known: Mapping[str, KnownRun]
    ) -> dict[str, Verdict | None]:
        """About those of `things` that are datasets of wheels, by their slug."""
        wheels = list(filter(_has_wheels, things))
        over = {slug for slug, run in known.items() if run.verdict.delete}
        kernels = [thing.slug for thing in there if thing.kind == "session" and thing.slug not in over]
        installed = self._installed_from([thing.slug for thing in wheels], kernels)
        return {
            thing.slug: verdict_on_wheels(thing.slug, installed, thing.changed_at, thing.size, self._now)
            for thing in wheels
        }

    def _leftover(self, thing: Belonging, verdict: Verdict | None) -> Leftover | None:
        if verdict is None:
            return None
        action: Action = "keep" if not verdict.delete else "delete" if verdict.run_id else "empty"
        platform, owner = self._connection.platform, self._connection.owner
        return Leftover(thing, platform, owner, action, verdict.why, verdict.run_id)

    def delete(self, leftovers: Sequence[Leftover]) -> Iterator[Leftover]:
        """Delete what `find` has found to be over; each as it is done.

        Raises:
            AuthError: the platform refuses the credentials; what was yielded before is done.
        """
        for row in self._rows():
            sessions = self._journal.sessions(row.run_id, 1)
            if not self._has_no_section(row) or (sessions and sessions[-1].stage is not Stage.CLOSED):
                continue
            tree = Path(row.tree)
            with suppress(Busy), hold_tree(tree) if tree.is_dir() else nullcontext():
                self._journal.finish_run(row.run_id, "given up, for its section is gone", iso(self._now))
        for leftover in leftovers:
            yield leftover if leftover.action == "keep" else self._deleted(leftover)

    def _deleted(self, leftover: Leftover) -> Leftover:
        client, thing = self._connection.client, leftover.thing
        delete = client.delete if thing.kind == "session" else client.delete_inputs
        if not leftover.run_id:
            delete = self._empty
        try:
            with self._held(leftover.run_id, thing):
                if leftover.run_id:
                    row = self._journal.run(leftover.run_id)
                    is_empty = thing.kind == "session" and thing.slug in self._left_empty(row)
                    verdict = self._on_empty(row, thing.slug) if is_empty else self._known(row).verdict
                    if verdict is None:
                        return replace(leftover, action="gone")
                    if not verdict.delete:
                        return replace(leftover, action="keep", why=verdict.why)
                    self._never_again(row, thing)
                else:  # a run may have begun to install from them since
                    there = self._connection.client.belongings(self._connection.owner)
                    found = [each for each in there if (each.kind, each.slug) == (thing.kind, thing.slug)]
                    known = self._runs_of(there, lambda slug: None)
                    verdict = self._verdicts_on_wheels(found, there, known).get(thing.slug)
                    if verdict is None:
                        return replace(leftover, action="gone")
                    if not verdict.delete:
                        return replace(leftover, action="keep", why=verdict.why)
                delete(leftover.owner, thing.slug)
                if leftover.run_id:
                    what = cleaned_note(thing.kind, leftover.name)
                    self._journal.note(leftover.run_id, None, "cleaned", iso(self._now), what=what)
        except NotFound:
            return replace(leftover, action="gone")
        except Busy:
            return replace(leftover, action="keep", why="another command is at work on its run")
        except AuthError:
            raise
        except KaggleManagerError as error:
            return replace(leftover, action="refused", why=error.message)
        return replace(leftover, action="deleted" if leftover.run_id else "emptied")

    def _never_again(self, row: RunRow, thing: Belonging) -> None:
        """Should the run be trained further, its tree gets another name than the dataset that is deleted now."""
        if thing.kind == "input" and thing.slug == tree_dataset(row):
            with self._journal.together():
                self._journal.change_settings(row.run_id, tree_dataset=following_tree(thing.slug))
                self._journal.change_run(row.run_id, published=None)

    def _empty(self, owner: str, slug: str) -> None:
        """Take the wheels out of their dataset, which stays.

        Their name is that of their content, so the next run that needs them uses it again; and of a dataset that was
        deleted and made again users report that no kernel can be pushed with it any more.
        """
        with scratch_folder("km_clean_") as folder:
            (note := folder / "emptied.txt").write_text("Sent again by the next run that installs from it.")
            self._connection.client.publish_inputs(
                owner=owner, slug=slug, files=[note], notes="emptied by `clean`", replaces=True
            )

    @contextmanager
    def _held(self, run_id: str, thing: Belonging) -> Iterator[None]:
        """Nobody lets the run go on meanwhile; one whose tree another run has by now cannot go on."""
        row = self._journal.run(run_id) if run_id else None
        is_idle = row is None or thing.slug in row.left_names
        if row is not None and row.finished_at is not None:
            is_idle = is_idle or not Path(row.tree).is_dir() or self._is_superseded(row)
        with nullcontext() if row is None or is_idle else hold_tree(Path(row.tree)):
            yield

    # --- what is known ------------------------------------------------------------------------------------------------

    def _rows(self) -> list[RunRow]:
        here = (self._connection.platform, self._connection.owner.lower())
        return [row for row in self._journal.runs() if (row.platform, row.owner.lower()) == here]

    def _known(self, row: RunRow) -> KnownRun:
        if row.finished_at is None:
            is_gone = self._has_no_section(row)
            why = f"its section {row.section} is gone" if is_gone else f"{row.scenario} to {row.target:,} {row.unit}"
            return KnownRun(row.run_id, is_gone, why, self._needed(row) if is_gone else "")
        return KnownRun(row.run_id, True, f"{row.outcome} on {row.finished_at[:10]}", self._needed(row))

    def _has_no_section(self, row: RunRow) -> bool:
        """Whether no command can go on with it: its section was deleted."""
        return row.finished_at is None and gone_section(self._journal.path.parent, row.section) is not None

    def _needed(self, row: RunRow) -> str:
        """Why what a run that is over has left must stay."""
        sessions = self._journal.sessions(row.run_id)
        if sessions and sessions[-1].stage is not Stage.CLOSED:
            return f"session {sessions[-1].generation} of run {row.run_id} was never brought home"
        if row.outcome != "finished" and sessions and sessions[-1].was_given_up:
            return f"what session {sessions[-1].generation} of run {row.run_id} saved was never brought home"
        # Another machine may have had to take any of its names: what is refused there nobody here knows.
        for slug in dict.fromkeys((row.slug, *kernel_names(row.scenario, row.run_id))):
            if why := self._at_work(row, sessions, slug):
                return why
        if row.quick:
            return ""
        if row.outcome != "finished" or self._is_superseded(row):
            return self._only_copy(row)
        final = CheckpointStore(TrainingTree(Path(row.tree), row.scenario)).final()
        done = RunState(self._journal, row).finished_at_step
        if final is None or final.manifest.lineage.run_id != row.run_id or final.step < done:
            return f"the final model of run {row.run_id} is not in {row.tree}: this may be the only copy"
        return ""

    def _only_copy(self, row: RunRow) -> str:
        """Of a run whose tree nobody continues: why what it has left may be all that is left of its training."""
        totals, published = self._journal.totals(row.run_id), row.published
        step = max(totals.step, totals.min_step)
        sha256 = published.manifest_sha256 if published else ""
        if not (step or published) or is_kept_here(row, self._journal.path.parent, step=step, manifest_sha256=sha256):
            return ""
        return f"no copy of step {step:,} of run {row.run_id} verifies here: this may be the only one"

    def _at_work(self, row: RunRow, sessions: Sequence[SessionRow], slug: str) -> str:
        """Why a session of this kernel may be needed: it may be at work, or of another machine that continues it."""
        for session in self._journal.open_at(f"{row.owner}/{slug}"):  # of another run, which shares it
            return f"session {session.generation} of run {session.run_id} was never brought home"
        client = self._asked
        known = {(version_of(row, each).slug, each.version, each.generation) for each in sessions if each.version}
        try:
            newest = client.newest(row.owner, slug)
        except RemoteError as error:
            if not any(each[0] == slug for each in known):
                verdict = self._on_empty(row, slug)
                return "" if verdict is None or verdict.delete else verdict.why
            return f"a session of run {row.run_id} may be at work: {error.message}"
        if newest is None:
            return ""
        order = order_of(newest[1]) or {}
        if order.get("run_id") != row.run_id or (slug, newest[0].id, order.get("generation")) not in known:
            return f"{newest[0].ref} is not known to this journal: another machine may continue with run {row.run_id}"
        try:
            is_live = not client.status(newest[0]).state.is_terminal
        except NotFound:
            is_live = False
        except RemoteError:
            is_live = True
        return f"a session of run {row.run_id} may be at work" if is_live else ""

    def _left_empty(self, row: RunRow) -> tuple[str, ...]:
        """Names that a run has left to kernels without a version; no list of the platform names those."""
        has_ended = row.finished_at is not None and not self._journal.sessions(row.run_id, 1)
        return (*row.left_names, row.slug) if has_ended or _has_no_next_name(row) else row.left_names

    def _on_empty(self, row: RunRow, slug: str) -> Verdict | None:
        """About such a kernel; None when it is not there any more."""
        client, owner = self._asked, self._connection.owner
        try:
            newest = client.newest(owner, slug)
        except NoVersionShown as error:
            try:
                is_empty = client.shows_nothing_of(owner, slug)
            except RemoteError:
                is_empty = False
            left = f"a refused first push of run {row.run_id} left it without a version"
            return Verdict(is_empty, left if is_empty else error.message, row.run_id)
        except RemoteError as error:
            return Verdict(False, f"whether it has a version is not known: {error.message}", row.run_id)
        if newest is None:
            return None
        return Verdict(False, f"it has version {newest[0].id}, which its run does not know", row.run_id)

    def _is_superseded(self, row: RunRow) -> bool:
        """Whether the user has begun another run in the place of its tree, which was archived then."""
        return self._journal.runs_of(Path(row.tree))[0].run_id != row.run_id

    def _installed_from(self, wheels: Sequence[str], kernels: Sequence[str]) -> set[str]:
        """Those of `wheels` that a session of these kernels installs from; all where the platform does not say."""
        found = set()
        for slug in filter(is_ours, kernels if wheels else ()):
            try:
                newest = self._asked.newest(self._connection.owner, slug)
            except RemoteError:
                return set(wheels)
            asked = ((order_of(newest[1]) if newest else None) or {}).get("wheels") or {}
            found.add(str(asked.get("dataset", "")).rpartition("/")[2])
        return found & set(wheels)


def _has_wheels(thing: Belonging) -> bool:
    return thing.kind == "input" and is_wheels(thing.slug)


def _has_no_next_name(row: RunRow) -> bool:
    """Whether a run that continues needs the kernel of its own name deleted: it has no version, and no name follows."""
    looks = row.settings.get("shown_empty") or {"lasted_s": 0.0, "looks": 0}
    looked_for_long = looks["lasted_s"] >= EMPTY_AFTER_S and looks["looks"] >= EMPTY_LOOKS
    is_empty = row.settings.get("refused") == row.slug or looked_for_long
    return is_empty and after(row.slug, kernel_names(row.scenario, row.run_id)) is None


def clean(
    connection: Connection, journal: Journal, now: float, *, delete: bool, reporter: Reporter | None = None
) -> Iterator[Leftover]:
    """What runs that are over have left on a platform; with `delete`, after it was deleted.

    Args:
        reporter: where it is shown what is asked about.
    """
    cleaner = Cleaner(connection, journal, now)
    if reporter is None:
        found = cleaner.find()
    else:
        with reporter:
            reporter.phase(f"asking {connection.platform} what is there")
            found = cleaner.find(lambda slug: reporter.status(f"asking about {slug}"))
    yield from cleaner.delete(found) if delete else found
