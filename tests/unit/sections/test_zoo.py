"""An entry of RL Baselines3 Zoo says in a section what it says there, key by key; what cannot be said is named."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections import zoo_files
from kaggle_manager.sections.environment_ids import with_module
from kaggle_manager.sections.hyperparameters import NAMES
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.sections.new_training import Training
from kaggle_manager.sections.scaffold import Needs, new_section
from kaggle_manager.sections.zoo import ALGORITHMS, entry_of, training_of
from kaggle_manager.sections.zoo_files import zoo_training
from kaggle_manager.sessions.env_needs import needs_of

HOPPER = """
default:
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'
atari:
  n_timesteps: !!float 1e7
  policy: 'CnnPolicy'
  env_wrapper:
    - stable_baselines3.common.atari_wrappers.AtariWrapper
  frame_stack: 4
  n_envs: 8
  learning_rate: lin_2.5e-4
CartPole-v1: &cartpole
  n_timesteps: 20_000
  policy: 'MlpPolicy'
  n_envs: 2
  normalize: true
  n_steps: 16
  batch_size: 32
  learning_rate: lin_0.001
  policy_kwargs: "dict(log_std_init=-2, ortho_init=False, activation_fn=nn.ReLU, net_arch=dict(pi=[16], vf=[16]))"
Pendulum-v1:
  <<: *cartpole
  gamma: 0.9
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tuned.yml"
    path.write_text(HOPPER)
    return path


def scenario_of(training: Training, place: Path, id: str = "CartPole-v1") -> ScenarioConfig:
    """What is read from the section that is written."""
    return new_section("mine", place, environment=id, tuned=training).section.scenario()


def said(place: Path, algorithm: str = "PPO", id: str = "CartPole-v1", **entry: Any) -> ScenarioConfig:
    training = training_of(algorithm, id, {"n_timesteps": 1e6, "policy": "MlpPolicy", **entry}, "ppo.yml")
    assert training.unsaid == ()
    return scenario_of(training, place, id)


@pytest.mark.parametrize(
    ("entry", "key", "value"),
    [
        ({"n_timesteps": 1e5}, "timesteps", 100_000),
        ({"policy": "my.module.Policy"}, "policy", "my.module:Policy"),
        ({"n_envs": 16}, "n_envs", 16),
        ({"n_envs": 1}, "n_envs", 1),
        ({"frame_stack": 4}, "frame_stack", 4),
        ({"env_wrapper": None}, "env_wrapper", []),
        ({"env_wrapper": "minigrid.wrappers.FlatObsWrapper"}, "env_wrapper", ["minigrid.wrappers:FlatObsWrapper"]),
        (
            {"env_wrapper": [{"rl_zoo3.wrappers.FrameSkip": {"skip": 2}}, "a.B"]},
            "env_wrapper",
            [{"rl_zoo3.wrappers:FrameSkip": {"skip": 2}}, "a:B"],
        ),
        (
            {"env_wrapper": [{"gymnasium.wrappers.time_limit.TimeLimit": {"max_episode_steps": 500}}]},
            "env_wrapper",
            [{"gymnasium.wrappers:TimeLimit": {"max_episode_steps": 500}}],
        ),
        ({"vec_env_wrapper": "a.b.VecC"}, "vec_env_wrapper", ["a.b:VecC"]),
        ({"callback": [{"a.b.Saves": {"every": 5}}]}, "callbacks", [{"a.b:Saves": {"every": 5}}]),
        ({"env_kwargs": {"g": 9.8}}, "environment_kwargs", {"id": "CartPole-v1", "g": 9.8}),
    ],
)
def test_a_key_of_the_zoo_is_a_key_of_the_scenario(entry: Any, key: str, value: Any, tmp_path: Path) -> None:
    assert getattr(said(tmp_path, **entry), key) == value


