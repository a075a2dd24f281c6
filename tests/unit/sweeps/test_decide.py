"""What a sweep does next, for whatever results come in whatever order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.sweeps.decide import Begin, Done, Halt, Promote, Rules, TrialView, Wait, best, decide

RULES = Rules(trials=9, rungs=3)


def judged(*scores: float) -> list[TrialView]:
    return [TrialView(number, 0, (score,)) for number, score in enumerate(scores)]


def test_the_best_third_goes_on_as_soon_as_it_is_known() -> None:
    assert decide(RULES, judged(1, 2)) == Begin()
    assert decide(RULES, judged(1, 3, 2)) == Promote(1, 1)
    assert decide(replace(RULES, maximize=False), judged(1, 3, 2)) == Promote(0, 1)
    gone_on = [replace(each, goal=1) if each.number == 1 else each for each in judged(1, 3, 2)]
    assert decide(RULES, gone_on) == Begin(), "each once"


def test_what_failed_goes_nowhere_and_all_are_begun_before_anything_is_waited_for() -> None:
    assert decide(RULES, [TrialView(0, 0, (9.0,), failed=True), *judged(1, 2)[1:], TrialView(2, 0, (1.0,))]) == Begin()
    assert decide(replace(RULES, trials=1), [TrialView(0)]) == Wait()
    assert decide(replace(RULES, trials=1), [TrialView(0, failed=True)]) == Done()


def test_at_least_one_of_few_trials_reaches_the_end() -> None:
    few = replace(RULES, trials=2)
    assert decide(few, judged(1, 2)) == Promote(1, 1)
    second = [*judged(1), TrialView(1, 1, (2.0,), failed=True)]
    assert decide(few, second) == Promote(0, 1), "the best one failed on its way"


def test_three_failures_alike_at_the_start_halt_it_and_a_score_between_them_does_not() -> None:
    failed = [TrialView(number, failed=True) for number in range(4)]
    assert decide(RULES, failed[:3], ["no module", "no module", "no module"]) == Halt("no module")
    assert decide(RULES, failed[:3], ["no module", "out of memory", "no module"]) == Begin()
    assert decide(RULES, failed, ["no module", "no module", "", "no module"]) == Begin()


def test_one_that_came_further_is_better() -> None:
    trials = [TrialView(0, 0, (9.0,)), TrialView(1, 1, (2.0, 3.0)), TrialView(2, 1, (5.0, 3.0)), TrialView(3)]
    assert [each.number for each in best(RULES, trials)] == [1, 2, 0]


@st.composite
def sweeps(draw: st.DrawFn) -> tuple[Rules, list[list[float]], list[int]]:
    rules = Rules(draw(st.integers(1, 8)), draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans()))
    score = st.integers(0, 3).map(float)
    scores = draw(st.lists(st.lists(score, min_size=3, max_size=3), min_size=rules.trials, max_size=rules.trials))
    return rules, scores, draw(st.lists(st.integers(0, 7), max_size=40))


@given(sweeps(), st.integers(1, 3))
def test_every_sweep_ends_with_one_trial_at_its_end_and_all_are_judged(
    given_: tuple[Rules, list[list[float]], list[int]], slots: int
) -> None:
    rules, scores, order = given_
    trials: dict[int, TrialView] = {}
    asked: set[tuple[int, int]] = set()
    for turn in range(200):
        action = decide(rules, [*trials.values()])
        assert action == decide(rules, [*trials.values()]), "it is a function"
        on_its_way = [number for number, trial in trials.items() if trial.is_on_its_way]
        if isinstance(action, Done):
            break
        if isinstance(action, Wait) or len(on_its_way) >= slots:
            assert on_its_way, "it waits for something"
            number = on_its_way[(order[turn % len(order)] if order else 0) % len(on_its_way)]
            trial = trials[number]
            trials[number] = replace(trial, scores=(*trial.scores, scores[number][trial.goal]))
        elif isinstance(action, Promote):
            assert (action.number, action.goal) not in asked, "promoted twice"
            asked.add((action.number, action.goal))
            assert len(trials[action.number].scores) == action.goal < rules.rungs
            trials[action.number] = replace(trials[action.number], goal=action.goal)
        else:
            trials[len(trials)] = TrialView(len(trials))
    else:
        raise AssertionError("it does not end")
    assert len(trials) == rules.trials
    assert all(trial.scores for trial in trials.values())
    assert any(len(trial.scores) == rules.rungs for trial in trials.values())
