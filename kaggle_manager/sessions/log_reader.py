"""A thread that follows a session's log, so that a silent log never delays anything else.

Promises: each line once and in order into one queue, then None when the log has ended; continues through any trouble.
A copy of what has come so far lies in a file, for another command that looks on; a disk that refuses it ends nothing.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.platforms.platform import LogLine, Platform, SessionRef
from kaggle_manager.sessions.lane import lines_of
from kaggle_manager.sessions.stored_log import LogCopy

# A log that could not be opened, with all the patience of the client, is tried again after this long.
LOG_RETRY_S = 10.0
# Lines that were read and not taken yet: beyond them the log waits, and the memory is bounded.
MOST_WAITING = 10_000
_LOOK_S = 0.5

LogQueue = queue.Queue[LogLine | None]


class LogReader(threading.Thread):
    """Follows one session's log until it ends or `stop` is called.

    Args:
        copy: the file for another command that looks on.
        lane: whose lines alone are read, of a session that several runs share.
    """

    def __init__(self, client: Platform, version: SessionRef, copy: Path | None = None, lane: str = "") -> None:
        super().__init__(name=f"log of {version.ref}", daemon=True)
        self._client, self._version, self._lane = client, version, lane
        self._copy = LogCopy(copy) if copy is not None else None
        self._stopping = threading.Event()
        self.lines: LogQueue = queue.Queue(MOST_WAITING)
        self.trouble: KaggleManagerError | None = None
        """Why the log cannot be read just now: its silence means nothing."""

    @property
    def in_trouble(self) -> bool:
        return self.trouble is not None

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        given = 0
        while not self._stopping.is_set():
            try:
                log = self._client.follow_log(self._version, stop=self._stopping.is_set)
                for line in lines_of(self._lane, log):
                    self.trouble = None
                    if line.index >= given:  # a stream that is opened anew begins with the first line again
                        if self._copy is not None and not self._stopping.is_set():
                            self._copy.add(line.text)
                        self._give(line)
                        given = line.index + 1
                self._give(None)
                return
            except KaggleManagerError as error:
                # The log is a convenience: the status polls go on, and the log is in the outputs as well.
                self.trouble = error
                self._stopping.wait(LOG_RETRY_S)

    def _give(self, line: LogLine | None) -> None:
        while not self._stopping.is_set():
            try:
                self.lines.put(line, timeout=_LOOK_S)
            except queue.Full:
                continue
            return
