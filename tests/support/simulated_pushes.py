"""What becomes of a push on the simulated Kaggle, and what must never be pushed.

It is refused, changed, left without an answer, or a session. A part of `SimulatedKaggle`, whose fields it uses.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from simulated_record import Session
from simulated_session import Fate

from kaggle_manager.errors import (
    AmbiguousPush,
    CapacityReached,
    ConfigError,
    KaggleManagerError,
    NotebookNotFound,
    PushMismatch,
    QuotaError,
)
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, SessionState, StartedSession
from kaggle_manager.sessions.bundle import order_of

MINUTE = 60.0
SLOTS = 2
OWNER = "alice"


def image_number(number: int) -> str:
    return f"gcr.io/kaggle-images/python@sha256:{sha256_of(b'image %d' % number)}"


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class BrokenPromise(AssertionError):
    """The manager did what it must never do."""


class SimulatedPushes:
    """Where `SimulatedKaggle` is asked for a session."""

    sessions: list[Session]
    empty: set[str]
    faults: Counter[str]
    odds: Any
    rng: Any
    slots: int

    def start(self, push: SessionRequest) -> StartedSession:
        self._call("push")
        order = order_of(push.source)
        assert order is not None
        self._asked = [asked for asked in self._asked if asked[0] > self._clock() - MINUTE]
        self._asked.append((self._clock(), order["scenario"]))
        if sum(scenario == order["scenario"] for _, scenario in self._asked) > 10:
            raise BrokenPromise("it pushes again and again, without a pause")
        self._check_push(push, order)
        unanswered = self._strikes(self.odds.push_unanswered)
        self._refuse(push, unanswered=unanswered)
        image = self._image_of(push)
        if unanswered and self.rng.random() < 0.4:
            self._meet("push without answer, not done")
            raise AmbiguousPush("The answer never came.")
        slug, mounts = push.slug, bool(push.inputs)
        changed = self.rng.choice(["misfiled", "dropped"]) if self._strikes(self.odds.push_changed) else ""
        if changed == "misfiled":
            slug += "-other"
        late_s = self.rng.choice([0.0, 5.0, 18.0, 45.0]) if unanswered else 0.0
        is_hidden = unanswered and self._strikes(self.odds.unshown)  # but that there is a kernel
        hidden_s = self.rng.choice([10, 25, 50]) * MINUTE if is_hidden else 0.0
        version = 1 + sum(s.slug == slug for s in self.sessions)
        now = self._clock()
        session = Session(
            slug=slug,
            version=version,
            order=order,
            source=push.source,
            pushed_at=now,
            starts_at=now + late_s + self.rng.expovariate(1 / self.odds.queue_s),
            limit_s=float(push.session_timeout_s or 12 * 3600.0),
            mounts=mounts and changed != "dropped",
            fate=self._fate(),
            visible_at=now + max(late_s, hidden_s),
            hidden_until=now + hidden_s,
            end_lag_s=self.rng.expovariate(1 / self.odds.end_lag_s),
            image=image,
            moves_asked=self.moves_asked,
        )
        self.sessions.append(session)
        for source in push.inputs:
            for known in self.datasets.get(source.rpartition("/")[2], []):
                known.is_taken = True
        self.mortality.deed()  # between what was done and its being known
        if changed:
            self._meet(f"push {changed}")
            raise PushMismatch("Kaggle changed the push.", started=f"{OWNER}/{slug}/{version}", next_step="look at it")
        if unanswered:
            self._meet("push without answer, done")
            raise AmbiguousPush("The answer never came.")
        return StartedSession(SessionRef(OWNER, slug, str(version)), "")

    def _image_of(self, push: SessionRequest) -> str:
        """The image a push runs in: the one it pins, else the newest; what is gone is refused."""
        if self._strikes(self.odds.image_moves):
            self._meet("the newest image moves on")
            self._images.append(image_number(self.faults["the newest image moves on"]))
        if self._strikes(self.odds.image_gone):
            del self._images[:-1]
        order = order_of(push.source)
        assert order is not None
        mine = self.of_scenario(order)
        told = [session.image for session in mine if session.image_told and not session.is_misfiled]
        stays = told and told[-1] in self._images and self.moves_asked == self._moves_made
        if stays and not push.image:
            raise BrokenPromise(f"a session moves out of {told[-1][-8:]}, and nobody asked for it")
        if push.image and push.image not in self._images:
            self._meet("image gone")
            self.moves_asked += 1
            raise ConfigError(f"Kaggle refused to start it: the image {push.image} is unknown.", next_step="do so")
        return push.image or self._images[-1]

    def _refuse(self, push: SessionRequest, *, unanswered: bool) -> None:
        """Refuse a push for want of room or quota, or for its kernel is empty; a refused first push makes it so."""
        refusal: KaggleManagerError | None = None
        if push.slug in self.empty:
            self._meet("push to an empty kernel")
            refusal = NotebookNotFound("Notebook not found", next_step="delete it")
        elif self.rng.random() < self.odds.busy or len(self.alive()) >= self.slots:
            self._meet("no capacity")
            refusal = CapacityReached(f"Maximum batch GPU session count of {self.slots} reached.")
        elif (push.session_timeout_s or 12 * 3600.0) > self.left_s():
            self._meet("no quota")
            refusal = QuotaError("Projected to exceed the weekly quota.", next_step="wait")
        if refusal is None:
            return
        gone = [session for session in self.sessions if session.fate.kind == "deleted" and not self._is_live(session)]
        if push.slug not in self.empty | {s.slug for s in self.sessions if s not in gone}:
            self._meet("refused first push")
            self.empty.add(push.slug)
        self.mortality.deed()  # between what was done and its being known
        if unanswered:
            self._meet("refused push without answer")
            raise AmbiguousPush("The answer never came.")
        raise refusal

    def _fate(self) -> Fate:
        kind = self.rng.choice(self.odds.fates) if self._strikes(self.odds.death) else "well"
        self._meet(f"session: {kind}")
        return Fate(kind, self.rng.random())

    def _check_push(self, push: SessionRequest, order: dict[str, Any]) -> None:
        """What must never be pushed."""
        if not self.may_push:
            raise BrokenPromise("a session is pushed although a stop had said that none follows")
        run_id, generation = order["run_id"], order["generation"]
        if self.known_pushes()[run_id, generation]:
            raise BrokenPromise(f"generation {generation} is pushed a second time")
        mine = self.of_scenario(order)
        if live := [session for session in mine if self._is_live(session)]:
            raise BrokenPromise(f"generation {generation} is pushed while {live[-1].generation} lives")
        newest = mine[-1].ending if mine else None
        if newest is not None and not newest.has_last_word and mine[-1].told is SessionState.UNKNOWN:
            raise BrokenPromise(f"generation {generation} is pushed while the state of the one before is UNKNOWN")
        if self._told_left is not None and (push.session_timeout_s or 0) > self._told_left:
            raise BrokenPromise(f"{push.session_timeout_s} s were asked for, and {self._told_left:.0f} s were left")
        if (order["deadline_s"] or 0) > (push.session_timeout_s or 0):
            raise BrokenPromise("the deadline is later than the end")
        self._check_start(mine, order)
        for session in mine:
            is_known = (
                not session.is_misfiled
                and session.fate.kind != "deleted"
                and session.ending is not None
                and session.ending.has_last_word
            )
            if is_known and session.ending is not None and session.ending.diverged:
                raise BrokenPromise(f"generation {generation} resumes a training that diverged")

    def of_scenario(self, order: Mapping[str, Any]) -> list[Session]:
        """The sessions of the scenario that is ordered, which has one training tree."""
        return [session for session in self.sessions if session.order["scenario"] == order["scenario"]]

    def known_pushes(self) -> Counter[tuple[str, int]]:
        """How often each run's generation was pushed; of what was deleted nobody can know that it was there."""
        there = [s for s in self.sessions if s.fate.kind != "deleted" or self._is_live(s)]
        return Counter((session.order["run_id"], session.generation) for session in there)

    def _check_start(self, mine: Sequence[Session], order: dict[str, Any]) -> None:
        start = order["parent"]["min_step"] if order["parent"] else 0
        for session in mine:
            if session.ending is None:  # a misfiled one that the user deleted before it began
                assert session.is_misfiled
                continue
            is_mine = session.ending.kept and not session.is_misfiled
            if is_mine and start < session.ending.saved:
                saved, began = session.ending.saved, session.generation
                raise BrokenPromise(f"step {saved} of generation {began} could be had; the next starts at {start}")
