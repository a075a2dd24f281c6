"""`inputs` of section.toml: data there that a training reads, as written, as mounted, and as a push asks for it.

Pure. It runs beside the manager and inside the session. The forms are those of the official client: a dataset as
`owner/name`, with `/versions/3` as on its page; `competition:name`; `model:owner/model/framework/variation`, with
`/version`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["dataset", "competition", "model"]

VARIABLE = "KM_INPUTS"
"""Tells the user's code where its inputs are: a JSON object, from the name of each to the path of its folder."""

LOCAL_FOLDER = PurePosixPath("local_kaggle/inputs")
"""In a state folder: the inputs that this machine has, laid out as they are mounted."""

_SLUG = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_VERSION = r"(?P<version>[1-9][0-9]{0,8})"
_FORMS: dict[Kind, re.Pattern[str]] = {
    "competition": re.compile(rf"competition:(?P<parts>{_SLUG})"),
    "model": re.compile(rf"model:(?P<parts>{_SLUG}/{_SLUG}/{_SLUG}/{_SLUG})(/{_VERSION})?"),
    "dataset": re.compile(rf"(?P<parts>{_SLUG}/{_SLUG})(/versions/{_VERSION})?"),
}
ACCEPTED = (
    '"owner/dataset", "owner/dataset/versions/3", "competition:name", "model:owner/model/framework/variation" '
    'or "model:owner/model/framework/variation/2"'
)


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        parts: of its name on the platform.
        version: the one that is asked for; None for the one that is current when the training begins. A competition
            has none.
    """

    kind: Kind
    parts: tuple[str, ...]
    version: int | None = None

    @property
    def name(self) -> str:
        """What it is called, whatever its version."""
        return ("" if self.kind == "dataset" else f"{self.kind}:") + "/".join(self.parts)

    @property
    def text(self) -> str:
        """As section.toml has it."""
        if self.version is None:
            return self.name
        return f"{self.name}/{'versions/' if self.kind == 'dataset' else ''}{self.version}"

    def at(self, version: int | None) -> Input:
        return replace(self, version=version)

    @property
    def home(self) -> PurePosixPath:
        """Its folder below `KM_INPUT_DIR`, as it is mounted now; of a model that of its version."""
        number = () if self.kind != "model" or self.version is None else (str(self.version),)
        return PurePosixPath(f"{self.kind}s", *self.parts, *number)

    @property
    def places(self) -> tuple[PurePosixPath, ...]:
        """Every folder below `KM_INPUT_DIR` where it may be mounted: today's layout, and the one before it."""
        found = [self.home, PurePosixPath(*self.home.parts[1 if self.kind == "competition" else 2 :])]
        if self.kind == "model":  # the framework's name may be written in lower case
            owner, model, framework, variation = self.parts
            if framework != framework.lower():
                found += replace(self, parts=(owner, model, framework.lower(), variation)).places
        return tuple(found)


def read_input(text: str) -> Input:
    """One text of `inputs`.

    Raises:
        ValueError: it has none of the forms that are accepted.
    """
    for kind, form in _FORMS.items():
        if found := form.fullmatch(text):
            version = found.groupdict().get("version")
            return Input(kind, tuple(found["parts"].split("/")), int(version) if version else None)
    raise ValueError(ACCEPTED)


def is_input(text: str) -> str:
    """`text`, if it is one.

    Raises:
        ValueError: as `read_input`.
    """
    read_input(text)
    return text
