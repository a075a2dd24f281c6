"""What a section trains, fingerprinted by content: equal on every machine and Python version.

Blind to what `meaning` is blind to: comments, docstrings, layout. Never imports an environment or an algorithm: it
reads files. It runs beside the manager and inside the session.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.imports import imported_files
from kaggle_manager.sections.meaning import meaning_of, text_of
from kaggle_manager.sections.model import SECTION_FILE, AnyScenario, ScenarioConfig, Section
from kaggle_manager.sections.script import ScriptScenario, script_files
from kaggle_manager.sections.values import MADE_BY_BUILD, canonical, canonical_call


def identity_of(
    section: Section, scenario: str, root: Path, *, quick: bool = False, seed: int | None = None
) -> dict[str, JsonValue]:
    """What makes two trainings the same experiment, as far as text can tell.

    Args:
        section: the section.
        scenario: name of one of its scenarios.
        root: the project root; paths below it enter the fingerprints, `root` itself does not.
        quick: describe the quick variant.
        seed: of the training; the scenario's own when absent.

    Raises:
        ConfigError: a declared source does not exist, or is not Python that can be read.
    """
    config = section.scenario(scenario)
    config = config.for_quick() if quick else config
    config = config if seed is None else config.for_seed(seed)
    common: dict[str, JsonValue] = {
        "section": section.name,
        "scenario": scenario,
        "seed": config.seed,
        "study_fingerprint": study_fingerprint(section),
        "inputs": {each.name: each.version for each in section.inputs_of(scenario)},
    }
    if isinstance(config, ScriptScenario):
        return common | _of_script(section, config, root)
    return common | _of_agent(section, config, root)


def _of_script(section: Section, config: ScriptScenario, root: Path) -> dict[str, JsonValue]:
    sources = source_digests(root, script_files(config, section.folder, root))
    return {
        "script": [config.script] if isinstance(config.script, str) else list(config.script),
        "arguments": list(config.arguments),
        "script_fingerprint": _digest(sources),
        "source_files": {"script_fingerprint": dict(sources)},
    }


def _of_agent(section: Section, config: ScenarioConfig, root: Path) -> dict[str, JsonValue]:
    policy_kwargs = config.hyperparameters.get("policy_kwargs")
    environment = source_digests(section.folder, environment_files(config, root), root)
    reward = source_digests(section.folder, config.reward_files, root)
    described: dict[str, JsonValue] = {
        "algorithm": config.algorithm,
        "policy": config.policy,
        "policy_architecture": policy_kwargs.get("net_arch") if isinstance(policy_kwargs, dict) else None,
        "hyperparameters": {name: canonical(value) for name, value in config.hyperparameters.items()},
        "noise": config.noise.model_dump() if config.noise else {},
        "n_envs": config.n_envs,
        "vec_env": config.vec_env,
        "environment": config.environment,
        "environment_kwargs": dict(config.environment_kwargs),
        "eval_env_kwargs": dict(config.eval_env_kwargs),
        "env_wrapper": list(map(canonical_call, config.env_wrapper)),
        "vec_env_wrapper": list(map(canonical_call, config.vec_env_wrapper)),
        "monitor_kwargs": config.monitor_kwargs.model_dump(),
        "normalize": config.normalization or False,
        "frame_stack": config.frame_stack,
        "callbacks": list(map(canonical_call, config.callbacks)),
        "evaluation": config.evaluation.model_dump(exclude={"every"}),
        "environment_fingerprint": _digest([config.environment, config.environment_kwargs, environment]),
        "reward_fingerprint": _digest(reward),
        "source_files": {
            "environment_fingerprint": _by_path(environment, section.folder, root),
            "reward_fingerprint": _by_path(reward, section.folder, root),
            "imported": _imported(config.environment.partition(":")[0], root),
        },
        **({} if config.build is None else {"build": config.build}),
    }
    of_code = set() if config.build is None else set(MADE_BY_BUILD) - {"environment", "environment_kwargs", "algorithm"}
    return {name: value for name, value in described.items() if name not in of_code}


def environment_files(scenario: ScenarioConfig, root: Path) -> list[str]:
    """The files that define the environment; with `build`, also that function's, and what it imports of the project."""
    if scenario.build is None:
        return list(scenario.environment_files)
    followed = imported_files(root, scenario.build.partition(":")[0])
    return list(dict.fromkeys([*scenario.environment_files, *followed]))


