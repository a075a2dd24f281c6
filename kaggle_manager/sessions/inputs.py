"""Which version of its input data a session gets, decided before its push; what is not there ends the push in words.

A run stays with the versions that its checkpoints were trained on, unless the user accepts the ones that were current
then, or else begins with the current ones. A dataset is
asked for by its plain name while the wanted version is the current one, which is the form that is documented, and by
its number only when a newer one exists; the session then compares the files (see `sections.input_folders`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kaggle_manager.errors import ConfigError, NotFound, RemoteError, Unavailable
from kaggle_manager.platforms.platform import Platform
from kaggle_manager.sections.inputs import LOCAL_FOLDER, Input

_NOTHING = "nothing was pushed; the training tree is untouched"


@dataclass(frozen=True)
class SettledInput:
    """An input in the version that a session gets, and what its push asks for."""

    input: Input
    source: str


def current_versions(client: Platform, asked: Sequence[Input]) -> dict[str, int]:
    """The current version of each input of which none is named, by its name; without those that are not there.

    Raises:
        AuthError, RemoteError: the platform does not say.
    """
    found = {}
    for each in asked:
        with suppress(NotFound, ConfigError):  # which the push says
            if each.version is None and (current := _versions(client, each)[0]):
                found[each.name] = current
    return found


def settle_inputs(
    client: Platform,
    asked: Sequence[Input],
    trained_on: Mapping[str, Any],
    warn: Callable[[str], None],
    accepted: Mapping[str, int] | None = None,
) -> tuple[SettledInput, ...]:
    """Look for each input on the platform.

    Args:
        trained_on: version of each input, by name, that the checkpoint to continue was trained on.
        warn: told what could not be found out, and which newer versions are there, or are used.
        accepted: versions that the user has accepted instead.

    Raises:
        ConfigError: one is not there for this account, or not in this version.
        AuthError, RemoteError: the platform did not say whether a dataset is there.
    """
    accepted = accepted or {}
    return tuple(_settled(client, each, trained_on.get(each.name), warn, accepted.get(each.name, 0)) for each in asked)


def _settled(
    client: Platform, asked: Input, trained_on: Any, warn: Callable[[str], None], accepted: int
) -> SettledInput:
    try:
        current, listed = _versions(client, asked)
    except NotFound as error:
        rules = " (of a competition, its rules have to be accepted first)" if asked.kind == "competition" else ""
        raise _not_there(asked, f"not there for this account{rules}: {error.message}") from error
    except (RemoteError, ConfigError) as error:
        if asked.kind == "dataset":
            raise
        warn(f"whether the input {asked.text} is there is not known, and its session will see: {error.message}")
        current, listed = 0, frozenset()
    wanted = asked.version or (max(trained_on, accepted) if isinstance(trained_on, int) else None)
    version = wanted or current or None
    if listed and version not in listed:
        raise _not_there(asked, f"not there in version {version}, only in {', '.join(map(str, sorted(listed)))}")
    if asked.kind == "dataset" and not current:
        raise Unavailable(f"The input {asked.text} has no version yet that could be mounted.", safe=_NOTHING)
    if version is not None and asked.version is None and version < current:
        warn(f"the input {asked.name} has version {current} by now; this run stays with version {version}")
    if asked.version is None and isinstance(trained_on, int) and version is not None and version > trained_on:
        warn(f"the input {asked.name} is version {version} from here on, as accepted; it was version {trained_on}")
    settled = asked.at(version)
    return SettledInput(settled, _source(settled, current))


def _versions(client: Platform, asked: Input) -> tuple[int, frozenset[int]]:
    """The current version of an input, 0 where it has none, and all that may be asked for."""
    if asked.kind == "dataset":
        owner, slug = asked.parts
        return client.input_versions(owner, slug)
    if asked.kind == "model":
        owner, model, framework, variation = asked.parts
        newest = client.newest_model_version(owner, model, framework, variation)
        return newest, frozenset(range(1, newest + 1))
    (name,) = asked.parts
    client.check_competition(name)
    return 0, frozenset()


def _source(settled: Input, current: int) -> str:
    """The form in which a push asks for it, as the official client sends it."""
    plain = "/".join(settled.parts)
    is_current = settled.kind == "dataset" and settled.version == current
    return plain if settled.version is None or is_current else f"{plain}/{settled.version}"


def _not_there(asked: Input, why: str) -> ConfigError:
    return ConfigError(
        f"The input {asked.text} is {why}.",
        safe="nothing was pushed; the training tree is untouched",
        next_step="correct `inputs` in section.toml, or get access to it on the platform; with --platform local, put "
        f"its files at {LOCAL_FOLDER / asked.home} in the state folder",
    )
