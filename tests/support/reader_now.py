"""The log reader of the manager without its thread, for a clock on which nothing waits."""

from __future__ import annotations

from typing import Any

from kaggle_manager.sessions.log_reader import LogReader


class Quiet(BaseException):
    """The log goes on later."""


class _NoTime:
    """Stands for the event that stops a reader, where nothing waits."""

    def is_set(self) -> bool:
        return False

    def set(self) -> None: ...

    def wait(self, timeout: float) -> None:
        raise Quiet


class ReaderNow(LogReader):
    """The log reader without its thread: it has read all there is once it was started."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._stopping = _NoTime()  # type: ignore[assignment]

    def start(self) -> None:
        try:
            self.run()
        except Quiet:
            return
