"""A project with one section, a DQN on CartPole, for what trains it on a real Slurm."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

SECTION = SCENARIO = "cart"
_SECTION_TOML = """
name = "{name}"
title = "A cart"
trains = true
default_scenario = "{name}"

[kernel]
packages = ["stable-baselines3=={version}"]
{kernel}

[scenarios.{name}]
environment = "gymnasium:make"
environment_kwargs = {{ id = "CartPole-v1" }}
algorithm = "DQN"
timesteps = {target}
seed = 1
save_every = {every}
models = "data/models"
quick.models = "data/models_quick"
{scenario}
"""


def make_cart(project: Path, *, target: int, every: int, kernel: str = "", scenario: str = "") -> Path:
    """The project in this folder.

    Args:
        target: timesteps; every: between two saves.
        kernel, scenario: more lines of these tables.
    """
    (section := project / "sections" / SECTION).mkdir(parents=True)
    text = _SECTION_TOML.format(
        name=SECTION,
        version=version("stable-baselines3"),
        target=target,
        every=every,
        kernel=kernel,
        scenario=scenario,
    )
    (section / "section.toml").write_text(text)
    return project
