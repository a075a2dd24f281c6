"""Equal states have equal digests, however they were built; one changed bit anywhere is seen."""

from __future__ import annotations

import pickle
import re
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from kaggle_manager.trainer.sb3 import env_state
from kaggle_manager.trainer.sb3.state_digest import differing, digest, state_digests


class Part:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


def state() -> dict[str, Any]:
    shared = np.arange(6, dtype=np.float32)
    part = Part(weights=torch.ones(3), seen={"b", "a"}, rows=deque([1, 2.5], maxlen=4), shared=shared)
    part.itself = part  # type: ignore[attr-defined]
    rng = np.random.default_rng(4)
    return {"part": part, "shared": shared, "rng": rng, "none": None, "text": "a" * 3, "tuple": (1, True, 1.0)}


def test_a_pickled_copy_is_the_same() -> None:
    assert digest(pickle.loads(pickle.dumps(state()))) == digest(state())


def test_sharing_and_order_of_insertion_do_not_count() -> None:
    value = state()
    value["shared"] = value["shared"].copy()
    assert digest(dict(reversed(value.items()))) == digest(state())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["part"].weights.__setitem__(1, 1.0000001),
        lambda s: s["shared"].__setitem__(5, -5.0),
        lambda s: s["rng"].random(),
        lambda s: s["part"].rows.append(3),
        lambda s: s["part"].seen.add("c"),
        lambda s: s.update(tuple=(1, True, 1)),
        lambda s: s.update(tuple=[1, 1, 1.0]),
        lambda s: s.update(none=False),
        lambda s: s.update(shared=s["shared"].astype(np.float64)),
        lambda s: s.update(shared=s["shared"].reshape(2, 3)),
        lambda s: s.pop("none"),
    ],
)
def test_every_change_is_seen(change: Any) -> None:
    changed = state()
    change(changed)
    assert digest(changed) != digest(state())


def test_wall_clock_times_do_not_count() -> None:
    assert digest({"r": 1.0, "l": 5, "t": 0.1}) == digest({"r": 1.0, "l": 5, "t": 0.9})
    assert digest({"t": 0.1}) != digest({"t": 0.9}), "only beside a return and a length is `t` a time"
    assert digest({"wall_clock": 3}) == digest({"wall_clock": 4})


def test_an_environment_is_digested_through_its_wrappers() -> None:
    first, second = gym.make("CartPole-v1"), gym.make("CartPole-v1")
    for env in (first, second):
        env.reset(seed=3)
        env.step(1)
    assert digest(first) == digest(second)
    second.step(1)
    assert digest(first) != digest(second)


def test_the_items_that_differ_are_named() -> None:
    first, second = state_digests({"a": 1, "b": 2}), state_digests({"a": 1, "b": 3, "c": 4})
    assert differing(first, second) == ["b", "c"]
    assert first["all"] != second["all"]
    assert differing(first, first) == []


made: list[str] = []


def make_cartpole() -> Any:
    made.append("again")
    return gym.make("CartPole-v1")


@pytest.mark.parametrize("mode", ["pickle", "action-replay"])
def test_saved_environments_have_equal_digests_for_equal_states_and_no_simulator_is_run(mode: Any) -> None:
    def played(actions: list[int]) -> Any:
        vec = env_state.make_vec_env(make_cartpole, mode, 1)
        vec.reset()
        for action in actions:
            vec.step(np.array([action]))
        return env_state.collect(vec, mode)

    first, same, other = played([0, 1, 1]), played([0, 1, 1]), played([0, 1, 0])
    simulators = len(made)
    assert env_state.digests(first) == env_state.digests(same)
    assert env_state.digests(first)["environments"] != env_state.digests(other)["environments"]
    assert len(made) == simulators


def test_what_pickles_by_a_registered_function_has_a_digest() -> None:
    assert digest(Part(rule=re.compile("a+"))) == digest(Part(rule=re.compile("a+")))
    assert digest(Part(rule=re.compile("a+"))) != digest(Part(rule=re.compile("b+")))
