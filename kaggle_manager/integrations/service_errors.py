"""What the libraries of the services raise, as errors of this project; no secret in any text of theirs or ours."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kaggle_manager.errors import (
    AuthError,
    ConfigError,
    KaggleManagerError,
    NotFound,
    RateLimited,
    Unavailable,
    one_line,
)

# Where the libraries find credentials; a text that quotes one is shown without it.
SECRET_VARIABLES = (
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "WANDB_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)
_OF_KAGGLE = ("KAGGLE_API_TOKEN", "KAGGLE_KEY")
# A shorter one is found in texts that have nothing to do with it.
_SHORTEST_SECRET = 8
# Packages whose errors are answers of a service, or tell of none. MLflow opens its own databases with `sqlalchemy`.
_SERVICES = ("mlflow", "wandb", "huggingface_hub", "sqlalchemy")
_TRANSPORTS = ("requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2")
# Names of the libraries' errors, of several makes of HTTP among them.
_OF_SETTINGS = re.compile("validation|offlinemode|unsupportedprotocol|(invalid|missing)(url|schema)", re.IGNORECASE)
_LONGEST = 400
# Up to the last @: a password may have one.
_USER_IN_ADDRESS = re.compile(r"//[^/\s]*@")


@contextmanager
def answers_of(service: str, *, safe: str, sign_in: str) -> Iterator[None]:
    """Turn what its library raises inside into the error that it is.

    Args:
        service: what a message calls it.
        safe: what was not touched.
        sign_in: what the user does about credentials.

    Raises:
        AuthError, NotFound, RateLimited, ConfigError, Unavailable: see `errors`.
    """
    try:
        yield
    except (KaggleManagerError, ImportError):
        raise
    except Exception as error:
        if not _is_answer(error):
            raise
        raise _typed(service, error, safe, sign_in) from error


def without_secrets(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """One line of a text that may quote an address with a password in it, or a token of the environment."""
    text = _USER_IN_ADDRESS.sub("//", text)
    for name in SECRET_VARIABLES:
        if secret := environ.get(name, "").strip():
            text = text.replace(secret, "…")
    return one_line(text, _LONGEST)


def refuse_secrets(texts: Mapping[str, bytes], environ: Mapping[str, str] = os.environ) -> None:
    """Refuse to send what quotes a token of the environment, as an argument in section.toml may.

    Args:
        texts: by what a message calls them.

    Raises:
        ConfigError: names the variable and the text, and quotes neither.
    """
    for name in (*SECRET_VARIABLES, *_OF_KAGGLE):
        secret = environ.get(name, "").strip()
        found = [where for where, text in texts.items() if secret.encode() in text]
        if len(secret) >= _SHORTEST_SECRET and found:
            raise ConfigError(
                f"The value of {name} is in {', '.join(found)}.",
                safe="nothing was sent",
                next_step=f"take it out of section.toml and of what the training writes, read {name} from the "
                "environment instead, and revoke the token: every checkpoint that was made with it has it",
            )


def _is_answer(error: Exception) -> bool:
    """Whether it tells of the service or of the user's settings for its library.

    A library reports a setting that it cannot use, and an answer that it cannot read, by any error of Python.
    What the disk refuses is told as such; what was raised elsewhere is a defect.
    """
    if isinstance(error, ConnectionError) or _is_of_library(type(error).__module__):
        return True
    frames = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return not isinstance(error, OSError) and any(map(_is_of_library, frames))


def _is_of_library(module: str) -> bool:
    return module.partition(".")[0] in (*_SERVICES, *_TRANSPORTS)


def _is_setting(error: Exception) -> bool:
    """Whether it is of a value that was given, not of what a server answered."""
    if isinstance(error, UnicodeEncodeError) or type(error) is ValueError or "not a database" in str(error):
        return True
    return bool(_OF_SETTINGS.search(type(error).__name__))


def _typed(service: str, error: Exception, safe: str, sign_in: str) -> KaggleManagerError:
    status, kind = _status(error), type(error).__name__
    said = without_secrets(
        f"{kind}: {error}" if isinstance(error, LookupError | TypeError | AttributeError) else str(error)
    )
    if status in (401, 403) or re.search("Auth|LocalToken", kind) or re.search("API.key", str(error), re.IGNORECASE):
        return AuthError(f"{service} refused the credentials, or found none: {said}", safe=safe, next_step=sign_in)
    if status == 404:
        return NotFound(f"{service} has no such thing: {said}", safe=safe, next_step=f"check its name; or {sign_in}")
    if status == 429:
        return RateLimited(f"{service} asks to slow down: {said}", safe=safe)
    if (status is not None and 400 <= status < 500) or "Usage" in kind or _is_setting(error):
        return ConfigError(f"{service} does not accept this: {said}", safe=safe, next_step="correct what it names")
    return Unavailable(f"{service} could not be reached, or failed: {said}", safe=safe)


def _status(error: Exception) -> int | None:
    """The HTTP status of an answer; None where there was none."""
    of_answer = getattr(getattr(error, "response", None), "status_code", None)
    if of_answer is not None:
        return int(of_answer)
    ask = getattr(error, "get_http_status_code", None)  # of MLflow: 500 where no answer came
    return int(ask()) if callable(ask) else None
