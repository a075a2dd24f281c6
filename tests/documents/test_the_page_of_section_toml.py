"""docs/section.md names every key there is, and its examples are read."""

from __future__ import annotations

import re
from pathlib import Path

from kaggle_manager.sections.agent_tables import Normalize
from kaggle_manager.sections.model import ScenarioConfig, load_section

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "section.md").read_text(encoding="utf-8")


def test_every_key_of_a_scenario_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE)) | set(re.findall(r"`(\w+) = ", PAGE))
    assert {*ScenarioConfig.model_fields, *Normalize.model_fields} - named == set()


def test_the_examples_are_read(tmp_path: Path) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    toml = tmp_path / "robots" / "section.toml"
    toml.parent.mkdir()
    toml.write_text('name = "robots"\ntitle = "Robots"\ntrains = true\ndefault_scenario = "hopper"\n' + block)
    section = load_section(toml)
    assert section.scenario("hopper").rollout == 4096
    assert section.scenario("breakout").rollout == 4
