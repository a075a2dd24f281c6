"""What lies in the file that Weights & Biases keeps of a run in offline mode, and that `wandb sync` sends.

A log of records as LevelDB has it (github.com/google/leveldb, doc/log_format.md), after a header of seven bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32_768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[bytes]:
    """Every record, whole."""
    data, place, begun = path.read_bytes(), _HEADER, b""
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:  # no room for a header: the rest of the block is empty
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        begun = (b"" if kind in (_FULL, _FIRST) else begun) + data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (_FULL, _LAST):
            yield begun


def kept(folder: Path) -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
    """Of a run's folder: the run, the rows of its history, and its summary."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    run: Any = None
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for data in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
        elif kind == "history":
            rows.append(_values(record.history.item))
        elif kind == "summary":
            summary |= _values(record.summary.update)
    return run, rows, summary


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
