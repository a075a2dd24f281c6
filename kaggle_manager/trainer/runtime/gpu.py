"""The GPU of this machine by its driver's name, without CUDA.

CUDA does not survive a fork, so it must not wake before the checkpoint writer is forked; the name is needed earlier.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_COMMAND = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
_PATIENCE_S = 60.0


def gpu_name() -> str:
    """Such as "Tesla T4": the first GPU's; "" when the driver names none."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(_COMMAND, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
        if name := next(iter(done.stdout.strip().splitlines()), ""):
            return name.strip()
    for path in sorted(_DRIVER.glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "Model":
                return value.strip()
    return ""
