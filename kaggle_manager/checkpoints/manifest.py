"""The manifest: what a checkpoint consists of, and the one file whose presence commits it.

Promises: `parse_manifest(manifest.to_bytes()) == manifest`; one changed bit anywhere is noticed (it is sealed JSON);
names, sizes and counts are bounded before a file is opened.
Never does: read or write a file; follow an absolute path; accept what it does not know.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaggle_manager.checkpoints.file_entry import FileEntry, parse_entries
from kaggle_manager.checkpoints.layout import KINDS, Kind, check_component, file_name
from kaggle_manager.checkpoints.sealed_json import count, digest, seal, text, unseal
from kaggle_manager.errors import CheckpointCorrupt, UnsafePath, one_line
from kaggle_manager.system.files import sha256_bytes

SCHEMA = 3
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 1000
MAX_SEGMENTS = 4096


@dataclass(frozen=True)
class Lineage:
    """What a session continues.

    Args:
        run_id: the run.
        generation: the number of the session in its run, from 1.
        parent_sha256: `Manifest.sha256` of the checkpoint the session started from; None when it started from zero.
        min_step: the step it started from at least.
    """

    run_id: str
    generation: int
    parent_sha256: str | None
    min_step: int


@dataclass(frozen=True)
class CommittedFile(FileEntry):
    """One file of a checkpoint.

    Args:
        role: what it is for: one of `layout.ROLES`, or the path of a script's own file. Level, scenario, step and role
            give its name, which lies in the folder of the manifest or below it.
    """

    role: str


@dataclass(frozen=True)
class SegmentRef:
    """The committed part of one replay segment.

    Args:
        name: file name in the `replay` folder.
        first_row: number of its first row, counted from the first row the run ever wrote.
        end_row: number after its last committed row.
        length: committed bytes; what lies behind them in the file is not part of the checkpoint.
        sha256: SHA-256 of those bytes. Carried forward, never computed again, once the segment is full.
    """

    name: str
    first_row: int
    end_row: int
    length: int
    sha256: str


@dataclass(frozen=True)
class ReplayCommit:
    """A replay buffer as it was at one instant.

    Args:
        rows: rows written since the run began. The ring position is `rows % capacity`; it is full from `capacity` on.
        capacity: rows of the ring.
        segments: in the order of their rows; together they hold at least the newest min(rows, capacity) rows.
    """

    rows: int
    capacity: int
    segments: tuple[SegmentRef, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything that is stated about one checkpoint.

    Args:
        kind: which of the three levels.
        scenario: whose tree it belongs to.
        step: environment steps trained so far, over all sessions.
        target: environment steps the run was asked for.
        lineage: the session that wrote it.
        bundle_sha256: content hash of the code that wrote it.
        files: its files, ordered by name, each role once.
        replay: the replay buffer; None for algorithms without one, and for `best` and `final`.
        identity: what the compatibility check compares (see `compatibility`).
        certificate: digest of everything that defines the continuation; empty when it was not computed.
        exact: how exact a resume from here is, and why.
        metrics: numbers for people; `best` has `score`. A number that is not finite is stored as null.
        created_at: ISO 8601 time in UTC, whole seconds. Only the kept copies of a tree are ordered by it.
    """

    kind: Kind
    scenario: str
    step: int
    target: int
    lineage: Lineage
    bundle_sha256: str
    files: tuple[CommittedFile, ...]
    replay: ReplayCommit | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    certificate: str = ""
    exact: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""

    def __post_init__(self) -> None:
        for name in ("identity", "exact", "metrics"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    def to_bytes(self) -> bytes:
        """Return the one spelling of this manifest, as sealed JSON."""
        return seal(vars(self), schema=SCHEMA)

    @property
    def sha256(self) -> str:
        """The SHA-256 of `to_bytes()`: the name by which a lineage calls its parent."""
        return sha256_bytes(self.to_bytes())

    def file(self, role: str) -> CommittedFile | None:
        """The file of a role; None when the checkpoint has none."""
        return next((file for file in self.files if file.role == role), None)

    def sha256_of(self, role: str) -> str:
        """The SHA-256 of the file of a role; "" when the checkpoint has none."""
        return file.sha256 if (file := self.file(role)) else ""

    @property
    def segments(self) -> tuple[SegmentRef, ...]:
        """The replay segments; empty without a replay buffer."""
        return self.replay.segments if self.replay else ()

    @property
    def size(self) -> int:
        """Bytes of its files and replay segments."""
        return sum(file.size for file in self.files) + sum(ref.length for ref in self.segments)

    @property
    def told_score(self) -> float | None:
        """The score for people: of a script's metric its value, of which a smaller one may be the better."""
        value = self.metrics.get("value")
        return float(value) if isinstance(value, int | float) else self.score

    @property
    def score(self) -> float | None:
        """The score of a best model; None on the other levels."""
        value = self.metrics.get("score")
        return float(value) if isinstance(value, int | float) else None


@functools.lru_cache(maxsize=8)  # each save looks at the same few manifests again and again
def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest, trusting nothing.

    Raises:
        CheckpointCorrupt: it is too large, damaged, incomplete, or has a value out of its bounds.
        CheckpointIncompatible: another version of kaggle-manager wrote it.
    """
    try:
        body = unseal(data, schema=SCHEMA, most=MAX_MANIFEST_BYTES, what="The checkpoint")
    except ValueError as error:
        raise CheckpointCorrupt(f"The manifest is damaged: {error}.") from error
    try:
        manifest = _build(body)
        if manifest.to_bytes() != data:  # its text is none that `plain` lets through
            raise ValueError("its text could not be shown as it is")
        return manifest
    except (KeyError, TypeError, ValueError, RecursionError, UnsafePath) as error:
        raise CheckpointCorrupt(f"The manifest says something that cannot be: {error}.") from error


def _build(body: dict[str, Any]) -> Manifest:
    expected = {entry.name for entry in dataclasses.fields(Manifest)}
    if set(body) != expected:
        raise ValueError(f"fields missing or unknown: {sorted(set(body) ^ expected)}")
    if body["kind"] not in KINDS:
        raise ValueError(f"kind {body['kind']!r}")
    kind, scenario, step = body["kind"], check_component(text(body["scenario"])), count(body["step"])
    replay = body["replay"]
    if replay is not None and len(replay["segments"]) > MAX_SEGMENTS:
        raise ValueError(f"{len(replay['segments'])} segments")
    lineage = body["lineage"]
    for name in ("identity", "exact", "metrics"):
        if not isinstance(body[name], dict):
            raise TypeError(f"{name} is not an object")
    return Manifest(
        kind=kind,
        scenario=scenario,
        step=step,
        target=count(body["target"]),
        lineage=Lineage(
            run_id=text(lineage["run_id"]),
            generation=count(lineage["generation"]),
            parent_sha256=None if lineage["parent_sha256"] is None else digest(lineage["parent_sha256"]),
            min_step=count(lineage["min_step"]),
        ),
        bundle_sha256=text(body["bundle_sha256"]),
        files=_build_files(body["files"], kind, scenario, step),
        replay=None if replay is None else _build_replay(replay),
        identity=body["identity"],
        certificate=text(body["certificate"]),
        exact=body["exact"],
        metrics=body["metrics"],
        created_at=text(body["created_at"]),
    )


def _build_files(
    entries: Sequence[Mapping[str, Any]], kind: Kind, scenario: str, step: int
) -> tuple[CommittedFile, ...]:
    """No name is taken from outside: each is the one that this project gives to the file of its role."""
    files = parse_entries(entries, most=MAX_FILES)
    found = tuple(
        CommittedFile(file.name, file.size, file.sha256, text(entry["role"]))
        for file, entry in zip(files, entries, strict=True)
    )
    if wrong := [file.name for file in found if file.name != file_name(kind, scenario, step, file.role)]:
        raise ValueError(f"{wrong[0]} is not the name of a file of its role")
    if len({file.name.casefold() for file in found}) != len(found):
        raise ValueError("two files have the same name on a disk that does not tell upper from lower case")
    return found


def _build_replay(body: dict[str, Any]) -> ReplayCommit:
    return ReplayCommit(
        rows=count(body["rows"]),
        capacity=count(body["capacity"]),
        segments=tuple(
            SegmentRef(
                name=check_component(text(entry["name"])),
                first_row=count(entry["first_row"]),
                end_row=count(entry["end_row"]),
                length=count(entry["length"]),
                sha256=digest(entry["sha256"]),
            )
            for entry in body["segments"]
        ),
    )


def plain(value: Any) -> Any:
    """Return `value` as JSON will give it back and anything may show it.

    Keys are text, and text is one printable line; tuples are lists; a number that is not finite is null.
    """
    if hasattr(value, "item") and not isinstance(value, Mapping):  # a numpy scalar
        value = value.item()
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
