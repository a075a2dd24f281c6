"""Lines on standard output: for machines `KM_<KIND> {json}`, for people plain text."""

from __future__ import annotations

import json
import math
from typing import Any


def say(kind: str, **values: Any) -> None:
    """Print one line for machines; a number that is not finite becomes null."""
    finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
    print(f"{kind} {json.dumps(finite)}", flush=True)


def warn(message: str) -> None:
    """Print something a person should know."""
    print(f"WARNING: {message}", flush=True)
