"""`init`: a new section - `sections/NAME/section.toml` and, when there is none yet, a small environment to edit.

Promises: what it writes trains as it is; nothing that exists is changed. Never imports the environment: `look` does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import SECTION_FILE, Section, load_section
from kaggle_manager.sections.project import find_project_or_none, sections_folder
from kaggle_manager.system.command_line import WhichTree

TEMPLATES = Path(__file__).parent / "templates"
# What every training needs in a kernel; those that are installed here, else those this program was tested with.
TESTED = {"stable-baselines3": "2.9.2", "gymnasium": "1.4.0"}
CONTINUOUS_ONLY = ("SAC", "TD3")
# As gymnasium.make takes it: a module to import before, a namespace, a name and its version.
_REGISTERED = re.compile(r"(?:gymnasium:)?((?:[\w.]+:)?(?:[\w-]+/)?[\w.:-]+-v\d+)")
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

# Hyperparameters a new section states although they are defaults, because they are what one changes first.
_STATED: Mapping[str, Mapping[str, str]] = {
    "PPO": {"learning_rate": "3e-4", "n_steps": "2_048", "batch_size": "64"},
    "A2C": {"learning_rate": "7e-4", "n_steps": "5"},
    "DQN": {"learning_rate": "1e-4", "buffer_size": "100_000", "learning_starts": "100"},
    "SAC": {"learning_rate": "3e-4", "buffer_size": "100_000", "learning_starts": "100"},
    "TD3": {"learning_rate": "1e-3", "buffer_size": "100_000", "learning_starts": "100"},
}
ALGORITHMS = tuple(_STATED)
# The shortest training that saves, updates, is cut and goes on: timesteps, and what makes the algorithm learn in them.
# The file of a replay buffer holds all of its rows, however few are filled.
_OFF_POLICY_QUICK = (8, {"buffer_size": "100", "learning_starts": "2", "train_freq": "1", "batch_size": "4"})
_QUICK: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "PPO": (32, {"n_steps": "16", "batch_size": "16"}),
    "A2C": (20, {"n_steps": "5"}),
    **dict.fromkeys(("DQN", "SAC", "TD3"), _OFF_POLICY_QUICK),
}


@dataclass(frozen=True)
class NewSection:
    """A section that was written.

    Attributes:
        files: those that were written, relative to the project.
        guessed: keys of its scenario that its environment was not seen to fit, for it could not be played.
    """

    project: Path
    section: Section
    files: tuple[str, ...]
    guessed: tuple[str, ...] = ()

    @property
    def next_commands(self) -> tuple[str, ...]:
        which = WhichTree(self.section.name)
        return which.command("preflight"), replace(which, quick=True).command("run"), which.command("run")


@dataclass(frozen=True)
class Needs:
    """What an environment was seen to need.

    Attributes:
        policy: the one that fits its observations; "" when it is not known, for the environment could not be made.
        packages: pins beside those of every section.
        files: of the project, relative to it, that it imports or reads.
    """

    policy: str = ""
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Environment:
    """How section.toml speaks of an environment."""

    entry_point: str
    kwargs: Mapping[str, str]
    quick_kwargs: Mapping[str, str]
    files: Sequence[str]
    include: Sequence[str]
    packages: Sequence[str]


def project_for_new(start: Path) -> Path:
    """The project a new section goes to: the one `start` lies in, else a new one in `start` itself."""
    return find_project_or_none(start) or start


def new_section(
    name: str,
    project: Path,
    *,
    environment: str | None = None,
    algorithm: str = "PPO",
    policy: str | None = None,
    timesteps: int = 100_000,
    look: Callable[[Path, str, Mapping[str, Any], list[str]], Needs] = lambda *_: Needs(),
) -> NewSection:
    """Write a section into `project`.

    Args:
        name: a lower-case name; that of its folder.
        environment: `module:Class`, or an id that gymnasium knows such as `CartPole-v1`; None writes one to edit.
        algorithm: one of `ALGORITHMS`.
        policy: a policy of Stable-Baselines3, by name; None for the one that fits the observations.
        look: sees what an environment needs, given the project, `module:callable`, its arguments and what is pinned.

    Raises:
        ConfigError: the name is taken or cannot be used, or the environment's module is nowhere.
    """
    place = sections_folder(project)
    folder = project / place / name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise _refused(f"{name!r} cannot be the name of a section.", "give a lower-case name such as my_robot")
    if algorithm not in ALGORITHMS:
        raise _refused(f"The algorithm {algorithm!r} is not known.", f"choose one of: {', '.join(sorted(ALGORITHMS))}")
    if folder.exists():
        raise _refused(f"{folder} exists already.", "choose another name, or edit what is there")
    found = _environment(name, project, place, environment)
    guessed: tuple[str, ...] = ()
    if environment is not None:
        kwargs = {key: json.loads(value) for key, value in found.kwargs.items()}
        needs = look(project, found.entry_point, kwargs, [*_pins(found).values()])
        if not needs.policy:
            guessed = (*(() if policy else ("policy",)), "environment_files", "reward_files")
        found, policy = _completed(found, needs, f"{place}/{name}/"), policy or needs.policy
    texts = {f"{place}/{name}/{SECTION_FILE}": _section_toml(name, found, algorithm, policy or "MlpPolicy", timesteps)}
    if environment is None:
        kind = "continuous" if algorithm in CONTINUOUS_ONLY else "discrete"
        texts[f"{place}/{name}/environment.py"] = _template(f"environment_{kind}.py", name=name)
        texts[f"{place}/{name}/__init__.py"] = ""
        # A regular package: an installed one of the same name never comes before it.
        texts[f"{place}/__init__.py"] = ""
    written = [file for file in texts if not (project / file).exists()]
    for file in written:
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(texts[file], encoding="utf-8")
    return NewSection(project, load_section(folder / SECTION_FILE), tuple(sorted(written)), guessed)


def _environment(name: str, project: Path, place: str, given: str | None) -> _Environment:
    """`place` is the folder of the project's sections."""
    if given is None:
        entry_point = f"{place.replace('/', '.')}.{name}.environment:Environment"
        kwargs = {"episode_steps": "100"}
        return _Environment(entry_point, kwargs, {"episode_steps": "10"}, ["environment.py"], [], [])
    if registered := _REGISTERED.fullmatch(given):
        return _Environment("gymnasium:make", {"id": json.dumps(registered[1])}, {}, [], [], [])
    if not _CALLABLE.fullmatch(given):
        raise _refused(
            f"{given!r} does not name an environment.",
            "give module:Class, such as my_robot.env:RobotEnv, or a name gymnasium knows, such as CartPole-v1",
        )
    parts = given.partition(":")[0].split(".")
    for file in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
        if (project / file).is_file():
            is_section = file.startswith(f"{place}/")
            package = "/".join(parts[: len(place.split("/")) + 1] if is_section else parts[:1])
            brought = package if (project / package).is_dir() else file
            return _Environment(given, {}, {}, [file], [brought], [])
    return _Environment(given, {}, {}, [], [], [_pinned(parts[0], project)])


