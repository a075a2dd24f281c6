"""One frozen `RunConfig` from flags, `KM_*` variables, section.toml and defaults, in that order.

Every setting remembers where its value came from. Nothing here starts, writes or asks anything over the network.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from kaggle_manager.errors import ConfigError, error_context
from kaggle_manager.sections.model import AnyScenario, Section
from kaggle_manager.sections.project import (
    STATE_FOLDER,
    find_project,
    get_section,
    named_folder,
    offered_sections,
)
from kaggle_manager.sections.trial import Trial, find_trial
from kaggle_manager.system.command_line import WhichTree
from kaggle_manager.system.durations import parse_duration
from kaggle_manager.system.formatting import training
from kaggle_manager.system.place import check

PLATFORMS = ("auto", "local", "kaggle", "slurm")
# A class that is a platform, by its module and name.
_PLATFORM_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
# Of the state folder: where the local Kaggle is.
LOCAL_KAGGLE = "local_kaggle"
# What a variable KM_<NAME> may say of a run.
SETTINGS = ("scenario", "timesteps", "session_limit", "quota_per_week", "platform", "workdir", "keep_gb")
# A Kaggle session ends after 12 hours, whatever its kernel is doing (kaggle.com/docs/notebooks).
SESSION_LIMIT_S = 12 * 3600.0
# What is asked of another platform; a run asks it how long its sessions may last, and none lasts longer.
LONGEST_SESSION_S = 366 * 86400.0
KAGGLES = ("auto", "local", "kaggle")
# What is chosen where none is named.
AUTOMATIC = KAGGLES[1:]
# Shorter than this a session cannot even import its libraries.
SHORTEST_SESSION_S = 20.0
# No session is worth less.
LEAST_QUOTA_S = 600.0
# No training is this long; the figure keeps slips of the keyboard out, and every count exact in any JSON reader.
MOST_TIMESTEPS = 10**12
# Room for the kept copies of one training tree.
KEEP_GB = 20.0
FROM_SECTION, FROM_RUN = "section.toml or default", "the run as it was started"
_T = TypeVar("_T")


@dataclass(frozen=True)
class RunConfig:
    """What one command is asked to do; made by `build_config`.

    Attributes:
        section: the validated `section.toml`.
        scenario_name, scenario: the scenario that is trained, with `quick` and `seed` applied.
        target: environment steps in all, over every session.
        seed: of the training, when it is not the scenario's own; None otherwise. Each seed has its own tree.
        max_steps: most environment steps of one session; None: as many as fit in its time.
        save_every: environment steps between two checkpoints; None: by the length of the training.
        session_limit_s: longest session, in seconds, as asked of the platform.
        quota_per_week_s: most seconds of sessions in a week, over all runs of this state folder whose sessions the same
            account runs on machines of the same kind; None: the user sets no bound.
        quick: a quick run, in a tree of its own.
        fresh: archive the tree that is there and start from zero.
        platform: `auto`, `local`, `kaggle`, `slurm` or MODULE:CLASS.
        keep_bytes: most bytes that the kept copies of the tree may take together.
        project_root: folder of the project: its sections and their environments.
        state: folder of the journal and the downloads.
        tree: folder of the training tree.
        sources: setting -> where its value came from: `flag`, `environment variable KM_...`, or the section.
        trust: the user trusts the checkpoint that is continued, no matter who made it.
        accept_changes: the environment or the reward was changed on purpose, and the training continues.
        image: "latest": the next session moves to the platform's newest image; "": it stays in the run's.
        trial: of a sweep, when the scenario is one.
    """

    section: Section
    scenario_name: str
    scenario: AnyScenario
    target: int
    seed: int | None
    max_steps: int | None
    save_every: int | None
    session_limit_s: float
    quota_per_week_s: float | None
    quick: bool
    fresh: bool
    platform: str
    keep_bytes: int
    project_root: Path
    state: Path
    tree: Path
    sources: Mapping[str, str]
    trust: bool = False
    accept_changes: bool = False
    image: str = ""
    trial: Trial | None = None

    @property
    def journal(self) -> Path:
        return self.state / "journal.sqlite"

    @property
    def downloads(self) -> Path:
        return self.state / "downloads"

    @property
    def replaced(self) -> Path:
        """Trees that a restore has replaced."""
        return self.state / "replaced"

    @property
    def archive(self) -> Path:
        """Trees that are not continued: set aside for a fresh start, or of another experiment."""
        return self.state / "archive"

    @property
    def tree_key(self) -> str:
        """A name for files about the training tree that no other tree of this state folder has."""
        place = Path(os.path.relpath(self.tree, self.state)).as_posix()
        return f"{self.section.name}-{self.tree.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"

    @property
    def which(self) -> WhichTree:
        """The options by which a command is about this training tree."""
        workdir = None if self.state == self.project_root / STATE_FOLDER else self.state
        return WhichTree(self.section.name, self.scenario_name, self.seed, self.quick, workdir)

    def command(self, name: str, *words: object) -> str:
        """A command about this training tree, as it is typed.

        Args:
            name: of the command, such as `checkpoints ls`.
            words: its other arguments.
        """
        return self.which.command(name, *words)

    @property
    def name(self) -> str:
        """What to call this training beside others."""
        return training(self.scenario_name, self.seed, quick=self.quick)

    @property
    def scenario_in_section(self) -> str:
        """The scenario as section.toml has it: of a trial, the one whose values it changes."""
        return self.trial.of if self.trial else self.scenario_name

    @property
    def section_path(self) -> Path:
        """The section's folder, relative to the project; its training tree has the same below a `--workdir`."""
        return self.section.folder.relative_to(self.project_root)

    @property
    def local_kaggle(self) -> Path:
        return self.state / LOCAL_KAGGLE

    def with_stored(self, target: int, settings: Mapping[str, Any]) -> RunConfig:
        """With what the run was started with, where neither an option nor a variable says otherwise.

        Nor section.toml: a target that was changed there since counts.

        Args:
            target, settings: of the run, as the journal has them.
        """
        session_limit_s, quota_s = settings.get("session_limit_s"), settings.get("quota_per_week_s")
        is_as_it_was = settings.get("section_timesteps", self.scenario.target) == self.scenario.target
        stored = {
            "timesteps": target if is_as_it_was else None,
            "session_limit": session_limit_s,
            "quota_per_week": quota_s,
        }
        kept = {name for name, value in stored.items() if value is not None and self.sources[name] == FROM_SECTION}
        target = target if "timesteps" in kept else self.target
        limit_s = session_limit_s if session_limit_s is not None and "session_limit" in kept else self.session_limit_s
        return replace(
            self,
            target=target,
            session_limit_s=limit_s,
            quota_per_week_s=quota_s if "quota_per_week" in kept else self.quota_per_week_s,
            max_steps=_steps_of_quick(target) if self.quick else self.max_steps,
            sources={**self.sources, **dict.fromkeys(kept, FROM_RUN)},
        )

    @property
    def trains_elsewhere(self) -> bool:
        """Whether its platform is another than Kaggle: what that allows, it has to be asked."""
        return self.platform not in KAGGLES

    def at_home(self, platform: str) -> RunConfig:
        """With the platform where its run is, when none was named: credentials that were found move no run.

        Args:
            platform: of the run, as the journal has it.
        """
        if self.platform != "auto":
            return self
        section = self.section if platform in KAGGLES else _elsewhere(self.section)
        return replace(self, section=section, platform=platform, sources={**self.sources, "platform": FROM_RUN})


