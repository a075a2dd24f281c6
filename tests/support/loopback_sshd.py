"""Debian's sshd on loopback for a test, with keys of its own: one host, one user, no setting of this machine's."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

INSTALL = "apt-get install --no-install-recommends openssh-server openssh-client rsync"
_CONF = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host
AuthorizedKeysFile {root}/user.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
AcceptEnv SLURM_CONF
"""


def why_not() -> str:
    """Why there can be no sshd here; "" when there can be."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if _found(name) is None]
    return f"no {', '.join(missing)} on this machine: {INSTALL}" if missing else ""


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class LoopbackSshd:
    """An sshd in a folder of its own; `options` are what ssh needs to come in."""

    root: Path
    variables: tuple[str, ...] = ("SLURM_CONF",)

    def __post_init__(self) -> None:
        for name in ("host", "user"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / name)]
            subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        (self.root / "sshd_config").write_text(_CONF.format(port=self.port, root=self.root))
        Path("/run/sshd").mkdir(exist_ok=True)
        command = [_found("sshd") or "sshd", "-D", "-e", "-f", str(self.root / "sshd_config")]
        with (self.root / "log").open("wb") as log:
            self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10.0
        while b"listening" not in (self.root / "log").read_bytes():
            assert time.monotonic() < deadline, (self.root / "log").read_text()
            time.sleep(0.05)

    @property
    def login(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    @property
    def options(self) -> tuple[str, ...]:
        words = (f"Port={self.port}", f"IdentityFile={self.root}/user", "IdentitiesOnly=yes")
        words += ("StrictHostKeyChecking=no", f"UserKnownHostsFile={self.root}/known", f"SendEnv={self.variables[0]}")
        return ("-F", "none", *(word for each in words for word in ("-o", each)))

    def stop(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(10)
