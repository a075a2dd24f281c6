"""A run's input data is looked for before each push, is in the identity of what it trains, and is noticed to change."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest
from small_project import SCENARIO, Bench

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import build_config
from kaggle_manager.errors import CheckpointIncompatible, ConfigError, InputMissing, Interrupted
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.platform import SessionRequest, StartedSession
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sections.inputs import LOCAL_FOLDER
from kaggle_manager.sections.project import get_section
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions.preflight import check_section, inputs_of
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.local_training import train_here

pytestmark = pytest.mark.slow

READS = """import json, os
from pathlib import Path

ROADS = (Path(json.loads(os.environ["KM_INPUTS"])["bob/roads"]) / "roads.csv").read_text()
"""


def reading(bench: Bench, name: str) -> Path:
    """Let the section of `bench` read a dataset of somebody else's; the folder where the local Kaggle looks for it."""
    bench.edit("sections/small/section.toml", r"^trains = true$", f'trains = true\ninputs = ["bob/{name}"]')
    return bench.server.root / "inputs/datasets/bob" / name


def test_each_checkpoint_says_which_version_it_was_trained_on(bench: Bench) -> None:
    folder = reading(bench, "roads-of-a-run")
    folder.mkdir(parents=True)
    (folder / "roads.csv").write_text("1,2")
    report = bench.run()
    assert (report.step, len(report.sessions)) == (4, 2)
    head = CheckpointStore(
        TrainingTree(bench.workdir / "sections/small/data/models", SCENARIO)
    ).find_latest_checkpoint()
    assert head is not None
    assert head.manifest.identity["inputs"] == {"bob/roads-of-a-run": 1}
    assert len(head.manifest.identity["input_files"]["bob/roads-of-a-run"]) == 64


def test_accepted_are_the_files_that_a_session_told_of_and_no_later_ones(bench: Bench) -> None:
    folder = reading(bench, "roads-that-change")
    folder.mkdir(parents=True)
    roads = folder / "roads.csv"
    roads.write_text("1,2")
    bench.run(timesteps=2, accept_changes=True)  # there is nothing to accept
    roads.write_text("1,2,3")
    with pytest.raises(CheckpointIncompatible, match="its files are other ones") as refused:
        bench.run(timesteps=4)
    assert "--accept-changes" in refused.value.next_step
    bench.plan(g3="crash at once")
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, accept_changes=True, interrupt_at="[STEP4]")
    roads.write_text("1,2,3,4")
    bench.plan()
    with pytest.raises(CheckpointIncompatible, match="its files are other ones"):
        bench.run(timesteps=4)
    assert bench.run(timesteps=4, accept_changes=True).step == 4


def test_files_that_lie_on_this_machine_are_compared_before_a_session_would_refuse_them(bench: Bench) -> None:
    folder = reading(bench, "roads-seen-here")
    folder.mkdir(parents=True)
    (bench.workdir / LOCAL_FOLDER).parent.mkdir(parents=True)
    (bench.workdir / LOCAL_FOLDER).symlink_to(bench.server.root / "inputs")
    (folder / "roads.csv").write_text("1,2")
    bench.run(timesteps=2)
    (folder / "roads.csv").write_text("1,2,3")
    for _ in range(2):
        with pytest.raises(CheckpointIncompatible, match="its files are other ones") as refused:
            bench.run(timesteps=4)
        assert "--accept-changes" in refused.value.next_step
        assert "[STEP2]" not in bench.output
    report = bench.run(timesteps=4, accept_changes=True)
    assert (report.step, len(report.sessions)) == (4, 2)


