"""What a schedule calls, and when: one `tick` of one run, at a regular distance.

Pure but for looking where credentials are. Options that came from the environment are written out as flags, because a
scheduler does not see the variables of the shell it was set up in.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.cli.schedule.means import ACCEPTED_EVERY, DEFAULT_EVERY, HOURS, MINUTES
from kaggle_manager.config import KAGGLES, RunConfig, seconds_of
from kaggle_manager.errors import ConfigError, retryable_exit_codes
from kaggle_manager.platforms.kaggle.credentials import find_credentials

# Exit codes of a tick after which the next tick is the right answer: quota, platform trouble, target not reached yet,
# another command at work on the run.
PATIENT_CODES = retryable_exit_codes()
# Variables of this shell that cannot be written out as flags, or that hold what belongs in no file of ours.
UNSEEN_VARIABLES = ("KM_NOTIFY", "KM_NOTIFY_ON", "KM_NOTIFY_HOOK", "KM_KEEP_GB")


@dataclass(frozen=True)
class Slots:
    """Times of day: at `second` of each of `minutes`, in each of `hours` (empty: every hour)."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    second: int


@dataclass(frozen=True)
class TickJob:
    """One `tick` to be called again and again.

    Attributes:
        label: the run in words for file names, equal for every copy of the project.
        name: `label` and a digest of the training tree, so that two runs of one machine do not share a schedule.
        arguments: of the `tick` command, section first, without `--platform`, `--workdir` and `--existing`.
        platform: `kaggle` or `local`: what `auto` chose when the schedule was made, so that credentials which vanish
            are an error then, not a quiet change to the local Kaggle.
        local_asked: whether the local Kaggle was asked for by name.
        workdir: as given; None for the project itself.
        state: folder of the journal and of the log.
        trees: the training tree, and those of the seeds of a campaign as one pattern.
        existing: its run was there when the schedule was made, so a tick continues with it and never begins another.
        package: what a machine that starts empty installs this program from; None where this machine calls `tick`.
        cautions: what will go wrong when nobody looks.
    """

    label: str
    name: str
    section: str
    arguments: tuple[str, ...]
    platform: str
    local_asked: bool
    workdir: Path | None
    every_s: int
    slots: Slots
    python: Path
    project: Path
    state: Path
    trees: tuple[str, ...]
    existing: bool = False
    package: str | None = None
    cautions: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments, to be run in the project folder."""
        workdir = ("--workdir", str(self.workdir)) if self.workdir else ()
        options = (*self.arguments, "--platform", self.platform, *workdir, *["--existing"] * self.existing)
        return (str(self.python), "-m", "kaggle_manager.cli", "tick", *options)

    @property
    def log(self) -> Path:
        return self.state / f"{self.name}.log"

    @property
    def every(self) -> str:
        minutes = self.every_s // 60
        return f"{minutes} minutes" if minutes < 60 else "hour" if minutes == 60 else f"{minutes // 60} hours"


def tick_job(
    config: RunConfig,
    every: str = DEFAULT_EVERY,
    *,
    seeds: int | None = None,
    max_sessions: int | None = None,
    existing: bool = False,
    package: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> TickJob:
    """The job of a resolved run.

    Args:
        seeds: number of training seeds to carry on as one campaign, instead of one run. max_sessions: of it, at once.
        existing, package: see `TickJob`; not looked at here.

    Raises:
        ConfigError: `every` is not a distance that all schedulers can keep.
        AuthError: the Kaggle credentials that are there cannot be used.
    """
    every_s = _distance(every)
    chosen = {name for name, source in config.sources.items() if source.startswith(("flag", "environment"))}
    # The scenario by its name: another default in section.toml must not turn the schedule to another tree.
    arguments = [config.section.name, "--scenario", config.scenario_name]
    arguments += ["--timesteps", str(config.target)] if "timesteps" in chosen else []
    arguments += ["--session-limit", f"{config.session_limit_s:g}s"] if "session_limit" in chosen else []
    arguments += ["--quota-per-week", f"{config.quota_per_week_s:g}s"] if "quota_per_week" in chosen else []
    arguments += ["--seed", str(config.seed)] if config.seed is not None else []
    arguments += ["--seeds", str(seeds)] if seeds is not None else []
    arguments += ["--max-sessions", str(max_sessions)] if max_sessions is not None else []
    arguments += ["--quick"] if config.quick else []
    parts = ["kaggle-manager", config.section.name, config.scenario_name, *["quick"] * config.quick]
    parts += ["seed", str(config.seed)] if config.seed is not None else []
    label = "-".join([*parts, *(["seeds", str(seeds)] if seeds is not None else [])])
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", label)
    name = f"{label}-{hashlib.sha256(os.fsencode(config.tree)).hexdigest()[:8]}"
    where, cautions = _platform(config, environ)
    return TickJob(
        label=label,
        name=name,
        section=config.section.name,
        arguments=tuple(arguments),
        platform=where,
        local_asked=config.platform == "local",
        workdir=config.state if "workdir" in chosen else None,
        every_s=every_s,
        slots=spread(f"{platform.node()} {name}", every_s),
        python=Path(sys.executable).absolute(),
        project=config.project_root,
        state=config.state,
        trees=(str(config.tree), *([f"{config.tree}_seed_*"] if seeds is not None else [])),
        existing=existing,
        package=package,
        cautions=(*cautions, *_unseen(where, environ)),
    )


def spread(seed: str, every_s: int) -> Slots:
    """Times `every_s` apart whose start depends on `seed`: the users of the world must not all call at once."""
    number = int.from_bytes(hashlib.sha256(seed.encode(errors="surrogateescape")).digest()[:8])
    second, number = number % 60, number // 60
    if every_s < 3600:
        apart = every_s // 60
        return Slots((), tuple(range(number % apart, 60, apart)), second)
    minute, number, apart = number % 60, number // 60, every_s // 3600
    return Slots(tuple(range(number % apart, 24, apart)) if apart > 1 else (), (minute,), second)


def one_line(text: str | Path, what: str) -> str:
    """`text`, which ends up in a line of a schedule.

    Raises:
        ConfigError: it holds a line break or another control character.
    """
    if not str(text).isprintable():
        raise ConfigError(
            f"{what} holds a line break or a character that cannot be written in a schedule: {str(text)!r}.",
            safe="nothing was written",
            next_step="rename it, or choose another with --workdir",
        )
    return str(text)


def _distance(every: str) -> int:
    accepted = [minutes * 60 for minutes in MINUTES] + [hours * 3600 for hours in HOURS]
    try:
        seconds = seconds_of(every)
    except ConfigError:
        seconds = 0.0
    if seconds not in accepted:
        raise ConfigError(
            f"--every {every} cannot be kept by every scheduler; accepted: {ACCEPTED_EVERY}.",
            safe="nothing was written",
            next_step=f"give another --every, or leave it out for {DEFAULT_EVERY}",
        )
    return int(seconds)


def _platform(config: RunConfig, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    if config.platform == "local" or config.platform not in KAGGLES:
        return config.platform, ()
    if not find_credentials(environ):
        where = "kaggle" if config.platform == "kaggle" else "local"
        missing = "no Kaggle credentials were found"
        means = "ticks will end with exit code 4" if where == "kaggle" else "ticks will use the local Kaggle"
        return where, (f"{missing}: {means}",)
    unattended = {name: value for name, value in environ.items() if not name.startswith("KAGGLE_")}
    if find_credentials(unattended):
        return "kaggle", ()
    unseen = "the Kaggle credentials are in variables of this shell, which a scheduler does not see"
    return "kaggle", (f"{unseen}: put the API token in ~/.kaggle/access_token, readable by you only",)


def _unseen(where: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What this shell says and the scheduler will not know; values are not shown, some hold a password."""
    from kaggle_manager.platforms.kaggle.network_settings import NETWORK_VARIABLES

    variables = (*UNSEEN_VARIABLES, *(NETWORK_VARIABLES if where == "kaggle" else ()))
    names = [name for name in variables if environ.get(name)]
    names += sorted(name for name in environ if name.startswith("KM_SLURM_") and where == "slurm")
    if not names:
        return ()
    where_to = (
        "`crontab -e` (lines NAME=value), `systemctl --user edit` (Environment=), the user's variables on Windows"
    )
    return (f"a scheduler does not see {', '.join(names)} of this shell: set them where it does: {where_to}",)
