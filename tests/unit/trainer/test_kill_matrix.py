"""What the table of the kill matrix calls identical is that, and what it has is not run again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from kill_matrix import Cell, as_table, read

from kaggle_manager.trainer.sb3.selftest import Proof

GOOD = Proof("ppo", [], "pickle", 7, 2, 1, 1.0)
DIFFERENT = Proof("ppo", ["random"], "pickle", 7, 2, 1, 1.0)
CALLED_INEXACT = Proof("ppo", [], "none", 7, 2, 1, 1.0)
NEVER_RESUMED = Proof("ppo", [], "pickle", 0, 2, 1, 1.0)
NEVER_KILLED = Proof("ppo", [], "pickle", 7, 0, 0, 1.0)


@pytest.mark.parametrize("proof", [DIFFERENT, CALLED_INEXACT, NEVER_RESUMED, NEVER_KILLED, None])
def test_a_cell_is_good_only_if_what_was_killed_ends_the_same_and_says_so(proof: Proof | None, tmp_path: Path) -> None:
    cells = [Cell("ppo", "a", proof, "it crashed"), Cell("sac", "a", GOOD)]
    assert [cell.is_good for cell in cells] == [False, True]
    kept = tmp_path / "cells.jsonl"
    kept.write_text("".join(json.dumps(asdict(cell)) + "\n" for cell in cells))
    assert read(kept) == {"sac": cells[1]}, "what is not good is run again"


def test_a_cell_that_is_not_good_is_seen_in_the_table_and_one_that_was_not_run_is_called_that() -> None:
    table = "\n".join(as_table([Cell("ppo", "a", DIFFERENT), Cell("a2c", "a", CALLED_INEXACT), Cell("sac", "a", GOOD)]))
    plain = next(line for line in table.splitlines() if line.startswith("| nothing beside the algorithm |"))
    assert plain == (
        "| nothing beside the algorithm | not run | identical, 2 (1) | not run | **differs in random** "
        "| **identical, though called inexact** |"
    )
