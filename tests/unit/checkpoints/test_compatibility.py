"""Which differences refuse a checkpoint, which are told, and that none is passed over in silence."""

from __future__ import annotations

from typing import Any

import pytest

from kaggle_manager.checkpoints import Level, compare
from kaggle_manager.checkpoints.sources import MOST_KEPT, from_bytes, to_bytes
from kaggle_manager.checkpoints.sources import changed as changed_files

IDENTITY: dict[str, Any] = {
    "scenario": "traffic",
    "algorithm": "DQN",
    "policy_architecture": [64, 64],
    "observation_space_shape": [26],
    "action_space_shape": [2],
    "hyperparameters": {"learning_rate": 1e-3, "gamma": 0.99, "verbose": 0},
    "environment_fingerprint": "e" * 64,
    "reward_fingerprint": "r" * 64,
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    "device": "cpu",
    "seed": 42,
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**IDENTITY, **changes}


def test_the_same_experiment_is_ok_and_a_tuple_is_a_list() -> None:
    verdict = compare(IDENTITY, changed(policy_architecture=(64, 64)))
    assert (verdict.level, verdict.differences) == (Level.OK, ())


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "PPO"},
        {"policy_architecture": [128, 128]},
        {"observation_space_shape": [43]},
        {"action_space_shape": [3]},
        {"environment_fingerprint": "f" * 64},
        {"reward_fingerprint": "f" * 64},
        {"scenario": "other"},
        {"hyperparameters": {"learning_rate": 1e-4, "gamma": 0.99, "verbose": 0}},
        {"hyperparameters": {"learning_rate": 1e-3, "gamma": 0.99, "verbose": 0, "tau": 1.0}},
        {"hyperparameters": {"gamma": 0.99, "verbose": 0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_would_make_the_weights_wrong_is_refused(change: dict[str, Any]) -> None:
    verdict = compare(IDENTITY, changed(**change))
    assert verdict.refused
    assert len(verdict.differences) == 1
    assert verdict.differences[0].what_to_do


@pytest.mark.parametrize(
    "change",
    [
        {"versions": {"torch": "2.12.0", "numpy": "2.4.6"}},
        {"device": "cuda"},
        {"seed": 7},
        {"target": 200_000},
        {"hyperparameters": {"learning_rate": 1e-3, "gamma": 0.99, "verbose": 1}},
        {"observation_space_shape": None},
        {"something_new": 1},
    ],
    ids=str,
)
def test_what_the_training_survives_is_told(change: dict[str, Any]) -> None:
    verdict = compare(IDENTITY, changed(**change))
    assert verdict.level is Level.WARN
    assert len(verdict.differences) == 1


@pytest.mark.parametrize("name", ["algorithm", "hyperparameters", "environment_fingerprint", "reward_fingerprint"])
def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(name: str) -> None:
    silent = {key: value for key, value in IDENTITY.items() if key != name}
    assert compare(silent, IDENTITY).refused
    assert compare(IDENTITY, silent).level is Level.WARN
    assert compare(silent, silent).refused


def test_every_difference_is_listed_the_grave_ones_first() -> None:
    current = changed(device="cuda", algorithm="PPO", policy_architecture=[128, 128])
    verdict = compare(IDENTITY, current)
    lines = [str(difference) for difference in verdict.differences]
    assert len(lines) == 3
    assert "Architecture: checkpoint=[64, 64], current=[128, 128]" in lines[1]
    assert lines[2].startswith("WARN Device")
    assert verdict.differences[2].as_warning.startswith("Device"), "what shows it says already that it is a warning"


NORMALIZE = {
    "norm_obs": True,
    "norm_reward": True,
    "clip_obs": 10.0,
    "clip_reward": 10.0,
    "gamma": 0.99,
    "epsilon": 1e-8,
}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"normalize": NORMALIZE}, {"normalize": {**NORMALIZE, "gamma": 0.9}}, "gamma: checkpoint=0.99, current=0.9"),
        ({"normalize": NORMALIZE}, {"normalize": False}, "checkpoint={'norm_obs': True, 'norm_reward': "),
        (
            {"env_wrapper": ["a:B", {"c:D": {"text": "x" * 80, "by": 1}}]},
            {"env_wrapper": ["a:B", {"c:D": {"text": "x" * 80, "by": 2}}]},
            "1.c:D.by: checkpoint=1, current=2",
        ),
        (
            {"environment_kwargs": {"id": "x" * 80, "wind": 1}},
            {"environment_kwargs": {"id": "x" * 80}},
            "wind: checkpoint=1, current=not stated",
        ),
        ({"frame_stack": 1}, {"frame_stack": 4}, "checkpoint=1, current=4"),
        (
            {"noise": {str(number): "y" * 20 for number in range(9)}},
            {"noise": {str(number): "z" * 20 for number in range(9)}},
            f"0: checkpoint={'y' * 20}, current={'z' * 20}; 1: ",
        ),
    ],
)
def test_of_what_is_long_the_part_that_differs_is_shown(old: dict[str, Any], new: dict[str, Any], said: str) -> None:
    [found] = compare(changed(**old), changed(**new)).differences
    assert found.said.startswith(said)
    assert found.severity is Level.REFUSE
    assert len(found.said) < 600


MODEL = {"gamma": 0.99, "n_steps": 64}


