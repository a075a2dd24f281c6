"""An event in words, the same for the user of a laptop and for one who follows a session."""

from __future__ import annotations

import math

import pytest

from kaggle_manager.protocol.events import BundleEvent, EvaluationEvent, ProgressEvent, ResumeEvent
from kaggle_manager.protocol.sentences import exactness, sentence

PROGRESS = ProgressEvent(step=1200, target=3000, steps_per_s=35.25, reward=-12.345, checkpoint=1000)
EVALUATION = EvaluationEvent(step=1000, score=1.5, best=True, episodes=1, env_steps=9, seconds=3.21)


def progress(**changes: float | int | None) -> str:
    return sentence(PROGRESS.model_copy(update=changes))


def test_progress_says_where_it_is_and_when_it_will_be_there() -> None:
    assert progress() == "step 1200/3000 · target in 51 s · 35 steps/s · reward -12.3 · last checkpoint 1000"


def test_a_first_progress_knows_little() -> None:
    assert sentence(ProgressEvent(step=0, target=5)) == "step 0/5"


def test_a_slow_training_shows_its_decimals_and_one_at_its_target_no_forecast() -> None:
    assert "· 0.25 steps/s ·" in progress(steps_per_s=0.25)
    assert "target in" not in progress(step=3000)
    assert "target in" not in progress(steps_per_s=0.0)
    assert "target in" not in progress(steps_per_s=1e-320), "no number of seconds"


def test_long_waits_are_said_in_larger_units() -> None:
    assert " · target in 1 min 48 s · " in progress(target=5000)
    assert " · target in 7 h 55 min · " in progress(target=1_000_000, steps_per_s=35.0)
    assert " · target in 3 d 7 h · " in progress(target=10_000_000, steps_per_s=35.0)


def test_an_evaluation_in_words() -> None:
    assert sentence(EVALUATION) == "evaluated at step 1000: mean reward 1.500 (1 episode in 3.21 s), the best so far"
    other = EvaluationEvent(step=1000, score=math.nan, best=False, episodes=5, env_steps=9, seconds=3.21)
    assert sentence(other) == "evaluated at step 1000: mean reward unknown (5 episodes in 3.21 s)"


def test_the_code_is_named_and_what_the_trainer_prints_in_words_is_not_said_twice() -> None:
    assert sentence(BundleEvent(sha256="0123456789abcdef" * 4)) == "runs code sha256 0123456789ab…"
    assert sentence(ResumeEvent(step=1, target=2)) == ""


def test_the_first_loss_of_exactness_is_told_with_its_reason_and_later_ones_do_not_hide_it() -> None:
    broken = [{"step": 1200, "why": "torch: 2.1 -> 2.2"}, {"step": 3000, "why": "the target changed"}]
    assert exactness({"exact": "pickle", "broken": []}) == ""
    assert exactness({"broken": broken[:1]}) == "exact up to step 1,200, then torch: 2.1 -> 2.2"
    assert exactness({"broken": broken}) == "exact up to step 1,200, then torch: 2.1 -> 2.2 (and 1 more later)"
    began = [{"step": 2048, "why": "taken in from model.zip of stock Stable-Baselines3, without random states"}]
    assert exactness({"broken": began}).startswith("exact from step 2,048 on, where it was taken in from model.zip")


def test_what_no_save_holds_is_named_before_a_resume_goes_without_it() -> None:
    said = exactness({"exact": "none", "unsaved": ["hidden of Mine"], "broken": []})
    assert said == "exact until a session ends; from there on not, because of hidden of Mine"
    assert exactness({"unsaved": 7}) == exactness({"unsaved": []}) == ""


@pytest.mark.parametrize("broken", [None, 7, "x", [7, None], [{"step": "1"}], [{"step": True}], [{"why": "x"}]])
def test_nonsense_about_exactness_is_no_error(broken: object) -> None:
    assert exactness({"broken": broken}) == ""


def test_a_reason_from_a_session_is_cleaned_and_bounded() -> None:
    said = exactness({"broken": [{"step": 1, "why": "\x1b[31mred\nline" + "x" * 10_000}]})
    assert said.startswith("exact up to step 1, then red line")
    assert len(said) < 400
