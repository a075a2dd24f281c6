"""One session of the simulated Kaggle: a trainer of a few bytes that keeps the real trainer's promises.

It obeys its launch order (deadline, steps, lineage), holds what is mounted against it with the kernel's own checks,
writes genuine checkpoints with the real store, and leaves the real last word - unless its fate is to die before it.
Only the saves that can be left in the end are carried out; the store would delete the others.
The content of a checkpoint is a function of its trial and step alone, so any tree can be held against an uninterrupted
training.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree, unpack_tree
from kaggle_manager.errors import Diverged, KaggleManagerError, WrongAccelerator
from kaggle_manager.local_kaggle.runner import TIMED_OUT
from kaggle_manager.protocol.events import (
    BundleEvent,
    ContainerEvent,
    Event,
    ProgressEvent,
    ResumeEvent,
    format_event,
    session_tag,
)
from kaggle_manager.protocol.launch_order import LaunchOrder, read_order
from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.trainer.runtime.input_mount import check_lineage, check_vouched, find_mount
from kaggle_manager.trainer.runtime.session_files import failure, session_fields, write_result, write_start

CRASH = "RuntimeError: the environment broke at step {step}"
# The real trainer keeps this for its last save and its last word.
RESERVE_S = 12.0
REFUSED_AFTER_S = 20.0
GROWS = "episodes.csv"
LITTER = (
    GROWS,
    "session_result.json",
    "SESSION_RESULT.JSON",
    "sub folder/session_result.json",
    "training_tree/notes ä.txt",
    "training_tree/checkpoints/mine.zip",
    "training_tree/checkpoints/mine_checkpoint_99999999_steps.manifest.json",
    "training_tree/best_model/mine.manifest.json",
    "training_tree.json",
    "other_files.tar",
    f"{'n' * 200}.txt",
)


@dataclass(frozen=True)
class Trainer:
    """How fast a run trains, in seconds and timesteps.

    Attributes:
        bug_at: a step its code cannot get past. diverges_at: one from which on its parameters are not finite.
        litters: whether the user's code leaves files of its own, some of them where the trainer's are.
        evaluates_every: steps between evaluations; 0: there are none. score: what one comes to, at a step.
    """

    steps_per_s: float
    setup_s: float
    save_every: int
    bug_at: int | None = None
    diverges_at: int | None = None
    litters: bool = False
    evaluates_every: int = 0
    score: Callable[[int], float] = float


@dataclass(frozen=True)
class Fate:
    """What becomes of a session.

    Attributes:
        kind: `well`, or how it dies: `killed`, `crash`, `memory`, `install`, `device`, `wedge`, `half a save`,
            `no final`, `nothing kept`, `damaged`, `deleted`, `cancelled`, `zombie`.
        share: where in its training that strikes, 0 to 1.
    """

    kind: str = "well"
    share: float = 0.5


@dataclass
class Ending:
    """How a session went, as the simulator knows and nobody is told.

    Attributes:
        lasts_s: from its start until nothing of it runs any more.
        state, message: what the platform will say in the end.
        files: what it left, by name; `kept` says whether anybody can have it.
        log: (seconds, line).
        began, trained, saved: timesteps at its start, at its end, and in its newest checkpoint.
    """

    lasts_s: float
    state: str = "complete"
    message: str = ""
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    kept: bool = True
    log: list[tuple[float, str]] = field(default_factory=list, repr=False)
    began: int = 0
    trained: int = 0
    saved: int = 0
    has_last_word: bool = False
    diverged: bool = False


class _Died(BaseException):
    """The kernel's process is gone."""


class _DyingDisk(Disk):
    """Dies instead of one of its renames."""

    def __init__(self, dies_at: int) -> None:
        self._left = dies_at

    def replace(self, source: Path, destination: Path) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Died
        super().replace(source, destination)


def model_at(step: int, of: str = "") -> bytes:
    """Args: of: the trial of a sweep that it is of."""
    return b"model %d %s" % (step, of.encode())


def state_at(step: int) -> bytes:
    return b"state %d" % step


def run_session(
    order: Mapping[str, Any],
    trainer: Trainer,
    fate: Fate,
    *,
    folder: Path,
    inputs: Path,
    limit_s: float,
    now: str,
) -> Ending:
    """Carry out one session in `folder`.

    Args:
        inputs: what is mounted, laid out as Kaggle does.
        limit_s: when the platform ends it.
        now: the time written into manifests.
    """
    working = folder / "working"
    working.mkdir(parents=True)
    fields = session_fields(order)
    tag = session_tag(fields["run_id"], fields["generation"])
    session = _Session(trainer, fate, working, inputs, limit_s, now, tag)
    session.tell(1.0, BundleEvent(sha256=order["bundle_sha256"]))
    session.tell(1.0, ContainerEvent(container=f"km-{order['generation']}"))
    try:
        facts = session.train(read_order(dict(order)))
    except _Died:
        return session.died()
    except Exception as error:
        if not isinstance(error, KaggleManagerError):
            session.say(session.at_s, f"Traceback (most recent call last):\n  ...\n{type(error).__name__}: {error}")
        facts = failure(error) | {"step": session.ending.saved or None}
        session.ending.state = "error"
    return session.last_word({**fields, **facts})


