"""A declared study in small, with real SUMO and a real training: kept as it is done, and replayed to the digest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from study_data import SMALL

from kaggle_manager.checkpoints.sealed_json import seal
from kaggle_manager.errors import ConfigError, OutputDamaged
from kaggle_manager.sections.model import SECTION_FILE, load_section
from validation_ch7.section_7_6_rl_performance.report.__main__ import main
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration, read_declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept import ablation, playing, shares, study
from validation_ch7.section_7_6_rl_performance.second_study.kept.playing import replay
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept, Place
from validation_ch7.section_7_6_rl_performance.second_study.kept.trainings import code_sha256, policy_of
from validation_ch7.section_7_6_rl_performance.second_study.report.results import gather
from validation_ch7.section_7_6_rl_performance.training import FOLDER, PROJECT

pytestmark = pytest.mark.slow

pytest.importorskip("libsumo")
pytest.importorskip("torch")

AGENT = Place("synthetic", "as trained", "main", 101)


@pytest.fixture(scope="module")
def declaration(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    """One training, two episodes a controller, one under a shifted condition."""
    text = SMALL.replace("[101, 102, 103]", "[101]").replace("count = 20", "count = 2").replace(', "random"]', "]")
    file = tmp_path_factory.mktemp("declared") / "declaration.toml"
    file.write_text(text.replace("shifted_episodes = 4", "shifted_episodes = 1"), encoding="utf-8")
    return read_declaration(file)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, declaration: Declaration) -> Kept:
    folder = tmp_path_factory.mktemp("study")
    kept = Kept(folder / "kept")
    study.carry_out(kept, declaration, folder, timesteps=2)
    return kept


def test_the_report_in_the_repository_is_what_its_data_give_to_the_last_bit_of_a_figure() -> None:
    command = [sys.executable, "-m", "kaggle_manager.cli", "report", "section_7_6_rl_performance", "--check"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_training_is_kept_with_the_code_that_trained_it_and_a_policy_of_tensors_alone(
    kept: Kept, declaration: Declaration
) -> None:
    training = kept.training("synthetic", "main", 101)
    assert training is not None
    assert (training["step"], training["target"], training["generations"]) == (2, 2, 1)
    assert training["code_sha256"] == code_sha256()
    assert training["declaration"] == declaration.sha256
    assert training["curves"]["evaluation_steps"]
    policy = kept.policy("synthetic", "main", 101)
    assert policy_of(policy) == policy, "the same policy, the same bytes"


def test_what_is_kept_is_not_trained_or_played_again(
    kept: Kept, declaration: Declaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept.digests()
    monkeypatch.setattr(playing, "play", lambda *_: pytest.fail("it was played again"))
    study.carry_out(kept, declaration, tmp_path)
    assert kept.digests() == before
    assert not any(tmp_path.iterdir())
    (result,) = gather(kept, declaration)
    assert result.missing == (0, 0)
    assert [each.other for each in result.comparisons] == ["fixed_time", "greedy_queue"]


def test_a_training_that_was_done_elsewhere_is_kept_when_it_is_finished(
    kept: Kept, declaration: Declaration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Kept(tmp_path / "kept")
    study.keep_finished(other, declaration, tmp_path)
    assert "not kept: signal_control, seed 101" in capsys.readouterr().out
    study.keep_finished(other, declaration, kept.folder.parent)
    assert other.training("synthetic", "main", 101) == kept.training("synthetic", "main", 101)
    assert other.policy("synthetic", "main", 101) == kept.policy("synthetic", "main", 101)
    # The program that a run calls at its end says where such a training goes.
    assert main(["--workdir", str(kept.folder.parent), "--scenario", "signal_control"]) == ConfigError.exit_code
    assert "--keep --workdir" in capsys.readouterr().err


def test_kept_episodes_are_played_again_with_the_same_digests_and_one_that_differs_is_named(
    kept: Kept, declaration: Declaration, tmp_path: Path
) -> None:
    assert replay(kept, declaration, 1, say=lambda _: None) == 6
    file = kept.folder / "episodes" / AGENT.path
    whole = file.read_bytes()
    body = json.loads(whole)
    del body["seal"], body["schema"]
    body["rows"][0][body["columns"].index("digest")] = "0" * 32
    file.write_bytes(seal(body, schema=1))
    with pytest.raises(OutputDamaged, match=r"1 of 6 episodes.*as trained, main_101, traffic 7700001"):
        replay(kept, declaration, 1, say=lambda _: None)
    file.write_bytes(whole)


def test_what_was_played_by_other_code_is_played_anew_and_never_extended(
    kept: Kept, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[int] = []
    real = playing.play

    def play(whom: object, kwargs: object, seeds: Sequence[int], condition: str) -> object:
        played.extend(seeds)
        return real(whom, kwargs, seeds, condition)  # type: ignore[arg-type]

    monkeypatch.setattr(playing, "play", play)
    place = Place("synthetic", "as trained", "fixed_time")
    before = playing.play_missing(kept, declaration, place)
    assert played == []
    monkeypatch.setattr(playing, "sources", lambda: "other code")
    after = playing.play_missing(kept, declaration, place, say=lambda _: None)
    assert played == declaration.traffic.seeds("as trained")
    assert after.episodes == before.episodes
    assert np.isfinite(after.episodes[0].mean_delay_s)


@pytest.mark.parametrize("scenario", ["signal_control", "signal_control_ppo_cologne1"])
def test_where_the_time_of_a_training_goes_is_measured_with_its_own_environments(scenario: str) -> None:
    config = load_section(FOLDER / SECTION_FILE).agent(scenario)
    short = {"environment_kwargs": {"site": "synthetic", "episode_s": 60}, "n_envs": min(config.n_envs, 2)}
    eager = {"learning_starts": 0} if scenario == "signal_control" else {"n_steps": 4, "batch_size": 8}
    config = config.model_copy(
        update={**short, "policy": "MlpPolicy", "hyperparameters": {**config.hyperparameters, **eager}}
    )
    found = shares.measure(config, decisions=16)
    assert found["decisions"] == 16
    assert found["simulator_s"] > 0
    assert found["learner_s"] > 0
    assert found["simulator_s"] + found["learner_s"] <= found["seconds"] + 0.02, "each is rounded to a hundredth"


def test_a_killed_training_that_is_saved_exactly_ends_as_the_one_that_was_not_killed(
    declaration: Declaration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "WAYS", ("latest_buffer", "exact", "whole"))
    kept = Kept(tmp_path)
    ablation.carry_out(kept, declaration.ablation, declaration.sha256, jobs=2)
    found = {way: kept.ablation(way, 301) or {} for way in ablation.WAYS}
    assert {way: body["sessions"] for way, body in found.items()} == {"latest_buffer": 2, "exact": 2, "whole": 1}
    assert (found["whole"]["decisions"], found["latest_buffer"]["decisions"]) == (12, 10 + 4)
    assert found["exact"]["decisions"] in (10 + 4, 10 + 8), "the save of step 8 may have been under way"
    assert found["exact"]["policy_sha256"] == found["whole"]["policy_sha256"]
    monkeypatch.setattr(ablation, "_trained", lambda *_: pytest.fail("it was trained again"))
    ablation.carry_out(kept, declaration.ablation, declaration.sha256)
