"""`section.toml`: what one validation section trains, in which environment, and what its kernel needs.

Promises: a `Section` that exists is complete and consistent - scenarios never share a training tree, no path leaves
its folder, the quick variant of every scenario is itself a valid scenario. Whatever is wrong is a `ConfigError` that
names the file, the key, what was given and what is accepted.

Never imports an environment, torch or an algorithm: it reads text. It runs beside the manager and inside the session.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    JsonValue,
    PositiveInt,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.agent_tables import Divergence, Evaluation, MonitorKwargs, Noise, Normalize
from kaggle_manager.sections.fields import (
    AgentStopWhen,
    Duration,
    EntryPoint,
    Frozen,
    InputText,
    Name,
    PinnedPackage,
    Platforms,
    RelativePath,
    Scenario,
    Table,
)
from kaggle_manager.sections.hyperparameters import N_STEPS, NAMES, check_schedules, is_algorithm
from kaggle_manager.sections.inputs import Input, read_input
from kaggle_manager.sections.mistakes import in_words, listed, problems, refused
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sections.sweep import Sweep
from kaggle_manager.sections.values import (
    AN_OBJECT,
    Refused,
    is_object,
    merged,
    objects_in,
    read_build,
    read_hyperparameters,
    read_table,
    read_wrappers,
)
from kaggle_manager.system import accelerators

SECTION_FILE = "section.toml"

Algorithm = Annotated[str, AfterValidator(is_algorithm)]


def _policy(text: str) -> str:
    if not text.isidentifier() and not is_object(text):
        raise Refused("", text, f"a policy of the algorithm, such as MlpPolicy, or {AN_OBJECT} my_module:MyPolicy")
    return text


def _switched(value: object) -> object:
    """`true` is a table without arguments, `false` is none; see `values.read_table`."""
    return ({} if value else None) if isinstance(value, bool) else read_table(value)


Hyperparameters = Annotated[Table, AfterValidator(read_hyperparameters)]
Wrappers = Annotated[list[JsonValue], BeforeValidator(read_wrappers)]


class Kernel(Frozen):
    """What the kernel of this section needs from the platform.

    `accelerator` is the name of a machine, one of `accelerators.TRAINS_ON`, absent for the CPU. `packages` are
    pinned (`name==version`). `include` are files and folders of the project, relative to its root, that travel beside
    the section's own folder. `lanes` is how many runs of a campaign or sweep share one session.
    """

    accelerator: Annotated[str, AfterValidator(accelerators.checked)] | None = None
    internet: bool = True
    packages: list[PinnedPackage] = []
    include: list[RelativePath] = []
    lanes: PositiveInt = 1

    @field_validator("packages")
    @classmethod
    def _names_differ(cls, packages: list[str]) -> list[str]:
        pinned: dict[str, str] = {}
        for pin in packages:
            name = re.sub(r"[-_.]+", "-", re.split(r"==|\[", pin)[0]).lower()  # however a package index spells it
            if name in pinned:
                raise ValueError(f"one pin of each package; {pinned[name]} and {pin} are both of {name}")
            pinned[name] = pin
        return packages


class Quick(Frozen):
    """What `--quick` changes. Tables are merged into the scenario's; everything else replaces."""

    timesteps: PositiveInt = 2
    save_every: PositiveInt = 1
    models: RelativePath
    evaluation: Table = {}
    hyperparameters: Hyperparameters = {}
    environment_kwargs: Table = {}


