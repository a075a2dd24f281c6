"""Have the wheels of what a section pins on the platform, as a private dataset that every run of the account shares.

The dataset is named by its content, so nothing is written down about it: it is there, with these files, or it is sent.
Kaggle tells their sizes and no more: what a session has found damaged there is sent again.
Where that fails a session with internet installs with pip; one without is not started.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

from kaggle_manager.console.transfer_progress import TransferMeter
from kaggle_manager.errors import (
    AuthError,
    ConfigError,
    KaggleManagerError,
    NoSuchPackage,
    Unavailable,
    error_context,
)
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.platforms.platform import NotReady, PublishedInputs, Submission
from kaggle_manager.protocol import launch_order
from kaggle_manager.sessions.wheels import KAGGLE_PYTHONS, Wheels, wheels_of
from kaggle_manager.system import file_lock
from kaggle_manager.system.formatting import count, size

# How long one command waits while another one sends the same wheels.
SENT_WITHIN_S = 1800.0
# Whatever version of the dataset has these files is the one.
_ANY_VERSION = sys.maxsize


def mountable_wheels(run: RunContext, image: str) -> launch_order.Wheels | None:
    """What the next session installs from; None: from the package index, or there is nothing to install.

    Args:
        image: digest of the docker image that it asks for; "" for the newest.

    Raises:
        NoSuchPackage: no session could install what the section pins.
        ConfigError, Unavailable, AuthError: there are no wheels on the platform, and the section has no internet.
    """
    kernel = run.config.section.kernel
    if not kernel.packages:
        return None
    if not run.connection.client.limits().session_installs:
        if run.connection.client.has_this_python():
            _check_here(kernel.packages)
        return None
    if run.connection.platform == "local" and importlib.util.find_spec("torch") is None:
        raise ConfigError(
            "The local Kaggle trains on this machine, with what is installed here, and torch is not.",
            safe="nothing was started",
            next_step="pip install 'kaggle-manager[train]', or train on Kaggle with --platform kaggle",
        )
    run.reporter.phase("collecting the wheels of the section's packages")
    try:
        machine = run.connection.machine(run.config, _pythons_of(run, image))
        wheels = wheels_of(kernel.packages, machine, run.config.state / "wheels")
        if not wheels.files:
            return None
        _have_there(run, wheels)
    except (AuthError, NoSuchPackage):
        raise
    except KaggleManagerError as error:
        if not kernel.internet:
            with error_context(message=lambda text: f"Sessions of this section have no internet. {text}"):
                raise
        run.warn_once(f"the session installs its packages with pip, not from wheels: {error.message}")
        return None
    return launch_order.Wheels(dataset=f"{run.row.owner}/{wheels.slug}", files=dict(wheels.files))


def _check_here(packages: Sequence[str]) -> None:
    """What is pinned has to be in this Python, which sessions run and leave as it is.

    Raises:
        ConfigError: it is not.
    """
    if missing := [package for package in packages if not _is_here(Requirement(package))]:
        raise ConfigError(
            f"section.toml pins {', '.join(missing)}, which is not what this Python has: sessions run it as it is.",
            safe="nothing was started",
            next_step=f"{sys.executable} -m pip install {' '.join(missing)}",
        )


def _is_here(required: Requirement) -> bool:
    try:
        return required.specifier.contains(importlib.metadata.version(required.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False


def _pythons_of(run: RunContext, image: str) -> Sequence[str]:
    """The version of Python that a session told of this image; else all that are known, for any may be in it."""
    versions = [(session.facts.get("image"), session.facts.get("versions") or {}) for session in run.sessions]
    told = [(its, known["python"]) for its, known in versions if known.get("python")]
    of_image = [python for its, python in told if image and its == image]
    return of_image[-1:] or [*KAGGLE_PYTHONS, *(python for _, python in told[-1:])]


def _have_there(run: RunContext, wheels: Wheels) -> None:
    """Return once sessions can mount them; they are sent by one command of this machine at a time.

    Raises:
        Unavailable: the platform is not ready with them, or another command is not.
        ConfigError, AuthError, RemoteError: they cannot be published.
    """
    damaged = _found_damaged(run, wheels)
    if not damaged and _are_there(run, wheels):
        return
    lock = Path(tempfile.gettempdir()) / f"{wheels.slug}.{getattr(os, 'getuid', int)()}.lock"
    with file_lock.hold(lock, wait_s=SENT_WITHIN_S, mode=0o600) as mine:
        if not mine:
            raise Unavailable("Another command is sending the same wheels.", safe="nothing was started")
        if not damaged and _are_there(run, wheels):
            return

        def sent() -> None:
            if damaged:
                run.state.change_settings(wheels_sent_again=damaged)

        total = sum(path.stat().st_size for path in wheels.paths)
        found = run.connection.client.publish_inputs(
            owner=run.row.owner,
            slug=wheels.slug,
            files=wheels.paths,
            notes="wheels that sessions install from",
            on_progress=TransferMeter(run.reporter, "uploading wheels", len(wheels.files), total),
            on_uploaded=lambda: run.reporter.phase("waiting until sessions can read the wheels"),
            on_accepted=sent,
            uploads=run.config.state / "uploads" / wheels.slug,
        )
        if not isinstance(found, PublishedInputs):
            raise _not_yet()
        sent()
    run.reporter.line(
        f"  {count(len(wheels.files), 'wheel')} ({size(total)}), dataset {found.ref}: for every run of {found.owner}"
    )


def _found_damaged(run: RunContext, wheels: Wheels) -> int:
    """Number of the session that found this dataset damaged, unless it was sent again since; 0 for none."""
    dataset, sent_again = f"{run.row.owner}/{wheels.slug}", run.row.settings.get("wheels_sent_again") or 0
    found = [session.generation for session in run.sessions if session.facts.get("wheels_damaged") == dataset]
    return max((number for number in found if number > sent_again), default=0)


def _are_there(run: RunContext, wheels: Wheels) -> bool:
    found = run.connection.client.find_published(
        owner=run.row.owner,
        slug=wheels.slug,
        submission=Submission(0, _ANY_VERSION, {path.name: path.stat().st_size for path in wheels.paths}),
        accepted=False,
        age_s=math.inf,  # what is not there now is sent
    )
    if found is NotReady.PROCESSED:
        raise _not_yet()
    return isinstance(found, PublishedInputs)


def _not_yet() -> Unavailable:
    return Unavailable(
        "The platform is processing the wheels, and no session can mount them yet.", safe="nothing was started"
    )
