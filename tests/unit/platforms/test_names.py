"""A name is either plainly safe or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slugify import slugify

from kaggle_manager.errors import ConfigError, UnsafePath
from kaggle_manager.platforms.file_names import check_file_name
from kaggle_manager.platforms.kaggle.names import title_for


@pytest.mark.parametrize(
    "name", ["a", "training_tree/history/events.out.tfevents.17.host.3.0", "a b/é.json", ".hidden"]
)
def test_plain_names_pass(name):
    check_file_name(name)


@given(st.text(alphabet=st.sampled_from("./\\:ab \x00\n~"), max_size=12))
def test_no_accepted_name_leaves_its_folder(name):
    try:
        check_file_name(name)
    except UnsafePath:
        return
    folder = Path("/folder").resolve()
    assert (folder / name).resolve().is_relative_to(folder)
    assert (folder / name).resolve() != folder


@given(st.from_regex(r"[a-z0-9]{1,9}(-[a-z0-9]{1,9}){1,4}", fullmatch=True).filter(lambda slug: 6 <= len(slug) <= 50))
def test_kaggle_derives_the_slug_back_from_the_title(slug):
    assert slugify(title_for(slug, shortest=6)) == slug


@pytest.mark.parametrize("slug", ["", "abc", "a--bc-d", "-abcdef", "Abcdef", "a_bcde", "x" * 51, "ab/cdef", "abcdé-f"])
def test_a_slug_no_title_gives_is_refused(slug):
    with pytest.raises(ConfigError):
        title_for(slug, shortest=5)
