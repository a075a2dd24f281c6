"""Which platform a run talks to, and why: the one that was asked for; else Kaggle when there are credentials, or the
local Kaggle.

The only place that knows platforms by name; past it nothing can tell them apart.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kaggle_manager.config import FROM_RUN, LOCAL_KAGGLE, RunConfig
from kaggle_manager.errors import AuthError, ConfigError, RemoteError, error_context
from kaggle_manager.local_kaggle.image_packages import image_versions
from kaggle_manager.local_kaggle.image_site import listed, visible
from kaggle_manager.local_kaggle.launcher import ensure_running
from kaggle_manager.platforms.kaggle.client import LIMITS as KAGGLE_LIMITS
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials, find_credentials
from kaggle_manager.platforms.platform import Limits, Platform
from kaggle_manager.platforms.slurm.client import SlurmPlatform
from kaggle_manager.runs.budget import QuotaView
from kaggle_manager.sessions.wheels import KAGGLE_PYTHONS, Machine


@dataclass(frozen=True)
class Connection:
    """A platform, the account on it, and why this one was chosen."""

    client: Platform
    owner: str
    platform: str
    why: str

    def session_limit_s(self, config: RunConfig) -> float:
        """The longest session of a run, as asked for, and as the platform lets it last."""
        return min(config.session_limit_s, self.client.limits().longest_session_s)

    def quota_for(self, config: RunConfig) -> QuotaView | None:
        """What is left of the week; None without an accelerator, or where there is no quota.

        Raises:
            RemoteError: the platform cannot say now.
        """
        if config.section.kernel.accelerator is None:
            return None
        quota = self.client.quota(config.section.kernel.accelerator)
        if quota is None:
            return None
        refresh = quota.refresh_time.timestamp() if quota.refresh_time else None
        return QuotaView(quota.left_s, quota.total_s, refresh)

    def machine(self, config: RunConfig, pythons: Sequence[str]) -> Machine:
        """What sessions that may install find, as far as what they install depends on it.

        Args:
            pythons: the versions that one may have, such as "3.13.15".
        """
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if self.platform == "local":
            return Machine((here,), visible(config.local_kaggle), is_here=True)
        if self.platform != "kaggle":  # nothing is known of its machines: what a section pins is installed there
            return Machine((here,), frozenset())
        known = [found[0] for each in pythons if (found := re.match(r"3\.\d+", each))]
        return Machine(tuple(dict.fromkeys(known)) or KAGGLE_PYTHONS, listed(), versions=image_versions())


def connect(config: RunConfig, environ: Mapping[str, str] = os.environ) -> Connection:
    """Choose and reach a platform; starts the local Kaggle when it is chosen and not running.

    Raises:
        AuthError: Kaggle was asked for and there are no credentials, or the platform refuses them.
        ConfigError: there is no such platform, or what section.toml says of it cannot be used.
        RemoteError: the chosen platform does not answer.
    """
    is_known = config.sources["platform"] == FROM_RUN
    return reach(config.platform, config.state, environ, options=_options(config), is_known=is_known)


def limits_of(config: RunConfig) -> Limits:
    """What its platform bounds, which nobody has to be asked for.

    Raises:
        ConfigError: as `connect`.
    """
    if not config.trains_elsewhere:
        return KAGGLE_LIMITS
    return platform_class(config.platform)(_options(config), config.state).limits()


def _options(config: RunConfig) -> Mapping[str, Any]:
    """What the table of its platform says."""
    return config.section.platform.get(config.platform) or {}


def reach(
    platform: str,
    state: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    options: Mapping[str, Any] | None = None,
    is_known: bool = False,
) -> Connection:
    """The same by the name of a platform.

    Args:
        state: the state folder, in which the local Kaggle is.
        options: what the table `[platform.NAME]` says.
        is_known: a run is there already.

    Raises:
        AuthError, ConfigError, RemoteError: as `connect`.
    """
    if platform not in ("auto", "kaggle", "local"):
        return _connect_other(platform, state, options or {}, "its run is there" if is_known else "it was asked for")
    credentials = find_credentials(environ) if platform != "local" else None
    if platform == "kaggle" and credentials is None:
        raise AuthError(
            "The run is on Kaggle, but no credentials were found."
            if is_known
            else "--platform kaggle needs credentials, and none were found.",
            safe="nothing was started",
            next_step="put an API token from kaggle.com/settings in ~/.kaggle/access_token or KAGGLE_API_TOKEN, "
            "or use --platform local",
        )
    if credentials is None:
        asked = "--platform local was given" if platform == "local" else "no Kaggle credentials were found"
        return _connect_local(state / LOCAL_KAGGLE, "its run is there" if is_known else asked)
    client = KaggleClient(credentials)
    why = f"{credentials.kind} credentials were found in {credentials.source}"
    with error_context(
        RemoteError,
        message=lambda text: f"Kaggle was chosen ({why}), and did not answer: {text}",
        safe="nothing was started",
        next_step="run the same command again later, or try it on this machine with --platform local",
    ):
        return Connection(client, client.whoami(), "kaggle", why)


def _connect_local(folder: Path, why: str) -> Connection:
    server = ensure_running(folder)
    token = Credentials(kind="token", username=server.username, secret=server.token, source="the local Kaggle")
    client = KaggleClient(token, endpoint=server.url)
    return Connection(
        client, client.whoami(), "local", f"{why}; it runs at {server.url} with its state in {server.root}"
    )


def _connect_other(platform: str, state: Path, options: Mapping[str, Any], why: str) -> Connection:
    client = platform_class(platform)(options, state)
    return Connection(client, client.whoami(), platform, f"{why}: {client!r}")


def platform_class(name: str) -> Callable[[Mapping[str, Any], Path], Platform]:
    """What makes the platform of this name, of what its table in section.toml says and the state folder.

    Args:
        name: `slurm`, or MODULE:CLASS.

    Raises:
        ConfigError: there is no such class, or what it makes is no platform.
    """
    if name == "slurm":
        return SlurmPlatform
    module, _, attribute = name.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"The platform {name} cannot be imported: {error}.",
            safe="nothing was started",
            next_step="name a class that Python finds, MODULE:CLASS, whose methods are those of "
            "kaggle_manager.platforms.platform.Platform",
        ) from error
    return cast("Callable[[Mapping[str, Any], Path], Platform]", made)
