"""An export counts once its listing is there, sends nothing twice, and comes back only when every hash is right."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_trees import SCENARIO, SECTION, config_in, content, flip, plant, reseal

from kaggle_manager.checkpoints import CheckpointStore, RestoreReport, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import (
    Busy,
    CheckpointIncompatible,
    CheckpointNotFound,
    ConfigError,
    LineageMismatch,
    NotFound,
    OutputDamaged,
    UnsafePath,
)
from kaggle_manager.system.files import sha256_of
from kaggle_manager.trees.export import bring_back, export_run, parse_listing, restore_export, send
from kaggle_manager.trees.export.listing import blob
from kaggle_manager.trees.export.send import report_folder
from kaggle_manager.trees.export.store import FolderStore, open_store


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    config = config_in(tmp_path / "work")
    plant(config.tree)
    return config


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def bring(tmp_path: Path, there: Path) -> dict[str, bytes]:
    """What comes back on a machine that has nothing yet."""
    return content(bring_back(config_in(tmp_path / "elsewhere"), str(there), lambda _: None))


def grow(config: RunConfig) -> None:
    """One checkpoint more, as the next session leaves it; the sealed segment is the same."""
    for path in sorted(config.tree.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    plant(config.tree, (2, 3), generation=2)


class Cut(Exception):
    pass


def test_what_came_back_and_was_refused_leaves_no_copy_that_no_list_names(config: RunConfig, there: Path) -> None:
    def refuse(folder: Path) -> RestoreReport:
        assert folder.is_dir()
        raise CheckpointIncompatible("It is of another experiment.")

    export_run(config, str(there))
    with pytest.raises(CheckpointIncompatible, match="another experiment"):
        restore_export(config, str(there), refuse, lambda _: None)
    assert not any((config.state / "from_export").iterdir())


@pytest.fixture
def cut_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the store take so many files and then no more."""
    real = FolderStore.write

    def cut(count: int) -> None:
        left = [count]

        def write(self: FolderStore, name: str, data: bytes) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Cut
            real(self, name, data)

        monkeypatch.setattr(FolderStore, "write", write)

    return cut


def test_what_was_exported_comes_back_byte_for_byte(config: RunConfig, there: Path, tmp_path: Path) -> None:
    done = export_run(config, str(there))
    assert (done.step, done.skipped_files, done.sent_files) == (2, 0, done.files)
    assert done.sent_bytes == sum(len(data) for data in content(there / "blobs").values())
    back = bring(tmp_path, there)
    assert {name: data for name, data in back.items() if name in content(config.tree)} == back
    head = CheckpointStore(TrainingTree(next((tmp_path / "elsewhere/from_export").iterdir()), SCENARIO))
    assert [checkpoint.step for checkpoint in head.valid_checkpoints()] == [2, 1]


def test_only_what_is_new_is_sent_and_what_nothing_names_goes(config: RunConfig, there: Path, tmp_path: Path) -> None:
    first = export_run(config, str(there))
    again = export_run(config, str(there))
    assert (again.sent_files, again.skipped_files, again.skipped_bytes) == (0, first.files, first.sent_bytes)
    grow(config)
    foreign = there / "blobs" / "notes.txt"
    foreign.write_text("somebody's")
    planned = export_run(config, str(there), dry_run=True)
    done = export_run(config, str(there))
    sealed = next(f for f in listing_of(there).tree if f.name.endswith("segment_0.bin"))
    assert done.skipped_bytes >= sealed.size
    assert (done.sent_files, done.sent_bytes) == (planned.sent_files, planned.sent_bytes)
    assert 0 < done.sent_bytes < first.sent_bytes
    assert done.removed_files > 0
    names = {path.name for path in (there / "blobs").iterdir()}
    assert names == {file.sha256 for file in listing_of(there).tree} | {"notes.txt"}
    assert "checkpoints/traffic_light_control_checkpoint_3_steps.zip" in bring(tmp_path, there)


def listing_of(there: Path) -> Any:
    return parse_listing((there / "export.json").read_bytes(), "it")


