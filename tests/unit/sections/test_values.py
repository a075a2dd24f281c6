"""What TOML has no form for is read by its text, and what cannot be read is refused by its key in full."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.hyperparameters import unknown
from kaggle_manager.sections.model import ScenarioConfig, load_section
from kaggle_manager.sections.values import Refused, from_zoo, points_of

SECTION = """
name = "task"
title = "A task"
trains = true
default_scenario = "one"
[scenarios.one]
environment = "gymnasium:make"
algorithm = "SAC"
timesteps = 1000
models = "models"
{keys}
[scenarios.one.quick]
models = "quick"
"""


def scenario(folder: Path, keys: str, algorithm: str = "SAC") -> ScenarioConfig:
    """With these keys, of which those of `quick` come in its table."""
    toml = folder / "task" / "section.toml"
    toml.parent.mkdir()
    text = SECTION.format(keys="" if keys.startswith("quick.") else keys).replace("SAC", algorithm)
    toml.write_text(text + keys.removeprefix("quick.") * keys.startswith("quick."))
    return load_section(toml).scenario("one")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(net_arch=[400, 300])", {"net_arch": [400, 300]}),
        ("{'norm_obs': True, 'norm_reward': False}", {"norm_obs": True, "norm_reward": False}),
        (
            "dict(log_std_init=-2,\n ortho_init=False, activation_fn=nn.ReLU, net_arch=dict(pi=[8], vf=[8]))",
            {
                "log_std_init": -2,
                "ortho_init": False,
                "activation_fn": "torch.nn:ReLU",
                "net_arch": {"pi": [8], "vf": [8]},
            },
        ),
        (
            "dict(optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(eps=1e-5, betas=(0.9, 0.99)))",
            {
                "optimizer_class": "stable_baselines3.common.sb2_compat.rmsprop_tf_like:RMSpropTFLike",
                "optimizer_kwargs": {"eps": 1e-5, "betas": [0.9, 0.99]},
            },
        ),
        ("dict(optimizer_class=th.optim.AdamW)", {"optimizer_class": "torch.optim:AdamW"}),
    ],
)
def test_a_text_of_the_zoo_is_what_it_would_be_in_toml(text: str, value: Any) -> None:
    assert from_zoo(text) == value


@pytest.mark.parametrize(
    "text", ["dict(a=__import__('os').mkdir('x'))", "dict(**{})", "dict(a=open)", "dict(", "1 + 1"]
)
def test_nothing_of_a_text_is_evaluated(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused):
        from_zoo(text)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("lin_3e-4", [3e-4, 1.5e-4, 0.0]),
        ({"linear": [4.0, 2]}, [4.0, 3.0, 2.0]),
        ({"cosine": [4.0, 2.0]}, [4.0, 3.0, 2.0]),
        ({"piecewise": [[0.0, 4.0], [0.5, 1.0]]}, [4.0, 1.0, 1.0]),
    ],
)
def test_a_schedule_is_a_line_of_points(value: Any, at: list[float]) -> None:
    points = points_of(value)
    assert points is not None
    assert points[0] == (0.0, at[0])
    assert np.interp(0.5, *zip(*points, strict=True)) == pytest.approx(at[1])
    assert points[-1][1] == at[2]


def test_every_key_is_read(tmp_path: Path) -> None:
    found = scenario(
        tmp_path,
        """
