"""`export.json`: what an export holds, and the one file whose presence commits it.

Promises: `parse_listing(listing.to_bytes()) == listing`; one changed bit is noticed; names, sizes and counts are
bounded and safe before a file is asked for.
Never does: read or write; keep anything but names, sizes, hashes and the lineage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kaggle_manager.checkpoints.atomic_io import sha256_bytes
from kaggle_manager.checkpoints.layout import check_component, check_relative
from kaggle_manager.errors import OutputDamaged

LISTING_NAME = "export.json"
SCHEMA = 1
MAX_LISTING_BYTES = 8 << 20
MAX_FILES = 16384
MAX_COUNT = 1 << 53

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ExportedFile:
    """A file: its name relative to the tree, or to the report; its size in bytes; its SHA-256."""

    name: str
    size: int
    sha256: str

    @property
    def blob(self) -> str:
        """Where a file of the tree lies in the export."""
        return f"blobs/{self.sha256}"


@dataclass(frozen=True)
class ExportManifest:
    """What an export holds.

    Attributes:
        section, scenario: whose training tree it is.
        run_id, generation, step: of its newest checkpoint.
        head_sha256: the SHA-256 of that checkpoint's manifest.
        created_at: ISO 8601 time in UTC, for people.
        tree: the files of the training tree, ordered by name.
        report: the files of the report, ordered by name; empty when none was exported.
    """

    section: str
    scenario: str
    run_id: str
    generation: int
    step: int
    head_sha256: str
    created_at: str
    tree: tuple[ExportedFile, ...]
    report: tuple[ExportedFile, ...] = ()

    @property
    def report_folder(self) -> str:
        """Where the report lies: a folder named for its content, so that two reports never mix."""
        return f"reports/{sha256_bytes(_canonical([asdict(file) for file in self.report]))[:16]}"

    def places(self) -> dict[str, ExportedFile]:
        """Every file by the name it has in the export."""
        blobs = {file.blob: file for file in self.tree}
        return {**blobs, **{f"{self.report_folder}/{file.name}": file for file in self.report}}

    def to_bytes(self) -> bytes:
        """JSON, sealed with the SHA-256 of all but the seal."""
        body = {"schema": SCHEMA, **asdict(self)}
        return json.dumps({**body, "seal": sha256_bytes(_canonical(body))}, indent=1, sort_keys=True).encode()


def parse_listing(data: bytes, where: str) -> ExportManifest:
    """Read a listing, trusting nothing. `where` is what a message calls it.

    Raises:
        OutputDamaged: it is damaged, incomplete, out of bounds, or of another schema.
        UnsafePath: it names a file this project would not write.
    """
    try:
        body = json.loads(data)
        seal = body.pop("seal")
        if body["schema"] != SCHEMA:
            raise ValueError(f"schema {body['schema']!r} where {SCHEMA} is known")
        if seal != sha256_bytes(_canonical(body)):
            raise ValueError("it does not match its own seal")
        listing = ExportManifest(
            section=check_component(body["section"]),
            scenario=check_component(body["scenario"]),
            run_id=check_component(body["run_id"]),
            generation=_count(body["generation"]),
            step=_count(body["step"]),
            head_sha256=_digest(body["head_sha256"]),
            created_at=str(body["created_at"])[:40],
            tree=_files(body["tree"]),
            report=_files(body["report"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputDamaged(f"{where} cannot be understood: {error}.", safe="nothing was opened or changed") from error
    return listing


def _files(entries: list[Mapping[str, Any]]) -> tuple[ExportedFile, ...]:
    files = tuple(
        ExportedFile(str(check_relative(entry["name"])), _count(entry["size"]), _digest(entry["sha256"]))
        for entry in entries
    )
    names = [file.name for file in files]
    if len(names) > MAX_FILES or names != sorted(set(names)):
        raise ValueError(f"{len(names):,} files are too many, named twice, or out of order")
    return files


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{value!r} is not a count")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{value!r} is not a SHA-256")
    return value
