"""What is written into a section is what is read from it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_manager.sections.toml_text import is_sayable, lines_of, text_of

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
VALUES: Any = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_a_table_is_read_as_it_was_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(lines_of(table)) == table


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-4, "3e-4"), (1e-3, "1e-3"), (7.3e-4, "7.3e-4"), (0.99, "0.99"), (0.5, "0.5"), (100_000, "100_000")],
)
def test_a_number_is_written_as_one_would(value: float, text: str) -> None:
    assert text_of(value) == text


def test_what_toml_has_no_form_for_is_known() -> None:
    assert not is_sayable({"a": [1, None]})
    assert is_sayable({"a": [1, {"module:Name": {}}]})
