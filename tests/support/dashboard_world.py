"""A state folder as the manager leaves it, in small: real checkpoints, journal, curves and logs, with hostile texts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from small_sweep import STOPS, SWEEP

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.dashboard.server import create_app, listen
from kaggle_manager.dashboard.verification import Verifier
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.protocol.events import Event as SessionEvent
from kaggle_manager.protocol.events import ProgressEvent, format_event, session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow, Trouble
from kaggle_manager.sections.trial import study_folder
from kaggle_manager.sweeps.study import Result, Study
from kaggle_manager.system.formatting import iso

BEGAN = 1_795_300_000.0
NOW = BEGAN + 4000.0
HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
FINISHED, RUNNING = "f" * 32, "a" * 32


def tree_of(state: Path, run_id: str, scenario: str = "walk") -> TrainingTree:
    return TrainingTree(state / "trees" / run_id[:8] / "models", scenario)


def add_run(
    journal: Journal,
    state: Path,
    run_id: str,
    *,
    target: int = 400,
    scenario: str = "walk",
    seed: int | None = None,
    platform: str = "local",
) -> RunRow:
    tree, where = tree_of(state, run_id, scenario), (platform, "o", f"{scenario}-x")
    settings = {} if seed is None else {"seed": seed}
    row = RunRow(run_id, "section_x", scenario, target, False, str(tree.root), *where, iso(BEGAN), settings=settings)
    journal.add_run(row)
    return row


def add_session(
    journal: Journal, run_id: str, generation: int, *, gained: int, lost_s: float = 0.0, kind: str = ""
) -> None:
    """A closed session of 100 steps' width that began 1000 s after the one before."""
    at = BEGAN + 1000 * (generation - 1)
    first = 100 * (generation - 1)
    journal.note(run_id, generation, "forecast", iso(at), done_at=iso(BEGAN + 9000), sessions=3, accelerator_s=1500)
    journal.add_session(
        SessionRow(
            run_id=run_id,
            generation=generation,
            stage=Stage.CLOSED,
            parent_sha256=None if generation == 1 else "c" * 64,
            min_step=first,
            bundle_sha256="b" * 64,
            baseline_version=str(generation - 1),
            version=str(generation),
            started_at=iso(at),
            ended_at=iso(at + 600),
            outcome="crashed" if kind else "interrupted",
            why=f"crashed: {HOSTILE}; 0 steps gained"
            if kind
            else f"interrupted (its time is used up); {gained} steps gained",
            kind=kind,
            step=first + gained,
            facts={
                "gained": gained,
                "ran_s": 580.0,
                "lost_s": lost_s,
                "planned": {"steps": 80 if generation > 1 else None, "timeout_s": 600.0, "deadline_s": 580.0},
                "timings": {
                    "install": 1.0,
                    "setup": 10.0,
                    "train": 500.0,
                    "evaluate": 5.0,
                    "save": 1.0,
                    "total": 579.0,
                },
            },
        )
    )
    journal.note(run_id, generation, "downloaded", iso(at + 700), folder="x")
    journal.note(run_id, generation, "closed", iso(at + 750), counts={"checkpoints": 1})


def add_running_session(journal: Journal, state: Path, run_id: str, generation: int, lane: str = "") -> None:
    """A session whose log is coming in; in a lane, one that runs share."""
    at = BEGAN + 1000 * (generation - 1)
    seen = {
        "state": "RUNNING",
        "step": 250,
        "target": 400,
        "steps_per_s": 5.0,
        "reward": -12.5,
        "last_line_at": NOW - 5,
    }
    facts = {"seen": seen, "address": "o/walk-x", "lane": lane}
    journal.add_session(
        SessionRow(run_id, generation, Stage.PUSHED, "c" * 64, 200, "b" * 64, "2", iso(at), "3", facts=facts)
    )
    progress = told(run_id, generation, ProgressEvent(step=250, target=400, reward=-12.5))
    say(state, run_id, generation, progress, f"a line with {HOSTILE}")


def told(run_id: str, generation: int, event: SessionEvent) -> str:
    """An event as it lies in the log of a session: the line end before it makes an empty line."""
    return format_event(event, session_tag(run_id, generation)).removesuffix("\n")