def source_names(section: Section, scenario: AnyScenario, root: Path) -> list[str]:
    """The files that a scenario is fingerprinted by, relative to the section's folder or to `root`."""
    if isinstance(scenario, ScriptScenario):
        return script_files(scenario, section.folder, root)
    return [*environment_files(scenario, root), *scenario.reward_files]


def _by_path(digests: Mapping[str, str], folder: Path, root: Path) -> dict[str, JsonValue]:
    """The same under each file's path below `root`."""
    return {
        Path(os.path.relpath(_place(folder, name, root), root)).as_posix(): digest for name, digest in digests.items()
    }


def _place(folder: Path, name: str, otherwise: Path | None) -> Path:
    """Where a source is that a section names: in its folder, else in the folder `otherwise`."""
    return (folder if otherwise is None or (folder / name).exists() else otherwise) / name


def _imported(module: str, root: Path) -> dict[str, JsonValue]:
    """Digest of each project file that the environment imports, so that naming one later is no change by itself."""
    found: dict[str, JsonValue] = {}
    for file in imported_files(root, module):
        with suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            found[file] = hashlib.sha256(meaning_of(file, (root / file).read_bytes())).hexdigest()
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def study_fingerprint(section: Section) -> str:
    """Digest of what the section declares about how its results will be judged."""
    return _digest(section.study)


def source_digests(folder: Path, names: Sequence[str], otherwise: Path | None = None) -> dict[str, str]:
    """Digest of each file by its meaning.

    A name that is not in `folder` is looked for in the folder `otherwise`.

    Raises:
        ConfigError: a file does not exist, or is not Python that can be read.
    """
    return {name: digest for name, (digest, _) in _sources(folder, names, otherwise).items()}


def sources_of(section: Section, scenario: str, root: Path) -> dict[str, dict[str, tuple[str, str | None]]]:
    """What each fingerprint of `identity_of` is made of: file -> digest of its meaning, and its text (None: no text).

    Raises:
        ConfigError: as `identity_of`.
    """
    config = section.scenario(scenario)
    study = json.dumps(section.study, indent=1, sort_keys=True)
    declared: dict[str, dict[str, tuple[str, str | None]]]
    declared = {"study_fingerprint": {f"[study] of {SECTION_FILE}": (study_fingerprint(section), study)}}
    if isinstance(config, ScriptScenario):
        return declared | {"script_fingerprint": _sources(root, script_files(config, section.folder, root), None)}
    return {
        "environment_fingerprint": _sources(section.folder, environment_files(config, root), root),
        "reward_fingerprint": _sources(section.folder, config.reward_files, root),
        **declared,
    }


def _sources(folder: Path, names: Sequence[str], otherwise: Path | None) -> dict[str, tuple[str, str | None]]:
    """Digest of the meaning, and text, of each file."""
    found: dict[str, tuple[str, str | None]] = {}
    for name in names:
        path = _place(folder, name, otherwise)
        try:
            content = path.read_bytes()
            found[name] = hashlib.sha256(meaning_of(name, content)).hexdigest(), text_of(content)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f"environment_files / reward_files in {folder / SECTION_FILE}"
            if is_folder := path.is_dir():
                inside = sorted(file.name for file in path.glob("[!.]*") if file.is_file())
                files = ", ".join(json.dumps(f"{name.rstrip('/')}/{file}") for file in inside[:10]) or "none yet"
                todo = f"name its files that count, in {where}: {files}{', ...' * (len(inside) > 10)}"
            else:
                todo = f"correct the file, or {where}."
            raise ConfigError(
                f"{path if is_folder else folder / name} cannot be fingerprinted: "
                + ("it is a folder, and only files can be" if is_folder else str(error)),
                safe="nothing was started.",
                next_step=todo,
            ) from error
    return found
