"""TensorBoard's curves are one line in one file: no point twice, none missing, whatever was cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from stable_baselines3.common.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kaggle_manager.trainer.sb3 import tensorboard_log
from kaggle_manager.trainer.sb3.tensorboard_log import EventFile, TensorBoardLog


def file_in(folder: Path) -> EventFile:
    file = EventFile(folder / "tensorboard" / tensorboard_log.FILE_NAME)
    file.begin()
    return file


def write(file: EventFile, *steps: int) -> None:
    for step in steps:
        file.write({"loss": step / 2, "name": "text", "secret": 1.0}, {"secret": ("tensorboard",)}, step)


def seen_by_tensorboard(folder: Path) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    assert accumulator.Tags()["scalars"] in ([], ["loss"])
    return [(event.step, event.value) for event in accumulator.Scalars("loss")]


def test_a_resume_cuts_back_to_what_its_checkpoint_counted(tmp_path: Path) -> None:
    first = file_in(tmp_path)
    write(first, 10, 20, 30)
    with (tmp_path / "tensorboard" / tensorboard_log.FILE_NAME).open("ab") as file:
        file.write(b"\x20\0\0\0\0\0\0\0half a record")  # killed in the middle of a point
    second = EventFile(tmp_path / "tensorboard" / tensorboard_log.FILE_NAME)
    second.cut(2)
    write(second, 31, 40)
    assert seen_by_tensorboard(tmp_path) == [(10, 5.0), (20, 10.0), (31, 15.5), (40, 20.0)]
    assert second.points == 4


def test_a_training_from_zero_leaves_nothing_of_one_that_never_saved(tmp_path: Path) -> None:
    write(file_in(tmp_path), 10)
    write(file_in(tmp_path), 12)
    assert seen_by_tensorboard(tmp_path) == [(12, 6.0)]


@pytest.mark.parametrize("left", [None, b"", b"torn"])
def test_lost_points_are_said_and_the_curve_goes_on(
    left: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tensorboard" / tensorboard_log.FILE_NAME
    if left is not None:
        path.parent.mkdir()
        path.write_bytes(left)
    file = EventFile(path)
    file.cut(7)
    assert "0 of the 7 points the checkpoint counted; the curves have a gap, the training has not" in (
        capsys.readouterr().out
    )
    write(file, 80)
    assert seen_by_tensorboard(tmp_path) == [(80, 40.0)]
    assert file.points == 8, "so that this is not said again"


def test_where_tensorboard_is_not_installed_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard_log, "Event", None)
    file = file_in(tmp_path)
    write(file, 10)
    file.cut(3)
    assert not (tmp_path / "tensorboard" / tensorboard_log.FILE_NAME).exists()


def test_points_are_written_at_the_first_rollout_start_at_or_after_each_multiple_and_at_the_end(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path / "x", 100)
    written: list[int] = []
    model = SimpleNamespace(num_timesteps=0, logger=Logger(None, []))
    model.dump_logs = lambda: written.append(model.num_timesteps)
    log.model = model  # type: ignore[assignment]
    for model.num_timesteps in (0, 64, 128, 192, 256):
        log._on_rollout_start()
    log._on_training_end()
    model.num_timesteps = 290
    log._on_training_end()
    assert written == [128, 256, 290]


def test_values_gathered_for_the_next_point_survive_a_resume(tmp_path: Path) -> None:
    file_in(tmp_path)
    logs = []
    for _ in range(2):
        log = TensorBoardLog(tmp_path / "tensorboard" / tensorboard_log.FILE_NAME, 100)
        log.model = SimpleNamespace(num_timesteps=50, logger=Logger(None, []))  # type: ignore[assignment]
        logs.append(log)
    before, after = logs
    before.logger.record_mean("x", 1.0)
    before.logger.record_mean("x", 2.0)
    after.logger.record("y", 1.0)
    after.load_state(before.state())
    after.logger.record_mean("x", 6.0)
    assert after.state()["values"] == {"x": 3.0}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_ends_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    write(EventFile(Path("/dev/full")), 10)
    assert "TensorBoard's curves could not be written, and the training continues" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("name", ["history", "history/tensorboard", f"history/tensorboard/{tensorboard_log.FILE_NAME}"])
def test_what_a_users_code_makes_in_its_place_ends_no_training(
    name: str, make: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    make(tmp_path / name)
    file = EventFile(tmp_path / "history/tensorboard" / tensorboard_log.FILE_NAME)
    file.cut(0)
    write(file, 10)
    assert file.points == 1
    assert (tmp_path / "history/tensorboard" / tensorboard_log.FILE_NAME).is_file()