n_envs = 8
vec_env = "subproc"
normalize = "dict(norm_obs=True, norm_reward=False)"
frame_stack = 4
env_wrapper = "my_module:Skip"
vec_env_wrapper = [{ "my_module:Shift" = { by = 2 } }, "my_module:Last"]
monitor_kwargs = "dict(info_keywords=('is_success',))"
eval_env_kwargs = { loud = true }
noise = { type = "ornstein-uhlenbeck", std = 0.1 }
policy = "my_module:MyPolicy"
hyperparameters.policy_kwargs = "dict(activation_fn=nn.ReLU)"
""",
    )
    assert found.normalize is not None
    assert found.noise is not None
    assert (found.n_envs, found.vec_env, found.frame_stack) == (8, "subproc", 4)
    assert (found.normalize.norm_obs, found.normalize.norm_reward, found.normalize.gamma) == (True, False, None)
    assert found.env_wrapper == ["my_module:Skip"]
    assert found.vec_env_wrapper == [{"my_module:Shift": {"by": 2}}, "my_module:Last"]
    assert found.monitor_kwargs.info_keywords == ["is_success"]
    assert found.hyperparameters == {"policy_kwargs": {"activation_fn": "torch.nn:ReLU"}}
    assert found.for_quick().model_dump(exclude={"models", "timesteps", "save_every"}) == found.model_dump(
        exclude={"models", "timesteps", "save_every"}
    )


@pytest.mark.parametrize(
    ("keys", "key", "given", "accepted"),
    [
        ("normalize = { norm_obs = 3 }", "normalize.norm_obs", "3", "a valid boolean"),
        ("normalize = { norm_obss = true }", "normalize.norm_obss", "", "did you mean norm_obs?"),
        ("normalize = 'yes'", "normalize", "'yes'", "a valid dictionary"),
        ("n_envs = 0", "n_envs", "0", "greater than 0"),
        ("vec_env = 'threads'", "vec_env", "'threads'", "'dummy' or 'subproc'"),
        ("env_wrapper = 'Skip'", "env_wrapper", "'Skip'", '"module:Class", {'),
        ("env_wrapper = ['a:B', { 'a:B' = 3 }]", "env_wrapper.1", "{'a:B': 3}", '"module:Class", {'),
        ("noise = { type = 'gauss', std = 0.1 }", "noise.type", "'gauss'", "'normal' or 'ornstein-uhlenbeck'"),
        ("noise = { type = 'normal', std = -1 }", "noise.std", "-1", "greater than or equal to 0"),
        ("policy = 'my_module.Policy'", "policy", "'my_module.Policy'", "such as MlpPolicy, or an object"),
        ("hyperparameters = { learning_rate = 'fast' }", "hyperparameters.learning_rate", "'fast'", 'a number, "lin_'),
        ("hyperparameters = { learning_rate = { cosine = [1] } }", "hyperparameters.learning_rate", "", "two numbers"),
        (
            "hyperparameters = { policy_kwargs = { activation_fn = 'tanh' } }",
            "hyperparameters.policy_kwargs.activation_fn",
            "'tanh'",
            "an object as module:Name, such as torch.nn:ReLU",
        ),
        ("hyperparameters = { action_noise = 'normal' }", "hyperparameters.action_noise", "'normal'", "an object as"),
        ("hyperparameters = { replay_buffer_class = 3 }", "hyperparameters.replay_buffer_class", "3", "an object as"),
        ("hyperparameters = { policy_kwargs = 'dict(a=b)' }", "hyperparameters.policy_kwargs", "", "b is not known"),
        ("quick.hyperparameters = { learning_rate = 'x' }", "quick.hyperparameters.learning_rate", "'x'", "a number"),
        ("hyperparameters = { gamma = 'lin_0.9' }", "hyperparameters.gamma", "'lin_0.9'", "is for learning_rate, cl"),
        ("hyperparameters = { tau = { linear = [1, 0] } }", "hyperparameters.tau", "{'linear'", "a value that stays"),
        ("hyperparameters = { gamma = nan }", "hyperparameters.gamma", "nan", "a number"),
        ("hyperparameters = { learning_rate = 'lin_nan' }", "hyperparameters.learning_rate", "'lin_nan'", "a number, "),
        ("quick.hyperparameters = { policy_kwargs = { a = [1, nan] } }", "policy_kwargs.a.1", "nan", "a number"),
        ("environment_kwargs = { wind = nan }", "environment_kwargs.wind", "nan", "a number"),
        ("env_wrapper = { 'a:B' = { most = nan } }", "env_wrapper.a:B.most", "nan", "a number"),
        ("normalize = { clip_obs = nan }", "normalize.clip_obs", "nan", "greater than 0"),
        ("monitor_kwargs = { filename = 'x' }", "monitor_kwargs.filename", "", "allow_early_resets, info_keywords"),
        ("noise = { type = 'normal', std = 0.1 }\nhyperparameters.action_noise = 'a:B'", "noise", "", "one of it and"),
    ],
)
def test_a_value_that_is_refused_is_named_with_what_is_accepted(
    keys: str, key: str, given: str, accepted: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        scenario(tmp_path, keys)
    said = str(error.value)
    assert re.search(rf"scenarios\.one\.([\w.]+\.)?{key}: ", said)
    assert not given or f"given {given}" in said
    assert accepted in said


def test_noise_is_refused_for_an_algorithm_that_takes_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scenarios\.one\.noise: given .* accepted: nothing with PPO"):
        scenario(tmp_path, "noise = { type = 'normal', std = 0.1 }", "PPO")


def test_what_stands_for_one_thing_is_replaced_and_not_merged(tmp_path: Path) -> None:
    toml = tmp_path / "task" / "section.toml"
    toml.parent.mkdir()
    keys = "hyperparameters = { learning_rate = { linear = [1, 0] }, gamma = 0.9 }\n"
    toml.write_text(
        SECTION.format(keys=keys)
        + "hyperparameters = { learning_rate = { cosine = [2, 1] } }\n"
        + '[scenarios.two]\nextends = "one"\nmodels = "two"\nquick.models = "two_quick"\n'
        + "hyperparameters = { learning_rate = 'lin_1' }\n"
    )
    section = load_section(toml)
    assert section.scenario("one").for_quick().hyperparameters == {"learning_rate": {"cosine": [2, 1]}, "gamma": 0.9}
    assert section.scenario("two").hyperparameters == {"learning_rate": "lin_1", "gamma": 0.9}


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "rollout"),
    [
        ("SAC", "train_freq = 4, n_steps = 3", 32),
        ("SAC", "train_freq = [1, 'episode']", 8),
        ("PPO", "", 8 * 2048),
        ("PPO", "n_steps = 16", 128),
    ],
)
def test_a_rollout_is_of_all_environments(algorithm: str, hyperparameters: str, rollout: int, tmp_path: Path) -> None:
    found = scenario(tmp_path, f"n_envs = 8\nhyperparameters = {{ {hyperparameters} }}", algorithm)
    assert found.rollout == rollout
    assert ("n_envs = 8): " in found.overshoot(1)) == (rollout > 1)


@pytest.mark.parametrize(("n_envs", "timesteps"), [(1, 32), (2, 64), (4, 128)])
def test_a_quick_run_has_two_rollouts_however_many_environments_were_added(
    n_envs: int, timesteps: int, tmp_path: Path
) -> None:
    keys = f"n_envs = {n_envs}\nhyperparameters = {{ n_steps = 16 }}"
    written = scenario(tmp_path, keys, "PPO")
    quick = written.model_copy(update={"quick": written.quick.model_copy(update={"timesteps": 32})}).for_quick()
    assert (quick.timesteps, quick.overshoot(quick.timesteps)) == (timesteps, "")
    assert quick.for_quick() == quick


def test_the_argument_of_another_algorithm_is_not_taken_for_a_slip() -> None:
    assert "did you mean" not in unknown("SAC", ["n_epochs"])[0]
    assert unknown("SAC", ["batchsize"])[0].endswith("did you mean batch_size?")
