"""Any sequence of saves, evaluations, crashes, full disks, damage and recoveries keeps the store's promises."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import crash_workload as workload
import pytest
from crash_disks import Died, DyingDisk, FailingDisk
from crash_workload import SCENARIO, mixed
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kaggle_manager.checkpoints import CheckpointStore, Disk, TrainingTree, contents
from kaggle_manager.errors import CheckpointCorrupt, StorageError

pytestmark = pytest.mark.slow


class StoreMachine(RuleBasedStateMachine):
    """A trainer whose luck is drawn. `acknowledged` holds the steps that must still be found."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="machine_", dir=memory if memory.is_dir() else None))
        self.tree = TrainingTree(self.folder / "models", SCENARIO)
        self.acknowledged: list[int] = []
        self.best: float | None = None
        self.step = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def store(self, disk: Disk | None = None) -> CheckpointStore:
        return CheckpointStore(self.tree, disk=disk, warn=lambda message: None)

    def save_on(self, disk: Disk) -> None:
        store = self.store(disk)
        log, step = workload.resume_log(store, disk)
        workload.save(store, log, step + 1)
        self.acknowledged = [step, step + 1] if step else [step + 1]  # `step` verified just now

    @rule()
    def save(self) -> None:
        self.save_on(Disk())

    @rule(call=st.integers(0, 60))
    def save_and_die(self, call: int) -> None:
        with contextlib.suppress(Died):
            self.save_on(DyingDisk(call))

    @rule(call=st.integers(0, 60), error=st.sampled_from([errno.ENOSPC, errno.EIO]), persistent=st.booleans())
    def save_on_a_bad_disk(self, call: int, error: int, persistent: bool) -> None:
        with contextlib.suppress(StorageError, CheckpointCorrupt):
            self.save_on(FailingDisk(call, error, persistent))

    @rule(score=st.floats(-10, 10), call=st.none() | st.integers(0, 30), shares=st.booleans())
    def evaluate(self, score: float, call: int | None, shares: bool) -> None:
        self.step += 1
        with contextlib.suppress(Died), patch.object(contents, "SHARED_FROM", 0):
            store = self.store(None if call is None else DyingDisk(call))
            of = next(iter(store.valid_checkpoints()), None) if shares else None
            seen = of.step if of else self.step
            won = workload.save_best(store, seen, score, of)
            assert won == (self.best is None or score > self.best)
        found = self.store().best()
        self.best = None if found is None else found.manifest.score

    @rule(which=st.integers(0, 7), byte=st.integers(0, 400))
    def damage_one_file(self, which: int, byte: int) -> None:
        """Only when both promised checkpoints are whole: the store keeps two, so that one may be lost."""
        below = sorted(self.tree.checkpoints.rglob("*"))
        files = [path for path in below if path.is_file() and path.parent.name != "replay"]
        if len(self.acknowledged) < 2 or len(files) != 8:
            return
        path = files[which]
        data = bytearray(path.read_bytes())
        data[byte % len(data)] ^= 0x10
        best = self.store().best()
        is_best = best is not None and path.samefile(best.model_path)
        path.write_bytes(data)
        if is_best:  # one file with two names: that one is gone, or what it was to replace is the best again
            found = self.store().best()
            assert found is None or found.manifest.score != self.best
            self.best = None if found is None else found.manifest.score
        lost = [step for step in self.acknowledged if f"_{step}_" in str(path)]
        self.acknowledged = [step for step in self.acknowledged if step not in lost]

    @rule()
    def recover(self) -> None:
        self.store().recover()
        assert not self.store().recover()

    @invariant()
    def what_was_promised_is_found(self) -> None:
        valid = self.store().valid_checkpoints()
        steps = [checkpoint.step for checkpoint in valid]
        assert len(valid) >= len(self.acknowledged), (steps, self.acknowledged)
        assert not self.acknowledged or steps[0] >= self.acknowledged[-1]
        assert [problem for checkpoint in valid for problem in mixed(checkpoint)] == []

    @invariant()
    def best_never_gets_worse(self) -> None:
        found = self.store().best()
        assert (None if found is None else found.manifest.score) == self.best
        assert found is None or found.read("model") == workload.model_bytes(found.manifest.metrics["seen"])


StoreMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    phases=[Phase.reuse, Phase.generate],  # shrinking such a machine takes longer than reading what it did
    suppress_health_check=list(HealthCheck),
)
TestStore = StoreMachine.TestCase
