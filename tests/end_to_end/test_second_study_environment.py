"""The environment of the second study over real SUMO: exact, with a signal that can be built, paid by its delay."""

from __future__ import annotations

import hashlib
import inspect
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import has_ended

from kaggle_manager.errors import ConfigError, RunError
from kaggle_manager.sections.model import load_section
from kaggle_manager.trainer.sb3.preflight import check_training
from validation_ch7.section_7_6_rl_performance import preflight as checks
from validation_ch7.section_7_6_rl_performance.second_study import simulation
from validation_ch7.section_7_6_rl_performance.second_study.contenders import RULES, contender
from validation_ch7.section_7_6_rl_performance.second_study.development import Tuning
from validation_ch7.section_7_6_rl_performance.second_study.environment import SignalEnv
from validation_ch7.section_7_6_rl_performance.second_study.episodes import CONDITIONS
from validation_ch7.section_7_6_rl_performance.second_study.episodes import play as episodes_of
from validation_ch7.section_7_6_rl_performance.training import PROJECT

pytestmark = pytest.mark.slow

pytest.importorskip("libsumo")

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS: dict[str, dict[str, Any]] = {
    "fixed_time": {"greens_s": [27, 6, 12, 5]},
    "fixed_time_tuned": {"greens_s": [20, 6, 10, 5]},
    "actuated": {"gap_s": 2, "longest_s": [30] * 4},
    "sotl": {"threshold": 150, "platoon": 2},
    "longest_queue": {"ahead": 2},
    "greedy_queue": {},
    "max_pressure": {"ahead": 0},
    "advanced_max_pressure": {"weight": 1.0},
    "random": {},
}


def play(env: SignalEnv, seed: int) -> str:
    """One episode of random actions, as a hash of everything the agent can see."""
    rng, seen = np.random.default_rng(seed), hashlib.sha256()
    observation, info = env.reset(seed=seed)
    truncated = False
    while not truncated:
        seen.update(observation.tobytes() + info["digest"].encode())
        observation, reward, _, truncated, info = env.step(int(rng.integers(4)))
        seen.update(np.float64(reward).tobytes())
    return seen.hexdigest()


@pytest.fixture
def env() -> Any:
    made = SignalEnv(episode_s=300)
    yield made
    made.close()


def test_episodes_are_bit_equal_in_one_process_in_a_fresh_one_and_after_one_that_was_cut_short(env: SignalEnv) -> None:
    here = [play(env, seed) for seed in (3, 1, 3)]
    assert here[0] == here[2] != here[1]
    env.reset(seed=4)
    env.step(1)
    assert play(env, 1) == here[1]
    program = (
        "import hashlib\nimport numpy as np\n"
        f"from {SignalEnv.__module__} import SignalEnv\n{inspect.getsource(play)}\n"
        "env = SignalEnv(episode_s=300)\nprint(play(env, 1))\nenv.close()"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=500, check=True
    )
    assert elsewhere.stdout.split() == [here[1]]


