"""The dataset of a simulated run: the real way to publish, over versions that take time and answers that are lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from kaggle_manager.checkpoints.archive import INDEX_NAME
from kaggle_manager.errors import RemoteError, Unavailable
from kaggle_manager.platforms.kaggle import datasets

if TYPE_CHECKING:
    from simulated_kaggle import SimulatedKaggle


@dataclass
class Version:
    """One version as it really is.

    `is_taken`: a session was pushed since. `more_bytes`: by so many its files are listed larger than they are.
    """

    content: dict[str, bytes] = field(repr=False)
    ready_at: float
    is_taken: bool = False
    more_bytes: int = 0

    @property
    def head(self) -> str:
        """The manifest of its newest checkpoint."""
        return str(json.loads(self.content[INDEX_NAME])["head_manifest_sha256"])


@dataclass(frozen=True)
class Pace:
    """How often the simulated Kaggle is asked; nothing is drawn, so that a seed stays one history."""

    base_s: float = 1.0
    cap_s: float = 15.0

    def pause_s(self, looks: int) -> float:
        return min(self.cap_s, self.base_s * 2.0 ** min(looks, 10))


class SimulatedDataset(datasets._Dataset):
    """Answers what Kaggle would, from the versions of a `SimulatedKaggle`."""

    def __init__(self, client: SimulatedKaggle, owner: str, slug: str) -> None:
        self._client: Any = client
        self._owner, self._slug, self._about = owner, slug, f"dataset {owner}/{slug}"

    @property
    def _versions(self) -> list[Version]:
        return self._client.datasets.setdefault(self._slug, [])  # type: ignore[no-any-return]

    def _current(self) -> int:
        return sum(version.ready_at <= self._client.clock() for version in self._versions)

    def _status(self) -> str:
        self._client.ask("dataset status")
        if not self._versions:
            return ""
        return "READY" if self._current() == len(self._versions) else "BLOBS_RECEIVED"

    def _described(self) -> dict[str, Any] | None:
        self._client.ask("dataset")
        if not self._versions:
            return None
        numbers = [{"versionNumber": number} for number in range(1, len(self._versions) + 1)]
        return {"isPrivate": True, "currentVersionNumber": self._current(), "versions": numbers}

    def _listed(self, version: int) -> dict[str, int]:
        self._client.ask("dataset files")
        found = self._versions[version - 1]
        return {name: len(content) + found.more_bytes for name, content in found.content.items()}

    def submit(self, title: str, tokens: Sequence[str], notes: str) -> RemoteError | None:
        return self.submit_version(tokens, notes)

    def submit_version(self, tokens: Sequence[str], notes: str, replaces: bool = False) -> RemoteError | None:
        return self._client.order_version(self._versions)  # type: ignore[no-any-return]


@contextmanager
def simulated_datasets():
    """The real `publish_dataset` and `find_submitted`, over `SimulatedDataset`."""
    with (
        mock.patch.object(datasets, "_Dataset", SimulatedDataset),
        mock.patch.object(datasets, "upload_blob", lambda client, path, tell, memory: path.name),
    ):
        yield


LOST = Unavailable("The answer never came.")
