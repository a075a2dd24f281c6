"""Callbacks of the user run beside the trainer's own; what they keep survives a resume, or is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash_disks import Died, DyingDisk
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, StopTrainingOnMaxEpisodes
from trainer_runs import CARTPOLE, SCENARIO, origin_of, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3 import env_state
from kaggle_manager.trainer.sb3.state_digest import differing
from kaggle_manager.trainer.sb3.user_callbacks import UserCallbacks, callbacks_of, made_of


class Counting(BaseCallback):
    """Counts, and has the training depend on it."""

    def __init__(self, step: float = 1.0) -> None:
        super().__init__()
        self.step, self.count, self.seen = step, 0.0, [0.0]

    def _on_step(self) -> bool:
        self.count += self.step
        self.seen[0] += 1
        return True

    def _on_rollout_start(self) -> None:
        for group in self.model.policy.optimizer.param_groups:
            group["weight_decay"] = 1e-3 * self.count * self.n_calls


class Sound(Counting):
    """Says what it keeps."""

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "seen": list(self.seen)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count, self.seen = state["count"], state["seen"]


class Quiet(BaseCallback):
    """Keeps nothing that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {"a": [1, 2]}

    def _on_step(self) -> bool:
        self.logger.record("quiet/a", self.table["a"][0])
        return True


class Ending(Quiet):
    def _on_step(self) -> bool:
        return self.num_timesteps < 90


SOUND = {f"{__name__}:Sound": {"step": 2.0}}


def final_of(tree: Path) -> Any:
    final = CheckpointStore(TrainingTree(tree, SCENARIO)).final()
    assert final is not None
    return final.manifest


@pytest.mark.slow
def test_a_callback_that_says_its_state_is_resumed_bit_for_bit_after_a_kill(tmp_path: Path) -> None:
    chosen = {"callbacks": [SOUND, f"{__name__}:Quiet"], "total": 200}
    whole = session(settings(tmp_path / "whole", **chosen))
    cut = settings(tmp_path / "cut", **chosen)
    session(cut, max_steps=70)
    with pytest.raises(Died):
        session(cut, disk=DyingDisk(30))
    found = session(cut)
    assert len(origin_of(cut.tree).items["callbacks"]["users"]["each"]) == 2
    assert differing(found.digests, whole.digests) == []
    assert final_of(cut.tree).exact["exact"] == "pickle"
    without = session(settings(tmp_path / "without", total=200))
    assert "parameters.policy" in differing(without.digests, whole.digests), "it has run"


@pytest.mark.slow
def test_one_that_does_not_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session(settings(tmp_path, callbacks=[f"{__name__}:Counting"]), max_steps=100)
    assert origin_of(tmp_path).record is not None
    said = capsys.readouterr().out
    assert "exact: none, because count of callback Counting, seen of callback Counting change while it trains" in said
    assert "A class with state() and load_state(state)" in said


