"""Scalars out of TensorBoard's event files, without TensorBoard: what the page draws when only the core is installed.

A record is: length (8 bytes, little-endian), its checksum (4), the data, a checksum (4). The data is one `Event`
message in the wire format of protocol buffers: step = field 2, summary = field 5, in it value = field 1 with
tag = field 1 and simple_value = field 2 (tensorboard/compat/proto/event.proto, summary.proto). Checksums are not
verified: a curve is shown, nothing is decided by it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 32 << 20
_LENGTH = struct.Struct("<Q")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int | bytes]


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The (step, value) points of each tag below `folder`, in the order of the files and of their records.

    A record that is cut or damaged ends its file; what stands before it counts.

    Raises:
        OSError: a file cannot be read, or is larger than `MAX_BYTES`.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.rglob("*tfevents*")) if folder.is_dir() else ():
        if path.stat().st_size > MAX_BYTES:
            raise OSError(f"{path.name} is larger than {MAX_BYTES >> 20} MB")
        try:
            for record in _records(path.read_bytes()):
                for tag, step, value in _scalars(record):
                    found.setdefault(tag, []).append((step, value))
        except (ValueError, struct.error, IndexError):
            continue
    return found


def _records(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 12 <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        if at + 12 + length + 4 > len(data):
            return
        yield data[at + 12 : at + 12 + length]
        at += 12 + length + 4


def _scalars(event: bytes) -> Iterator[tuple[str, int, float]]:
    fields = list(_fields(event))
    step = next((value for number, kind, value in fields if number == 2 and kind == _VARINT), 0)
    assert isinstance(step, int)
    for number, kind, summary in fields:
        if number != 5 or kind != _BYTES or not isinstance(summary, bytes):
            continue
        for inner, inner_kind, value in _fields(summary):
            if inner == 1 and inner_kind == _BYTES and isinstance(value, bytes):
                tag, number_found = "", math.nan
                for name, form, content in _fields(value):
                    if name == 1 and isinstance(content, bytes):
                        tag = content.decode("utf-8", errors="replace")[:200]
                    elif name == 2 and form == _FIXED32 and isinstance(content, bytes):
                        (number_found,) = struct.unpack("<f", content)
                if tag and math.isfinite(number_found):
                    yield tag, step, number_found


def _fields(data: bytes) -> Iterator[Field]:
    """The fields of a message: number, wire type, value."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("cut short")
        yield number, kind, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number without an end")
