"""What a session leaves and this machine has already is not downloaded, whatever checkpoint it is of."""

from __future__ import annotations

from pathlib import Path

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.platforms.local_files import take_what_is_here
from kaggle_manager.platforms.platform import ExpectedFile
from kaggle_manager.sessions.download import _copies


def test_a_file_that_has_not_changed_is_found_by_its_bytes_under_the_name_of_an_earlier_step(tmp_path: Path) -> None:
    store = CheckpointStore(TrainingTree(tmp_path / "tree", "toy"))
    files = {"frozen.bin": b"the same in each", "head.bin": b"1"}
    saved = store.save_latest(step=1, files=files, target=9, lineage=Lineage("run", 1, None, 0), bundle_sha256="")
    known = {file.role: file for file in saved.manifest.files}
    name = "training_tree/checkpoints/toy_checkpoint_2_steps.files/"
    wanted = [
        ExpectedFile(f"{name}frozen.bin", known["frozen.bin"].size, known["frozen.bin"].sha256),
        ExpectedFile(f"{name}head.bin", 1, "0" * 64),
    ]
    found = take_what_is_here(wanted, tmp_path / "download", copies=_copies(wanted, tmp_path / "tree"))
    assert [file.name for file in found.copied] == [f"{name}frozen.bin"]
    assert [file.name for file in found.missing] == [f"{name}head.bin"]
    assert (tmp_path / "download" / f"{name}frozen.bin").read_bytes() == b"the same in each"
