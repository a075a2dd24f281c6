"""Everything a run depends on, check by check.

Promises: reads only (the state folder is tried with a file that is gone at once), shows no secret, and answers within
seconds without a network: a service that does not answer is a caution, never a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from kaggle_manager.cli.doctor import account, machine, secret_files
from kaggle_manager.cli.doctor.assumptions import Assumption, look_for_assumptions
from kaggle_manager.cli.doctor.check import Check, guarded, problem
from kaggle_manager.config import SETTINGS, RunConfig, build_config, variable_of
from kaggle_manager.errors import AuthError, KaggleManagerError, ProtocolError, Unavailable, error_context
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials, find_credentials
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
from kaggle_manager.platforms.kaggle.transport import KAGGLE
from kaggle_manager.sections.project import HOW_TO_BEGIN, find_project_or_none, find_sections, offered_sections
from kaggle_manager.system.command_line import command


def examine(
    section: str,
    *,
    platform: str | None = None,
    workdir: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
    endpoint: str = KAGGLE,
) -> list[Check]:
    """Look at everything a run of `section` depends on.

    Args:
        section: its name; "" when none was named, which is said when there are several. Without one, and where no
            project is, everything else is looked at.
        platform: where it would run; None: as without an option.
        environ, home: where credentials and settings are looked for.
        endpoint: the Kaggle to ask.
    """
    credentials, found = _credentials(environ, home)
    config, project = _project(section, platform, workdir, environ)
    looks: dict[str, Callable[[], Check | Sequence[Check]]] = {"python": machine.python}
    if config is not None:
        looks["training packages"] = partial(machine.training_packages, config)
    is_elsewhere = config is not None and config.trains_elsewhere
    if config is not None and is_elsewhere:
        looks["platform"] = partial(machine.platform_of, config, environ)
    else:
        if config is not None:
            looks["accelerator"] = partial(machine.accelerator, config.section)
        looks |= {
            "client packages": machine.client_packages,
            "credentials": lambda: found,
            "account": partial(account.ask, credentials, endpoint, config),
            "verification": partial(account.verification, config),
        }
    if config is not None:
        looks |= {
            "state folder": partial(machine.state_folder, config),
            "journal": partial(machine.journal, config),
            "training tree": partial(machine.training_tree, config),
            "inputs": partial(machine.inputs, config),
            "disk": partial(machine.disk, config),
            **({} if is_elsewhere else {"local Kaggle": partial(machine.local_kaggle, config)}),
            "secrets": partial(secret_files.look, config, credentials),
        }
    checks = [check for name, look in looks.items() for check in guarded(name, look)]
    return [*map(partial(account.unconfirmed, checks), checks), *project]


def ask_kaggle(
    environ: Mapping[str, str] = os.environ, home: Path | None = None, endpoint: str = KAGGLE
) -> Iterator[Assumption]:
    """What this program assumes about Kaggle, each as it is looked for there.

    Raises:
        AuthError: there are no credentials to ask with, or they cannot be read.
        RemoteError: Kaggle cannot be reached.
    """
    credentials = find_credentials(environ, home)
    if credentials is None:
        raise AuthError(
            "Kaggle can be asked only with credentials, and none were found.",
            safe="nothing was changed",
            next_step="put an API token from kaggle.com/settings in ~/.kaggle/access_token or KAGGLE_API_TOKEN",
        )
    with KaggleClient(credentials, endpoint=endpoint, read_timeout_s=30.0, retry=RetryPolicy(attempts=2)) as client:
        not_reached = error_context(
            Unavailable, message=lambda why: f"Kaggle cannot be reached, and nothing of it was looked at: {why}"
        )
        with suppress(AuthError, ProtocolError), not_reached:  # which the assumptions say
            client.whoami()
        yield from look_for_assumptions(client)


def exit_code(checks: Sequence[Check]) -> int:
    """0 without a problem, else the code of the first."""
    return next((check.exit_code for check in checks if check.state == "problem"), 0)


def _credentials(environ: Mapping[str, str], home: Path | None) -> tuple[Credentials | None, Check]:
    try:
        credentials = find_credentials(environ, home)
    except AuthError as error:
        return None, problem("credentials", error)
    return credentials, account.describe(credentials)


def _project(
    section: str, platform: str | None, workdir: Path | None, environ: Mapping[str, str]
) -> tuple[RunConfig | None, list[Check]]:
    """The run that is looked at, and what is to be said of its project; None where no project or no such run is."""
    unnamed: list[Check] = []
    try:
        if not section:
            project = find_project_or_none(Path.cwd())
            if project is None:
                says = "none is here: sections and settings were not looked at"
                return None, [Check("project", "caution", says, HOW_TO_BEGIN)]
            section, unnamed = _named(project)
        config, settings = _settings(section, platform, workdir, environ)
    except KaggleManagerError as error:
        return None, [problem("project", error)]
    return config, [*unnamed, *settings]


def _named(project: Path) -> tuple[str, list[Check]]:
    """The section to look at when none is named; when there are several, the first, and a caution that says so."""
    names = offered_sections(project) or list(find_sections(project))
    if len(names) < 2:
        return (names or [""])[0], []
    says = f"{' and '.join(names)} are here, and none of them was named: this is about {names[0]}"
    todo = f"name the one that is meant: {command('doctor', names[1])}"
    return names[0], [Check("section", "caution", says, todo)]


def _settings(
    section: str, platform: str | None, workdir: Path | None, environ: Mapping[str, str]
) -> tuple[RunConfig | None, list[Check]]:
    """The configuration of a run, and every setting; a variable that cannot be used is a problem, and left out."""
    try:
        config = build_config(section, platform=platform, workdir=workdir, environ={})
    except KaggleManagerError as error:
        return None, [problem("section", error)]
    usable: dict[str, str] = {}
    refused: dict[str, Check] = {}
    for name in SETTINGS:
        tried = {**usable, variable_of(name): environ.get(variable_of(name), "")}
        try:
            config = build_config(section, platform=platform, workdir=workdir, environ=tried)
        except KaggleManagerError as error:
            what = f"setting {name}"
            refused[what] = problem(what, error)
        else:
            usable = tried
    return config, list({check.name: check for check in (*machine.settings(config), *refused.values())}.values())
