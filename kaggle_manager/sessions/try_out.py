"""Where it is tried what travels: the code of a session, unpacked alone in a folder of its own, as a session begins.

A process started in it has neither the project's folder nor this machine's other packages; see
`trainer/runtime/as_in_session`.
"""

from __future__ import annotations

import io
import json
import os
import site
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.local_kaggle.sandbox import scrubbed
from kaggle_manager.platforms.platform import Limits
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import DEFAULT_FOLDER, sections_folder
from kaggle_manager.sessions.bundle import build_bundle
from kaggle_manager.sessions.image_view import hidden_from
from kaggle_manager.sessions.known_before import folders_of
from kaggle_manager.system.arithmetic import pinned
from kaggle_manager.system.scratch import scratch_folder

RUNNER = "kaggle_manager.trainer.runtime.as_in_session"
VARIABLE = "KM_TRY_OUT"
# An environment may download its data: a session has its own way to the internet, this machine has these.
_TO_CONNECT = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR"})


@dataclass(frozen=True)
class TryOutPlace:
    """A folder that `unpacked` has made.

    Attributes:
        code: what travels, unpacked.
        progress: the file that results are appended to, a line of JSON each.
        environ: the environment of a process that shall see what a session sees.
    """

    code: Path
    progress: Path
    environ: dict[str, str]

    def command(self, module: str, *arguments: str) -> list[str]:
        """What runs a module there."""
        return [sys.executable, "-m", RUNNER, module, *arguments]


def _of_machine() -> dict[str, str]:
    """What a process needs of this machine's variables; those of the user, which no session has, are not among them."""
    kept = {name: value for name, value in os.environ.items() if name.upper() in _TO_CONNECT}
    user_base = site.getuserbase()  # type: ignore[no-untyped-call, unused-ignore]
    return {**scrubbed(os.environ), **kept, "PYTHONUSERBASE": user_base, "LANG": "C.UTF-8"}


def _package_folders() -> list[str]:
    """Folders of packages on `PYTHONPATH`; any other folder there is this machine's own, and no session has it."""
    places = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return [place for place in places if any(Path(place).glob("*.dist-info"))]


@contextmanager
def unpacked(project: Path, section: Section, limits: Limits | None = None) -> Iterator[TryOutPlace]:
    """Unpack what a session of `section` would run; it is removed at the end.

    Args:
        limits: of the platform that it would run on; None where they do not matter.

    Raises:
        ConfigError: what is to travel is not there, see `build_bundle`.
    """
    bundle = build_bundle(project, section)
    with scratch_folder("km_try_out_") as folder:
        base = folder.resolve()
        place = TryOutPlace(base / "code", base / "progress.jsonl", {})
        for name in ("code", "working", "input", "home", "tmp"):
            (base / name).mkdir()
        with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as tar:
            tar.extractall(place.code, filter="data")
        if (sections := sections_folder(project)) != DEFAULT_FOLDER:  # as a session is told in its launch order
            table = f"[tool.kaggle-manager]\nsections = {json.dumps(sections)}\n"
            (place.code / "pyproject.toml").write_text(table, encoding="utf-8")
        told = {
            "code": str(place.code),
            "project": str(project.resolve()),
            "section": section.folder.relative_to(project).as_posix(),
            "hidden": hidden_from(section),
            "pinned": [
                folder for folder in folders_of(section.kernel.packages) if not project.resolve().is_relative_to(folder)
            ],
            "progress": str(place.progress),
            "memory_bytes": limits.memory_bytes if limits else None,
            "output_bytes": limits.output_bytes if limits else None,
        }
        # A preflight of the section's own may load NumPy before the trainer.
        place.environ.update(
            pinned(_of_machine()),
            HOME=str(base / "home"),
            USERPROFILE=str(base / "home"),
            TMPDIR=str(base / "tmp"),
            PYTHONPATH=os.pathsep.join([str(place.code), *_package_folders()]),
            PYTHONIOENCODING="utf-8",
            KM_WORKING_DIR=str(base / "working"),
            KM_INPUT_DIR=str(base / "input"),
            **{VARIABLE: json.dumps(told)},
        )
        yield place
