"""A session is told what the run is, and what no session would accept is refused before anything is pushed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.platform import Limits
from kaggle_manager.protocol.launch_order import LaunchOrder, read_order
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.sessions.bundle import Bundle, order_of, render_script
from kaggle_manager.sessions.launch import launch_order
from kaggle_manager.system.accelerators import is_what_was_asked

BUNDLE = Bundle(b"", "b" * 64, ())


def order(folder: Path, *, seed: int | None = None, platform: str = "local") -> LaunchOrder:
    config = build_config("section_7_6_rl_performance", workdir=folder, seed=seed, platform=platform)
    row = RunRow("r", "section", "walk", 30, False, str(config.tree), "local", "o", "s", "2026-11-22T00:00:00+00:00")
    return launch_order(
        config,
        row,
        1,
        parent=None,
        vouched_by="",
        bundle=BUNDLE,
        limits=Limits(60.0, {}, 10**6, output_bytes=10**9),
        identity={"algorithm": "DQN"},
        accept_changes=False,
        accepted_files={},
        deadline_s=60.0,
    )


def test_the_order_in_the_script_is_the_one_the_trainer_reads(tmp_path: Path) -> None:
    sent = order(tmp_path, seed=5)
    assert (sent.seed, sent.packages[0].partition("==")[0]) == (5, "stable-baselines3")
    assert (sent.output_bytes, sent.output_files) == (10**9, None), "as its platform has them"
    script = render_script(BUNDLE, sent.as_json())
    for as_kept in (script, script.replace("\n", "\r\n")):  # as a platform may give it back
        assert read_order(order_of(as_kept)) == sent


def test_a_gpu_is_asked_for_by_kaggles_name_on_kaggle_alone(tmp_path: Path) -> None:
    asked = order(tmp_path).accelerator
    assert asked == "NvidiaTeslaT4"
    elsewhere = order(tmp_path, platform="slurm").accelerator
    assert elsewhere is not None
    assert is_what_was_asked(elsewhere, "NVIDIA H200")
    assert not is_what_was_asked(elsewhere, ""), "none is none"
    assert not is_what_was_asked(asked, "NVIDIA H200")


def test_a_seed_that_no_generator_takes_costs_no_session(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed: Input should be less than 4294967296") as refused:
        order(tmp_path, seed=2**32)
    assert refused.value.safe
    assert refused.value.next_step
