"""One session of a script: started where its newest checkpoint is, watched, stopped in good time, judged by its saves.

Promises: the newest committed checkpoint is kept whatever the script does; the target is reached when a committed
checkpoint has reached it, and never by what the script says; nothing that it has started outlives the session.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore
from kaggle_manager.checkpoints.sources import Sources, to_bytes
from kaggle_manager.errors import (
    ContractBroken,
    Diverged,
    EndedEarly,
    NothingSaved,
    SavedBackwards,
    ScriptFailed,
    StopIgnored,
)
from kaggle_manager.protocol.events import ProgressEvent, ResumeEvent
from kaggle_manager.protocol.metrics import FILE, Metric
from kaggle_manager.sections.identity import sources_of
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trainer.runtime.log_lines import say, warn
from kaggle_manager.trainer.runtime.origin import Origin
from kaggle_manager.trainer.runtime.same_experiment import changed_on_purpose, check_same_experiment
from kaggle_manager.trainer.runtime.session import Session, SessionOutcome, versions
from kaggle_manager.trainer.script import saves
from kaggle_manager.trainer.script.command import command_of, environment_of
from kaggle_manager.trainer.script.commits import Commits
from kaggle_manager.trainer.script.metrics import Metrics
from kaggle_manager.trainer.script.process import ScriptProcess
from kaggle_manager.trainer.script.resumed import Resumed, Watch
from kaggle_manager.trainer.script.saves import Save, Saves

LOOK_S, PROGRESS_EVERY_S, LAST_LOOKS = 0.1, 5.0, 16
# After SIGTERM a script saves and ends; how long that takes nobody knows before it has happened.
GRACE_SHARE, LEAST_GRACE_S, MOST_GRACE_S = 0.1, 1.0, 300.0
# A script may end when its next step would be over too late. Its deadline is rounded, too.
_EARLY_S = 1.0
# After it has saved its target it may evaluate, or draw a picture; in parts of the grace.
_LINGERS = 2.0
# A committed checkpoint is read, written, read back, and read again with the one before it.
_COMMITTED_A_SECOND = 50e6


@dataclass(frozen=True)
class _Experiment:
    """As `same_experiment.Experiment`."""

    identity: Mapping[str, Any]
    sources: Sources
    accept_changes: bool
    accepted_files: Mapping[str, str] | None
    bundle_sha256: str


def run(session: Session, origin: Origin) -> SessionOutcome:
    """Run the script from `origin` until the target, the deadline or a request to stop.

    Raises:
        CheckpointIncompatible: the checkpoint belongs to another experiment.
        ConfigError: there is no such script.
        ContractBroken, ScriptFailed: see there; what was committed stays.
        Diverged: a metric is not finite.
        StorageError: the disk refused, or a checkpoint is too large.
    """
    order = session.order
    scenario = session.section.scenario(order.scenario)
    assert isinstance(scenario, ScriptScenario)
    scenario = scenario.for_quick() if order.quick else scenario
    installed = versions()
    session.start(origin, installed)
    seed = _seed(session, scenario, origin.checkpoint)
    known = {name: version for name, version in installed if name in ("python", "torch", "numpy") and version}
    experiment = _Experiment(
        identity={**session.identity, "seed": seed, "versions": known},
        sources=sources_of(session.section, order.scenario, session.code),
        accept_changes=order.accept_changes,
        accepted_files=order.accepted_files,
        bundle_sha256=order.bundle_sha256,
    )
    broken = _broken(session, experiment, origin.checkpoint)
    exact = {"exact": "script", "seed": seed, "broken": broken, "image": order.image}
    commits = Commits(
        store=CheckpointStore(session.tree, warn=warn),
        scenario=order.scenario,
        target=order.target,
        facts={
            "target": order.target,
            "lineage": order.lineage,
            "bundle_sha256": order.bundle_sha256,
            "identity": experiment.identity,
            "exact": exact,
        },
        sources=to_bytes(experiment.sources),
        best=scenario.best,
        warn=warn,
        kept_bytes=order.output_bytes,
        newest=origin.checkpoint,
    )
    if origin.step >= order.target:
        say(f"The target of {order.target:,} {scenario.unit} is already reached, at {origin.step:,}.")
        commits.finish()
        return SessionOutcome("completed", "already reached", origin.step, origin.step)
    with ExitStack() as resources:
        scratch = resources.enter_context(scratch_folder("km_script_"))
        return _Run(session, scenario, origin, commits, scratch, seed, resources).to_its_end()


def _seed(session: Session, scenario: ScriptScenario, head: Checkpoint | None) -> int:
    """Of the run: given, or drawn when it began; its checkpoints carry it."""
    stated = head.manifest.identity.get("seed") if head else None
    if isinstance(stated, int):
        return stated
    given = scenario.seed if session.order.seed is None else session.order.seed
    return secrets.randbits(31) if given is None else given


def _broken(session: Session, experiment: _Experiment, head: Checkpoint | None) -> list[dict[str, Any]]:
    """Where a resume is not the same training any more, as earlier sessions and this one know; see `exactness`."""
    if head is None:
        return []
    said = head.manifest.exact.get("broken")
    broken = [dict(each) for each in said if isinstance(each, Mapping)] if isinstance(said, list) else []
    changed = changed_on_purpose(experiment, head)
    check_same_experiment(head, dict(experiment.identity), experiment)
    if changed:
        broken.append({"step": head.step, "why": f"{changed} was changed on purpose", "changed": changed})
    if head.manifest.target != session.order.target:
        why = f"the target changed from {head.manifest.target:,} to {session.order.target:,}"
        broken.append({"step": head.step, "why": why})
    for each in broken:
        if each["step"] == head.step:
            warn(f"from step {head.step:,} on this is not the training of before: {each['why']}.")
    return broken


@dataclass
class _Run:
    """A script that runs, and what is known of it."""

    session: Session
    scenario: ScriptScenario
    origin: Origin
    commits: Commits
    scratch: Path
    seed: int
    resources: ExitStack
    asked: str = ""
    killed: bool = False
    _asked_at: float = 0.0
    _waiting: list[Save] = field(default_factory=list)
    _reached_at: float | None = None
    _last_told: float = 0.0
    _values: dict[int, Metric | None] = field(default_factory=dict)
    _watch_resume: Watch | None = None
    _lowest_save: int | None = None

    def __post_init__(self) -> None:
        order, clock = self.session.order, self.session.clock
        self.clock, self.began = clock, clock.elapsed()
        whole = order.deadline_s
        self.grace_s = min(MOST_GRACE_S, max(LEAST_GRACE_S, GRACE_SHARE * whole)) if whole else MOST_GRACE_S
        self.target = order.target  # the whole one in every session: schedules are made of it
        self.stop_at = self.origin.step + order.max_steps if order.max_steps else None
        self.saves = Saves(self.scratch)
        judged = self.scenario.best.metric if self.scenario.best else ""
        self.metrics = Metrics(self.saves.folder / FILE, self.session.tree.history / FILE, judged)

    def to_its_end(self) -> SessionOutcome:
        command = command_of(self.scenario, self.session.section.folder, self.session.code)
        resume = self._resume_folder()
        self.metrics.resume_at(self.origin.step)
        left = self.clock.left_s()
        deadline = float("inf") if left is None else self.clock.elapsed() + left - self.grace_s
        environment = environment_of(
            os.environ,
            root=self.session.code,
            target=self.target,
            seed=self.seed,
            saves=self.saves.folder,
            step=self.origin.step,
            resume=resume,
            stop_at=self.stop_at,
            seconds_left=None if left is None else left - self.grace_s,
        )
        self._announce()
        process = ScriptProcess(command, environment, self.session.code)
        setup_s = self.clock.elapsed()
        self.resources.callback(process.end)
        committer = self.resources.enter_context(ThreadPoolExecutor(1))
        code = self._watch(process, committer)
        # The reserve that it is asked by may have become smaller since: saves turned out to be fast.
        if not self.asked and self.clock.elapsed() >= deadline - _EARLY_S:
            self.asked = "the script ended at its deadline"
        if behind := process.end():
            warn(f"the script left processes behind when it ended, which were killed: {', '.join(behind[:10])}.")
        self._look_at(process, None, is_over=True)
        for save in self._wanted():
            self._commit(save)
        if left_behind := self.saves.left():
            warn(saves.unused(left_behind))
        self.metrics.finish()
        self._tell(now=True)
        return self._outcome(code, process, left_behind, setup_s)

    def _resume_folder(self) -> Path | None:
        head = self.origin.checkpoint
        if head is None:
            return None
        folder = self.scratch / "resume" / str(head.step)
        saves.unpack(head, folder)
        size = head.manifest.size
        self.clock.saved(size / _COMMITTED_A_SECOND, 2 * size)
        self._watch_resume = Watch(folder)
        self.resources.callback(self._watch_resume.close)
        return folder

    def _watch(self, process: ScriptProcess, committer: ThreadPoolExecutor) -> int:
        """Until the script has ended; its exit code."""
        under_way: Future[None] | None = None
        try:
            while (code := process.exit_code()) is None:
                self._look_at(process, under_way)
                if under_way is not None and under_way.done():
                    under_way = under_way.result()  # raises what it has raised
                if under_way is None and (wanted := self._wanted()):
                    under_way = committer.submit(self._commit, wanted[0])
                    self._waiting = wanted[1:]
                self._stop_in_time(process)
                self._tell()
                time.sleep(LOOK_S)
        except BaseException:
            process.end()
            raise
        if under_way is not None:
            under_way.result()
        return code

    def _look_at(self, process: ScriptProcess, under_way: Future[None] | None, *, is_over: bool = False) -> None:
        """See what it has told and saved; where that ends it, keep first what was committed by its rename before."""
        try:
            self._look(is_over=is_over)
        except (Diverged, ContractBroken):
            process.end()
            if under_way is not None:
                under_way.result()
            with suppress(ContractBroken):
                self._waiting += self.saves.take()
            until = math.inf if self.metrics.diverged_at is None else self.metrics.diverged_at
            self._waiting = [save for save in self._waiting if save.step < until]
            for save in self._wanted():
                self._commit(save)
            raise

    def _look(self, *, is_over: bool) -> None:
        """What the script has told, then what it has saved: a value belongs to the save that came after it."""
        self.metrics.read(LAST_LOOKS if is_over else 1, is_over=is_over)
        taken, best = self.saves.take(), self.scenario.best
        self._waiting += taken  # before anything that may end it
        if taken:
            self.metrics.read()
        for save in taken:
            self._lowest_save = save.step if self._lowest_save is None else min(self._lowest_save, save.step)
            self._values[save.step] = self.metrics.at(best.metric, save.step) if best else None

    def _wanted(self) -> list[Save]:
        """Of what waits the newest, and the best before it; what was overtaken while a save was written is let go."""
        waiting = self._waiting
        if len(waiting) > 1:
            best, newest = self._best_of(waiting[:-1]), waiting[-1]
            kept = [best, newest] if best else [newest]
            for save in waiting:
                if save not in kept:
                    self.saves.forget(save)
            self._waiting = kept
        return self._waiting

    def _best_of(self, waiting: list[Save]) -> Save | None:
        scored = [
            (score, save)
            for save in waiting
            if (score := self.commits.score(save, self._values.get(save.step))) is not None
        ]
        return max(scored, key=lambda it: it[0])[1] if scored else None

    def _commit(self, save: Save) -> None:
        try:
            began = self.clock.elapsed()
            checkpoint = self.commits.commit(save, self._values.pop(save.step, None), began - self.began)
            self.clock.saved(self.clock.elapsed() - began, 2 * checkpoint.manifest.size)
        except SavedBackwards as error:
            raise self._resumed.cause_of(error) from error
        finally:
            self.saves.forget(save)

    def _stop_in_time(self, process: ScriptProcess) -> None:
        now = self.clock.elapsed()
        if not self.asked:
            self.asked = self.clock.why_stop_now(self.grace_s) or self._enough() or self._lingers(now)
            if self.asked:
                self._asked_at = now
                process.ask_to_stop()
        elif now > self._asked_at + self.grace_s and not self.killed:
            self.killed = True
            process.end()

    def _lingers(self, now: float) -> str:
        """Whether it has saved its target long ago: a process that hangs would keep the session until its end."""
        if self._step < self.session.order.target:
            return ""
        if self._reached_at is None:
            self._reached_at = now
        is_late = now >= self._reached_at + _LINGERS * self.grace_s
        return f"it saved its target {now - self._reached_at:.0f} s ago and did not end" if is_late else ""

    def _enough(self) -> str:
        if self.stop_at is None or self._step < self.stop_at:
            return ""
        return f"this session was to train {self.session.order.max_steps} {self.scenario.unit}"

    # --- in words -----------------------------------------------------------------------------------------------------

    @property
    def _step(self) -> int:
        newest = self.commits.newest
        return newest.step if newest else 0

    def _announce(self) -> None:
        order, head, unit = self.session.order, self.origin.checkpoint, self.scenario.unit
        if head is None:
            say(f"Starting from zero: {self.origin.reason}. Target: {order.target:,} {unit}.")
        else:
            say(f"Resumed from {head.step:,} of {order.target:,} {unit}.")
        self.session.emit(
            ResumeEvent(
                step=self.origin.step,
                target=order.target,
                manifest_sha256=head.manifest.sha256 if head else None,
                from_zero=self.origin.reason or None,
            )
        )

    def _tell(self, *, now: bool = False) -> None:
        at = self.clock.elapsed()
        if not now and at < self._last_told + PROGRESS_EVERY_S:
            return
        self._last_told = at
        step = max(self.metrics.step, self._step, self.origin.step)
        gained, spent = step - self.origin.step, at - self.began
        best = self.scenario.best
        value = self.metrics.at(best.metric, step) if best else None
        newest = self.commits.newest
        self.session.emit(
            ProgressEvent(
                step=step,
                target=self.session.order.target,
                steps_per_s=gained / spent if gained and spent > 0 else None,
                reward=value.value if value else None,
                metric=value.name if value else None,
                checkpoint=newest.step if newest else None,
            )
        )

    def _outcome(self, code: int, process: ScriptProcess, left_behind: list[str], setup_s: float) -> SessionOutcome:
        unit = self.scenario.unit
        gained = self._step > self.origin.step
        how, why = _how(code), self._resumed.cause
        if from_zero := self._resumed.from_zero:
            warn(f"{from_zero}.")
        if self.commits.finish() is not None:
            if code:
                warn(f"the script reached its target and then {how}: {process.last_line()}")
            return self._ended("completed", "", setup_s)
        if code == 0 and (enough := self._enough()):
            return self._ended("interrupted", enough, setup_s)
        # What the platform or the user has asked for is no fault of the script, however early it came.
        if self.asked and (gained or self.clock.stop_requested):
            if self.killed:
                warn(self._ignored().message)
            elif code:
                warn(
                    f"asked to stop, the script {how}, where 0 is owed: what it did since {self._step:,} is done again."
                )
            return self._ended("interrupted", self.asked, setup_s)
        if self.killed:
            raise self._ignored()
        if code and not self.asked:
            raise self._failed(code, process)
        if not gained:
            newer = f" after step {self._step:,}, with which it began" if self.commits.count else ""
            raise NothingSaved(
                f"The script {how} and has committed no checkpoint{newer} in this session"
                + (f"; in its saves folder there is {', '.join(left_behind[:5])}." if left_behind else ".")
                + why,
                safe=self._safe,
                next_step="save into KM_SESSION_SAVES/<step>.tmp and rename that folder to <step>, often enough and "
                "when SIGTERM comes",
            )
        raise EndedEarly(
            f"The script ended by itself at {self._step:,} of {self.target:,} {unit}.{why}",
            safe=self._safe,
            next_step="continue until KM_SESSION_TARGET, or end with an exit code other than 0 where that is an error",
        )

    def _failed(self, code: int, process: ScriptProcess) -> ScriptFailed:
        words = process.last_line()
        return ScriptFailed(
            f"The script {_how(code)}" + (f": {words}" if words else ".") + self._resumed.cause,
            safe=self._safe,
            next_step="read the log up to its end; the next session continues from there",
        )

    def _ignored(self) -> StopIgnored:
        return StopIgnored(
            f"The script was asked to stop ({self.asked}), had not ended {self.grace_s:.0f} s later, and was killed.",
            safe=self._safe,
            next_step="at SIGTERM save and end with 0, or end at KM_SESSION_DEADLINE",
        )

    @property
    def _resumed(self) -> Resumed:
        opened = self._watch_resume.opened() if self._watch_resume else None
        return Resumed(self.origin.step, self.metrics.lowest, self._lowest_save, opened)

    @property
    def _safe(self) -> str:
        newest = self.commits.newest
        return (
            f"the checkpoint of step {newest.step:,}, which the next session continues"
            if newest
            else "nothing is lost, for nothing had been saved"
        )

    def _ended(self, kind: Any, reason: str, setup_s: float) -> SessionOutcome:
        newest, total = self.commits.newest, self.clock.elapsed()
        return SessionOutcome(
            kind=kind,
            reason=reason,
            step=newest.step if newest else None,
            resumed_from=self.origin.step,
            timings={
                "setup": round(setup_s, 3),
                "train": round(max(0.0, total - setup_s), 3),
                "save": 0.0,  # beside the training
                "evaluate": 0.0,
            },
            counts={
                "steps": self._step - self.origin.step,
                "checkpoints": self.commits.count,
                "points_left_out": self.metrics.left_out,
            },
        )


def _how(code: int) -> str:
    if code == 0:
        return "ended with 0"
    return f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
