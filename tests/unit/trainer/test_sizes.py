"""A training that can start can end: what does not fit is known before it is too late, or left to the replay log."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import trainer_runs
from support.trainer_runs import DQN, SCENARIO, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.metadata import read_metadata
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import Quick, ScenarioConfig, load_section
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.trainer.runtime.as_in_session import try_out
from kaggle_manager.trainer.sb3 import sizes
from kaggle_manager.trainer.sb3.env_check import Pool
from kaggle_manager.trainer.sb3.preflight import check_sizes, preflight
from kaggle_manager.trainer.sb3.sb3_exchange import export_sb3


def test_the_memory_that_is_left_is_the_machines_and_the_containers(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal:       32000000 kB\nMemAvailable:    8000000 kB\n")
    cgroup.mkdir()
    assert sizes.available_memory(meminfo, cgroup) == 8_000_000 * 1024
    assert sizes.available_memory(tmp_path / "none", cgroup) is None
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("5000\n")
    (cgroup / "memory.stat").write_text("anon 1\ninactive_file 1000\n")
    assert sizes.available_memory(meminfo, cgroup) == 8_000_000 * 1024, "no limit"
    (cgroup / "memory.max").write_text("6000\n")
    assert sizes.available_memory(meminfo, cgroup) == 2000, "what files are cached in makes room"
    old = cgroup / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("900\n")
    (old / "memory.usage_in_bytes").write_text("1000\n")
    (old / "memory.stat").write_text("total_inactive_file 200\n")
    assert sizes.available_memory(tmp_path / "none", cgroup) == 100


def test_a_buffer_that_memory_has_no_room_for_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tmp_path, hyperparameters={**DQN, "buffer_size": 10_000_000_000})
    with pytest.raises(ConfigError, match="larger than the memory"):  # not even its addresses
        trainer_runs.session(chosen)
    monkeypatch.setattr(sizes, "available_memory", lambda: 5_000)
    with pytest.raises(
        ConfigError, match=r"buffer comes to .* GB and this machine has .* a buffer_size of \d+"
    ) as refused:
        trainer_runs.session(settings(tmp_path))
    assert "section.toml" in refused.value.next_step
    assert not TrainingTree(tmp_path, SCENARIO).checkpoints.exists()
    monkeypatch.setattr(sizes, "available_memory", lambda: 50_000)
    trainer_runs.session(settings(tmp_path, total=100), max_steps=50)
    monkeypatch.setattr(sizes, "available_memory", lambda: 5_000)
    assert trainer_runs.session(settings(tmp_path, total=100)).kind == "completed", "begun, it cannot take another size"


def test_a_final_model_goes_without_the_file_of_its_buffer_says_so_and_the_log_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = TrainingTree(tmp_path / "models", SCENARIO)
    chosen = settings(tree.root, hyperparameters={**DQN, "buffer_size": 1_000})
    assert trainer_runs.session(replace(chosen, total=100)).reason == ""
    stock = pickle.loads((tree.path("final", "replay_buffer")).read_bytes())
    outcome = trainer_runs.session(replace(chosen, total=150, kept_bytes=60_000))
    assert (outcome.kind, outcome.step) == ("completed", 152), "the end of a rollout"
    assert "left to the replay log" in outcome.reason
    assert "export-sb3" in outcome.reason
    assert outcome.reason in capsys.readouterr().out
    metadata = read_metadata(tree.metadata)
    assert metadata is not None
    assert outcome.reason in metadata.strategy["final"]
    final = CheckpointStore(tree).final()
    assert final is not None
    assert [file.role for file in final.manifest.files] == ["model"]
    assert not (tree.path("final", "replay_buffer")).exists(), "that of the final model before is not its"
    exported = pickle.loads(
        export_sb3(tree.root, SCENARIO, None, tmp_path / "exported", check=lambda _: None)[1].read_bytes()
    )
    assert exported.pos == 152
    np.testing.assert_array_equal(exported.observations[:100], stock.observations[:100])


def test_the_first_save_says_what_the_log_will_come_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = settings(tmp_path, hyperparameters={**DQN, "buffer_size": 10_000}, total=20_000)
    trainer_runs.session(chosen, max_steps=60)
    assert "may not end" not in capsys.readouterr().out
    trainer_runs.session(replace(chosen, kept_bytes=100_000), max_steps=110)
    said = [line for line in capsys.readouterr().out.splitlines() if "may not end" in line]
    assert len(said) == 1
    assert "10,000 rows" in said[0]
    assert "buffer_size" in said[0]


@pytest.mark.parametrize(
    ("algorithm", "rows", "ok", "says"),
    [
        ("DQN", 10_000, True, "GB of memory"),
        ("DQN", 500_000_000, True, "WARNING: a session may leave 20 GB"),
        ("DQN", 2_000_000_000, False, "a session has 30 GB"),
        ("PPO", None, True, "no replay buffer"),
    ],
)
def test_the_preflight_compares_the_whole_buffer_with_what_a_session_has(
    algorithm: str, rows: int | None, ok: bool, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(try_out, "memory_bytes", 30 * 10**9)
    monkeypatch.setattr(try_out, "output_bytes", 20 * 10**9)
    scenario = ScenarioConfig(
        environment="gymnasium:make",
        environment_kwargs={"id": "CartPole-v1"},
        algorithm=algorithm,
        hyperparameters={} if rows is None else {"buffer_size": rows},
        timesteps=10**10,
        models="data/models",
        quick=Quick(models="data/quick"),
    )
    with Pool() as made:
        result = check_sizes(scenario, made)
        monkeypatch.undo()
        unbounded = check_sizes(scenario, made)
    assert result.ok is ok
    assert says in result.detail
    assert unbounded.ok, "where the platform has no such bound"
    assert "a session" not in unbounded.detail


def test_the_rows_of_several_environments_are_counted_once() -> None:
    scenario = ScenarioConfig(
        environment="gymnasium:make",
        environment_kwargs={"id": "CartPole-v1"},
        algorithm="DQN",
        hyperparameters={"buffer_size": 400_000_000},
        n_envs=4,
        timesteps=10**10,
        models="data/models",
        quick=Quick(models="data/quick"),
    )
    with Pool() as made:
        result = check_sizes(scenario, made)
    assert result.ok, result.detail
    assert "takes 2" in result.detail, "20 GB or so, a quarter of it for each"


@pytest.mark.parametrize(
    ("rows", "says", "not_said"),
    [
        (20_000_000, ["downloaded as well, has 1 GB", "WARNING: that is all 20,000,000 rows, and 8 are filled"], []),
        (100, [], ["file", "WARNING"]),
    ],
)
def test_a_quick_run_says_before_it_what_the_file_of_its_buffer_will_come_to(
    tmp_path: Path, rows: int, says: list[str], not_said: list[str]
) -> None:
    made = new_section("mine", tmp_path, environment="CartPole-v1", algorithm="DQN")
    text = made.section.folder / "section.toml"
    text.write_text(text.read_text().replace("buffer_size = 100\n", f"buffer_size = {rows}\n"))
    section = load_section(text)
    details = [check.detail for check in preflight(tmp_path, section, quick=True) if "fits a session" in check.name]
    assert len(details) == 1
    assert all(part in details[0] for part in says)
    assert not any(part in details[0] for part in not_said)
