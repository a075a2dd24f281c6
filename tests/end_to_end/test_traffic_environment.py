"""The traffic environment over real SUMO: exact, bounded, and gone when its trainer is gone."""

from __future__ import annotations

import hashlib
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import has_ended

from kaggle_manager.errors import RunError
from kaggle_manager.sections.model import load_section
from validation_ch7.section_7_6_rl_performance import preflight as checks
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.signal_plan import SignalPlan

pytestmark = pytest.mark.slow

pytest.importorskip("libsumo")

ROOT = Path(__file__).resolve().parents[2]


def play(env: TrafficSignalEnv, seed: int) -> str:
    """One episode of random actions, as a hash of everything the agent and the checks can see."""
    rng, seen = np.random.default_rng(seed), hashlib.sha256()
    observation, info = env.reset(seed=seed)
    truncated = False
    while not truncated:
        seen.update(observation.tobytes() + info["digest"].encode())
        observation, reward, _, truncated, info = env.step(int(rng.integers(4)))
        seen.update(np.float64(reward).tobytes())
    seen.update(repr(sorted(info["metrics"].items())).encode())
    return seen.hexdigest()


@pytest.fixture
def env() -> TrafficSignalEnv:
    made = TrafficSignalEnv()
    yield made
    made.close()


def children_of(pid: int) -> list[int]:
    """Direct children of a process, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def wait_until_gone(pids: list[int]) -> list[int]:
    """Those that still live after a time that only something that hangs takes."""
    deadline = time.monotonic() + 120
    while (left := [pid for pid in pids if not has_ended(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def test_episodes_are_bit_equal_in_one_process_in_fresh_ones_and_in_any_order(env: TrafficSignalEnv) -> None:
    seeds = [3, 1, 2, 1, 3]
    here = [play(env, seed) for seed in seeds]
    assert here[0] == here[4]
    assert here[1] == here[3]
    assert len(set(here)) == 3
    program = (
        "import hashlib, torch\nimport numpy as np\n"
        f"from {TrafficSignalEnv.__module__} import TrafficSignalEnv\n"
        f"{inspect.getsource(play)}\n"
        "env = TrafficSignalEnv()\nprint(play(env, 2), play(env, 1))\nenv.close()"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=500, check=True
    )
    assert elsewhere.stdout.split() == [here[2], here[1]]


def test_an_episode_cut_short_changes_nothing_for_the_next(env: TrafficSignalEnv) -> None:
    whole = play(env, 5)
    env.reset(seed=4)
    env.step(1)
    assert play(env, 5) == whole


def test_another_seed_is_other_traffic_under_the_same_actions(env: TrafficSignalEnv) -> None:
    digests = set()
    for seed in (1, 2):
        env.reset(seed=seed)
        digests.add([env.step(0)[4]["digest"] for _ in range(5)][-1])
    assert len(digests) == 2


def test_the_seed_in_info_replays_an_unseeded_episode(env: TrafficSignalEnv) -> None:
    env.reset(seed=9)
    _, first = env.reset()
    digest = env.step(2)[4]["digest"]
    _, second = env.reset()
    assert second["seed"] != first["seed"]
    env.reset(seed=first["seed"])
    assert env.step(2)[4]["digest"] == digest


def test_it_runs_beside_torch_threads_and_a_second_environment(env: TrafficSignalEnv) -> None:
    torch = pytest.importorskip("torch")
    stop = threading.Event()
    worker = threading.Thread(target=lambda: [torch.rand(64, 64) @ torch.rand(64, 64) for _ in iter(stop.is_set, True)])
    worker.start()
    second = TrafficSignalEnv()
    try:
        env.reset(seed=1)
        second.reset(seed=1)
        for action in (1, 2, 3):
            assert env.step(action)[4]["digest"] == second.step(action)[4]["digest"]
    finally:
        stop.set()
        worker.join()
        second.close()


def test_min_green_and_yellow_are_enforced() -> None:
    env = TrafficSignalEnv(decision_s=5, yellow_s=3, min_green_s=5, episode_s=60)
    try:
        observation, info = env.reset(seed=1)
        assert (info["phase"], observation[4]) == (0, 0.0)
        phases, flags = [], []
        for _ in range(5):
            observation, *_, info = env.step((info["phase"] + 1) % 4)
            phases.append(info["phase"])
            flags.append(float(observation[4]))
        # 5 s of the first green, then 3 s of yellow and 2 s of green: too short to leave again at once.
        assert phases == [0, 1, 1, 2, 2]
        assert flags == [1.0, 0.0, 1.0, 0.0, 1.0]
    finally:
        env.close()


def test_every_change_of_green_shows_yellow_first(env: TrafficSignalEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    advance = env._simulation.advance
    monkeypatch.setattr(env._simulation, "advance", lambda order: orders.append(order) or advance(order))
    env.reset(seed=1)
    for action in (0, 2, 2):
        env.step(action)
    greens = env.intersection.greens
    assert orders == [[(greens[0], 10)], [(env.intersection.yellow(0, 2), 3), (greens[2], 7)], [(greens[2], 10)]]


def test_gymnasium_and_stable_baselines_accept_it() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    from gymnasium.utils.env_checker import check_env

    env = TrafficSignalEnv(episode_s=60)
    try:
        check_env(env, skip_render_check=True)
        model = sb3.DQN("MlpPolicy", env, learning_starts=0, train_freq=1, seed=1, device="cpu")
        model.learn(14)
        assert model._n_updates > 0
    finally:
        env.close()


def test_the_shipped_plan_ignores_actions() -> None:
    env = TrafficSignalEnv(plan=SignalPlan(), episode_s=120)
    try:
        digests = []
        for action in (0, 3):
            env.reset(seed=1)
            digests.append([env.step(action)[4]["digest"] for _ in range(12)][-1])
        assert digests[0] == digests[1]
    finally:
        env.close()


def test_preflight_passes_and_trains_kills_and_resumes() -> None:
    results = checks.preflight(["traffic_light_control_ingolstadt1"])
    assert [result for result in results if not result.ok] == []
    names = [result.name.partition(": ")[2] for result in results]
    assert names[-3:-1] == ["resumes after a kill", "gradient updates are made"]


def test_preflight_names_what_fails() -> None:
    scenario = load_section(checks.SECTION_FILE).scenario()
    assert [result for result in checks.check_environment(scenario) if not result.ok] == []
    blind = scenario.model_copy(update={"environment_kwargs": {"detection_m": 0.0}})
    failed = {result.name: result.detail for result in checks.check_environment(blind) if not result.ok}
    assert "look at the demand" in failed["queues form"]
    assert "look at reward.py" in failed["random actions give varied rewards"]
    nowhere = scenario.model_copy(update={"environment_kwargs": {"intersection": "paris"}})
    (only,) = checks.check_environment(nowhere)
    assert not only.ok
    assert "choose one of: synthetic" in only.detail


def test_quick_mode_is_a_few_decisions() -> None:
    quick = load_section(checks.SECTION_FILE).scenario().for_quick()
    env = TrafficSignalEnv(**quick.environment_kwargs)
    try:
        assert env.episode_s // env.decision_s <= 10
    finally:
        env.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_close_leaves_no_process_and_later_use_is_an_error() -> None:
    env = TrafficSignalEnv(episode_s=60)
    env.reset(seed=1)
    server = env._simulation._server.pid
    processes = [server, *children_of(server)]
    assert len(processes) == 2
    env.close()
    env.close()
    assert wait_until_gone(processes) == []
    with pytest.raises(RunError, match="closed"):
        env.reset(seed=1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_forgotten_environment_ends_its_processes() -> None:
    env = TrafficSignalEnv(episode_s=60)
    env.reset(seed=1)
    server = env._simulation._server.pid
    processes = [server, *children_of(server)]
    del env
    assert wait_until_gone(processes) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_nothing_survives_a_trainer_that_is_killed() -> None:
    program = (
        "from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv\n"
        "env = TrafficSignalEnv(); env.reset(seed=1); other = TrafficSignalEnv(); other.reset(seed=2)\n"
        "print(env._simulation._server.pid, other._simulation._server.pid, flush=True)\n"
        "while True: env.step(1); env.snapshot.trips and env.reset(seed=1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        servers = [int(pid) for pid in trainer.stdout.readline().split()]
        episodes = [child for server in servers for child in children_of(server)]
        assert len(servers) == 2
        assert episodes
        trainer.send_signal(signal.SIGKILL)
        trainer.wait(timeout=120)
    assert wait_until_gone([*servers, *episodes]) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize("victim", ["episode", "server"])
def test_a_simulator_that_dies_is_a_clear_error_not_a_hang(victim: str) -> None:
    env = TrafficSignalEnv()
    env.reset(seed=1)
    server = env._simulation._server.pid
    (episode,) = children_of(server)
    os.kill(episode if victim == "episode" else server, signal.SIGKILL)

    def go_on() -> None:
        for _ in range(3):  # an episode whose server is gone may still answer
            env.step(1)
            env.reset(seed=2)

    with pytest.raises(RunError, match="killed by SIGKILL" if victim == "episode" else "is gone"):
        go_on()
    assert wait_until_gone([server, episode]) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stops a process")
def test_a_simulator_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    env = TrafficSignalEnv()
    env.reset(seed=1)
    server = env._simulation._server.pid
    (episode,) = children_of(server)
    os.kill(episode, signal.SIGSTOP)
    monkeypatch.setattr("validation_ch7.section_7_6_rl_performance.simulation.STEP_TIMEOUT_S", 0.5)
    with pytest.raises(RunError, match="did not answer within"):
        env.step(1)
    assert wait_until_gone([server, episode]) == []


def test_a_libsumo_that_cannot_load_says_which_library_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "libsumo.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError) as refused:
        TrafficSignalEnv()
    assert "libGL.so is missing" in str(refused.value)
    assert "apt-get install libgl1" in str(refused.value)


def test_a_demand_that_sumo_refuses_is_a_run_error(tmp_path: Path) -> None:
    env = TrafficSignalEnv()
    bad = tmp_path / "bad.rou.xml"
    bad.write_text('<routes><trip id="a" depart="0" from="nowhere" to="N_out"/></routes>', encoding="utf-8")
    env.intersection = replace(env.intersection, route_file=bad)
    with pytest.raises(RunError, match="SUMO stopped"):
        env.reset(seed=1)


def test_rewards_and_observations_follow_the_traffic(env: TrafficSignalEnv) -> None:
    observation, _ = env.reset(seed=1)
    assert not observation[5:].any()
    rewards = [env.step(0)[1] for _ in range(30)]
    assert rewards == sorted(rewards, reverse=True)
    assert np.ptp(rewards) > 1
