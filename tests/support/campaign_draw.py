"""What the seed of a campaign stands for: the run, what goes wrong and how often, and who comes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from simulated_record import Odds
from simulated_session import Trainer

BEGINNING = 1_800_000_000.0
MINUTE, HOUR = 60.0, 3600.0
ALL_FATES = (
    "killed", "crash", "memory", "install", "device", "wedge", "half a save", "no final", "nothing kept", "damaged",
    "deleted", "cancelled", "zombie",
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """What a seed stands for.

    Attributes:
        jumps: share of the passes under a clock that is wrong by days. disk_fills: of those from which on the journal
            cannot be written for a while. elsewhere: quota that other sessions reserve at first, and how long.
    """

    target: int
    limit_s: float
    week_s: float
    trainer: Trainer
    odds: Odds
    tick_every_s: float
    kills: float
    person_comes: float
    auth_until: float
    wrong_setting_from: float
    jumps: float = 0.0
    disk_fills: float = 0.0
    elsewhere: tuple[float, float] = (0.0, 0.0)
    stopper_comes: float = 0.0


def draw(seed: int) -> Drawn:
    """The campaign of a seed."""
    rng = random.Random(seed)
    steps_per_s = 10 ** rng.uniform(-0.5, 1.5)
    limit_s = rng.choice([0.5, 1, 3, 6, 9, 12]) * HOUR
    setup_s = min(rng.uniform(30, 600), limit_s / 6)
    sessions_needed = rng.choice([0.3, 1, 1.5, 2, 3, 4])
    target = max(4, int(sessions_needed * limit_s * steps_per_s))
    save_every = max(1, int(rng.choice([0.02, 0.05, 0.1, 0.3]) * limit_s * steps_per_s))
    bug_at = rng.randrange(target) if rng.random() < 0.05 else None
    misery = rng.choice([0.0, 0.5, 1.0, 2.0])

    def odds(most: float) -> float:
        return rng.choice([0.0, rng.uniform(0, most), rng.uniform(0, most)]) * misery

    fates = tuple(rng.sample(ALL_FATES, rng.randint(1, len(ALL_FATES))))
    drawn = Drawn(
        target=target,
        limit_s=limit_s,
        week_s=rng.choice([30.0, 30.0, 30.0, 12.0, 4.0]) * HOUR,
        trainer=Trainer(steps_per_s, setup_s, save_every, bug_at),
        odds=Odds(
            call_fails=odds(0.08),
            unknown=odds(0.2),
            wrong_version=odds(0.03),
            denied=odds(0.05),
            partial=odds(0.1),
            damage=odds(0.05),
            push_unanswered=odds(0.3),
            push_changed=odds(0.05),
            stale_mount=odds(0.1),
            death=odds(0.4),
            fates=fates,
            queue_s=rng.choice([10.0, 300.0, HOUR]),
            end_lag_s=rng.choice([1.0, 60.0, 20 * MINUTE]),
            outputs_lag_s=rng.choice([0.0, 5.0, 40.0]),
            busy=odds(0.3),
            cleaned=odds(0.4),
            publish_unanswered=odds(0.3),
            stops=odds(0.01),
            ingestion_s=rng.choice([30.0, 30.0, 20 * MINUTE, 5 * HOUR]),
        ),
        tick_every_s=max(20 * MINUTE, limit_s * rng.choice([0.4, 1.0, 1.5])),
        kills=rng.choice([0.0, 0.1, 0.4]) * min(1.0, misery),
        person_comes=rng.choice([0.0, 0.8, 1.0]),
        auth_until=BEGINNING + rng.uniform(0, 3 * 24 * HOUR) if rng.random() < 0.1 else float("inf"),
        wrong_setting_from=BEGINNING + rng.uniform(0, 3 * 24 * HOUR) if rng.random() < 0.05 else float("inf"),
    )
    trainer = replace(
        drawn.trainer,
        diverges_at=rng.randrange(target) if rng.random() < 0.01 else None,
        litters=rng.random() < 0.4,
    )
    return replace(
        drawn,
        trainer=trainer,
        stopper_comes=1.0,
        jumps=odds(0.2),
        disk_fills=odds(0.05),
        elsewhere=(odds(1.0) * drawn.week_s, BEGINNING + rng.choice([0.8, 5.0, 30.0]) * HOUR),
        odds=replace(
            drawn.odds,
            image_moves=odds(0.4),
            image_gone=odds(0.3),
            late_mount=odds(0.1),
            other_sizes=odds(0.3),
            erratic_quota=odds(0.1),
            unshown=odds(0.1),
        ),
    )
