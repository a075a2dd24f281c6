#!/usr/bin/env python3
"""Make tests/fixtures/formats/VERSION: what this version of the program writes, for every later version to read.

    python scripts/make_format_fixtures.py

Small trainings of tests/support/format_project run on a local Kaggle, up to where a machine is when the program is
updated in the middle of a run: a session of `toy` has ended, and nothing of it is downloaded yet. Paths of this machine
are replaced by a name (`PLACE`), and what opens an account, or is only bulk, is left out.
The folder of a version that was released is never made again: `--replace` is for the version in the making.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from format_place import PLACE, databases, in_every_text  # noqa: E402

from kaggle_manager.checkpoints import find_latest_checkpoint  # noqa: E402
from kaggle_manager.checkpoints.archive import INDEX_NAME, read_index  # noqa: E402
from kaggle_manager.config import RunConfig, build_config  # noqa: E402
from kaggle_manager.console.reporter import Reporter  # noqa: E402
from kaggle_manager.integrations.model_card import PublishedModel, facts_of  # noqa: E402
from kaggle_manager.local_kaggle.launcher import stop  # noqa: E402
from kaggle_manager.notify.delivery import Message, deliver  # noqa: E402
from kaggle_manager.orchestrator.manager import ValidationKaggleManager  # noqa: E402
from kaggle_manager.runs.journal import Journal  # noqa: E402
from kaggle_manager.sections.trial import study_folder  # noqa: E402
from kaggle_manager.sessions.bundle import order_of  # noqa: E402
from kaggle_manager.status.run_status import describe_all  # noqa: E402
from kaggle_manager.sweeps.loop import SweepLoop  # noqa: E402
from kaggle_manager.sweeps.study import Study, experiment_of  # noqa: E402
from kaggle_manager.trees.backups import back_up  # noqa: E402
from kaggle_manager.trees.compatibility import current_identity  # noqa: E402
from kaggle_manager.trees.export import export_run  # noqa: E402

FIXTURES = ROOT / "tests/fixtures/formats"
DOCUMENTS = ("status", "history", "checkpoints ls toy", "checkpoints verify line_dqn", "sweep swept --status")
LARGEST_BYTES = 700_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the fixtures of this version's formats.")
    parser.add_argument("--replace", action="store_true", help="make them again; never those of a released version")
    release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    into = FIXTURES / release
    if parser.parse_args().replace:
        shutil.rmtree(into, ignore_errors=True)
    elif into.exists():
        parser.error(f"{into} is there: later versions have to read what was written then")
    for name in [name for name in os.environ if name.startswith(("KAGGLE_", "KM_"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve() / "place"
        shutil.copytree(ROOT / "tests/support/format_project", place / "project")
        os.environ |= {"HOME": folder, "PYTHONPATH": str(ROOT), "KM_WORKDIR": str(place / "work")}
        try:
            train(place)
        finally:
            stop(place / "work/local_kaggle")
        write_down(place)
        account = json.loads((place / "work/local_kaggle/account.json").read_text(encoding="utf-8"))
        secrets = [account[name] for name in ("token", "key", "signing_key")]
        leave_out(place)
        for path in databases(place):
            in_every_text(path, str(place), PLACE)
        check(
            place,
            never=[folder, str(ROOT), *secrets, *([socket.gethostname()] if len(socket.gethostname()) > 4 else [])],
        )
        shutil.copytree(place, into)
    size = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    print(f"{into.relative_to(ROOT)}: {size:,} bytes")


def train(place: Path) -> None:
    """Every kind of training, and what else is written of one."""
    project, work = place / "project", place / "work"
    (work / "local_kaggle").mkdir(parents=True)
    (work / "local_kaggle/limits.json").write_text('{"ingestion_s": 0.0}')
    manager = ValidationKaggleManager(
        platform="local", workdir=work, project_root=project, check_before_push=lambda *_: None
    )
    build = partial(build_config, workdir=work, project_root=project)
    for timesteps in (48, 64):  # the second continues from a checkpoint, with a replay buffer that goes round
        manager.run_validation_section("line_dqn", timesteps=timesteps)
    manager.run_validation_section("line_ppo")
    sweep(manager, build, work)
    manager.run_validation_section("toy")
    export_run(build("toy"), str(place / "export"), tell=print)
    back_up(build("toy"), "before more epochs")
    manager.tick("toy", timesteps=30)
    while not (newest_session(place) / "verdict.json").exists():
        time.sleep(0.1)


def sweep(manager: ValidationKaggleManager, build: Callable[..., RunConfig], work: Path) -> None:
    """Two trials of `swept`, one of which is paused at its rung."""
    config = build("swept")
    table = config.section.sweep
    stops, experiment = table.stops(config.target), experiment_of(current_identity(config))
    study = Study.begin(study_folder(work, "swept"), "swept", stops, table, experiment)

    def run_of(scenario: str, seed: int | None) -> RunConfig:
        return build("swept", scenario=scenario, seed=seed)

    SweepLoop(manager, study, run_of, Reporter(), table.trials, 1).run()


def write_down(place: Path) -> None:
    """What is printed, sent and published of these runs, and the order of the session that has ended."""
    said = place / "said"
    (said / "printed").mkdir(parents=True)
    for words in DOCUMENTS:
        command = [sys.executable, "-m", "kaggle_manager.cli", *words.split(), "--json"]
        done = subprocess.run(command, cwd=place / "project", stdout=subprocess.PIPE, check=True)
        text = done.stdout.replace(str(place).encode(), PLACE.encode())
        (said / "printed" / f"{words.replace(' ', '.')}.json").write_bytes(text)
    order = order_of((newest_session(place) / "src/script.py").read_text(encoding="utf-8"))
    (said / "launch_order.json").write_text(json.dumps(order, indent=1), encoding="utf-8")
    to_file = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    message = Message("run_finished", "toy is finished", "20 epochs are done", {"section": "toy", "step": 20})
    deliver(message, [], [sys.executable, "-c", to_file, str(said / "hook.json")], limit_s=60)
    config = build_config("toy", workdir=place / "work", project_root=place / "project")
    head = find_latest_checkpoint(config.tree, "toy")
    with closing(Journal.to_read(config.journal)) as journal:
        report = next(run for run in describe_all(journal, time.time()) if run.section == "toy")
    (said / "training.json").write_bytes(facts_of(PublishedModel("me/toy", report, head.manifest, (), ())))


def newest_session(place: Path) -> Path:
    return max((place / "work/local_kaggle/sessions").iterdir(), key=lambda path: int(path.name))


def leave_out(place: Path) -> None:
    """Nothing of the account, of the machine, or that is there twice: of sessions only what is not downloaded yet."""
    kaggle = place / "work/local_kaggle"
    newest = newest_session(place)
    older = [path for path in (kaggle / "sessions").iterdir() if path != newest]
    bulk = [*older, *newest.glob("*"), *kaggle.glob("*"), *(place / "work/downloads").glob("*/*/training_tree")]
    bulk += [place / "work/wheels", place / "work/replaced"]
    bulk += [*place.rglob("*.lock"), *place.rglob("__pycache__"), *_without_tree(kaggle / "datasets")]
    kept = {newest / name for name in ("log.jsonl", "started.json", "verdict.json", "working")}
    kept |= {kaggle / name for name in ("sessions", "datasets", "limits.json")} | set(kaggle.glob("world.sqlite3*"))
    for path in bulk:
        if path not in kept and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with closing(sqlite3.connect(kaggle / "world.sqlite3", isolation_level=None)) as database:
        database.execute("UPDATE sessions SET settings = json_set(settings, '$.text', '')")  # the code that was pushed


def _without_tree(datasets: Path) -> Iterator[Path]:
    """Wheels, trees of other runs than `toy`, and the archives that somebody has asked for."""
    for version in datasets.glob("*/*"):
        index = version / "files" / INDEX_NAME
        is_kept = index.is_file() and read_index(index.parent).scenario == "toy"
        yield from (path for path in version.iterdir() if path != index.parent) if is_kept else [version]


def check(place: Path, never: list[str]) -> None:
    """Nothing that names the machine, and no more than a repository can carry for every version."""
    files = [path for path in place.rglob("*") if path.is_file()]
    for path in files:
        data = path.read_bytes()
        assert not any(text.encode() in data for text in never), f"{path} names this machine"
    size = sum(path.stat().st_size for path in files)
    assert size <= LARGEST_BYTES, f"{size:,} bytes"


if __name__ == "__main__":
    main()
