"""What is too long in a text that comes in pieces is cut while it comes, so that nothing is held that nobody needs.

A platform may send a whole log as one string inside an answer. Promises: the cost is linear
in what comes and the memory bounded by what is kept; JSON stays JSON. Pure.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator

# Runs of everything that is no unfinished string. No JSON string holds a line end: there the count begins anew, so a
# stray quotation mark in what is no JSON costs one line.
_WHOLE = re.compile(r'(?:[^"]++|"(?:[^"\\\n]++|\\[^\n])*+(?:"|(?=\n)))*+')
# The inside of a string up to its end, or to an escape that is not all here.
_CONTENT = re.compile(r'(?:[^"\\\n]++|\\(?:u[0-9a-fA-F]{4}|[^u\n]))*+')
_LONGEST_ESCAPE = 6
_LEFT_OUT = "[… {:,} characters are left out here …]"
# As `StringCutter` writes it into a string: a text inside a text cannot hold a line end as such.
MARK = re.compile(r"\n(\[… [0-9,]+ characters are left out here …\])\n")


def texts(pieces: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 in pieces as texts; what is no UTF-8 becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def with_short_strings(pieces: Iterable[str], *, head: int, tail: int) -> Iterator[str]:
    """A JSON text whose long strings keep their first `head` and last `tail` characters, about; between them, `MARK`.

    A string that is whole in one piece is short.
    """
    cutter = _StringCutter(head, tail)
    for piece in pieces:
        yield cutter.feed(piece)
    yield cutter.rest()


def lines(pieces: Iterable[str], longest: int) -> Iterator[str]:
    """The lines of a text, without their ends, each cut to about `longest` characters."""
    begun: list[str] = []
    length = 0
    for piece in pieces:
        *ended, rest = piece.split("\n")
        for line in ended:
            yield "".join([*begun, line])
            begun, length = [], 0
        if length < longest:
            begun.append(rest)
            length += len(rest)
    if length:
        yield "".join(begun)


class _StringCutter:
    def __init__(self, head: int, tail: int) -> None:
        self._head, self._tail = head, tail
        self._inside = False
        self._escape = ""  # of which not all is here
        self._given = self._left_out = self._kept_length = 0
        self._kept: deque[str] = deque()

    def feed(self, piece: str) -> str:
        text, self._escape = self._escape + piece, ""
        out: list[str] = []
        at = 0
        while at < len(text):
            at = self._string(text, at, out) if self._inside else self._between(text, at, out)
        return "".join(out)

    def rest(self) -> str:
        """The end of a text that ends inside a string."""
        return self._end() + self._escape

    def _between(self, text: str, at: int, out: list[str]) -> int:
        match = _WHOLE.match(text, at)
        end = match.end() if match else at
        self._inside = end < len(text)  # at a string that does not end here
        end += self._inside
        out.append(text[at:end])
        return end

    def _string(self, text: str, at: int, out: list[str]) -> int:
        match = _CONTENT.match(text, at)
        end = match.end() if match else at
        if end < len(text) and text[end] == "\\" and len(text) - end >= _LONGEST_ESCAPE:
            end += 1  # no escape at all: the reader of the JSON will say so
        out.append(self._keep(text[at:end]))
        if end == len(text):
            return end
        if text[end] in '"\n':
            self._inside = False
            out.append(self._end() + text[end])
            return end + 1
        if text[end] == "\\" and len(text) - end < _LONGEST_ESCAPE:
            self._escape = text[end:]
            return len(text)
        return end

    def _keep(self, content: str) -> str:
        """What of it can be given at once; the rest is kept for the end of the string, as far as that is near."""
        if self._given < self._head:
            self._given += len(content)
            return content
        self._kept.append(content)
        self._kept_length += len(content)
        while self._kept and self._kept_length - len(self._kept[0]) >= self._tail:
            self._kept_length -= len(self._kept[0])
            self._left_out += len(self._kept.popleft())
        return ""

    def _end(self) -> str:
        mark = rf"\n{_LEFT_OUT.format(self._left_out)}\n" if self._left_out else ""
        text = mark + "".join(self._kept)
        self._given = self._left_out = self._kept_length = 0
        self._kept.clear()
        return text
