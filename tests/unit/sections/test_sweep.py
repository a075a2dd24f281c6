"""`[sweep]` of section.toml: what is wrong with one is said at its key, and a trial is a scenario of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaggle_manager.errors import ConfigError, StorageError
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.model import ScenarioConfig, Section
from kaggle_manager.sections.project import get_section
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sections.trial import STUDY_FILE, Trial, find_trial, study_folder

AGENT = """
name = "toy"
title = "Toy"
trains = true
default_scenario = "pole"

[scenarios.pole]
environment = "gymnasium:make"
environment_kwargs = { id = "CartPole-v1" }
algorithm = "PPO"
hyperparameters = { n_steps = 64, learning_rate = { linear = [3e-4, 0.0] } }
timesteps = 1000
seed = 1
evaluation = { every = 200 }
models = "data/models"
quick = { models = "data/models_quick" }

"""
SCRIPT = """
name = "toy"
title = "Toy"
trains = true
default_scenario = "fit"

[scenarios.fit]
script = "train.py"
arguments = ["--lr", "0.1", "--depth=3", "width=8", "-q"]
target = 40
models = "data/models"
quick = { models = "data/models_quick" }

"""
SWEEP = '[sweep]\nmetric = "reward"\ndirection = "maximize"\ntrials = 4\n'
SPACE = "[sweep.space]\nhyperparameters.learning_rate = { low = 1e-5, high = 1e-2, log = true }\n"


def section(tmp_path: Path, text: str) -> Section:
    folder = tmp_path / "sections" / "toy"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "section.toml").write_text(text)
    return get_section(tmp_path, "toy")


def test_keys_are_whole_however_toml_nests_them(tmp_path: Path) -> None:
    space = '[sweep.space]\n"hyperparameters.gamma" = { choices = [0.9, 0.99] }\n[sweep.space.hyperparameters]\n'
    space += "n_steps = { low = 32, high = 128, step = 32 }\npolicy_kwargs.net_arch = { choices = [[8], [8, 8]] }\n"
    sweep = section(tmp_path, AGENT + SWEEP + space).sweep
    assert sweep is not None
    assert {*sweep.space} == {f"hyperparameters.{key}" for key in ("gamma", "n_steps", "policy_kwargs.net_arch")}
    assert sweep.stops(1000) == (1000,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SWEEP, "sweep.space: is required"),
        (SWEEP + "space = {}", "sweep.space"),
        (SWEEP + "[sweep.space]\nhyperparameters.gamma = 0.9", r"space.*gamma.*\{ low = ..., high = ... \}"),
        (SWEEP + "[sweep.space]\nhyperparameters.gamma = { low = 1, high = 0 }", "low < high"),
        (SWEEP + "[sweep.space]\nhyperparameters.gamma = { low = 0.0, high = 1, log = true }", "above zero"),
        (SWEEP + "[sweep.space]\nhyperparameters.gamma = { low = 0, high = 1, hgih = 2 }", "given 'hgih'"),
        (SWEEP + "[sweep.space]\nhyperparameters.gamma = { choices = [] }", "gamma"),
        (SWEEP + "[sweep.space]\nhyperparameters.gama = { choices = [0.9] }", "space.hyperparameters.gama.*gamma"),
        (SWEEP + '[sweep.space]\nhyperparameters.learning_rate = { choices = ["x"] }', "learning_rate: given 'x'"),
        (SWEEP + "[sweep.space]\ntimesteps = { low = 10, high = 20 }", "space.timesteps"),
        (SWEEP + "[sweep.space]\nn_envs = { low = -1, high = 2 }", "space.n_envs: given -1"),
        (SWEEP.replace("reward", "rewad") + SPACE, "sweep.metric: given 'rewad'; accepted: reward"),
        (SWEEP + "rungs = [400, 200]\n" + SPACE, "sweep.rungs.*rise"),
        (SWEEP + "rungs = [400, 1000]\n" + SPACE, "sweep.rungs.*below the target, 1,000"),
        (SWEEP + "rungs = [100, 400]\n" + SPACE, "sweep.rungs.*first evaluation.*at 200"),
        (SWEEP + 'scenario = "poll"\n' + SPACE, "sweep.scenario: given 'poll'; accepted: pole"),
        (SWEEP.replace("maximize", "max") + SPACE, "sweep.direction: given 'max'"),
    ],
)
def test_what_cannot_be_swept_is_refused_at_its_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        section(tmp_path, AGENT + text)


def test_a_trial_is_a_scenario_with_its_values_and_a_tree_of_its_own(tmp_path: Path) -> None:
    whole = section(tmp_path, AGENT + SWEEP + SPACE)
    values = {"hyperparameters.learning_rate": 1e-3, "environment_kwargs.render_mode": None, "n_envs": 2}
    trial = Trial(of="pole", number=3, values=values)
    own = trial.added_to(whole).scenario("pole_trial_3")
    assert isinstance(own, ScenarioConfig)
    assert own.hyperparameters == {"n_steps": 64, "learning_rate": 1e-3}, "it replaces a schedule"
    assert own.environment_kwargs == {"id": "CartPole-v1", "render_mode": None}
    assert (own.n_envs, own.models, own.quick.models) == (2, "data/models_trial_3", "data/models_quick_trial_3")
    assert own.for_seed(9).models == "data/models_trial_3_seed_9"
    one = identity_of(trial.added_to(whole), "pole_trial_3", tmp_path)
    other = trial.model_copy(update={"values": {**values, "n_envs": 1}})
    assert one != identity_of(other.added_to(whole), "pole_trial_3", tmp_path)
    assert "sweep" not in json.dumps(identity_of(whole, "pole", tmp_path))


def test_arguments_of_a_script_are_named_and_have_to_be_there(tmp_path: Path) -> None:
    sweep = SWEEP.replace("reward", "loss") + "[sweep.space]\n"
    whole = section(tmp_path, SCRIPT + sweep + "arguments.lr = { low = 0.0, high = 1 }")
    values = {"arguments.lr": 0.5, "arguments.depth": 4, "arguments.width": "wide"}
    own = Trial(of="fit", number=0, values=values).scenario(whole)
    assert isinstance(own, ScriptScenario)
    assert own.arguments == ["--lr", "0.5", "--depth=4", "width=wide", "-q"]
    for wrong in ("arguments.rl", "hyperparameters.lr", "arguments.q"):
        with pytest.raises(ConfigError, match=r"sweep.space.*arguments\.NAME"):
            section(tmp_path, SCRIPT + sweep + f"{wrong} = {{ low = 0.0, high = 1 }}")


def test_no_scenario_lies_where_a_trial_of_another_would(tmp_path: Path) -> None:
    other = AGENT.partition("[scenarios.pole]")[2].replace("data/models", "data/models_trial_1")
    with pytest.raises(ConfigError, match="lies in the training tree"):
        section(tmp_path, AGENT + "[scenarios.other]" + other)


def test_a_trial_is_found_by_the_name_of_its_scenario(tmp_path: Path) -> None:
    folder = study_folder(tmp_path, "toy")
    folder.mkdir(parents=True)
    assert find_trial(tmp_path, "toy", "pole_trial_3") is None
    (folder / STUDY_FILE).write_text('{"schema": 1, "trials": [{"number": 3, "values": {"n_envs": 2}}]}')
    assert find_trial(tmp_path, "toy", "pole_trial_3") == Trial(of="pole", number=3, values={"n_envs": 2})
    assert find_trial(tmp_path, "toy", "pole_trial_4") is None
    assert find_trial(tmp_path, "toy", "pole") is None
    (folder / STUDY_FILE).write_text('{"trials": ')
    with pytest.raises(StorageError, match=r"study\.json cannot be read"):
        find_trial(tmp_path, "toy", "pole_trial_3")
