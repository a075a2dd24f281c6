"""One seed, one campaign: the real manager is ticked as cron would, dies and begins anew, until its run is over.

The seed draws the run (target, speed, session limit, weekly quota), what goes wrong and how often, and when the manager
is killed. What is judged is what the simulated Kaggle knows to have happened, never what the journal says.
A campaign ends well when the run is finished, or stands still for a person and says so, with what that person must do.
"""

from __future__ import annotations

import functools
import io
import itertools
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from campaign_draw import BEGINNING, HOUR, MINUTE, Drawn, draw
from campaign_stage import SCENARIO, SECTION, stage
from reader_now import ReaderNow
from simulated_kaggle import WEEK_S, BrokenPromise, SimulatedKaggle
from simulated_session import model_at
from virtual_process import Clock, Killed, Mortality

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import AuthError, Diverged, KaggleManagerError, NotFound, QuotaError, RemoteError
from kaggle_manager.notify.notifier import Delivery, Notifier, Occasion
from kaggle_manager.orchestrator import stop
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.sessions.log_reader import LogQueue
from kaggle_manager.sessions.watch import watch
from kaggle_manager.status.report import RunReport
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.trees.current_run import current_run

# Passes of one campaign, those left out in which the week's quota is used up and nothing can be done.
MOST_TICKS = 600
NEEDS_A_PERSON = (Occasion.PERSON_NEEDED, Occasion.INCOMPATIBLE_CHECKPOINT)
LASTS = "has not answered for a day"


@dataclass
class Result:
    """How one campaign went. `repeated` counts timesteps that were trained more than once."""

    seed: int
    outcome: str = ""
    why: str = ""
    ticks: int = 0
    kills: int = 0
    sessions: int = 0
    deaths: int = 0
    persons: int = 0
    steps: int = 0
    repeated: int = 0
    weeks: float = 0.0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def is_well(self) -> bool:
        return self.outcome in ("finished", "waits for a person")


