"""Invented data of the second study, kept as real data is: for tests of what is made of it, never a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from validation_ch7.section_7_6_rl_performance.episodes import PARTS
from validation_ch7.section_7_6_rl_performance.second_study.episodes import Episode
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration, read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.playing import AS_TRAINED, places
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept, Place, Played

SMALL = """
status = "declared"
[agents.main]
scenarios = { synthetic = "signal_control" }
training_seeds = [101, 102, 103]
[traffic]
held_out = { first = 7_700_001, count = 20 }
shifted_episodes = 4
conditions = ["demand x1.2"]
[ablation]
scenario = "signal_control"
timesteps = 12
training_seeds = [301]
save_every = 4
session_decisions = 10
sessions = 3
traffic = { first = 7_700_001, count = 1 }
[judgement]
model = "final"
margin_s = 1.0
gridlock_margin = 0.2
confidence = 0.95
resamples = 500
baselines = ["fixed_time", "greedy_queue", "random"]
"""
"""A declaration whose study takes seconds."""

EPISODE = Episode(
    seed=1, demand=100, completed=95, unfinished=5, never_inserted=0, mean_delay_s=30.0, mean_inside_s=25.0,
    mean_outside_s=5.0, p95_delay_s=80.0, worst_delay_s=150.0, mean_stops=1.0, mean_queue=6.0, max_queue=20,
    switches_h=90.0, longest_red_s=60, gridlock_onset_s=None, delay_by_part_s=(30.0,) * PARTS, digest="0" * 32,
)  # fmt: skip


def episode(seed: int, delay_s: float, onset_s: float | None = None) -> Episode:
    """One episode of this mean delay, gridlocked from `onset_s` on."""
    return replace(
        EPISODE, seed=seed, mean_delay_s=delay_s, mean_inside_s=0.8 * delay_s, mean_outside_s=0.2 * delay_s,
        gridlock_onset_s=onset_s, delay_by_part_s=(delay_s,) * PARTS, digest=f"{seed:032x}",
    )  # fmt: skip


def small_declaration(folder: Path) -> Declaration:
    """`SMALL`, as a file of `folder`."""
    file = folder / "declaration.toml"
    file.write_text(SMALL, encoding="utf-8")
    return read_declaration(file)


def keep_invented(
    folder: Path, declaration: Declaration, delays_s: Mapping[str, float], gridlocked: Mapping[str, int]
) -> Kept:
    """Keep invented episodes and trainings of everything that is declared.

    Args:
        delays_s: controller -> its mean delay; 30 for others.
        gridlocked: controller -> how many of its first episodes gridlock.
    """
    kept = Kept(folder)
    for site in declaration.sites:
        for place in places(declaration, site):
            kept.keep_episodes(
                Played(place, {"simulator": "SUMO 1.28.0"}, _episodes(declaration, place, delays_s, gridlocked))
            )
        for agent, each in declaration.agents.items():
            for seed in each.training_seeds:
                kept.keep_training(site, agent, seed, training(seed, declaration), b"no policy")
    return kept


def _episodes(
    declaration: Declaration, place: Place, delays_s: Mapping[str, float], gridlocked: Mapping[str, int]
) -> tuple[Episode, ...]:
    seeds = declaration.traffic_seeds(place.condition, place.controller, place.training)
    of_traffic = [float(np.random.default_rng(seed).standard_normal()) for seed in seeds]  # what it does to all
    noise = np.random.default_rng([ord(letter) for letter in place.name])
    level = delays_s.get(place.controller, 30.0) * (1.0 if place.condition == AS_TRAINED else 1.3)
    found = level + 0.3 * np.array(of_traffic) + 0.1 * noise.standard_normal(len(seeds))
    jammed = gridlocked.get(place.controller, 0) if place.condition == AS_TRAINED else 0
    return tuple(
        episode(seed, delay + 300 * (number < jammed), 1500.0 + 60 * number if number < jammed else None)
        for number, (seed, delay) in enumerate(zip(seeds, found.tolist(), strict=True))
    )


def training(seed: int, declaration: Declaration) -> dict[str, Any]:
    """What is kept of a training that nobody did."""
    steps = [720 * (number + 1) for number in range(100)]
    return {
        "run_id": f"local-{seed:08x}", "generations": 2, "seed": seed, "step": 72_000, "target": 72_000,
        "code_sha256": "c" * 64, "declaration": declaration.sha256, "exact": "action-replay", "exact_broken": [],
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "stable_baselines3": "2.9.2"}, "session_ends": [40_000],
        "training_seconds": 300.0, "evaluation_seconds": 20.0,
        "curves": {"episode_steps": steps, "episode_returns": [-2.5 - 10.0 * 0.95**n for n in range(100)],
                   "evaluation_steps": [24_000], "evaluation_returns": [[-60.0, None]]},
    }  # fmt: skip
