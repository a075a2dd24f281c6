"""`notify`: whether messages arrive, before one is needed."""

from __future__ import annotations

import dataclasses
import sys
import time

import typer

from kaggle_manager.cli.common import JsonOption, answer, group
from kaggle_manager.cli.selection import as_command
from kaggle_manager.errors import ConfigError, KaggleManagerError
from kaggle_manager.system.formatting import count, iso

notify = group("notify", "Check that messages about runs arrive.")


@notify.callback()
def _group() -> None:
    """Keeps `test` a command of a group while it is the only one."""


@notify.command("test")
@as_command
def send_test(as_json: JsonOption = False) -> None:
    """Send a test message to every configured target.

    Ends with 1 when one of them did not get it.

    Examples:

      KM_NOTIFY='ntfy://my-secret-topic' km notify test

      km notify test --json
    """
    from kaggle_manager.notify.notifier import Notifier, Occasion, settings_path

    cautions: list[str] = []
    notifier = Notifier.from_environment(warn=cautions.append)
    for caution in cautions:
        print(f"caution: {caution}", file=sys.stderr)
    if not notifier.targets:
        raise ConfigError(
            "No notification is configured.",
            safe="nothing was sent",
            next_step=f"name a target in KM_NOTIFY or in {settings_path()}, or a command in KM_NOTIFY_HOOK",
        )
    deliveries = dataclasses.replace(notifier, warn=lambda line: None).send(
        Occasion.TEST,
        "kaggle-manager: test message",
        "If you can read this, messages about your runs arrive.",
        {"sent_at": iso(time.time())},  # each is an event of its own
    )
    documents = [dataclasses.asdict(delivery) for delivery in deliveries]
    lines = [f"{each.target}: {'delivered' if each.delivered else each.detail}" for each in deliveries]
    lines.append(f"sent on: {', '.join(sorted(notifier.wanted - {Occasion.TEST}))}")
    document = {"schema": 1, "wanted": sorted(notifier.wanted), "cautions": cautions, "deliveries": documents}
    answer(document, lines, as_json=as_json)
    failed = sum(not delivery.delivered for delivery in deliveries)
    if failed:
        error = KaggleManagerError(
            f"{count(failed, 'target')} of {len(deliveries)} did not get the message.",
            safe="runs continue without messages",
            next_step=f"fix its address in KM_NOTIFY or {settings_path()} (or the command in KM_NOTIFY_HOOK), as "
            "https://github.com/caronc/apprise/wiki writes it, and try again",
        )
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code)
