"""The learning curve is one line: no row twice, none missing, whatever was cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.trainer.sb3.monitor_log import MonitorLog


def log_in(folder: Path, step: int = 0) -> MonitorLog:
    log = MonitorLog(folder / "monitor.csv", "Test-v0", lambda: 1.5)
    log.model = SimpleNamespace(num_timesteps=step)  # type: ignore[assignment]
    log._on_training_start()
    return log


def end_episode(log: MonitorLog, reward: float) -> None:
    log.locals = {"infos": [{}, {"episode": {"r": reward, "l": 7, "t": 99.0}}]}
    log._on_step()


def rewards(folder: Path) -> list[float]:
    lines = (folder / "monitor.csv").read_text().splitlines()
    assert lines[0] == '#{"t_start": 0.0, "env_id": "Test-v0"}'
    assert lines[1] == "r,l,t,step"
    return [float(line.split(",")[0]) for line in lines[2:]]


def test_a_resume_cuts_back_to_what_its_checkpoint_counted(tmp_path: Path) -> None:
    first = log_in(tmp_path)
    for reward in (1.0, 2.0):
        end_episode(first, reward)
    saved = first.state()
    end_episode(first, 3.0)
    with (tmp_path / "monitor.csv").open("a") as file:
        file.write("4.0,")  # killed in the middle of a row
    second = log_in(tmp_path, step=20)
    second.load_state(saved)
    assert rewards(tmp_path) == [1.0, 2.0]
    end_episode(second, 3.5)
    second._on_training_end()
    assert rewards(tmp_path) == [1.0, 2.0, 3.5]
    assert second.state()["rows"] == 3


def test_a_training_from_zero_leaves_nothing_of_one_that_never_saved(tmp_path: Path) -> None:
    first = log_in(tmp_path)
    end_episode(first, 1.0)
    first._on_training_end()
    assert rewards(tmp_path) == [1.0]
    log_in(tmp_path)
    assert rewards(tmp_path) == []


def test_episodes_are_written_once_a_second_and_before_every_save(tmp_path: Path) -> None:
    now = [0.0]
    log = MonitorLog(tmp_path / "monitor.csv", "Test-v0", lambda: now[0])
    log.model = SimpleNamespace(num_timesteps=0)  # type: ignore[assignment]
    log._on_training_start()
    end_episode(log, 1.0)
    log._on_rollout_start()
    assert rewards(tmp_path) == [], "opening the file for each would cost more than a short episode"
    now[0] = 1.0
    log._on_rollout_start()
    assert rewards(tmp_path) == [1.0]
    end_episode(log, 2.0)
    assert log.state()["rows"] == len(rewards(tmp_path)) == 2


def test_lost_rows_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = log_in(tmp_path, step=20)
    log.load_state({"rows": 2, "wall_clock": 60.0})
    assert "0 of the 2 episodes" in capsys.readouterr().out
    assert rewards(tmp_path) == []


def test_time_is_that_of_all_sessions(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    state: dict[str, Any] = {"rows": 0, "wall_clock": 60.0}
    log.load_state(state)
    assert log.training_seconds == pytest.approx(60.0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_once_and_ends_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    log = MonitorLog(Path("/dev/full"), "Test-v0", lambda: 1.5)
    for reward in (1.0, 2.0):
        end_episode(log, reward)
        log._on_training_end()
    assert capsys.readouterr().out.count("could not be written, and the training continues without") == 1
    assert log.state()["rows"] == 2, "so that the gap is told after a resume"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["history/monitor.csv", "history/monitor.csv.tmp", "history"])
def test_what_a_users_code_makes_in_its_place_ends_no_training(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)
    log = log_in(tmp_path / "history")
    end_episode(log, 1.0)
    log.state()
    assert rewards(tmp_path / "history") == [1.0]
    (tmp_path / "history/monitor.csv").unlink()
    make(tmp_path / "history/monitor.csv")
    end_episode(log, 2.0)
    state = log.state()
    log_in(tmp_path / "history", step=9).load_state(state)
    assert rewards(tmp_path / "history") == []
