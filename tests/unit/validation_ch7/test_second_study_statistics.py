"""The statistics of the second study: intervals that cover, rates of rare events, effects, and verdicts."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from validation_ch7.section_7_6_rl_performance.second_study.judging.crossed_bootstrap import (
    Estimate,
    Values,
    difference,
    mean,
    paired_by_training,
)
from validation_ch7.section_7_6_rl_performance.second_study.judging.effect_sizes import (
    cliffs_delta,
    probability_of_improvement,
)
from validation_ch7.section_7_6_rl_performance.second_study.judging.rates import newcombe, wilson
from validation_ch7.section_7_6_rl_performance.second_study.judging.verdicts import Verdict, holm, judge
from validation_ch7.section_7_6_rl_performance.training import FOLDER

RESAMPLES = 4000
NOISE = np.random.default_rng(5)
TRAININGS = NOISE.normal(scale=2.0, size=10)
TRAFFIC = NOISE.normal(scale=3.0, size=40)
STRENGTH: dict[Verdict, int] = {
    "better": 2, "worse": 2, "lower": 1, "higher": 1, "equivalent": 1, "not established": 0,
}  # fmt: skip


def of_interval(low: float, high: float, margin: float) -> Verdict:
    """The verdict of an interval alone."""
    if high < -margin:
        return "better"
    if low > margin:
        return "worse"
    if high < 0:
        return "lower"
    if low > 0:
        return "higher"
    return "equivalent" if -margin < low and high < margin else "not established"


def students(values: Values) -> tuple[float, float]:
    found = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(found.low), float(found.high)


@pytest.mark.parametrize(
    ("values", "units"),
    [
        (TRAFFIC[None, :], TRAFFIC),  # a baseline
        (np.repeat(TRAININGS[:, None], 40, axis=1), TRAININGS),
        (TRAININGS[:, None], TRAININGS),
    ],
)
def test_where_one_factor_alone_varies_the_interval_is_students(values: Values, units: Values) -> None:
    found = mean(values, RESAMPLES)
    assert found.value == pytest.approx(units.mean())
    reach = students(units)[1] - units.mean()
    assert found.interval(0.95) == pytest.approx(students(units), abs=0.05 * reach)
    assert found.p_above(0.0) == pytest.approx(
        min(1.0, 2 * stats.ttest_1samp(units, 0.0, alternative="greater").pvalue), abs=0.05
    )


def test_trainings_and_traffic_both_widen_the_interval() -> None:
    found = mean(30 + TRAININGS[:, None] + TRAFFIC[None, :], RESAMPLES)
    assert found.error is not None
    expected = math.sqrt((TRAININGS.var() / 10 + TRAFFIC.var() / 40) * 10 / 9)
    assert found.error == pytest.approx(expected, rel=0.05)
    assert found.freedom == 9


def test_intervals_cover_the_truth_as_often_as_they_say_also_with_five_trainings() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        trainings, traffic = rng.normal(scale=2.0, size=(5, 1)), rng.normal(scale=2.0, size=(1, 30))
        low, high = mean(trainings + traffic + rng.normal(scale=0.5, size=(5, 30)), 200).interval(0.95) or (0.0, 0.0)
        covered += low < 0 < high
    assert 0.93 <= covered / 400 <= 0.99


def test_what_the_same_traffic_does_to_both_cancels_and_what_trainings_do_does_not() -> None:
    baseline = 30 + TRAFFIC[None, :]
    steady = difference(np.repeat(baseline - 2, 10, axis=0), baseline, RESAMPLES)
    assert (steady.value, steady.error) == pytest.approx((-2.0, 0.0))
    assert steady.p_below(-1.0) == pytest.approx(0.0)
    assert steady.p_below(-2.5) == pytest.approx(1.0)
    varied = difference(baseline - 2 + TRAININGS[:, None], baseline, RESAMPLES)
    assert varied.interval(0.95) == pytest.approx(students(TRAININGS - 2), abs=0.1)
    with pytest.raises(ValueError, match="same traffic"):
        difference(baseline[:, 1:], baseline, RESAMPLES)


def test_what_does_not_count_is_left_out_and_nothing_at_all_gives_no_interval() -> None:
    values = 30 + TRAININGS[:, None] + TRAFFIC[None, :]
    values[3, :25] = np.nan
    found = mean(values, RESAMPLES)
    assert found.value == pytest.approx(np.nanmean(values))
    assert found.interval(0.95) is not None
    none = mean(np.full((2, 3), np.nan), RESAMPLES)
    assert math.isnan(none.value)
    one = mean(np.array([[30.0]]), RESAMPLES)
    assert one.value == 30.0
    assert none.interval(0.95) is one.interval(0.95) is None
    assert one.p_below(40.0) == 1.0


def test_too_few_episodes_that_count_give_no_interval_and_no_verdict() -> None:
    ours = np.full((10, 300), np.nan)
    for training in range(10):
        ours[training, training::10] = 25.0 + 0.01 * training
    one = np.full((1, 300), np.nan)
    one[0, 7] = 60.0  # every other episode of this baseline was gridlocked
    found = difference(ours, one, 200)
    assert (found.value, found.interval(0.95)) == (pytest.approx(-34.955), None)
    assert judge({"it": found}, 1.0, 0.95)["it"].verdict == "not established"
    one_training = np.where(np.arange(10)[:, None] == 3, ours, np.nan)
    assert mean(one_training, 200).interval(0.95) is None, "nine trainings have nothing that counts"
    one[0, 8] = 61.0
    assert difference(ours, one, 200).freedom == 1


@pytest.mark.parametrize(("of_training", "of_traffic", "of_episode"), [(0.5, 0.6, 0.6), (0.0, 1.0, 0.2)])
def test_with_traffic_shared_by_turns_intervals_cover_and_the_paired_one_cancels_the_traffic(
    of_training: float, of_traffic: float, of_episode: float
) -> None:
    """Ten trainings, of which each plays thirty of the three hundred episodes, as declared."""
    rng, covered, paired_covered, wider, rounds = np.random.default_rng(2), 0, 0, 0, 100
    for _ in range(rounds):
        traffic = rng.normal(scale=of_traffic, size=300)
        ours = np.full((10, 300), np.nan)
        for training in range(10):
            seeds = slice(training, 300, 10)
            ours[training, seeds] = traffic[seeds] + rng.normal(scale=of_training)
        ours += rng.normal(scale=of_episode, size=ours.shape)
        theirs = (traffic + rng.normal(scale=of_episode, size=300))[None, :]
        low, high = difference(ours, theirs, 200).interval(0.95) or (0.0, 0.0)
        paired_low, paired_high = paired_by_training(ours, theirs).interval(0.95) or (0.0, 0.0)
        covered, paired_covered = covered + (low < 0 < high), paired_covered + (paired_low < 0 < paired_high)
        wider += high - low > paired_high - paired_low
    assert covered >= 0.93 * rounds
    assert 0.88 * rounds <= paired_covered
    assert wider > rounds / 2


MATRICES = st.lists(st.lists(st.floats(0, 100), min_size=6, max_size=6), min_size=1, max_size=4).map(np.array)


@settings(max_examples=30, deadline=None)
@given(ours=MATRICES, theirs=MATRICES, shift=st.floats(-10, 10))
def test_intervals_move_with_the_values_and_turn_with_the_sides(ours: Values, theirs: Values, shift: float) -> None:
    found, moved = difference(ours, theirs, 200), difference(ours + shift, theirs, 200)
    assert moved.value == pytest.approx(found.value + shift, abs=1e-9)
    assert moved.error == pytest.approx(found.error, abs=1e-9)
    assert difference(theirs, ours, 200).value == pytest.approx(-found.value)
    assert mean(3 * ours, 200).error == pytest.approx(3 * (mean(ours, 200).error or 0.0), abs=1e-9)
    assert difference(ours, theirs, 200) == found, "the same numbers again"


def test_the_first_studys_smallest_difference_is_lower_and_not_by_more_than_the_margin() -> None:
    with (FOLDER / "results/tables/episodes.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["scenario"].endswith("ingolstadt1")]

    def delays(controller: str) -> Values:
        found = [float(row["mean_delay_s"]) for row in rows if row["controller"] == controller]
        return np.array(found).reshape(-1, 30)

    found = difference(delays("best"), delays("max_pressure"), 10_000)
    assert found.value == pytest.approx(-1.1275, abs=1e-4)
    # The percentiles of an independent crossed bootstrap of these episodes: -1.49 and -0.75.
    assert found.error is not None
    assert 2 * stats.norm.ppf(0.975) * found.error * math.sqrt(4 / 5) == pytest.approx(0.74, rel=0.1)
    assert judge({"max_pressure": found}, 1.0, 0.95)["max_pressure"].verdict == "lower"


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        # Newcombe 1998, table II, method 10.
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_differences_of_rates_have_newcombes_intervals(
    ours: tuple[int, int], theirs: tuple[int, int], expected: tuple[float, float]
) -> None:
    assert newcombe(ours, theirs, 0.95) == pytest.approx(expected, abs=5e-5)
    low, high = newcombe(theirs, ours, 0.95)
    assert (-high, -low) == pytest.approx(expected, abs=5e-5)


def test_a_rate_of_nothing_has_an_interval_above_nothing() -> None:
    assert wilson(0, 10, 0.95) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson(0, 300, 0.95)[1] == pytest.approx(0.0126, abs=5e-5)


def test_p_values_are_corrected_as_holm_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=200, deadline=None)
@given(value=st.floats(-5, 5), error=st.floats(0.01, 3), freedom=st.integers(1, 40))
def test_of_one_comparison_the_verdict_is_what_its_interval_says(value: float, error: float, freedom: int) -> None:
    gap = Estimate(value, error, freedom)
    low, high = gap.interval(0.95) or (0.0, 0.0)
    if min(abs(end - bound) for end in (low, high) for bound in (-1.0, 0.0, 1.0)) > 1e-6:
        assert judge({"it": gap}, 1.0, 0.95)["it"].verdict == of_interval(low, high, 1.0)


def test_a_difference_that_is_just_established_alone_is_not_among_many() -> None:
    gap = Estimate(-2.0, 0.4, 9)  # a p-value of 0.034 against "not lower by more than 1"
    assert judge({"it": gap}, 1.0, 0.95)["it"].verdict == "better"
    assert judge({"it": gap, "sure": Estimate(-9.0, 0.1, 9)}, 1.0, 0.95)["it"].verdict == "better", "the sure one first"
    together = judge({str(number): gap for number in range(3)}, 1.0, 0.95)
    assert {each.verdict for each in together.values()} == {"lower"}
    assert together["0"].p_better == pytest.approx(3 * gap.p_below(-1.0))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 3)), min_size=1, max_size=8))
def test_more_comparisons_never_make_a_verdict_stronger(values: Sequence[tuple[float, float]]) -> None:
    gaps = {str(number): Estimate(value, error, 9) for number, (value, error) in enumerate(values)}
    together = judge(gaps, 1.0, 0.95)
    for name, gap in gaps.items():
        alone = judge({name: gap}, 1.0, 0.95)[name]
        assert STRENGTH[together[name].verdict] <= STRENGTH[alone.verdict]
        assert together[name].p_better >= alone.p_better


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-3.0, -1.1, "better"),
        (-1.3, -0.9, "lower"),
        (-0.9, -0.1, "lower"),
        (-0.9, 0.5, "equivalent"),
        (-30.0, 14.0, "not established"),
        (-1.5, 0.5, "not established"),
        (0.1, 2.0, "higher"),
        (1.1, 2.0, "worse"),
    ],
)
def test_a_small_and_sure_difference_is_not_called_none_and_an_unsure_one_not_equivalent(
    low: float, high: float, verdict: str
) -> None:
    assert of_interval(low, high, 1.0) == verdict
    turned = {"better": "worse", "lower": "higher", "higher": "lower", "worse": "better"}
    assert of_interval(-high, -low, 1.0) == turned.get(verdict, verdict)


def test_effects_count_pairs_so_that_one_gridlock_is_one_episode() -> None:
    ours, theirs = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 9.0]]), np.array([[2.0, 2.0, 5.0]])
    pairs = [np.sign(other - mine) for mine in ours.flat for other in theirs.flat]
    assert cliffs_delta(ours, theirs) == pytest.approx(np.mean(pairs))
    assert cliffs_delta(ours, ours + 100) == 1.0
    found = probability_of_improvement(ours, theirs, RESAMPLES)
    assert found.value == pytest.approx((1 + 0.5 + 1 + 0.5 + 0.5 + 0) / 6)
    jammed = np.where(ours == 9.0, 2000.0, ours)
    assert cliffs_delta(jammed, theirs) == cliffs_delta(ours, theirs)
    assert probability_of_improvement(jammed, theirs, RESAMPLES) == found
    partly = np.where(ours == 9.0, np.nan, ours)
    assert probability_of_improvement(partly, theirs, RESAMPLES).value == pytest.approx(3.5 / 5)