def state_folder(workdir: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the journal and the downloads of all sections are; `build_config` uses the same.

    Raises:
        StorageError: something else than a folder is there.
    """
    given = workdir or environ.get("KM_WORKDIR")
    folder = named_folder(given, "workdir") if given else find_project(Path.cwd()) / STATE_FOLDER
    check(folder)
    return folder


def workdir_of(state: Path) -> Path | None:
    """The `--workdir` by which a command works on this state folder; None for the one of a project itself."""
    return None if state.name == STATE_FOLDER else state


def build_config(
    section: str | Section,
    *,
    scenario: str | None = None,
    timesteps: int | None = None,
    quick: bool = False,
    session_limit: str | float | None = None,
    quota_per_week: str | float | None = None,
    seed: int | None = None,
    max_steps: int | None = None,
    fresh: bool = False,
    trust: bool = False,
    accept_changes: bool = False,
    image: str | None = None,
    platform: str | None = None,
    workdir: Path | None = None,
    project_root: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> RunConfig:
    """Resolve the configuration of one run: arguments, then `KM_*` variables, then section.toml, then defaults.

    Args:
        section: name of the section, e.g. `section_7_6_rl_performance`; or the section, where it is loaded already.
        scenario: one of its scenarios; None: `KM_SCENARIO`, else the section's default.
        timesteps: the target, environment steps in all; None: `KM_TIMESTEPS` unless `quick`, else the scenario's.
        quick: a few timesteps over two sessions, in a tree of its own.
        session_limit: longest session: seconds, or text such as `60s`, `90m`, `11h30m`; None: `KM_SESSION_LIMIT`, else
            12 h.
        quota_per_week: most session time in a week, seconds or text such as `20h`; None: `KM_QUOTA_PER_WEEK`, else as
            section.toml says.
        seed: of the training; None: the scenario's.
        max_steps: most environment steps of one session; None: as many as fit in its time.
        fresh: archive the training tree that is there and start from zero.
        trust: continue the checkpoint that is there, no matter who made it.
        accept_changes: continue it though the environment or the reward was changed, on purpose.
        image: `latest` moves the run to the platform's newest docker image; None: it stays in its own.
        platform: `auto`, `local`, `kaggle`, `slurm` or MODULE:CLASS; None: `KM_PLATFORM`, else `auto`.
        workdir: everything the run writes goes below it; None: `KM_WORKDIR`, else the project itself.
        project_root: folder of the project; None: the nearest one upwards that has the section.
        environ: where the variables are read.

    Raises:
        ConfigError: a value cannot be used; the message names it, its source and what is accepted.
    """
    section_name = section if isinstance(section, str) else section.name
    project_root = (project_root or find_project(Path.cwd(), section_name)).resolve()
    loaded = get_section(project_root, section) if isinstance(section, str) else section
    if not loaded.trains:
        raise ConfigError(
            f"Section {section_name} does not train anything (trains = false), so there is nothing to run.",
            safe="nothing was started",
            next_step=f"choose one of: {', '.join(offered_sections(project_root))}",
        )
    # A rehearsal stays one whatever the surroundings say; only its own option makes it longer.
    chosen = _Chosen({**environ, variable_of("timesteps"): ""} if quick else environ)
    base = chosen.value("workdir", workdir, _folder, default=None)
    state = base or project_root / STATE_FOLDER
    trial = None
    if found := find_trial(state, section_name, scenario or environ.get(variable_of("scenario"), "")):
        trial, loaded = found, found.added_to(loaded)
    name, config = chosen.value(
        "scenario", scenario or None, lambda name: (str(name), loaded.scenario(name)), default=loaded.default_scenario
    )
    config = config.for_quick() if quick else config
    own_seed, config = config.seed, config if seed is None else config.for_seed(seed)
    target = chosen.value("timesteps", timesteps, _timesteps, default=config.target)
    where = chosen.value("platform", platform, _platform, default="auto")
    loaded = loaded if where in KAGGLES else _elsewhere(loaded)
    longest_s = SESSION_LIMIT_S if where in KAGGLES else LONGEST_SESSION_S
    limit = chosen.value(
        "session_limit", session_limit, lambda value: _session_limit(value, longest_s), default=SESSION_LIMIT_S
    )
    quota = chosen.value("quota_per_week", quota_per_week, _quota_per_week, default=loaded.quota_per_week)
    keep = chosen.value("keep_gb", None, _gigabytes, default=KEEP_GB)
    return RunConfig(
        section=loaded,
        scenario_name=name,
        scenario=config,
        target=target,
        max_steps=_steps_of_quick(target) if quick else max_steps,
        seed=None if seed == own_seed else seed,
        save_every=config.save_every,
        session_limit_s=limit,
        quota_per_week_s=quota,
        quick=quick,
        fresh=fresh,
        platform=where,
        keep_bytes=keep,
        project_root=project_root,
        state=state,
        tree=(base or project_root) / loaded.folder.relative_to(project_root) / config.models,
        sources=chosen.sources,
        trust=trust,
        accept_changes=accept_changes,
        image=_image(image),
        trial=trial,
    )


class _Chosen:
    """Takes each setting from its flag, else from `KM_<NAME>`, else the default, and remembers which."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.sources: dict[str, str] = {}

    def value(self, name: str, flag: Any, read: Callable[[Any], _T], *, default: Any) -> _T:
        """What `read` makes of the setting; what it refuses is told with the variable that says it."""
        if flag is not None:
            self.sources[name] = "flag"
            return read(flag)
        variable = variable_of(name)
        if not self._environ.get(variable):  # set to nothing counts as not set
            self.sources[name] = FROM_SECTION
            return read(default)
        self.sources[name] = f"environment variable {variable}"
        with error_context(
            message=lambda text: f"{text.removesuffix('.')} (from {variable}).",
            next_step=lambda text: f"{text.removesuffix('.')}, or unset {variable}",
        ):
            return read(self._environ[variable])


def _steps_of_quick(target: int) -> int:
    """Steps of one session of a quick run: it is cut in two, so that the second session resumes the first."""
    return max(1, target // 2)


def variable_of(setting: str) -> str:
    """The variable of one of `SETTINGS`."""
    return f"KM_{setting.upper()}"


def _timesteps(value: Any) -> int:
    try:
        number = int(value)
    except (ValueError, TypeError):
        number = 0
    if not 1 <= number <= MOST_TIMESTEPS:
        raise _unusable(
            f"timesteps = {value!r} cannot be trained; a whole number of at least 1 (and {MOST_TIMESTEPS:,} at most) "
            "is accepted.",
            "give another number of timesteps",
        )
    return number


def _session_limit(value: str | float, longest_s: float) -> float:
    seconds = seconds_of(value)
    if not SHORTEST_SESSION_S <= seconds <= longest_s:
        raise _unusable(
            f"A session limit of {seconds:g} s cannot be used; between {SHORTEST_SESSION_S:g} s and "
            f"{longest_s / 3600:g} h is accepted.",
            "give another --session-limit",
        )
    return seconds


def _quota_per_week(value: str | float | None) -> float | None:
    if value is None:
        return None
    seconds = seconds_of(value, "--quota-per-week")
    if not seconds >= LEAST_QUOTA_S:
        raise _unusable(
            f"{seconds:g} s of sessions a week cannot be used: {LEAST_QUOTA_S / 60:g} minutes or more are accepted.",
            "give another --quota-per-week, such as 20h",
        )
    return seconds


def _elsewhere(section: Section) -> Section:
    """The same section, for sessions without an image."""
    same = section.model_copy()
    same._has_image = False
    return same


def _platform(value: str) -> str:
    if value not in PLATFORMS and not _PLATFORM_CLASS.fullmatch(value):
        raise _unusable(
            f"platform = {value!r} is not known; accepted: {', '.join(PLATFORMS)}, or MODULE:CLASS.",
            f"give --platform {PLATFORMS[0]}",
        )
    return value


def _image(value: str | None) -> str:
    if value not in (None, "latest"):
        raise _unusable(
            f"image = {value!r} is not known; accepted: latest. A run stays in its image by itself.",
            "give --image latest, or leave it out",
        )
    return value or ""


def _folder(value: str | Path | None) -> Path | None:
    if value is None:
        return None
    if not str(value).strip():
        raise _unusable("--workdir is empty.", "name a folder")
    return named_folder(value, "workdir")


def _gigabytes(value: str | float) -> int:
    try:
        bytes_ = float(value) * 1e9
    except ValueError:
        bytes_ = -1.0
    if not 0 <= bytes_ < 1e18:
        raise _unusable(f"keep_gb = {value!r} is no number of gigabytes.", f"give a number such as {KEEP_GB:g}")
    return int(bytes_)


def _unusable(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, safe="nothing was started", next_step=next_step)


def seconds_of(value: str | float, option: str = "--session-limit") -> float:
    """Seconds of a duration given as a number of seconds or as text: `60s`, `90m`, `1h30m`, `45`.

    Raises:
        ConfigError: the text is not a duration.
    """
    if isinstance(value, int | float):
        return float(min(value, 2 * LONGEST_SESSION_S))
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ConfigError(
            f"{value!r} is not a duration; accepted: 60s, 90m, 11h30m, or a number of seconds.",
            safe="nothing was started",
            next_step=f"give another {option}",
        ) from error
