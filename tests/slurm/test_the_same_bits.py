"""One section, one seed: a chain of jobs through what ends managers, jobs and the controller, the local Kaggle and an
uninterrupted training end with the same bits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cart_project import SCENARIO, SECTION, make_cart
from loopback_slurm import LoopbackSlurm
from small_project import ROOT, Told

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.manager import ValidationKaggleManager

pytestmark = pytest.mark.slow
HANGS_S = 900.0  # ends a test that waits for what does not come
OUTAGE = re.compile("Slurm does not say|controller does not answer")
TARGET, STEPS = 72, 24
HYPERPARAMETERS = """
[scenarios.cart.hyperparameters]
learning_starts = 10
buffer_size = 60
batch_size = 8
policy_kwargs = { net_arch = [8] }
"""


# What a user starts, but that a killed session is not waited after.
RUN = """
import dataclasses, sys
from pathlib import Path
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import passes
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.runs import retry_policy
project, workdir, section, steps = sys.argv[1:]
passes.TROUBLE_WAIT_S = 0.5
for kind, policy in retry_policy.POLICIES.items():
    retry_policy.POLICIES[kind] = dataclasses.replace(policy, wait_s=0.0)
ValidationKaggleManager(
    platform="slurm", workdir=Path(workdir), project_root=Path(project), notifier=Notifier(),
    check_before_push=lambda config, reporter, stated: None,
).run_validation_section(section, max_steps=int(steps))
"""


def cart_in(folder: Path) -> Path:
    return make_cart(folder / "project", target=TARGET, every=STEPS, scenario=HYPERPARAMETERS)


def trained(cart: Path, workdir: Path, platform: str, max_steps: int | None) -> int:
    """Over how many sessions."""
    manager = ValidationKaggleManager(
        platform=platform,
        workdir=workdir,
        project_root=cart,
        reporter=Told(),
        check_before_push=lambda config, reporter, stated: None,
        notifier=Notifier(),
    )
    return len(manager.run_validation_section(SECTION, max_steps=max_steps).sessions)


def bits(workdir: Path) -> str:
    """The digest of everything that defines what would follow."""
    final = CheckpointStore(TrainingTree(workdir / "sections" / SECTION / "data/models", SCENARIO)).final()
    assert final is not None
    assert final.step == TARGET
    return final.manifest.certificate


def until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + HANGS_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def a_chain_through_everything(slurm: LoopbackSlurm, cart: Path, workdir: Path) -> int:
    """Four jobs: the manager is killed while the second one runs, this with all it has, then the controller is away.

    Returns:
        in how many sessions a job worked.
    """
    workdir.mkdir()
    said = workdir / "said.txt"

    def manager() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-u", "-c", RUN, str(cart), str(workdir), SECTION, str(STEPS)]
        with said.open("wb") as out:
            return subprocess.Popen(
                words, cwd=cart, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=out
            )

    with manager() as first:
        until(lambda: [*workdir.glob("slurm/runs/*/2/started")] or first.poll() is not None, "a second job")
        first.send_signal(signal.SIGKILL)
    (begun,) = workdir.glob("slurm/runs/*/2/started")
    slurm.kill(job := begun.read_text().strip())
    until(lambda: job not in slurm.jobs(), "the end of the second job")
    slurm.controller_down()
    with manager() as second:
        try:
            # It is seen when the killed job is asked for, or when the next one is submitted: as far as that job came.
            until(lambda: OUTAGE.search(said.read_text()) or second.poll() is not None, "a word of the outage")
        finally:
            slurm.controller_up()
        assert second.wait(HANGS_S) == 0, said.read_text()
    return len([*workdir.glob("slurm/runs/*/*/started")])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bits of one session on the local Kaggle."""
    folder = tmp_path_factory.mktemp("one")
    try:
        assert trained(cart_in(folder), folder / "work", "local", None) == 1
    finally:
        stop(folder / "work/local_kaggle")
    return bits(folder / "work")


def test_a_chain_of_jobs_ends_with_the_bits_of_an_uninterrupted_training_on_the_local_kaggle(
    slurm: LoopbackSlurm, tmp_path: Path, uninterrupted: str
) -> None:
    assert a_chain_through_everything(slurm, cart_in(tmp_path), tmp_path / "work") == 4
    assert bits(tmp_path / "work") == uninterrupted != ""


def test_the_local_kaggle_cut_in_the_same_places_ends_with_the_same_bits(tmp_path: Path, uninterrupted: str) -> None:
    try:
        assert trained(cart_in(tmp_path), tmp_path / "work", "local", STEPS) == TARGET // STEPS
    finally:
        stop(tmp_path / "work/local_kaggle")
    assert bits(tmp_path / "work") == uninterrupted


def test_a_quick_run_on_slurm_is_one_command(slurm: LoopbackSlurm, tmp_path: Path) -> None:
    def km(*words: str) -> str:
        command = [sys.executable, "-m", "kaggle_manager.cli", *words]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANGS_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    km("init", "mine")
    said = km("run", "mine", "--platform", "slurm", "--quick")
    assert "platform: slurm" in said
    assert "over 2 sessions" in said
    assert len([*tmp_path.glob(".kaggle_manager/slurm/runs/*/*/started")]) == 2
    assert "FINISHED  mine (quick)" in km("status")
