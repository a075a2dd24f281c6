"""What was downloaded or uploaded is not forgotten, whatever the disk, the platform and the manager meet."""

from __future__ import annotations

import itertools
import shlex
import shutil
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from campaign import Campaign
from campaign_draw import HOUR, Drawn
from campaign_stage import stage
from full_disk import no_file_over
from simulated_dataset import SimulatedDataset, Version
from simulated_record import Odds
from test_lies_are_not_believed import RUN
from virtual_process import Killed

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import ConfigError, OutputDamaged, RemoteError, StorageError, Unavailable
from kaggle_manager.notify.notifier import Occasion
from kaggle_manager.orchestrator import notifications, passes, stop
from kaggle_manager.platforms.platform import SessionRef
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.trees.evaluations import read_evaluations


def killed_between_download_and_restore(campaign: Campaign) -> Path:
    """The folder of a session's outputs, downloaded by a manager that died before it restored them."""
    campaign.tick()
    campaign.clock.sleep(7 * HOUR)
    with mock.patch.object(passes, "restore_downloaded", side_effect=Killed):
        campaign.tick()
    assert not CheckpointStore(campaign.tree).valid_checkpoints(), "it is not restored yet"
    (folder,) = campaign.config.downloads.glob("*/generation_1")
    return folder


def clean(folder: Path) -> None:
    shutil.rmtree(folder)


def clean_with_its_list(folder: Path) -> None:
    shutil.rmtree(folder.parents[1])


def damage(folder: Path) -> None:
    next(folder.rglob("*.zip")).write_bytes(b"other bytes")


def lose_the_result(folder: Path) -> None:
    (folder / "session_result.json").unlink()


