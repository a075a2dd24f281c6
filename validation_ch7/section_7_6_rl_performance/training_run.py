"""What one training left behind, read from its tree alone: models, curves, provenance, and its sessions.

Promises: steps, scores and identity come from verified manifests; curves from `history/`; nothing is guessed from a
name or a time of modification. The manager's journal, when it is given, adds where sessions began; it is only read.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Manifest, TrainingTree, read_metadata
from kaggle_manager.errors import NotFound
from kaggle_manager.section import SECTIONS_FOLDER, ScenarioConfig, Section
from validation_ch7.section_7_6_rl_performance.baselines import Contender, Observation
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv


@dataclass(frozen=True)
class Curves:
    """What was logged while training.

    Attributes:
        episode_steps, episode_returns: step at the end of each training episode and its return, shape `(E,)`.
        evaluation_steps: step of each evaluation, shape `(V,)`.
        evaluation_returns: return of each of its episodes, shape `(V, n)`.
        evaluation_env_steps: environment steps all evaluations took together.
    """

    episode_steps: npt.NDArray[np.int64]
    episode_returns: npt.NDArray[np.float64]
    evaluation_steps: npt.NDArray[np.int64]
    evaluation_returns: npt.NDArray[np.float64]
    evaluation_env_steps: int


@dataclass(frozen=True)
class TrainingRun:
    """One training of one scenario under one seed.

    Attributes:
        seed: of the training.
        head: manifest of its newest checkpoint.
        levels: the reported models by name: `best`, and `final` once the target was reached.
        latest_steps: steps of the checkpoints kept for resuming.
        session_ends: step at the end of each session but the last; None when no journal says it.
        training_seconds: over all sessions, evaluations and saves included.
        device: where it was trained.
    """

    scenario: str
    config: ScenarioConfig
    seed: int
    head: Manifest
    levels: Mapping[str, Checkpoint]
    latest_steps: tuple[int, ...]
    curves: Curves
    session_ends: tuple[int, ...] | None
    training_seconds: float | None
    device: str

    def contender(self, level: str) -> Contender:
        """The model of a level, as something that controls the intersection greedily."""
        import torch

        checkpoint = self.levels[level]
        model = next(entry for entry in checkpoint.manifest.files if entry.name.endswith(".zip"))
        return Contender(
            level,
            make=lambda: _Agent(self.config.algorithm, checkpoint.read_model()),
            content={"model_sha256": model.sha256, "torch": torch.__version__.partition("+")[0]},
        )


class _Agent:
    """A trained model; greedy."""

    def __init__(self, algorithm: str, model: bytes) -> None:
        # The package pins the arithmetic before torch is loaded.
        from kernels.rl_training.algorithms import ALGORITHMS

        self._model = ALGORITHMS[algorithm].load(io.BytesIO(model), device="cpu")

    def start(self, seed: int) -> None:
        pass

    def act(self, env: TrafficSignalEnv, observation: Observation) -> int:
        return int(self._model.predict(observation, deterministic=True)[0])


def find_runs(
    section: Section, scenario: str, seeds: list[int], base: Path, *, quick: bool, journal: Path | None
) -> list[TrainingRun]:
    """The trainings of a scenario that have left an evaluated model, in the order of `seeds`.

    Args:
        section: the section.
        scenario: name of one of its scenarios.
        seeds: the declared training seeds.
        base: folder the training trees lie below: the project, or a run's workdir.
        quick: the quick variant, which has one seed.
        journal: the manager's journal, when there is one.

    Raises:
        NotFound: there is none.
        CheckpointCorrupt: there are checkpoints and none verifies.
    """
    config = section.scenario(scenario)
    variants = [config.for_quick()] if quick else [config.for_seed(seed) for seed in seeds]
    found = []
    for variant in variants:
        root = base / SECTIONS_FOLDER / section.name / variant.models
        run = _read_run(TrainingTree(root, scenario), variant, journal) if root.is_dir() else None
        if run is not None:
            found.append(run)
    if not found:
        raise NotFound(
            f"No training of {scenario} below {base} has left an evaluated model.",
            safe="nothing was written.",
            next_step="train it first, or name the folder of its run with --workdir.",
        )
    return found


def _read_run(tree: TrainingTree, config: ScenarioConfig, journal: Path | None) -> TrainingRun | None:
    store = CheckpointStore(tree)
    head, best, final = store.find_latest_checkpoint(), store.best(), store.final()
    if head is None or best is None:
        return None
    metadata = read_metadata(tree.metadata)
    lineage = head.manifest.lineage
    return TrainingRun(
        scenario=tree.scenario,
        config=config,
        seed=int(head.manifest.identity["seed"]),
        head=head.manifest,
        levels={"best": best, **({"final": final} if final is not None else {})},
        latest_steps=tuple(sorted(checkpoint.step for checkpoint in store.valid_checkpoints())),
        curves=_read_curves(tree.history),
        session_ends=_session_ends(journal, lineage.run_id) if lineage.generation > 1 else (),
        training_seconds=metadata.training_seconds if metadata else None,
        device=metadata.device if metadata else "",
    )


def _read_curves(history: Path) -> Curves:
    monitor = history / "monitor.csv"
    lines = monitor.read_text(encoding="utf-8").splitlines()[1:] if monitor.exists() else []
    rows = list(csv.DictReader(lines))
    steps, returns, lengths = np.array([], np.int64), np.zeros((0, 1)), np.array([], np.int64)
    if (history / "evaluations.npz").exists():
        with np.load(history / "evaluations.npz", allow_pickle=False) as data:
            steps, returns, lengths = data["timesteps"], data["results"], data["ep_lengths"]
    return Curves(
        episode_steps=np.cumsum([int(row["l"]) for row in rows], dtype=np.int64),
        episode_returns=np.array([float(row["r"]) for row in rows]),
        evaluation_steps=steps,
        evaluation_returns=returns,
        evaluation_env_steps=int(lengths[lengths > 0].sum()),
    )


def _session_ends(journal: Path | None, run_id: str) -> tuple[int, ...] | None:
    if journal is None or not journal.exists():
        return None
    with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True)) as db:
        rows: list[Any] = db.execute(
            "SELECT step FROM sessions WHERE run_id = ? AND step IS NOT NULL ORDER BY generation", (run_id,)
        ).fetchall()
    return tuple(int(step) for (step,) in rows[:-1])
