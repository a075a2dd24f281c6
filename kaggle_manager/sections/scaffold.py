"""`init`: a new section - `sections/NAME/section.toml` and, when there is none yet, a small environment to edit.

Promises: what it writes trains as it is; nothing that exists is changed. Never imports the environment: `look` does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

from kaggle_manager.errors import ConfigError, error_context
from kaggle_manager.sections.environment_ids import installed, pins_by_text, with_module
from kaggle_manager.sections.hyperparameters import SB3_CONTRIB, unknown_policy
from kaggle_manager.sections.model import SECTION_FILE, Section, section_of
from kaggle_manager.sections.new_training import ALGORITHMS, CONTINUOUS_ONLY, Training, quick_of, stated
from kaggle_manager.sections.project import find_project_or_none, sections_folder
from kaggle_manager.sections.toml_text import lines_of, text_of
from kaggle_manager.sections.values import is_object, objects_in
from kaggle_manager.system.command_line import WhichTree

TEMPLATES = Path(__file__).parent / "templates"
# What every training needs in a kernel; those that are installed here, else those this program was tested with.
TESTED = {"stable-baselines3": "2.9.2", "gymnasium": "1.4.0"}
# As gymnasium.make takes it: a module to import before, a namespace, a name and its version.
_REGISTERED = re.compile(r"(?:gymnasium:)?((?:[\w.]+:)?(?:[\w-]+/)?[\w.:-]+-v\d+)")
_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class NewSection:
    """A section that was written.

    Attributes:
        files: those that were written, relative to the project.
        guessed: keys of its scenario that its environment was not seen to fit, for it could not be played.
        unsaid: what the tuned hyperparameters it was made of have and it does not.
        origin: where these are from.
        wrapped: the `env_wrapper` without which no algorithm takes its observations; None where they do without.
    """

    project: Path
    section: Section
    files: tuple[str, ...]
    guessed: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    origin: str = ""
    wrapped: Any = None

    @property
    def next_commands(self) -> tuple[str, ...]:
        which = WhichTree(self.section.name)
        return which.command("preflight"), replace(which, quick=True).command("run"), which.command("run")

    def evaluate(self, every: int | None) -> None:
        """Write how often it evaluates, where that is advised."""
        if every is None or self.section.agent().evaluation.every:
            return
        file, table = self.section.folder / SECTION_FILE, f"[scenarios.{self.section.name}.evaluation]\n"
        line = f"every = {every:_} # timesteps; keeps evaluations below a tenth of the time\n"
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(table, table + line), encoding="utf-8")


@dataclass(frozen=True)
class Needs:
    """What an environment was seen to need.

    Attributes:
        policy: the one that fits its observations; "" when it is not known, for the environment could not be made.
        packages: pins beside those of every section.
        files: of the project, relative to it, that it imports or reads.
        like, takes: the known algorithm that one of one's own is derived from, and its arguments; see `Training`.
        wrapper: what makes observations that no algorithm takes ones that it does, as `env_wrapper` says it.
    """

    policy: str = ""
    packages: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    like: str = ""
    takes: Collection[str] | None = None
    wrapper: Any = None


@dataclass(frozen=True)
class _Environment:
    """How section.toml speaks of an environment."""

    entry_point: str
    kwargs: Mapping[str, Any]
    quick_kwargs: Mapping[str, Any]
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
    timesteps: int | None = None,
    tuned: Training | None = None,
    look: Callable[[Path, str, Mapping[str, Any], list[str], Training], Needs] = lambda *_: Needs(),
) -> NewSection:
    """Write a section into `project`.

    Args:
        name: a lower-case name; that of its folder.
        environment: `module:Class`, or an id that gymnasium knows such as `CartPole-v1`; None writes one to edit.
        algorithm: one of `ALGORITHMS`, or a class of one's own as `module:Class`.
        policy: a policy of Stable-Baselines3, by name; None for the one that fits the observations.
        timesteps: None for 100,000, or as many as `tuned` says.
        tuned: what is trained, instead of `algorithm` and `policy`.
        look: sees what an environment needs, given the project, `module:callable`, its arguments, what is pinned, and
            what is trained in it.

    Raises:
        ConfigError: the name is taken or cannot be used, the environment's module is nowhere, or the section would not
            be valid; nothing is written.
    """
    place = sections_folder(project)
    folder = project / place / name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise _refused(f"{name!r} cannot be the name of a section.", "give a lower-case name such as my_robot")
    is_own = tuned is None and is_object(algorithm)
    if tuned is None and algorithm not in ALGORITHMS and not is_own:
        accepted = f"{', '.join(sorted(ALGORITHMS))}; or a class of your own, module:Class"
        raise _refused(f"The algorithm {algorithm!r} is not known.", f"choose one of: {accepted}")
    if tuned is None and policy and (wrong := unknown_policy(algorithm, policy)):
        raise _refused(f"{wrong[0]}.", "give another --policy, or leave it out for the one that fits the observations")
    if folder.exists():
        raise _refused(f"{folder} exists already.", "choose another name, or edit what is there")
    if tuned is None:
        training = stated(algorithm, policy or "", timesteps or 100_000)
    else:
        training = replace(tuned, timesteps=timesteps or tuned.timesteps)
    environment = with_module(environment) if environment else None
    found = _environment(name, project, place, environment)
    found = replace(found, kwargs={**found.kwargs, **training.environment_kwargs})
    guessed: tuple[str, ...] = ()
    wrapped = None
    if environment is not None or is_own:
        target = found.entry_point if environment is not None else ""
        needs = look(project, target, found.kwargs, [*_pins(found, training).values()], training)
        if not needs.policy and environment is not None:
            guessed = (*(() if training.policy else ("policy",)), "environment_files", "reward_files")
        if is_own:
            training = stated(algorithm, training.policy, training.timesteps, like=needs.like, takes=needs.takes)
        if (wrapped := needs.wrapper) is not None:
            training = replace(training, keys={**training.keys, "env_wrapper": wrapped})
        objects = [it for _, it in objects_in({**training.keys, **training.hyperparameters}, "")]
        by_text = pins_by_text("" if needs.policy else environment or "", objects)
        found = _completed(found, replace(needs, packages=(*needs.packages, *by_text)), f"{place}/{name}/")
        training = replace(training, policy=training.policy or needs.policy)
    text = _section_toml(name, found, training)
    with error_context(
        ConfigError,
        safe="nothing was written",
        next_step=f"correct that in {training.origin}" if training.origin else "give another option for that key",
    ):
        section = section_of(text, folder / SECTION_FILE)
    texts = {f"{place}/{name}/{SECTION_FILE}": text}
    if environment is None:
        kind = "continuous" if training.kind in CONTINUOUS_ONLY else "discrete"
        masks = filled("action_masks") if training.kind == "MaskablePPO" else ""  # which asks what is allowed
        texts[f"{place}/{name}/environment.py"] = filled(f"environment_{kind}.py", name=name, masks=masks)
        texts[f"{place}/{name}/__init__.py"] = ""
        # A regular package: an installed one of the same name never comes before it.
        texts[f"{place}/__init__.py"] = ""
    written = [file for file in texts if not (project / file).exists()]
    for file in written:
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_text(texts[file], encoding="utf-8")
    return NewSection(project, section, tuple(sorted(written)), guessed, training.unsaid, training.origin, wrapped)


def _environment(name: str, project: Path, place: str, given: str | None) -> _Environment:
    """`place` is the folder of the project's sections."""
    if given is None:
        entry_point = f"{place.replace('/', '.')}.{name}.environment:Environment"
        return _Environment(entry_point, {"episode_steps": 100}, {"episode_steps": 10}, ["environment.py"], [], [])
    if registered := _REGISTERED.fullmatch(given):
        return _Environment("gymnasium:make", {"id": registered[1]}, {}, [], [], [])
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


