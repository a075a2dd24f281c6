"""Find the user's Kaggle credentials where the official tools look, in their order.

Promises: reads only, no network, and the secret is in no repr and no message. Never writes, renews or copies a
credential. The order: access token, then legacy user name and key, then the OAuth login of `kaggle auth login`.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kaggle_manager.errors import AuthError

_SETTINGS = "create a token at https://www.kaggle.com/settings (API) and save it as ~/.kaggle/access_token, mode 600"


@dataclass(frozen=True)
class Credentials:
    """What proves who the user is.

    Attributes:
        kind: "token" (sent as Bearer), "legacy" (Basic) or "oauth" (a refresh token that buys short-lived tokens).
        username: account name where the source names it; a token does not.
        secret: token, key or refresh token.
        source: where it was found.
        caution: what the user should know about the place it was found in, or "".
    """

    kind: Literal["token", "legacy", "oauth"]
    username: str | None
    secret: str = field(repr=False)
    source: str
    caution: str = ""


def find_credentials(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> Credentials | None:
    """First credentials in the official order; None when there are none anywhere.

    Args:
        environ: the environment to read.
        home: the user's home folder.

    Raises:
        AuthError: a file is there but unreadable or malformed. It is not skipped: the user meant it.
    """
    home = home if home is not None else Path.home()
    return next(_found(environ, home), None)


def _found(environ: Mapping[str, str], home: Path) -> Iterator[Credentials]:
    yield from _tokens(environ, home)
    yield from _legacy(environ, home)
    yield from _oauth(home / ".kaggle" / "credentials.json")


def _tokens(environ: Mapping[str, str], home: Path) -> Iterator[Credentials]:
    value = environ.get("KAGGLE_API_TOKEN", "").strip()
    if value:
        path = Path(value)
        if _is_file(path):
            token = _read(path).strip()
            if not token:
                raise _malformed(f"{path} (named by KAGGLE_API_TOKEN)", "it is empty")
            yield _token(token, f"{path} (named by KAGGLE_API_TOKEN)", _caution(path))
        elif "/" in value or "\\" in value:
            raise _malformed("KAGGLE_API_TOKEN", "its value looks like a path, and there is no such file")
        else:
            yield _token(value, "KAGGLE_API_TOKEN", "")
    for name in ("access_token", "access_token.txt"):
        path = home / ".kaggle" / name
        if _is_file(path) and (token := _read(path).strip()):
            yield _token(token, str(path), _caution(path))


def _token(token: str, source: str, caution: str) -> Credentials:
    if not _is_header_text(token):
        raise _malformed(source, "a token is one line of printable ASCII without spaces")
    return Credentials("token", None, token, source, caution)


def _legacy(environ: Mapping[str, str], home: Path) -> Iterator[Credentials]:
    username, key = environ.get("KAGGLE_USERNAME", "").strip(), environ.get("KAGGLE_KEY", "").strip()
    source, caution = "KAGGLE_USERNAME and KAGGLE_KEY", ""
    path = _config_folder(environ, home) / "kaggle.json"
    if not (username and key) and _is_file(path):
        data = _read_object(path)
        username, key = username or _text(data, "username"), key or _text(data, "key")
        if not (username and key):
            raise _malformed(str(path), 'it needs "username" and "key"')
        source, caution = str(path), _caution(path)
    if username and key:
        if not _is_header_text(username) or not _is_header_text(key):
            raise _malformed(source, "user name and key are printable ASCII without spaces")
        yield Credentials("legacy", username, key, source, caution)


def _oauth(path: Path) -> Iterator[Credentials]:
    if _is_file(path):
        data = _read_object(path)
        refresh_token = _text(data, "refresh_token")
        if not _is_header_text(refresh_token):
            raise _malformed(str(path), 'it needs a "refresh_token"; `kaggle auth login` writes it anew')
        yield Credentials("oauth", _text(data, "username") or None, refresh_token, str(path), _caution(path))


def _config_folder(environ: Mapping[str, str], home: Path) -> Path:
    if named := environ.get("KAGGLE_CONFIG_DIR"):
        return Path(named)
    usual = home / ".kaggle"
    if sys.platform.startswith("linux") and not usual.exists():
        return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    return usual


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a token taken for a path may be too long, or no path at all
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
    raise _malformed(str(path), f"it cannot be read: {problem}")


def _read_object(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        data = json.loads(text)
    except ValueError:
        data = None  # the parser's own words would quote the file
    if not isinstance(data, dict):
        raise _malformed(str(path), "it is not a JSON object")
    return data


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value.strip() if isinstance(value, str) else ""


def _is_header_text(value: str) -> bool:
    return bool(value) and value.isascii() and value.isprintable() and " " not in value


def _caution(path: Path) -> str:
    if os.name != "posix":
        return ""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return ""
    return (
        f"{path} can be read by others on this machine; run: chmod 600 {shlex.quote(str(path))}" if mode & 0o077 else ""
    )


def _malformed(source: str, problem: str) -> AuthError:
    return AuthError(
        f"Kaggle credentials in {source} cannot be used: {problem}.",
        safe="nothing was sent",
        next_step=f"correct or remove it, or {_SETTINGS}",
    )
