"""A policy behind a running normalisation is kept with its statistics, goes out with them and comes in with them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN as StockDQN
from stable_baselines3 import PPO as StockPPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from trainer_runs import DQN, SCENARIO, session, settings

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.errors import CheckpointCorrupt, CheckpointIncompatible, UnsafePickle
from kaggle_manager.trainer.sb3.env_state import EntryPoint
from kaggle_manager.trainer.sb3.pickles import open_statistics, read_tensors
from kaggle_manager.trainer.sb3.sb3_exchange import _statistics_beside, export_sb3, import_sb3
from kaggle_manager.trainer.sb3.selftest import curves
from kaggle_manager.trainer.sb3.state_digest import differing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "others", "found"),
    [
        ("model.zip", ["model_vecnormalize.pkl", "other_vecnormalize.pkl"], ["model_vecnormalize.pkl"]),
        (
            "a_checkpoint_20_steps.zip",
            ["a_checkpoint_20_steps_vecnormalize.pkl", "a_checkpoint_10_steps_vecnormalize.pkl"],
            ["a_checkpoint_20_steps_vecnormalize.pkl"],
        ),
        (
            "rl_model_20_steps.zip",
            ["rl_model_vecnormalize_20_steps.pkl", "rl_model_vecnormalize_10_steps.pkl"],
            ["rl_model_vecnormalize_20_steps.pkl"],
        ),
        ("model.zip", ["vecnormalize.pkl"], ["vecnormalize.pkl"]),
        ("model.zip", ["other.zip", "vecnormalize.pkl"], []),
        ("model.zip", ["sac_vecnormalize.pkl"], []),
    ],
)
def test_only_what_belongs_to_a_model_by_its_name_lies_beside_it(
    model: str, others: list[str], found: list[str], tmp_path: Path
) -> None:
    for name in (model, *others):
        (tmp_path / name).touch()
    assert _statistics_beside(tmp_path / model) == found


OLDER = Path(__file__).parents[1] / "support/older_sb3"
PPO: dict[str, Any] = {"n_steps": 50, "batch_size": 25, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
OLD_DQN: dict[str, Any] = {"buffer_size": 150, "learning_starts": 20, "policy_kwargs": {"net_arch": [8]}}


class Far(gym.Env[Any, Any]):
    """Observations around 1,000; the action of a step's own parity pays, and a policy that sees them can tell."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, pay: float = 1.0) -> None:
        self.pay, self.steps = pay, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        paid = self.pay * (int(action) == self.steps % 2)
        self.steps += 1
        return self._observation(), paid, self.steps == 20, False, {}

    def _observation(self) -> Any:
        return np.array([1000.0 + self.steps % 2, 500.0 - 10 * self.steps], dtype=np.float32)


def chosen(tree: Path, pay: float = 1.0, **changes: Any) -> Any:
    environment = EntryPoint(f"{__name__}:Far", {"pay": pay})
    common = {"algorithm": "PPO", "hyperparameters": PPO, "environment": environment, "total": 200}
    return settings(tree, **{**common, "normalize": {"clip_reward": 5.0}, **changes})


STOCK = """
import importlib.abc, pickle, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "kaggle_manager":
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Nothing())
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
environment, *pairs = sys.argv[1:]
namespace = {}
exec(open(environment).read(), namespace)
for model, statistics in zip(pairs[::2], pairs[1::2]):
    vec = VecNormalize.load(statistics, DummyVecEnv([namespace["Far"]]))
    vec.training = vec.norm_reward = False
    print(evaluate_policy(PPO.load(model, env=vec, device="cpu"), vec, 1)[0])
"""


def test_stock_alone_reaches_the_score_of_each_model_with_what_lies_beside_it(tmp_path: Path) -> None:
    session(chosen(tmp_path / "tree", save_every=50, evaluate_every=100))
    tree = TrainingTree(tmp_path / "tree", SCENARIO)
    exported = export_sb3(tree.root, SCENARIO, None, tmp_path / "out", check=lambda _: None)
    assert [path.name for path in exported] == [
        f"{SCENARIO}_checkpoint_200_steps.zip",
        f"{SCENARIO}_checkpoint_200_steps_vecnormalize.pkl",
    ]
    pairs = [tree.best_model, tree.best_folder / "vecnormalize.pkl", tree.final, tree.root / "vecnormalize.pkl"]
    source = Path(__file__).read_text()
    environment = tmp_path / "far.py"
    lines = source[source.index("class Far") : source.index("def chosen")]
    environment.write_text(f"from typing import Any\nimport numpy as np\nimport gymnasium as gym\n{lines}")
    command = [sys.executable, "-I", "-c", STOCK, environment, *pairs, *exported]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    best = CheckpointStore(tree).best()
    assert best is not None
    scores = [float(line) for line in ended.stdout.split()]
    assert scores[0] == best.manifest.score
    assert scores[1] == scores[2], "the final model is that of the newest checkpoint"
    assert {file.role for file in best.manifest.files} == {"model", "statistics"}, "one manifest commits both"


