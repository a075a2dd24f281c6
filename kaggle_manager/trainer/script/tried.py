"""A script tried on this machine: its processes as a preflight wants them, its saves as a session keeps them.

Promises: what would end a session ends the try, in the same words; what a session would warn of is kept.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Lineage, TrainingTree
from kaggle_manager.errors import KaggleManagerError, SavedBackwards
from kaggle_manager.protocol.metrics import FILE
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.trainer.runtime.as_in_session import try_out
from kaggle_manager.trainer.script import saves as saving
from kaggle_manager.trainer.script.command import command_of, environment_of
from kaggle_manager.trainer.script.commits import Commits
from kaggle_manager.trainer.script.metrics import Metrics
from kaggle_manager.trainer.script.process import ScriptProcess
from kaggle_manager.trainer.script.resumed import Resumed, Watch
from kaggle_manager.trainer.script.saves import Save, Saves

GRACE_S, LOOK_S, LAST_LOOKS = 30.0, 0.002, 16
# A script that has told and saved nothing yet, and computes, is given this many times as long.
_PATIENCE, _COMPUTES = 2.0, 0.05
SEED = 42

What = Literal["run", "stop", "kill"]


@dataclass
class Ended:
    """How one process of a script ended.

    Attributes:
        code: its exit code; None: it was ended when its moment was over, or killed on purpose.
        seconds: that it took. asked_at, ended_at: when it was asked to stop and when it ended; None where it was not.
        words: the last line of its standard error.
        asked_early: it was asked to stop before its time was over, on purpose.
        killed: on purpose.
        resumed: whether it went on from the checkpoint it was given.
        lowest, highest: the steps it told; None for none.
        left: what lies in its saves folder and is no checkpoint.
        refused: by what a session would have ended.
    """

    code: int | None = None
    seconds: float = 0.0
    asked_at: float | None = None
    ended_at: float = 0.0
    words: str = ""
    asked_early: bool = False
    killed: bool = False
    resumed: Resumed = field(default_factory=lambda: Resumed(0))
    lowest: int | None = None
    highest: int | None = None
    left: list[str] = field(default_factory=list)
    refused: KaggleManagerError | None = None

    @property
    def stopped_s(self) -> float | None:
        """From SIGTERM to its end; None where it was not asked."""
        return None if self.asked_at is None else self.ended_at - self.asked_at

    @property
    def was_too_slow(self) -> bool:
        """Whether its time was over before its work was."""
        return self.asked_at is not None and not self.asked_early

    @property
    def refusal(self) -> str:
        """What a session says of it as it ends; '' where it would not."""
        error = self.refused
        if isinstance(error, SavedBackwards):
            error = self.resumed.cause_of(error)
        return f"{error.message.rstrip('.')}: {error.next_step}" if error else ""


@dataclass
class Training:
    """One training in a folder of its own, over one process or several; each is given what a session would be given.

    Attributes:
        name: of the scenario.
        saved: step -> SHA-256 of each of its files, of every checkpoint.
        steps: of every checkpoint, as they came.
        told: what a session would warn of.
    """

    folder: Path
    project: Path
    section: Section
    name: str
    scenario: ScriptScenario
    moment_s: float
    saved: dict[int, dict[str, str]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self._commits = Commits(
            store=CheckpointStore(TrainingTree(self.folder / "tree", self.name), warn=self.told.append),
            scenario=self.name,
            target=self.scenario.target,
            facts={
                "target": self.scenario.target,
                "lineage": Lineage("preflight", 1, None, 0),
                "bundle_sha256": "",
                "identity": {},
            },
            sources=b"",
            best=self.scenario.best,
            warn=self.told.append,
            kept_bytes=try_out.output_bytes,
        )

    @property
    def newest(self) -> Checkpoint | None:
        return self._commits.newest

    def run(self, what: What, *, stop_after_s: float = 1e9) -> Ended:
        """Run the script from the newest checkpoint: to its end, or until it was stopped or killed at its next save.

        Args:
            stop_after_s: it is asked to stop then, though it has not saved.
        """
        self._count += 1
        scratch = self.folder / str(self._count)
        saves, resume = Saves(scratch), None
        if self.newest is not None:
            resume = scratch / "resume" / str(self.newest.step)
            saving.unpack(self.newest, resume)
        given, earlier = self.newest.step if self.newest else 0, len(self.steps)
        watch = Watch(resume) if resume else None
        scenario = self.scenario
        judged = scenario.best.metric if scenario.best else ""
        metrics = Metrics(saves.folder / FILE, self.folder / FILE, judged, self.told.append)
        metrics.resume_at(given)
        environment = environment_of(
            os.environ,
            root=self.project,
            target=scenario.target,
            seed=SEED if scenario.seed is None else scenario.seed,
            saves=saves.folder,
            step=given,
            resume=resume,
            seconds_left=_PATIENCE * self.moment_s,
        )
        ended, began = Ended(), time.monotonic()
        process = ScriptProcess(
            command_of(scenario, self.section.folder, self.project), environment, self.project, is_quiet=True
        )
        try:
            try:
                self._watch(process, saves, metrics, ended, what, stop_after_s)
                ended.code = None if ended.killed else process.exit_code()
            finally:
                process.end()
                ended.ended_at = time.monotonic()
            if not ended.killed:
                metrics.read(LAST_LOOKS, is_over=True)
                self._keep(saves, saves.take())
            metrics.finish()
        except KaggleManagerError as error:
            ended.refused = error
        ended.seconds = ended.ended_at - began
        if not ended.killed:
            ended.words, ended.left = process.last_line(), saves.left()
        if ended.left and ended.code == 0:
            self.told.append(saving.unused(ended.left))
        ended.lowest, ended.highest = metrics.lowest, metrics.step if metrics.lowest is not None else None
        opened = watch.opened() if watch else None
        ended.resumed = Resumed(given, metrics.lowest, min(self.steps[earlier:], default=None), opened)
        if watch:
            watch.close()
        shutil.rmtree(scratch / "resume", ignore_errors=True)
        return ended

    def _watch(
        self, process: ScriptProcess, saves: Saves, metrics: Metrics, ended: Ended, what: What, stop_after_s: float
    ) -> None:
        """Until it has ended, or is to be killed."""
        began, earlier = time.monotonic(), len(self.steps)
        while process.exit_code() is None and time.monotonic() < began + _PATIENCE * self.moment_s + GRACE_S:
            metrics.read()
            found = saves.take()
            has_begun = bool(found) or saving.bytes_at(metrics.path) > 0
            now = time.monotonic()
            # One that computes and has told nothing may still import its libraries or read its data.
            is_over = now > began + self.moment_s and (
                has_begun
                or len(self.steps) > earlier
                or now > began + _PATIENCE * self.moment_s
                or process.cpu_s() < _COMPUTES * (now - began)
            )
            if what == "kill" and found:
                process.end()
                ended.killed = True
            ended.asked_early |= (
                ended.asked_at is None and what == "stop" and (has_begun or now > began + stop_after_s) and not is_over
            )
            if ended.asked_at is None and not ended.killed and (is_over or ended.asked_early):
                ended.asked_at = now
                process.ask_to_stop()
            self._keep(saves, found)
            if ended.killed or (ended.asked_at is not None and now > ended.asked_at + GRACE_S):
                return
            time.sleep(LOOK_S)

    def _keep(self, saves: Saves, found: Sequence[Save]) -> None:
        """Commit as a session does, of what was saved meanwhile the newest; the others are compared as well.

        Raises:
            KaggleManagerError: what would end a session.
        """
        self.steps += (save.step for save in found)
        for save in found:
            self.saved[save.step] = saving.digests(save)
        for save in found[-1:]:
            self._commits.commit(save, None, 0.0)
            self._commits.drop_older()
        for save in found:
            saves.forget(save)

    def file(self, name: str) -> Path:
        """A file of the newest checkpoint, by its name in the script's folder."""
        assert self.newest is not None
        if self.newest.manifest.file(name):
            return self.newest.path(name)
        if not (folder := self.folder / f"unpacked {self.newest.step}").exists():
            saving.unpack(self.newest, folder)
        return folder / name