class Quiet(Reporter):
    """Nobody reads along, unless somebody listens."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.listen: Callable[[str], None] = lambda text: None

    def line(self, text: str, style: str = "") -> None:
        self.listen(text)

    def phase(self, text: str) -> None: ...

    def status(self, text: str, *, share: float | None = None, now: bool = False) -> None: ...


class Mailbox(Notifier):
    """What the user is told, by occasion."""

    @functools.cached_property
    def received(self) -> list[tuple[Occasion, str]]:
        return []

    def send(self, occasion: Occasion, title: str, body: str, data: Any = None) -> tuple[Delivery, ...]:
        self.received.append((occasion, f"{title}: {body}"))
        return (Delivery("a mailbox", True),)


class Campaign:
    """One run on one simulated Kaggle."""

    KAGGLE = SimulatedKaggle

    def __init__(self, seed: int, folder: Path, project: Path, drawn: Drawn | None = None) -> None:
        self.drawn = drawn = drawn or draw(seed)
        self.rng = random.Random(seed + 1_000_000_007)
        self.clock = Clock(BEGINNING)
        self.mortality = Mortality()
        self.workdir, self.project = folder / "work", project
        self.kaggle = self.KAGGLE(
            folder / "kaggle",
            self.clock,
            random.Random(seed + 2_000_000_011),
            drawn.trainer,
            drawn.odds,
            week_s=drawn.week_s,
            auth_until=drawn.auth_until,
            wrong_setting_from=drawn.wrong_setting_from,
            mortality=self.mortality,
        )
        self.kaggle.elsewhere = drawn.elsewhere
        self.mailbox = Mailbox()
        self.wrong_by_s = 0.0  # the manager's clock
        self._full_for = 0  # passes
        self._needs = ""  # what the pass before needed a person for; "" for nothing, "?" for who knows
        self.reporter = Quiet()
        self.result = Result(seed)
        self.config = build_config(
            SECTION, workdir=self.workdir, project_root=project, platform="kaggle", environ={}, timesteps=drawn.target
        )
        self.tree = TrainingTree(self.config.tree, SCENARIO)
        self._best_step = 0
        self._is_cut = False
        self._idle_ticks = 0
        self.tell: Callable[[str], None] = lambda text: None
        self.kaggle.before_call = self._perhaps_stop

    def speak(self) -> None:
        """Print what is said and what happens, with the hour of the campaign."""

        def say(text: str) -> None:
            print(f"{(self.clock() - BEGINNING) / HOUR:9.3f} h  {text}")

        self.reporter.listen = self.kaggle.tell = self.tell = say

    def manager(self) -> ValidationKaggleManager:
        return ValidationKaggleManager(
            platform="kaggle",
            workdir=self.workdir,
            project_root=self.project,
            reporter=self.reporter,
            connect_to=self._connect,
            notifier=self.mailbox,
            check_before_push=lambda config, reporter, stated: None,
            sleep=self.clock.sleep,
            clock=lambda: self.clock() + self.wrong_by_s,
            watch_session=functools.partial(
                watch, clock=self.clock, wait=self._wait, random_share=self.rng.random, read_log=ReaderNow
            ),
        )

    def _connect(self, config: Any) -> Connection:
        return Connection(self.kaggle, self.kaggle.whoami(), "kaggle", "a simulation")  # type: ignore[arg-type]

    def _wait(self, lines: LogQueue, seconds: float) -> Any:
        if lines.empty():
            self.clock.sleep(seconds)
        return lines.get_nowait()

    def stage(self) -> AbstractContextManager[None]:
        """Where it plays."""
        return stage(self.mortality)

    # --- the way ------------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Tick until the run is over.

        Raises:
            BrokenPromise: the manager did what it must never do.
        """
        while not self.result.outcome:
            if self.result.ticks - self._idle_ticks >= MOST_TICKS:
                raise BrokenPromise(f"no end after {MOST_TICKS} ticks")
            self._tick()
            self.clock.sleep(self._pause_s())
        self.mortality.arm(None)
        self.judge_end()
        return self.result

    def _pause_s(self) -> float:
        """Until the next tick: cron's interval. Most ticks that could only wait for the week's quota are left out."""
        every = self.drawn.tick_every_s * self.rng.uniform(0.7, 1.3)
        waits = self.kaggle.left_s() < 0.05 * self.drawn.week_s and not self.kaggle.alive()
        self._idle_ticks += waits
        over = [moment for moment in (self.kaggle.refresh_at(), self.kaggle.elsewhere[1]) if moment > self.clock()]
        return max(every, min(over) - self.clock()) if waits and self.rng.random() < 0.8 else every

    def _clean(self) -> None:
        """Somebody frees the room of downloads between two passes, or a disk damages one."""
        folder = self.config.downloads
        if not folder.is_dir() or self.rng.random() >= self.drawn.odds.cleaned:
            return
        self.kaggle.faults["downloads cleaned or damaged"] += 1
        models = sorted(folder.rglob("*.zip"))
        if models and self.rng.random() < 0.3:
            models[-1].write_bytes(b"damaged")
        else:
            shutil.rmtree(folder)

    def _perhaps_stop(self, name: str) -> None:
        """Somebody asks for a stop, between any two steps of the manager's."""
        if not self.mortality.resting and self.rng.random() < self.drawn.odds.stops:
            self.stop()

    def stop(self) -> None:
        """Another process stops the run."""
        with (
            closing(Journal(self.config.journal)) as journal,
            self.mortality.rests(),
            suppress(NotFound, RemoteError, AuthError),
        ):
            stopped = stop.stop_run(self.config, self._connect, journal, self.reporter, self.clock())
            self.kaggle.faults["a stop asked for"] += 1
            self.kaggle.may_push = stopped.words != "no session runs, and none follows"

    def _set_clock(self) -> None:
        """Somebody sets the clock, or sets it right."""
        if self.drawn.jumps:
            days = self.rng.choice([-30, -1, 1, 30]) if self.rng.random() < self.drawn.jumps else 0
            self.wrong_by_s = 24 * HOUR * days
            self.kaggle.faults["clock set wrong"] += bool(days)

    def _tick(self) -> None:
        self._clean()
        self._set_clock()
        if self.drawn.disk_fills and not self._full_for and self.rng.random() < self.drawn.disk_fills:
            self._full_for = self.rng.randint(1, 4)
            self.kaggle.faults["disk full for the journal"] += 1
        is_mortal = self.rng.random() < self.drawn.kills
        self.tick(int(self.rng.expovariate(1 / 25)) if is_mortal else None)

    def tick(self, deeds: int | None = None) -> None:
        """One pass of a new manager, which dies after so many deeds."""
        self.result.ticks += 1
        self.mortality.arm(deeds)
        end = self._pass()
        was_killed = self.mortality.dead
        self.mortality.arm(None)
        if isinstance(end, KaggleManagerError):
            self._after(end)
        elif end is not None:
            self._after_report(end)
        self._judge_tree(was_killed=was_killed)

    def _pass(self) -> RunReport | KaggleManagerError | None:
        """How a pass of a new manager ends; None for one that is killed."""
        self.mortality.disk_is_full = self._full_for > 0
        self._full_for -= self.mortality.disk_is_full
        known = len(self.mailbox.received)
        end: RunReport | KaggleManagerError | None = None
        try:
            end = self.manager().tick(SECTION, timesteps=self.drawn.target, session_limit=self.drawn.limit_s)
        except Killed:
            self.result.kills += 1
            self.tell("THE MANAGER IS KILLED")
        except KaggleManagerError as error:
            self.tell(f"ERROR {type(error).__name__}: {error}")
            end = error
        self._judge_told(end, self.mailbox.received[known:])
        return end

    def _judge_told(self, end: RunReport | KaggleManagerError | None, messages: list[tuple[Occasion, str]]) -> None:
        """Each cause that needs a person is told once, until something changes; passing trouble is not."""
        texts = [text for occasion, text in messages if occasion in NEEDS_A_PERSON and LASTS not in text]
        needs = ""
        if isinstance(end, KaggleManagerError) and not end.retryable:
            needs = re.sub(r"\d+", "N", f"{type(end).__name__}: {end.message.splitlines()[0]}")
        if end is not None and not needs and texts:
            raise BrokenPromise(f"a person is asked for, and none is needed: {texts}")
        least = int(self._needs == "" and bool(needs) and self.status() is not None)
        most = int(self._needs != needs)
        if end is not None and not least <= len(texts) <= most:
            raise BrokenPromise(
                f"told {len(texts)} times, not {least} to {most}: {needs} after {self._needs!r}: {texts}"
            )
        is_known = isinstance(end, RunReport) or needs or not self._needs
        self._needs = needs if end is not None and is_known else "?"

    def _after_report(self, report: RunReport) -> None:
        if report.state == "finished":
            self.result.outcome = "finished"
        elif report.human_action_required:
            raise BrokenPromise(f"a person is needed, and no error says so: {report.why}")

    def _after(self, error: KaggleManagerError) -> None:
        if "the image gcr.io" in error.message:
            raise BrokenPromise("an image that is gone stops the run")
        if not error.next_step:
            raise BrokenPromise(f"no next step: {type(error).__name__}: {error.message}")
        if isinstance(error, RemoteError | QuotaError) or self.mortality.disk_is_full:  # which passes by itself
            return
        status = self.status()
        if status is not None and not status.human_action_required:
            raise BrokenPromise(f"{type(error).__name__} needs a person, and status says {status.state}: {status.why}")
        self._tick_in_vain()
        self.result.persons += 1
        if isinstance(error, Diverged):  # nobody resumes it; a person would lower the learning rate and start again
            self.result.outcome, self.result.why = "waits for a person", f"Diverged: {error.message}"
            return
        # Who asked for a stop asks for the run as well.
        is_stopped = status is not None and status.state == "stopped"
        comes = max(self.drawn.person_comes, self.drawn.stopper_comes * is_stopped)
        if self.rng.random() >= comes or self.result.persons > 12:
            self.result.outcome, self.result.why = "waits for a person", f"{type(error).__name__}: {error.message}"
            return
        self.clock.sleep(self.rng.uniform(MINUTE, 12 * HOUR))
        self.person()

    def _tick_in_vain(self) -> None:
        """A schedule does not know that a person is needed; its next pass starts nothing."""
        started = len(self.kaggle.sessions)
        for _ in range(2):
            self.clock.sleep(self.drawn.tick_every_s)
            self._pass()
        if len(self.kaggle.sessions) > started:
            raise BrokenPromise("a person is needed, and the next tick starts a session all the same")

    def person(self) -> None:
        """Somebody comes, mends what can be mended, and asks for the run."""
        self.kaggle.mend_token()
        self.kaggle.mend_setting()
        self.kaggle.mend_code()
        self.kaggle.delete_misfiled()
        self.kaggle.delete_empty()
        self._full_for, self.mortality.disk_is_full, self._needs = 0, False, "?"
        image = "latest" if self.rng.random() < 0.2 else None
        self.kaggle.moves_asked += image is not None
        with suppress(KaggleManagerError):  # a person tries again with the next tick
            self.manager().go_on(SECTION, timesteps=self.drawn.target, session_limit=self.drawn.limit_s, image=image)
        self.kaggle.may_push = True

    def status(self) -> RunReport | None:
        if not self.config.journal.is_file():
            return None
        with closing(Journal(self.config.journal)) as journal:
            row = current_run(self.config, journal)
            return None if row is None else describe_run(RunState(journal, row), self.clock())

    # --- judgement ----------------------------------------------------------------------------------------------------

    def _judge_tree(self, *, was_killed: bool) -> None:
        """The step never goes back, and every model is the one of its step."""
        # Cut between two renames of a restore; the next start that comes so far finishes it.
        self._is_cut = (was_killed or self._is_cut) and not self.tree.root.exists()
        if self._is_cut:
            return
        valid = CheckpointStore(self.tree).valid_checkpoints()
        step = valid[0].step if valid else 0
        if step < self._best_step:
            raise BrokenPromise(f"the tree went back from step {self._best_step} to {step}")
        self._best_step = step
        for checkpoint in valid:
            if checkpoint.model_path.read_bytes() != model_at(checkpoint.step):
                raise BrokenPromise(f"the checkpoint of step {checkpoint.step} holds another model")

    def judge_end(self) -> None:
        kaggle, result = self.kaggle, self.result
        kaggle.settle()
        result.faults = kaggle.faults
        result.sessions = len(kaggle.sessions)
        result.weeks = (self.clock() - BEGINNING) / WEEK_S
        if again := [key for key, count in kaggle.known_pushes().items() if count > 1]:
            raise BrokenPromise(f"pushed more than once: {again}")
        self._count_steps()
        if result.outcome == "finished":
            self._judge_final()
        else:
            status = self.status()
            if status is not None and not status.human_action_required:
                raise BrokenPromise(f"it waits for a person, and status says {status.state}: {status.why}")

    def _judge_final(self) -> None:
        target, final = self.drawn.target, CheckpointStore(self.tree).final()
        head = CheckpointStore(self.tree).find_latest_checkpoint()
        if final is None or head is None or (final.step, head.step) != (target, target):
            raise BrokenPromise("it calls itself finished without the final model of its target")
        if final.model_path.read_bytes() != model_at(target):
            raise BrokenPromise("the final model is not the one an uninterrupted training gives")

    def _count_steps(self) -> None:
        """Nothing is repeated but what a death, or somebody else, took: at most one save interval for a death."""
        own = [session for session in self.kaggle.sessions if session.ending and not session.is_misfiled]
        every = self.drawn.trainer.save_every
        for session, after in itertools.zip_longest(own, own[1:]):
            ending = session.ending
            assert ending is not None
            self.result.steps += ending.trained - ending.began
            self.result.deaths += not ending.has_last_word
            if after is None or after.ending is None or after.ending.log == []:
                continue
            start = after.order["parent"]["min_step"] if after.order["parent"] else 0
            repeated = max(0, ending.trained - start)
            self.result.repeated += repeated
            if ending.kept and repeated > every:
                raise BrokenPromise(f"generation {after.generation} repeats {repeated} steps; saved every {every}")


