"""Uploads that were begun and not finished, remembered across processes.

A file is recognised by its SHA-256, so an upload only continues with the bytes it began with. What is remembered, the
upload's signed address, lets its holder write that one upload and nothing else; it is kept readable for this user
alone and forgotten as soon as the upload is whole. Losing the memory costs an upload, never a dataset.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kaggle_manager.system.files import sha256_of

# Smaller files are sent again sooner than they are hashed and asked for.
WORTH_REMEMBERING = 8 * 1024 * 1024


@dataclass(frozen=True)
class OpenUpload:
    """An upload the host has begun to take: what will stand for it, and where its bytes go."""

    token: str = field(repr=False)
    url: str = field(repr=False)


class UploadMemory:
    """The begun uploads of one run.

    Args:
        folder: where they are written down; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, path: Path, host: str) -> Path | None:
        """Where the upload of this file to this host is written down; None when it is not worth it."""
        if path.stat().st_size < WORTH_REMEMBERING:
            return None
        return self._folder / f"{sha256_of(path)}-{path.name}-{host}.json"

    @staticmethod
    def recall(place: Path) -> OpenUpload | None:
        """The upload that was begun; None when none was, or what was written down cannot be read."""
        try:
            return OpenUpload(**json.loads(place.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    @staticmethod
    def remember(place: Path, upload: OpenUpload) -> None:
        """Write an upload down. A disk that refuses costs no more than the memory."""
        unfinished = place.with_name(f"{place.name}.new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(asdict(upload), stream)
            unfinished.replace(place)
        except OSError:
            return

    def forget_all(self) -> None:
        """Called when every upload is whole: what they stand for is used once."""
        for place in self._folder.glob("*.json*"):
            place.unlink(missing_ok=True)
