"""The wire: the SDK's HTTP client with our endpoint, our credentials, time-outs, and errors that can be told apart.

Promises: every request has connect and read time-outs; every failure leaves as an error of this project, made outside
the original's `except` block, so that no address with a signature and no header rides along in a chained exception.
Never looks for credentials by itself (the SDK would, everywhere), never follows proxies to this very machine, and
sends credentials to the API alone, never to the hosts that hold the files.
"""

from __future__ import annotations

import io
import ipaddress
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import requests
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.kaggle_env import KaggleEnv
from kagglesdk.kaggle_http_client import KaggleHttpClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from kaggle_manager.errors import (
    ConfigError,
    KaggleManagerError,
    ProtocolError,
    RateLimited,
    StorageError,
    Unavailable,
)
from kaggle_manager.platforms.kaggle.auth import NoAuth, quotable
from kaggle_manager.platforms.kaggle.network_settings import causes, proxy_for, setting_behind, wrong_setting
from kaggle_manager.platforms.kaggle.retry import parse_retry_after
from kaggle_manager.platforms.long_strings import texts, with_short_strings

KAGGLE = "https://api.kaggle.com"
# urllib3 writes whole addresses to its debug log, and ours are signed.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
# An answer that comes slower than this for the length of a read time-out has stalled: a byte now and then would keep
# any time-out from ever ending it.
_SLOWEST_BYTES_PER_S = 1024
# What is kept of an answer, in characters. Of a longer string in it only the head and the tail: a session's log is one,
# and it has no bound.
_LARGEST_ANSWER = 16 * 1024**2
_HEAD_OF_STRING, _TAIL_OF_STRING = 1024**2, 3 * 1024**2
# 408 and 425: the server gave up on the request, or wants it later.
_LATER = (408, 425)

_CHUNK = 64 * 1024

Answer = TypeVar("Answer")


class Refused(Exception):
    """A 4xx answer. Stays in this room: `client.py` finds out what it means."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.text = text


class NotSent(Unavailable):
    """No connection was made, so surely nothing was accepted."""


class ServerFailed(Unavailable):
    """HTTP 500: the server was reached, and failed at this very request."""


class JsonAnswer(dict[str, Any]):
    """An answer read without the SDK's types, where those raise on a word they do not know."""

    @classmethod
    def prepare_from(cls, response: requests.Response) -> JsonAnswer:
        return cls(response.json())


class TimeoutAdapter(HTTPAdapter):
    """Gives every request the time-outs that the SDK leaves out."""

    def __init__(self, timeouts: tuple[float, float]) -> None:
        self._timeouts = timeouts
        super().__init__()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        options["timeout"] = options.get("timeout") or self._timeouts
        return super().send(request, **options)


