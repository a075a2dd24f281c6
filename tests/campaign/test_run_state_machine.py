"""Any sequence of passes, deaths, waits, lies and people keeps the run's promises, and leaves it able to end.

Hypothesis chooses what happens; the simulated Kaggle breaks a `BrokenPromise` at what must never be: two live sessions
of one lineage, a generation pushed twice, saved steps left behind, more quota than there is, a push on UNKNOWN.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from campaign import Campaign
from campaign_draw import ALL_FATES, BEGINNING, HOUR, Drawn
from campaign_stage import make_project, stage
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from simulated_record import Odds
from simulated_session import Trainer

CALM = Odds()
TROUBLE = {
    "unanswered calls": {"call_fails": 0.5},
    "unknown states": {"unknown": 1.0},
    "ends of other sessions": {"wrong_version": 1.0},
    "denials": {"denied": 1.0},
    "partial listings": {"partial": 0.5},
    "damaged downloads": {"damage": 1.0},
    "pushes without answers": {"push_unanswered": 1.0},
    "pushes changed": {"push_changed": 1.0},
    "stale mounts": {"stale_mount": 1.0},
    "no room": {"busy": 1.0},
}
RUN = Drawn(
    target=200_000,
    limit_s=6 * HOUR,
    week_s=16 * HOUR,
    trainer=Trainer(steps_per_s=4.0, setup_s=300.0, save_every=5_000),
    odds=CALM,
    tick_every_s=HOUR,
    kills=0.0,
    person_comes=1.0,
    auth_until=float("inf"),
    wrong_setting_from=float("inf"),
)


class RunMachine(RuleBasedStateMachine):
    """One run whose luck is chosen."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="run_", dir=memory if memory.is_dir() else None))
        self.campaign = Campaign(1, self.folder, make_project(self.folder / "project"), RUN)
        self.stage = stage(self.campaign.mortality)
        self.stage.__enter__()

    def teardown(self) -> None:
        try:
            self.ends()
        finally:
            self.stage.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    def ends(self) -> None:
        """Once nothing goes wrong any more, and a person looks after it, the run ends by itself."""
        campaign = self.campaign
        campaign.kaggle.odds = CALM
        campaign.person()
        for _ in range(80):
            if campaign.result.outcome:
                break
            campaign.tick()
            campaign.clock.sleep(5 * HOUR)
        campaign.judge_end()
        assert campaign.result.outcome == "finished"

    @rule()
    def tick(self) -> None:
        self.pass_by(None)

    @rule(deeds=st.integers(0, 60))
    def tick_and_die(self, deeds: int) -> None:
        self.pass_by(deeds)

    def pass_by(self, deeds: int | None) -> None:
        if not self.campaign.result.outcome:
            self.campaign.tick(deeds)

    @rule(hours=st.sampled_from([0.01, 0.3, 2.0, 7.0, 60.0]))
    def wait(self, hours: float) -> None:
        self.campaign.clock.sleep(hours * HOUR)

    @rule(name=st.sampled_from(sorted(TROUBLE)), seed=st.integers(0, 9))
    def trouble(self, name: str, seed: int) -> None:
        kaggle = self.campaign.kaggle
        kaggle.odds = replace(kaggle.odds, **TROUBLE[name])
        kaggle.rng = random.Random(seed)

    @rule()
    def calm(self) -> None:
        self.campaign.kaggle.odds = CALM

    @rule(kind=st.sampled_from(ALL_FATES))
    def sessions_die(self, kind: str) -> None:
        self.campaign.kaggle.odds = replace(self.campaign.kaggle.odds, death=1.0, fates=(kind,))

    @rule()
    def person(self) -> None:
        self.campaign.person()

    @invariant()
    def one_session_lives(self) -> None:
        live = [s for s in self.campaign.kaggle.alive() if not s.is_misfiled]
        assert len(live) <= 1
        assert self.campaign.clock() >= BEGINNING


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    derandomize=True,
)
