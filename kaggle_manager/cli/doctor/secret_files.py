"""Secrets where they could get out: in files git follows or would take up, and in the code that goes to a platform.

Names the file, never the value.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from kaggle_manager.cli.doctor.check import Check
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.sessions.bundle import Bundle, build_bundle

# Files whose name says that they hold a credential.
NAMES = re.compile(
    r"(^|/)(kaggle[^/]*\.json|access_token[^/]*|credentials[^/]*\.json|\.env(\.(?!example)[^/]*)?|[^/]*\.token)$"
)
# A Kaggle token, and a legacy key as kaggle.json, a shell and a Python script write it.
CONTENTS = re.compile(
    rb"KGAT_[0-9a-zA-Z]{16,}"
    rb"|\"key\"\s*:\s*\"[0-9a-f]{32}\""
    rb"|KAGGLE_KEY[\"'\]]*\s*[=:]\s*[\"']?[0-9a-f]{32}"
)
_LARGEST = 2_000_000
# Shorter ones would be found by chance.
_SHORTEST_SECRET = 16


def look(config: RunConfig, credentials: Credentials | None) -> Check:
    """Search the project's git checkout and the section's bundle."""
    secret = credentials.secret.encode() if credentials else b""
    try:
        bundle = build_bundle(config.project_root, config.section)
    except ConfigError as error:
        return Check("secrets", "problem", error.message, error.next_step, error.exit_code)
    root = config.project_root
    followed, is_checkout = _git(root, "--cached"), any((place / ".git").exists() for place in (root, *root.parents))
    out = _suspicious(_read(root, followed or ()), secret) | _suspicious(_unpacked(bundle), secret)
    if out:
        return Check(
            "secrets",
            "problem",
            f"looks like a credential, and git or the platform gets it: {', '.join(sorted(out))}",
            "revoke it where it was made, then take it out of the file and the history",
        )
    if lying := _suspicious(_read(root, _git(root, "--others", "--exclude-standard") or ()), secret):
        return Check(
            "secrets",
            "caution",
            f"looks like a credential, and git would take it: {', '.join(sorted(lying))}",
            "move it out of the project, or name it in .gitignore",
        )
    if followed is None and is_checkout:
        says = "which files git follows is not known: git cannot be run here; none found in the files that are sent"
        return Check("secrets", "unknown", says, "install git, or see that `git status` works here")
    tracked = f"the {len(followed)} files of git and " if followed is not None else ""
    outside = "" if followed is not None else " (this is not a git checkout)"
    return Check("secrets", "ok", f"none found in {tracked}the {len(bundle.files)} files that are sent{outside}")


def _suspicious(files: Iterable[tuple[str, bytes]], secret: bytes) -> set[str]:
    return {
        name
        for name, content in files
        if NAMES.search(name) or CONTENTS.search(content) or (len(secret) >= _SHORTEST_SECRET and secret in content)
    }


def _read(root: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        path = root / name
        try:
            if path.is_file():
                yield name, path.read_bytes() if path.stat().st_size <= _LARGEST else b""
        except OSError:
            continue  # unreadable, so nothing that git could take either


def _unpacked(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            yield member.name, stream.read() if stream else b""


def _git(root: Path, *which: str) -> list[str] | None:
    """Files git lists below the project; None where there is no checkout or no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", *which], cwd=root, capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [name for name in listed.stdout.decode("utf-8", "replace").split("\0") if name]
