"""Whatever goes wrong, a run reaches its target or stands still for a person and says what to do.

Each seed is one campaign; `scripts/benchmarks/campaigns.py --only SEED` runs it alone, aloud.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign import run_campaign

pytestmark = pytest.mark.slow

SEEDS, PARTS = 120, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_campaigns_end_well(part: int, project: Path) -> None:
    results = [run_campaign(seed, project) for seed in range(part, SEEDS, PARTS)]
    broken = [f"seed {result.seed}: {result.why}" for result in results if not result.is_well]
    assert not broken, "\n".join(broken)
    finished = [result for result in results if result.outcome == "finished"]
    assert len(finished) > 0.8 * len(results), "most campaigns are not to need a person"
    assert sum(result.kills for result in results) > 10, "the manager was to be killed"
    assert sum(sum(result.faults.values()) for result in results) > 200, "much was to go wrong"


def test_a_seed_is_one_history(project: Path) -> None:
    first, again = (run_campaign(7, project) for _ in range(2))
    first.cpu_s = again.cpu_s = 0.0
    assert first == again