class Transport(KaggleHttpClient):  # type: ignore[misc]  # the SDK ships no types
    """One connection to one Kaggle for one account. Safe to use from several threads.

    Args:
        endpoint: "https://api.kaggle.com", or a local Kaggle such as "http://127.0.0.1:8123".
        timeouts: seconds to connect, and seconds without a byte.

    Attributes:
        host: the endpoint's host, the only part of an address that messages may name.
        read_timeout_s: seconds without a byte, or with next to none, after which an answer counts as lost.
        files: a session without credentials, for signed addresses.

    Raises:
        ConfigError: no address, or one that would send credentials unencrypted over a network; a proxy or a certificate
            bundle in the environment that cannot be used.
    """

    user_agent: ClassVar[str] = (
        f"kaggle-manager/{version('kaggle-manager')} "
        f"kagglesdk/{version('kagglesdk')} python/{platform.python_version()}"
    )

    def __init__(self, endpoint: str, timeouts: tuple[float, float]) -> None:
        endpoint = endpoint.rstrip("/")
        # Kaggle serves its API at /v1; everything else, by the SDK's rule, at /api/v1.
        super().__init__(env=KaggleEnv.PROD if endpoint == KAGGLE else KaggleEnv.LOCAL, user_agent=self.user_agent)
        self._endpoint = endpoint
        scheme, self.host = _endpoint_parts(endpoint)
        self.is_loopback = _is_loopback(self.host)
        if scheme != "https" and not (scheme == "http" and self.is_loopback):
            raise ConfigError(
                f"The Kaggle endpoint {endpoint!r} is neither https nor on this machine.",
                safe="nothing was sent",
                next_step=f"use {KAGGLE}",
            )
        if not self.is_loopback and (wrong := wrong_setting(endpoint)):
            raise wrong
        self._connect_timeout_s, self.read_timeout_s = timeouts
        self._session = self._new_session(timeouts)
        self._session.stream = True  # bodies are read by `_read_whole`, which ends a slow one
        self._session.headers["Content-Type"] = "application/json"
        self.files = self._new_session(timeouts)
        self._secrets: tuple[str, ...] = ()

    def authorize(self, auth: AuthBase, secrets: tuple[str, ...]) -> None:
        """Send these credentials from now on, and keep them out of every quoted text."""
        self._session.auth = auth
        self._secrets = secrets

    @property
    def endpoint(self) -> str:
        return str(self._endpoint)

    def close(self) -> None:
        self._session.close()
        self.files.close()

    def once(self, method: Callable[[Any], Answer], request: Any) -> Answer:
        """Call one SDK method once.

        Raises:
            Refused: 4xx. RateLimited: 429. NotSent, Unavailable: no answer, or 5xx. ProtocolError: not understood.
            ConfigError, AuthError: nothing was sent, because of the proxy or the certificates of this machine.
        """
        failure: KaggleManagerError
        what = method.__name__.strip("_").replace("_", " ")
        try:
            return method(request)
        except OSError as error:
            failure = self.failure(error, what)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            # The SDK's own parser; the exception's name says enough and quotes nothing.
            failure = ProtocolError(f"Kaggle's answer to '{what}' could not be read ({type(error).__name__}).")
        raise failure

    def stream(self, path: str, params: dict[str, str], read_timeout_s: float) -> requests.Response:
        """Open a GET on the API whose answer is read as it comes; the caller closes it.

        Raises:
            as `once`.
        """
        failure: KaggleManagerError
        headers = {"Accept": "text/event-stream, */*", "Accept-Encoding": "identity", "Content-Type": None}
        prefix = "" if self._env == KaggleEnv.PROD else "/api"
        try:
            response = self._session.get(
                f"{self._endpoint}{prefix}/v1/{path}",
                params=params,
                headers=headers,
                stream=True,
                timeout=(self._connect_timeout_s, read_timeout_s),
            )
            is_page = "text/html" in response.headers.get("Content-Type", "")
            if response.status_code == 200 and not is_page:
                return response
            with response:
                self._read_whole(response)
                self._refuse(response)
            what = "a web page" if is_page else str(response.status_code)
            failure = ProtocolError(f"{self.host} answered {what} where a stream was expected.")
        except OSError as error:
            failure = self.failure(error, path.split("/")[0])
        raise failure

    def file_request(self, method: str, url: str, what: str, **options: Any) -> requests.Response:
        """Ask a host that holds files, without credentials; the body is read as it comes, and the caller closes it.

        Raises:
            as `once`, but never `Refused`. StorageError: the file to be sent cannot be read.
        """
        failure: KaggleManagerError
        try:
            return self.files.request(method, self.file_address(url), stream=True, **options)
        except OSError as error:
            failure = self.failure(error, what)
        raise failure

    def file_address(self, url: str) -> str:
        """A signed address, once it is one we may talk to: https, or this machine when Kaggle itself is on it.

        Raises:
            ProtocolError: any other address.
        """
        parts = urlsplit(url)
        on_this_machine = _is_loopback(parts.hostname or "")
        if on_this_machine != self.is_loopback or (parts.scheme != "https" and not on_this_machine):
            raise ProtocolError(
                f"Kaggle named a file address that is not to be trusted ({parts.scheme or 'no scheme'})."
            )
        return url

    def failure(self, error: OSError, what: str) -> KaggleManagerError:
        """Our error for what requests, urllib3 or the system said. Quotes neither address nor header.

        A wrong setting of this machine is never taken for a network that is down: waiting would not help.
        """
        if isinstance(error, requests.exceptions.InvalidJSONError):
            return ProtocolError(f"Kaggle's answer to '{what}' is not JSON.")
        if not self.is_loopback and (setting := setting_behind(error, self.endpoint)):
            return setting
        if not isinstance(error, requests.RequestException):
            return StorageError(f"'{what}' ended on this machine: {error.strerror or type(error).__name__}.")
        if isinstance(error, ValueError):  # InvalidURL and its kin: our own endpoint was read before
            return ProtocolError(f"{self.host} named an address that cannot be used, during '{what}'.")
        if any(isinstance(cause, NewConnectionError | ConnectTimeoutError) for cause in causes(error)):
            proxy = None if self.is_loopback else proxy_for(self.endpoint)
            through = f" through the proxy from {proxy[0]}" if proxy else ""
            return NotSent(
                f"No connection to {self.host}{through} for '{what}'.",
                next_step=f"check the network{f' and {proxy[0]}' if proxy else ''}; this is tried again",
            )
        if isinstance(error, requests.exceptions.SSLError):
            return Unavailable(f"The TLS connection to {self.host} failed during '{what}'.")
        how = "timed out" if isinstance(error, requests.Timeout) or "timed out" in str(error) else "broke off"
        return Unavailable(f"The connection to {self.host} {how} during '{what}'.")

    # Below: private parts of the SDK, replaced. tests/contract/test_kaggle_api_sdk.py says whether they still exist.

    def _init_session(self) -> requests.Session:
        return self._session  # made once, in __init__; the SDK's version searches this machine for credentials

    def _prepare_response(self, response_type: Any, response: requests.Response) -> Any:
        """Look at the status before the body: the SDK parses first, and hides a 429 behind a JSON error."""
        if response_type is HttpRedirect and response.history and response.status_code == 200:
            response.close()  # only where the file is was asked for; it is downloaded without credentials
            redirect = HttpRedirect()
            redirect.url = response.url
            return redirect
        self._read_whole(response)
        self._refuse(response)
        if not isinstance(_json(response), dict):
            kind = response.headers.get("Content-Type", "no content type").split(";")[0]
            raise ProtocolError(
                f"{self.host} answered {response.status_code} with {quotable(kind)} where JSON was expected.",
                next_step="a proxy or a maintenance page may be in the way; try later",
            )
        return response_type.prepare_from(response)

    def _read_whole(self, response: requests.Response) -> None:
        """Take the body off the wire, within bounds of time and size."""
        kept = io.StringIO()
        pieces = texts(read_body(response, _CHUNK, stalled_after_s=self.read_timeout_s))
        for piece in with_short_strings(pieces, head=_HEAD_OF_STRING, tail=_TAIL_OF_STRING):
            kept.write(piece)
            if kept.tell() > _LARGEST_ANSWER:
                response.close()
                raise ProtocolError(f"{self.host} sends an answer without end.")
        response.raw, response.encoding = io.BytesIO(kept.getvalue().encode()), "utf-8"

    def _refuse(self, response: requests.Response) -> None:
        status, text = _refusal(response)
        if status < 400:
            return
        text = quotable(text, *self._secrets)
        wait_s = parse_retry_after(response.headers.get("Retry-After"))
        if status == 429:
            raise RateLimited(f"{self.host} asks to slow down (429).", retry_after_s=wait_s)
        if status >= 500 or status in _LATER:
            said = f": {text.rstrip('.')}" if text else ""
            kind = ServerFailed if status == 500 else Unavailable
            raise kind(f"{self.host} answered {status}{said}.", retry_after_s=wait_s)
        raise Refused(status, text)

    def _new_session(self, timeouts: tuple[float, float]) -> requests.Session:
        session = requests.Session()
        session.auth = NoAuth()
        session.trust_env = not self.is_loopback  # proxies and REQUESTS_CA_BUNDLE; none of them for this machine
        session.headers["User-Agent"] = self.user_agent
        for scheme in ("http://", "https://"):
            session.mount(scheme, TimeoutAdapter(timeouts))
        return session


