"""No text of a service's library brings a token or a password into a message, and each answer has its class."""

from __future__ import annotations

import pytest

from kaggle_manager.errors import AuthError, ConfigError, NotFound, RateLimited, Unavailable
from kaggle_manager.integrations.service_errors import SECRET_VARIABLES, answers_of, refuse_secrets, without_secrets

SECRET = "tk-93f1a7secret"


class Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class ServiceError(OSError):
    """As the Hub's library raises it."""

    __module__ = "huggingface_hub.errors"

    def __init__(self, status: int | None, text: str) -> None:
        super().__init__(text)
        self.response = None if status is None else Answer(status)


@pytest.mark.parametrize("name", SECRET_VARIABLES)
def test_a_token_of_the_environment_and_a_password_in_an_address_are_left_out(name: str) -> None:
    text = f"GET https://user:{SECRET}@host/api?token={SECRET} failed"
    assert SECRET not in without_secrets(text, {name: SECRET})
    assert "https://host/api" in without_secrets(text, {})


def test_a_password_that_has_an_at_sign_is_left_out_whole() -> None:
    assert without_secrets("GET http://user:ge@heim@host/x?mail=a@b failed", {}) == "GET http://host/x?mail=a@b failed"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthError),
        (403, AuthError),
        (404, NotFound),
        (422, ConfigError),
        (429, RateLimited),
        (500, Unavailable),
        (None, Unavailable),
    ],
)
def test_an_answer_becomes_the_error_that_it_is(
    status: int | None, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with pytest.raises(kind) as raised, answers_of("The hub", safe="the run", sign_in="sign in"):
        raise ServiceError(status, f"it said {SECRET}")
    assert SECRET not in str(raised.value)
    assert "the run" in str(raised.value)


def test_a_defect_of_this_program_is_no_answer_of_a_service() -> None:
    with pytest.raises(ZeroDivisionError), answers_of("The hub", safe="the run", sign_in="sign in"):
        print(1 / 0)


def as_a_library(lines: str) -> None:
    """Run lines as if they stood in a module of the Hub's library."""
    exec(compile(lines, "module.py", "exec"), {"__name__": "huggingface_hub.module"})


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        ("int('many')", ConfigError, "many"),  # how a variable of its own is read
        ("'HF_TOKEN é'.encode('ascii')", ConfigError, "ascii"),  # a header
        ("raise type('UnsupportedProtocol', (Exception,), {})('ftp')", ConfigError, "ftp"),
        ("raise type('OfflineModeIsEnabled', (ConnectionError,), {})('unset HF_HUB_OFFLINE')", ConfigError, "unset"),
        ("raise type('ConnectError', (Exception,), {})('refused')", Unavailable, "refused"),
        ("raise type('DatabaseError', (Exception,), {})('file is not a database')", ConfigError, "database"),
        ("{}['id']", Unavailable, "KeyError: 'id'"),  # an answer that is of another server
        ("__import__('json').loads('<html>')", Unavailable, "Expecting value"),
    ],
)
def test_a_setting_and_an_answer_that_the_library_cannot_use_are_said(
    lines: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words), answers_of("The hub", safe="the run", sign_in="sign in"):
        as_a_library(lines)


def test_what_the_disk_refuses_to_the_library_is_of_the_disk() -> None:
    with pytest.raises(FileNotFoundError), answers_of("The hub", safe="the run", sign_in="sign in"):
        as_a_library("open('/nowhere/at/all')")


@pytest.mark.parametrize("name", [*SECRET_VARIABLES, "KAGGLE_KEY", "KAGGLE_API_TOKEN"])
def test_what_has_a_token_in_it_is_not_sent(name: str) -> None:
    texts = {"README.md": b"a page", "training.json": b'{"key": "%b"}' % SECRET.encode()}
    with pytest.raises(ConfigError, match=f"The value of {name} is in training.json") as raised:
        refuse_secrets(texts, {name: SECRET})
    assert SECRET not in str(raised.value)
    refuse_secrets(texts, {name: ""})
    refuse_secrets(texts, {name: "key"})
