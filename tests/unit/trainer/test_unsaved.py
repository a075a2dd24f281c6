"""What a model keeps and no save holds is found by its name; what is saved, or never changes, is not taken for it."""

from __future__ import annotations

import io
import random
import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from sb3_contrib import ARS, TQC, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor
from trainer_runs import CARTPOLE, PENDULUM, origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.trainer.sb3 import env_state, exact_state, unsaved
from kaggle_manager.trainer.sb3.state_digest import differing
from kaggle_manager.trainer.sb3.unsaved import Unsaved

ROLLOUT: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [4]}}
REPLAY: dict[str, Any] = {"learning_starts": 10, "buffer_size": 50, "batch_size": 4}


def made(algorithm: Any = PPO, environment: Any = CARTPOLE, policy: str = "MlpPolicy", **hyperparameters: Any) -> Any:
    hyperparameters = hyperparameters or ROLLOUT
    return algorithm(policy, env_state.make_vec_env(environment, "pickle", 1), seed=1, device="cpu", **hyperparameters)


def found(model: Any) -> list[str]:
    watched = Unsaved(model)
    model.learn(32)
    assert watched.settings() == {}
    of = f" of {type(model).__name__}"
    assert all(name.endswith(of) for name in watched.found())
    return [name.removesuffix(of) for name in watched.found()]


@pytest.mark.parametrize(
    ("algorithm", "environment", "policy", "hyperparameters"),
    [
        (PPO, PENDULUM, "MlpPolicy", {**ROLLOUT, "use_sde": True}),
        (DQN, CARTPOLE, "MlpPolicy", REPLAY),
        (SAC, PENDULUM, "MlpPolicy", REPLAY),
        (TQC, PENDULUM, "MlpPolicy", REPLAY),
        (RecurrentPPO, CARTPOLE, "MlpLstmPolicy", {**ROLLOUT, "policy_kwargs": {"lstm_hidden_size": 4}}),
        (ARS, CARTPOLE, "MlpPolicy", {"n_delta": 1}),
    ],
)
def test_all_that_the_known_algorithms_keep_is_known(
    algorithm: Any, environment: Any, policy: str, hyperparameters: dict[str, Any]
) -> None:
    assert found(made(algorithm, environment, policy, **hyperparameters)) == []


class Keeping(PPO):
    """Keeps something of its own, and changes it when it trains."""

    def __init__(self, *args: Any, keep: Callable[[Any], None], change: Callable[[Any], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._change = change
        keep(self)

    def train(self) -> None:
        self._change(self)
        super().train()


class Helper:
    """Knows the model that it helps."""

    def __init__(self, model: Any) -> None:
        self.model, self.scale, self.drawn = model, 2.0, random.Random(1)


def keeping(keep: Callable[[Any], None], change: Callable[[Any], None]) -> Any:
    return made(Keeping, keep=keep, change=change, **ROLLOUT)


def put(**values: Any) -> Callable[[Any], None]:
    return lambda model: vars(model).update(values)


def nothing(_: Any) -> None:
    pass


CHANGES: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "a number": (put(hidden=0), lambda model: put(hidden=model.hidden + 1)(model)),
    "made late": (nothing, put(hidden=1.0)),
    "a list": (lambda model: put(hidden=[])(model), lambda model: model.hidden.append(1)),
    "a deque": (lambda model: put(hidden=deque(maxlen=3))(model), lambda model: model.hidden.append(1)),
    "an array": (lambda model: put(hidden=np.zeros(3))(model), lambda model: model.hidden.fill(1)),
    "a tensor": (lambda model: put(hidden=torch.zeros(3))(model), lambda model: model.hidden.fill_(1)),
    "numpy's generator": (
        lambda model: put(hidden=np.random.default_rng(1))(model),
        lambda model: model.hidden.random(),
    ),
    "numpy's old one": (lambda model: put(hidden=np.random.RandomState(1))(model), lambda model: model.hidden.rand()),
    "python's generator": (lambda model: put(hidden=random.Random(1))(model), lambda model: model.hidden.random()),
    "a network": (
        lambda model: put(hidden=torch.nn.Linear(2, 2))(model),
        lambda model: model.hidden.weight.data.fill_(1),
    ),
    "in an object": (lambda model: put(hidden=Helper(model))(model), lambda model: model.hidden.drawn.random()),
    "in a closure": (lambda model: put(hidden=counting())(model), lambda model: model.hidden(0.5)),
    "nobody can look at": (lambda model: put(hidden=(it for it in range(3)))(model), lambda model: next(model.hidden)),
}


def counting() -> Callable[[float], float]:
    calls = 0

    def schedule(remaining: float) -> float:
        nonlocal calls
        calls += 1
        return 1e-3 / calls

    return schedule


@pytest.mark.parametrize("kind", CHANGES)
def test_an_attribute_that_changes_is_found_by_its_name(kind: str) -> None:
    assert found(keeping(*CHANGES[kind])) == ["hidden"]


def test_what_does_not_change_or_is_saved_with_the_model_is_not_taken_for_state() -> None:
    def keep(model: Any) -> None:
        put(
            beta=0.5,
            table={"a": [1, 2]},
            weights_of=model.policy.value_net,
            lock=threading.Lock(),
            named=re.compile("a+"),
            log=io.StringIO(),
        )(model)
        put(
            helper=Helper(model), optimizer=model.policy.optimizer, watched=model.get_env(), buffer=model.rollout_buffer
        )(model)

    assert found(keeping(keep, nothing)) == []


def test_an_attribute_too_large_to_look_at_is_taken_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsaved, "MOST_BYTES", 1000)
    assert found(keeping(put(small=np.zeros(10), large=np.zeros(1000)), nothing)) == ["large"]


