"""How a request proves who sends it. Credentials go into one header, nowhere else, and are taken out of every text.

OAuth: a refresh token buys short-lived access tokens, renewed ahead of their end and kept in memory only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from kaggle_manager.errors import one_line
from kaggle_manager.platforms.kaggle.credentials import Credentials

# Buy a new access token when less than this is left: longer than any one call, shorter than any token.
_RENEW_BEFORE_S = 300.0
_LONGEST_QUOTE = 400


class BearerAuth(AuthBase):
    """A token that does not change."""

    def __init__(self, token: str) -> None:
        self._token = token

    def token(self) -> str:
        return self._token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token()}"
        return request


class OAuth(BearerAuth):
    """An access token bought with a refresh token when needed; safe to use from several threads.

    Args:
        refresh_token: the long-lived secret.
        buy: refresh token -> (access token, seconds it lives).
        clock: monotonic seconds.
    """

    def __init__(self, refresh_token: str, buy: Callable[[str], tuple[str, float]], clock: Callable[[], float]) -> None:
        super().__init__("")
        self._refresh_token, self._buy, self._clock = refresh_token, buy, clock
        self._good_until = float("-inf")
        self._lock = threading.Lock()

    def token(self) -> str:
        with self._lock:
            if self._clock() >= self._good_until:
                self._token, lives_s = self._buy(self._refresh_token)
                self._good_until = self._clock() + max(0.0, lives_s - _RENEW_BEFORE_S)
            return self._token

    def forget(self) -> None:
        """Buy anew at the next call: the server refused what we hold."""
        self._good_until = float("-inf")


class NoAuth(AuthBase):
    """Sends nothing, and keeps requests from adding what ~/.netrc may hold for the host."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        return request


def authorization(
    credentials: Credentials, buy: Callable[[str], tuple[str, float]], clock: Callable[[], float]
) -> AuthBase:
    """The header-writer for these credentials; `buy` and `clock` are used by OAuth alone."""
    if credentials.kind == "legacy":
        return HTTPBasicAuth(credentials.username or "", credentials.secret)
    if credentials.kind == "oauth":
        return OAuth(credentials.secret, buy, clock)
    return BearerAuth(credentials.secret)


def quotable(text: str, *secrets: str) -> str:
    """A server's text as it may be shown: short, without control characters, without our secrets."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    line = " ".join(one_line(text).split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[: _LONGEST_QUOTE - 1]}…"
