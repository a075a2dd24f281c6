"""A thread that follows a session's log, so that a silent log never delays anything else.

Promises: each line once and in order into one queue, then None when the log has ended; goes on through any trouble.
"""

from __future__ import annotations

import queue
import threading

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.kaggle_api.client import KaggleClient
from kaggle_manager.kaggle_api.log_lines import LogLine
from kaggle_manager.kaggle_api.log_stream import follow_log
from kaggle_manager.kaggle_api.models import KernelVersion

# A log that could not be opened, with all the patience of the client, is tried again after this long.
LOG_RETRY_S = 10.0

LogQueue = queue.SimpleQueue[LogLine | None]


class LogReader(threading.Thread):
    """Follows one session's log until it ends or `stop` is called."""

    def __init__(self, client: KaggleClient, version: KernelVersion) -> None:
        super().__init__(name=f"log of {version.ref}", daemon=True)
        self._client, self._version = client, version
        self._stopping = threading.Event()
        self.lines: LogQueue = queue.SimpleQueue()
        self.in_trouble = False
        """The log cannot be read just now: its silence means nothing."""

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        given = 0
        while not self._stopping.is_set():
            try:
                for line in follow_log(self._client, self._version, stop=self._stopping.is_set):
                    self.in_trouble = False
                    if line.index >= given:  # a stream that is opened anew begins with the first line again
                        self.lines.put(line)
                        given = line.index + 1
                self.lines.put(None)
                return
            except KaggleManagerError:
                # The log is a convenience: the status polls go on, and the log is in the outputs as well.
                self.in_trouble = True
                self._stopping.wait(LOG_RETRY_S)
