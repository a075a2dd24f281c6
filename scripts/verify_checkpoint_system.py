#!/usr/bin/env python3
"""Prove, on this machine, that nothing is lost: save, kill, recover, damage, push, download, restore, resume.

    python scripts/verify_checkpoint_system.py

Every check performs what it names, in a folder of its own, and prints what it saw. ✅ held, ⚠️ worth a look, ❌ failed;
the exit code is 1 when anything failed. Takes about two minutes and touches no training of yours.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.checkpoints import (
    CheckpointStore,
    Level,
    TrainingTree,
    compare,
    pack_tree,
    restore_tree,
    unpack_tree,
)
from kaggle_manager.cli.doctor import secret_files
from kaggle_manager.config import build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import CheckpointCorrupt, KaggleManagerError, VerificationError
from kaggle_manager.local_kaggle.launcher import stop
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sessions.bundle import build_bundle

PROJECT = Path(__file__).resolve().parents[1]
SECTION = "section_7_6_rl_performance"
SCENARIO = "traffic_light_control"
KILLS = 6
# What a Kaggle credential looks like in a file: a token, or the key of a kaggle.json.


class Doubt(Exception):
    """A check that did not fail, but found something worth a look."""


@dataclass(frozen=True)
class Ground:
    """Where the checks work: `workdir` is deleted at the end."""

    workdir: Path

    @property
    def trained(self) -> TrainingTree:
        """The tree of the trainer that is killed again and again."""
        return TrainingTree(self.workdir / f"validation_ch7/{SECTION}/data/models", SCENARIO)

    @property
    def downloaded(self) -> TrainingTree:
        """The tree the local Kaggle's outputs are restored into."""
        return TrainingTree(self.workdir / f"kaggle/validation_ch7/{SECTION}/data/models_quick", SCENARIO)


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


# --- installation -----------------------------------------------------------------------------------------------------


def packages_import(ground: Ground) -> str:
    names = {"kagglesdk": "kagglesdk", "torch": "torch", "stable_baselines3": "stable-baselines3", "libsumo": "libsumo"}
    versions = []
    for module, package in names.items():
        importlib.import_module(module)
        versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"Python {sys.version.split()[0]}, " + ", ".join(versions)


def section_and_folders_are_usable(ground: Ground) -> str:
    config = build_config(SECTION, workdir=ground.workdir)
    config.tree.parent.mkdir(parents=True, exist_ok=True)
    (config.tree.parent / ".writable").touch()
    free = shutil.disk_usage(ground.workdir).free
    if free < 1_000_000_000:
        raise Doubt(f"only {free / 1e6:.0f} MB are free in {ground.workdir}")
    return f"{SECTION} trains {config.scenario_name}; {free / 1e9:.0f} GB free"


def no_secret_in_the_repository(ground: Ground) -> str:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Doubt("this is no git checkout, so there is no list of files to search") from error
    names = [name for name in listed.stdout.decode().split("\0") if name and (PROJECT / name).is_file()]
    found = [
        n for n in names if secret_files.NAMES.search(n) or secret_files.CONTENTS.search((PROJECT / n).read_bytes())
    ]
    require(not found, f"looks like a credential: {', '.join(found)}")
    return f"{len(names)} tracked files searched"


def bundle_holds_only_sources(ground: Ground) -> str:
    config = build_config(SECTION)
    bundle = build_bundle(config.project_root, config.section)
    strange = [name for name, _ in bundle.files if not name.endswith((".py", ".toml", ".xml"))]
    require(not strange, f"not source code: {strange}")
    return f"{len(bundle.files)} files, sha256 {bundle.sha256[:12]}…"


# --- saving and losing ------------------------------------------------------------------------------------------------


def trainer(ground: Ground, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "kaggle_manager.trainer.sb3.train_dqn", "--workdir", str(ground.workdir), *options]
    log = (ground.workdir / "trainer.log").open("ab")
    with log:
        return subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT)


