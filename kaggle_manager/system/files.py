"""Reading what may be no file: an `opener` for regular files alone, the SHA-256 of a file, the size of a folder.

Promises: nothing here waits for the other end of a pipe. Standard library only: it travels into sessions.
Never does: write.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path

_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def regular(path: str, flags: int) -> int:
    """As an `opener` of `open`: only a regular file is one; opening a pipe would wait for ever for its other end.

    Raises:
        FileNotFoundError: there is none: no name, a folder, a pipe or a device to read of that name, or a file as its
            folder.
    """
    try:
        descriptor = os.open(path, flags | _NO_WAIT, 0o666)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ENXIO) or Path(path).is_dir():
            raise _no_file(path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not (stat.S_ISCHR(mode) and flags & os.O_WRONLY):  # a device takes what it is given
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "there is no file; what has its name is something else", str(path))


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal, reading it in blocks.

    Raises:
        OSError: when it cannot be read.
    """
    with open(path, "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_below(folder: Path) -> int:
    """Bytes of all files below a folder; follows no link below it. What vanishes meanwhile counts as nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - called again and again
    return total
