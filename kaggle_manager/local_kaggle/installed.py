"""The distributions that are installed on this machine, and what they require.

Read from the folders that describe them, names alone: quick enough to be asked anew for each session.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.utils import canonicalize_name

_REQUIRES = re.compile(r"^Requires-Dist: *([A-Za-z0-9][\w.-]*)(?: *\[([^\]]*)\])?(.*)$", re.MULTILINE)
_OF_EXTRA = re.compile(r"""\bextra *== *['"]([\w.-]+)['"]""")


@dataclass(frozen=True)
class Distribution:
    """One that is installed here: the folder it is in, and the folder in there that describes it."""

    site: Path
    info: str

    @property
    def name(self) -> str:
        return canonicalize_name(self.info.rpartition(".")[0].partition("-")[0])

    @property
    def version(self) -> str:
        return self.info.rpartition(".")[0].partition("-")[2]

    def text(self, file: str) -> str:
        try:
            return (self.site / self.info / file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    @property
    def is_of_folder(self) -> bool:
        """Whether it was installed from a folder, as somebody's own project is: no index knows it."""
        return bool(folder_of(self.text))

    def requires(self, extras: Iterable[str] = ()) -> set[str]:
        """`name` or `name[extra,...]` of what it requires; markers other than of extras are taken to hold."""
        wanted = {canonicalize_name(extra) for extra in extras}
        text = self.text("METADATA") or self.text("PKG-INFO")
        found = set()
        for name, its_extras, marker in _REQUIRES.findall(text.partition("\n\n")[0]):
            of_extras = _OF_EXTRA.findall(marker)  # several, where one names the others
            if not of_extras or not wanted.isdisjoint(map(canonicalize_name, of_extras)):
                found.add(f"{name}[{its_extras}]" if its_extras else name)
        return found

    def files(self) -> list[str]:
        """Its files below `site`; without a record, the top-level names it tells."""
        record = [row[0] for row in csv.reader(self.text("RECORD").splitlines()) if row]
        record = record or self.text("top_level.txt").split()
        inside = [file for file in record if not file.startswith(("/", "..")) and not file.startswith("__pycache__/")]
        return [*inside, self.info]


def folder_of(text: Callable[[str], str | None]) -> str:
    """The folder that a distribution was installed from, by the files that describe it; "" for none.

    Those of conda name one on the machine that built them.
    """
    try:
        origin = json.loads(text("direct_url.json") or "{}")
    except ValueError:
        return ""
    if "dir_info" not in origin or (text("INSTALLER") or "").strip() == "conda":
        return ""
    return url2pathname(urlsplit(str(origin.get("url", ""))).path)


def installed() -> dict[str, Distribution]:
    """By canonical name, the first of each on this Python's path."""
    found: dict[str, Distribution] = {}
    for folder in filter(Path.is_dir, map(Path, dict.fromkeys(sys.path))):
        for info in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone are wanted
            if info.endswith((".dist-info", ".egg-info")):
                each = Distribution(folder.absolute(), info)
                found.setdefault(each.name, each)
    return found


def with_requirements(here: Mapping[str, Distribution], names: Iterable[str]) -> set[str]:
    """Canonical names of those of `names` (`name` or `name[extra,...]`) that are in `here`, and of all they require."""
    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    left = [*names]
    while left:
        name, _, extras = left.pop().partition("[")
        asked = (canonicalize_name(name), extras.partition("]")[0])
        if asked[0] in here and asked not in done:
            done.add(asked)
            found.add(asked[0])
            left += here[asked[0]].requires(re.findall(r"[\w.-]+", asked[1]))
    return found
