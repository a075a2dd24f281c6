"""What can be seen of the account, over the network and within seconds."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from kaggle_manager.cli.doctor.check import Check, guarded, problem
from kaggle_manager.config import RunConfig, workdir_of
from kaggle_manager.errors import KaggleManagerError, RemoteError, StorageError
from kaggle_manager.platforms.kaggle.client import KaggleClient, page_of
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
from kaggle_manager.platforms.kaggle.transport import Transport
from kaggle_manager.platforms.platform import Quota
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.journal_file import copy_to_read
from kaggle_manager.sessions.reconcile import is_empty
from kaggle_manager.system.command_line import command
from kaggle_manager.system.formatting import duration

CONNECT_S, READ_S = 3.0, 4.0
# All questions together; a resolver that does not answer keeps to no time-out of ours.
LONGEST_S = 10.0
# Signed addresses and tokens are refused by clocks further apart than some minutes.
SKEW_S, SKEW_TOO_MUCH_S = 30.0, 300.0
EXPIRES_SOON = timedelta(days=7)
_SETTINGS = "https://www.kaggle.com/settings"
_VERIFY = "verify your phone number, and your identity where Kaggle asks for it (Persona),"
# What pip and the kernel say when a session was refused the internet, which is what a missing verification looks like.
_NO_INTERNET = "the account is verified"


def describe(credentials: Credentials | None) -> Check:
    """Their kind and where they are; never their value."""
    if credentials is None:
        return Check(
            "credentials",
            "caution",
            "none found: runs use the local Kaggle",
            f"for the real Kaggle, save a token from {_SETTINGS} as ~/.kaggle/access_token",
        )
    says = f"{credentials.kind} from {credentials.source}"
    if credentials.username:
        says += f", user {credentials.username}"
    if credentials.kind == "oauth" and (end := _access_token_end(Path(credentials.source))):
        says += f"; its access token ends {end:%Y-%m-%d %H:%M} UTC and is renewed by itself"
    if credentials.caution:
        return Check("credentials", "caution", f"{says}; others on this machine can read it", credentials.caution)
    return Check("credentials", "ok", says)


def unconfirmed(checks: Sequence[Check], check: Check) -> Check:
    """The check of the credentials as unknown where Kaggle did not say whose they are; any other check as it is."""
    told = any(each.name == "account" and each.state in ("ok", "problem") for each in checks)
    if check.name != "credentials" or check.state != "ok" or told:
        return check
    says = f"found, not checked: Kaggle does not answer ({check.says})"
    return replace(check, state="unknown", says=says, todo="run this again when Kaggle answers")


def ask(credentials: Credentials | None, endpoint: str, config: RunConfig | None = None) -> list[Check]:
    """Endpoint, clock, who we are, quota, empty kernels. A Kaggle that does not answer in time is a caution.

    Args:
        config: whose journal knows of empty kernels; None: nothing is known of any.
    """
    found: list[Check] = []

    def asking() -> None:
        try:
            found.extend(guarded("account", lambda: _ask(credentials, endpoint, found, config)))
        except BaseException as end:  # such as SystemExit, which ends a thread without a word
            says = f"asking for it ended in {type(end).__name__}: nothing is known of it"
            name, todo = "account" if found else "endpoint", "report it: it is a defect of this program"
            found.append(Check(name, "problem", says, todo, KaggleManagerError.exit_code))

    thread = threading.Thread(target=asking, daemon=True, name="doctor")
    thread.start()
    thread.join(LONGEST_S)
    if thread.is_alive():
        return [*found, Check("endpoint", "caution", f"no answer within {LONGEST_S:.0f} s", "check the network")]
    return found


def _ask(credentials: Credentials | None, endpoint: str, found: list[Check], config: RunConfig | None) -> list[Check]:
    """Adds to `found` what is known so far, for the case that the rest takes too long; returns the rest."""
    try:
        began = datetime.now(UTC)
        with (
            Transport(endpoint, (CONNECT_S, READ_S)) as transport,
            transport.file_request("GET", endpoint, "clock", allow_redirects=False) as answer,
        ):
            date = answer.headers.get("Date", "")
    except RemoteError as error:
        todo = "check the network; until then, try the run with --platform local"
        return [Check("endpoint", "caution", f"{endpoint} does not answer: {error.message}", todo)]
    except KaggleManagerError as error:
        return [problem("endpoint", error)]
    found += [Check("endpoint", "ok", f"{endpoint} answers"), clock(date, began, datetime.now(UTC))]
    if credentials is None:
        return []
    patience = RetryPolicy(attempts=1)
    try:
        with KaggleClient(
            credentials, endpoint=endpoint, connect_timeout_s=CONNECT_S, read_timeout_s=READ_S, retry=patience
        ) as client:
            name, end = client.whoami(), client.expires_at()
            found += [_account(name, end), quota(client.quota(), datetime.now(UTC))]
            return [] if config is None else empty_kernels(client, name, config)
    except RemoteError as error:
        host = urlsplit(endpoint).hostname
        return [Check("account", "caution", f"{host} does not answer as it should: {error.message}", "try later")]


def _account(name: str, end: datetime | None) -> Check:
    if end is None:
        return Check("account", "ok", f"Kaggle knows these credentials as {name}; it names no day on which they end")
    says = f"Kaggle knows these credentials as {name}, until {end:%Y-%m-%d %H:%M} UTC"
    if end - datetime.now(UTC) < EXPIRES_SOON:
        return Check("account", "caution", says, f"create a new token at {_SETTINGS} before then")
    return Check("account", "ok", says)


def empty_kernels(client: KaggleClient, owner: str, config: RunConfig) -> list[Check]:
    """The kernels without a version that Kaggle still keeps of first pushes that it refused; see the runs' journal."""
    try:
        with closing(Journal.to_read(config.journal)) as journal:
            rows = [row for row in journal.runs() if (row.platform, row.owner.lower()) == ("kaggle", owner.lower())]
    except StorageError:
        return []  # the check of the journal says so
    left = [f"{row.owner}/{slug}" for row in rows for slug in row.left_names if is_empty(client, row.owner, slug)]
    if not left:
        return []
    says = f"Kaggle keeps {len(left)} without a version, of first pushes that it refused: {', '.join(left)}"
    clean = command("clean", "--yes", workdir=workdir_of(config.state))
    todo = f"nothing is in them and nothing needs them: `{clean}`, or its page, {page_of(left[0])}"
    return [Check("empty kernels", "caution", says, todo)]


