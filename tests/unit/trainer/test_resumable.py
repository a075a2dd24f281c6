"""`resumable.py`, the file that scripts copy: what it promises with a manager and without one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from kaggle_manager.trainer.script import resumable
from kaggle_manager.trainer.script.resumable import Session, SessionError

SCRIPT = """
import json, time
from resumable import Session

session = Session(target=40, save_every=5)
walk = json.loads((session.resume / "walk.json").read_text()) if session.resume else []
step = session.step
while session.running(step):
    walk.append((walk[-1] if walk else session.seed) * 3 % 1001 + step)
    step += 1
    session.log(step, "walk", walk[-1])
    time.sleep(0.005)
    if session.due(step):
        with session.checkpoint(step) as folder:
            (folder / "walk.json").write_text(json.dumps(walk))
"""


TOGETHER = """
import os, sys, time, torch
from resumable import Session

rank, meeting = int(os.environ["RANK"]), "file://" + sys.argv[1]
torch.distributed.init_process_group("gloo", init_method=meeting, world_size=2, rank=rank)
session = Session(target=400, save_every=150)
own = torch.load(session.resume / f"own{rank}.pt") if session.resume else torch.zeros(1)
step = session.step
while session.running(step):
    told = own * 2 + rank + step
    torch.distributed.all_reduce(told)
    own, step = told % 1009 + rank, step + 1
    session.log(step, "own", own)
    time.sleep(float(os.environ["STEP_S"]))
    if session.due(step):
        with session.checkpoint(step) as folder:
            torch.save(own, folder / f"own{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KM_SESSION_"):
            monkeypatch.delenv(name)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def save(session: Session, step: int, *, best: bool = False) -> None:
    with session.checkpoint(step, best=best) as folder:
        (folder / "weights").write_text(str(step))


