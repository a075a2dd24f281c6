"""`doctor`: everything a run depends on, looked at before it is needed.

Promises: reads only (the state folder is tried with a file that is gone at once), shows no secret, and answers within
seconds without a network: whoever does not answer is a caution, never a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.doctor import account, machine, secret_files
from kaggle_manager.doctor.check import Check
from kaggle_manager.errors import AuthError, KaggleManagerError
from kaggle_manager.kaggle_api.credentials import Credentials, find_credentials
from kaggle_manager.kaggle_api.transport import KAGGLE

__all__ = ["Check", "examine", "exit_code"]


def examine(
    section: str,
    *,
    workdir: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    home: Path | None = None,
    endpoint: str = KAGGLE,
) -> list[Check]:
    """Look at everything a run of `section` depends on.

    Args:
        environ, home: where credentials and settings are looked for.
        endpoint: the Kaggle to ask.
    """
    credentials, found = _credentials(environ, home)
    config, settings = _settings(section, workdir, environ)
    checks = [machine.python(), machine.client_packages()]
    if config is not None:
        checks += machine.training_packages(config.section)
    checks += [found, *account.ask(credentials, endpoint), account.phone(config)]
    if config is not None:
        checks += [machine.state_folder(config), machine.journal(config), machine.disk(config)]
        checks += [machine.local_kaggle(config), secret_files.look(config, credentials)]
    return [*checks, *settings]


def exit_code(checks: Sequence[Check]) -> int:
    """0 without a problem, else the code of the first."""
    return next((check.exit_code for check in checks if check.state == "problem"), 0)


def _credentials(environ: Mapping[str, str], home: Path | None) -> tuple[Credentials | None, Check]:
    try:
        credentials = find_credentials(environ, home)
    except AuthError as error:
        return None, Check("credentials", "problem", error.message, error.next_step, AuthError.exit_code)
    return credentials, account.describe(credentials)


def _settings(section: str, workdir: Path | None, environ: Mapping[str, str]) -> tuple[RunConfig | None, list[Check]]:
    try:
        config = build_config(section, workdir=workdir, environ=environ)
    except KaggleManagerError as error:
        return None, [Check("section", "problem", error.message, error.next_step, error.exit_code)]
    return config, machine.settings(config)