class Slower:
    """A schedule that remembers how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, remaining: float) -> float:
        self.asked += 1
        return 1e-3 / self.asked


class Counting(FlattenExtractor):
    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        self.seen = getattr(self, "seen", 0) + len(observations)
        return super().forward(observations)


class Prioritised(ReplayBuffer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.priorities = np.zeros(self.buffer_size)

    def add(self, *args: Any, **kwargs: Any) -> None:
        self.priorities[self.pos] = 1.0
        super().add(*args, **kwargs)


def test_what_a_model_is_made_of_is_looked_at_as_well() -> None:
    assert found(made(**{**ROLLOUT, "learning_rate": Slower()})) == ["learning_rate", "lr_schedule"]
    assert found(made(**{**ROLLOUT, "clip_range": counting()})) == ["clip_range"]
    inside = found(made(**{**ROLLOUT, "policy_kwargs": {"features_extractor_class": Counting}}))
    assert "policy.features_extractor.seen" in inside
    assert found(made(DQN, **REPLAY, replay_buffer_class=Prioritised)) == ["replay_buffer.priorities"]


class Shrinking(PPO):
    """Keeps what it changes in its class."""

    mult = 1.0
    table: ClassVar = {"a": [1, 2]}  # as it was

    def train(self) -> None:
        type(self).mult *= 0.9
        self.ent_coef = 0.01 * self.mult
        super().train()


class ShrinkingExtractor(FlattenExtractor):
    seen: ClassVar[list[int]] = []

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(observations))
        return super().forward(observations)


class LateInItsClass(PPO):
    def train(self) -> None:
        type(self).late = getattr(self, "late", 0) + 1  # type: ignore[attr-defined]
        super().train()


CALLS = 0
SEEN = [0]


class InItsModule(PPO):
    def train(self) -> None:
        global CALLS
        CALLS += 1
        SEEN[0] += 1
        super().train()


def slower(remaining: float) -> float:
    slower.asked = getattr(slower, "asked", 0) + 1  # type: ignore[attr-defined]
    return 1e-3 / slower.asked  # type: ignore[attr-defined, no-any-return]


def seldom(remaining: float) -> float:
    SEEN[0] += 1
    return 1e-3 / SEEN[0]


def steady(remaining: float) -> float:
    return 1e-3 * remaining * ROLLOUT["n_epochs"]


def test_what_lies_on_a_class_a_function_or_a_module_is_looked_at_where_the_code_names_it() -> None:
    model = made(Shrinking)
    watched = Unsaved(model)
    model.learn(32)
    assert watched.found() == ["Shrinking.mult of Shrinking"]
    assert found(made(LateInItsClass)) == ["LateInItsClass.late"]
    assert found(made(InItsModule)) == [f"{__name__}.CALLS", f"{__name__}.SEEN"]
    extractor = {"policy_kwargs": {"features_extractor_class": ShrinkingExtractor}}
    assert found(made(**{**ROLLOUT, **extractor})) == ["ShrinkingExtractor.seen"]
    assert found(made(**{**ROLLOUT, "learning_rate": slower})) == ["learning_rate", "lr_schedule"]
    assert found(made(**{**ROLLOUT, "clip_range": seldom})) == ["clip_range"]
    assert found(made(**{**ROLLOUT, "learning_rate": steady})) == []


class Averaging(FlattenExtractor):
    """A running mean that no state dictionary has."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.register_buffer("mean", torch.zeros(space.shape), persistent=False)
        self.register_buffer("never", torch.ones((), dtype=torch.bfloat16), persistent=False)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * observations.detach().mean(0)
        return super().forward(observations) - self.mean


