"""What `[platform.slurm]` of a section.toml says, and `KM_SLURM_*` instead of it. Pure."""

from __future__ import annotations

import datetime
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from kaggle_manager.errors import ConfigError

PREFIX = "KM_SLURM_"
# Slurm's forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes[:seconds].
_TIME = re.compile(r"(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?)|(?P<parts>\d+(?::\d+){0,2})")
# By the last letter of an amount of memory: binary, and megabytes without one.
_SHIFTS = {"K": 10, "M": 20, "G": 30, "T": 40}
_LISTS: Mapping[str, Callable[[str], Any]] = {
    "setup": str.splitlines,
    "inputs": lambda text: dict(word.partition("=")[::2] for word in shlex.split(text)),
    "sbatch_options": shlex.split,
    "ssh_options": shlex.split,
}


# Options that say what a key says, make more than one job of a session, or hide it from those who look for it.
_NOT_SBATCH = ("--time", "--job-name", "--array", "--clusters", "--test-only", "--wait", "--wrap")
_NOT_SBATCH_SHORT = ("-t", "-J", "-a", "-M", "-W")


def _is_time(text: str) -> str:
    if not seconds_of(text):
        raise ValueError("a session needs some time")
    return text


def _is_memory(text: str) -> str:
    if not re.fullmatch(r"\d+[KMGT]?", text):
        raise ValueError('a number of megabytes is accepted, or a text such as "16G"')
    return text


def _is_literal(text: str) -> str:
    if found := re.search(r"^~[^/]+|\$\{?[A-Za-z_]\w*\}?|[\n\0]", text):
        raise ValueError(f"no shell reads {found[0]!r} there: an absolute path is accepted, or one below ~/")
    return text