def read_body(response: requests.Response, size: int, *, stalled_after_s: float | None = None) -> Iterator[bytes]:
    """The body in chunks of at most `size` bytes, each as soon as it is there; one kind of exception for all trouble.

    Args:
        stalled_after_s: a body that brings less than 1 kB/s for so long has stalled; None for one that may be slow.

    Raises:
        requests.ConnectionError: broken or stalled.
    """
    trouble, begun, got = "", time.monotonic(), 0
    try:
        while chunk := response.raw.read1(size, decode_content=True):
            yield chunk
            got += len(chunk)
            if stalled_after_s is not None and time.monotonic() - begun > stalled_after_s:
                if got < _SLOWEST_BYTES_PER_S * stalled_after_s:
                    response.close()
                    raise TimeoutError("timed out")
                begun, got = time.monotonic(), 0
    except (HTTPError, OSError) as error:
        trouble = "timed out" if "timed out" in str(error) else "broke off"
    if trouble:
        raise requests.ConnectionError(trouble)


def _refusal(response: requests.Response) -> tuple[int, str]:
    """(status, text) of an answer; an error told inside a JSON body counts as its status does."""
    status = response.status_code
    body = _json(response)
    if isinstance(body, dict):
        nested = body.get("error")
        for told in (body, nested):
            if isinstance(told, dict) and isinstance(told.get("code"), int) and told["code"] >= 400:
                return told["code"], str(told.get("message", ""))
        for key in ("message", "error"):
            if isinstance(body.get(key), str):
                return status, body[key]
    return status, "" if status < 400 or "html" in response.headers.get("Content-Type", "") else response.text


def _json(response: requests.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def _endpoint_parts(endpoint: str) -> tuple[str, str]:
    """(scheme, host); empty where there is none."""
    try:
        parts = urlsplit(endpoint)
        return (parts.scheme, parts.hostname) if parts.hostname and parts.port != 0 else ("", "")
    except ValueError:
        return "", ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