class _Session:
    def __init__(
        self, trainer: Trainer, fate: Fate, working: Path, inputs: Path, limit_s: float, now: str, tag: str
    ) -> None:
        self._trainer, self._fate, self._working, self._inputs, self._limit_s = trainer, fate, working, inputs, limit_s
        self._now, self._tag = now, tag
        self.ending = Ending(lasts_s=limit_s)
        self.at_s = REFUSED_AFTER_S
        self._of = ""

    def say(self, at_s: float, text: str) -> None:
        self.ending.log += [(at_s, line) for line in text.splitlines()]

    def tell(self, at_s: float, event: Event) -> None:
        self.say(at_s, format_event(event, self._tag))

    def train(self, order: LaunchOrder) -> dict[str, Any]:
        trainer, fate, ending = self._trainer, self._fate, self.ending
        if fate.kind == "install":
            self._dies(30.0, "error", "")
            ending.log.append((30.0, "pip could not reach the index"))
        if fate.kind == "device":
            raise WrongAccelerator(f"The session was to have the accelerator {order.accelerator}, and has Tesla P100.")
        self._of = order.trial.name if order.trial else ""
        self._tree = tree = TrainingTree(self._working / "training_tree", order.scenario)
        store = CheckpointStore(tree, now=lambda: self._now, warn=lambda text: None)
        if order.parent is not None:
            unpack_tree(find_mount(self._inputs, order.parent, wait_s=0.0), tree.root)
            head = store.claim_latest_checkpoint()
            check_lineage(order, order.parent, head.manifest if head else None)
            check_vouched(order.parent)
            assert head is not None
            ending.began = ending.trained = ending.saved = head.step
            assert head.model_path.read_bytes() == self._model(head.step), (
                "the mounted model is not the one of its step"
            )
        start = SessionStart(
            **session_fields(order.as_json()),
            device="cpu",
            accelerator=order.accelerator,
            target=order.target,
            from_zero=f"it has {ending.began} steps",
        )
        write_start(self._working, start)
        self.tell(trainer.setup_s, ResumeEvent(step=ending.began, target=order.target))
        common: dict[str, Any] = {
            "target": order.target,
            "lineage": order.lineage,
            "bundle_sha256": order.bundle_sha256,
            "identity": order.identity,
        }
        end, cut = self._end(order)
        if trainer.litters:
            self._litter()
        self._save_on_the_way(store, order, end, common)
        self.at_s = trainer.setup_s + (end - ending.began) / trainer.steps_per_s
        ending.trained = end
        if cut == "diverged":
            ending.diverged = True
            raise Diverged(f"a parameter of the model is not finite at step {end}")
        if cut == "bug":
            raise RuntimeError(CRASH.partition(": ")[2].format(step=end))
        if cut == "wall":
            self._dies(self._limit_s, "cancelled", TIMED_OUT)
        if cut:
            self._dies_of(cut)
        if end > ending.saved:
            self._save(store, end, common)
        if order.target == end:
            if fate.kind == "no final":
                self._dies(self.at_s, "error", "")
            store.save_final(step=end, files={"model": self._model(end)}, **common)
        done = order.target == end
        reason = "" if done else f"the session's time is used up after {self.at_s:.0f} s"
        return {
            "outcome": "completed" if done else "interrupted",
            "exit_code": 0,
            "reason": reason,
            "step": end,
            "resumed_from_step": ending.began,
            "counts": {"updates": 1, "evaluations": 1},
        }

    def _end(self, order: LaunchOrder) -> tuple[int, str]:
        """The last step this session trains, and what cuts it there; '' when it ends by itself."""
        trainer, fate, began = self._trainer, self._fate, self.ending.began
        room_s = (order.deadline_s or math.inf) - RESERVE_S - trainer.setup_s
        most = max(0, int(room_s * trainer.steps_per_s))
        end = min(order.target, began + min(most, order.max_steps or most))
        in_limit = began + max(0, int((self._limit_s - trainer.setup_s) * trainer.steps_per_s))
        if trainer.diverges_at is not None and began <= trainer.diverges_at < end:
            return trainer.diverges_at, "diverged"
        if trainer.bug_at is not None and began <= trainer.bug_at < end:
            return trainer.bug_at, "bug"
        if fate.kind in ("killed", "crash", "memory", "wedge", "half a save", "nothing kept", "cancelled", "deleted"):
            return min(in_limit, began + int(fate.share * (end - began))), fate.kind
        return (in_limit, "wall") if in_limit < end else (end, "")

    def _model(self, step: int) -> bytes:
        return model_at(step, self._of)

    def _evaluate(self) -> None:
        """Leave the curve of the evaluations up to where it trained: further than it may have saved."""
        every, trained = self._trainer.evaluates_every, self.ending.trained
        if every and trained >= every and self._tree.root.is_dir():
            steps = np.arange(every, trained + 1, every, dtype=np.int64)
            returns = np.array([[self._trainer.score(int(step))] for step in steps])
            self._tree.history.mkdir(exist_ok=True)
            np.savez(self._tree.history / "evaluations.npz", timesteps=steps, results=returns)

    def _litter(self) -> None:
        """Files of the user's code. What of them stands in the trainer's way is the trainer's to replace."""
        count = int(self._fate.share * 1000)
        for number in range(1 + count % len(LITTER)):
            path = self._working / LITTER[(count + number) % len(LITTER)]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"{}" * (1 + number))

    def _save_on_the_way(self, store: CheckpointStore, order: LaunchOrder, end: int, common: dict[str, Any]) -> None:
        """The saves of the training up to `end`: the two that stay, and the one they replace."""
        every, began = self._trainer.save_every, self.ending.began
        first, last = began // every + 1, end // every
        for number in range(max(first, last - 1), last + 1):
            if number * every > self.ending.saved:
                self._save(store, number * every, common)

    def _save(self, store: CheckpointStore, step: int, common: dict[str, Any]) -> None:
        store.save_latest(step=step, files={"model": self._model(step), "state": state_at(step)}, **common)
        store.save_best(score=float(step), step=step, files={"model": self._model(step)}, **common)
        self.ending.saved = step
        at_s = self._trainer.setup_s + (step - self.ending.began) / self._trainer.steps_per_s
        speed = self._trainer.steps_per_s
        self.tell(at_s, ProgressEvent(step=step, target=common["target"], steps_per_s=speed, checkpoint=step))
        if self._fate.kind == "half a save":
            self._common = common

    def _dies_of(self, kind: str) -> None:
        ending = self.ending
        if kind == "crash":
            raise RuntimeError("the connection to the simulator was lost")
        if kind == "memory":
            self.say(self.at_s, "the trainer's process ended with code -9 before it wrote its result")
            raise MemoryError("Unable to allocate 4.2 GiB")
        if kind == "wedge":  # it hangs until the platform ends it
            self._dies(self._limit_s, "cancelled", TIMED_OUT)
        if kind == "half a save":
            self._break_a_save()
        ending.kept = kind != "nothing kept"
        state = "cancelled" if kind == "cancelled" else "error"
        self._dies(self.at_s, state, "")

    def _break_a_save(self) -> None:
        """Die inside one more save: what lies there must still be the tree as it was, or as it was to become."""
        common = getattr(self, "_common", None)
        step = self.ending.trained
        if common is None or step <= self.ending.saved:
            return
        tree = self._tree
        store = CheckpointStore(tree, disk=_DyingDisk(int(self._fate.share * 6)), now=lambda: self._now)
        with contextlib.suppress(_Died):
            store.save_latest(step=step, files={"model": self._model(step), "state": state_at(step)}, **common)
        newest = CheckpointStore(tree, warn=lambda text: None).valid_checkpoints()
        self.ending.saved = newest[0].step if newest else 0

    def _dies(self, at_s: float, state: str, message: str) -> None:
        self.at_s, self.ending.state, self.ending.message = at_s, state, message
        raise _Died

    def died(self) -> Ending:
        self._evaluate()
        return self._left()

    def last_word(self, facts: dict[str, Any]) -> Ending:
        trainer = self._trainer
        train_s = max(0.0, self.at_s - trainer.setup_s)
        if facts["exit_code"] == 0:
            timings = {"install": 0.0, "setup": trainer.setup_s, "train": train_s, "total": self.at_s + 5.0}
            facts["timings"] = timings
        self.at_s = min(self.at_s + 5.0, self._limit_s)
        self._evaluate()
        write_result(self._working, SessionResult(**facts), lambda event: self.tell(self.at_s, event))
        self.ending.has_last_word = True
        return self._left()

    def _left(self) -> Ending:
        ending = self.ending
        ending.lasts_s = self.at_s
        for path in sorted(self._working.rglob("*")):
            if path.is_file():
                ending.files[path.relative_to(self._working).as_posix()] = path.read_bytes()
        if GROWS in ending.files:  # its process wrote on while the result was written
            ending.files[GROWS] += b"and one more line\n"
        if self._fate.kind == "damaged" and ending.saved > ending.began:
            ending.kept = False
            for name in [name for name in ending.files if name.endswith(".zip")]:
                ending.files[name] = ending.files[name][:-1] + b"?"
        if self._fate.kind == "deleted":  # whatever it died of before
            ending.kept = False
        if not ending.kept:
            ending.files = ending.files if self._fate.kind == "damaged" else {}
        return ending