def trainer_saves_two_checkpoints(ground: Ground) -> str:
    done = trainer(ground, "--timesteps", "200").wait(timeout=120)
    require(done == 0, f"the trainer ended with code {done}; see {ground.workdir / 'trainer.log'}")
    steps = [checkpoint.step for checkpoint in CheckpointStore(ground.trained).valid_checkpoints()]
    require(steps == [200, 100], f"expected checkpoints at 200 and 100, found {steps}")
    return "steps 200 and 100, model, replay rows and state each committed by one manifest"


def killed_trainer_loses_nothing(ground: Ground) -> str:
    """SIGKILL while it saves and between saves; after each one two checkpoints verify and the step never went back."""
    moments, seen = random.Random(), 200
    for kill in range(KILLS):
        process = trainer(ground, "--timesteps", "100000", "--save-every", "5")
        before = newest_name(ground)
        deadline = time.monotonic() + 60
        while newest_name(ground) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        # A moment within the next few saves, which follow each other closely.
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        process.wait()
        found = [checkpoint.step for checkpoint in CheckpointStore(ground.trained).valid_checkpoints()]
        # A kill between a commit and the rotation behind it leaves one more than two.
        require(len(found) >= 2, f"after kill {kill + 1}: valid checkpoints at {found}")
        require(found[0] >= seen, f"after kill {kill + 1}: step {found[0]} found, at least {seen} expected")
        seen = found[0]
    require(seen > 200, "no kill came after a save")
    return f"{KILLS} times SIGKILL, at least two valid checkpoints every time, step {seen} reached"


def newest_name(ground: Ground) -> str:
    names = [path.name for path in ground.trained.checkpoints.glob("*.manifest.json")]
    return max(names, key=lambda name: int(re.sub(r"\D", "", name) or 0), default="")


def damaged_checkpoint_is_refused(ground: Ground) -> str:
    store = CheckpointStore(ground.trained, warn=lambda text: None)
    newest, older, *oldest = store.valid_checkpoints()
    flip_a_bit(newest.model_path)
    found = store.claim_latest_checkpoint()
    require(found is not None and found.step == older.step, "the damaged checkpoint was used")
    require(ground.trained.quarantine.is_dir(), "the damaged checkpoint was not kept aside")
    for checkpoint in (older, *oldest):
        flip_a_bit(checkpoint.model_path)
    try:
        store.find_latest_checkpoint()
    except CheckpointCorrupt:
        return (
            f"step {newest.step} quarantined, step {older.step} used; with both damaged: refused, not started from zero"
        )
    raise AssertionError("with both checkpoints damaged a training would have started from zero in silence")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def resume_is_bit_identical(ground: Ground) -> str:
    from kaggle_manager.trainer.sb3.selftest import prove

    proof = prove("dqn", ground.workdir / "selftest", kills=2)
    require(not proof.differing, f"differs in {', '.join(proof.differing)}")
    return f"DQN killed {proof.kills} times ends with the bits of a run that was never cut ({proof.seconds:.0f} s)"


# --- the circle -------------------------------------------------------------------------------------------------------


def local_kaggle_circle(ground: Ground) -> str:
    """Push, run, download, verify, restore, relaunch, resume: `--quick` on the local Kaggle."""
    workdir = ground.workdir / "kaggle"
    workdir.mkdir()
    with (ground.workdir / "circle.log").open("w", encoding="utf-8") as log:
        manager = ValidationKaggleManager(platform="local", workdir=workdir, reporter=Reporter(log))
        report = manager.run_validation_section(SECTION, quick=True)
    require(report.step == 2 and len(report.sessions) == 2, f"ended at step {report.step}")
    counts = report.counts
    return (
        f"2 sessions, {counts['updates']} gradient updates, {counts['evaluations']} evaluations, "
        f"{counts['restores']} restores; code sha256 {report.bundle_sha256[:12]}…"
    )