def _pinned(module: str, project: Path) -> str:
    """The installed package that brings `module`, with its version."""
    if importlib.util.find_spec(module) is not None:
        for distribution in importlib.metadata.packages_distributions().get(module, ()):
            return f"{distribution}=={importlib.metadata.version(distribution)}"
    raise _refused(
        f"There is no module {module!r} in {project}, nor in an installed package.",
        f"put it into {project}, or install the package that brings it",
    )


def _completed(found: _Environment, needs: Needs, own: str) -> _Environment:
    """With what it was seen to need. Files in a folder that travels need no name, and those in `own` neither."""
    known = (own, *(f"{entry}/" for entry in found.include))
    include = [file for file in needs.files if not file.startswith(known) and file not in found.include]
    sources = [file for file in needs.files if file not in found.files]
    return replace(
        found,
        include=[*found.include, *include],
        files=[*found.files, *sources],
        packages=[*found.packages, *needs.packages],
    )


def _pins(found: _Environment) -> dict[str, str]:
    """Package -> pin: what brings the environment, which may be one of those that every training needs, and these."""
    pins = {package.partition("==")[0]: package for package in found.packages}
    return pins | {package: f"{package}=={_installed(package) or tested}" for package, tested in TESTED.items()}


def _section_toml(name: str, found: _Environment, algorithm: str, policy: str, timesteps: int) -> str:
    quick_timesteps, quick_hyperparameters = _QUICK[algorithm]
    sources = f"environment_files = {json.dumps(list(found.files))} # add whatever else it is made of\n"
    sources += f"reward_files = {json.dumps(list(found.files))}\n"
    text = _template(
        "section.toml",
        name=name,
        title=name.replace("_", " "),
        packages="\n".join(f"  {json.dumps(pin)}," for pin in _pins(found).values()),
        include=", ".join(json.dumps(entry) for entry in found.include),
        environment=json.dumps(found.entry_point),
        sources=sources if found.files else "",
        algorithm=json.dumps(algorithm),
        policy=json.dumps(policy),
        timesteps=f"{timesteps:_}",
        environment_kwargs=_lines(found.kwargs),
        algorithm_name=algorithm,
        hyperparameters=_lines(_stated(algorithm, timesteps)),
        quick_timesteps=quick_timesteps,
        quick_hyperparameters=_lines(quick_hyperparameters),
        quick_environment_kwargs=_lines(found.quick_kwargs),
    )
    return text.rstrip() + "\n"


def _stated(algorithm: str, timesteps: int) -> Mapping[str, str]:
    """`_STATED`, with rollouts that `timesteps` hold several of: an algorithm always trains the last to its end."""
    stated = dict(_STATED[algorithm])
    if algorithm == "PPO" and timesteps < 4 * 2048:
        n_steps = 1 << max(1, (timesteps // 4).bit_length() - 1)  # the largest power of two in a quarter; two at least
        stated |= {"n_steps": f"{n_steps:_}", "batch_size": str(min(64, n_steps))}
    elif algorithm == "A2C":
        stated["n_steps"] = str(min(5, timesteps))
    return stated


def _template(template: str, **values: object) -> str:
    return Template((TEMPLATES / f"{template}.template").read_text(encoding="utf-8")).substitute(values)


def _lines(table: Mapping[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in table.items())


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _refused(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, safe="nothing was written", next_step=next_step)