@pytest.mark.parametrize(
    ("given", "norm_obs", "norm_reward"),
    [
        (True, True, True),
        ("dict(norm_obs=True, norm_reward=False)", True, False),
        ("{'norm_obs': False, 'norm_reward': True}", False, True),
        ({"norm_obs": False}, False, True),
        ({}, True, True),
    ],
)
def test_normalisation_in_each_of_its_forms(given: Any, norm_obs: bool, norm_reward: bool, tmp_path: Path) -> None:
    normalize = said(tmp_path, normalize=given).normalize
    assert normalize is not None
    assert (normalize.norm_obs, normalize.norm_reward) == (norm_obs, norm_reward)


def test_no_normalisation_is_none(tmp_path: Path) -> None:
    assert said(tmp_path, normalize=False).normalize is None


def test_schedules_and_texts_of_python_are_hyperparameters(tmp_path: Path) -> None:
    policy_kwargs = "dict(net_arch=dict(pi=[256], vf=[256]), activation_fn=nn.ReLU, optimizer_class=RMSpropTFLike)"
    found = said(tmp_path, learning_rate="lin_7.3e-4", clip_range=0.2, policy_kwargs=policy_kwargs).hyperparameters
    assert found == {
        "learning_rate": "lin_7.3e-4",
        "clip_range": 0.2,
        "policy_kwargs": {
            "net_arch": {"pi": [256], "vf": [256]},
            "activation_fn": "torch.nn:ReLU",
            "optimizer_class": "stable_baselines3.common.sb2_compat.rmsprop_tf_like:RMSpropTFLike",
        },
    }


def test_a_text_with_none_stays_a_text_for_toml_has_no_null(tmp_path: Path) -> None:
    found = said(tmp_path, policy_kwargs="dict(net_arch=[8], activation_fn=None)").hyperparameters
    assert found["policy_kwargs"] == {"net_arch": [8], "activation_fn": None}


def test_noise_replay_and_frequency_of_an_off_policy_algorithm(tmp_path: Path) -> None:
    scenario = said(
        tmp_path,
        "TQC",
        "Pendulum-v1",
        noise_type="ornstein-uhlenbeck",
        noise_std=0.5,
        train_freq=[1, "episode"],
        replay_buffer_class="HerReplayBuffer",
        replay_buffer_kwargs="dict( goal_selection_strategy='future', n_sampled_goal=4, )",
    )
    assert scenario.noise is not None
    assert (scenario.noise.type, scenario.noise.std) == ("ornstein-uhlenbeck", 0.5)
    assert scenario.hyperparameters == {
        "train_freq": [1, "episode"],
        "replay_buffer_class": "stable_baselines3:HerReplayBuffer",
        "replay_buffer_kwargs": {"goal_selection_strategy": "future", "n_sampled_goal": 4},
    }


def test_ars_is_trained_in_one_environment_as_the_zoo_does(tmp_path: Path) -> None:
    assert said(tmp_path, "ARS", n_envs=16, n_delta=8).n_envs == 1


def test_a_recurrent_algorithm_has_a_recurrent_policy(tmp_path: Path) -> None:
    assert said(tmp_path, "RecurrentPPO").policy == "MlpLstmPolicy"
    assert said(tmp_path / "b", "RecurrentPPO", policy="CnnLstmPolicy").policy == "CnnLstmPolicy"
    assert said(tmp_path / "c", "RecurrentPPO", policy="my.module.Policy").policy == "my.module:Policy"


@pytest.mark.parametrize(
    ("id", "keywords"), [("parking-v0", ["is_success"]), ("PandaReach-v1", ["is_success"]), ("CartPole-v1", [])]
)
def test_environments_with_goals_log_their_success(id: str, keywords: list[str], tmp_path: Path) -> None:
    assert said(tmp_path, id=id).monitor_kwargs.info_keywords == keywords


