"""The GPU of this machine and its driver, without CUDA.

CUDA does not survive a fork, so it must not wake before the checkpoint writer is forked; the name is needed earlier.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_VERSION = Path("/proc/driver/nvidia/version")
_PATIENCE_S = 60.0


def gpu_name() -> str:
    """Such as "Tesla T4": the first GPU's; "" when the driver names none."""
    if name := _asked("name"):
        return name
    for path in sorted(_DRIVER.glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "Model":
                return value.strip()
    return ""


def driver_version() -> str:
    """Of the GPU's driver, such as "550.54.15"; "" when there is none."""
    with contextlib.suppress(OSError):
        said = _VERSION.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"Kernel Module +(?:for \S+ +)?(\d[\d.]+)", said):
            return found[1]
    return _asked("driver_version")


def _asked(field: str) -> str:
    """One field of the first GPU; "" when the driver does not say."""
    command = ("nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
        return next(iter(done.stdout.strip().splitlines()), "").strip()
    return ""
