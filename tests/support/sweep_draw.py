"""What the seed of a simulated sweep stands for: its table, the slots, what its trials come to, and what goes wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from campaign_draw import HOUR, MINUTE, Drawn, draw
from simulated_record import Odds
from simulated_session import Trainer

from kaggle_manager.sections.sweep import Sweep

RATE, BATCH = "hyperparameters.learning_rate", "hyperparameters.batch_size"
BREAKING = 128
"""The batch size of which trials break, in the sweeps that have such."""


@dataclass(frozen=True)
class DrawnSweep:
    """What a seed stands for.

    Attributes:
        run: how a trial trains, and what goes wrong meanwhile.
        table, stops: `[sweep]`, and where its trials are judged.
        slots: sessions that the account has. max_sessions: those that the user allows.
        breaks: when a trial of the breaking values crashes: `at once`, `on the way`; or `diverges`; '' for never.
        is_told: whether anybody reports the metric.
        kills: of the manager. deeds: how many it does in between, on average.
        stops_odds: share of the questions to the platform at which the user stops the sweep.
        every_s: from one round of the loop to the next.
    """

    run: Drawn
    table: Sweep
    stops: tuple[int, ...]
    slots: int
    max_sessions: int | None
    breaks: str
    is_told: bool
    kills: int
    deeds: float
    stops_odds: float
    every_s: float

    def undisturbed(self) -> DrawnSweep:
        """The same sweep where nothing goes wrong but its own trials."""
        far = float("inf")
        run = replace(self.run, odds=Odds(), auth_until=far, wrong_setting_from=far, jumps=0.0, disk_fills=0.0)
        return replace(self, run=run, kills=0, stops_odds=0.0)

    def score(self, values: Mapping[str, Any], step: int) -> float:
        """What an evaluation of these values comes to."""
        if not self.is_told:
            return math.nan
        luck = random.Random(f"{values[RATE]} {values[BATCH]} {step}").gauss(0.0, 1.0)
        return round(math.log1p(step) - 3.0 * abs(math.log10(values[RATE]) + 3.0) + luck, 6)

    def trainer(self, values: Mapping[str, Any]) -> Trainer:
        """How a trial of these values trains."""
        breaks = self.breaks if values[BATCH] == BREAKING else ""
        on_the_way = self.stops[0] // 2
        return replace(
            self.run.trainer,
            score=partial(self.score, values),
            bug_at={"at once": 0, "on the way": on_the_way}.get(breaks),
            diverges_at=on_the_way if breaks == "diverges" else None,
        )

    def judged(self, values: Mapping[str, Any], rung: int) -> float:
        """The score by which a trial of these values is judged at a rung."""
        every = self.run.trainer.evaluates_every
        return self.score(values, self.stops[rung] // every * every)


def draw_sweep(seed: int) -> DrawnSweep:
    """The sweep of a seed."""
    rng, run = random.Random(seed + 3_000_000_019), draw(seed)
    target = max(90, int(rng.choice([0.3, 0.6, 1.2]) * run.limit_s * run.trainer.steps_per_s))
    rungs = rng.choice([[], [target // 3], [target // 3], [target // 9, target // 3]])
    table = {
        "metric": "reward",
        "direction": "maximize",
        "trials": rng.randint(3, 8),
        "sampler": rng.choice(["random", "tpe"]),
        "pruner": rng.choice(["halving", "halving", "median", "none"]),
        "reduction": rng.choice([2, 3]),
        "at_once": rng.choice([1, 2, 3, 5, 8]),
        "rungs": rungs,
        "seed": seed,
        "space": {RATE: {"low": 1e-5, "high": 1e-1, "log": True}, BATCH: {"choices": [32, 64, BREAKING]}},
    }
    sweep = Sweep.model_validate(table)
    stops = sweep.stops(target)
    slots = rng.choice([1, 2, 2, 5])
    every_s = max(20 * MINUTE, run.limit_s * rng.choice([0.3, 0.6, 1.0]))
    week_s = rng.choice([1e4 * HOUR, 1e4 * HOUR, 4.0 * slots * run.limit_s])
    odds = replace(
        run.odds,
        death=0.4 * run.odds.death,
        busy=0.3 * run.odds.busy,
        push_changed=0.2 * run.odds.push_changed,
        stops=0.0,
        image_moves=0.0,
        image_gone=0.0,
    )
    trainer = replace(run.trainer, bug_at=None, diverges_at=None, evaluates_every=max(1, stops[0] // 2))
    return DrawnSweep(
        run=replace(run, target=target, week_s=week_s, trainer=trainer, odds=odds, elsewhere=(0.0, 0.0)),
        table=sweep,
        stops=stops,
        slots=slots,
        max_sessions=rng.choice([None, None, 1, 2]),
        breaks=rng.choice(["", "", "at once", "on the way", "diverges"]),
        is_told=rng.random() >= 0.03,
        kills=rng.choice([0, 2, 5, 15]),
        deeds=rng.choice([30.0, 100.0, 300.0]),
        stops_odds=rng.choice([0.0, 0.0, 0.0005]),
        every_s=every_s,
    )