def test_a_training_without_normalisation_has_no_such_file(tmp_path: Path) -> None:
    session(chosen(tmp_path / "tree", normalize=None, total=50))
    assert not list(tmp_path.rglob("*vecnormalize*"))


@pytest.mark.parametrize(
    "around",
    [
        {"normalize": {"norm_obs": False}, "frame_stack": 2},
        {"normalize": {"norm_obs": False, "norm_reward": False}},
    ],
    ids=["rewards alone, stacked", "neither"],
)
def test_a_training_whose_normalisation_leaves_observations_alone_is_evaluated_and_resumed_bit_for_bit(
    around: dict[str, Any], tmp_path: Path
) -> None:
    """Such a `VecNormalize` has no statistics of observations at all."""
    plan = {**around, "save_every": 50, "evaluate_every": 50}
    whole = {
        **session(chosen(tmp_path / "whole", **plan)).digests,
        **curves(TrainingTree(tmp_path / "whole", SCENARIO)),
    }
    session(chosen(tmp_path / "cut", **plan), max_steps=100)
    again = session(chosen(tmp_path / "cut", **plan))
    found = {**again.digests, **curves(TrainingTree(tmp_path / "cut", SCENARIO))}
    assert (again.resumed_from, differing(found, whole)) == (100, [])
    assert again.counts["evaluations"] >= 2


def test_rewards_alone_are_taken_in_with_their_statistics(tmp_path: Path) -> None:
    vec = VecNormalize(DummyVecEnv([Far]), norm_obs=False)
    StockPPO("MlpPolicy", vec, seed=1, device="cpu", **PPO).learn(100).save(tmp_path / "model.zip")
    vec.save(str(tmp_path / "statistics.pkl"))
    config = chosen(tmp_path / "tree", normalize={"norm_obs": False})
    taken = import_sb3(tmp_path / "model.zip", None, config, vecnormalize=tmp_path / "statistics.pkl")
    assert statistics_at(taken).ret_rms.count == vec.ret_rms.count
    assert (session(config).kind, session(config).step) == ("completed", 200)


def test_a_second_normalisation_is_named_for_it_does_not_lie_beside_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session(chosen(tmp_path / "tree", vec_wrappers=[VecNormalize], total=50))
    assert "beside a model lies the outermost alone" in "".join(capsys.readouterr())


def statistics_at(checkpoint: Checkpoint) -> VecNormalize:
    found: VecNormalize = pickle.loads(checkpoint.read("statistics"))
    return found


def test_statistics_survive_a_change_of_the_environment_that_the_user_accepts(tmp_path: Path) -> None:
    """The environment of then is not put back; what the policy was shown of it must be the same all the same."""

    def identity(pay: float) -> dict[str, Any]:
        return {"environment_fingerprint": f"e{pay}", "reward_fingerprint": f"r{pay}"}

    session(chosen(tmp_path / "tree", identity=identity(1.0)), max_steps=100)
    store = CheckpointStore(TrainingTree(tmp_path / "tree", SCENARIO))
    before = store.find_latest_checkpoint()
    session(chosen(tmp_path / "tree", 2.0, identity=identity(2.0), accept_changes=True), max_steps=50)
    after = store.find_latest_checkpoint()
    assert before is not None
    assert after is not None
    assert (before.step, after.step) == (100, 150)
    assert statistics_at(after).obs_rms.count > statistics_at(before).obs_rms.count > 100


# --- taken in ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A stock model trained behind a VecNormalize, and its statistics."""
    folder = tmp_path_factory.mktemp("stock")
    vec = VecNormalize(DummyVecEnv([Far]), clip_obs=8.0)
    StockPPO("MlpPolicy", vec, seed=1, device="cpu", **PPO).learn(100).save(folder / "model.zip")
    vec.save(str(folder / "vecnormalize.pkl"))
    return folder / "model.zip", folder / "vecnormalize.pkl"


def test_stock_statistics_are_taken_in_with_their_model_and_go_out_again(
    stock: tuple[Path, Path], tmp_path: Path
) -> None:
    model, statistics = stock
    taken = import_sb3(model, None, chosen(tmp_path / "tree"), vecnormalize=statistics)
    theirs, ours = pickle.loads(statistics.read_bytes()), statistics_at(taken)
    assert ours.obs_rms.count == theirs.obs_rms.count + 1, "the first observation of the episode that begins anew"
    np.testing.assert_allclose(ours.obs_rms.mean, theirs.obs_rms.mean, rtol=1e-2)
    assert ours.ret_rms.count == theirs.ret_rms.count
    assert "the clip_obs of its normalisation (8.0; now 10.0)" in taken.manifest.exact["broken"][0]["why"]
    session(chosen(tmp_path / "tree"))
    _, again = export_sb3(tmp_path / "tree", SCENARIO, 200, tmp_path / "out", check=lambda _: None)
    assert open_statistics(again).obs_rms.count > theirs.obs_rms.count + 100


