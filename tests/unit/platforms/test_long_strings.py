"""What is too long in an answer is cut while it comes, and the answer stays JSON."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.platforms.long_strings import lines, texts, with_short_strings

values = st.recursive(
    st.none() | st.integers() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def in_pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@given(values, st.integers(1, 20), st.booleans())
def test_a_text_with_short_strings_is_what_it_was(value, size, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert "".join(with_short_strings(in_pieces(text, size), head=1_000, tail=0)) == text


@given(values, st.integers(1, 20), st.integers(3, 20), st.integers(0, 20), st.booleans())
def test_a_text_with_cut_strings_is_still_json(value, size, head, tail, ascii_only):
    text = json.dumps({"a": value, "b": "x" * 100 + "end", "c": 1}, ensure_ascii=ascii_only)
    short = json.loads("".join(with_short_strings(in_pieces(text, size), head=head, tail=tail)))
    assert short["c"] == 1
    assert short["b"].startswith("x" * head)
    assert short["b"].endswith("xend"[-tail:] if tail else "")
    assert type(short["a"]) is type(value)


@given(st.text(), st.integers(1, 9))
def test_any_text_in_any_pieces_is_taken(text, size):
    assert "".join(with_short_strings(in_pieces(text, size), head=10**6, tail=0)) == text
    assert list(lines(in_pieces(text, size), 10**6)) == text.removesuffix("\n").split("\n") or text in ("", "\n")


@given(st.text(), st.integers(1, 9))
def test_characters_split_between_pieces_are_put_together(text, size):
    data = text.encode("utf-8", "replace")
    assert "".join(texts(data[at : at + size] for at in range(0, len(data), size))) == data.decode()


def test_a_string_of_any_length_costs_linear_time_and_bounded_memory():
    piece = json.dumps('a "quoted" word\\ \u00e9\n' * 2_000)[1:-1]
    began, kept = time.process_time(), 0
    for text in with_short_strings(['{"log": "', *[piece] * 500, '"}'], head=10_000, tail=10_000):
        kept += len(text)
    assert kept < 300_000
    assert time.process_time() - began < 10


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_a_line_without_an_end_is_cut(size):
    found = list(lines(["x" * 1_000] * (size // 1_000) + ["\nnext"], 5_000))
    assert [len(line) for line in found] == [min(size, 5_000), 4]
