"""Bytes that one process leaves for another: memory both have, of any size. Linux alone.

Made before the fork. Never waits, and never tells the other process: a pipe does.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterable, Sequence

_PARTS_A_CALL = 1024
"""Linux takes no more buffers in one call (IOV_MAX)."""


class SharedMemory:
    """A memory file; it grows to the largest message and stays as large."""

    def __init__(self) -> None:
        self._file = os.memfd_create("checkpoint")

    def put(self, parts: Iterable[bytes | memoryview]) -> list[int]:
        """Replace the content by `parts`; return the length of each."""
        views = deque(memoryview(part).cast("B") for part in parts)
        lengths, position = [len(view) for view in views], 0
        while views:
            written = os.pwritev(self._file, list(itertools.islice(views, _PARTS_A_CALL)), position)
            position += written
            while views and written >= len(views[0]):
                written -= len(views.popleft())
            if views:
                views[0] = views[0][written:]
        return lengths

    def get(self, lengths: Sequence[int]) -> list[memoryview]:
        """Return copies of the parts that were put, which may be changed."""
        whole, position = memoryview(bytearray(sum(lengths))), 0
        while position < len(whole):
            position += os.preadv(self._file, [whole[position:]], position)
        ends = list(itertools.accumulate(lengths, initial=0))
        return [whole[begin:end] for begin, end in itertools.pairwise(ends)]

    def close(self) -> None:
        """Give this process's hold on the memory up."""
        os.close(self._file)
