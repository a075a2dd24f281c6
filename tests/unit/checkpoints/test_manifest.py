"""The manifest notices every change, and a name from outside never becomes a path that leaves its folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from small_trees import reseal

from kaggle_manager.checkpoints import (
    Lineage,
    Manifest,
    ReplayCommit,
    SegmentRef,
    TrainingTree,
    parse_manifest,
)
from kaggle_manager.checkpoints.layout import check_component, check_relative, inside
from kaggle_manager.checkpoints.manifest import MAX_MANIFEST_BYTES, CommittedFile
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, UnsafePath

STEM = "traffic_checkpoint_45000_steps"


def file(name: str, role: str = "model", size: int = 3, sha256: str = "c" * 64) -> CommittedFile:
    return CommittedFile(name, size, sha256, role)


def own(role: str) -> CommittedFile:
    return file(f"{STEM}.files/{role}", role)


MANIFEST = Manifest(
    kind="latest",
    scenario="traffic",
    step=45_000,
    target=100_000,
    lineage=Lineage("run", 2, "a" * 64, 40_000),
    bundle_sha256="b" * 64,
    files=(own("nets/actor.pt"), file(f"{STEM}.zip")),
    replay=ReplayCommit(9, 8, (SegmentRef("segment_0.bin", 0, 9, 100, "d" * 64),)),
    identity={"policy_architecture": (64, 64), "nan": float("nan")},
    metrics={"score": -25.5},
    created_at="2026-01-01T00:00:00+00:00",
)


def test_a_manifest_comes_back_as_it_was() -> None:
    again = parse_manifest(MANIFEST.to_bytes())
    assert again == MANIFEST
    assert again.sha256 == MANIFEST.sha256
    assert again.identity == {"policy_architecture": [64, 64], "nan": None}


def test_every_single_flipped_bit_is_noticed() -> None:
    data = MANIFEST.to_bytes()
    for position in random.Random(5).sample(range(len(data) * 8), 2000):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(CheckpointCorrupt):
            parse_manifest(bytes(damaged))


def test_every_truncation_is_noticed() -> None:
    data = MANIFEST.to_bytes()
    for length in range(len(data)):
        with pytest.raises(CheckpointCorrupt):
            parse_manifest(data[:length])


def sealed(**changes: object) -> bytes:
    """A manifest whose seal is right and whose content is not."""
    fields = {name: value for name, value in vars(MANIFEST).items() if name not in changes}
    return Manifest(**{**fields, **changes}).to_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"files": (file("../climbs.zip"),)},
        {"files": (file("/absolute.zip"),)},
        {"files": (own("../climbs.zip"),)},
        {"files": (own("a//b"),)},
        {"files": (own("being_written.next"),)},
        {"files": (own("A.pt"), own("a.pt"))},
        {"files": (file("traffic_final.zip"),)},
        {"files": (file(f"{STEM}.zip", "state"),)},
        {"files": (file(f"{STEM}.zip", "\x1b[2J"),)},
        {"files": (file(f"{STEM}.zip"),) * 2},
        {"files": (file(f"{STEM}.zip"), own("a.pt"))},
        {"files": (file("C:drive.zip"),)},
        {"files": (file(f"{STEM}.zip", size=-1),)},
        {"files": (file(f"{STEM}.zip", sha256="short"),)},
        {"files": tuple(own(f"{number:04}") for number in range(1001))},
        {"step": -1},
        {"step": True},
        {"step": 1 << 60},
        {"kind": "newest"},
        {"scenario": "a/b"},
        {"replay": ReplayCommit(1, 1, (SegmentRef("..", 0, 1, 1, "d" * 64),))},
    ],
    ids=lambda changes: str(next(iter(changes)))[:20],
)
def test_what_cannot_be_is_refused_even_under_a_right_seal(changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointCorrupt, match="cannot be"):
        parse_manifest(sealed(**changes))


@pytest.mark.parametrize(
    ("schema", "made_by", "next_step"),
    [(2, "an earlier development version of kaggle-manager", "--fresh"), (4, "a newer version", "update")],
)
def test_another_versions_manifest_is_not_called_damaged(schema: int, made_by: str, next_step: str) -> None:
    fields = json.loads(MANIFEST.to_bytes()) | {"schema": schema}
    with pytest.raises(CheckpointIncompatible, match=made_by) as refused:
        parse_manifest(reseal(fields))
    assert next_step in refused.value.next_step
    assert refused.value.exit_code == 7
    with pytest.raises(CheckpointCorrupt):  # a damaged schema number is damage
        parse_manifest(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b"{" * 100_000, b"\xff\xfe", b'{"schema":NaN}', b" " * (MAX_MANIFEST_BYTES + 1)],
)
def test_rubbish_is_corrupt_not_a_traceback(data: bytes) -> None:
    with pytest.raises(CheckpointCorrupt):
        parse_manifest(data)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-rf",
        "a/b",
        "a\\b",
        "/etc",
        "C:x",
        "a\x00b",
        "a\nb",
        "con",
        "NUL.zip",
        "a ",
        "a.",
        "ä" * 9,
    ],
)
def test_an_unsafe_name_is_refused(name: str) -> None:
    with pytest.raises(UnsafePath):
        check_component(name)


@pytest.mark.parametrize("name", ["../x", "a/../b", "/a", "a//b", "a/", "/".join("abcdefghi")])
def test_an_unsafe_relative_path_is_refused(name: str) -> None:
    with pytest.raises(UnsafePath):
        check_relative(name)


def test_a_symbolic_link_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath, match="symbolic link"):
        inside(tmp_path / "tree", "link/file")


def test_a_scenario_that_is_no_name_makes_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UnsafePath):
        TrainingTree(tmp_path, "../other")
