"""Where a session runs: its environment, and the command that gives it `/kaggle` and takes the network away.

Two stages, told apart by `isolation()`, which tries once. With Linux namespaces the kernel sees a true `/kaggle` tree,
inputs are read-only, and without internet there is no network. Elsewhere it runs in its working folder and finds the
same tree through `KAGGLE_WORKING_DIR` and `KAGGLE_INPUT_DIR`; the network cannot be cut there, and the log says so.
Never passes the starter's secrets on: the environment is built from a list of allowed names.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from kaggle_manager.system.accelerators import find

_NAMESPACE = Path(__file__).with_name("namespace.py")
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_SHORT = "km-session-"
_ALLOWED = {
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "SSL_CERT_FILE"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "WINDIR", "NUMBER_OF_PROCESSORS"),
}


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """What may pass from `environment` to a kernel: nothing but a short list of harmless names."""
    return {name: value for name, value in environment.items() if name.upper() in _ALLOWED}


def short_name(folder: Path) -> Path:
    """A short name of a session's temporary folder, until `clear`; `folder` itself where there are no links.

    Processes talk through sockets below it (as `multiprocessing` does), and the path of a socket has at most 103 bytes,
    which a project's own folder alone may have. Only the link is in the machine's temporary folder: what a session
    leaves in its own takes room where the session is.
    """
    for base in dict.fromkeys(("/tmp", tempfile.gettempdir())):
        with suppress(OSError):
            for left in Path(base).glob(f"{_SHORT}*"):  # of a session whose folder was deleted
                if left.is_symlink() and not left.exists():
                    left.unlink(missing_ok=True)
            short = Path(base) / f"{_SHORT}{secrets.token_hex(4)}"
            short.symlink_to(folder, target_is_directory=True)
            return short
    return folder


def clear(session: Path, order: Mapping[str, Any]) -> None:
    """Delete what a session that is over needed only while it ran; what resists stays, as only space is at stake."""
    with suppress(OSError):
        if (short := Path(order["environment"]["TMPDIR"])).is_symlink():
            short.unlink()
    shutil.rmtree(session / "scratch", ignore_errors=True)


def kernel_environment(
    session: Path, session_id: int, accelerator: str, commands: Iterable[Path], *, isolated: bool
) -> dict[str, str]:
    """The whole environment of a kernel on the machine `accelerator`; its home and temporary folder are scratch.

    Args:
        commands: folders that come first on its search path, in the place of this Python's.
    """
    machine = find(accelerator)
    own = {Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))} if sys.prefix != sys.base_prefix else set()
    outside = os.environ.get("PATH", os.defpath).split(os.pathsep)
    search = os.pathsep.join([*map(str, commands), *(each for each in outside if Path(each) not in own)])
    environment = scrubbed(os.environ) | {
        "PATH": search,
        "HOME": str(session / "scratch" / "home"),
        "TMPDIR": str(short_name(session / "scratch" / "tmp")),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "KAGGLE_CONTAINER_NAME": f"kaggle-session-{session_id}",
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        # An accelerator is only a name here: the device a kernel finds is whatever this machine has.
        "KAGGLE_ACCELERATOR_EMULATED": "1",
        "KAGGLE_ACCELERATOR_FOUND": machine.model if machine else "",
    }
    if not isolated:
        environment["KAGGLE_WORKING_DIR"] = str(session / "working")
        environment["KAGGLE_INPUT_DIR"] = str(session / "input")
    return environment


def command(order: Mapping[str, Any]) -> list[str]:
    """The command line that runs the session described by `order` (see `runner`)."""
    if not order["isolation"]:
        return [order["python"], str(Path(order["session"]) / "src" / "script.py")]
    network = [] if order["internet"] else ["--net"]
    order_file = str(Path(order["session"]) / "order.json")
    return [*order["isolation"], *network, "--", sys.executable, "-I", "-S", str(_NAMESPACE), order_file]


@cache
def isolation() -> tuple[str, ...]:
    """The `unshare` command that works on this machine, or () where none does. Tries once per process."""
    if sys.platform.startswith("linux") and shutil.which("unshare"):
        as_mapped_root = (*_UNSHARE, "--user", "--map-root-user")
        candidates = (_UNSHARE, as_mapped_root) if os.geteuid() == 0 else (as_mapped_root,)
        return next((candidate for candidate in candidates if _works(candidate)), ())
    return ()


def _works(candidate: tuple[str, ...]) -> bool:
    """Whether a complete little session, with an input and without network, runs under `candidate`."""
    with tempfile.TemporaryDirectory(prefix="local-kaggle-probe-") as folder:
        session = Path(folder)
        for name in ("src", "working", "data"):
            (session / name).mkdir()
        (session / "src" / "script.py").write_text("open('/kaggle/working/seen', 'w').close()\n")
        order = {
            "session": str(session),
            "python": sys.executable,
            "isolation": candidate,
            "internet": False,
            "mounts": [{"source": str(session / "data"), "at": "data"}],
            "environment": {},
        }
        (session / "order.json").write_text(json.dumps(order))
        try:
            subprocess.run(command(order), capture_output=True, timeout=30, check=True)
        except (subprocess.SubprocessError, OSError):
            return False  # This way of isolating is not allowed here; the next one, or none, is the answer.
        return (session / "working" / "seen").exists()