def damaged_download_is_not_restored(ground: Ground) -> str:
    head = CheckpointStore(ground.downloaded).find_latest_checkpoint()
    require(head is not None, "the circle left no tree")
    assert head is not None
    download = ground.workdir / "download"
    shutil.copytree(ground.downloaded.root, download)
    newest = max(download.rglob("*_steps.zip"), key=lambda path: path.name)
    newest.write_bytes(newest.read_bytes()[:-7])
    lineage = head.manifest.lineage
    try:
        restore_tree(
            download,
            ground.downloaded,
            run_id=lineage.run_id,
            generation=lineage.generation,
            min_step=head.step,
            keep_replaced=ground.workdir / "kept",
        )
    except VerificationError as error:
        after = CheckpointStore(ground.downloaded).find_latest_checkpoint()
        require(after is not None and after.manifest == head.manifest, "the local tree was changed")
        return f"{type(error).__name__}; the local tree is as it was"
    raise AssertionError("a truncated checkpoint was restored")


def pack_survives_the_journey(ground: Ground) -> str:
    folder, arrived = ground.workdir / "pack", ground.workdir / "arrived"
    index = None
    pack_tree(ground.downloaded, folder)
    index = unpack_tree(folder, arrived)
    found = CheckpointStore(TrainingTree(arrived, SCENARIO)).find_latest_checkpoint()
    require(found is not None and found.manifest.sha256 == index.head_manifest_sha256, "another checkpoint arrived")
    return f"{len(index.files)} files, {index.pack_size / 1e6:.1f} MB, head {index.head_manifest_sha256[:12]}…"


def changed_experiment_is_refused(ground: Ground) -> str:
    section = build_config(SECTION).section
    identity = identity_of(section, SCENARIO, PROJECT)
    require(compare(identity, identity).level is Level.OK, "an experiment does not fit itself")
    changed = {**identity, "policy_architecture": [128, 128]}
    verdict = compare(identity, changed)
    require(verdict.refused, "another network was accepted")
    return str(verdict.differences[0]).partition(" - ")[0]


CHECKS: dict[str, list[Callable[[Ground], str]]] = {
    "Installation": [
        packages_import,
        section_and_folders_are_usable,
        no_secret_in_the_repository,
        bundle_holds_only_sources,
    ],
    "Saving and losing": [
        trainer_saves_two_checkpoints,
        killed_trainer_loses_nothing,
        damaged_checkpoint_is_refused,
        resume_is_bit_identical,
    ],
    "Push, download, restore, resume": [
        local_kaggle_circle,
        damaged_download_is_not_restored,
        pack_survives_the_journey,
        changed_experiment_is_refused,
    ],
}


def outcomes(ground: Ground) -> Iterator[str]:
    """Perform every check, printing as it goes; yield its sign."""
    for title, checks in CHECKS.items():
        print(f"\n{title}")
        for check in checks:
            name, started = check.__name__.replace("_", " "), time.monotonic()
            try:
                sign, detail = "✅", check(ground)
            except Doubt as doubt:
                sign, detail = "⚠️", str(doubt)
            except KaggleManagerError as error:
                sign, detail = "❌", f"{type(error).__name__}: {error}"
            except Exception as error:
                sign, detail = "❌", str(error) or type(error).__name__
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
            print(f"  {sign} {name} ({time.monotonic() - started:.1f} s): {detail}", flush=True)
            yield sign


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    with tempfile.TemporaryDirectory(prefix="km_verify_", ignore_cleanup_errors=True) as folder:
        ground = Ground(Path(folder))
        try:
            signs = list(outcomes(ground))
        finally:
            stop(ground.workdir / "kaggle/local_kaggle")
    failed, doubts = signs.count("❌"), signs.count("⚠️")
    print(f"\n{signs.count('✅')} ✅  {doubts} ⚠️  {failed} ❌")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
