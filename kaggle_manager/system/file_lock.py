"""A file that one process holds at a time; the operating system drops the lock with its holder, however it dies.

Standard library only: this module travels into the session.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kaggle_manager.errors import StorageError

# What a lock that somebody else holds is called: by flock, and by Windows.
_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)}
# What a file system says that has no locks, such as NFS without its lock service, and many of FUSE.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# Windows locks bytes, and nobody else can read those: one far behind what may be written.
_LOCKED_BYTE = 1 << 30
_LOOK_AGAIN_S = 0.02


@contextmanager
def hold(path: Path, *, wait_s: float = 0.0, mode: int = 0o666) -> Iterator[bool]:
    """Hold the lock file `path` inside the block; yields False when another process kept it for `wait_s` seconds.

    Args:
        mode: of the file when it is made.

    Raises:
        StorageError: its file system has no locks.
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        deadline = time.monotonic() + wait_s
        while not (mine := take(descriptor, path)) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
        yield mine
    finally:
        os.close(descriptor)


def take(descriptor: int, path: Path) -> bool:
    """Take the lock of an open file; False when somebody else has it. It is let go when the file is closed.

    Raises:
        StorageError: the file system of `path` has no locks.
        OSError: the disk refused otherwise.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _NO_LOCKS:
            raise StorageError(
                f"The file system of {path.parent} has no file locks ({error.strerror}), so two commands could change "
                "the same files at the same time.",
                safe="nothing was started",
                next_step="use a folder on a disk of this machine: --workdir FOLDER; or let the file system be mounted "
                "with locks (NFS: without nolock)",
            ) from error
        raise
    return True
