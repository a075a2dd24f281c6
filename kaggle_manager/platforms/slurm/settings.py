"""What `[platform.slurm]` of a section.toml says, and `KM_SLURM_*` instead of it. Pure."""

from __future__ import annotations

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


def _is_time(text: str) -> str:
    seconds_of(text)
    return text


def _is_memory(text: str) -> str:
    if not re.fullmatch(r"\d+[KMGT]?", text):
        raise ValueError('a number of megabytes is accepted, or a text such as "16G"')
    return text


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
        python: what runs a session after them.
        sbatch_options: anything else that `sbatch` takes, one option each, such as "--qos=long".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    login: str = ""
    ssh_options: tuple[str, ...] = ()
    folder: str | None = None
    partition: str | None = None
    account: str | None = None
    time: Annotated[str, AfterValidator(_is_time)] | None = None
    gpus: str | None = None
    cpus: int | None = Field(None, ge=1)
    memory: Annotated[str, AfterValidator(_is_memory)] | None = None
    inputs: Mapping[str, Annotated[str, AfterValidator(_is_absolute)]] = Field(default_factory=dict)
    setup: tuple[str, ...] = ()
    python: str | None = None
    sbatch_options: tuple[str, ...] = ()

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
            given[name] = _LISTS.get(name, str)(text)
    given |= {name: str(given[name]) for name in ("gpus", "memory", "time") if isinstance(given.get(name), int)}
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
    if settings.login.startswith("-") or "\n" in "".join(
        (settings.login, settings.folder or "", settings.python or "")
    ):
        raise ConfigError(
            "[platform.slurm] login, folder and python are single words of a command, and login no option.",
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