def test_until_a_gridlock_vehicles_with_routes_drive_as_sumo_would_send_them() -> None:
    script = ROOT / "scripts" / "benchmarks" / "traffic_routes.py"
    done = subprocess.run(
        [sys.executable, script, "--episodes", "2", "--first", "10"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("no digest differs before a gridlock\n")


def test_what_is_paid_over_an_episode_is_the_delay_it_is_judged_by() -> None:
    env = SignalEnv()
    try:
        env.reset(seed=1, options={"trips": True})
        rewards = [env.step(number // 4 % 4)[1] for number in range(120)]
        trips = env.history[-1].trips
        assert trips
        judged = sum(trip.time_loss_s + trip.depart_delay_s for trip in trips)
        assert -sum(rewards) * env.decision_s * env._observer.places == pytest.approx(judged, rel=0.02)
        env.reset(seed=1)
        assert [env.step(number // 4 % 4)[1] for number in range(120)] == rewards
        assert env.history[-1].trips is None  # nobody asked for them
    finally:
        env.close()


def test_the_signal_changes_through_yellow_and_a_clearance_within_its_bound() -> None:
    env = SignalEnv("cologne1", decision_s=1, episode_s=300)  # whose box is 33 m long
    try:
        env.reset(seed=2)
        changing, greens = [], []
        for number in range(300):
            env.step(2 + number // 15 % 2)
            assert env.snapshot is not None
            (greens if env.snapshot.following is None else changing).append(env.snapshot)
        lengths = {snapshot.changing_s for snapshot in greens if snapshot.switches and snapshot.green_s == 1}
        assert lengths <= {0, 3, 4, 5, 6, 7}  # none where nobody loses green
        assert max(lengths) > 3  # some had to wait for the box
        assert env.snapshot is not None
        assert env.snapshot.switches > 10
        assert max(snapshot.changing_s for snapshot in changing) <= 7
    finally:
        env.close()


def test_every_baseline_meets_the_same_demand_and_is_no_straw_man() -> None:
    assert {*PARAMETERS} == {*RULES}
    found = {
        name: next(episodes_of(contender(name, parameters), {"site": "synthetic"}, [11]))
        for name, parameters in PARAMETERS.items()
    }
    assert len({episode.demand for episode in found.values()}) == 1
    assert len({episode.digest for episode in found.values()}) == len(found)
    delay = {name: episode.mean_delay_s for name, episode in found.items()}
    assert delay["random"] == max(delay.values())
    for name in ("actuated", "sotl", "longest_queue", "greedy_queue", "max_pressure", "advanced_max_pressure"):
        assert delay[name] < delay["fixed_time"] * 1.1, delay
    for episode in found.values():
        assert episode.mean_delay_s == pytest.approx(episode.mean_inside_s + episode.mean_outside_s)
        assert episode.gridlock_onset_s is None
        assert episode.p95_delay_s <= episode.worst_delay_s


def test_a_junction_that_blocks_itself_without_a_clearance_is_gridlock_and_does_not_with_one() -> None:
    greedy = contender("greedy_queue", {})
    site = {"site": "cologne1", "decision_s": 10, "episode_s": 900}
    blocked = next(episodes_of(greedy, {**site, "longest_clearance_s": 0}, [9_000_011], "demand x1.5"))
    assert blocked.gridlock_onset_s is not None
    assert next(episodes_of(greedy, site, [9_000_011], "demand x1.5")).gridlock_onset_s is None


def test_every_condition_is_other_traffic_or_other_sight_of_the_same_traffic() -> None:
    pressure = contender("max_pressure", {"ahead": 0})
    short = {"site": "synthetic", "episode_s": 300}
    found = {name: next(episodes_of(pressure, short, [3], name)) for name in CONDITIONS}
    assert len({episode.digest for episode in found.values()}) == len(CONDITIONS)
    usual = found["as trained"].demand
    for name, share in (("demand x0.8", 0.8), ("demand x1.2", 1.2), ("demand x1.5", 1.5)):
        assert found[name].demand == pytest.approx(share * usual, rel=0.1)
    for name in ("sensor noise", "dead detector"):
        assert found[name].demand == usual


def test_tuning_keeps_what_it_tried_and_tries_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[str] = []
    real = episodes_of

    def noted(*arguments: Any) -> Any:
        played.append(arguments[0].name)
        return real(*arguments)

    monkeypatch.setattr("validation_ch7.section_7_6_rl_performance.second_study.development.play", noted)
    site = SignalEnv(episode_s=60)
    site.close()
    plan: dict[str, dict[str, list[int]]] = {
        "longest_queue": {"ahead": [0, 4]},
        "actuated": {"gap_s": [0], "longest_s": [45], "step_s": [8]},
        "fixed_time_tuned": {"step_s": [40]},
    }
    for _ in range(2):
        tuning = Tuning(site.intersection, tmp_path / "table.json", {"episode_s": 60}, [1])
        tuning.run(plan)
        assert {row["name"] for row in tuning.tried} == {*plan}
        assert tuning.chosen()["longest_queue"] in ({"ahead": 0}, {"ahead": 4})
    assert {*played} == {*plan}
    longest_s = [row["parameters"]["longest_s"] for row in tuning.tried if row["name"] == "actuated"]
    assert [45] * len(site.intersection.greens) == longest_s[0]
    assert [37, *longest_s[0][1:]] in longest_s, "of single phases"
    rows = {(row["name"], str(row["parameters"])) for row in tuning.tried}
    assert len(played) == len(tuning.tried) == len(rows)


def test_gymnasium_accepts_it_and_double_dqn_learns_in_it(env: SignalEnv) -> None:
    from gymnasium.utils.env_checker import check_env

    from validation_ch7.section_7_6_rl_performance.second_study.double_dqn import DoubleDQN, _Chosen

    check_env(env, skip_render_check=True)
    model = DoubleDQN("MlpPolicy", env, learning_starts=0, train_freq=1, n_steps=3, seed=1, device="cpu")
    model.learn(30)
    assert model._n_updates > 0
    assert model.q_net_target is model.policy.q_net_target
    observations, _ = model.policy.obs_to_tensor(env.observation_space.sample())
    target, chooser = model.q_net_target, model.q_net
    chosen = _Chosen(target, chooser)(observations)
    assert chosen.item() == target(observations)[0, chooser(observations).argmax()].item()


def test_a_training_with_it_and_double_dqn_resumes_after_a_kill() -> None:
    results = check_training(PROJECT, load_section(checks.SECTION_FILE), "signal_control")
    assert [result for result in results if not result.ok] == []
    assert "resumes after a kill" in [result.name for result in results]


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"episode_s": 63}, "cannot be simulated"),
        ({"min_green_s": 60}, "cannot be shown"),
        ({"yellow_s": -1}, "cannot be shown"),
        ({"reward": "money"}, "'money' to observe or to pay"),
        ({"observed": ["phase", "speed"]}, "'speed' to observe or to pay"),
    ],
)
def test_what_cannot_be_is_refused_before_sumo_starts(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SignalEnv(**kwargs)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_simulator_that_hangs_or_dies_is_a_clear_error_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    dies = SignalEnv(episode_s=60)
    dies.reset(seed=1)
    server = dies._simulation._server.pid
    os.kill(server, signal.SIGKILL)

    def go_on() -> None:
        for _ in range(3):  # an episode whose server is gone may still answer
            dies.step(1)
            dies.reset(seed=2)

    with pytest.raises(RunError, match="is gone"):
        go_on()
    hangs = SignalEnv(episode_s=60)
    hangs.reset(seed=1)
    monkeypatch.setattr(simulation, "ANSWER_TIMEOUT_S", 1)
    simulation._bound_reads(hangs._simulation._connection)
    second = hangs._simulation._server.pid
    (episode,) = (int(child) for child in Path(f"/proc/{second}/task/{second}/children").read_text().split())
    os.kill(episode, signal.SIGSTOP)
    with pytest.raises(RunError, match="did not answer within 1 s"):
        hangs.step(1)
    assert all(has_ended(process) for process in (server, second))
    with pytest.raises(RunError, match="closed"):
        hangs.reset(seed=1)
