"""Where the crash tests keep their trees: in memory when the machine can, for they sync a hundred thousand times."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="checkpoints_", dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
