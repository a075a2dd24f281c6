"""`init`: a new section, in `sections/NAME/` of a project."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_manager.cli.common import JsonOption, print_json, reporter
from kaggle_manager.cli.extras import how_to_install
from kaggle_manager.cli.selection import as_command
from kaggle_manager.errors import ConfigError, VerificationError


def told(text: str) -> None:
    """To the user, and not into what a script reads."""
    print(text, file=sys.stderr, flush=True)


@as_command
def init(
    name: Annotated[str, typer.Argument(help="Name of the new section, e.g. my_robot.")],
    env: Annotated[
        str | None, typer.Option(help="module:Class, or a gymnasium id such as CartPole-v1. [default: one to edit]")
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(help="DQN, SAC, TQC, ...: of SB3 or sb3-contrib; module:Class for your own. [default: PPO]"),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy of Stable-Baselines3. [default: the one for the observations]")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--timesteps", help="Timesteps to train in all. [default: 100000, or what --zoo has]", min=1),
    ] = None,
    zoo: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="ALGO ENV",
            help="What RL Baselines3 Zoo has tuned for ENV, e.g. ppo Hopper-v4; instead of --env, --algo, --policy.",
        ),
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(
            help="A script that trains, instead of an agent of SB3: train.py, train.ipynb, '-m package.module', or a "
            'command as \'["torchrun", "train.py"]\'. See docs/scripts.md.'
        ),
    ] = None,
    resumable: Annotated[
        bool,
        typer.Option("--resumable", help="With --script: copy resumable.py, and what fits its framework, beside it."),
    ] = False,
    zoo_file: Annotated[
        Path | None, typer.Option(help="A file in the Zoo's form. [default: that of the installed rl_zoo3]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a section that trains your own environment.

    It is written to sections/NAME in the project you are in, else in this folder. If the training libraries are
    installed, the environment is tried: what it imports and reads is pinned and included, and its observations choose
    the policy. Otherwise its imports are followed, and what is guessed is reported. Ends with 3 when the section does
    not work yet; an environment that cannot be imported is a wrong --env, and nothing is written.

    --zoo writes the tuned hyperparameters, wrappers, normalisation and timesteps of RL Baselines3 Zoo, and names the
    values that section.toml cannot express.

    Examples:

      km init my_robot

      km init cartpole --env CartPole-v1 --algo PPO --timesteps 50000

      km init my_robot --env my_robot.env:RobotEnv --algo SAC

      km init hopper --zoo ppo Hopper-v4

      km init my_model --script train.py --resumable

      km init my_model --script '-m package.train'
    """
    from kaggle_manager.sections.new_script import new_script
    from kaggle_manager.sections.scaffold import new_section, project_for_new
    from kaggle_manager.sections.toml_text import text_of
    from kaggle_manager.sections.values import is_object
    from kaggle_manager.sections.zoo_files import zoo_training
    from kaggle_manager.sessions.env_needs import needs_of
    from kaggle_manager.sessions.known_before import lacking_imports
    from kaggle_manager.sessions.preflight import missing_packages, shown

    if zoo and (env or algo or policy):
        raise ConfigError(
            "--zoo says environment, algorithm and policy.",
            safe="nothing was written",
            next_step="leave out --env, --algo and --policy, or --zoo",
        )
    if zoo_file and not zoo:
        raise ConfigError(
            "--zoo-file goes with --zoo.",
            safe="nothing was written",
            next_step=f"name algorithm and environment: --zoo ppo Hopper-v4 --zoo-file {zoo_file}",
        )
    if script and (env or algo or policy or zoo):
        raise ConfigError(
            "--script trains by itself: it has no environment, algorithm or policy.",
            safe="nothing was written",
            next_step="leave out --env, --algo, --policy and --zoo, or --script",
        )
    if resumable and script is None:
        raise ConfigError(
            "--resumable needs --script.",
            safe="nothing was written",
            next_step="name the script that trains, such as --script train.py, or leave out --resumable",
        )
    here = Path.cwd()
    if (project := project_for_new(here)) != here:
        told(
            f"{here} is in the project {project}: the section goes there. For a project of its own, write a line "
            f"[tool.kaggle-manager] into {here / 'pyproject.toml'} first"
        )
    env = zoo[1] if zoo else env
    if looked_at := " and ".join(filter(None, [env, algo if algo and is_object(algo) else None])):
        told(f"looking at what {looked_at} needs ...")
    if script is not None:
        made = new_script(name, project, _words(script, here, project), target=steps, helper=resumable, pins=_pins)
    else:
        made = new_section(
            name,
            project,
            environment=env,
            algorithm=algo or "PPO",
            policy=policy,
            timesteps=steps,
            tuned=zoo_training(*zoo, zoo_file) if zoo else None,
            look=needs_of,
        )
    if not as_json:
        print(f"Section {name}, in the project {made.project}:")
        for file in made.files:
            print(f"  {file}")
        if zoo and made.origin:
            is_general = made.origin.endswith((", default", ", atari"))
            print(f"From {made.origin}" + f": it has no entry for {zoo[1]}" * is_general)
        for text in made.unsaid:
            print(f"Left out, because section.toml cannot express it: {text}")
    if made.wrapped is not None:
        told(
            "No algorithm learns from all that its observations are, such as texts, so section.toml has env_wrapper = "
            f"{text_of(made.wrapped)}: choose another one there where they should be seen otherwise"
        )
    missing = missing_packages(made.section, made.project)
    if not missing:
        told("trying the new section for some steps, which takes some seconds ...")
    checks: list[dict[str, Any]] = []
    if not missing:
        with reporter(as_json) as progress:
            options = {"quick": script is None, "evaluations": True}
            checks = shown(progress, made.project, made.section, (), **options)["checks"]
    if script is None:
        made.evaluate(every=_suggested(checks, "every"))
    ok = all(check["ok"] for check in checks)
    if as_json:
        facts = {
            "section": name,
            "project": str(made.project),
            "files": made.files,
            "not_tried_without": missing,
            "guessed": made.guessed,
            "unsaid": made.unsaid,
        }
        print_json({"schema": 1, "ok": ok, **facts, "checks": checks, "next": made.next_commands})
    else:
        if missing:
            for text in lacking_imports(made.project, made.section, made.section.scenario()):
                print(f"WARNING: {text}")
            todo = how_to_install(missing, made.section.kernel.packages)
            print(f"Not tried here, where {', '.join(missing)} would have to be installed: {todo}")
        if made.guessed:
            print(_guessed(made.section.agent().policy, "policy" in made.guessed))
        folder = made.section.folder
        where = f"{folder} (or delete that folder and begin again)" if script is None else f"the script or {folder}"
        print("Next:" if ok else f"Correct what it names, in {where}; then:")
        for command in made.next_commands:
            print(f"  {command}")
    if not ok:
        raise typer.Exit(VerificationError.exit_code)


