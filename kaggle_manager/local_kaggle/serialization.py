"""How Kaggle says things: times, durations, pages, version labels and refusals, as JSON.

Pure. A refusal is an `HTTPException`, answered as `{"code": ..., "message": ...}` with the same HTTP status.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

T = TypeVar("T")
Body = dict[str, Any]

DEFAULT_PAGE, LARGEST_PAGE = 20, 200


def denied(permission: str) -> HTTPException:
    """The answer for what does not exist and for what belongs to someone else: Kaggle does not tell them apart."""
    return HTTPException(403, f"Permission '{permission}' was denied")


def not_found(what: str) -> HTTPException:
    return HTTPException(404, f"{what} was not found")


def bad_request(message: str) -> HTTPException:
    return HTTPException(400, message)


def timestamp(seconds: float) -> str:
    """Unix seconds as ISO 8601 with milliseconds and Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def duration(seconds: float) -> str:
    """Seconds as `"108000s"` or `"12.345s"`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def text(body: Body, name: str) -> str:
    """The text a request has under `name`; empty where it has none."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{name} is not text")
    return value or ""


def objects(body: Body, name: str) -> list[Body]:
    """The list of objects a request has under `name`; empty where it has none."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad_request(f"{name} is not a list of objects")
    return value


def texts(body: Body, name: str) -> list[str]:
    """The list of texts a request has under `name`; empty where it has none."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_request(f"{name} is not a list of texts")
    return value


def whole_number(body: Body, name: str, default: int = 0) -> int:
    """The whole number a request has under `name`, which may be written as text; `default` where it has none."""
    try:
        number = int(body.get(name) or default)
    except (ValueError, TypeError, OverflowError) as error:
        raise bad_request(f"{name} is not a whole number") from error
    if abs(number) >= 2**63:
        raise bad_request(f"{name} is too large a number")
    return number


def page(items: Sequence[T], body: Body) -> tuple[Sequence[T], str]:
    """The page of `items` that `pageSize` and `pageToken` (or a 1-based `page`) ask for, and the next token (or "")."""
    size = min(max(whole_number(body, "pageSize", DEFAULT_PAGE), 1), LARGEST_PAGE)
    start = (max(whole_number(body, "page", 1), 1) - 1) * size
    if token := body.get("pageToken"):
        try:
            start = int(base64.urlsafe_b64decode(str(token)).decode())
        except ValueError as error:
            raise bad_request("pageToken is not valid") from error
    end = start + size
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else ""
    return items[start:end], following


def version_number(label: str | None) -> int | None:
    """The number in a version label `vN`; None without a label. A bare number is not a label."""
    if not label:
        return None
    match = re.fullmatch(r"v([1-9][0-9]{0,9})", label)
    if match is None:
        raise not_found(f"Version {label}")
    return int(match.group(1))
