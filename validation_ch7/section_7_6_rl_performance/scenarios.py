"""The scenarios of section.toml by the intersection that their environment is at."""

from __future__ import annotations

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import ScenarioConfig, Section


def scenario_at(section: Section, intersection: str) -> str:
    """The name of the scenario at `intersection`.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    agents = {name: each for name, each in section.scenarios.items() if isinstance(each, ScenarioConfig)}
    named = {name: each.environment_kwargs.get("intersection") for name, each in agents.items()}
    places = {str(place): name for name, place in named.items() if place is not None}
    if intersection not in places:
        raise ConfigError(
            f"Section {section.name} has no scenario at {intersection!r}.",
            safe="nothing was started",
            next_step=f"choose one of: {', '.join(sorted(places))}",
        )
    return places[intersection]
