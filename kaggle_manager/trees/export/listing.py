"""`export.json`: what an export holds, and the one file whose presence commits it.

Promises: `parse_listing(listing.to_bytes()) == listing`; one changed bit is noticed (it is sealed JSON); names, sizes
and counts are bounded and safe before a file is asked for.
Never does: read or write; keep anything but names, sizes, hashes and the lineage.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaggle_manager.checkpoints.file_entry import FileEntry, parse_entries
from kaggle_manager.checkpoints.layout import check_component
from kaggle_manager.checkpoints.sealed_json import canonical, count, digest, seal, text, unseal
from kaggle_manager.errors import OutputDamaged
from kaggle_manager.system.files import sha256_bytes

LISTING_NAME = "export.json"
SCHEMA = 2
MAX_LISTING_BYTES = 8 << 20
MAX_FILES = 16384


def blob(file: FileEntry) -> str:
    """Where a file of the tree lies in the export."""
    return f"blobs/{file.sha256}"


@dataclass(frozen=True)
class ExportManifest:
    """What an export holds.

    Attributes:
        section, scenario: whose training tree it is.
        run_id, generation, step: of its newest checkpoint.
        head_sha256: the SHA-256 of that checkpoint's manifest, which is one of the files.
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
    tree: tuple[FileEntry, ...]
    report: tuple[FileEntry, ...] = ()

    @property
    def report_folder(self) -> str:
        """Where the report lies: a folder named for its content, so that two reports never mix."""
        return f"reports/{sha256_bytes(canonical(self.report))[:16]}"

    def places(self) -> dict[str, FileEntry]:
        """Every file by the name it has in the export."""
        blobs = {blob(file): file for file in self.tree}
        return {**blobs, **{f"{self.report_folder}/{file.name}": file for file in self.report}}

    def to_bytes(self) -> bytes:
        """Return it as sealed JSON."""
        return seal(vars(self), schema=SCHEMA)


def parse_listing(data: bytes, where: str) -> ExportManifest:
    """Read a listing, trusting nothing. `where` is what a message calls it.

    Raises:
        OutputDamaged: it is damaged, incomplete or out of bounds.
        CheckpointIncompatible: another version of kaggle-manager wrote it.
        UnsafePath: it names a file this project would not write.
    """
    try:
        body = unseal(data, schema=SCHEMA, most=MAX_LISTING_BYTES, what=where)
        tree = parse_entries(body["tree"], most=MAX_FILES)
        return ExportManifest(
            section=check_component(text(body["section"])),
            scenario=check_component(text(body["scenario"])),
            run_id=check_component(text(body["run_id"])),
            generation=count(body["generation"]),
            step=count(body["step"]),
            head_sha256=_listed(digest(body["head_sha256"]), tree),
            created_at=text(body["created_at"])[:40],
            tree=tree,
            report=parse_entries(body["report"], most=MAX_FILES),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OutputDamaged(f"{where} cannot be understood: {error}.", safe="nothing was opened or changed") from error


def _listed(head_sha256: str, tree: tuple[FileEntry, ...]) -> str:
    if not any(file.sha256 == head_sha256 for file in tree):
        raise ValueError("the manifest of its newest checkpoint is none of its files")
    return head_sha256
