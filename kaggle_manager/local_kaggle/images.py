"""The images of the local Kaggle: sessions run in the newest one, or in the one that their push pins.

An image is a digest here, and nothing else differs between two of them. Kaggle moves its newest image on every few
weeks and takes old ones away; `limits.json` and the fault `image_moves` play both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from kaggle_manager.local_kaggle.serialization import Body, text


@dataclass(frozen=True)
class Image:
    """One image, numbered in the order they came out."""

    number: int

    @property
    def digest(self) -> str:
        """Its name, as Kaggle spells one."""
        content = hashlib.sha256(f"image {self.number} of the local Kaggle".encode()).hexdigest()
        return f"gcr.io/kaggle-images/python@sha256:{content}"


@dataclass(frozen=True)
class Images:
    """Those that a session can be started in, oldest to newest by their numbers."""

    oldest: int
    newest: int

    def chosen(self, body: Body, earlier: Iterable[str]) -> Image | None:
        """The image a push runs in; None when it pins one that is not there (any more).

        Args:
            body: the push: `dockerImage`, and `dockerImagePinningType` as `original` or `latest`.
            earlier: digests of the kernel's earlier versions, the first one first.
        """
        wanted = text(body, "dockerImage")
        pinning = text(body, "dockerImagePinningType")
        if pinning == "original" and not wanted:
            wanted = next(iter(earlier), "")
        if pinning == "latest" or not wanted:
            return Image(self.newest)
        known = (Image(number) for number in range(self.oldest, self.newest + 1))
        return next((image for image in known if image.digest == wanted), None)
