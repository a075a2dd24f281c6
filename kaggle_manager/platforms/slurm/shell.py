"""Commands and files of the cluster: on this machine, or on a login host through ssh and rsync.

Promises: every word of a command arrives as it was given, whatever characters it has; nothing waits for ever. Never
asks for a password: what ssh cannot do by itself is said in words.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.errors import AuthError, ConfigError, NotFound, StorageError, Unavailable, one_line
from kaggle_manager.platforms.local_files import storage_error
from kaggle_manager.platforms.slurm.remote import WITHOUT_VARIABLES

_PATIENCE_S, _TRANSFER_S = 120.0, 3600.0
_SSH = ("-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=15", "-oServerAliveCountMax=4")
# What ssh ends with when it is ssh that failed.
_SSH_FAILED = 255
_REFUSED = ("Permission denied", "Host key verification failed", "Too many authentication failures")


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    error: str


class TimedOut(Unavailable):
    """A command did not end in time; what it has done is not known."""


@dataclass(frozen=True)
class Shell:
    """Where commands run: `login` is a host as ssh takes it, with options of ssh for it; "" this machine."""

    login: str = ""
    options: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return self.login or "this machine"

    def run(self, *command: str, stdin: str = "", within_s: float = _PATIENCE_S) -> Done:
        """Run a command; that it fails is an answer.

        Raises:
            TimedOut: it did not end. Unavailable, AuthError: the login host is not reached, or lets nobody in.
            ConfigError: there is no such command here.
        """
        words, given = list(command), stdin.encode("utf-8", "surrogateescape")
        if self.login:
            # It goes before the input: as a word, the user's shell there would read it, and a csh reads other quotes.
            line = shlex.join(command).encode("utf-8", "surrogateescape")
            words = ["ssh", *_SSH, *self.options, "--", self.login, f"sh -c 'eval \"$(head -c {len(line)})\"'"]
            given = line + given
        try:
            done = subprocess.run(
                words,
                input=given,
                capture_output=True,
                timeout=within_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimedOut(f"{command[0]} on {self.where} did not answer within {within_s:.0f} s.") from None
        except FileNotFoundError:
            raise ConfigError(
                f"There is no command {words[0]} on this machine.",
                safe="nothing was started",
                next_step="install it, or name a host that has Slurm: login in [platform.slurm] of section.toml",
            ) from None
        except OSError as error:
            raise Unavailable(f"{words[0]} could not be started: {error.strerror}.") from None
        # Not as text of the system: line ends stay as they are, and a log is read by its bytes.
        out, said = (each.decode("utf-8", "surrogateescape") for each in (done.stdout, done.stderr))
        if self.login and done.returncode == _SSH_FAILED:
            raise self._unreached(said)
        return Done(done.returncode, out, said)

    def script(self, text: str, *arguments: str, stdin: str = "", within_s: float = _PATIENCE_S) -> Done:
        """Run lines of shell; `$1`, `$2`, ... are the arguments."""
        return self.run("sh", "-c", text, "sh", *arguments, stdin=stdin, within_s=within_s)

    def ask_slurm(self, *command: str) -> Done:
        """Run a command of Slurm, which no variable of the user's shell changes, such as SQUEUE_STATES."""
        return self.script(f'{WITHOUT_VARIABLES} "$@"', *command)

    def write(self, path: str, text: str) -> None:
        """Write a file, whole or not at all.

        Raises:
            StorageError: the disk refused.
        """
        done = self.script('cat > "$1.tmp" && mv -f -- "$1.tmp" "$1"', path, stdin=text)
        if done.code:
            raise self.refused(path, done)

    def download(self, path: str, destination: Path) -> None:
        """Bring a file here, beside its place first.

        Raises:
            NotFound: it is not there. StorageError: a disk refused. Unavailable, AuthError.
        """
        begun = destination.with_name(f"{destination.name}.part")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            if self.login:
                self._rsync(f"{self.login}:{path}", str(begun))
            else:
                shutil.copyfile(path, begun)
            begun.replace(destination)
        except FileNotFoundError:
            raise NotFound(f"{path} is not on {self.where}.", next_step="look at what the session left") from None
        except OSError as error:
            raise storage_error(error, destination) from None

    def send(self, files: Sequence[Path], folder: str) -> None:
        """Copy files into a folder that is there, under their own names.

        Raises:
            StorageError: the disk refused. Unavailable, AuthError.
        """
        for file in files:
            if self.login:
                self._rsync(str(file.absolute()), f"{self.login}:{folder}/{file.name}")
            else:
                try:
                    shutil.copyfile(file, Path(folder, file.name))
                except OSError as error:
                    raise self.refused(f"{folder}/{file.name}", Done(1, "", error.strerror or str(error))) from None

    def refused(self, path: str, done: Done) -> StorageError:
        """What a disk of the cluster said about `path`."""
        said = one_line(done.error.strip().rpartition("\n")[2])
        return StorageError(
            f"{path} on {self.where} cannot be written: {said or f'exit code {done.code}'}.",
            safe="nothing was started; what sessions saved is untouched",
            next_step="free space there, or make the folder writable, and run the same command again",
        )

    def _rsync(self, source: str, destination: str) -> None:
        ssh = shlex.join(["ssh", *_SSH, *self.options])
        words = ["rsync", "--times", "--partial", "--protect-args", "-e", ssh, "--", source, destination]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_TRANSFER_S, check=False)
        except subprocess.TimeoutExpired:
            raise TimedOut(f"rsync with {self.login} did not end within {_TRANSFER_S:.0f} s.") from None
        except FileNotFoundError:
            raise ConfigError(
                "There is no command rsync on this machine.",
                safe="nothing was started",
                next_step="install rsync, here and on the login host",
            ) from None
        if done.returncode == 23 and "No such file" in done.stderr:
            raise FileNotFoundError(source)
        if done.returncode:
            raise self._unreached(done.stderr)

    def _unreached(self, said: str) -> Unavailable | AuthError:
        words = one_line(said.strip().rpartition("\n")[2])
        if any(word in said for word in _REFUSED):
            return AuthError(
                f"{self.login} lets nobody in without a question: {words}",
                safe="nothing was started",
                next_step=f"make `ssh {self.login}` work without a password: a key, and the host once accepted",
            )
        return Unavailable(f"{self.login} is not reached: {words}")