@pytest.mark.parametrize(
    ("old", "new", "level"),
    [
        (MODEL, MODEL, Level.OK),
        (MODEL, {**MODEL, "gamma": 0.9}, Level.REFUSE),
        (MODEL, {**MODEL, "tau": 1.0}, Level.WARN),
        ({**MODEL, "tau": 1.0}, MODEL, Level.WARN),
    ],
)
def test_a_hyperparameter_of_a_model_that_was_made_by_code_is_compared_where_both_have_it(
    old: dict[str, Any], new: dict[str, Any], level: Level
) -> None:
    assert compare(changed(made_by_build=old), changed(made_by_build=new)).level is level


# --- what has changed -------------------------------------------------------------------------------------------------

OLD = 'def reward(state):\n    """What it is worth."""\n    return -abs(state)\n'
NEW = OLD.replace("-abs", "-2 * abs").replace("worth", "worth now")


def sources(**texts: str | None) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Of an environment and a reward made of the same files."""
    files = {f"{name}.py": (str(text), text) for name, text in texts.items()}
    return {"environment_fingerprint": files, "reward_fingerprint": files}


def test_changed_sources_are_named_and_shown_once_and_no_digest_is() -> None:
    both = changed(environment_fingerprint="f" * 64, reward_fingerprint="f" * 64)
    verdict = compare(IDENTITY, both, then=sources(task=OLD, other="1"), now=sources(task=NEW, other="1"))
    shown = "\n".join(map(str, verdict.differences))
    assert verdict.can_be_accepted
    assert shown.count("REFUSE Sources of the environment: task.py changed") == 1
    assert shown.count("-    return -abs(state)") == shown.count("+    return -2 * abs(state)") == 1
    assert "other.py" not in shown
    assert "ffff" not in shown
    assert "eeee" not in compare(IDENTITY, both).differences[0].__str__()


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        (sources(a=OLD, b="1"), sources(a=OLD), "b.py is not named any more"),
        (sources(a=OLD), sources(a=OLD, b="1"), "b.py was not named then"),
        (sources(a=None), sources(a="1"), "a.py: its old content is not kept"),
        (sources(a="\n".join(map(str, range(2000)))), sources(a=""), "and 1,964 more lines"),
        (sources(a="\x1b[31mred\x1b[0m\x07" + "x" * 9999), sources(a=""), "    -red"),
    ],
)
def test_whatever_has_changed_is_bounded_text_that_can_be_shown(then: Any, now: Any, said: str) -> None:
    kept = from_bytes(to_bytes(then))
    assert kept == then
    (difference,) = compare(IDENTITY, changed(reward_fingerprint="f" * 64), then=kept, now=now).differences
    assert said in str(difference)
    assert "\x1b" not in str(difference)
    assert len(str(difference)) < 10_000


def test_what_is_kept_is_bounded_and_what_cannot_be_read_is_as_if_nothing_were_kept() -> None:
    large = sources(a="1" * MOST_KEPT, b="22")
    kept = from_bytes(to_bytes(large))
    assert kept["reward_fingerprint"]["a.py"][1] is None
    assert kept["reward_fingerprint"]["b.py"] == ("22", "22")
    assert changed_files("reward_fingerprint", kept, sources(a="2", b="22")) == ["a.py"]
    for damaged in (b"", b"[]", b'{"digests": 1, "texts": 2}', b"[" * 100_000, b" " * 10**7):
        assert from_bytes(damaged) == {}


def test_arguments_that_changed_have_one_line_and_their_sources_none() -> None:
    then, now = changed(environment_kwargs={"a": 1}), changed(environment_kwargs={"a": 2}, environment_fingerprint="f")
    (difference,) = compare(then, now, then=sources(task=OLD), now=sources(task=OLD)).differences
    assert "{'a': 1}" in str(difference)


@pytest.mark.parametrize("name", ["environment_fingerprint", "reward_fingerprint", "environment_kwargs", "environment"])
def test_a_change_of_the_environment_is_accepted_where_the_user_says_so(name: str) -> None:
    verdict = compare(changed(**{name: "old"}), changed(**{name: "new"}), accept_changes=True)
    assert verdict.level is Level.WARN
    assert verdict.accepted
    other = compare(changed(**{name: "old"}), changed(**{name: "new"}, algorithm="PPO"), accept_changes=True)
    assert other.refused, "nothing else is"
    assert not compare(IDENTITY, changed(algorithm="PPO", **{name: "new"})).can_be_accepted


def test_a_checkpoint_that_does_not_say_what_it_is_cannot_be_accepted() -> None:
    silent = {key: value for key, value in IDENTITY.items() if key != "reward_fingerprint"}
    assert compare(silent, IDENTITY, accept_changes=True).refused


def test_true_is_not_one() -> None:
    assert compare(changed(target=1), changed(target=True)).level is Level.WARN


def test_another_seed_in_section_toml_changes_nothing_and_the_way_to_one_of_its_own_is_said() -> None:
    (difference,) = compare(IDENTITY, changed(seed=7)).differences
    assert difference.severity is Level.WARN
    assert "keeps its seed 42" in str(difference)
    assert "--seed 7" in str(difference)
    assert "bit-exact" not in str(difference), "which holds as before"
    (without,) = compare(IDENTITY, changed(seed=None)).differences
    assert "keeps its seed 42" in str(without)
