"""The child process that speaks to apprise: an order on standard input, one reason an address on standard output.

A process of its own, because a service that accepts a connection and then says nothing keeps apprise's worker threads,
and with them the end of the interpreter, waiting. Imports apprise and the standard library only.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apprise


def send(order: dict[str, Any]) -> list[str]:
    """Why each address did not get the message, "" when it did.

    Args:
        order: `addresses`, `title`, `body`, `severity` (info, success, warning, failure), and `until`, the
            second since the epoch at which this gives up.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(order["addresses"]))) as threads:
        return list(threads.map(lambda address: _send_one(address, order), order["addresses"]))


def _send_one(address: str, order: dict[str, Any]) -> str:
    # One at a time: apprise may leave out the rest of a list once those of a higher priority were reached.
    target = apprise.Apprise()
    if not target.add(address):
        return "not an address that apprise understands"
    results = target.notify(
        title=order["title"],
        body=order["body"],
        notify_type=order["severity"],
        body_format=apprise.NotifyFormat.TEXT,
        timeout=max(0.1, order["until"] - time.time()),
    )
    return next((reason for reason in map(_reason, results) if reason), "" if results else "apprise sent nothing")


def _reason(result: Any) -> str:
    if result:
        return ""
    if result.status is apprise.AppriseResultStatus.TIMEOUT:
        return "the service did not answer in time"
    # Only the number is taken from apprise's text: the rest may repeat the address.
    codes = [re.search(r"error=(\d{3})\b", str(entry.message)) for entry in result.logs()]
    code = next((found[1] for found in codes if found), None)
    return f"the service answered HTTP {code}" if code else "the service was not reached, or refused the message"


if __name__ == "__main__":
    print(json.dumps(send(json.load(sys.stdin))), flush=True)
    os._exit(0)  # without waiting for threads whose service never answers