@pytest.mark.parametrize(
    ("id", "as_made", "greedy"),
    [
        ("BreakoutNoFrameskip-v4", "ale_py:BreakoutNoFrameskip-v4", False),
        ("ALE/Breakout-v5", "ale_py:ALE/Breakout-v5", False),
        ("ale_py:ALE/Breakout-v5", "ale_py:ALE/Breakout-v5", False),
        ("MiniGrid-DoorKey-5x5-v0", "minigrid:MiniGrid-DoorKey-5x5-v0", False),
        ("PendulumNoVel-v1", "rl_zoo3.import_envs:PendulumNoVel-v1", True),
        ("HopperBulletEnv-v0", "pybullet_envs_gymnasium:HopperBulletEnv-v0", True),
        ("Hopper-v4", "Hopper-v4", True),
    ],
)
def test_an_environment_is_named_with_what_registers_it(id: str, as_made: str, greedy: bool, tmp_path: Path) -> None:
    scenario = said(tmp_path, id=id)
    assert scenario.environment == "gymnasium:make"
    assert scenario.environment_kwargs["id"] == as_made == with_module(id)
    assert scenario.evaluation.deterministic == greedy


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("my_module:CartPole-v1", "CartPole-v1"),
        ("Hopper-v5", "default"),
        ("ale_py:ALE/Pong-v5", "atari"),
    ],
)
def test_the_entry_is_that_of_the_environment_else_of_its_kind(id: str, name: str) -> None:
    entries = yaml.safe_load(HOPPER)
    assert entry_of(entries, id) == (name, entries[name])
    with pytest.raises(KeyError):
        entry_of({"Ant-v4": {}}, "Hopper-v5")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"learning_rat": 3e-4}, "learning_rat = 0.0003: PPO has no argument of that name"),
        ({"target_kl": None}, "target_kl = None: null"),
        ({"policy_kwargs": "dict(net_arch=open('x'))"}, "open('x') is not known"),
        ({"normalize": "dict(training=False)"}, "normalize.training = False"),
        ({"monitor_kwargs": {"reset_keywords": ["a"]}}, "monitor_kwargs.reset_keywords = ['a']"),
        ({"env_wrapper": [{"a.B": {"c": None}}]}, "env_wrapper = {'a.B': {'c': None}}: null"),
    ],
)
def test_what_cannot_be_said_is_named_and_left_out(entry: Any, words: str, tmp_path: Path) -> None:
    training = training_of("PPO", "CartPole-v1", {"n_timesteps": 8, "policy": "MlpPolicy", **entry}, "ppo.yml")
    assert len(training.unsaid) == 1
    assert words in training.unsaid[0]
    made = new_section("mine", tmp_path, environment="CartPole-v1", tuned=training)
    assert made.unsaid == training.unsaid
    assert made.section.scenario().hyperparameters == {}


@pytest.mark.parametrize("n_envs", [1, 8, 32])
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS.values()))
def test_the_quick_run_of_a_tuned_training_is_two_short_rollouts(algorithm: str, n_envs: int, tmp_path: Path) -> None:
    entry = {"gradient_steps": 64} if "gradient_steps" in NAMES[algorithm] else {}
    scenario = said(tmp_path, algorithm, n_envs=n_envs, **entry)
    quick = scenario.for_quick()
    assert 2 * quick.rollout <= quick.timesteps <= 8 * max(n_envs, 8)
    assert quick.environment_kwargs["max_episode_steps"] == 10
    assert quick.hyperparameters.get("gradient_steps", 1) == 1


def test_goals_are_learned_from_whole_episodes_so_a_quick_run_has_one(tmp_path: Path) -> None:
    quick = said(tmp_path, "SAC", replay_buffer_class="HerReplayBuffer").for_quick()
    episode = quick.environment_kwargs["max_episode_steps"]
    assert episode < quick.hyperparameters["learning_starts"] < quick.timesteps - 2


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_in_the_form_of_the_zoo_is_read_with_its_anchors(file: Path) -> None:
    training = zoo_training("ppo", "Pendulum-v1", file)
    assert (training.algorithm, training.n_envs, training.hyperparameters["gamma"]) == ("PPO", 2, 0.9)
    assert training.origin == "tuned.yml, Pendulum-v1"
    assert zoo_training("PPO", "Hopper-v4", file).origin == "tuned.yml, default"


