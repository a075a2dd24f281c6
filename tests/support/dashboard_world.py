"""A state folder as the manager leaves it, in small: real checkpoints, journal, curves and logs, with hostile texts."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.console.formatting import iso
from kaggle_manager.protocol.events import Event as SessionEvent
from kaggle_manager.protocol.events import ProgressEvent, format_event, session_tag
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.lifecycle import Stage
from kaggle_manager.runs.rows import RunRow, SessionRow

BEGAN = 1_795_300_000.0
NOW = BEGAN + 4000.0
HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
FINISHED, RUNNING = "f" * 32, "a" * 32


def tree_of(state: Path, run_id: str) -> TrainingTree:
    return TrainingTree(state / "trees" / run_id[:1] / "models", "walk")


def add_run(journal: Journal, state: Path, run_id: str, *, target: int = 400) -> RunRow:
    tree = tree_of(state, run_id)
    row = RunRow(run_id, "section_x", "walk", target, False, str(tree.root), "local", "o", "walk-x", iso(BEGAN))
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


def add_running_session(journal: Journal, state: Path, run_id: str, generation: int) -> None:
    """A session whose log is coming in."""
    at = BEGAN + 1000 * (generation - 1)
    seen = {
        "state": "RUNNING",
        "step": 250,
        "target": 400,
        "steps_per_s": 5.0,
        "reward": -12.5,
        "last_line_at": NOW - 5,
    }
    journal.add_session(
        SessionRow(run_id, generation, Stage.PUSHED, "c" * 64, 200, "b" * 64, "2", iso(at), "3", facts={"seen": seen})
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


def save(state: Path, run_id: str, steps: int, *, rate: float, generation: int = 2) -> None:
    """Checkpoints at `steps` and 100 before, a best one, and the curves up to there."""
    tree = tree_of(state, run_id)
    store = CheckpointStore(tree)
    lineage = Lineage(run_id, generation, "c" * 64, 0)
    identity = {"algorithm": "DQN", "hyperparameters": {"learning_rate": rate}, "reward_fingerprint": run_id[:1] * 64}
    common = {"target": 400, "lineage": lineage, "bundle_sha256": "b" * 64, "identity": identity}
    for step in (steps - 100, steps):
        store.save_latest(step=step, files={"model": b"m" * 5000, "state": b"s" * 1000}, **common)
    store.save_best(step=steps - 100, score=-10.25, files={"model": b"best"}, **common)
    history = tree.history
    (history / "tensorboard").mkdir(parents=True, exist_ok=True)
    every = np.arange(50, steps + 1, 50)
    np.savez(history / "evaluations.npz", timesteps=every, results=np.stack([-1000 / every, -1010 / every], axis=1))
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
