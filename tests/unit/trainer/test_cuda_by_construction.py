"""What holds on a GPU is shown without one: `meta` stands for its tensors, a stand-in for torch.cuda counts wakings."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO, SAC
from trainer_runs import launch_order, session, settings

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.trainer import main
from kaggle_manager.trainer.runtime import gpu
from kaggle_manager.trainer.sb3 import accelerator_gain, determinism, env_state, exact_state, trainer
from kaggle_manager.trainer.sb3.accelerator_gain import measure_gain
from kaggle_manager.trainer.sb3.checkpoint_writer import Changes
from kaggle_manager.trainer.sb3.worker_process import WorkerProcess


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """A tensor of another device, whose copies to the CPU are of ones."""
    cpu = torch.Tensor.cpu

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        return torch.ones(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else cpu(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", copied)
    return torch.zeros(2, 3, device="meta")


def devices(value: Any) -> set[str]:
    if isinstance(value, torch.Tensor):
        return {value.device.type}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return {device for part in parts for device in devices(part)}


def look(argument: Any) -> tuple[set[str], float]:
    return devices(argument), float(argument["matrices"][0].sum())


def test_no_tensor_of_a_gpu_reaches_the_process_that_writes(elsewhere: torch.Tensor) -> None:
    worker = WorkerProcess(look)
    parameter = torch.nn.Parameter(elsewhere.clone())
    worker.start({"matrices": [elsewhere], "deep": ({"more": parameter},)})
    assert worker.join() == ({"cpu"}, 6.0)
    worker.close()


def test_no_tensor_of_a_gpu_is_among_a_models_attributes(elsewhere: torch.Tensor) -> None:
    values = {"batch_norm_stats": [elsewhere], "schedule": lambda progress: progress}
    assert devices(pickle.loads(Changes().of({"batch_norm_stats": [elsewhere]}))) == {"cpu"}
    assert devices(pickle.loads(Changes().of(values))) == {"cpu"}, "also beside what only cloudpickle takes"


def test_recurrent_states_are_saved_from_a_gpu_and_put_back_onto_it(elsewhere: torch.Tensor) -> None:
    model = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=8, batch_size=8, policy_kwargs={"lstm_hidden_size": 2})
    training = exact_state.Training(model, "none", {})
    states = model._last_lstm_states
    model._last_lstm_states = type(states)((elsewhere, elsewhere), (elsewhere, elsewhere))
    saved = exact_state.collect(training)["recurrent_states"]
    assert [[array.sum() for array in part] for part in saved] == [[6.0, 6.0], [6.0, 6.0]]
    model.device = torch.device("meta")
    exact_state.ITEMS["recurrent_states"].restore(training, saved)
    assert {state.device.type for part in model._last_lstm_states for state in part} == {"meta"}


def test_looking_at_an_environment_wakes_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    load = torch.load

    def recorded(*arguments: Any, **options: Any) -> Any:
        asked.append(options.get("map_location"))
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", recorded)
    state = {"layers": [], "environments": [{"env": pickle.dumps({"weights": torch.ones(2)})}]}
    assert env_state.digests(state)["environments"]
    assert asked == ["cpu"]


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for the driver's program is a script")
def test_the_writer_is_forked_before_cuda_wakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    def wakes(*_: Any) -> bool:
        happened.append("CUDA wakes")
        return False

    for name in ("is_available", "get_device_name", "get_device_properties", "device_count", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, wakes)

    class Recorded(WorkerProcess[Any, Any]):
        def __init__(self, function: Any) -> None:
            happened.append("the writer is forked")
            super().__init__(function)

    monkeypatch.setattr(trainer, "WorkerProcess", Recorded)
    driver = tmp_path / "bin/nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho Tesla T4\necho Tesla T4\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("KM_EMULATED_ACCELERATOR", raising=False)
    monkeypatch.setattr(main, "CODE", tmp_path)
    monkeypatch.setenv("KM_WORKING_DIR", str(tmp_path / "working"))
    monkeypatch.setenv("KM_INPUT_DIR", str(tmp_path / "input"))
    code = main.run(launch_order(tmp_path, accelerator="NvidiaTeslaT4"))
    assert happened[0] == "the writer is forked"
    assert "CUDA wakes" in happened, "the stand-in stands in the way"
    assert code == 3, "Stable-Baselines3 would train on the CPU without a word"


def test_the_driver_names_the_gpu_where_its_program_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_DRIVER", tmp_path)
    assert gpu.gpu_name() == ""
    (tmp_path / "0000:00:04.0").mkdir()
    (tmp_path / "0000:00:04.0/information").write_text("Model: \t\t Tesla P100-PCIE-16GB\nIRQ:   \t\t 33\n")
    assert gpu.gpu_name() == "Tesla P100-PCIE-16GB"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 11\n",
            "535.104.05",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n", "570.86.15"),
        ("NVRM version: something new\n", ""),
        (None, ""),
    ],
)
def test_the_driver_says_its_version_where_its_program_is_missing(
    said: str | None, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "_VERSION", tmp_path / "version")
    if said is not None:
        (tmp_path / "version").write_text(said)
    assert gpu.driver_version() == version


@pytest.mark.parametrize(("algorithm", "policy"), [(PPO, "MlpPolicy"), (SAC, "MlpPolicy")])
def test_the_gain_of_a_policy_that_cannot_be_copied_is_measured(
    algorithm: Any, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator_gain, "MEASURE_S", 0.02)
    model = algorithm(policy, gymnasium.make("Pendulum-v1"), use_sde=True, seed=1, device="cpu")
    if algorithm is PPO:
        model.policy.reset_noise()
    before = torch.get_rng_state()
    assert measure_gain(model.policy, "cpu", 8) > 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_gain_that_cannot_be_measured_ends_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> float:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(trainer, "measure_gain", fails)
    monkeypatch.setattr(trainer, "_check_device", lambda _: None)
    monkeypatch.setattr(determinism, "fingerprint", lambda device: fingerprint("cpu"))
    monkeypatch.setattr(determinism, "make_deterministic", lambda device: None)
    outcome = session(settings(tmp_path, total=60, device="cuda"))
    assert (outcome.kind, outcome.accelerator_gain) == ("completed", None)
    assert "not measured: RuntimeError: CUDA out of memory" in capsys.readouterr().out


fingerprint = determinism.fingerprint


class Scattering(torch.nn.Module):
    """An activation that uses an operation torch has no deterministic kernel for, on any device."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        torch.zeros(4).put_(torch.tensor([1]), torch.tensor([1.0]))
        return torch.relu(values)


@pytest.mark.slow
def test_an_operation_without_a_deterministic_kernel_breaks_exactness_and_ends_nothing(tmp_path: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    hyperparameters = {"learning_starts": 20, "policy_kwargs": {"net_arch": [8], "activation_fn": Scattering}}
    chosen = settings(tmp_path, total=100, hyperparameters=hyperparameters, evaluate_every=1000)
    try:
        determinism.make_deterministic("cuda")
        for max_steps in (60, None):
            session(chosen, max_steps)
    finally:
        torch.use_deterministic_algorithms(before)
    newest = CheckpointStore(TrainingTree(tmp_path, "cart")).valid_checkpoints()[0]
    (found,) = newest.manifest.exact["broken"]
    assert found["why"] == "put_ has no deterministic kernel on cpu", "and it is said once, not in each session"
    assert 0 < found["step"] < 60
    assert newest.manifest.exact["exact"] == "none"