class ScenarioConfig(Scenario):
    """One agent to train with Stable-Baselines3.

    `environment` is a gymnasium environment as `module:callable`, called with `environment_kwargs`; one that gymnasium
    knows by name is `gymnasium:make` with `environment_kwargs = { id = "CartPole-v1" }`. `environment_files` and
    `reward_files` are the sources, relative to the section's folder or to the project, whose content defines the
    environment and the reward; they are only hashed, and may be left out when the environment's module is not in the
    bundle: then a pinned package defines it. No warning is given of `ignored_files`, which the environment uses and the
    training does not depend on. `algorithm` is one of Stable-Baselines3 or sb3-contrib by its name, or a
    class of one's own as `module:Class`. `hyperparameters` are keyword arguments of the algorithm
    (the network under `policy_kwargs.net_arch`), in the forms of `sections.values`.

    `n_envs` environments step together, in this process or (`vec_env` = "subproc") each in one of its own. Around each
    come Monitor with `monitor_kwargs` and `env_wrapper`, around all of them `vec_env_wrapper`, VecNormalize
    (`normalize`) and VecFrameStack (`frame_stack`), innermost first. Evaluations play with `eval_env_kwargs` over
    `environment_kwargs`. `callbacks` are those of the user. `save_every` absent means the adaptive cadence; `seed`
    absent means unseeded. `models` is the training tree, relative to the section's folder. `inputs` is data of the
    platform that it reads besides what the section's own `inputs` name, see `sections.inputs`.

    With `build`, a function of the user's, `environment` and `algorithm` are that one; see `values.read_build`.
    """

    build: EntryPoint | None = None
    environment: EntryPoint
    environment_kwargs: Table = {}
    environment_files: list[RelativePath] = []
    reward_files: list[RelativePath] = []
    ignored_files: list[RelativePath] = []
    algorithm: Algorithm
    policy: Annotated[str, AfterValidator(_policy)] = "MlpPolicy"
    hyperparameters: Hyperparameters = {}
    n_envs: PositiveInt = 1
    vec_env: Literal["dummy", "subproc"] = "dummy"
    env_wrapper: Wrappers = []
    vec_env_wrapper: Wrappers = []
    normalize: Annotated[Normalize | None, BeforeValidator(_switched)] = None
    frame_stack: PositiveInt = 1
    monitor_kwargs: Annotated[MonitorKwargs, BeforeValidator(read_table)] = MonitorKwargs()
    eval_env_kwargs: Table = {}
    noise: Noise | None = None
    callbacks: Wrappers = []
    timesteps: PositiveInt
    save_every: PositiveInt | None = None
    evaluation: Evaluation = Evaluation()
    divergence: Divergence = Divergence()
    stop_when: AgentStopWhen = AgentStopWhen()
    quick: Quick

    @property
    def target(self) -> int:
        """Steps in all, over every session."""
        return self.timesteps

    @property
    def unit(self) -> str:
        """What its steps are called."""
        return "timesteps"

    @property
    def rollout(self) -> int:
        """Timesteps between two moments at which it can be saved, over all environments, as far as the text says so."""
        return self._steps_each * self.n_envs

    @property
    def _steps_each(self) -> int:
        """Steps of each environment in a rollout."""
        default = N_STEPS.get(self.algorithm)
        key = "train_freq" if default is None else "n_steps"
        steps = self.hyperparameters.get(key, default)
        return steps if isinstance(steps, int) and steps > 0 else 1

    def overshoot(self, target: int) -> str:
        """In words, what a target smaller than one rollout comes to; `''` for any other."""
        if self.rollout <= target:
            return ""
        name = "n_steps" if self.algorithm in N_STEPS else "train_freq"
        made_of = f"{name} = {self._steps_each:,}" + (f", n_envs = {self.n_envs}" if self.n_envs > 1 else "")
        return (
            f"{target:,} timesteps are fewer than one rollout ({made_of}): {self.rollout:,} are "
            f"trained; a smaller {name} in section.toml, such as a quarter of the timesteps, ends closer"
        )

    @property
    def normalization(self) -> dict[str, JsonValue] | None:
        """Arguments of `VecNormalize`, all of them; None where there is none around."""
        if self.normalize is None:
            return None
        gamma = self.hyperparameters.get("gamma", 0.99) if self.normalize.gamma is None else self.normalize.gamma
        return {**self.normalize.model_dump(), "gamma": gamma}

    @property
    def objects(self) -> dict[str, str]:
        """Objects of Python that it speaks of besides its environment: `module:Name` -> the first key that does."""
        keys = ("build", "algorithm", "policy", "hyperparameters", "env_wrapper", "vec_env_wrapper", "callbacks")
        found = [pair for key in keys for pair in objects_in(getattr(self, key), key)]
        return {name: key for key, name in reversed(found)}

    def evaluates_every(self, total: int) -> int | None:
        """Timesteps between evaluations of a training of `total`; a shorter one has as many. None: adaptive."""
        every = self.evaluation.every
        return every and max(1, every * min(total, self.timesteps) // self.timesteps)

    @model_validator(mode="before")
    @classmethod
    def _build_makes_environments_and_model(cls, given: Any) -> Any:
        defaults = {name: each.get_default() for name, each in cls.model_fields.items()}
        return read_build(given, defaults) if isinstance(given, dict) and given.get("build") else given

    @model_validator(mode="after")
    def _noise_is_for_an_algorithm_that_takes_it(self) -> Self:
        if self.noise is None:
            return self
        given = self.noise.model_dump()
        if "action_noise" not in NAMES.get(self.algorithm, {"action_noise"}):
            raise Refused("noise", given, f"nothing with {self.algorithm}, which takes no action_noise")
        if "action_noise" in self.hyperparameters:
            raise Refused("noise", given, "one of it and hyperparameters.action_noise")
        return self

    @model_validator(mode="after")
    def _schedules_are_for_what_takes_one(self) -> Self:
        check_schedules(self.algorithm, self.hyperparameters)
        return self

    def for_quick(self) -> ScenarioConfig:
        """The scenario `--quick` trains: this one with its `quick` table applied. Idempotent.

        It is saved twice at least, so it trains two rollouts at least.
        """
        changed = self.model_dump()
        for key, value in self.quick.model_dump().items():
            changed[key] = merged(changed[key], value) if isinstance(value, dict) else value
        changed["divergence"] = changed["stop_when"] = {}
        quick = ScenarioConfig.model_validate(changed)
        if 1 < quick.rollout >= quick.timesteps:  # more environments may have been added since it was written
            quick = quick.model_copy(update={"timesteps": 2 * quick.rollout})
        return quick


def _kind(value: object) -> str:
    """Of the two kinds of scenarios; told apart by one key."""
    is_script = "script" in value if isinstance(value, Mapping) else isinstance(value, ScriptScenario)
    return "[script]" if is_script else "[agent]"


_KINDS: dict[str, type[Scenario]] = {"[agent]": ScenarioConfig, "[script]": ScriptScenario}
AnyScenario = ScenarioConfig | ScriptScenario
_Read = Annotated[
    Annotated[ScenarioConfig, Tag("[agent]")] | Annotated[ScriptScenario, Tag("[script]")], Discriminator(_kind)
]


class Demo(Frozen):
    """What `--demo` trains: a scenario to `timesteps` over `sessions` sessions, and the options of its report."""

    scenario: Name
    timesteps: PositiveInt
    sessions: PositiveInt = 3
    report: list[str] = []


class Section(Frozen):
    """One validation section; its name is the name of its folder.

    `study` is what the section declares, before anything is trained, about how its results will be judged. The
    section's own report reads it; here it is only fingerprinted, into the identity of every training. `remarks` is what
    its report may add in words to results that are there; it judges nothing and enters no fingerprint. `inputs` is data
    of the platform that every scenario reads. `platform` is what a platform is to know, by its name, `sweep` which
    values are tried, and `quota_per_week` how much sessions may last in a week; none is part of what is trained.
    """

    name: Name
    title: str
    trains: bool
    default_scenario: Name | None = None
    kernel: Kernel = Kernel()
    inputs: list[InputText] = []
    scenarios: dict[Name, _Read] = {}
    study: Table = {}
    remarks: Table = {}
    platform: Platforms = {}
    quota_per_week: Duration | None = None
    demo: Demo | None = None
    sweep: Sweep | None = None
    _folder: Path = PrivateAttr()
    _has_image: bool = PrivateAttr(default=True)

    @property
    def training_seeds(self) -> list[int]:
        """The seeds that its study declares to train."""
        declared = self.study.get("training_seeds")
        return [seed for seed in declared if isinstance(seed, int)] if isinstance(declared, list) else []

    @property
    def folder(self) -> Path:
        """The folder it was read from."""
        return self._folder

    @property
    def has_image(self) -> bool:
        """Whether its sessions have an image of the platform's; else what is installed where they run."""
        return self._has_image

    def scenario(self, name: str | None = None) -> AnyScenario:
        """The scenario `name`, or the default one.

        Raises:
            ConfigError: this section has no such scenario; the message lists those it has.
        """
        wanted = name or self.default_scenario
        if wanted is None or wanted not in self.scenarios:
            raise ConfigError(
                f"Section {self.name} has no scenario {wanted!r}.",
                safe="nothing was started.",
                next_step=f"choose one of: {listed(self.scenarios)}.",
            )
        return self.scenarios[wanted]

    def agent(self, name: str | None = None) -> ScenarioConfig:
        """As `scenario`, of one that Stable-Baselines3 trains.

        Raises:
            ConfigError: it is a script; or as `scenario`.
        """
        found = self.scenario(name)
        if isinstance(found, ScriptScenario):
            raise ConfigError(
                f"The scenario {name or self.default_scenario} of {self.name} is a script, and this is for an agent of "
                "Stable-Baselines3.",
                safe="nothing was started.",
                next_step="docs/scripts.md has what there is for scripts.",
            )
        return found

    def inputs_of(self, scenario: str) -> tuple[Input, ...]:
        """What a scenario reads: the section's inputs, and its own."""
        return tuple(map(read_input, dict.fromkeys([*self.inputs, *self.scenario(scenario).inputs])))

    @model_validator(mode="after")
    def _own_environments_name_their_sources(self) -> Self:
        for name, scenario in self.scenarios.items():
            if isinstance(scenario, ScriptScenario) or scenario.build is not None:  # its sources are followed
                continue
            module = PurePosixPath(scenario.environment.partition(":")[0].replace(".", "/"))
            included = (PurePosixPath(entry).with_suffix("") for entry in self.kernel.include)
            if self.name in module.parts[:-1] or any(module.is_relative_to(entry) for entry in included):
                for key in ("environment_files", "reward_files"):
                    if not getattr(scenario, key):
                        raise ValueError(f"scenarios.{name}.{key}: is required, for {module}.py goes into the bundle")
        return self

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.demo is not None and self.demo.scenario not in self.scenarios:
            raise ValueError(f"demo.scenario = {self.demo.scenario!r} is not a scenario")
        if self.trains and self.default_scenario not in self.scenarios:
            raise ValueError(
                f"default_scenario = {self.default_scenario!r} is not a scenario; accepted: {listed(self.scenarios)}"
            )
        trees: dict[PurePosixPath, str] = {}
        for name, scenario in self.scenarios.items():
            names = [each.name for each in self.inputs_of(name)]
            if twice := sorted({each for each in names if names.count(each) > 1}):
                raise ValueError(f"scenarios.{name}.inputs: names {twice[0]} in two versions; one is accepted")
            try:
                scenario.for_quick()
            except ValidationError as error:
                raise ValueError(
                    f"scenarios.{name}.quick: {in_words(error.errors()[0], type(scenario), _KINDS)}"
                ) from None
            for key, models in ((f"{name}.models", scenario.models), (f"{name}.quick.models", scenario.quick.models)):
                tree = PurePosixPath(models.casefold())  # as a case-blind disk sees it
                for other, owner in trees.items():
                    one, two = sorted((tree, other), key=str)  # one may be that of a seed or trial of the other
                    derived = re.match(rf"{re.escape(str(one))}_(seed|trial)_\d+(/|_|$)", str(two))
                    if tree.is_relative_to(other) or other.is_relative_to(tree) or derived:
                        raise ValueError(f"scenarios.{key} = {models!r} lies in the training tree of {owner}")
                trees[tree] = key
        return self


def load_section(path: Path) -> Section:
    """Read and validate one `section.toml`.

    Raises:
        ConfigError: the file is missing, is not TOML, or says something that is not accepted.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(path, ["cannot be read: it is not saved as text in UTF-8"]) from error
    except OSError as error:
        raise refused(path, [f"cannot be read: {error}"]) from error
    return section_of(text, path)


def section_of(text: str, path: Path) -> Section:
    """Validate the text of the `section.toml` at `path`, which need not be written yet.

    Raises:
        ConfigError: it is not TOML, or says something that is not accepted.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise refused(path, [f"is not valid TOML: {error}"]) from error
    try:
        section = Section.model_validate({**values, "scenarios": _extended(path, values.get("scenarios", {}))})
    except ValidationError as error:
        raise refused(path, problems(error, Section, _KINDS)) from error
    if section.name != path.resolve().parent.name:
        folder = path.resolve().parent.name
        raise refused(path, [f"name: given {section.name!r}; accepted: the name of its folder, {folder!r}"])
    section._folder = path.parent
    return section


def _extended(path: Path, scenarios: Any) -> Any:
    """The scenarios with what each leaves out taken from the one its `extends` names; tables are merged."""
    if not isinstance(scenarios, dict):
        return scenarios  # refused by the model, in words
    found = {}
    for name, scenario in scenarios.items():
        found[name] = scenario
        if isinstance(scenario, dict) and "extends" in scenario:
            base = scenarios.get(scenario["extends"])
            if not isinstance(base, dict) or "extends" in base:
                others = {other: None for other, its in scenarios.items() if "extends" not in its and other != name}
                accepted = listed(others) if others else "nothing: there is no other scenario to extend"
                raise refused(path, [f"scenarios.{name}.extends: given {scenario['extends']!r}; accepted: {accepted}"])
            found[name] = merged(base, {key: value for key, value in scenario.items() if key != "extends"})
    return found
