"""One schedule as its scheduler reads it, and the hands that put it in its place or take it out.

A line of the crontab is recognised by the comment at its end, a file by its name; nothing else is touched.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kaggle_manager.errors import ConfigError, StorageError
from kaggle_manager.system.command_line import PROGRAM

WRITTEN_BY = f"Written by {PROGRAM} schedule; --remove takes it out."


@dataclass(frozen=True)
class Entry:
    """One schedule.

    Attributes:
        name: by which it is found again.
        words: what it does, for the user.
        crontab_line: ends with `crontab_mark(name)`; empty when it is made of files.
        files: content of each file.
        activate: commands for you to run once it is written.
        deactivate: commands for you to run once it is removed.
        leftovers: what the scheduler makes of the files, to be removed with them.
    """

    name: str
    words: str
    crontab_line: str = ""
    files: Mapping[Path, bytes] = field(default_factory=dict)
    activate: tuple[str, ...] = ()
    deactivate: tuple[str, ...] = ()
    leftovers: tuple[Path, ...] = ()


def install(entry: Entry) -> list[str]:
    """Put `entry` in its place, instead of an earlier one of its name.

    Returns:
        What was written: paths, or "the crontab". Empty when all was there already.

    Raises:
        StorageError: disk error; the crontab is as it was.
        ConfigError: there is no `crontab` command here.
    """
    if entry.crontab_line:
        return _change_crontab(lambda old: with_line(old, entry.name, entry.crontab_line))
    written = []
    try:
        for path, content in entry.files.items():
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                written.append(str(path))
    except OSError as error:
        raise _refused(error) from error
    return written


def remove(entry: Entry) -> list[str]:
    """Take `entry` out; what was removed, empty when it was not there. Raises as `install`."""
    if entry.crontab_line:
        return _change_crontab(lambda old: without_line(old, entry.name))
    gone = [path for path in (*entry.files, *entry.leftovers) if path.is_file() or path.is_symlink()]
    try:
        for path in gone:
            path.unlink()
    except OSError as error:
        raise _refused(error) from error
    return [str(path) for path in gone]


def crontab_mark(name: str) -> str:
    """The end of a line of ours. The shell that runs the line takes it for a comment."""
    return f" # {name}"


def without_line(crontab: str, name: str) -> str:
    """`crontab` without the lines of that name; everything else, to the byte, as it was."""
    return "".join(line for line in crontab.splitlines(keepends=True) if not _is_named(line, name))


def with_line(crontab: str, name: str, line: str) -> str:
    """`crontab` with `line` as its last, instead of any earlier one of that name."""
    if [found for found in crontab.splitlines() if _is_named(found, name)] == [line]:
        return crontab
    rest = without_line(crontab, name)
    return f"{rest}{'' if not rest or rest.endswith(chr(10)) else chr(10)}{line}\n"


def _is_named(line: str, name: str) -> bool:
    return line.rstrip().endswith(crontab_mark(name)) and not line.lstrip().startswith("#")


def _change_crontab(change: Callable[[str], str]) -> list[str]:
    old = _crontab("-l")
    new = change(old)
    if new == old:
        return []
    _crontab("-", new)
    return ["the crontab"]


def _crontab(argument: str, text: str = "") -> str:
    try:
        # The text is passed on as bytes: other people's lines may be in any encoding.
        done = subprocess.run(
            ["crontab", argument],
            input=text.encode(errors="surrogateescape"),
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise ConfigError(
            f"There is no crontab command that can be run here ({error.strerror}).",
            safe="nothing was written",
            next_step="install cron, or choose systemd, windows or github instead",
        ) from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 0:
        return done.stdout.decode(errors="surrogateescape")
    if argument == "-l" and "no crontab" in said.lower():
        return ""  # what every cron answers to someone who never had one
    raise StorageError(
        f"crontab {argument} ended with exit code {done.returncode}: {said or 'it said nothing'}.",
        safe="the crontab is as it was",
        next_step="see whether `crontab -l` works by hand, then run the same command again",
    )


def _refused(error: OSError) -> StorageError:
    return StorageError(
        f"{error.filename or 'A file of the schedule'} was refused: {error.strerror or error}.",
        safe="the run is not touched",
        next_step="free disk space or fix the permissions, then run the same command again",
    )