def test_the_version_that_is_current_when_the_user_accepts_is_taken_and_said_and_no_later_one(bench: Bench) -> None:
    bench.edit("sections/small/section.toml", r"^trains = true$", 'trains = true\ninputs = ["local/roads-that-grow"]')
    roads = bench.workdir / "roads.csv"
    roads.parent.mkdir(parents=True, exist_ok=True)

    def publish(content: str) -> None:
        roads.write_text(content)
        with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
            client.publish_inputs(owner="local", slug="roads-that-grow", files=[roads], notes="")

    def trained_on() -> list[int]:
        tree = CheckpointStore(bench.tree).valid_checkpoints()
        return [each.manifest.identity["inputs"]["local/roads-that-grow"] for each in tree]

    publish("1,2")
    bench.run(timesteps=2)
    publish("1,2,3")
    bench.run(timesteps=4)
    assert "has version 2 by now; this run stays with version 1" in bench.output
    bench.plan(g3="crash at once")
    with pytest.raises(Interrupted):
        bench.run(timesteps=6, accept_changes=True, interrupt_at="[STEP4]")
    publish("1,2,3,4")
    bench.plan()
    bench.run(timesteps=6)
    assert "is version 2 from here on, as accepted; it was version 1" in bench.output
    assert "has version 3 by now; this run stays with version 2" in bench.output
    assert trained_on()[0] == 2
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        noted = [each["detail"] for each in journal.events(journal.runs()[0].run_id, "changes_accepted")]
    assert [(each["what"], each["step"]) for each in noted] == [("input local/roads-that-grow", 4)] * 2, "of g3 and g4"


def test_without_its_data_nothing_is_pushed(bench: Bench) -> None:
    reading(bench, "roads-nobody-has")
    with pytest.raises(ConfigError, match="bob/roads-nobody-has is not there") as refused:
        bench.run()
    assert "local_kaggle/inputs/datasets/bob/roads-nobody-has" in refused.value.next_step
    assert not (bench.workdir / "uploads").exists()
    assert "push " not in bench.output


def test_a_session_that_kaggle_started_without_its_data_ends_before_it_trains_and_is_pushed_again(bench: Bench) -> None:
    folder = reading(bench, "roads-that-are-dropped")
    folder.mkdir(parents=True)
    (folder / "roads.csv").write_text("1,2")
    left = [1]

    class Client(KaggleClient):
        def start(self, push: SessionRequest) -> StartedSession:
            if not left:
                return super().start(push)
            left.pop()
            folder.rename(folder.with_name("aside"))
            try:
                return super().start(push)
            finally:
                folder.with_name("aside").rename(folder)

    bench.make_client = Client
    report = bench.run()
    assert (report.step, len(report.sessions)) == (4, 3)
    assert "without dataset bob/roads-that-are-dropped" in bench.output
    assert "The input bob/roads-that-are-dropped/versions/1 is not under" in report.sessions[0].why
    assert report.sessions[0].kind == "mount mismatch"


def test_laptop_and_preflight_read_the_same_folder_and_other_files_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_section("mine", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "sections"]:
        monkeypatch.delitem(sys.modules, name)  # of another test's project
    monkeypatch.setenv("KM_INPUTS", "")
    toml = tmp_path / "sections/mine/section.toml"
    toml.write_text(toml.read_text().replace("trains = true", 'trains = true\ninputs = ["bob/roads"]'))
    environment = next((tmp_path / "sections/mine").glob("*.py"))
    environment.write_text(f"{environment.read_text()}\n\n{READS}")
    section, config = get_section(tmp_path, "mine"), build_config("mine", project_root=tmp_path, environ={})
    (scenario,) = section.scenarios

    def train(target: int) -> None:
        train_here(tmp_path, section, scenario, base=tmp_path, clock=SessionClock(), quick=True, timesteps=target)

    with pytest.raises(InputMissing, match="bob/roads is not on this machine") as missing:
        train(8)
    folder = config.state / LOCAL_FOLDER / "datasets/bob/roads"
    assert str(folder) in missing.value.next_step
    folder.mkdir(parents=True)
    (folder / "roads.csv").write_text("1,2")
    assert check_section(tmp_path, section, inputs=inputs_of(config), quick=True)["ok"]
    train(8)
    (folder / "roads.csv").write_text("1,2,3")
    with pytest.raises(CheckpointIncompatible, match=r"bob/roads"):
        train(32)
