"""One section, one seed, cut in the same places: the local Kaggle, Slurm and an uninterrupted training end alike."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm
from small_project import Told

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.manager import ValidationKaggleManager

pytestmark = pytest.mark.slow
SECTION, SCENARIO, TARGET, STEPS = "cart", "cart", 96, 48
SECTION_TOML = f"""
name = "{SECTION}"
title = "A cart"
trains = true
default_scenario = "{SCENARIO}"

[kernel]
packages = ["stable-baselines3=={version("stable-baselines3")}"]

[scenarios.{SCENARIO}]
environment = "gymnasium:make"
environment_kwargs = {{ id = "CartPole-v1" }}
algorithm = "DQN"
timesteps = {TARGET}
seed = 1
save_every = {STEPS}
models = "data/models"
quick.models = "data/models_quick"

[scenarios.{SCENARIO}.hyperparameters]
learning_starts = 10
buffer_size = 60
batch_size = 8
policy_kwargs = {{ net_arch = [8] }}
"""


@pytest.fixture
def cart(tmp_path: Path) -> Path:
    folder = tmp_path / "project/sections" / SECTION
    folder.mkdir(parents=True)
    (folder / "section.toml").write_text(SECTION_TOML)
    return tmp_path / "project"


def trained(cart: Path, workdir: Path, platform: str, max_steps: int | None) -> tuple[str, int]:
    """The digest of everything that defines what would follow, and over how many sessions."""
    manager = ValidationKaggleManager(
        platform=platform,
        workdir=workdir,
        project_root=cart,
        reporter=Told(),
        check_before_push=lambda config, reporter, stated: None,
        notifier=Notifier(),
    )
    report = manager.run_validation_section(SECTION, max_steps=max_steps)
    final = CheckpointStore(TrainingTree(workdir / "sections" / SECTION / "data/models", SCENARIO)).final()
    assert final is not None
    assert final.step == TARGET
    return final.manifest.certificate, len(report.sessions)


def test_the_bits_are_those_of_the_local_kaggle_and_of_an_uninterrupted_training(
    slurm: LoopbackSlurm, cart: Path, tmp_path: Path
) -> None:
    try:
        uninterrupted, _ = trained(cart, tmp_path / "one", "slurm", None)
        on_slurm, jobs = trained(cart, tmp_path / "slurm", "slurm", STEPS)
        on_kaggle, sessions = trained(cart, tmp_path / "kaggle", "local", STEPS)
    finally:
        stop(tmp_path / "kaggle/local_kaggle")
    assert (jobs, sessions) == (2, 2)
    assert on_slurm == on_kaggle == uninterrupted != ""
