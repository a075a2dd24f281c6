"""The script as a process: what it prints passes to the log, it is asked to stop, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from kaggle_manager.system import process_group
from kaggle_manager.system.patience import computed_s
from kaggle_manager.trainer.runtime.log_lines import pass_on

_TAIL, _AT_ONCE = 16_000, 1 << 16
# A process that it left behind may hold its output open; it is not waited for longer.
_REST_S = 5.0


class ScriptProcess:
    """A script that runs, in a process group of its own. To be made before this process has threads.

    Args:
        is_quiet: what it prints is not passed on; the end of its standard error is kept.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, *, is_quiet: bool = False
    ) -> None:
        self._group = process_group.start([*command], working=folder, environment=dict(environment))
        self._process = self._group.process
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._tail, self._is_quiet, self._folder = b"", is_quiet, folder
        self._pumps = [
            threading.Thread(target=self._pump, args=(pipe, to), daemon=True)
            for pipe, to in ((self._process.stdout, 1), (self._process.stderr, 2))
        ]
        for pump in self._pumps:
            pump.start()

    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """SIGTERM, to the script alone: what it has started is the script's to end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM if os.name != "nt" else signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined,unused-ignore]

    def cpu_s(self) -> float:
        """Processor seconds that it and what it started have taken so far; infinite where this machine does not say."""
        return computed_s(self._process.pid, *self._group.members())

    def end(self) -> list[str]:
        """Kill what is left of it; the names of the processes that it had left behind when it ended by itself."""
        left = _names(self._group.members()) if self._process.poll() is not None else []
        self._group.kill()
        for pump in self._pumps:
            pump.join(_REST_S)
        return left

    def last_line(self) -> str:
        """The last line of its standard error: of a traceback the exception, and the last line of the user's code."""
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        if not lines:
            return ""
        where = ""
        for path, number in re.findall(r'^ +File "(.+)", line (\d+)', "\n".join(lines), re.MULTILINE):
            with contextlib.suppress(ValueError):
                own = Path(path).relative_to(self._folder)
                if not own.name.startswith("resumable") and "site-packages" not in own.parts:
                    where = f" ({own.as_posix()}, line {number})"
        is_exception = re.match(r"[\w.]+(:|$)", lines[-1]) and any(line.startswith("Traceback ") for line in lines)
        return lines[-1].strip() + (where if is_exception else "")

    def tail(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._tail.decode("utf-8", "replace")

    def _pump(self, pipe: IO[bytes], to: int) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), _AT_ONCE):
                if not self._is_quiet:
                    pass_on(to, data)
                if to == 2:
                    self._tail = (self._tail + data)[-_TAIL:]


def _names(pids: Sequence[int]) -> list[str]:
    found = []
    for pid in pids:
        try:
            found.append(Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            if not sys.platform.startswith("linux"):
                found.append(f"process {pid}")
    return found
