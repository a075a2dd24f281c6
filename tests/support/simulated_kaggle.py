"""A Kaggle in this process, on a clock of its own: what the manager asks of a client, and much that can go wrong.

It keeps a record of what really happened - sessions, what they trained, what was asked - and breaks a `Promise` the
moment the manager does something it must never do. Every draw comes from one generator, so a seed is a history.

Lies it tells, each call for itself: errors of every kind the adapter raises, UNKNOWN for a state, the end of an earlier
session for that of the one asked about, a session that is denied, listings with files missing, downloads that are
damaged. Damage and denial are of two sorts: passing, which strikes a session once, and lasting, a fate of the session.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reader_now import Quiet
from simulated_dataset import LOST, Pace, Version
from simulated_pushes import OWNER, SLOTS, BrokenPromise, SimulatedPushes, image_number, sha256_of
from simulated_record import Odds, Session
from simulated_session import Ending, Trainer, run_session
from virtual_process import Clock, Mortality

from kaggle_manager.errors import (
    AuthError,
    ConfigError,
    NotFound,
    NoVersionShown,
    OutputDamaged,
    ProtocolError,
    RateLimited,
    RemoteError,
    Unavailable,
)
from kaggle_manager.platforms.kaggle import datasets
from kaggle_manager.platforms.kaggle.models import LONGEST_SESSION_S, ROOM
from kaggle_manager.platforms.platform import (
    SOURCE_LIMIT_BYTES,
    ExpectedFile,
    Limits,
    LogLine,
    NotReady,
    OutputFile,
    OutputListing,
    Platform,
    PublishedInputs,
    Quota,
    SessionRef,
    SessionState,
    SessionStatus,
)
from kaggle_manager.system.formatting import iso
from kaggle_manager.trainer.runtime.input_mount import MOUNT_WAIT_S

MINUTE = 60.0
WEEK_S = 7 * 24 * 3600.0
# What makes the manager refuse a session's outputs; refused again and again, they are given up.
REFUSED_OUTPUTS = ("damaged download", "outputs denied for a moment")


class SimulatedKaggle(SimulatedPushes, Platform):
    """A platform like any other, as far as the manager can tell.

    Args:
        folder: a private folder in memory.
        rng: where every draw comes from.
        week_s: GPU seconds a week; None for no limit worth a word.
        auth_until: when the token stops working, until a person `mend`s it.
        wrong_setting_from: when the network of this machine asks for another proxy, until a person corrects it.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        rng: random.Random,
        trainer: Trainer,
        odds: Odds,
        *,
        week_s: float = 30 * 3600.0,
        auth_until: float = float("inf"),
        wrong_setting_from: float = float("inf"),
        mortality: Mortality | None = None,
    ) -> None:
        self._folder, self._clock, self.rng, self.odds = folder, clock, rng, odds
        self.trainer = trainer
        self.mortality = mortality or Mortality()
        self.sessions: list[Session] = []
        self.faults: Counter[str] = Counter()
        self.tell: Callable[[str], None] = lambda text: None
        self.datasets: dict[str, list[Version]] = {}
        self.empty: set[str] = set()  # kernels without a version, of first pushes that were refused
        self._hidden_until = 0.0  # until then GetKernel fails for kernels that are there
        self.clock, self.sleep, self.retry, self.ask = clock, clock.sleep, Pace(), self._call
        self._sent: dict[str, bytes] = {}
        self.cancelled: list[int] = []
        self.slots = SLOTS
        self.before_call: Callable[[str], None] = lambda name: None
        self.may_push = True  # False: a stop was asked for when nothing was under way
        self._week_s = week_s
        self._used: Counter[int] = Counter()
        self._auth_until = auth_until
        self._wrong_setting_from = wrong_setting_from
        self._told_left: float | None = None
        self.elsewhere = (0.0, 0.0)  # seconds that other sessions of the account reserve, and until when
        self._epoch = clock()
        self._asked: list[tuple[float, str]] = []  # when pushes were asked for, of late, and of which scenario
        self._images = [image_number(0)]  # that can be had; the last one is the newest
        # How often the run was to leave its image (the user asked for it, or Kaggle has it no more), and of these how
        # often a session that the manager was told the image of came after: one it never heard of moves nothing.
        self.moves_asked = self._moves_made = 0

    # --- a person's hands ---------------------------------------------------------------------------------------------

    def expire_token(self) -> None:
        self._auth_until = self._clock()

    def mend_token(self) -> None:
        self._auth_until = float("inf")

    def mend_setting(self) -> None:
        self._wrong_setting_from = float("inf")

    def mend_code(self) -> None:
        self.trainer = replace(self.trainer, bug_at=None)

    def delete_empty(self) -> None:
        self.empty.clear()

    def delete_misfiled(self) -> None:
        for session in self.sessions:
            if session.is_misfiled and self._is_live(session):
                session.cut_at = self._clock()

    # --- truth --------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Let every session that has started by now happen."""
        for session in self.sessions:
            if session.ending is None and session.starts_at <= self._clock():
                session.ending = self._happen(session)
                self._used[self._week(session.starts_at)] += round(session.ending.lasts_s)
                self.tell(f"TRUTH {session}")

    def settle(self) -> None:
        """The end of the campaign: what was pushed has happened."""
        self._advance()

    def _happen(self, session: Session) -> Ending:
        place = self._folder / f"session_{session.slug}_{session.version}"
        inputs = place / "input"
        dataset = str((session.order["parent"] or {}).get("dataset", "")).rpartition("/")[2]
        known, trainer = self.datasets.get(dataset, []), self.trainer_of(session.order)
        late_s = self.rng.choice([30.0, 100.0, MOUNT_WAIT_S + 60.0]) if self._strikes(self.odds.late_mount) else 0.0
        if session.mounts and late_s:
            self._meet("late mount" if late_s <= MOUNT_WAIT_S else "mount after the session's patience")
            trainer = replace(trainer, setup_s=trainer.setup_s + min(late_s, MOUNT_WAIT_S))
        versions = [version.content for version in known if version.ready_at <= session.starts_at]
        if session.mounts and versions and late_s <= MOUNT_WAIT_S:
            stale = self.rng.random() < self.odds.stale_mount
            chosen = versions[-2 if len(versions) > 1 else -1] if stale else versions[-1]
            if stale:
                self._meet("stale or empty mount")
            if not (stale and len(versions) == 1):
                mount = inputs / dataset
                mount.mkdir(parents=True)
                for name, content in chosen.items():
                    (mount / name).write_bytes(content)
        self.mortality.resting = True
        try:
            return run_session(
                session.order,
                trainer,
                session.fate,
                folder=place,
                inputs=inputs,
                limit_s=session.limit_s,
                now=iso(session.starts_at),
            )
        finally:
            self.mortality.resting = False

    def trainer_of(self, order: Mapping[str, Any]) -> Trainer:
        """How what is ordered trains."""
        return self.trainer

    def _is_live(self, session: Session) -> bool:
        return self._clock() < session.ends_at

    def alive(self) -> list[Session]:
        self._advance()
        return [session for session in self.sessions if self._is_live(session)]

    def refresh_at(self) -> float:
        return self._epoch + (self._week(self._clock()) + 1) * WEEK_S

    def _week(self, moment: float) -> int:
        return int((moment - self._epoch) // WEEK_S)

    def left_s(self) -> float:
        """GPU seconds left this week: what was used, and what live sessions have reserved, is gone."""
        now = self._clock()
        reserved = sum(s.limit_s for s in self.sessions if self._is_live(s) and s.ending is None)
        reserved += self.elsewhere[0] * (now < self.elsewhere[1])
        return max(0.0, self._week_s - self._used[self._week(now)] - reserved)

    # --- trouble ------------------------------------------------------------------------------------------------------

    def _call(self, name: str) -> None:
        """Every question begins here: the manager may die at it, and Kaggle may fail to answer."""
        self.tell(f"ASKED {name}")
        self.before_call(name)
        self.mortality.deed()
        self._clock.sleep(0.5)
        self._advance()
        if self._clock() >= self._wrong_setting_from:
            self._meet("wrong network setting")
            raise ConfigError("The proxy from HTTPS_PROXY cannot be used.", next_step="correct HTTPS_PROXY")
        if self._clock() >= self._auth_until:
            self._meet("token expired")
            raise AuthError("Kaggle refused the access token.", next_step="create a new token")
        if self._strikes(self.odds.call_fails):
            kind = self.rng.choice(["unavailable", "rate limited", "protocol"])
            self._meet(kind)
            if kind == "rate limited":
                raise RateLimited("Kaggle asks to slow down.", retry_after_s=60.0)
            if kind == "unavailable":
                raise Unavailable(f"{name}: connection reset.")
            raise ProtocolError(f"{name}: a web page came back.")

    def _strikes(self, odds: float) -> bool:
        return odds > 0 and self.rng.random() < odds

    def _meet(self, what: str) -> None:
        self.faults[what] += 1
        self.tell(f"MEETS {what}")

    def _once(self, session: Session, kind: str, odds: float) -> bool:
        """Trouble that passes, and strikes a session once: what lasts is drawn as the fate of its session."""
        sort = "outputs" if kind in REFUSED_OUTPUTS else kind
        strikes = not session.struck[sort] and self._strikes(odds)
        session.struck[sort] += strikes
        if strikes:
            self._meet(kind)
        return strikes

    def _find(self, version: SessionRef) -> Session:
        for session in self.sessions:
            same = (session.slug, str(session.version)) == (version.slug, version.id)
            if same and self._is_there(session):
                return session
            if same:
                session.told = None  # it is gone, or not there yet
        raise NotFound(f"There is no kernel {version.ref}.", next_step="check its name")

    # --- what a client can be asked -----------------------------------------------------------------------------------

    def whoami(self) -> str:
        self._told_left = None  # a pass begins: what an earlier one was told counts no more
        self._call("whoami")
        return OWNER

    def quota(self, machine: str = "") -> Quota:
        self._told_left = None
        self._call("quota")
        left = self._told_left = self.left_s()
        if self._strikes(self.odds.erratic_quota):
            self._meet("a quota that is not so")
            left = self._told_left = self.rng.uniform(0.0, self._week_s)
        return Quota(self._week_s - left, 0.0, self._week_s, datetime.fromtimestamp(self.refresh_at(), UTC))

    def newest(self, owner: str, slug: str) -> tuple[SessionRef, str] | None:
        self._call("newest kernel")
        there = [s for s in self.sessions if s.slug == slug]
        if there and self._strikes(self.odds.unshown):
            self._hidden_until = self._clock() + self.rng.choice([0.0, 10 * MINUTE, 3 * 60 * MINUTE])
        is_hidden = any(s.hidden_until > self._clock() for s in there) or (there and self._clock() < self._hidden_until)
        if slug in self.empty or is_hidden:
            self._meet("a kernel without a version" if slug in self.empty else "a kernel whose versions are not shown")
            raise NoVersionShown(f"Kaggle cannot show {owner}/{slug}.")
        seen = [s for s in there if self._is_there(s)]
        if not seen:
            return None
        return SessionRef(owner, slug, str(seen[-1].version)), seen[-1].source

    def mine(self, owner: str) -> list[str]:
        self._call("own kernels")
        return list(dict.fromkeys(s.slug for s in reversed(self.sessions) if self._is_there(s)))

    def shows_nothing_of(self, owner: str, slug: str) -> bool:
        self._call("session status and list")
        return not any(s.slug == slug and self._is_there(s) for s in self.sessions)

    def live(self, owner: str) -> Counter[str]:
        self._call("live sessions")
        return Counter({"GPU": sum(self._is_there(session) for session in self.alive())})

    def _is_there(self, session: Session) -> bool:
        is_deleted = session.fate.kind == "deleted" and not self._is_live(session)
        return session.visible_at <= self._clock() and not is_deleted

    def status(self, version: SessionRef) -> SessionStatus:
        self._call("status")
        session = self._find(version)
        session.told = None
        if self._once(session, "denied for a moment", self.odds.denied):
            raise NotFound(f"There is no kernel {version.ref}.", next_step="check its name")
        if self._strikes(self.odds.unknown):
            self._meet("unknown state")
            session.told = SessionState.UNKNOWN
            return SessionStatus(SessionState.UNKNOWN, "", "SOMETHING_NEW")
        if self._once(session, "another session's state", self.odds.wrong_version) and session.version > 1:
            session.told = SessionState.COMPLETE
            return SessionStatus(SessionState.COMPLETE, "", "COMPLETE")
        state, message = self._state(session)
        session.told = state
        return SessionStatus(state, message, state.name)

    def _state(self, session: Session) -> tuple[SessionState, str]:
        now = self._clock()
        if now < session.starts_at:
            return SessionState.QUEUED, ""
        if session.fate.kind == "zombie" and session.cut_at is None:
            # Its trainer has left, and Kaggle has not noticed, for a day.
            if now < session.ends_at + 24 * 3600.0:
                return SessionState.RUNNING, ""
        elif now < session.ends_at + session.end_lag_s:
            cancelled = session.fate.kind == "cancelled" and now >= session.ends_at
            return SessionState.CANCEL_REQUESTED if cancelled else SessionState.RUNNING, ""
        assert session.ending is not None
        state = {"complete": SessionState.COMPLETE, "cancelled": SessionState.CANCELLED}.get(session.ending.state)
        return state or SessionState.ERROR, session.ending.message

    def outputs(self, version: SessionRef) -> OutputListing:
        self._call("list outputs")
        session = self._find(version)
        if self._once(session, "outputs denied for a moment", self.odds.denied):
            raise NotFound(f"There is no kernel {version.ref}.", next_step="check its name")
        now = self._clock()
        if self._is_live(session) or session.ending is None:
            return OutputListing((), ())
        names = list(session.ending.files) if now >= session.ends_at + self.odds.outputs_lag_s else []
        if self._strikes(self.odds.partial):
            self._meet("partial listing")
            names = [name for name in names if self.rng.random() < 0.7]
        log = tuple(LogLine(index, "stdout", at, text) for index, (at, text) in enumerate(session.ending.log))
        files = tuple(OutputFile(name, f"signed://{version.ref}/{name}") for name in names)
        return OutputListing(files, log)

    def output_named(self, version: SessionRef, name: str) -> OutputFile | None:
        self._call("output by name")
        session = self._find(version)
        if self._is_live(session) or session.ending is None or name not in session.ending.files:
            return None
        return OutputFile(name, f"signed://{version.ref}/{name}")

    def image_of(self, version: SessionRef) -> str:
        there = [s for s in self.sessions if (s.slug, str(s.version)) == (version.slug, version.id)]
        for session in there:
            session.image_told = False
        self._call("image")
        session = self._find(version)
        session.image_told = True
        self._moves_made = max(self._moves_made, session.moves_asked)
        return session.image

    def limits(self) -> Limits:
        room = {**ROOM, "GPU": self.slots}
        return Limits(LONGEST_SESSION_S, room, SOURCE_LIMIT_BYTES, session_installs=True)

    def is_later(self, of_platform: str, than: str) -> bool:
        return int(of_platform) > int(than)

    def cancel(self, version: SessionRef, told: str) -> bool:
        """Like Kaggle: by the number that a session tells."""
        if told:
            self._call("cancel")
            self.cancelled.append(int(told.rpartition("-")[2]))
        return bool(told)

    def download_inputs(self, owner: str, slug: str, names: Sequence[str], folder: Path) -> None:
        raise NotImplementedError("no campaign adopts a run")

    def delete(self, owner: str, slug: str) -> None:
        self._call("delete")

    def publish_inputs(self, *, files: Sequence[Path], **options: Any) -> PublishedInputs | NotReady:
        self._call("publish")
        self._sent = {path.name: path.read_bytes() for path in files}
        options.pop("uploads", None)  # whose promises tests of uploads keep
        return datasets.publish_dataset(self, files=files, **options)  # type: ignore[arg-type]

    def find_published(self, **options: Any) -> PublishedInputs | NotReady:
        return datasets.find_submitted(self, **options)  # type: ignore[arg-type]

    def input_versions(self, owner: str, slug: str) -> tuple[int, frozenset[int]]:
        self._call("dataset versions")
        known = self.datasets.get(slug)
        if not known:
            raise NotFound(f"There is no dataset {owner}/{slug}.", next_step="check its name")
        return sum(each.ready_at <= self._clock() for each in known), frozenset(range(1, len(known) + 1))

    def order_version(self, versions: list[Version]) -> RemoteError | None:
        """A new version of what was sent; the error when the answer is lost."""
        self._call("order a version")
        more_bytes = 512 * self._strikes(self.odds.other_sizes)
        self.faults["sizes that do not agree"] += bool(more_bytes)
        version = Version(self._sent, self._clock() + self.odds.ingestion_s, more_bytes=more_bytes)
        if any(known.head == version.head and not known.is_taken for known in versions):
            raise BrokenPromise("a tree is published a second time")
        is_lost = self._strikes(self.odds.publish_unanswered)
        if is_lost and self.rng.random() < 0.4:
            self._meet("publication without answer, not done")
            return LOST
        versions.append(version)
        if version.ready_at > self._clock() + 15 * MINUTE:
            self._meet("a tree that is processed for long")
        self.mortality.deed()  # between what was done and its being known
        if is_lost:
            self._meet("publication without answer, done")
            return LOST
        return None

    def download(
        self,
        version: SessionRef,
        names: Sequence[ExpectedFile],
        folder: Path,
        *,
        listing: OutputListing | None = None,
        on_progress: Callable[[str, int, int | None], None] | None = None,
    ) -> None:
        for expected in names:
            self._download(version, expected.name, folder / expected.name, expected.sha256)

    def download_file(
        self, file: OutputFile, destination: Path, *, size: int | None, sha256: str | None, **_: Any
    ) -> None:
        owner, slug, number, *_rest = file.url.removeprefix("signed://").split("/")
        self._download(SessionRef(owner, slug, number), file.name, destination, sha256)

    def _download(self, version: SessionRef, name: str, destination: Path, sha256: str | None) -> None:
        self._call("download")
        session = self._find(version)
        content = (session.ending.files if session.ending else {}).get(name)
        damaged = self._once(session, "damaged download", self.odds.damage)
        if content is None or damaged:
            raise OutputDamaged(f"{name} is damaged, also when downloaded again.", next_step="run it again")
        if sha256 is not None and sha256_of(content) != sha256:
            raise OutputDamaged(f"{name} is not what the session vouches for.", next_step="run it again")
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(content)

    def follow_log(self, version: SessionRef, *, stop: Callable[[], bool]) -> Iterator[LogLine]:
        self._call("log")
        session = self._find(version)
        self._advance()
        if session.ending is None:
            raise Quiet
        elapsed = self._clock() - session.starts_at
        for index, (at_s, text) in enumerate(session.ending.log):
            if at_s > elapsed:
                raise Quiet  # what follows is printed later
            yield LogLine(index, "stdout", at_s, text)
        if self._is_live(session):
            raise Quiet
