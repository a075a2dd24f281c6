"""A segment file: append-only chunks that describe themselves, check themselves and repair themselves.

    chunk   = head | 16 stripes of the payload | parity of the even stripes | parity of the odd stripes | the same head
    head    = "KMC1", payload length, a BLAKE2b-128 of each of the 18 blocks, a BLAKE2b-128 of the head itself

A stripe is the payload's length divided by 16, rounded up; a parity block is the exclusive or of its eight stripes, the
last one thought of as filled up with zeros.

Promises: a damaged run of bytes no longer than one stripe is repaired, and so is any damage to one even and one odd
stripe of each chunk; what cannot be repaired is located. The head stands at both ends, so a segment can be walked from
its end when its beginning is damaged.
Never does: decide what is committed. A manifest does, by a length and a SHA-256.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

STRIPES = 16
PARITIES = 2
_DIGEST_BYTES = 16
_PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"KMC1"
HEAD_BYTES = _PREFIX.size + (STRIPES + PARITIES + 1) * _DIGEST_BYTES


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk lies in its segment: `start` is the offset of its first head."""

    start: int
    payload_bytes: int
    head: bytes

    @property
    def end(self) -> int:
        return self.start + chunk_bytes(self.payload_bytes)

    def block(self, index: int) -> tuple[int, int]:
        """Return the offsets of stripe `index`, or of parity `index - STRIPES`."""
        stripe = _stripe_bytes(self.payload_bytes)
        payload = self.start + HEAD_BYTES
        if index >= STRIPES:
            begin = payload + self.payload_bytes + (index - STRIPES) * stripe
            return begin, begin + stripe
        return payload + min(index * stripe, self.payload_bytes), payload + min(
            (index + 1) * stripe, self.payload_bytes
        )

    def digest(self, index: int) -> bytes:
        begin = _PREFIX.size + index * _DIGEST_BYTES
        return self.head[begin : begin + _DIGEST_BYTES]


def chunk_bytes(payload_bytes: int) -> int:
    """Return the length of the chunk that holds `payload_bytes` bytes."""
    return 2 * HEAD_BYTES + payload_bytes + PARITIES * _stripe_bytes(payload_bytes)


def encode_chunk(payload: bytes) -> bytes:
    """Return `payload` as one chunk."""
    stripe = _stripe_bytes(len(payload))
    blocks = [payload[index * stripe : (index + 1) * stripe] for index in range(STRIPES)]
    blocks += [_parity(blocks[group::PARITIES], stripe) for group in range(PARITIES)]
    head = _PREFIX.pack(_MAGIC, STRIPES, len(payload)) + b"".join(map(_digest, blocks))
    head += _digest(head)
    return b"".join((head, payload, *blocks[STRIPES:], head))


def payloads(data: BinaryIO, length: int) -> Iterator[BinaryIO]:
    """Yield `data` at the beginning of the payload of each chunk; its first `length` bytes are a segment.

    They must be vouched for already, by the segment's SHA-256.

    Raises:
        ValueError: when the bytes are not a sequence of chunks.
    """
    position = 0
    while position < length:
        data.seek(position)
        chunk = _chunk_at(memoryview(data.read(HEAD_BYTES)), 0)
        if chunk is None or position + chunk.end > length:
            raise ValueError(f"no chunk at byte {position:,}")
        yield data
        position += chunk.end


def repair(data: bytes) -> tuple[bytes, list[str]]:
    """Return `data` with all that its parity can rebuild rebuilt, and the places that stay unreadable.

    The caller proves the result against the SHA-256 in the manifest; this function vouches for nothing.
    """
    repaired = bytearray(data)
    problems: list[str] = []
    chunks, gap = _locate(memoryview(data))
    if gap is not None:
        problems.append(f"bytes {gap[0]:,} to {gap[1]:,}: no intact chunk head")
    for chunk in chunks:
        problems += _repair_chunk(repaired, chunk)
    return bytes(repaired), problems


def _repair_chunk(data: bytearray, chunk: _Chunk) -> list[str]:
    data[chunk.start : chunk.start + HEAD_BYTES] = chunk.head
    data[chunk.end - HEAD_BYTES : chunk.end] = chunk.head
    stripe = _stripe_bytes(chunk.payload_bytes)
    problems = []
    for group in range(PARITIES):
        members = [*range(group, STRIPES, PARITIES), STRIPES + group]
        bad = [index for index in members if _digest(_block(data, chunk, index)) != chunk.digest(index)]
        if not bad:
            continue
        begin, end = chunk.block(bad[0])
        rebuilt = _parity([_block(data, chunk, index) for index in members if index != bad[0]], stripe)[: end - begin]
        if len(bad) == 1 and _digest(rebuilt) == chunk.digest(bad[0]):
            data[begin:end] = rebuilt
        else:
            problems.append(f"bytes {begin:,} to {chunk.block(bad[-1])[1]:,}: more damage than the parity can rebuild")
    return problems


def _locate(data: memoryview) -> tuple[list[_Chunk], tuple[int, int] | None]:
    """Return the chunks of a damaged segment, walked from both ends, and the stretch neither walk could cross."""
    front: list[_Chunk] = []
    position = 0
    while (chunk := _chunk_at(data, position)) is not None and chunk.end <= len(data):
        front.append(chunk)
        position = chunk.end
    back: list[_Chunk] = []
    end = len(data)
    while end > position and (chunk := _chunk_before(data, end)) is not None and chunk.start >= position:
        back.append(chunk)
        end = chunk.start
    return front + back[::-1], (position, end) if position < end else None


def _chunk_at(data: memoryview, start: int) -> _Chunk | None:
    head = bytes(data[start : start + HEAD_BYTES])
    if len(head) < HEAD_BYTES or _digest(head[:-_DIGEST_BYTES]) != head[-_DIGEST_BYTES:]:
        return None
    magic, stripes, payload_bytes = _PREFIX.unpack_from(head)
    return _Chunk(start, payload_bytes, head) if (magic, stripes) == (_MAGIC, STRIPES) else None


def _chunk_before(data: memoryview, end: int) -> _Chunk | None:
    tail = _chunk_at(data, end - HEAD_BYTES) if end >= HEAD_BYTES else None
    return None if tail is None else _Chunk(end - chunk_bytes(tail.payload_bytes), tail.payload_bytes, tail.head)


def _block(data: bytearray, chunk: _Chunk, index: int) -> bytes:
    begin, end = chunk.block(index)
    return bytes(data[begin:end])


def _stripe_bytes(payload_bytes: int) -> int:
    return -(-payload_bytes // STRIPES)


def _parity(blocks: list[bytes], stripe: int) -> bytes:
    """Return the exclusive or of `blocks`, each filled up with zeros to `stripe` bytes."""
    value = 0
    for block in blocks:
        value ^= int.from_bytes(block, "little")  # little-endian: missing bytes at the end are zeros
    return value.to_bytes(stripe, "little")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