@pytest.mark.slow
def test_one_that_returns_false_ends_the_run_where_it_can_be_saved_and_finished(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        session(settings(tmp_path, callbacks=[f"{__name__}:Ending"]))
    assert "callback Ending has ended the training at step 90" in refused.value.message
    assert refused.value.next_step is not None
    assert "`timesteps = 92`" in refused.value.next_step
    assert origin_of(tmp_path).step == 92
    assert session(settings(tmp_path, callbacks=[f"{__name__}:Ending"], total=92)).kind == "completed"
    assert final_of(tmp_path).step == 92


def watched(*callbacks: BaseCallback) -> UserCallbacks:
    users = UserCallbacks(callbacks, lambda: None)
    vec = env_state.make_vec_env(CARTPOLE, "pickle", 1)
    PPO("MlpPolicy", vec, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32, callback=users)
    return users


def test_what_stock_callbacks_count_is_saved_also_inside_of_others() -> None:
    users = watched(CallbackList([stop := StopTrainingOnMaxEpisodes(10**6)]), Quiet())
    assert users.found() == []
    assert stop.n_episodes > 0
    other = StopTrainingOnMaxEpisodes(10**6)
    UserCallbacks([CallbackList([other]), Quiet()], lambda: None).load_state(users.state())
    assert (other.n_episodes, other.n_calls) == (stop.n_episodes, stop.n_calls)


class OfAllOfThem(Quiet):
    """Counts in its class."""

    count = 0

    def _on_step(self) -> bool:
        type(self).count += 1
        return True


def test_what_the_class_of_a_callback_keeps_is_named() -> None:
    callbacks = UserCallbacks([OfAllOfThem(), Quiet()], lambda: None)
    PPO("MlpPolicy", env_state.make_vec_env(CARTPOLE, "pickle", 1), n_steps=16, batch_size=16).learn(32, callbacks)
    assert callbacks.found() == ["OfAllOfThem.count of callback OfAllOfThem"]


def test_an_environment_that_a_callback_plays_in_is_named() -> None:
    played = EvalCallback(env_state.make_vec_env(CARTPOLE, "none", 1), eval_freq=20, n_eval_episodes=1, verbose=0)
    [named] = watched(played).found()
    assert named.startswith("eval_env of callback EvalCallback (remove it: the trainer evaluates")


def test_what_a_function_closes_over_and_changes_is_named() -> None:
    seen = [0]

    def counting(_: Any, __: Any) -> bool:
        seen[0] += 1
        return True

    steady = lambda _, __: True  # noqa: E731
    assert watched(*callbacks_of([counting, steady], "callbacks")).found() == [
        "what it closes over of callback counting"
    ]


class Faulty(Quiet):
    """Cannot say what it keeps, or not take it back."""

    def __init__(self, where: str = "") -> None:
        super().__init__()
        self.where = where

    def state(self) -> Any:
        if self.where == "state":
            raise ValueError("no state yet")
        return {"count": 1, **({"rule": lambda: 1} if self.where == "pickle" else {})}

    def load_state(self, state: Any) -> None:
        raise KeyError("levels")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("state", "callback Faulty cannot be saved: its state() raises ValueError: no state yet (test_user_callbacks"),
        ("pickle", "callback Faulty cannot be saved: what its state() returns has no pickle: "),
        ("load", "callback Faulty cannot be put back: its load_state() raises KeyError: 'levels' (test_user_callb"),
    ],
)
def test_one_whose_state_cannot_be_saved_or_put_back_ends_the_session_in_words(
    where: str, said: str, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, callbacks=[{f"{__name__}:Faulty": {"where": where}}], total=100)
    if where == "load":
        session(chosen, max_steps=60)
    with pytest.raises(ConfigError) as refused:
        session(chosen)
    assert said in refused.value.message
    assert "numbers, texts, arrays" in str(refused.value.next_step)


class FaultyPPO(PPO):
    def state(self) -> Any:
        raise ValueError("no state yet")

    def load_state(self, state: Any) -> None: ...


def test_so_it_is_with_an_algorithm_that_says_its_state(tmp_path: Path) -> None:
    small = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    with pytest.raises(ConfigError, match=r"The algorithm FaultyPPO cannot be saved: its state\(\) raises Val"):
        session(settings(tmp_path, algorithm=f"{__name__}:FaultyPPO", hyperparameters=small, total=64))


def test_a_session_names_the_key_of_a_callback_in_full(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^scenarios\.cart\.callbacks: given 'collections:OrderedDict'; accepted"):
        session(settings(tmp_path, callbacks=["collections:OrderedDict"], table="scenarios.cart."))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["gymnasium:make"], "callbacks: "),
        ([SOUND, "collections:OrderedDict"], "callbacks.1: given 'collections:OrderedDict'; accepted: a class derived"),
        ([{f"{__name__}:Sound": {"stp": 1}}], "unexpected keyword argument 'stp'"),
        (["no_such_module_here:Callback"], "callbacks: given 'no_such_module_here:Callback'; accepted: an object"),
    ],
)
def test_what_is_no_callback_is_refused_with_its_key(given: list[Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made_of(given)
    assert said in refused.value.message


def test_a_section_names_them_as_it_names_wrappers() -> None:
    base = {"environment": "gymnasium:make", "algorithm": "PPO", "timesteps": 1, "models": "m"}
    scenario = ScenarioConfig.model_validate({**base, "quick": {"models": "q"}, "callbacks": [SOUND, "mine:Other"]})
    assert scenario.objects == {f"{__name__}:Sound": "callbacks", "mine:Other": "callbacks"}