@pytest.mark.parametrize("trouble", [clean, clean_with_its_list, damage, lose_the_result])
def test_what_was_downloaded_and_is_gone_or_damaged_is_downloaded_again(trouble, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        trouble(killed_between_download_and_restore(campaign))
        campaign.tick()
        assert [checkpoint.step for checkpoint in CheckpointStore(campaign.tree).valid_checkpoints()] != []
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 2, "no step was trained twice"


@pytest.mark.parametrize("times", [1, 99], ids=["once", "always"])
def test_a_curve_that_comes_damaged_is_asked_for_again_and_holds_nothing_up_for_good(
    times: int, project: Path, tmp_path: Path
) -> None:
    one_session = replace(RUN, target=50_000, trainer=replace(RUN.trainer, evaluates_every=10_000))
    campaign = Campaign(1, tmp_path, project, one_session)
    download, damaged = campaign.kaggle._download, []

    def damaging(version: SessionRef, name: str, destination: Path, sha256: str | None) -> None:
        if name.endswith("evaluations.npz") and len(damaged) < times:
            damaged.append(name)
            raise OutputDamaged(f"{name} is damaged, also when downloaded again.", next_step="run it again")
        download(version, name, destination, sha256)

    campaign.kaggle._download = damaging  # type: ignore[method-assign]
    with stage(campaign.mortality):
        assert campaign.run().outcome == "finished"
    assert len(campaign.kaggle.sessions) == 1
    curve = read_evaluations(campaign.tree.history / "evaluations.npz")
    assert [each.step for each in curve] == ([10_000, 20_000, 30_000, 40_000, 50_000] if times == 1 else [])
    assert len(damaged) == min(times, 4), "three refusals, and the fourth try takes what there is"


def test_what_was_downloaded_and_is_whole_is_restored_though_kaggle_has_it_no_more(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        killed_between_download_and_restore(campaign)
        ending = campaign.kaggle.sessions[0].ending
        assert ending is not None
        ending.files = {}
        campaign.tick()
        assert CheckpointStore(campaign.tree).valid_checkpoints()


def slow(ingestion_s: float) -> Drawn:
    return replace(RUN, odds=Odds(ingestion_s=ingestion_s))


def orders(campaign: Campaign) -> list[str]:
    """From now on: each order of a version; the simulated Kaggle itself refuses a second one of a tree."""
    asked: list[str] = []
    campaign.kaggle.tell = asked.append
    return asked


def test_a_tree_that_kaggle_processes_over_many_ticks_is_published_once_and_then_continued(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, slow(5.5 * HOUR))
    asked = orders(campaign)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        campaign.tick()
        told = campaign.status()
        assert told is not None
        assert (told.state, told.human_action_required) == ("waiting", False)
        assert "processing the training tree" in told.why
        assert campaign.run().outcome == "finished"
    assert asked.count("ASKED order a version") == 1
    assert len(campaign.kaggle.sessions) == 2


@pytest.mark.parametrize("where", ["before the order", "after the order", "after the answer"])
def test_a_manager_killed_around_its_order_publishes_nothing_twice(where: str, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, slow(2 * HOUR))
    asked = orders(campaign)
    order = campaign.kaggle.order_version

    def deadly(versions: list[Version]) -> RemoteError | None:
        if where != "before the order":
            assert order(versions) is None
        raise Killed

    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        if where == "after the answer":
            with mock.patch.object(SimulatedDataset, "wait_for", side_effect=Killed):
                campaign.tick()
        else:
            with mock.patch.object(campaign.kaggle, "order_version", deadly):
                campaign.tick()
        assert len(campaign.kaggle.sessions) == 1
        assert campaign.run().outcome == "finished"
    assert asked.count("ASKED order a version") == 1


def test_a_tree_that_kaggle_could_not_process_is_published_anew_by_the_next_command(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    asked = orders(campaign)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        with monkeypatch.context() as patched:
            patched.setattr(SimulatedDataset, "_ready_version", failed)
            campaign.tick()
        assert asked.count("ASKED order a version") == 1, "a schedule sends it again in vain"
        assert campaign.run().outcome == "finished"
    assert asked.count("ASKED order a version") == 2


def failed(dataset: SimulatedDataset, status: str, submission: object) -> int | None:
    dataset._versions[-1].is_taken = True  # whoever runs it again may send it again
    raise ConfigError("Kaggle could not process it: FAILED.", next_step="run the same command again")


def test_a_published_tree_that_somebody_deleted_is_published_again(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, slow(2 * HOUR))
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        campaign.tick()
        (versions,) = campaign.kaggle.datasets.values()
        versions.clear()
        assert campaign.run().outcome == "finished"


def test_the_message_of_the_end_is_sent_though_the_manager_died_before_it_and_once(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, target=1_000))
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        with mock.patch.object(notifications, "run_finished", side_effect=Killed):
            campaign.tick()
        assert campaign.status().state == "finished"  # type: ignore[union-attr]
        for _ in range(3):
            campaign.tick()
    assert [occasion for occasion, _ in campaign.mailbox.received].count(Occasion.RUN_FINISHED) == 1


def stop_at(campaign: Campaign, name: str) -> None:
    """Stop the run from another process when the manager asks this of Kaggle, once."""

    def before(asked: str) -> None:
        if asked == name:
            campaign.kaggle.before_call = lambda other: None
            campaign.stop()

    campaign.kaggle.before_call = before


@pytest.mark.parametrize("name", ["newest kernel", "order a version", "dataset files"])
def test_a_stop_while_the_tree_is_sent_lets_no_session_follow(name: str, project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, person_comes=0.0))
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        stop_at(campaign, name)
        campaign.tick()
    assert len(campaign.kaggle.sessions) == 1
    assert campaign.result.why.startswith("NotFinished")
    assert not campaign.kaggle.may_push, "the stop had said that none follows"


def test_a_session_whose_push_was_under_way_when_the_stop_came_is_ended_when_it_tells_its_id(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, replace(RUN, person_comes=0.0))
    with stage(campaign.mortality):
        stop_at(campaign, "push")
        campaign.tick()
        assert len(campaign.kaggle.sessions) == 1
        assert campaign.kaggle.cancelled == [], "it waits in the queue and has told nothing"
        for _ in range(3):
            campaign.clock.sleep(HOUR)
            campaign.tick()
        assert campaign.kaggle.cancelled == [1], "once"


def test_what_a_stop_sees_is_of_the_moment_it_is_written(project: Path, tmp_path: Path) -> None:
    """Else a push that is under way writes its intent in between, and the kernel is deleted under its session."""
    campaign = Campaign(1, tmp_path, project, RUN)
    read = Journal.sessions

    def within(journal: Journal, run_id: str, newest: int = -1) -> list[SessionRow]:
        assert journal._db.in_transaction
        return read(journal, run_id, newest)

    with stage(campaign.mortality):
        campaign.tick()
        with mock.patch.object(Journal, "sessions", within):
            campaign.stop()
    assert campaign.kaggle.faults["a stop asked for"] == 1


def test_a_stop_is_noted_before_the_platform_is_asked_for(project: Path, tmp_path: Path) -> None:
    def offline(config: RunConfig) -> Connection:
        raise Unavailable("no answer")

    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality), closing(Journal(campaign.config.journal)) as journal:
        campaign.tick()
        with pytest.raises(Unavailable):
            stop.stop_run(campaign.config, offline, journal, campaign.reporter, campaign.clock())
        assert journal.runs()[0].stop_asked