def start(folder: Path, **variables: object) -> subprocess.Popen[str]:
    """The script as a user has it: its file and the one it copied, in an interpreter without this package."""
    (folder / "train.py").write_text(SCRIPT)
    shutil.copy(resumable.__file__, folder)
    names = {name: name if name == "RANK" else f"KM_SESSION_{name}" for name in variables}
    env = {**os.environ, **{names[name]: str(value) for name, value in variables.items()}}
    env.pop("PYTHONPATH", None)
    return subprocess.Popen(
        [sys.executable, "-S", "train.py"],
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def said_by(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    return out


def walk_of(folder: Path) -> list[int]:
    return list(json.loads((folder / "walk.json").read_text()))


def wait_for(path: Path) -> None:
    until = time.monotonic() + 600
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} does not come"
        time.sleep(0.002)


def test_it_needs_the_standard_library_alone_and_works_without_a_manager(tmp_path: Path) -> None:
    assert said_by(start(tmp_path)) == ""
    assert len(walk_of(tmp_path / "saves/40")) == 40


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_stopped_and_started_again_it_ends_as_if_nothing_had_been(tmp_path: Path, number: signal.Signals) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    said_by(start(whole))
    process = start(cut)
    wait_for(cut / "saves/10")
    process.send_signal(number)
    process.communicate(timeout=600)
    assert process.returncode == (-9 if number == signal.SIGKILL else 0)
    newest = max(int(each.name) for each in (cut / "saves").iterdir() if each.name.isdecimal())
    assert 10 <= newest < 40
    said_by(start(cut))
    assert walk_of(cut / "saves/40") == walk_of(whole / "saves/40")
    assert (cut / "saves/metrics.jsonl").read_text() == (whole / "saves/metrics.jsonl").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_training_in_a_folder_is_refused_while_the_first_runs_however_that_one_ends(tmp_path: Path) -> None:
    first = start(tmp_path, TARGET=10**9)
    wait_for(tmp_path / "saves/10")
    (tmp_path / "saves/7.tmp").mkdir()
    second = start(tmp_path, TARGET=10**9)
    _, error = second.communicate(timeout=600)
    assert second.returncode == 1
    assert f"SessionError: process {first.pid} is training into {tmp_path / 'saves'}: end it first" in error
    assert (tmp_path / "saves/7.tmp").exists(), "it has touched nothing"
    said_by(start(tmp_path, TARGET=1, RANK=1))
    first.kill()
    first.communicate(timeout=600)
    newest = max(int(each.name) for each in (tmp_path / "saves").iterdir() if each.name.isdecimal())
    said_by(start(tmp_path, TARGET=newest + 1))
    assert (tmp_path / f"saves/{newest + 1}").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_file_system_without_locks_is_no_second_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", refuse)
    save(Session(target=9), 1)
    assert Session(target=9).step == 1


def test_the_manager_s_words_win_over_the_script_s(tmp_path: Path) -> None:
    mount, given = tmp_path / "mount", tmp_path / "given"
    mount.mkdir()
    (mount / "walk.json").write_text(json.dumps([7] * 12))
    said_by(start(tmp_path, TARGET=17, SEED=5, STEP=12, RESUME=mount, SAVES=given))
    assert walk_of(given / "17")[:12] == [7] * 12
    assert sorted(path.name for path in given.iterdir()) == ["17", "metrics.jsonl"]
    assert not (tmp_path / "saves").exists()
    said_by(start(tmp_path, TARGET=1, SEED=5, SAVES=tmp_path / "new"))
    assert walk_of(tmp_path / "new/1") == [15]


def test_at_the_deadline_it_saves_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 999.0
    monkeypatch.setattr(resumable.time, "time", lambda: now)
    monkeypatch.setenv("KM_SESSION_DEADLINE", "1000")
    session = Session(target=9)
    assert session.running(1)
    assert not session.due(2)
    now = 1000.0
    assert session.running(2), "step 2 is not saved yet"
    assert session.due(3)
    save(session, 3)
    assert not session.running(3)


def test_where_its_session_is_over_it_saves_and_leaves_with_the_whole_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KM_SESSION_STOP_AT", "3")
    session, step = Session(target=10), 0
    while session.running(step):
        step += 1
        if session.due(step):
            save(session, step)
    assert (step, session.saved, session.target) == (3, 3, 10)


def test_a_manager_s_checkpoints_are_left_for_it_to_delete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KM_SESSION_SAVES", str(tmp_path / "given"))
    session = Session(target=9)
    for step in range(1, 5):
        save(session, step)
    assert sorted(path.name for path in (tmp_path / "given").iterdir()) == ["1", "2", "3", "4"]


def test_two_checkpoints_are_kept_and_the_newest_best() -> None:
    session = Session(target=9)
    for step in range(1, 8):
        save(session, step, best=step in (2, 3))
    assert sorted(path.name for path in session.saves.glob("[!.]*")) == ["3", "6", "7"]


def test_a_checkpoint_that_is_given_up_is_never_half_there(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(target=9)
    with monkeypatch.context() as killed:  # before it could delete
        killed.setattr(resumable.shutil, "rmtree", lambda *_, **__: None)
        for step in (1, 2, 3):
            save(session, step)
    assert sorted(path.name for path in session.saves.glob("[!.]*")) == ["1.tmp", "2", "3"]
    Session(target=9)
    assert sorted(path.name for path in session.saves.glob("[!.]*")) == ["2", "3"]


def test_any_files_can_be_saved() -> None:
    session = Session(target=9)
    with session.checkpoint(1) as folder:
        (folder / "deep/er").mkdir(parents=True)
        (folder / "deep/er/weights").write_text("1")
        (folder / "deep/er/weights").chmod(0o400)
    assert (session.saves / "1/deep/er/weights").read_text() == "1"


def test_a_checkpoint_is_there_whole_or_not_at_all() -> None:
    session = Session(target=9)
    block = session.checkpoint(4)
    (block.__enter__() / "half").write_text("half")
    assert [path.name for path in session.saves.glob("[!.]*")] == ["4.tmp"]
    assert block.__exit__(OSError, OSError("full"), None) is False
    assert session.saved == 0
    again = Session(target=9)
    assert again.resume is None
    assert list(again.saves.glob("[!.]*")) == []


def test_it_refuses_to_save_backwards() -> None:
    save(Session(target=9), 4)
    session = Session(target=9)
    for step in (3, 4):
        with pytest.raises(SessionError, match=f"step {step} is not after step 4"), session.checkpoint(step):
            pass


@pytest.mark.parametrize("step", [0, -1])
def test_step_zero_has_nothing_to_save_and_is_told_so(step: int) -> None:
    session = Session(target=9)
    with (
        pytest.raises(SessionError, match=f"step {step} is before the first one, which is 1"),
        session.checkpoint(step),
    ):
        pass
    assert list(session.saves.glob("[!.]*")) == []


def test_a_step_is_a_whole_number_of_any_type() -> None:
    session = Session(target=9)
    with pytest.raises(TypeError), session.checkpoint(3.0):  # type: ignore[arg-type]
        pass
    save(session, np.int64(3))  # type: ignore[arg-type]
    session.log(np.int64(3), "loss", np.float32(1))  # type: ignore[arg-type]
    assert Session(target=9).resume == session.saves / "3"


def test_it_ends_at_the_target_or_once_its_last_step_is_saved() -> None:
    session = Session(target=3, save_every=100)
    assert session.running(0)
    assert not session.due(1)
    session.stop()
    assert session.running(1), "step 1 is not saved yet"
    assert session.due(2)
    save(session, 2)
    assert not session.running(2)
    assert not session.due(2)
    again = Session(target=9)
    with again.checkpoint(4):
        again.stop()
    assert not again.running(4), "told while it was saved"
    assert session.due(3)
    assert not session.running(3)


def test_it_saves_by_steps_or_by_time() -> None:
    by_steps = Session(target=100, save_every=5)
    assert [step for step in range(1, 12) if by_steps.due(step)] == [5, 6, 7, 8, 9, 10, 11], "until it is saved"
    save(by_steps, 5)
    assert [step for step in range(5, 12) if by_steps.due(step)] == [10, 11]
    assert not Session(target=100, saves="other").due(6)
    assert Session(target=100, saves="other", save_minutes=0).due(6)


def test_points_of_steps_that_are_made_again_are_forgotten() -> None:
    session = Session(target=9)
    session.log(1, "loss", 3)
    save(session, 1)
    session.log(2, "loss", None)
    with (session.saves / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "na')
    assert Session(target=9).saved == 1
    assert (session.saves / "metrics.jsonl").read_text() == '{"step": 1, "name": "loss", "value": 3.0}\n'


def test_a_line_that_is_no_point_stays_and_one_without_its_end_is_whole_or_forgotten() -> None:
    session = Session(target=9)
    save(session, 1)
    for rest, kept in ((b'{"step": 1}', b'{"step": 1}\n'), (b'{"step": 1, "na', b""), (b"\xff", b"")):
        (session.saves / "metrics.jsonl").write_bytes(b"caf\xe9\n[]\n" + rest)
        Session(target=9).log(2, "loss", 2)
        lines = (session.saves / "metrics.jsonl").read_bytes()
        assert lines == b"caf\xe9\n[]\n" + kept + b'{"step": 2, "name": "loss", "value": 2.0}\n'


def test_a_point_is_a_line_of_its_own_whatever_was_written_before_it() -> None:
    session = Session(target=9)
    with (session.saves / "metrics.jsonl").open("w") as file:
        file.write('{"step": 1, "na')
    session.log(2, "loss", 2)
    session.log(3, "loss", 3)
    assert [json.loads(line)["step"] for line in (session.saves / "metrics.jsonl").read_text().splitlines()[1:]] == [
        2,
        3,
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_a_value_that_is_not_finite_ends_the_training_before_its_good_saves_are_replaced(value: float) -> None:
    session = Session(target=9)
    save(session, 4)
    with pytest.raises(SessionError, match=r"diverged at step 5: loss is .* Step 4 stays saved"):
        session.log(5, "loss", value)
    assert '"step": 5' in (session.saves / "metrics.jsonl").read_text(), "for the manager, which judges it"


def test_what_has_the_name_of_a_checkpoint_and_is_none_is_refused_and_what_has_another_is_left(tmp_path: Path) -> None:
    session = Session(target=9)
    save(session, 4)
    (session.saves / "data.tmp").mkdir()
    (session.saves / "007").mkdir()
    assert Session(target=9).resume == session.saves / "007"
    (session.saves / "9").write_text("")
    with pytest.raises(SessionError, match=r"saves/9 has the name of a checkpoint and is no folder: move it away"):
        Session(target=9)
    assert sorted(path.name for path in session.saves.glob("[!.]*")) == ["007", "4", "9", "data.tmp"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes there")
@pytest.mark.parametrize("odd", ["pipe", "dangling", "folder"])
def test_a_checkpoint_of_what_is_no_file_is_refused_and_the_newest_stays(odd: str, tmp_path: Path) -> None:
    session = Session(target=9)
    save(session, 4)

    def save_it() -> None:
        with session.checkpoint(5) as folder:
            if odd == "pipe":
                os.mkfifo(folder / "odd")
            else:
                (folder / "odd").symlink_to(tmp_path / ("nothing" if odd == "dangling" else "."))

    with pytest.raises(SessionError, match=r"step 5 cannot be saved: .*odd is no file.* Step 4 stays saved"):
        save_it()
    assert Session(target=9).resume == session.saves / "4"


def test_a_commit_that_the_disk_refuses_is_an_error_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(target=9)
    save(session, 4)
    replace = Path.replace

    def other_disk(path: Path, target: Path) -> Path:
        if path.name == "5.tmp":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", other_disk)
    with pytest.raises(SessionError, match=r"step 5 cannot be saved: .*5\.tmp'\. Step 4 stays saved"):
        save(session, 5)
    assert (session.saved, sorted(path.name for path in session.saves.glob("[!.]*"))) == (4, ["4", "5.tmp"])
    (session.saves / "6.tmp").write_text("a file in its place")
    with pytest.raises(SessionError, match=r"step 6 cannot be saved: .* Step 4 stays saved"):
        save(session, 6)


def test_a_saves_folder_that_is_none_is_told() -> None:
    Path("taken").write_text("")
    with pytest.raises(SessionError, match="taken cannot be saved into"):
        Session(target=9, saves="taken")
    Path("saves/metrics.jsonl").mkdir(parents=True)
    with pytest.raises(SessionError, match=r"saves cannot be saved into: .*metrics.jsonl is no file"):
        Session(target=9)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_can_be_ended_and_does_not_mind_ctrl_c() -> None:
    Session(target=9)
    child = os.fork()
    if not child:
        time.sleep(10)
        os._exit(3)
    os.kill(child, signal.SIGINT)
    time.sleep(0.05)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_processes_that_train_together_save_and_stop_at_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TOGETHER)
    shutil.copy(resumable.__file__, tmp_path)

    def together(saves: str, meeting: str) -> list[subprocess.Popen[str]]:
        env = {**os.environ, "KM_SESSION_SAVES": str(tmp_path / saves), "OMP_NUM_THREADS": "1"}
        env["STEP_S"] = "0.02" if saves == "first" else "0.002"  # it is to be stopped long before its target
        if saves == "second":
            newest = max((tmp_path / "first").glob("[0-9]*"), key=lambda path: int(path.name))
            env |= {"KM_SESSION_RESUME": str(newest), "KM_SESSION_STEP": newest.name}
        command = [sys.executable, "train.py", str(tmp_path / meeting)]
        return [
            subprocess.Popen(command, cwd=tmp_path, env={**env, "RANK": rank}, text=True, stderr=subprocess.PIPE)
            for rank in "01"
        ]

    def end(processes: list[subprocess.Popen[str]]) -> None:
        said = [process.communicate(timeout=600)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said

    cut = together("first", "a")
    wait_for(tmp_path / "first/150")
    cut[1].send_signal(signal.SIGTERM)
    end(cut)
    steps = sorted(int(path.name) for path in (tmp_path / "first").glob("[0-9]*"))
    assert steps[0] == 150 < steps[-1] < 400
    end(together("second", "b"))
    end(together("whole", "c"))
    for name in ("own0.pt", "own1.pt"):
        assert torch.equal(torch.load(tmp_path / "second/400" / name), torch.load(tmp_path / "whole/400" / name))
    told = [json.loads(line)["step"] for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert told == list(range(1, 401)), "by the first alone"
