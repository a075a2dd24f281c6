"""Credentials are found where the official tools look, in their order, and are never shown."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from kaggle_manager.errors import AuthError
from kaggle_manager.platforms.kaggle.credentials import find_credentials

SECRETS = ("KGAT_env", "KGAT_file", "legacykey", "refresh-me")


@pytest.fixture
def home(tmp_path) -> Path:
    """A home with every kind of credentials."""
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    write(folder / "access_token", "KGAT_file\n")
    write(folder / "kaggle.json", json.dumps({"username": "alice", "key": "legacykey"}))
    write(folder / "credentials.json", json.dumps({"username": "alice", "refresh_token": "refresh-me"}))
    return tmp_path / "home"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_the_official_order(home):
    folder = home / ".kaggle"
    both = {"KAGGLE_API_TOKEN": "KGAT_env", "KAGGLE_USERNAME": "bob", "KAGGLE_KEY": "legacykey"}
    assert find(both, home) == ("token", None, "KGAT_env")
    assert find({"KAGGLE_USERNAME": "bob", "KAGGLE_KEY": "legacykey"}, home) == ("token", None, "KGAT_file")
    (folder / "access_token").rename(folder / "access_token.txt")
    assert find({}, home) == ("token", None, "KGAT_file")
    (folder / "access_token.txt").unlink()
    assert find({"KAGGLE_USERNAME": "bob", "KAGGLE_KEY": "other"}, home) == ("legacy", "bob", "other")
    assert find({"KAGGLE_KEY": "other"}, home) == ("legacy", "alice", "other")
    assert find({}, home) == ("legacy", "alice", "legacykey")
    (folder / "kaggle.json").unlink()
    assert find({"KAGGLE_USERNAME": "bob"}, home) == ("oauth", "alice", "refresh-me")
    (folder / "credentials.json").unlink()
    assert find_credentials({}, home) is None


def find(environ, home):
    found = find_credentials(environ, home)
    assert found is not None
    assert not any(secret in repr(found) + str(found) for secret in SECRETS)
    return found.kind, found.username, found.secret


def test_a_token_variable_may_name_a_file(home, tmp_path):
    write(tmp_path / "token", "KGAT_env\r\n")
    found = find_credentials({"KAGGLE_API_TOKEN": str(tmp_path / "token")}, home)
    assert (found.secret, found.source) == ("KGAT_env", f"{tmp_path / 'token'} (named by KAGGLE_API_TOKEN)")


def test_kaggle_json_is_looked_for_in_the_configured_folder(home, tmp_path):
    (home / ".kaggle" / "access_token").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere / "kaggle.json", json.dumps({"username": "carol", "key": "k"}))
    assert find({"KAGGLE_CONFIG_DIR": str(elsewhere)}, home) == ("legacy", "carol", "k")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the official tools look there on Linux alone")
def test_kaggle_json_may_be_in_the_xdg_folder(tmp_path):
    folder = tmp_path / "xdg" / "kaggle"
    folder.mkdir(parents=True)
    write(folder / "kaggle.json", json.dumps({"username": "carol", "key": "k"}))
    assert find({"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path) == ("legacy", "carol", "k")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("access_token", "KGAT_file with spaces"),
        ("access_token", "KGAT_file\nsecond line"),
        ("kaggle.json", '{"username": "alice", "key": "legacykey"'),
        ("kaggle.json", '["legacykey"]'),
        ("kaggle.json", '{"username": "alice"}'),
        ("kaggle.json", ""),
        ("kaggle.json", '{"username": "al ice", "key": "legacykey"}'),
        ("credentials.json", '{"access_token": "legacykey"}'),
        ("credentials.json", "legacykey"),
    ],
)
def test_a_malformed_file_is_named_and_not_quoted(tmp_path, name, content):
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    write(folder / name, content)
    with pytest.raises(AuthError) as caught:
        find_credentials({}, tmp_path)
    assert str(folder / name) in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__context__ is None, "the parser's own error would quote the file"
    assert caught.value.next_step


@pytest.mark.parametrize("value", ["/no/such/file", "two words", "tök"])
def test_a_malformed_token_variable_is_named(tmp_path, value):
    with pytest.raises(AuthError, match="KAGGLE_API_TOKEN") as caught:
        find_credentials({"KAGGLE_API_TOKEN": value}, tmp_path)
    assert value not in str(caught.value)


def test_an_empty_file_named_by_the_variable_is_an_error_and_an_empty_usual_one_is_passed_over(home):
    empty = home / ".kaggle" / "access_token"
    empty.write_text("\n")
    assert find({}, home)[0] == "legacy"
    with pytest.raises(AuthError, match="empty"):
        find_credentials({"KAGGLE_API_TOKEN": str(empty)}, home)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a file this user may not read")
def test_an_unreadable_file_is_an_error(home):
    (home / ".kaggle" / "access_token").chmod(0)
    with pytest.raises(AuthError, match="cannot be read"):
        find_credentials({}, home)


@pytest.mark.skipif(os.name != "posix", reason="modes are posix")
def test_a_file_others_can_read_is_used_with_a_word_of_caution(home):
    path = home / ".kaggle" / "access_token"
    assert find_credentials({}, home).caution == ""
    path.chmod(0o644)
    assert f"chmod 600 {path}" in find_credentials({}, home).caution