@pytest.mark.parametrize("full", ["when it is opened", "when it is written"])
def test_a_stop_that_cannot_be_written_down_ends_the_session_and_says_that_the_run_goes_on(
    full: str, project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        for _ in range(2):  # it is pushed, then seen at work
            campaign.tick()
            campaign.clock.sleep(HOUR)
        with ExitStack() as opened:
            if full == "when it is opened":
                opened.enter_context(no_file_over(0))
            journal, refused = opened.enter_context(stop.journal_to_stop(campaign.config.journal))
            assert (refused is not None) is (full == "when it is opened")
            opened.enter_context(no_file_over(0))
            with pytest.raises(StorageError, match=r"asked to end session 1\. .*could not be written down") as said:
                stop.stop_run(
                    campaign.config, campaign._connect, journal, campaign.reporter, campaign.clock(), refused=refused
                )
    assert campaign.kaggle.cancelled == [1]
    assert said.value.next_step.endswith(campaign.config.command("stop"))
    with closing(Journal.to_read(campaign.config.journal)) as journal:
        assert not journal.runs()[0].stop_asked


def test_what_a_fresh_start_leaves_on_the_platform_is_named_and_the_named_command_brings_it(
    project: Path, tmp_path: Path
) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    warned: list[str] = []
    campaign.reporter.warn = warned.append  # type: ignore[method-assign]
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        with mock.patch.object(passes, "download_session", side_effect=Unavailable("no answer")):
            campaign.tick()
        campaign.manager().go_on("small", timesteps=RUN.target, fresh=True)
        (told,) = [line for line in warned if "was not downloaded" in line]
        words = shlex.split(told[told.index("km download") :])
        asked = dict(itertools.pairwise(words))
        config = campaign.config
        downloaded = campaign.manager().download_outputs(config, int(asked["--session"]), run_id=asked["--run"])
    assert downloaded.tree is not None
    assert CheckpointStore(TrainingTree(downloaded.tree, "little_task")).valid_checkpoints()


def test_a_look_at_a_running_session_reads_no_checkpoint(project: Path, tmp_path: Path) -> None:
    campaign = Campaign(1, tmp_path, project, RUN)
    with stage(campaign.mortality):
        campaign.tick()
        campaign.clock.sleep(7 * HOUR)
        campaign.tick()
        assert len(campaign.kaggle.alive()) == 1, "the second session runs"
        reads = {name: mock.Mock(side_effect=AssertionError(name)) for name in ("open", "sha256")}
        with mock.patch.multiple(Disk, **reads), mock.patch.object(CheckpointStore, "valid_checkpoints", reads["open"]):
            report = campaign.manager().tick("small", timesteps=RUN.target)
    assert report.state in ("queued", "running")
