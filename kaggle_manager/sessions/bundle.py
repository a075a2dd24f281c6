"""Code and launch order -> one deterministic kernel script.

Kaggle uploads a single source file under 1 MB, so everything a kernel runs travels inside it: the section's folder,
what its `include` names, and this program's own runtime, as a compressed archive after `trainer/entry.py`. The content
hash covers names and bytes of the code and nothing else: the same code has the same hash on every machine, at every
launch, whatever the compressor's version. Never includes anything but source files, and never a credential.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import lzma
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kaggle_manager.errors import BundleTooLarge, ConfigError
from kaggle_manager.sections.model import Section

# Kaggle refuses a source of 1 MB or more with HTTP 400; the margin is for what its JSON encoding adds.
SOURCE_LIMIT_BYTES = 1_000_000
PACKAGE = "kaggle_manager"
# Where this program is installed: what its own names in a bundle are relative to.
INSTALLED = Path(__file__).resolve().parents[2]
# What of this program runs in a session. It imports nothing else of it (held by tests/unit/test_layers.py).
RUNTIME = (
    f"{PACKAGE}/__init__.py",
    f"{PACKAGE}/accelerators.py",
    f"{PACKAGE}/errors.py",
    f"{PACKAGE}/system",
    f"{PACKAGE}/protocol",
    f"{PACKAGE}/sections/__init__.py",
    f"{PACKAGE}/sections/model.py",
    f"{PACKAGE}/sections/identity.py",
    f"{PACKAGE}/sections/project.py",
    f"{PACKAGE}/checkpoints",
    f"{PACKAGE}/trainer",
)
ENTRY = f"{PACKAGE}/trainer/entry.py"
SOURCE_SUFFIXES = frozenset({".py", ".toml", ".xml"})
# Where a section keeps what its runs produce; a folder of this name anywhere else is code like any other.
PRODUCTS = "data"


@dataclass(frozen=True)
class Bundle:
    """The code of a kernel.

    Attributes:
        archive: uncompressed tar of the files, deterministic.
        sha256: hash of `archive`; the identity of the code.
        files: project-relative name and size in bytes of each file, in archive order.
    """

    archive: bytes
    sha256: str
    files: tuple[tuple[str, int], ...]


def build_bundle(root: Path, section: Section) -> Bundle:
    """Archive what a session of `section` runs.

    Args:
        root: the project folder; names in the bundle are relative to it.
        section: its folder travels, and what its `kernel.include` names: files and folders, relative to `root`.

    Raises:
        ConfigError: an included path does not exist or lies outside the project.
    """
    own = [section.folder.relative_to(root).as_posix(), *section.kernel.include]
    homes = dict.fromkeys(_names(root, own), root) | dict.fromkeys(_names(INSTALLED, RUNTIME), INSTALLED)
    buffer = io.BytesIO()
    sizes = []
    # PAX takes names of any length, and writes the same bytes as USTAR for those that fit.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(homes):
            content = _content(homes[name], name)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(content))
            sizes.append((name, len(content)))
    archive = buffer.getvalue()
    return Bundle(archive, hashlib.sha256(archive).hexdigest(), tuple(sizes))


def render_script(bundle: Bundle, order: Mapping[str, Any]) -> str:
    """Return the source of the kernel that runs `bundle` under the launch order.

    Raises:
        BundleTooLarge: the script would be over Kaggle's limit; the message names the largest files.
    """
    entry = (INSTALLED / ENTRY).read_text(encoding="utf-8")
    payload = base64.b85encode(lzma.compress(bundle.archive, preset=9 | lzma.PRESET_EXTREME)).decode("ascii")
    call = (
        f'\n\nif __name__ == "__main__":\n'
        f"    raise SystemExit(\n        main(\n"
        f"            bundle_sha256={bundle.sha256!r},\n"
        f"            order=json.loads({json.dumps(order, sort_keys=True)!r}),\n"
        # Base 85 has neither quotes nor backslashes, so a raw literal holds it as it is.
        f'            payload=r"""\n{_wrapped(payload)}\n""",\n'
        f"        )\n    )\n"
    )
    script = entry + call
    size = len(script.encode("utf-8"))
    if size >= SOURCE_LIMIT_BYTES:
        largest = sorted(bundle.files, key=lambda item: -item[1])[:5]
        listing = ", ".join(f"{name} ({length:,} bytes)" for name, length in largest)
        raise BundleTooLarge(
            f"The kernel script would be {size:,} bytes; Kaggle accepts less than {SOURCE_LIMIT_BYTES:,}. "
            f"Largest files: {listing}.",
            safe="nothing was pushed",
            next_step="narrow `include` in the section's section.toml, or move large inputs to a dataset",
        )
    return script


def order_of(script: str) -> dict[str, Any] | None:
    """The launch order inside a kernel script of this program; None for any other script."""
    found = re.search(r"^ *order=json\.loads\((.+)\),\r?$", script, re.MULTILINE)  # a platform may change line ends
    try:
        order = json.loads(ast.literal_eval(found[1])) if found else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return order if isinstance(order, dict) else None


def _wrapped(text: str, width: int = 120) -> str:
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))


def _content(root: Path, name: str) -> bytes:
    """The bytes of a file. Line endings of source files follow the checkout's settings; the code does not."""
    try:
        name.encode()
        content = (root / name).read_bytes()
    except OSError as error:
        raise _unusable(name, f"cannot be read ({error.strerror})") from error
    except UnicodeEncodeError as error:
        raise _unusable(name, "has a name that is no text") from error
    return content.replace(b"\r\n", b"\n") if PurePosixPath(name).suffix in SOURCE_SUFFIXES else content