def test_what_a_policy_is_nothing_without_is_refused_when_it_is_missing(
    stock: tuple[Path, Path], tmp_path: Path
) -> None:
    model, statistics = stock
    with pytest.raises(CheckpointIncompatible, match="without the statistics") as refused:
        import_sb3(model, None, chosen(tmp_path / "tree"))
    assert "vecnormalize.pkl lies beside the model" in refused.value.next_step
    with pytest.raises(CheckpointIncompatible, match="no running normalisation"):
        import_sb3(model, None, chosen(tmp_path / "tree", normalize=None), vecnormalize=statistics)
    rewards_alone = chosen(tmp_path / "tree", normalize={"norm_obs": False})
    with pytest.raises(CheckpointIncompatible, match=r"by shape \[2\] in it, and none is configured"):
        import_sb3(model, None, rewards_alone, vecnormalize=statistics)
    assert not any((tmp_path / "tree").rglob("*.manifest.json"))


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def test_a_statistics_file_that_would_run_code_runs_none(stock: tuple[Path, Path], tmp_path: Path) -> None:
    evil, trace = tmp_path / "evil.pkl", tmp_path / "trace"
    evil.write_bytes(pickle.dumps(Evil(str(trace))))
    with pytest.raises(UnsafePickle, match="no part of a running normalisation"):
        import_sb3(stock[0], None, chosen(tmp_path / "tree"), vecnormalize=evil)
    assert not trace.exists()
    evil.write_bytes(pickle.dumps({"obs_rms": 1.0}))
    with pytest.raises(CheckpointCorrupt, match="holds a dict, not a running normalisation"):
        import_sb3(stock[0], None, chosen(tmp_path / "tree"), vecnormalize=evil)


# --- of older versions ------------------------------------------------------------------------------------------------


class Extractor(BaseFeaturesExtractor):
    """As in `support/older_sb3/make.py`."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 4)
        self.net = torch.nn.Linear(4, 4)

    def forward(self, observations: Any) -> Any:
        return self.net(observations)


@pytest.mark.filterwarnings("ignore:You are probably loading a DQN model")
def test_a_dqn_of_before_2_4_is_taken_in_as_stock_takes_it(tmp_path: Path) -> None:
    old = OLDER / "dqn_2.3.2.zip"
    config = settings(tmp_path / "tree", hyperparameters={**DQN, **OLD_DQN}, normalize={})
    with pytest.raises(CheckpointIncompatible, match="without the statistics"):
        import_sb3(old, None, config)
    without = settings(tmp_path / "without", hyperparameters={**DQN, **OLD_DQN})
    [broken] = import_sb3(old, None, without).manifest.exact["broken"]
    assert "normalisation" not in broken["why"], "what lies there is of another model"
    taken = import_sb3(old, None, config, vecnormalize=OLDER / "dqn_1.6.2_vecnormalize.pkl")  # any of this shape
    ours, _ = read_tensors(taken.read("model"), "cpu")
    stock = StockDQN.load(old, device="cpu").get_parameters()
    for name, tensor in stock["policy"].items():
        assert torch.equal(ours["policy"][name], tensor), name
    assert len(stock["policy.optimizer"]["state"]) == len(ours["policy.optimizer"]["state"]) == 4
    for index, state in stock["policy.optimizer"]["state"].items():
        assert torch.equal(ours["policy.optimizer"]["state"][index]["exp_avg"], state["exp_avg"])


def test_files_with_the_spaces_of_gym_are_taken_in_and_trained_on(tmp_path: Path) -> None:
    """A model, a replay buffer and statistics of 1.6.2, of before there was a gymnasium."""
    hyperparameters = {**DQN, **OLD_DQN}
    config = settings(tmp_path / "tree", hyperparameters=hyperparameters, normalize={})
    rows = OLDER / "dqn_1.6.2_replay_buffer.pkl"
    taken = import_sb3(OLDER / "dqn_1.6.2.zip", rows, config, vecnormalize=OLDER / "dqn_1.6.2_vecnormalize.pkl")
    assert (taken.step, taken.manifest.replay.rows if taken.manifest.replay else None) == (100, 100)
    assert statistics_at(taken).obs_rms.count == pytest.approx(102, abs=5)
    assert session(config).kind == "completed"


def test_an_actor_critic_of_before_1_7_is_taken_in_with_its_only_feature_extractor(tmp_path: Path) -> None:
    policy = {"net_arch": [8], "features_extractor_class": Extractor}
    config = settings(tmp_path / "tree", algorithm="A2C", hyperparameters={"policy_kwargs": policy})
    taken = import_sb3(OLDER / "a2c_1.6.2.zip", None, config)
    ours, _ = read_tensors(taken.read("model"), "cpu")
    theirs, _ = read_tensors((OLDER / "a2c_1.6.2.zip").read_bytes(), "cpu")
    for prefix in ("", "pi_", "vf_"):
        assert torch.equal(
            ours["policy"][f"{prefix}features_extractor.net.weight"],
            theirs["policy"]["features_extractor.net.weight"],
        )
