"""One seed, one sweep: the real loop on the simulated Kaggle, killed and begun anew, until every trial is over.

What is judged is what the simulated Kaggle knows to have happened, and what the results alone would have decided. A
sweep ends well when every trial is over, or when it waits for the user and says what the user must do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from campaign import Campaign, Result, play
from campaign_draw import HOUR, MINUTE
from campaign_stage import SCENARIO, SECTION, stage
from simulated_dataset import Version
from simulated_kaggle import BrokenPromise, SimulatedKaggle
from simulated_session import Trainer, model_at
from sweep_draw import DrawnSweep, draw_sweep
from virtual_process import Killed

from kaggle_manager import config
from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import ConfigError, KaggleManagerError, KernelFailed, NotFinished, RemoteError
from kaggle_manager.platforms.platform import SessionRequest, StartedSession
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import get_section
from kaggle_manager.sections.trial import study_folder
from kaggle_manager.sweeps import loop as sweeping
from kaggle_manager.sweeps.decide import Begin, Done, Promote, Wait, decide
from kaggle_manager.sweeps.loop import SweepLoop
from kaggle_manager.sweeps.report import report_of
from kaggle_manager.sweeps.sampler import suggest
from kaggle_manager.sweeps.study import STOP_FILE, STUDY_FILE, Study, StudyState, hold_sweep

MOST_ROUNDS, MOST_LIVES, MOST_PERSONS = 1500, 200, 12
THE_USERS = ("HTTPS_PROXY", "filed")
"""What a `ConfigError` of a sweep may be about: what the user alone can correct."""


@dataclass
class SweepResult(Result):
    """How one sweep went. `ticks` counts rounds of its loop.

    Attributes:
        failed: trials that did. unlucky: those of them whose sessions died again and again, of no fault of the trial's.
        found: of each trial its values, when it was sent to each rung, and its scores; and the best one, by number.
    """

    trials: int = 0
    promoted: int = 0
    failed: int = 0
    unlucky: int = 0
    found: Any = None


class SweepKaggle(SimulatedKaggle):
    """A simulated Kaggle on which each trial trains in its own way, and each push is held against the sweep."""

    of: SweepCampaign

    def trainer_of(self, order: Mapping[str, Any]) -> Trainer:
        return self.of.sweep.trainer(order["trial"]["values"])

    def start(self, push: SessionRequest) -> StartedSession:
        with self.of.noting():
            return super().start(push)

    def order_version(self, versions: list[Version]) -> RemoteError | None:
        with self.of.noting():
            return super().order_version(versions)

    def _check_push(self, push: SessionRequest, order: dict[str, Any]) -> None:
        super()._check_push(push, order)
        self.of.judge_push(order)


class SweepCampaign(Campaign):
    """One sweep on one simulated Kaggle."""

    KAGGLE = SweepKaggle
    kaggle: SweepKaggle
    result: SweepResult

    def __init__(self, seed: int, folder: Path, project: Path, drawn: DrawnSweep) -> None:
        super().__init__(seed, folder, project, drawn.run)
        self.sweep, self.result = drawn, SweepResult(seed)
        self.kaggle.of, self.kaggle.slots = self, drawn.slots
        self.study_folder = study_folder(self.config.state, SECTION)
        self._broken: list[BrokenPromise] = []
        self._known = StudyState(scenario="", stops=(), sweep={}, experiment="")

    @property
    def study(self) -> Study:
        return Study.read(self.study_folder)

    def build(self, scenario: str, seed: int | None) -> RunConfig:
        return build_config(
            SECTION,
            scenario=scenario,
            seed=seed,
            workdir=self.workdir,
            project_root=self.project,
            platform="kaggle",
            environ={},
            session_limit=self.drawn.limit_s,
        )

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Where it plays: the section has its table. Optuna's own file, which decides nothing, is left out."""
        section = get_section(self.project, SECTION)
        swept = section.scenarios[SCENARIO].model_copy(update={"timesteps": self.drawn.target})
        section = section.model_copy(update={"scenarios": {SCENARIO: swept}, "sweep": self.sweep.table})

        def with_table(root: Path, name: str) -> Section:
            return section

        with (
            stage(self.mortality),
            mock.patch.object(config, "get_section", with_table),
            mock.patch.object(sweeping, "write_storage"),
        ):
            yield

    # --- the way ------------------------------------------------------------------------------------------------------

    def run(self) -> SweepResult:
        """Carry it on until every trial is over, or the user does not come.

        Raises:
            BrokenPromise: what must never be has been.
        """
        lives = 0
        while not self.result.outcome:
            lives += 1
            if lives > MOST_LIVES:
                raise BrokenPromise(f"no end after {MOST_LIVES} managers")
            self._live()
            self.clock.sleep(self.rng.uniform(MINUTE, self.sweep.every_s))
        self.judge_end()
        return self.result

    def _live(self) -> None:
        """One manager, from the command to its end."""
        self._clean()
        self._set_clock()
        self.mortality.disk_is_full = self.rng.random() < self.drawn.disk_fills
        self.kaggle.faults["disk full for the journal"] += self.mortality.disk_is_full
        is_mortal = self.result.kills < self.sweep.kills
        self.mortality.arm(int(self.rng.expovariate(1 / self.sweep.deeds)) if is_mortal else None)
        error: KaggleManagerError | None = None
        try:
            self.carry_on()
            self.result.outcome = "finished"
        except Killed:
            self.result.kills += 1
            self.tell("THE MANAGER IS KILLED")
        except KaggleManagerError as ended_by:
            error = ended_by
            self.tell(f"ERROR {type(error).__name__}: {error}")
        self.mortality.arm(None)
        if self._broken:
            raise self._broken[0]
        was_full, self.mortality.disk_is_full = self.mortality.disk_is_full, False
        self._judge_study()
        if error is not None:
            self._after_life(error, was_full=was_full)

    def carry_on(self) -> None:
        """What the command does."""
        drawn = self.sweep
        with hold_sweep(self.study_folder):
            study = Study.begin(self.study_folder, SCENARIO, drawn.stops, drawn.table, "it")
            SweepLoop(
                self.manager(),
                study,
                self.build,
                self.reporter,
                drawn.table.trials,
                drawn.max_sessions,
                clock=lambda: self.clock() + self.wrong_by_s,
                sleep=self._sleep,
            ).run()

    def _sleep(self, seconds: float) -> None:
        """Between two rounds the machine sleeps, so that there are few; until the reset where the quota is used up."""
        self.result.ticks += 1
        if self.result.ticks > MOST_ROUNDS:
            raise BrokenPromise(f"no end after {MOST_ROUNDS} rounds")
        every_s = self.sweep.every_s * self.rng.uniform(0.7, 1.3)
        if self.kaggle.left_s() < self.drawn.limit_s and not self.kaggle.alive():
            every_s = self.kaggle.refresh_at() - self.clock() + MINUTE
        self.clock.sleep(max(seconds, every_s))

    def _perhaps_stop(self, name: str) -> None:
        """The user stops the sweep, between any two steps of the manager's."""
        if not self.mortality.resting and self.rng.random() < self.sweep.stops_odds:
            (self.study_folder / STOP_FILE).touch()
            self.kaggle.faults["a stop of the sweep"] += 1

    def _after_life(self, error: KaggleManagerError, *, was_full: bool) -> None:
        if not error.next_step:
            raise BrokenPromise(f"no next step: {type(error).__name__}: {error.message}")
        if isinstance(error, NotFinished) or was_full:  # the user stopped it, and runs it again
            return
        if error.retryable:
            raise BrokenPromise(f"it ends though time alone helps: {type(error).__name__}: {error.message}")
        if isinstance(error, KernelFailed) != bool(self.study.state.halted):
            raise BrokenPromise(f"halted {self.study.state.halted!r}, and ended by {error.message}")
        if type(error) is ConfigError and not any(word in error.message for word in THE_USERS):
            raise BrokenPromise(f"the user is asked for, and has done nothing: {error.message}")
        self.kaggle.faults["the user is asked for"] += 1
        if self.rng.random() >= self.drawn.person_comes or self.result.persons >= MOST_PERSONS:
            self.result.outcome, self.result.why = "waits for a person", f"{type(error).__name__}: {error.message}"
        self.result.persons += 1
        self.kaggle.mend_token()
        self.kaggle.mend_setting()
        self.kaggle.delete_misfiled()
        self.kaggle.delete_empty()

    # --- judgement ----------------------------------------------------------------------------------------------------

    @contextmanager
    def noting(self) -> Iterator[None]:
        """A promise that is broken stays so, whoever else dies before it is raised to the end."""
        try:
            yield
        except BrokenPromise as broken:
            self._broken.append(broken)
            raise

    def judge_push(self, order: dict[str, Any]) -> None:
        """A trial is written down before it is begun; it is sent to its next rung and no further; room is kept."""
        study, trial = self.study, order["trial"]
        begun = {each.number: each for each in study.state.trials}.get(trial["number"])
        if begun is None or begun.values != trial["values"]:
            raise BrokenPromise(f"trial {trial['number']} is begun and not written down, or of other values")
        goal, start = len(begun.sent) - 1, order["parent"]["min_step"] if order["parent"] else 0
        if len(study.results_of(begun.number)) > goal:
            raise BrokenPromise(f"trial {begun.number} goes on, and nobody has promoted it")
        if goal and start < study.state.stops[goal - 1]:
            raise BrokenPromise(f"trial {begun.number} was promoted at {study.state.stops[goal - 1]}, not at {start}")
        end = start + (order["max_steps"] or order["target"] - start)
        if end > study.state.stops[goal] or order["target"] != study.state.stops[-1]:
            raise BrokenPromise(f"trial {begun.number} is sent to {end}, past its rung {goal}")
        live = sum(not session.is_misfiled for session in self.kaggle.alive())
        if self.sweep.max_sessions is not None and live >= self.sweep.max_sessions:
            raise BrokenPromise(f"a session is pushed beside {live}, and the user allows {self.sweep.max_sessions}")

    def _judge_study(self) -> None:
        """What was written down stays: trials with their values, and results, each once and as its run told it."""
        if not (self.study_folder / STUDY_FILE).is_file():
            return
        study, known = self.study, self._known
        for then, now in zip(known.trials, study.state.trials, strict=False):
            if (then.number, then.values, then.sent) != (now.number, now.values, now.sent[: len(then.sent)]):
                raise BrokenPromise(f"trial {then.number} was changed")
        if len(known.trials) > len(study.state.trials) or study.state.results[: len(known.results)] != known.results:
            raise BrokenPromise("a trial or a result was lost")
        self._known = study.state
        values = {each.number: each.values for each in study.state.trials}
        if [*values] != [*range(len(values))]:
            raise BrokenPromise(f"trials {[*values]}")
        for number in values:
            scores = [result.score for result in study.results_of(number) if result.score is not None]
            if scores != [self.sweep.judged(values[number], rung) for rung in range(len(scores))]:
                raise BrokenPromise(f"trial {number} was told {scores}")
            if len(study.results_of(number)) > len(study.state.trials[number].sent):
                raise BrokenPromise(f"trial {number} was told twice")

    def judge_end(self) -> None:
        kaggle, result = self.kaggle, self.result
        kaggle.settle()
        result.faults, result.sessions = kaggle.faults, len(kaggle.sessions)
        result.weeks = (self.clock() - kaggle._epoch) / (7 * 24 * HOUR)
        if again := [key for key, count in kaggle.known_pushes().items() if count > 1]:
            raise BrokenPromise(f"pushed more than once: {again}")
        if not (self.study_folder / STUDY_FILE).is_file():
            return
        self._count(self.study)
        self._judge_runs(self.study)
        self._judge_decisions(self.study)
        if result.outcome == "finished":
            self._judge_trees(self.study)

    def _count(self, study: Study) -> None:
        result, report = self.result, report_of(study)
        result.trials = len(report.trials)
        result.promoted = sum(len(each.sent) - 1 for each in study.state.trials)
        failed = [trial for trial in report.trials if trial.failure]
        broken = [trial for trial in failed if self._breaks(trial.values) or not self.sweep.is_told]
        result.failed, result.unlucky = len(failed), len(failed) - len(broken)
        if lost := [trial for trial in failed if self.sweep.is_told and "it has told no" in trial.failure]:
            raise BrokenPromise(f"what a trial had told was lost: {lost}")
        odds = self.drawn.odds
        if result.unlucky and not (odds.death or odds.stale_mount or odds.late_mount or odds.push_changed):
            raise BrokenPromise(f"a trial failed though nothing was wrong with it: {failed}")
        trials = [(each.values, each.sent, report.trial(each.number).scores) for each in study.state.trials]
        scored = [trial for trial in report.trials if trial.scores]
        best = max(scored, key=lambda trial: (len(trial.scores), trial.scores[-1], -trial.number), default=None)
        if report.best[:1] != ((best.number,) if best else ()):
            raise BrokenPromise(f"the best is {best}, and the report says {report.best[:1]}")
        result.found = trials, report.best[:1]
        own = [session for session in self.kaggle.sessions if session.ending]
        result.steps = sum(s.ending.trained - s.ending.began for s in own if s.ending)
        result.deaths = sum(not s.ending.has_last_word for s in own if s.ending)

    def _breaks(self, values: Any) -> bool:
        trainer = self.sweep.trainer(values)
        return trainer.bug_at is not None or trainer.diverges_at is not None

    def _judge_runs(self, study: Study) -> None:
        """Each trial that was begun is one run of the journal, and no run is of anything else."""
        with closing(Journal(self.config.journal)) as journal:
            runs = Counter(run.scenario for run in journal.runs())
        names = {study.trial(each.number).name for each in study.state.trials}
        told = {study.trial(result.trial).name for result in study.state.results}
        if set(runs) - names or told - set(runs) or any(count > 1 for count in runs.values()):
            raise BrokenPromise(f"runs {runs} of trials {sorted(names)}, of which {sorted(told)} were told")

    def _judge_decisions(self, study: Study) -> None:
        """What was tried and promoted is what the results alone decide, whenever and in whatever order they came."""
        alone = replayed(study, self.sweep.table.trials, self.workdir / "replayed")
        for own, other in zip(study.state.trials, alone.trials, strict=False):
            if own.values != other.values or own.sent != other.sent[: len(own.sent)]:
                raise BrokenPromise(f"trial {own} is {other} by the results alone")
        lacks = len(study.state.trials) < len(alone.trials) or study.state.trials != alone.trials
        if len(study.state.trials) > len(alone.trials) or (lacks and self.result.outcome == "finished"):
            raise BrokenPromise(f"{study.state.trials} are {alone.trials} by the results alone")

    def _judge_trees(self, study: Study) -> None:
        """Each trial stands where it was judged, with the model of one that was never paused."""
        stops = study.state.stops
        for trial in report_of(study).trials:
            tree = TrainingTree(self.build(trial.scenario, None).tree, trial.scenario)
            store = CheckpointStore(tree)
            if trial.failure:
                continue
            head, final = store.find_latest_checkpoint(), store.final()
            step = stops[len(trial.scores) - 1]
            if head is None or head.step != step or head.model_path.read_bytes() != model_at(step, trial.scenario):
                raise BrokenPromise(f"trial {trial.number} does not stand at step {step}: {head}")
            is_whole = final is not None and final.model_path.read_bytes() == model_at(step, trial.scenario)
            if (step == stops[-1]) != is_whole:
                raise BrokenPromise(f"trial {trial.number} at step {step} of {stops[-1]} has the final model {final}")


def replayed(study: Study, trials: int, folder: Path) -> StudyState:
    """What the results of a study decide when each is told as soon as it is waited for."""
    again = Study.begin(folder, study.state.scenario, study.state.stops, study.sweep, study.state.experiment)
    rules = again.rules(trials)
    while not isinstance(action := decide(rules, again.views()), Done):
        match action:
            case Begin(at=at):
                again.add(suggest(again, at), at)
            case Promote(number=number, at=at):
                again.promote(number, at)
            case Wait():
                pending = [view for view in again.views() if view.is_on_its_way]
                known = [result for view in pending for result in study.results_of(view.number)[view.goal :][:1]]
                if not known:
                    break
                again.tell(known[0])
    return again.state


def run_sweep(
    seed: int, project: Path, folder: Path | None = None, *, drawn: DrawnSweep | None = None, aloud: bool = False
) -> SweepResult:
    """Run the sweep of `seed`; see `campaign.play`.

    Args:
        drawn: instead of what the seed stands for.
    """
    sweep = drawn or draw_sweep(seed)
    return play(lambda place: SweepCampaign(seed, place, project, sweep), folder, aloud=aloud).result