def _are_for_sbatch(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        name = word.partition("=")[0]
        long = name.startswith("--") and any(each.startswith(name) for each in _NOT_SBATCH)  # it may be cut short
        if long or word[:2] in _NOT_SBATCH_SHORT or word == ":":
            raise ValueError(f"{word} is not for it: a session is one job with a name of its own, for as long as time")
    return words


def _is_absolute(text: str) -> str:
    if not re.fullmatch(r"~?/.*[^\n]", text):
        raise ValueError('an absolute path on the cluster is accepted, or one in the home directory such as "~/data"')
    return text


class SlurmSettings(BaseModel):
    """How sessions run on a cluster. What is None is left to the cluster's own defaults.

    Attributes:
        login: host with Slurm's commands, as `ssh` takes it; "": they are here.
        ssh_options: options of ssh for it, one word each, such as "-p2222"; most belong into ~/.ssh/config.
        folder: where sessions and their inputs lie, on a disk that the login host and the nodes share; "~" and a
            relative path are about the home directory there. Without `login`: None for a folder in the state folder.
        partition, account, gpus, cpus, memory: what `sbatch` takes as --partition, --account, --gpus, --cpus-per-task
            and --mem.
        time: the longest session, in Slurm's forms such as "12:00:00" or "2-00"; None: 12 hours.
        inputs: data that lies on the cluster's disk already, by its name in `inputs` of the section: a folder, absolute
            or in the home directory ("~/data"), that sessions read in its place.
        setup: lines of shell that a job runs first, such as "module load cuda" and "source env/bin/activate".
        python: what runs a session after them; "~/" is the home directory there.
        sbatch_options: anything else that `sbatch` takes, one option each, such as "--qos=long".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    login: str = ""
    ssh_options: tuple[str, ...] = ()
    folder: Annotated[str, AfterValidator(_is_literal)] | None = None
    partition: str | None = None
    account: str | None = None
    time: Annotated[str, AfterValidator(_is_time)] | None = None
    gpus: str | None = None
    cpus: int | None = Field(None, ge=1)
    memory: Annotated[str, AfterValidator(_is_memory)] | None = None
    inputs: Mapping[str, Annotated[str, AfterValidator(_is_absolute)]] = Field(default_factory=dict)
    setup: tuple[str, ...] = ()
    python: Annotated[str, AfterValidator(_is_literal)] | None = None
    sbatch_options: Annotated[tuple[str, ...], AfterValidator(_are_for_sbatch)] = ()

    @property
    def longest_session_s(self) -> float:
        return seconds_of(self.time) if self.time else 12 * 3600.0

    @property
    def memory_bytes(self) -> int | None:
        """What a job asks for; None where it leaves that to the cluster, asks for all of a node, or in other words."""
        if not self.memory or any(option.startswith("--mem") for option in self.sbatch_options):
            return None
        return (int(self.memory.rstrip("KMGT")) << _SHIFTS.get(self.memory[-1], 20)) or None


def seconds_of(time: str) -> float:
    """Seconds of a duration in one of Slurm's forms.

    Raises:
        ValueError: it has none of them.
    """
    found = _TIME.fullmatch(time)
    if found is None:
        raise ValueError('minutes are accepted, or one of Slurm\'s other forms such as "12:00:00" or "2-00"')
    if found["parts"]:
        numbers = [int(part) for part in found["parts"].split(":")]
        hours, minutes, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
        return float(hours * 3600 + minutes * 60 + seconds)
    days, hours, minutes, seconds = (int(found[name] or 0) for name in ("days", "dh", "dm", "ds"))
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds)


def read_settings(table: Mapping[str, Any], environ: Mapping[str, str]) -> SlurmSettings:
    """The settings of a section, where no variable says otherwise.

    Raises:
        ConfigError: one of them is unknown or cannot be used; the message names it.
    """
    variables = {f"{PREFIX}{name.upper()}" for name in SlurmSettings.model_fields}
    if unknown := sorted(name for name in environ if name.startswith(PREFIX) and name not in variables):
        raise ConfigError(
            f"There is no setting {unknown[0]}.",
            safe="nothing was started",
            next_step=f"unset {unknown[0]}; known are {', '.join(sorted(variables))}",
        )
    given: dict[str, Any] = {**table}
    for name in SlurmSettings.model_fields:
        if text := environ.get(f"{PREFIX}{name.upper()}"):
            try:
                given[name] = _LISTS.get(name, str)(text)
            except ValueError as error:
                raise ConfigError(
                    f"{PREFIX}{name.upper()} = {text!r} are no words of a shell: {error}.",
                    safe="nothing was started",
                    next_step=f"correct {PREFIX}{name.upper()}",
                ) from None
    # TOML reads 12:00:00 without quotes as a time of day.
    written = {name: given.get(name) for name in ("gpus", "memory", "time")}
    given |= {name: str(value) for name, value in written.items() if type(value) in (int, datetime.time)}
    try:
        settings = SlurmSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        key, why = first["loc"][0], first["msg"].removeprefix("Value error, ")
        known = "" if first["type"] != "extra_forbidden" else f"; accepted are {', '.join(SlurmSettings.model_fields)}"
        raise ConfigError(
            f"[platform.slurm] {'.'.join(map(str, first['loc']))} = {first['input']!r} cannot be used: {why}.",
            safe="nothing was started",
            next_step=f"correct {key} in section.toml or {PREFIX}{str(key).upper()}{known}",
        ) from error
    if settings.login.startswith("-") or "\n" in settings.login:
        raise ConfigError(
            "[platform.slurm] login is a single word of a command, and no option.",
            safe="nothing was started",
            next_step="correct [platform.slurm] in section.toml",
        )
    return settings


def root_of(settings: SlurmSettings, state: Path) -> str:
    """Where sessions lie on the cluster's disk; relative to the home directory there, or absolute."""
    if settings.folder:
        below_home = settings.folder.removeprefix("~/") if settings.folder != "~" else "."
        return below_home if settings.login else str(Path.home() / below_home)
    return "kaggle_manager_sessions" if settings.login else str(state.absolute() / "slurm")
