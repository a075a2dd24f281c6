"""The declaration of the second study: new seeds, enough of them, and nothing that contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import load_section
from validation_ch7.section_7_6_rl_performance.protocol import read_protocol
from validation_ch7.section_7_6_rl_performance.report import SECTION_FILE
from validation_ch7.section_7_6_rl_performance.second_study.contenders import RULES
from validation_ch7.section_7_6_rl_performance.second_study.episodes import CONDITIONS
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import FILE, read_declaration


def test_its_seeds_are_enough_and_none_was_used_before() -> None:
    declared, first = read_declaration(), read_protocol(load_section(SECTION_FILE))
    seeds = [seed for agent in declared.agents.values() for seed in agent.training_seeds]
    assert not {*seeds} & {*first.training_seeds, 1, 2, 3}
    held_out = declared.traffic.seeds("as trained")
    assert not {*held_out} & {*first.seeds()}
    assert max(held_out) < 9_000_001, "from there on it is the traffic of the development"
    assert [len(agent.training_seeds) for agent in declared.agents.values()] == [10, 5]
    assert len(held_out) >= 300
    assert [*declared.traffic.seeds("sensor noise")] == held_out[:30]
    assert declared.sites == ["cologne1", "ingolstadt1"]


@pytest.mark.parametrize("condition", ["as trained", "demand x1.2"])
def test_the_trainings_of_an_agent_share_the_traffic_that_a_baseline_meets(condition: str) -> None:
    declared = read_declaration()
    whole = declared.traffic_seeds(condition, "max_pressure", None)
    assert whole == declared.traffic.seeds(condition)
    for name, agent in declared.agents.items():
        shares = [declared.traffic_seeds(condition, name, seed) for seed in agent.training_seeds]
        assert sorted(seed for share in shares for seed in share) == whole, "each once"
        assert {len(share) for share in shares} == {len(whole) // len(shares)}


def test_what_it_names_is_there() -> None:
    declared, scenarios = read_declaration(), load_section(SECTION_FILE).scenarios
    assert {*declared.judgement.baselines} == RULES.keys()
    assert {*declared.traffic.conditions} | {"as trained"} == CONDITIONS.keys()
    for agent in declared.agents.values():
        assert {name: scenarios[name].environment_kwargs["site"] for name in agent.scenarios.values()} == {
            name: site for site, name in agent.scenarios.items()
        }


@pytest.mark.parametrize(
    ("was", "wrong", "named"),
    [
        ("[101, 102,", "[101, 101,", "declared twice"),
        ("[201,", "[110,", "declared twice"),
        ("margin_s = 1.0", "margin_s = -1.0", r"judgement\.margin_s"),
        ("shifted_episodes = 30", "shifted_episodes = 301", "more episodes"),
        ("shifted_episodes = 30", "shifted_episodes = 9", "fewer episodes"),
        ("[agents.main]", "[agents.other]", "no agent called main"),
        ("resamples =", "resample =", r"judgement\.resample"),
        ("status =", "status", "declaration.toml"),
    ],
)
def test_what_is_wrong_in_it_is_named(tmp_path: Path, was: str, wrong: str, named: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text.count(was) == 1
    (tmp_path / "declaration.toml").write_text(text.replace(was, wrong), encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        read_declaration(tmp_path / "declaration.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_declaration(tmp_path / "none.toml")