@pytest.mark.parametrize(
    ("algorithm", "id", "text", "words"),
    [
        ("dqnn", "CartPole-v1", "{}", "no algorithm 'dqnn'"),
        ("ppo", "CartPole-v1", "Ant-v4: {policy: MlpPolicy}", "no entry for CartPole-v1, and no default"),
        ("ppo", "CartPole-v1", "- 3", "is not a hyperparameter file"),
        ("ppo", "CartPole-v1", "a: [", "cannot be read"),
        ("ppo", "CartPole-v1", "CartPole-v1: {n_timesteps: many}", "entry CartPole-v1 is not in the form.*many"),
        ("ppo", "CartPole-v1", "CartPole-v1: {n_envs: 0}", "entry CartPole-v1 is not in the form.*n_envs = 0"),
        (
            "ppo",
            "CartPole-v1",
            "CartPole-v1: {n_timesteps: .inf}",
            "n_timesteps = inf; accepted: a number of",
        ),
        (
            "ppo",
            "CartPole-v1",
            "CartPole-v1: {n_timesteps: .nan}",
            "n_timesteps = nan; accepted: a number of",
        ),
        ("ppo", "CartPole-v1", "CartPole-v1: {n_timesteps: [1]}", r"n_timesteps = \[1\]; accepted: a number of time"),
        ("ppo", "CartPole-v1", "default: {policy: 3}", "entry default is not in the form"),
        ("sac", "Pendulum-v1", "default: {noise_type: normal}", "entry default is not in the form.*noise_std"),
        ("ppo", "CartPole-v1", "default: {env_wrapper: [{a.B: {}, c.D: {}}]}", "entry default is not in the form"),
    ],
)
def test_what_is_no_file_of_the_zoo_is_said(algorithm: str, id: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        zoo_training(algorithm, id, tmp_path / "a.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        zoo_training("ppo", id, tmp_path / "none.yml")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"learning_rate": "fast"}, "learning_rate: given 'fast'"),
        ({"gamma": math.nan}, r"hyperparameters\.gamma: given nan; accepted: a number"),
        ({"policy_kwargs": {"log_std_init": math.nan}}, r"policy_kwargs\.log_std_init: given nan"),
        ({"normalize": {"clip_obs": math.nan}}, r"normalize\.clip_obs: given nan"),
        ({"env_kwargs": {"wind": math.nan}}, r"environment_kwargs\.wind: given nan"),
        ({"frame_stack": math.nan}, r"frame_stack: given nan"),
    ],
)
def test_an_entry_that_makes_no_valid_section_is_named_and_nothing_is_written(
    entry: dict[str, Any], said: str, tmp_path: Path
) -> None:
    tuned = training_of("PPO", "CartPole-v1", entry, "tuned.yml, default")
    with pytest.raises(ConfigError, match=said) as refused:
        new_section("mine", tmp_path, environment="CartPole-v1", tuned=tuned)
    assert refused.value.safe == "nothing was written"
    assert "tuned.yml, default" in refused.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_without_yaml_or_the_zoo_it_is_said_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"(?s)not installed here.*kaggle-manager\[zoo\].*--zoo-file"):
        zoo_training("ppo", "CartPole-v1")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ConfigError, match="pyyaml"):
        zoo_training("ppo", "CartPole-v1", file)


