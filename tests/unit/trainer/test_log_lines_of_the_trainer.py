"""The trainer speaks to the manager in a kernel, and to a person on a laptop."""

from __future__ import annotations

import pytest

from kaggle_manager.trainer.runtime.console_format import sentence
from kaggle_manager.trainer.runtime.log_lines import say, spoken

PROGRESS = {"step": 1200, "target": 3000, "steps_per_s": 35.25, "reward": -12.345, "checkpoint": 1000}
EVALUATION = {"step": 1000, "score": 1.5, "best": True, "episodes": 1, "env_steps": 9, "seconds": 3.21}


def test_a_kernel_prints_lines_for_machines_and_a_laptop_words(capsys: pytest.CaptureFixture[str]) -> None:
    with spoken(sentence):
        say("KM_PROGRESS", **PROGRESS)
        say("KM_RESUME", step=0, target=3000)  # said in words beside it
    say("KM_PROGRESS", step=1)
    assert capsys.readouterr().out.splitlines() == [
        "  step 1,200 of 3,000 (40%), 35.2 steps/s, reward -12.3, saved at 1,000, 51 s to go",
        'KM_PROGRESS {"step": 1}',
    ]


def test_an_evaluation_in_words() -> None:
    text = sentence("KM_EVAL", EVALUATION)
    assert text == "  evaluated at step 1,000: mean reward 1.500 (1 episode in 3.21 s), the best so far"
    text = sentence("KM_EVAL", EVALUATION | {"score": None, "best": False, "episodes": 5})
    assert text == "  evaluated at step 1,000: mean reward no number (5 episodes in 3.21 s)"


def test_a_first_progress_knows_little() -> None:
    unknown = {"steps_per_s": None, "reward": None, "checkpoint": None}
    assert sentence("KM_PROGRESS", {"step": 0, "target": 5, **unknown}) == "  step 0 of 5 (0%)"


def test_long_waits_are_said_in_hours() -> None:
    text = sentence("KM_PROGRESS", PROGRESS | {"target": 1_000_000, "steps_per_s": 35.0})
    assert text.endswith("7 h 55 min to go")
