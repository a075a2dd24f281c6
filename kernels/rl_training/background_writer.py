"""One task at a time on another thread: the training goes on while a checkpoint reaches the disk.

Promises: at most one task is under way; its error is raised in the training's thread at the next look, never lost.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """Runs tasks in the order given, one after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._task: Future[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None

    def start(self, task: Callable[[], None]) -> None:
        """Wait for the task before, raise its error if it had one, then start this one."""
        self.join()
        self._task = self._pool.submit(task)

    def look(self) -> None:
        """Raise the error of a task that has ended; never waits."""
        if self._task is not None and self._task.done():
            self.join()

    def join(self) -> None:
        """Wait for the task under way and raise its error."""
        task, self._task = self._task, None
        if task is not None:
            task.result()

    def close(self) -> None:
        """Wait for the task under way without raising, and end the thread."""
        self._pool.shutdown(wait=True)
