"""The comparison says what the numbers say: units, intervals, effects and verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.identity import study_fingerprint
from kaggle_manager.sections.model import load_section
from validation_ch7.section_7_6_rl_performance.comparison import compare, estimate, interquartile_mean, summarise
from validation_ch7.section_7_6_rl_performance.episodes import PARTS, Episode
from validation_ch7.section_7_6_rl_performance.metrics import EpisodeMetrics
from validation_ch7.section_7_6_rl_performance.protocol import Protocol, read_protocol, read_remarks
from validation_ch7.section_7_6_rl_performance.report import SECTION_FILE
from validation_ch7.section_7_6_rl_performance.report.results import published

METRICS = EpisodeMetrics(100, 95, 5, 0, 20.0, 18.0, 2.0, 5.0, 1.0, 3.0, 9)
PROTOCOL = read_protocol(load_section(SECTION_FILE)).model_copy(
    update={"training_seeds": [1, 2, 3], "resamples": 2000, "margin_s": 1.0}
)
NOISE = np.random.default_rng(5).normal(scale=2.0, size=40)


def episodes(delays: list[float] | np.ndarray, completed: int = 95) -> list[Episode]:
    return [
        Episode(
            seed,
            replace(METRICS, mean_delay_s=float(delay), completed=completed, unfinished=100 - completed),
            (1, 2),
            (1.0,) * PARTS,
            "d",
        )
        for seed, delay in enumerate(delays)
    ]


@pytest.mark.parametrize(
    ("gap", "verdict"), [(-5.0, "better"), (5.0, "worse"), (0.0, "no difference"), (-0.9, "no difference")]
)
def test_the_verdict_follows_the_whole_interval_and_the_margin(gap: float, verdict: str) -> None:
    base = 30 + NOISE
    found = compare([episodes(base + gap + 0.1 * NOISE[::-1])], episodes(base), "max_pressure", PROTOCOL)
    assert found.verdict == verdict
    assert found.difference.low is not None
    assert found.difference.high is not None
    assert found.difference.low < found.difference.value < found.difference.high
    assert found.difference.value == pytest.approx(gap + 0.1 * NOISE.mean())
    assert found.relative == pytest.approx(found.difference.value / base.mean())


def test_an_agent_that_gridlocks_more_is_not_better_and_one_that_gridlocks_less_is_not_worse() -> None:
    base = 30 + NOISE
    assert compare([episodes(base - 5, completed=70)], episodes(base), "b", PROTOCOL).verdict == "no difference"
    assert compare([episodes(base + 5)], episodes(base, completed=70), "b", PROTOCOL).verdict == "no difference"
    assert summarise("b", [episodes(base, completed=70)], PROTOCOL).gridlocked == 40
    assert summarise("b", [episodes(base, completed=80)], PROTOCOL).gridlocked == 0


def test_the_unit_is_the_training_only_when_all_declared_ones_are_there() -> None:
    base = 30 + NOISE
    runs = [episodes(base + shift) for shift in (-4.0, -3.0, -2.0)]
    by_training = compare(runs, episodes(base), "b", PROTOCOL)
    assert (by_training.difference.low, by_training.difference.high) == pytest.approx((-4.0, -2.0))
    two = compare(runs[:2], episodes(base), "b", PROTOCOL)
    assert two.difference.value == pytest.approx(-3.5)
    assert (two.difference.low, two.difference.high) == pytest.approx((-3.5, -3.5))
    alone = compare(runs[:1], episodes(base), "b", PROTOCOL.model_copy(update={"training_seeds": [1]}))
    assert alone.difference.value == pytest.approx(-4.0)


def test_differences_are_taken_in_the_same_traffic_only() -> None:
    base = episodes(30 + NOISE)
    with pytest.raises(ValueError, match="same traffic"):
        compare([base[:-1]], base, "b", PROTOCOL)
    with pytest.raises(ValueError, match="same traffic"):
        compare([base[::-1]], base, "b", PROTOCOL)


def test_the_probability_counts_pairs_and_half_of_ties() -> None:
    found = compare([episodes([1.0, 2.0, 3.0, 4.0])], episodes([2.0, 2.0, 2.0, 5.0]), "b", PROTOCOL)
    assert found.probability.value == pytest.approx(2.5 / 4)
    assert found.effect_size == pytest.approx(np.mean([-1, 0, 1, -1]) / np.std([-1, 0, 1, -1], ddof=1))


def test_one_episode_gives_numbers_and_no_interval_and_no_verdict() -> None:
    found = compare([episodes([10.0])], episodes([30.0]), "b", PROTOCOL)
    assert (found.difference.value, found.difference.low, found.effect_size) == (-20.0, None, None)
    assert found.verdict == "no difference"


def test_interquartile_mean_and_intervals_are_those_of_scipy_and_repeat() -> None:
    values = np.concatenate([30 + NOISE, [1_000.0]])
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))
    first = estimate(values, interquartile_mean, PROTOCOL)
    assert first == estimate(values, interquartile_mean, PROTOCOL)
    assert first.high is not None
    assert first.high < 50 < estimate(values, np.mean, PROTOCOL).value


def test_the_declaration_is_complete_and_what_is_wrong_is_named() -> None:
    section = load_section(SECTION_FILE)
    declared = read_protocol(section)
    assert len(declared.training_seeds) >= 5
    assert len(declared.seeds()) == 30
    assert declared.seeds(3) == declared.seeds()[:3]
    assert section.scenario().seed == declared.training_seeds[0]
    wrong = section.model_copy(update={"study": {**section.study, "margin_s": -1.0}})
    with pytest.raises(ConfigError, match=r"study\.margin_s"):
        read_protocol(wrong)
    assert study_fingerprint(wrong) != study_fingerprint(section)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(-3.0, -1.1, "better"), (-3.0, -0.9, "no difference"), (1.1, 2.0, "worse")]
)
def test_the_margin_bounds_the_interval_not_the_mean(low: float, high: float, verdict: str) -> None:
    assert Protocol.verdict(PROTOCOL, low, high, 0.0, 0.0) == verdict


def test_a_difference_from_a_published_delay_is_explained_where_it_is_and_only_there() -> None:
    section = load_section(SECTION_FILE)
    remarks = read_remarks(section)
    names = ("fixed_time", "greedy_queue", "max_pressure", "best")

    def compared(delay: float) -> dict[str, tuple[bool, bool]]:
        summaries = {name: summarise(name, [episodes([delay, delay])], PROTOCOL) for name in names}
        found = published(PROTOCOL, remarks, "ingolstadt1", summaries)
        return {each.controller: (each.within, each.why is not None) for each in found}

    # 28.32 and 22.21 are published; a fixed-time plan as fast as that has no explanation.
    assert compared(28.0) == {
        "fixed_time": (False, False),
        "greedy_queue": (True, False),
        "max_pressure": (False, False),
        "dqn": (False, True),
    }
    assert compared(22.5)["greedy_queue"] == (False, True)
    assert compared(22.5)["dqn"] == (True, False)
    assert study_fingerprint(section.model_copy(update={"remarks": {}})) == study_fingerprint(section)
    with pytest.raises(ConfigError, match=r"remarks\.differences\.a\.b\.en"):
        read_remarks(section.model_copy(update={"remarks": {"differences": {"a": {"b": {"fr": "parce que"}}}}}))


def test_every_remark_is_about_a_published_delay() -> None:
    differences = read_remarks(load_section(SECTION_FILE)).differences
    for intersection, controllers in differences.items():
        assert controllers.keys() <= PROTOCOL.published[intersection].keys()
