"""What a sweep does next: from the table and the scores alone, in whatever order the results come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.sweeps.decide import Begin, Done, Halt, Promote, Rules, TrialView, Wait, best, decide, known_at

RULES = Rules(trials=9, stops=(10, 30, 90), at_once=5)
EVERY = 2
"""Of these workers one begins a trial each so many steps."""


def judged(*scores: float) -> list[TrialView]:
    return [TrialView(number, (EVERY * number,), (score,)) for number, score in enumerate(scores)]


def test_the_best_third_goes_on_as_soon_as_their_results_count() -> None:
    more = [TrialView(number, (EVERY * number,)) for number in range(3, 6)]
    at = 10 + 2 * EVERY
    assert decide(RULES, [*judged(1, 2, 3), *more]) == Begin(at - EVERY), "of the third one nothing is known yet"
    more.append(TrialView(6, (at - EVERY,)))
    assert decide(RULES, [*judged(1, 3, 2), *more]) == Promote(1, 1, at)
    assert decide(replace(RULES, maximize=False), [*judged(1, 3, 2), *more]) == Promote(0, 1, at)
    gone_on = [replace(each, sent=(*each.sent, at)) if each.number == 1 else each for each in judged(1, 3, 2)]
    assert decide(RULES, [*gone_on, *more]) == Wait(), "each once, and the fourth one is not judged"


def test_a_worker_that_is_free_takes_the_next_trial_and_a_result_that_is_late_is_waited_for() -> None:
    trials: list[TrialView] = []
    for number in range(5):
        assert decide(RULES, trials) == Begin(EVERY * number), "nothing is waited for"
        trials.append(TrialView(number, (EVERY * number,)))
    assert decide(RULES, trials) == Wait()
    early = [replace(trial, scores=(1.0,)) for trial in trials[1:]]
    assert decide(RULES, [trials[0], *early]) == Wait(), "the first one comes first, whatever the others have come to"
    assert decide(RULES, [replace(trials[0], scores=(1.0,)), *trials[1:]]) == Begin(10)


def test_what_failed_goes_nowhere() -> None:
    one = replace(RULES, trials=1)
    assert decide(one, [TrialView(0)]) == Wait()
    assert decide(one, [TrialView(0, failed=True)]) == Done()
    assert decide(replace(RULES, trials=2), [TrialView(0, failed=True), TrialView(1, (2,), (1.0,))]) == Promote(
        1, 1, 12
    )


def test_at_least_one_of_few_trials_reaches_the_end() -> None:
    few = replace(RULES, trials=2)
    assert decide(few, judged(1, 2)) == Promote(1, 1, 12)
    second = [*judged(1), TrialView(1, (2, 12), (2.0,), failed=True)]
    assert decide(few, second) == Promote(0, 1, 32), "the best one failed on its way"


def test_three_failures_alike_at_the_start_halt_it_and_a_score_between_them_does_not() -> None:
    failed = [TrialView(number, (EVERY * number,), failed=True) for number in range(4)]
    assert decide(RULES, failed[:3], ["no module", "no module", "no module"]) == Halt("no module")
    assert decide(RULES, failed[:3], ["no module", "out of memory", "no module"]) == Begin(6)
    assert decide(RULES, failed, ["no module", "no module", "", "no module"]) == Begin(8)


def test_one_that_came_further_is_better() -> None:
    trials = [
        TrialView(0, (0,), (9.0,)),
        TrialView(1, (0, 0), (2.0, 3.0)),
        TrialView(2, (0, 0), (5.0, 3.0)),
        TrialView(3),
    ]
    assert [each.number for each in best(RULES, trials)] == [1, 2, 0]


def test_a_result_counts_from_its_moment_on() -> None:
    trial = TrialView(0, (4, 20), (1.0, 2.0))
    assert [known_at(RULES, [trial], at)[0].scores for at in (13, 14, 39, 40)] == [(), (1.0,), (1.0,), (1.0, 2.0)]
    failed = TrialView(0, (4, 20), (1.0,), failed=True)
    assert [known_at(RULES, [failed], at)[0].failed for at in (14, 39, 40)] == [False, False, True]


@st.composite
def sweeps(draw: st.DrawFn) -> tuple[Rules, list[list[float | None]]]:
    """Rules, and of each trial the score at each stop; None: it fails on its way there."""
    stops = draw(st.sampled_from([(40,), (10, 40), (8, 30, 100), (1, 2, 3)]))
    rules = Rules(draw(st.integers(1, 8)), stops, draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.booleans()))
    score = st.sampled_from([0.0, 1.0, 2.0, 3.0, None])
    scores = draw(st.lists(st.lists(score, min_size=3, max_size=3), min_size=rules.trials, max_size=rules.trials))
    return rules, scores


def carried_on(
    rules: Rules, scores: Sequence[Sequence[float | None]], slots: int, order: Sequence[int]
) -> list[TrialView]:
    """The trials of a sweep of which so many run at once, and which of them ends next is told by `order`."""
    trials: dict[int, TrialView] = {}
    asked: set[tuple[int, int]] = set()
    for turn in range(300):
        action = decide(rules, [*trials.values()])
        assert action == decide(rules, [*trials.values()]), "it is a function"
        if isinstance(action, Done):
            return [*trials.values()]
        if isinstance(action, Wait):
            on_their_way = sorted((trial.sent[-1], number) for number, trial in trials.items() if trial.is_on_its_way)
            assert 0 < len(on_their_way) <= rules.at_once, "it waits for something"
            running = on_their_way[:slots]
            number = running[(order[turn % len(order)] if order else 0) % len(running)][1]
            trial = trials[number]
            score = scores[number][trial.goal]
            trials[number] = (
                replace(trial, failed=True) if score is None else replace(trial, scores=(*trial.scores, score))
            )
        elif isinstance(action, Promote):
            assert (action.number, action.goal) not in asked, "promoted twice"
            asked.add((action.number, action.goal))
            trial = trials[action.number]
            assert len(trial.scores) == action.goal == trial.goal + 1 < len(rules.stops)
            trials[action.number] = replace(trial, sent=(*trial.sent, action.at))
        else:
            trials[len(trials)] = TrialView(len(trials), (action.at,))
    raise AssertionError("it does not end")


@given(sweeps(), st.integers(1, 5), st.lists(st.integers(0, 7), max_size=40))
def test_whichever_session_ends_first_and_however_many_run_the_same_trials_go_on(
    given_: tuple[Rules, list[list[float | None]]], slots: int, order: list[int]
) -> None:
    rules, scores = given_
    trials = carried_on(rules, scores, slots, order)
    assert trials == carried_on(rules, scores, rules.at_once, ())
    assert len(trials) == rules.trials
    assert all(trial.scores or trial.failed for trial in trials)
    reached = [len(trial.scores) == len(rules.stops) for trial in trials]
    assert any(reached) or all(trial.failed for trial in trials)


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_trials_of_one_length_are_begun_as_fast_as_so_many_slots_train_them(at_once: int) -> None:
    rules = Rules(trials=24, stops=(100,), at_once=at_once)
    trials = carried_on(rules, [[float(number)] for number in range(24)], at_once, ())
    assert [trial.sent[0] for trial in trials] == pytest.approx(
        [100 * number / at_once for number in range(24)], abs=24
    )
