"""The first process inside a session's namespaces: builds the kernel's view of the machine, then runs the kernel in it.

Started by `sandbox.command` under `unshare`, as a plain file with `python -I -S`, so it uses the standard library alone
and starts in milliseconds. It gives the kernel `/kaggle/src`, `/kaggle/working` and `/kaggle/input` on a root folder of
its own without creating anything in the machine's real root, and stays as process 1 to reap orphans: when the kernel
ends, everything it started ends too. It is a stage, not a jail: the code that runs is the user's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

# <sys/mount.h>
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_UNBINDABLE = 1, 32, 4096, 16384, 1 << 17
# Flags an unprivileged remount must repeat, or the system refuses it; statvfs shows them with the same values.
MS_KEPT = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    if _libc.mount(*encoded, ctypes.c_ulong(flags), None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} on {target}: {os.strerror(code)}")


def _bind(source: str, target: str, *, read_only: bool = False) -> None:
    _mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        kept = os.statvfs(target).f_flag & MS_KEPT
        _mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def _build_root(root: Path) -> None:
    """A root folder that shows the machine's own top-level folders and has room for `/kaggle`."""
    _mount("tmpfs", str(root), "tmpfs", 0)
    # Unbindable: the binds below may contain this very folder, and must not copy it into itself.
    _mount(None, str(root), None, MS_UNBINDABLE)
    for entry in os.scandir("/"):
        target = root / entry.name
        if entry.name == "kaggle":
            continue
        if entry.is_symlink():
            target.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            target.mkdir()
            _bind(entry.path, str(target))
        else:
            target.touch()
            _bind(entry.path, str(target))


def _raise_loopback() -> None:
    """Without internet a session still has its own loopback interface; a new network namespace starts with it down."""
    import fcntl
    import socket
    import struct

    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, get_flags, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", answer)[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def main(order_file: str) -> int:
    """Run the session described by `order_file`; returns the kernel's exit code, 128 + N after signal N."""
    order = json.loads(Path(order_file).read_text(encoding="utf-8"))
    session = Path(order["session"])
    root = session / "scratch" / "root"
    root.mkdir(parents=True, exist_ok=True)
    _build_root(root)
    for name, read_only in (("src", True), ("working", False)):
        target = root / "kaggle" / name
        target.mkdir(parents=True)
        _bind(str(session / name), str(target), read_only=read_only)
    inputs = root / "kaggle" / "input"
    inputs.mkdir()
    _mount("tmpfs", str(inputs), "tmpfs", 0)
    for mount in order["mounts"]:
        target = inputs / mount["at"]
        target.mkdir(parents=True, exist_ok=True)
        _bind(mount["source"], str(target), read_only=True)
    _mount(None, str(inputs), None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    if not order["internet"]:
        _raise_loopback()
    os.chroot(root)
    os.chdir("/kaggle/working")

    kernel = os.fork()
    if kernel == 0:
        os.execve(order["python"], [order["python"], "/kaggle/src/script.py"], order["environment"])
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    while True:
        ended, status = os.wait()
        if ended == kernel:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