def _unusable(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"{name!r}, which belongs to the code of a session, {why}.",
        safe="nothing was pushed",
        next_step="correct that file, or narrow `include` in the section's section.toml",
    )


def _names(root: Path, include: Sequence[str]) -> set[str]:
    return {name for entry in include for name in _source_files(root, entry)} | _package_markers(root, include)


def _source_files(root: Path, entry: str) -> list[str]:
    relative = PurePosixPath(entry)
    path = root / relative
    if root is not INSTALLED and relative.parts[0] == PACKAGE:
        raise ConfigError(
            f"The bundle is to include {entry!r}, and this program brings its own code itself.",
            safe="nothing was pushed",
            next_step="leave it out of `include` in the section's section.toml; only files of your own belong there",
        )
    if relative.is_absolute() or ".." in relative.parts or not path.exists():
        raise ConfigError(
            f"The bundle is to include {entry!r}, which is not a file or folder inside {root}.",
            safe="nothing was pushed",
            next_step="correct `include` in the section's section.toml",
        )
    if path.is_file():
        return [relative.as_posix()]  # named by itself, it is wanted, whatever it is
    found = [p for p in path.rglob("*") if p.suffix in SOURCE_SUFFIXES and p.is_file() and not _is_product(p)]
    return [p.relative_to(root).as_posix() for p in found]


def _is_product(path: Path) -> bool:
    return any(
        folder.name == "__pycache__" or (folder.name == PRODUCTS and (folder.parent / "section.toml").is_file())
        for folder in path.parents
    )


def _package_markers(root: Path, include: Sequence[str]) -> set[str]:
    """`__init__.py` of the folders above what is included, so that it imports under its own name."""
    parents = {parent for entry in include for parent in PurePosixPath(entry).parents if parent.name}
    markers = [(parent / "__init__.py").as_posix() for parent in parents]
    return {marker for marker in markers if (root / marker).is_file()}


def describe(bundle: Bundle, script: str) -> str:
    """One line for people: how much code, how large, which hash."""
    total = sum(size for _, size in bundle.files)
    code = f"{len(bundle.files)} files, {total:,} bytes"
    return f"{code} -> one script of {len(script.encode()):,} bytes; code sha256 {bundle.sha256[:12]}…"