def _pins(found: _Environment, training: Training) -> dict[str, str]:
    """Package -> pin: what brings the environment, which may be one of those that every training needs, and these."""
    needed = {**TESTED, **({"sb3-contrib": TESTED["stable-baselines3"]} if training.kind in SB3_CONTRIB else {})}
    pins: dict[str, str] = {}
    for pin in found.packages:
        pins.setdefault(re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower(), pin)
    return pins | {package: f"{package}=={installed(package) or tested}" for package, tested in needed.items()}


def _section_toml(name: str, found: _Environment, training: Training) -> str:
    quick = quick_of(training)
    episode = {"max_episode_steps": quick.episode} if quick.episode and found.entry_point == "gymnasium:make" else {}
    sources = f"environment_files = {text_of(found.files)} # add whatever else it is made of\n"
    sources += f"reward_files = {text_of(found.files)}\n"
    library = "sb3_contrib" if training.kind in SB3_CONTRIB else "stable_baselines3"
    text = filled(
        "section.toml",
        name=name,
        title=name.replace("_", " "),
        packages="\n".join(f"  {text_of(pin)}," for pin in _pins(found, training).values()),
        include=", ".join(map(text_of, found.include)),
        origin=f"# From {training.origin}.\n" if training.origin else "",
        environment=text_of(found.entry_point),
        sources=sources if found.files else "",
        algorithm=text_of(training.algorithm),
        policy=text_of(training.policy or _policy_of(training.kind)),
        keys=lines_of(training.keys),
        timesteps=text_of(training.timesteps),
        environment_kwargs=lines_of(found.kwargs),
        algorithm_name=training.algorithm if is_object(training.algorithm) else f"{library}.{training.algorithm}",
        hyperparameters=lines_of(training.hyperparameters),
        greedy=text_of(training.greedy),
        quick_timesteps=quick.timesteps,
        quick_hyperparameters=lines_of(quick.hyperparameters),
        quick_environment_kwargs=lines_of({**found.quick_kwargs, **episode}),
    )
    return text.rstrip() + "\n"


def _policy_of(algorithm: str) -> str:
    """The policy for observations that are numbers."""
    return "MlpLstmPolicy" if algorithm == "RecurrentPPO" else "MlpPolicy"


def filled(template: str, **values: object) -> str:
    """The text of a template."""
    return Template((TEMPLATES / f"{template}.template").read_text(encoding="utf-8")).substitute(values)


def _refused(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, safe="nothing was written", next_step=next_step)
