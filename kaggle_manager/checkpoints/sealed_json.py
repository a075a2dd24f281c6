"""JSON that carries its schema number and a seal: the SHA-256 of everything else in it.

Promises: `unseal(seal(body, schema=n), schema=n)` gives `body` back; one changed bit is noticed, for a body has exactly
one spelling; a body of another schema is refused as another version's, never called damaged.
Never does: read or write a file; judge what a body says beyond the checks of single values below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kaggle_manager.errors import UPDATE, CheckpointIncompatible, one_line
from kaggle_manager.system.files import sha256_bytes

MAX_INTEGER = 1 << 53
"""The largest integer that every JSON reader keeps exactly."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def seal(body: Mapping[str, Any], *, schema: int) -> bytes:
    """Return the one spelling of `body`. Dataclasses in it become objects; NaN and infinities are a ValueError."""
    whole = {"schema": schema, **body}
    return canonical({**whole, "seal": sha256_bytes(canonical(whole))})


def unseal(data: bytes, *, schema: int, most: int, what: str) -> dict[str, Any]:
    """Return the body of `data`, without schema and seal, trusting nothing.

    Args:
        data: from `seal`, or from outside.
        schema: the number this version writes.
        most: bytes it may have.
        what: what a message calls it.

    Raises:
        ValueError: it is too large, not a JSON object, or does not match its own seal.
        CheckpointIncompatible: another version of kaggle-manager wrote it.
    """
    if len(data) > most:
        raise ValueError(f"{len(data):,} bytes are over the limit of {most:,}")
    try:
        body = json.loads(data)
        if not isinstance(body, dict):
            raise ValueError("it is not a JSON object")
        stated = body.pop("seal", None)
        intact = stated == sha256_bytes(canonical(body))
        if stated is None or intact:  # else a damaged number would pass for another version's
            check_schema(body.get("schema"), schema, what)
        if not intact or data != canonical({**body, "seal": stated}):
            raise ValueError("it does not match its own seal: it was changed after it was written")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    del body["schema"]
    return body


def check_schema(found: Any, known: int, what: str) -> None:
    """Refuse what another version wrote.

    Raises:
        ValueError: `found` is no schema number.
        CheckpointIncompatible: it is another one than `known`.
    """
    if type(found) is not int:
        raise ValueError(f"schema {found!r} where {known} is known")
    if found == known:
        return
    if found < known:
        made_by = "was written by an earlier development version of kaggle-manager"
        next_step = "continue with the version that wrote it; --fresh archives such a tree and starts a training anew"
    else:
        made_by = "was written by a newer version of kaggle-manager"
        next_step = UPDATE
    raise CheckpointIncompatible(
        f"{what} {made_by} (schema {found}; this version reads {known}).",
        safe="it was left as it is",
        next_step=next_step,
    )


def canonical(body: Any) -> bytes:
    """Return the one spelling of `body` as JSON: sorted keys, no spaces, ASCII."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, default=vars).encode()


def text(value: Any) -> str:
    """Return `value` when it is a line of printable text, else raise TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    if value != one_line(value, len(value)):
        raise ValueError(f"{value[:120]!r} is not a line of text")
    return value


def count(value: Any, most: int = MAX_INTEGER) -> int:
    """Return `value` when it is an integer from 0 to `most`, else raise ValueError."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a count")
    return value


def digest(value: Any) -> str:
    """Return `value` when it is a SHA-256 in lower-case hexadecimal, else raise TypeError or ValueError."""
    if not _SHA256.fullmatch(text(value)):
        raise ValueError(f"{value!r} is not a SHA-256")
    return text(value)