def _suggested(checks: list[dict[str, Any]], key: str) -> int | None:
    """The number that a check says is better for a key of section.toml; None for none."""
    lines = (str(check.get("line", "")).partition(" = ") for check in checks)
    return next((int(value) for name, _, value in lines if name == key), None)


def _words(script: str, here: Path, project: Path) -> str | list[str]:
    """A script as section.toml names it: what is typed is relative to where the user stands."""
    if script.startswith("-m "):
        return script
    if script.startswith("["):
        with contextlib.suppress(ValueError):
            return list(json.loads(script))
        raise ConfigError(
            f"--script {script} is no list of words.",
            safe="nothing was written",
            next_step='write it as in \'["torchrun", "train.py"]\', with the single quotes around it for the shell',
        )
    path = (here / script).resolve()
    return path.relative_to(project.resolve()).as_posix() if path.is_relative_to(project.resolve()) else script


def _pins(modules: Iterable[str]) -> list[str]:
    from kaggle_manager.sessions.image_view import pins_for

    return pins_for(modules, ())


def _guessed(policy: str, policy_too: bool) -> str:
    """What to look at in a section whose environment could not be played."""
    guess = f'policy = "{policy}" is a guess (images: "CnnPolicy", dictionaries: "MultiInputPolicy"), and '
    return (
        f"The environment could not be played, so in section.toml {guess if policy_too else ''}environment_files and "
        "reward_files hold only what imports show: add the data files it reads, and to packages what it needs besides. "
        "A preflight names them where the environment works."
    )
