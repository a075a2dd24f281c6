"""One account's way of asking Kaggle: who it is, how often it asks again, what a refusal means.

Promises: what is safe to repeat is repeated with full jitter; a refusal is told apart from a wrong name by asking who
we are. Never repeats what the caller did not say may be repeated.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from kagglesdk.kernels.services.kernels_api_service import KernelsApiClient
from kagglesdk.kernels.types.kernels_api_service import ApiListKernelsRequest
from kagglesdk.kernels.types.kernels_enums import KernelsListViewType
from kagglesdk.security.services.oauth_service import OAuthClient
from kagglesdk.security.types.oauth_service import IntrospectTokenRequest
from kagglesdk.users.services.account_service import AccountClient
from kagglesdk.users.types.account_service import ApiVersion, GenerateAccessTokenRequest

from kaggle_manager.errors import AuthError, ConfigError, NotFound, ProtocolError, RateLimited, RemoteError, Unavailable
from kaggle_manager.platforms.kaggle.auth import BearerAuth, NoAuth, OAuth, authorization
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
from kaggle_manager.platforms.kaggle.transport import KAGGLE, JsonAnswer, NotSent, Refused, Transport

Answer = TypeVar("Answer")

# Errors after which a question may be asked again, and those after which even an order may: nothing was accepted.
TRANSIENT: tuple[type[RemoteError], ...] = (Unavailable, RateLimited, ProtocolError)
NOT_ACCEPTED: tuple[type[RemoteError], ...] = (NotSent, RateLimited)

_NEW_TOKEN = "create a new token at https://www.kaggle.com/settings (API)"


class ApiConnection:
    """One account on one Kaggle. Safe to use from several threads; close it, or use it as a context manager.

    Args:
        credentials: who to be.
        endpoint: Kaggle, or a local one such as "http://127.0.0.1:8123".
        connect_timeout_s: seconds to wait for a connection.
        read_timeout_s: seconds without a byte before an answer counts as lost.
        sleep, clock: how to wait and what time it is (monotonic seconds).
        retry: how patient calls are; by default one that waits with `sleep`.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        endpoint: str = KAGGLE,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        retry: RetryPolicy | None = None,
    ) -> None:
        self.credentials = credentials
        self.retry = retry or RetryPolicy(sleep=sleep)
        self.sleep = sleep
        self.clock = clock
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self.transport = Transport(endpoint, self._timeouts)
        self._auth = authorization(credentials, self._buy_access_token, clock)
        self.transport.authorize(self._auth, (credentials.secret,))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.credentials!r}, host={self.transport.host!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    def asked_once(self) -> Self:
        """The same connection without patience: what fails for a moment is not asked again."""
        hasty = copy.copy(self)
        hasty.retry = replace(self.retry, attempts=1)
        return hasty

    def whoami(self) -> str:
        """The user name Kaggle knows these credentials by; a legacy key's own name, once Kaggle has accepted it.

        Raises:
            AuthError: refused.
            RemoteError: no usable answer.
        """
        try:
            return self.retry.run(self._introspect, on=TRANSIENT)
        except Refused as error:
            status = error.status
        raise self._refused_credentials(status)

    def _introspect(self) -> str:
        if not isinstance(self._auth, BearerAuth):
            mine = ApiListKernelsRequest()
            mine.group, mine.page_size = KernelsListViewType.PROFILE, 1
            self.transport.once(KernelsApiClient(self.transport).list_kernels, mine)
            return self.credentials.username or ""
        answer = self._introspect_token(self._auth)
        if not answer.active or not answer.username:
            raise Refused(401, "the token is not active")
        return str(answer.username)

    def _introspect_token(self, auth: BearerAuth) -> Any:
        request = IntrospectTokenRequest()
        request.token = auth.token()
        return self.transport.once(OAuthClient(self.transport).introspect_token, request)

    def expires_at(self) -> datetime | None:
        """When a token ends; None where Kaggle does not say, for a legacy key, and for a login, which renews its own.

        Raises:
            RemoteError: no usable answer.
        """
        auth = self._auth
        if not isinstance(auth, BearerAuth) or isinstance(auth, OAuth):
            return None
        try:
            end = self.retry.run(lambda: self._introspect_token(auth), on=TRANSIENT).exp
        except Refused:
            return None
        return datetime.fromtimestamp(end, UTC) if end else None

    def _buy_access_token(self, refresh_token: str) -> tuple[str, float]:
        request = GenerateAccessTokenRequest()
        request.refresh_token = refresh_token
        request.api_version = ApiVersion.API_VERSION_V1
        request.expiration_duration = timedelta(hours=12)
        with Transport(self.transport.endpoint, self._timeouts) as anonymous:
            anonymous.authorize(NoAuth(), (refresh_token,))
            answer = anonymous.once(AccountClient(anonymous).generate_access_token, request)
        self.transport.authorize(self._auth, (refresh_token, answer.token))
        return answer.token, float(answer.expires_in)

    def _refused_credentials(self, status: int) -> AuthError:
        kind = {"token": "access token", "legacy": "legacy API key", "oauth": "login"}[self.credentials.kind]
        return AuthError(
            f"Kaggle refused the {kind} from {self.credentials.source} (HTTP {status}): wrong, expired or revoked.",
            safe="nothing was changed",
            next_step=f"{_NEW_TOKEN} and put it in its place, or remove the old one so that the next place is used",
        )

    def call(
        self,
        method: Callable[[Any], Answer],
        request: Any,
        *,
        about: str,
        on: tuple[type[RemoteError], ...] = TRANSIENT,
    ) -> Answer:
        """Call one SDK method, repeating it on the named errors.

        Args:
            about: what the question is about, for messages ("kernel alice/km-run v3").

        Raises:
            AuthError: the credentials are refused. NotFound: they are good, but this is not there or not ours.
            ConfigError: another 4xx. RemoteError: no usable answer.
        """
        try:
            return self.send(method, request, on=on)
        except Refused as error:
            refused = error
        raise self.explain(refused, about)

    def call_to_delete(self, method: Callable[[Any], Answer], request: Any, *, about: str) -> Answer | None:
        """Call an SDK method that deletes; None where an earlier try, whose answer was lost, has done it.

        Raises:
            NotFound: there was nothing of that name. AuthError, ConfigError, RemoteError: as `call`.
        """
        tries = 0

        def once(request: Any) -> Answer:
            nonlocal tries
            tries += 1
            return method(request)

        try:
            return self.call(once, request, about=about)
        except NotFound:
            if tries == 1:
                raise
            return None

    def send(self, method: Callable[[Any], Answer], request: Any, *, on: tuple[type[RemoteError], ...]) -> Answer:
        """Like `call`, but leaves a 4xx answer unexplained.

        Raises:
            Refused: 4xx. RemoteError: no usable answer.
        """
        try:
            return self.retry.run(lambda: self.transport.once(method, request), on=on)
        except Refused as error:
            if error.status != 401 or not isinstance(self._auth, OAuth):
                raise
        self._auth.forget()  # the short-lived token was refused, which accepts nothing: one more try with a new one
        return self.retry.run(lambda: self.transport.once(method, request), on=on)

    def explain(self, refused: Refused, about: str) -> AuthError | NotFound | ConfigError:
        """What a 4xx means. 401 and 403 also stand for a wrong name, so Kaggle is asked who we are.

        Raises:
            AuthError, RemoteError: from that question.
        """
        said = f" Kaggle says: {refused.text}" if refused.text else ""
        if refused.status in (401, 403):
            self.whoami()
            if refused.status == 401:
                return AuthError(
                    f"Kaggle knows these credentials ({self.credentials.source}) but refuses them for {about}.{said}",
                    safe="nothing was changed",
                    next_step="use an access token: some calls refuse legacy keys"
                    if self.credentials.kind == "legacy"
                    else f"run the same command again; if it stays so, {_NEW_TOKEN}",
                )
        if refused.status in (403, 404):
            return NotFound(
                f"There is no {about} that this account may see (HTTP {refused.status}).{said}",
                safe="nothing was changed",
                next_step="check its owner and name; something just created may take a moment to be seen",
            )
        return ConfigError(
            f"Kaggle refused a request about {about} (HTTP {refused.status}).{said}",
            safe="nothing was changed",
            next_step="follow Kaggle's message above",
        )

    def raw(self, service: str, method: str, request: Any) -> JsonAnswer:
        """Call a method once and read the answer without the SDK's types; for use inside `call`."""
        answer: JsonAnswer = self.transport.call(service, method, request, JsonAnswer)
        return answer
