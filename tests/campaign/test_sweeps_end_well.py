"""Whatever goes wrong, a sweep comes to the trials, promotions and best that its table and its scores alone decide.

Each seed is one sweep; `scripts/benchmarks/campaigns.py --sweeps --only SEED` runs it alone, aloud.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_campaign import run_sweep
from sweep_draw import draw_sweep

pytestmark = pytest.mark.slow

# Of the first sixty: short ones, in which trials crash, sessions die, managers are killed, and a curve comes damaged.
SEEDS = (3, 12, 14, 23, 34, 46, 50, 52, 57)


def test_sweeps_end_well(project: Path) -> None:
    pytest.importorskip("optuna")
    results = [run_sweep(seed, project) for seed in SEEDS]
    broken = [f"seed {result.seed}: {result.why}" for result in results if not result.is_well]
    assert broken == []
    assert sum(result.kills for result in results) > 20, "the manager was to be killed"
    assert sum(result.promoted for result in results) > 10, "trials were to be promoted"


@pytest.mark.parametrize("seed", [57])
def test_a_sweep_of_killed_managers_and_sessions_has_the_trials_and_the_best_of_one_that_nothing_disturbs(
    seed: int, project: Path
) -> None:
    pytest.importorskip("optuna")
    disturbed = run_sweep(seed, project)
    whole = run_sweep(seed, project, drawn=draw_sweep(seed).undisturbed())
    assert (whole.outcome, whole.kills, whole.deaths) == ("finished", 0, 0), whole.why
    assert disturbed.kills > 0
    assert disturbed.deaths > 0
    assert disturbed.found == whole.found