@pytest.mark.slow
def test_a_buffer_that_no_state_dictionary_has_is_resumed_and_said_to_be_in_no_model_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = {"net_arch": [4], "features_extractor_class": Averaging}
    chosen = {"algorithm": "PPO", "hyperparameters": {**ROLLOUT, "policy_kwargs": policy}, "total": 96}
    whole = session(settings(tmp_path / "whole", **chosen))
    said = capfd.readouterr().out
    assert "policy.features_extractor.mean" in said
    assert "a buffer registered with persistent=False, and changed by the training" in said
    assert "never" not in said
    cut = settings(tmp_path / "cut", **chosen)
    session(cut, max_steps=60)
    again = session(cut)
    assert again.resumed_from == 64
    assert differing(again.digests, whole.digests) == []
    final = CheckpointStore(TrainingTree(cut.tree, "cart")).final()
    assert final is not None
    assert final.manifest.exact["exact"] != "none"


class SaysItself(Prioritised):
    def state(self) -> Any:
        return self.priorities

    def load_state(self, state: Any) -> None:
        self.priorities[:] = state


def test_what_says_itself_what_is_saved_is_saved_and_put_back_wherever_it_is() -> None:
    model = made(DQN, **REPLAY, replay_buffer_class=SaysItself)
    assert found(model) == []
    assert model.replay_buffer.priorities.sum() == 32
    state = exact_state.ITEMS["own"].collect(exact_state.Training(model, "none", {}))
    other = exact_state.Training(made(DQN, **REPLAY, replay_buffer_class=SaysItself), "none", {})
    exact_state.ITEMS["own"].restore(other, state)
    assert other.model.replay_buffer.priorities.sum() == 32  # type: ignore[attr-defined]


def test_what_others_set_on_a_model_is_saved_where_it_is_a_number_and_named_where_it_is_not() -> None:
    model = made()
    watched = Unsaved(model)
    model.ent_coef, model.lr_schedule, model.policy.mood = 0.5, Slower(), "good"
    assert watched.settings() == {"ent_coef": 0.5}
    assert watched.found() == ["lr_schedule of PPO", "policy.mood of PPO"]


class Forgetful(PPO):
    """Learns more slowly with every rollout, and remembers how many there were by itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hidden = 0

    def train(self) -> None:
        self.hidden += 1
        self.ent_coef = 1.0 / self.hidden
        super().train()


@pytest.mark.slow
def test_every_session_says_aloud_that_a_resume_is_not_exact_and_because_of_which_attribute(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(
        tmp_path / "tree", algorithm=f"{__name__}:Forgetful", hyperparameters=ROLLOUT, total=96, evaluate_every=1000
    )
    session(chosen, max_steps=60)
    said = "resumes of this training are not exact: none, because hidden of Forgetful changes while it trains"
    assert said in capfd.readouterr().out
    store = CheckpointStore(TrainingTree(chosen.tree, "cart"))
    first = store.find_latest_checkpoint()
    assert first is not None
    assert (first.manifest.exact["exact"], first.manifest.exact["broken"]) == ("none", [])
    assert first.manifest.exact["reason"].startswith("because hidden of Forgetful changes")
    assert session(chosen).kind == "completed"
    assert (
        "from step 64 the bits are no longer those of an uninterrupted run: hidden of Forgetful"
        in capfd.readouterr().out
    )
    last = store.find_latest_checkpoint()
    assert last is not None
    assert [entry["step"] for entry in last.manifest.exact["broken"]] == [64]
    assert origin_of(chosen.tree).record.unsaved == ["hidden of Forgetful"]  # type: ignore[union-attr]