def test_cut_at_any_file_the_earlier_export_is_whole_and_the_same_command_goes_on(
    config: RunConfig, there: Path, tmp_path: Path, cut_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    export_run(config, str(there))
    earlier = bring(tmp_path, there)
    grow(config)
    to_send = export_run(config, str(there), dry_run=True)
    for count in range(to_send.sent_files + 1):
        cut_after(min(count, 1))  # at once, then after one file more each time; at last just before the listing
        with pytest.raises(Cut):
            export_run(config, str(there))
        assert listing_of(there).step == 2
        assert bring(tmp_path, there) == earlier
    monkeypatch.undo()
    last = export_run(config, str(there))
    assert (last.step, last.sent_files) == (3, 0), "every file was sent by one of the commands that were cut"


def test_half_a_file_left_by_a_cut_command_does_not_count(config: RunConfig, there: Path) -> None:
    export_run(config, str(there))
    grow(config)
    planned = export_run(config, str(there), dry_run=True)
    model = config.tree / "checkpoints" / "traffic_light_control_checkpoint_3_steps.zip"
    (there / "blobs" / sha256_of(model)).write_bytes(b"?" * model.stat().st_size)
    assert export_run(config, str(there)).sent_files == planned.sent_files


def test_what_does_not_arrive_as_it_was_sent_is_never_committed(
    config: RunConfig, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FolderStore.write
    monkeypatch.setattr(FolderStore, "write", lambda self, name, data: real(self, name, data[:-1] + b"?"))
    with pytest.raises(OutputDamaged, match="did not arrive"):
        export_run(config, str(there))
    assert not (there / "export.json").exists()


def test_one_flipped_byte_there_brings_nothing_back_and_recheck_mends_it(
    config: RunConfig, there: Path, tmp_path: Path
) -> None:
    export_run(config, str(there))
    victim = next(f for f in listing_of(there).tree if f.name.endswith("_2_steps.zip"))
    flip(there / blob(victim))
    with pytest.raises(OutputDamaged, match="_2_steps"):
        bring(tmp_path, there)
    assert not [p for p in (tmp_path / "elsewhere").rglob("*") if p.name.endswith(("_2_steps.zip", ".part"))]
    assert export_run(config, str(there)).sent_files == 0, "what was verified when it was sent is not read again"
    assert export_run(config, str(there), recheck=True).sent_files == 1
    assert bring(tmp_path, there)
    (there / blob(victim)).unlink()
    assert export_run(config, str(there)).sent_files == 1


def test_a_damaged_listing_is_refused_and_recheck_writes_a_new_one(
    config: RunConfig, there: Path, tmp_path: Path
) -> None:
    export_run(config, str(there))
    whole = (there / "export.json").read_bytes()
    for position in range(0, len(whole), 97):
        flip(there / "export.json", position)
        with pytest.raises((OutputDamaged, UnsafePath)):
            bring(tmp_path, there)
        flip(there / "export.json", position)
    flip(there / "export.json", 40)
    with pytest.raises(OutputDamaged) as caught:
        export_run(config, str(there))
    assert "--recheck" in caught.value.next_step
    assert export_run(config, str(there), recheck=True).sent_files == 0
    assert bring(tmp_path, there)


@pytest.mark.parametrize("name", ["../escape", "/etc/escape", "a/../../escape", "checkpoints/..", "C:/escape", "a\\b"])
def test_a_hostile_name_is_refused_before_anything_is_asked_for(
    config: RunConfig, there: Path, tmp_path: Path, name: str
) -> None:
    export_run(config, str(there))
    listing = json.loads((there / "export.json").read_bytes())
    listing["tree"] = [{**listing["tree"][0], "name": name}]
    (there / "export.json").write_bytes(reseal(listing))
    with pytest.raises(UnsafePath):
        listing_of(there)
    with pytest.raises(UnsafePath):
        bring(tmp_path, there)
    assert not list(tmp_path.rglob("escape"))


def test_a_listing_without_the_manifest_of_its_newest_checkpoint_is_refused(
    config: RunConfig, there: Path, tmp_path: Path
) -> None:
    export_run(config, str(there))
    listing = json.loads((there / "export.json").read_bytes())
    listing["tree"] = [file for file in listing["tree"] if file["sha256"] != listing["head_sha256"]]
    (there / "export.json").write_bytes(reseal(listing))
    with pytest.raises(OutputDamaged, match="none of its files"):
        bring(tmp_path, there)


def test_a_link_in_the_store_is_not_followed(config: RunConfig, there: Path, tmp_path: Path) -> None:
    export_run(config, str(there))
    stored = there / blob(listing_of(there).tree[0])
    moved = stored.rename(tmp_path / "moved")
    stored.symlink_to(moved)
    with pytest.raises(UnsafePath):
        bring(tmp_path, there)


def test_a_download_that_was_cut_goes_on(
    config: RunConfig, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_run(config, str(there))
    last = listing_of(there).tree[-1]
    kept = (there / blob(last)).read_bytes()
    (there / blob(last)).write_bytes(b"")
    with pytest.raises(OutputDamaged):
        bring(tmp_path, there)
    (there / blob(last)).write_bytes(kept)
    asked: list[str] = []
    real = FolderStore.blocks
    monkeypatch.setattr(FolderStore, "blocks", lambda self, name: (asked.append(name), real(self, name))[1])
    assert bring(tmp_path, there)
    assert asked == ["export.json", blob(last)]


def test_another_runs_export_and_a_later_step_are_never_replaced(config: RunConfig, there: Path) -> None:
    grow(config)
    export_run(config, str(there))
    before = content(there)
    other = config_in(config.state.with_name("other"))
    plant(other.tree, run_id="another")
    with pytest.raises(ConfigError, match="holds the export of run run"):
        export_run(other, str(there))
    older = config_in(config.state.with_name("older"))
    plant(older.tree, (1,))
    with pytest.raises(LineageMismatch, match="at step 3"):
        export_run(older, str(there))
    with pytest.raises(CheckpointNotFound):
        export_run(config_in(config.state.with_name("empty")), str(there))
    assert content(there) == before
    listing = json.loads((there / "export.json").read_bytes())
    (there / "export.json").write_bytes(reseal({**listing, "scenario": "another_one"}))
    with pytest.raises(CheckpointIncompatible, match="another_one"):
        bring_back(config, str(there), lambda _: None)
    with pytest.raises(NotFound, match="no export"):
        bring_back(config, str(there / "deeper"), lambda _: None)


def test_a_report_goes_along_under_its_own_names_and_stays_when_it_is_not_named(config: RunConfig, there: Path) -> None:
    with pytest.raises(NotFound, match="no report"):
        export_run(config, str(there), report=True)
    folder = report_folder(config)
    assert folder == config.state / "validation_ch7" / SECTION / "data/results/report"
    (folder / "figures").mkdir(parents=True)
    (folder / "section.tex").write_text("text")
    (folder / "figures" / "curve.png").write_bytes(b"png")
    first = export_run(config, str(there), report=True)
    assert content(Path(first.report_url)) == content(folder)
    assert export_run(config, str(there)).report_url == first.report_url
    (folder / "section.tex").write_text("other text")
    second = export_run(config, str(there), report=True)
    assert content(Path(second.report_url)) == content(folder)
    assert not Path(first.report_url).exists()


def test_a_damaged_checkpoint_is_left_out_and_told(config: RunConfig, there: Path) -> None:
    flip(config.tree / "checkpoints" / "traffic_light_control_checkpoint_2_steps.zip")
    done = export_run(config, str(there))
    assert (done.step, len(done.left_out)) == (1, 1)


@pytest.mark.parametrize(
    "address",
    ["s3://key:secret@bucket/x", "s3://bucket/x?token=secret", "hf://secret@datasets/x", "s3://[secret", "memory://x"],
)
def test_an_address_with_a_secret_in_it_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(address)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_store_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(ConfigError) as caught:
        open_store("az://container/x")
    assert caught.value.next_step == "pip install 'kaggle-manager[cloud]' adlfs"
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match="not installed"):
        open_store("s3://bucket/x")


def test_only_one_export_of_a_tree_at_a_time_cleans_up_and_another_trees_goes_on(
    config: RunConfig, there: Path
) -> None:
    with send._hold_export(config), pytest.raises(Busy, match="under way"):
        export_run(config, str(there))
    with send._hold_export(replace(config, tree=config.tree.with_name("another"))):
        export_run(config, str(there))


def with_steps(folder: Path, *steps: int) -> RunConfig:
    """Another machine's tree of the same run, with these checkpoints."""
    config = config_in(folder)
    plant(config.tree, steps)
    return config


def between(monkeypatch: pytest.MonkeyPatch, name: str, other: RunConfig, there: Path) -> None:
    """Let another machine export before, or with `after`, one machine's call of a function of `send`."""
    real = getattr(send, name)

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        before = name == "_commit"
        made = real(*arguments) if before else None
        export_run(other, str(there))
        return made if before else real(*arguments)

    monkeypatch.setattr(send, name, meanwhile)


@pytest.mark.parametrize("name", ["_send_all", "_commit"])
def test_two_machines_that_export_one_run_to_one_address_leave_one_whole_export(
    name: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_run(with_steps(tmp_path / "first", 1, 2), str(there))
    one, other = with_steps(tmp_path / "one", 1, 3), with_steps(tmp_path / "other", 2, 3)
    if name == "_commit":  # the other commits between this one's commit and its removals
        one, other = other, one
    between(monkeypatch, name, other, there)
    export_run(one, str(there))
    monkeypatch.undo()
    assert bring(tmp_path, there), "every file that the listing names is there"
    assert {file.sha256 for file in listing_of(there).tree} <= {path.name for path in (there / "blobs").iterdir()}


def test_a_machine_that_was_overtaken_by_a_later_step_replaces_nothing(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = with_steps(tmp_path / "one", 1, 2), with_steps(tmp_path / "other", 2, 3)
    export_run(one, str(there))
    between(monkeypatch, "_send_all", other, there)
    with pytest.raises(LineageMismatch, match="is at step 3"):
        export_run(one, str(there))
    assert listing_of(there).step == 3
    bring(tmp_path, there)


def test_what_another_machine_is_sending_is_not_cleared_away(config: RunConfig, there: Path) -> None:
    export_run(config, str(there))
    begun = there / "blobs" / ("a" * 64)
    begun.write_bytes(b"named by no listing yet")
    grow(config)
    assert export_run(config, str(there)).removed_files > 0
    assert begun.is_file()
