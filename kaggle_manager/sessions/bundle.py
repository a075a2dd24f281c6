"""Code and launch order -> one deterministic kernel script.

A platform may take a single source file under 1 MB, so everything a session runs travels in it: the sources of the
section's folder, what its `include` names, whatever it is, the files that define its experiment, and this program's own
runtime, as a compressed archive after `trainer/entry.py`. The content hash covers names, bytes and the executable bit
of the code and nothing else: the same code has the same hash at every launch, whatever the compressor's version. Never
includes a hidden file, a credential or what runs produced, unless it is named by itself.
"""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import io
import json
import lzma
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kaggle_manager.errors import BundleTooLarge, ConfigError
from kaggle_manager.platforms.platform import SOURCE_LIMIT_BYTES
from kaggle_manager.sections import notebook
from kaggle_manager.sections.identity import source_names
from kaggle_manager.sections.model import SECTION_FILE, Section

# More than this cannot become so little: text is compressed to a twentieth, and is not even read.
CODE_LIMIT_BYTES = 64_000_000
PACKAGE = "kaggle_manager"
# Where this program is installed: what its own names in a bundle are relative to.
INSTALLED = Path(__file__).resolve().parents[2]
# What of this program runs in a session. It imports nothing else of it (held by tests/unit/test_layers.py).
RUNTIME = (
    f"{PACKAGE}/__init__.py",
    f"{PACKAGE}/errors.py",
    f"{PACKAGE}/system",
    f"{PACKAGE}/protocol",
    f"{PACKAGE}/sections/__init__.py",
    f"{PACKAGE}/sections/inputs.py",
    f"{PACKAGE}/sections/input_folders.py",
    f"{PACKAGE}/sections/fields.py",
    f"{PACKAGE}/sections/agent_tables.py",
    f"{PACKAGE}/sections/model.py",
    f"{PACKAGE}/sections/mistakes.py",
    f"{PACKAGE}/sections/notebook.py",
    f"{PACKAGE}/sections/script.py",
    f"{PACKAGE}/sections/sweep.py",
    f"{PACKAGE}/sections/trial.py",
    f"{PACKAGE}/sections/hyperparameters.py",
    f"{PACKAGE}/sections/values.py",
    f"{PACKAGE}/sections/imports.py",
    f"{PACKAGE}/sections/meaning.py",
    f"{PACKAGE}/sections/identity.py",
    f"{PACKAGE}/sections/project.py",
    f"{PACKAGE}/checkpoints",
    f"{PACKAGE}/trainer",
)
ENTRY = f"{PACKAGE}/trainer/entry.py"
SOURCE_SUFFIXES = frozenset({".py", ".toml", ".xml"})
# Where a section keeps what its runs produce; a folder of this name anywhere else is code like any other.
PRODUCTS = "data"
# Of a folder that travels, what stays here beside every name that begins with a dot.
STAYS = frozenset({"__pycache__", "kaggle.json"})


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
    home = section.folder.relative_to(root)
    files = {
        **dict.fromkeys(_files(INSTALLED, RUNTIME, only_sources=True), INSTALLED),
        **dict.fromkeys(_files(root, [home.as_posix()], only_sources=True), root),
        **dict.fromkeys(_files(root, [*section.kernel.include, *_experiment(root, section)]), root),
    }
    # Of a notebook only the code travels, however much it shows.
    sizes = {name: _facts(files[name], name).st_size for name in files if not name.endswith(notebook.SUFFIX)}
    if sum(sizes.values()) > CODE_LIMIT_BYTES:
        raise _too_large(f"The code of a session would be {sum(sizes.values()):,} bytes", sizes.items())
    buffer = io.BytesIO()
    packed = []
    # PAX takes names of any length, and writes the same bytes as USTAR for those that fit.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            content = _content(files[name], name)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755 if _facts(files[name], name).st_mode & 0o100 else 0o644
            tar.addfile(info, io.BytesIO(content))
            packed.append((name, len(content)))
    archive = buffer.getvalue()
    return Bundle(archive, hashlib.sha256(archive).hexdigest(), tuple(packed))