def test_what_brings_an_environment_is_pinned_where_it_could_not_be_played(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = training_of("PPO", "Hopper-v4", {"policy": "MlpPolicy", "env_wrapper": "rl_zoo3.wrappers.FrameSkip"}, "")
    made = new_section("mine", tmp_path, environment="Hopper-v4", tuned=wrapped, look=lambda *_: Needs())
    packages = {pin.partition("==")[0] for pin in made.section.kernel.packages}
    assert packages == {"mujoco", "rl_zoo3", "stable-baselines3", "gymnasium"}
    calls = training_of("PPO", "CartPole-v1", {"callback": "rl_zoo3.callbacks.RawStatisticsCallback"}, "")
    played = new_section("b", tmp_path, environment="CartPole-v1", tuned=calls, look=lambda *_: Needs("MlpPolicy"))
    assert "rl_zoo3" in {pin.partition("==")[0] for pin in played.section.kernel.packages}
    lunar = new_section("moon", tmp_path, environment="LunarLander-v3", algorithm="QRDQN")
    assert {pin.partition("==")[0] for pin in lunar.section.kernel.packages} >= {"box2d", "sb3-contrib"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--zoo", "ppo", "CartPole-v1", "--algo", "DQN"], "leave out --env, --algo and --policy"),
        (["--zoo-file", "a.yml"], "--zoo-file goes with --zoo"),
    ],
)
def test_options_that_do_not_go_together_write_nothing(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "mine", *options])
    assert done.exit_code == 2
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_tuned_section_works_as_it_is_written(file: Path, tmp_path: Path) -> None:
    """Two environments with running normalisation, a schedule and a network in the Zoo's text: its checks pass."""
    command = [sys.executable, "-m", "kaggle_manager.cli", "init", "mine", "--zoo", "ppo", "CartPole-v1"]
    done = subprocess.run(
        [*command, "--zoo-file", str(file)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot express" not in done.stdout
    assert "# From tuned.yml, CartPole-v1." in (tmp_path / "sections/mine/section.toml").read_text()


DOES_NOT_WORK = """
import gymnasium as gym


class Talks(gym.Env):
    observation_space, action_space = gym.spaces.Dict({"seen": gym.spaces.Discrete(3)}), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"seen": 0}, {}

    def step(self, action):
        raise RuntimeError("no licence")
"""


@pytest.mark.slow
def test_an_entry_for_any_environment_is_called_that_and_one_that_does_not_work_is_asked_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talks.py").write_text(DOES_NOT_WORK)
    (tmp_path / "general.yml").write_text("default:\n  policy: MultiInputPolicy\n")
    monkeypatch.chdir(tmp_path)
    options = ["--zoo", "ppo", "talks:Talks", "--zoo-file", "general.yml"]
    done = CliRunner().invoke(app, ["init", "mine", *options])
    assert done.exit_code == 3
    assert "From general.yml, default: it has no entry for talks:Talks\n" in done.stdout
    assert "FAILED  mine: " in done.stdout
    assert "what evaluations take" not in done.stdout, "whatever went wrong there is not a second trouble"


@pytest.mark.skipif(importlib.util.find_spec("rl_zoo3") is None, reason="needs rl_zoo3: pip install '.[zoo]'")
def test_every_entry_of_the_installed_zoo_can_be_said(tmp_path: Path) -> None:
    count = 0
    for short in ALGORITHMS:
        for name, entry in zoo_files.read(zoo_files.file_of(short)).items():
            count += 1
            id = {"default": "CartPole-v1", "atari": "BreakoutNoFrameskip-v4"}.get(name, name)
            training = training_of(ALGORITHMS[short], id, entry, f"{short}.yml, {name}")
            assert training.unsaid == (), name
            scenario_of(training, tmp_path / str(count), with_module(id))
    assert count > 200
    assert "rl_zoo3" not in sys.modules, "only its files are read"


@pytest.mark.slow
def test_a_wrapper_that_is_not_here_is_named_with_the_environment_and_nothing_is_written(tmp_path: Path) -> None:
    tuned = Training("PPO", 8, keys={"env_wrapper": "ae_of_nobody.wrapper:AutoencoderWrapper"})
    with pytest.raises(ConfigError) as refused:
        new_section("mine", tmp_path, environment="CartPole-v1", tuned=tuned, look=needs_of)
    assert "'CartPole-v1' cannot be imported" in refused.value.message
    assert "No module named 'ae_of_nobody'" in refused.value.message
    assert "Safe:" not in refused.value.message
    assert list(tmp_path.iterdir()) == []