def clock(date: str, asked: datetime, answered: datetime) -> Check:
    """This machine's clock against the Date of an answer, which has whole seconds and was written on the way."""
    try:
        theirs = parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return Check("clock", "unknown", "Kaggle's answer does not say what time it is there", "compare it yourself")
    earliest, latest = (theirs - answered).total_seconds(), (theirs - asked).total_seconds() + 1.0
    skew = max(earliest, 0.0) - max(-latest, 0.0)
    if abs(skew) < SKEW_S:
        return Check("clock", "ok", f"agrees with Kaggle's to {SKEW_S:.0f} s")
    says = f"this machine is {duration(abs(skew))} {'behind' if skew > 0 else 'ahead of'} Kaggle"
    todo = "set the clock: switch time synchronisation on"
    if abs(skew) < SKEW_TOO_MUCH_S:
        return Check("clock", "caution", says, todo)
    return Check("clock", "problem", f"{says}; tokens and signed addresses will be refused", todo)


def gpu_hours(quota: Quota) -> str:
    return f"{quota.left_s / 3600:.1f} of {quota.total_s / 3600:.0f} GPU hours left"


def quota(quota: Quota, now: datetime) -> Check:
    """This week's accelerator time."""
    says = gpu_hours(quota)
    if quota.reserved_s:
        says += f", {quota.reserved_s / 3600:.1f} reserved by running sessions"
    if quota.refresh_time is not None:
        wait = (quota.refresh_time - now).total_seconds()
        says += f"; the week begins anew {quota.refresh_time:%a %Y-%m-%d %H:%M} UTC (in {duration(max(0.0, wait))})"
    if quota.total_s == 0:
        return Check("quota", "caution", f"{says}: this account is given no GPU", f"{_VERIFY} at {_SETTINGS}")
    return Check(
        "quota",
        "ok" if quota.left_s > 0 else "caution",
        says,
        "" if quota.left_s > 0 else "wait, or train without an accelerator",
    )


def verification(config: RunConfig | None) -> Check:
    """Kaggle's API does not tell whether the account is verified; a session that was refused internet does."""
    if config is not None:
        try:
            with closing(copy_to_read(config.journal)) as journal:
                refused = journal.execute(
                    "SELECT COUNT(*) FROM sessions JOIN runs USING (run_id) "
                    "WHERE platform = 'kaggle' AND instr(why, ?)",
                    (_NO_INTERNET,),
                ).fetchone()[0]
        except (StorageError, sqlite3.Error):
            refused = 0  # the check of the journal says so
        if refused:
            return Check(
                "verification",
                "caution",
                f"{refused} sessions on Kaggle had no internet to install packages with",
                f"{_VERIFY} at {_SETTINGS}, and look at `internet` in section.toml",
            )
    says = "Kaggle's API does not tell whether phone number and identity are verified, without which kernels have"
    todo = "a quick run on Kaggle shows it: its session installs packages from the internet"
    return Check("verification", "unknown", f"{says} neither internet nor GPU", todo)


def _access_token_end(path: Path) -> datetime | None:
    """When the access token in an OAuth file ends, if it says so."""
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig")).get("access_token_expiration")
        moment = datetime.fromisoformat(said) if said else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