def _experiment(root: Path, section: Section) -> Iterator[str]:
    """The files that the section's experiments are fingerprinted by; `identity` says when one is missing."""
    for scenario in section.scenarios.values():
        for name in source_names(section, scenario, root):
            path = section.folder / name if (section.folder / name).exists() else root / name
            if path.is_file():
                yield path.relative_to(root).as_posix()


def render_script(
    bundle: Bundle,
    order: Mapping[str, Any],
    limit: int = SOURCE_LIMIT_BYTES,
    beside: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the source of the kernel that runs `bundle` under the launch order.

    Args:
        limit: bytes; the platform takes less.
        beside: launch orders of other runs that the same session carries.

    Raises:
        BundleTooLarge: the script would be over the platform's limit; the message names the largest files.
    """
    entry = (INSTALLED / ENTRY).read_text(encoding="utf-8")
    payload = _compressed(bundle.archive)
    call = (
        f'\n\nif __name__ == "__main__":\n'
        f"    raise SystemExit(\n        main(\n"
        f"            bundle_sha256={bundle.sha256!r},\n"
        f"            order=json.loads({json.dumps(order, sort_keys=True)!r}),\n"
        + (f"            beside=json.loads({json.dumps(list(beside), sort_keys=True)!r}),\n" if beside else "")
        # Base 85 has neither quotes nor backslashes, so a raw literal holds it as it is.
        + f'            payload=r"""\n{_wrapped(payload)}\n""",\n'
        f"        )\n    )\n"
    )
    script = entry + call
    size = len(script.encode("utf-8"))
    if size >= limit:
        raise _too_large(f"The kernel script would be {size:,} bytes", bundle.files, limit)
    return script


def order_of(script: str, run_id: str = "") -> dict[str, Any] | None:
    """The launch order inside a kernel script of this program; None for any other script.

    Args:
        run_id: of which run, in a session that carries several; "" for the first of them.
    """
    order, beside = _argument(script, "order"), _argument(script, "beside")
    orders = [each for each in (order, *(beside if isinstance(beside, list) else ())) if isinstance(each, dict)]
    return next((each for each in orders if run_id in ("", each.get("run_id"))), None)


def _argument(script: str, name: str) -> object:
    """What the call at the end of a script gives under this name; None for nothing that can be read."""
    found = re.search(rf"^ *{name}=json\.loads\((.+)\),\r?$", script, re.MULTILINE)  # a platform may change line ends
    try:
        return json.loads(ast.literal_eval(found[1])) if found else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


@functools.lru_cache(maxsize=2)
def _compressed(archive: bytes) -> str:
    """As text. It takes half a second, and the sessions of a run carry the same code; more effort gains 0.3 %."""
    return base64.b85encode(lzma.compress(archive)).decode("ascii")


def _wrapped(text: str, width: int = 120) -> str:
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))


def _too_large(what: str, files: Iterable[tuple[str, int]], limit: int = SOURCE_LIMIT_BYTES) -> BundleTooLarge:
    largest = ", ".join(f"{name} ({size:,} bytes)" for name, size in sorted(files, key=lambda item: -item[1])[:5])
    return BundleTooLarge(
        f"{what}; the platform accepts less than {limit:,}, compressed. Largest files: {largest}.",
        safe="nothing was pushed",
        next_step="leave large files out of `include` in the section's section.toml: put them into a dataset there "
        "and name that in `inputs`, from where a session reads them",
    )


def _content(root: Path, name: str) -> bytes:
    """The bytes of a file. Line endings of source files follow the checkout's settings; the code does not."""
    try:
        name.encode()
        content = (root / name).read_bytes()
    except OSError as error:
        raise _unusable(name, f"cannot be read ({error.strerror})") from error
    except UnicodeEncodeError as error:
        raise _unusable(name, "has a name that is no text") from error
    if name.endswith(notebook.SUFFIX):
        return notebook.without_outputs(content)
    return content.replace(b"\r\n", b"\n") if PurePosixPath(name).suffix in SOURCE_SUFFIXES else content


def _facts(root: Path, name: str) -> os.stat_result:
    try:
        return (root / name).stat()
    except OSError as error:
        raise _unusable(name, f"cannot be read ({error.strerror})") from error


def _unusable(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"{name!r}, which belongs to the code of a session, {why}.",
        safe="nothing was pushed",
        next_step="correct that file, or narrow `include` in the section's section.toml",
    )


def _files(root: Path, entries: Iterable[str], *, only_sources: bool = False) -> set[str]:
    """The names, relative to `root`, of what travels of these files and folders, with the markers of their packages."""
    names = set()
    for entry in entries:
        relative = PurePosixPath(entry)
        _check_entry(root, relative)
        if (root / relative).is_dir():
            names |= {each.as_posix() for each in _below(root, relative, only_sources)}
        else:
            names.add(relative.as_posix())  # named by itself, it is wanted, whatever it is
        names |= _package_markers(root, relative)
    return names


def _check_entry(root: Path, entry: PurePosixPath) -> None:
    if root is not INSTALLED and entry.parts[0] == PACKAGE:
        raise ConfigError(
            f"The bundle is to include {str(entry)!r}, and this program brings its own code itself.",
            safe="nothing was pushed",
            next_step="leave it out of `include` in the section's section.toml; only files of your own belong there",
        )
    path = root / entry
    if entry.is_absolute() or ".." in entry.parts or not (path.is_file() or path.is_dir()):
        raise ConfigError(
            f"The bundle is to include {str(entry)!r}, which is not a file or folder inside {root}.",
            safe="nothing was pushed",
            next_step="correct `include` in the section's section.toml",
        )
    _check_inside(root, entry)


def _below(
    root: Path, folder: PurePosixPath, only_sources: bool, above: frozenset[Path] = frozenset()
) -> Iterator[PurePosixPath]:
    """The files in a folder and below; `above` are the folders that lead to it, in which a link would go in circles."""
    here = (root / folder).resolve()
    try:
        found = [] if here in above else sorted((root / folder).iterdir())
    except OSError as error:
        raise _unusable(str(folder), f"cannot be read ({error.strerror})") from error
    for path in found:
        name, is_folder = folder / path.name, path.is_dir()
        is_product = is_folder and path.name == PRODUCTS and (root / folder / SECTION_FILE).is_file()
        is_wanted = not only_sources or (not path.is_symlink() if is_folder else path.suffix in SOURCE_SUFFIXES)
        if not is_wanted or is_product or path.name in STAYS or path.name.startswith("."):
            continue
        _check_inside(root, name)
        if is_folder:
            yield from _below(root, name, only_sources, above | {here})
        elif path.is_file():  # else a pipe or the like, which nobody can send
            yield name


def _check_inside(root: Path, name: PurePosixPath) -> None:
    """What a link leads to travels in its place, as long as it is the project's own."""
    target = Path(os.path.realpath(root / name))
    if root is INSTALLED:  # some installers link every file to a cache
        return
    if not target.exists():
        raise _unusable(str(name), f"is a link to nothing: {target}")
    if not target.is_relative_to(os.path.realpath(root)):
        raise _unusable(str(name), f"is a link to {target}, outside the project {root}")


def _package_markers(root: Path, entry: PurePosixPath) -> set[str]:
    """`__init__.py` of the folders above what is included, so that it imports under its own name."""
    markers = [(parent / "__init__.py").as_posix() for parent in entry.parents if parent.name]
    return {marker for marker in markers if (root / marker).is_file()}


def describe(bundle: Bundle, script: str) -> str:
    """One line for people: how much code, how large, which hash."""
    total = sum(size for _, size in bundle.files)
    code = f"{len(bundle.files)} files, {total:,} bytes"
    return f"{code} -> one script of {len(script.encode()):,} bytes; code sha256 {bundle.sha256[:12]}…"