C = TypeVar("C", bound=Campaign)


def play(made: Callable[[Path], C], folder: Path | None, *, aloud: bool) -> C:
    """Run the campaign that `made` gives for its folder; `result` says how it went, also when a promise was broken.

    Args:
        folder: where it works, kept afterwards; None: in memory where there is a file system in memory, and gone.
        aloud: print all that the manager said, and what really happened.
    """
    memory = Path("/dev/shm")
    place = folder or Path(tempfile.mkdtemp(prefix="km_campaign_", dir=memory if memory.is_dir() else None))
    begun = time.process_time()
    campaign = made(place)
    if aloud:
        campaign.speak()
    result = campaign.result
    try:
        with campaign.stage():
            campaign.run()
    except BrokenPromise as broken:
        result.outcome, result.why = "broken", str(broken)
    except Exception as error:  # a foreign exception is a broken promise too
        result.outcome, result.why = "broken", f"{type(error).__name__}: {error}"
        if aloud:
            raise
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
    result.cpu_s = time.process_time() - begun
    return campaign


def run_campaign(seed: int, project: Path, folder: Path | None = None, *, aloud: bool = False) -> Result:
    """Run the campaign of `seed`; see `play`.

    Args:
        project: from `make_project`.
    """
    return play(lambda place: Campaign(seed, place, project), folder, aloud=aloud).result
