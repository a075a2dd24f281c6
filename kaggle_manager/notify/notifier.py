"""Tells people, wherever they are, what happened to a run: through apprise and through a command of their own.

Promises: sending never raises, never takes longer than `LIMIT_S`, and shows no address beyond its scheme (an apprise
address holds tokens). With nothing configured it costs nothing. It never decides what is worth telling: the caller
names an occasion, the user's settings say which occasions are wanted.

| setting | environment | `notify.toml` in the user's configuration folder |
|---|---|---|
| apprise addresses | `KM_NOTIFY`, separated by white space | `targets = ["ntfy://…", …]`; both lists are used |
| a command | `KM_NOTIFY_HOOK`, split as a shell would, run without one | `hook = "…"`; the variable wins |
| occasions wanted | `KM_NOTIFY_ON`: names, or `all` | `on = ["run_finished", …]`; the variable wins |
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

SETTINGS_FILE = "notify.toml"
LIMIT_S = 10.0


class Occasion(StrEnum):
    """What a message is about; the value is what `KM_NOTIFY_ON` and a hook's `KM_OCCASION` say."""

    SESSION_ENDED = "session_ended"
    RUN_FINISHED = "run_finished"
    PERSON_NEEDED = "person_needed"
    INCOMPATIBLE_CHECKPOINT = "incompatible_checkpoint"
    FORECAST_SLIPPED = "forecast_slipped"
    TEST = "test"  # asked for by hand, so always sent


# A run of weeks has a hundred sessions: nobody reads the hundredth message.
WANTED_BY_DEFAULT = frozenset(Occasion) - {Occasion.SESSION_ENDED}


@dataclass(frozen=True)
class Delivery:
    """What became of one message at one target.

    Attributes:
        target: what may be shown of it: `apprise ntfy://…`, `hook notify.sh`.
        delivered: the service accepted the message, or the command ended with 0.
        detail: why not; empty when delivered.
    """

    target: str
    delivered: bool
    detail: str = ""


@dataclass(frozen=True)
class Notifier:
    """Where messages go, and about what.

    Attributes:
        addresses: apprise addresses; secrets.
        hook: a command and its arguments; empty for none.
        wanted: the occasions that are sent.
        warn: is given one line for everything that failed.
        limit_s: seconds a message may take, all targets together.
    """

    addresses: tuple[str, ...] = ()
    hook: tuple[str, ...] = ()
    wanted: frozenset[Occasion] = WANTED_BY_DEFAULT
    warn: Callable[[str], None] = lambda line: None
    limit_s: float = LIMIT_S

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        warn: Callable[[str], None],
        settings: Path | None = None,
    ) -> Notifier:
        """Read the settings; what cannot be used is left out and warned about, since no run may fail for it.

        Args:
            settings: the file to read instead of the user's own `notify.toml`.
        """
        stored = _stored(settings or settings_path(), warn)
        given = environ.get("KM_NOTIFY_ON", "").replace(",", " ").split()
        source = "KM_NOTIFY_ON" if given else SETTINGS_FILE
        wanted = _occasions(given or _texts(stored, "on", warn), source, warn)
        hook = _command(environ.get("KM_NOTIFY_HOOK") or _text(stored, "hook", warn), warn)
        addresses = (*environ.get("KM_NOTIFY", "").split(), *_texts(stored, "targets", warn))
        return cls(tuple(dict.fromkeys(addresses)), hook, wanted, warn)

    @property
    def targets(self) -> tuple[str, ...]:
        """What may be shown of each target, in the order of `send`'s deliveries."""
        hook = (f"hook {Path(self.hook[0]).name}",) if self.hook else ()
        return (*(f"apprise {scheme_of(address)}" for address in self.addresses), *hook)

    def send(
        self, occasion: Occasion, title: str, body: str, data: Mapping[str, Any] | None = None
    ) -> tuple[Delivery, ...]:
        """Send one message to every target; at most `limit_s` seconds, whatever the targets do.

        Args:
            data: facts for programs, JSON as far as possible; only a hook receives them.

        Returns:
            One delivery a target; none when nothing is configured or the occasion is not wanted.
        """
        if not self.targets or (occasion not in self.wanted and occasion is not Occasion.TEST):
            return ()
        from kaggle_manager.notify.delivery import Message, deliver

        try:
            message = Message(occasion.value, title, body, data or {})
            reasons = deliver(message, self.addresses, self.hook, limit_s=self.limit_s)
            told = list(zip(self.targets, reasons, strict=True))
        except Exception as error:  # whatever it is, the run matters more; and its text may hold an address
            told = [(target, f"{type(error).__name__} on this machine") for target in self.targets]
        deliveries = tuple(Delivery(target, not why, why) for target, why in told)
        for delivery in deliveries:
            if not delivery.delivered:
                self.warn(f"notification not delivered: {delivery.target}: {delivery.detail}")
        return deliveries


def settings_path() -> Path:
    """The user's own `notify.toml`, whether or not it is there."""
    from platformdirs import user_config_path

    return user_config_path("kaggle-manager", appauthor=False) / SETTINGS_FILE


def scheme_of(address: str) -> str:
    """All that may be shown of an apprise address."""
    scheme, colon, _ = address.partition("://")
    return f"{scheme.lower()}://…" if colon and re.fullmatch(r"[A-Za-z0-9+.-]{1,20}", scheme) else "(no scheme)"


def _stored(path: Path, warn: Callable[[str], None]) -> Mapping[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            warn(f"{path} can be read by others on this machine; run: chmod 600 {shlex.quote(str(path))}")
    except FileNotFoundError:
        return {}
    except OSError as error:
        warn(f"{path} is not used: {error.strerror or 'it cannot be read'}")
        return {}
    except ValueError:  # its text is left out: it may quote the file
        warn(f"{path} is not used: it is not TOML in UTF-8")
        return {}
    if unknown := sorted(data.keys() - {"targets", "hook", "on"}):
        warn(f"{path}: {', '.join(unknown)} means nothing here; accepted: targets, hook, on")
    return data


def _texts(stored: Mapping[str, Any], name: str, warn: Callable[[str], None]) -> Sequence[str]:
    value = stored.get(name, [])
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [item.strip() for item in value if item.strip()]
    warn(f"{SETTINGS_FILE}: {name} is not used: it must be a list of texts")
    return []


def _text(stored: Mapping[str, Any], name: str, warn: Callable[[str], None]) -> str:
    value = stored.get(name, "")
    if isinstance(value, str):
        return value
    warn(f"{SETTINGS_FILE}: {name} is not used: it must be a text")
    return ""


def _command(text: str, warn: Callable[[str], None], *, is_windows: bool = os.name == "nt") -> tuple[str, ...]:
    words = shlex.shlex(text, posix=True)  # as shlex.split, but that a backslash of Windows stands between folders
    words.whitespace_split, words.commenters = True, ""
    if is_windows:
        words.escape = ""
    try:
        return tuple(words)
    except ValueError as error:
        warn(f"the notification hook is not used: {error}")
        return ()


def _occasions(names: Sequence[str], source: str, warn: Callable[[str], None]) -> frozenset[Occasion]:
    if "all" in names:
        return frozenset(Occasion)
    known = {occasion.value: occasion for occasion in Occasion}
    if unknown := [name for name in names if name not in known]:
        warn(f"{source}: {', '.join(unknown)} is no occasion; accepted: all, {', '.join(known)}")
    return frozenset(known[name] for name in names if name in known) or WANTED_BY_DEFAULT
