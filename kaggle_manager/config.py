"""One frozen `RunConfig` from flags, `KM_*` variables, section.toml and defaults, in that order.

Every setting remembers where its value came from. Nothing here starts, writes or asks anything over the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.errors import ConfigError
from kaggle_manager.section import (
    CODE_ROOT,
    SECTIONS_FOLDER,
    ScenarioConfig,
    Section,
    find_project,
    get_section,
    offered_sections,
)
from kaggle_manager.words import quoted

PROJECT_ROOT = CODE_ROOT
STATE_FOLDER = ".kaggle_manager"
PLATFORMS = ("auto", "local", "kaggle")
# A Kaggle session ends after 12 hours, whatever its kernel is doing (kaggle.com/docs/notebooks).
SESSION_LIMIT_S = 12 * 3600.0
# Shorter than this a session cannot even import its libraries.
SHORTEST_SESSION_S = 20.0
# No training is this long; the figure keeps slips of the keyboard out, and every count exact in any JSON reader.
MOST_TIMESTEPS = 10**12
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class RunConfig:
    """What one command is asked to do.

    Attributes:
        target: timesteps in all, over every session.
        seed: of the training, when it is not the scenario's own; then the tree is its own as well.
        max_steps: most timesteps one session trains; None for as many as fit its time.
        session_limit_s: seconds one session may last, as asked of the platform.
        platform: `auto`, `local` or `kaggle`.
        project_root: folder of the section and of the environments it trains.
        state: folder of the journal, the downloads and the local Kaggle.
        tree: folder of the training tree this run trains.
        sources: where each setting's value came from.
    """

    section: Section
    scenario_name: str
    scenario: ScenarioConfig
    target: int
    seed: int | None
    max_steps: int | None
    save_every: int | None
    session_limit_s: float
    quick: bool
    fresh: bool
    platform: str
    project_root: Path
    state: Path
    tree: Path
    sources: Mapping[str, str]

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
    def flags(self) -> str:
        """The options with which a command is about the same training tree."""
        workdir = f" --workdir {quoted(self.state)}" if self.state != self.project_root / STATE_FOLDER else ""
        seed = "" if self.seed is None else f" --seed {self.seed}"
        return f"--scenario {self.scenario_name}{seed}{' --quick' * self.quick}{workdir}"

    @property
    def local_kaggle(self) -> Path:
        return self.state / "local_kaggle"


def state_folder(workdir: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the journal, the downloads and the local Kaggle of all sections are; `build_config` uses the same."""
    given = workdir or environ.get("KM_WORKDIR")
    return Path(given).expanduser().resolve() if given else find_project(Path.cwd()) / STATE_FOLDER


def build_config(
    section: str,
    *,
    scenario: str | None = None,
    timesteps: int | None = None,
    quick: bool = False,
    session_limit: str | float | None = None,
    seed: int | None = None,
    max_steps: int | None = None,
    fresh: bool = False,
    platform: str | None = None,
    workdir: Path | None = None,
    project_root: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> RunConfig:
    """Resolve one run.

    Args:
        section: name of a section, e.g. `section_7_6_rl_performance`.
        timesteps: the target; absent: `KM_TIMESTEPS`, else the scenario's own.
        session_limit: seconds, or text such as `60s`, `90m`, `11h30m`.
        seed: of the training; absent: the scenario's own.
        max_steps: most timesteps one session trains; absent: as many as fit.
        workdir: everything the run writes goes below it; absent: the project itself.
        project_root: absent: the nearest folder upwards that has the section, else this program's own.

    Raises:
        ConfigError: a value cannot be used; the message names it, its source and what is accepted.
    """
    project_root = project_root or find_project(Path.cwd(), section)
    loaded = get_section(project_root, section)
    if not loaded.trains:
        raise ConfigError(
            f"Section {section} does not train anything (trains = false), so there is nothing to run on Kaggle.",
            safe="nothing was started",
            next_step=f"choose one of: {', '.join(offered_sections(project_root))}",
        )
    chosen = _Chosen(environ)
    name = str(chosen.value("scenario", scenario or None, default=loaded.default_scenario))
    config = loaded.scenario(name)
    config = config.for_quick() if quick else config
    own_seed, config = config.seed, config if seed is None else config.for_seed(seed)
    target = _whole_positive("timesteps", chosen.value("timesteps", timesteps, default=config.timesteps))
    limit = parse_duration(chosen.value("session_limit", session_limit, default=SESSION_LIMIT_S))
    if not SHORTEST_SESSION_S <= limit <= SESSION_LIMIT_S:
        raise ConfigError(
            f"A session limit of {limit:g} s cannot be used; between {SHORTEST_SESSION_S:g} s and 12 h is accepted.",
            safe="nothing was started",
            next_step="give another --session-limit",
        )
    where = str(chosen.value("platform", platform, default="auto"))
    if where not in PLATFORMS:
        raise ConfigError(
            f"platform = {where!r} is not known; accepted: {', '.join(PLATFORMS)}.",
            safe="nothing was started",
            next_step=f"give --platform {PLATFORMS[0]}, or leave it out",
        )
    given_workdir = chosen.value("workdir", workdir, default=None)
    if given_workdir is not None and not str(given_workdir).strip():
        raise ConfigError("--workdir is empty.", safe="nothing was started", next_step="name a folder, or leave it out")
    base = Path(given_workdir).expanduser().resolve() if given_workdir else None
    return RunConfig(
        section=loaded,
        scenario_name=name,
        scenario=config,
        target=target,
        # A quick run shows the whole circle, so it is cut in two: the second session resumes what the first one left.
        max_steps=max(1, target // 2) if quick else max_steps,
        seed=None if seed == own_seed else seed,
        save_every=config.save_every,
        session_limit_s=limit,
        quick=quick,
        fresh=fresh,
        platform=where,
        project_root=project_root,
        state=base or project_root / STATE_FOLDER,
        tree=(base or project_root) / SECTIONS_FOLDER / loaded.name / config.models,
        sources=chosen.sources,
    )


class _Chosen:
    """Takes each setting from its flag, else from `KM_<NAME>`, else the default, and remembers which."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.sources: dict[str, str] = {}

    def value(self, name: str, flag: Any, *, default: Any) -> Any:
        variable = f"KM_{name.upper()}"
        if flag is not None:
            self.sources[name] = "flag"
            return flag
        if self._environ.get(variable):  # set to nothing counts as not set
            self.sources[name] = f"environment variable {variable}"
            return self._environ[variable]
        self.sources[name] = "section.toml or default"
        return default


def _whole_positive(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (ValueError, TypeError):
        number = 0
    if not 1 <= number <= MOST_TIMESTEPS:
        raise ConfigError(
            f"{name} = {value!r} cannot be trained; a whole number of at least 1 (and {MOST_TIMESTEPS:,} at most) "
            "is accepted.",
            safe="nothing was started",
            next_step=f"give another number of {name}",
        )
    return number


def parse_duration(value: str | float) -> float:
    """Seconds of a duration given as a number of seconds or as text: `60s`, `90m`, `1h30m`, `45`.

    Raises:
        ConfigError: the text is not a duration.
    """
    if isinstance(value, int | float):
        return float(min(value, 2 * SESSION_LIMIT_S))
    text = value.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(min|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(
            f"{value!r} is not a duration; accepted: 60s, 90m, 11h30m, or a number of seconds.",
            safe="nothing was started",
            next_step="give another --session-limit",
        )
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