def say(state: Path, run_id: str, generation: int, *lines: str) -> None:
    """Append to the live log of a session."""
    log = state / "downloads" / run_id / f"generation_{generation}" / "kernel.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def save(
    state: Path,
    run_id: str,
    steps: int,
    *,
    rate: float,
    generation: int = 2,
    scenario: str = "walk",
    above: float = 0.0,
    exact: Mapping[str, Any] | None = None,
) -> None:
    """Checkpoints at `steps` and 100 before, a best one, and the curves up to there, `above` what others have."""
    tree = tree_of(state, run_id, scenario)
    store = CheckpointStore(tree)
    lineage = Lineage(run_id, generation, "c" * 64, 0)
    identity = {"algorithm": "DQN", "hyperparameters": {"learning_rate": rate}, "reward_fingerprint": run_id[:1] * 64}
    common = {"target": 400, "lineage": lineage, "bundle_sha256": "b" * 64, "identity": identity, "exact": exact or {}}
    for step in (steps - 100, steps):
        store.save_latest(step=step, files={"model": b"m" * 5000, "state": b"s" * 1000}, **common)
    store.save_best(step=steps - 100, score=-10.25, files={"model": b"best"}, **common)
    history = tree.history
    (history / "tensorboard").mkdir(parents=True, exist_ok=True)
    every = np.arange(50, steps + 1, 50)
    results = above + np.stack([-1000 / every, -1010 / every], axis=1)
    np.savez(history / "evaluations.npz", timesteps=every, results=results)
    rows = "".join(f"{-2000 / step},10,{step / 10},{step}\n" for step in range(10, steps + 1, 10))
    (history / "monitor.csv").write_text(f'#{{"t_start": 0.0, "env_id": "x"}}\nr,l,t,step\n{rows}')
    (history / "tensorboard" / "events.out.tfevents.all").write_bytes(b"what TensorBoard reads")


def build(state: Path) -> Path:
    """Two runs: one finished after three sessions, the second of which crashed; one whose third session runs."""
    with closing(Journal(state / "journal.sqlite")) as journal:
        add_run(journal, state, FINISHED)
        for generation, gained in ((1, 100), (2, 0), (3, 100)):
            kind = "" if gained else "code error"
            add_session(journal, FINISHED, generation, gained=gained, lost_s=0.0 if gained else 580.0, kind=kind)
        journal.finish_run(FINISHED, "finished", iso(BEGAN + 3000))
        add_run(journal, state, RUNNING)
        for generation in (1, 2):
            add_session(journal, RUNNING, generation, gained=100)
        journal.note(RUNNING, 3, "quota", iso(BEGAN + 1990), left_s=36000.0, total_s=108000.0, refresh_at=BEGAN + 90000)
        add_running_session(journal, state, RUNNING, 3)
    save(state, FINISHED, 400, rate=0.001, generation=3)
    save(state, RUNNING, 200, rate=0.01)
    return state


SEEDS = {None: "1" * 32, 1: "2" * 32, 2: "3" * 32, 3: "4" * 32}
TRIALS = ("5" * 32, "6" * 32)
"""Of `build_many`, the ids of the runs of a campaign by their seeds, and of the trials of a sweep."""


def build_many(state: Path) -> Path:
    """Beside the two runs of `build` a campaign of four seeds, of which two need the user and two share a session, and
    a sweep of two trials, the second of which is the better one."""
    build(state)
    with closing(Journal(state / "journal.sqlite")) as journal:
        for seed, run_id in SEEDS.items():
            add_run(journal, state, run_id, scenario="hop", seed=seed, platform="kaggle")
            add_session(journal, run_id, 1, gained=100)
            journal.note(run_id, 1, "quota", iso(BEGAN), left_s=36000.0, total_s=108000.0, refresh_at=BEGAN + 90000)
        for seed in (None, 1):
            trouble = Trouble("AuthError", "The key was refused.", "put a new key in its place")
            journal.change_run(SEEDS[seed], trouble=trouble)
        for seed in (2, 3):
            add_running_session(journal, state, SEEDS[seed], 3, lane=f"lane_{seed - 1}")
        for number, run_id in enumerate(TRIALS):
            add_run(journal, state, run_id, scenario=f"pole_trial_{number}")
            add_session(journal, run_id, 1, gained=100)
    for place, run_id in enumerate(SEEDS.values()):
        save(state, run_id, 200, rate=0.01, scenario="hop", above=float(place))
    study = Study.begin(study_folder(state, "section_x"), "pole", STOPS, SWEEP, "it")
    for number, run_id in enumerate(TRIALS):
        save(state, run_id, 100, rate=0.01, scenario=f"pole_trial_{number}", above=float(number))
        study.add({"n_envs": number + 2, "hyperparameters.net_arch": [8]}, 0)
        study.tell(Result(trial=number, step=10, score=float(number)))
    return state


def dashboard_of(state: Path) -> Dashboard:
    """Looks at the state folder at `NOW`."""
    return Dashboard(state, verifier=Verifier(clock=lambda: NOW), clock=lambda: NOW)


@contextmanager
def served(dashboard: Dashboard) -> Iterator[str]:
    """The address at which a dashboard answers, from a thread of its own."""
    with listen(0) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(create_app(dashboard, port), http="h11", ws="none", lifespan="off", log_level="warning")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
