"""What one training left behind, read from its tree alone: models, curves, provenance, and its sessions.

Promises: a training is found by what its manifests state, and left out loudly when that is not what section.toml
declares; steps, scores and identity come from verified manifests, curves from `history/`; nothing is guessed from a
name or a time of modification. The manager's journal, when it is given, adds where sessions began; it is only read.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Manifest, TrainingTree, read_metadata
from kaggle_manager.checkpoints.layout import MANIFEST_SUFFIX
from kaggle_manager.checkpoints.sources import Sources
from kaggle_manager.errors import CheckpointCorrupt, NotFound
from kaggle_manager.sections.identity import identity_of, sources_of
from kaggle_manager.sections.model import ScenarioConfig, Section
from validation_ch7.section_7_6_rl_performance.baselines import Contender, Observation
from validation_ch7.section_7_6_rl_performance.environment import TrafficSignalEnv
from validation_ch7.section_7_6_rl_performance.experiment import differences
from validation_ch7.section_7_6_rl_performance.training import PATH, PROJECT

EVALUATION_SHARE = 0.15
"""The evaluations of a training should take less of its time than this."""


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
        tree: where it lies; its name means nothing.
        seed: of the training.
        head: manifest of its newest checkpoint.
        sources: what its environment and its reward were made of.
        levels: the reported models by name: `best`, and `final` once the target was reached.
        latest_steps: steps of the checkpoints kept for resuming.
        session_ends: step at the end of each session but the last; None when no journal says it.
        session_seconds: what all its sessions took, work that was lost included; None when no journal says it.
        training_seconds: over all sessions, evaluations and saves included; None where it was not recorded.
        evaluation_seconds: the part of it that evaluations took; None where it was not recorded.
        device: where it was trained.
    """

    tree: TrainingTree
    config: ScenarioConfig
    seed: int
    head: Manifest
    levels: Mapping[str, Checkpoint]
    latest_steps: tuple[int, ...]
    curves: Curves
    session_ends: tuple[int, ...] | None
    session_seconds: float | None
    training_seconds: float | None
    evaluation_seconds: float | None
    device: str
    sources: Sources

    def differences(self, declared: Mapping[str, Any], now: Sources) -> list[str]:
        """What makes it, or a model of it, of another experiment than `declared`; empty when it is that one.

        Args:
            declared, now: as `experiment.differences`.
        """
        manifests = (self.head, *(each.manifest for each in self.levels.values()))
        found = (differences(each.identity, declared, then=self.sources, now=now) for each in manifests)
        return list(dict.fromkeys(line for lines in found for line in lines))

    def contender(self, level: str) -> Contender:
        """The model of a level, as something that controls the intersection greedily; one model is one contender."""
        import torch

        checkpoint = self.levels[level]
        model = checkpoint.shared("model")
        return Contender(
            "model",
            make=lambda: _Agent(self.config, checkpoint.read("model")),
            content={"model_sha256": model.sha256, "torch": torch.__version__.partition("+")[0]},
        )


class _Agent:
    """A trained model; greedy. Of its file only tensors are read, so it may come from anywhere."""

    def __init__(self, config: ScenarioConfig, model: bytes) -> None:
        self._config, self._model = config, model
        self._policy: Any = None

    def start(self, seed: int) -> None:
        pass

    def act(self, env: TrafficSignalEnv, observation: Observation) -> int:
        if self._policy is None:
            # The package pins the arithmetic before torch is loaded.
            from kaggle_manager.trainer.sb3.model_file import read_policy

            config, spaces = self._config, (env.observation_space, env.action_space)
            self._policy = read_policy(self._model, config.algorithm, config.policy, config.hyperparameters, *spaces)
        return int(self._policy.predict(observation, deterministic=True)[0])


def find_runs(
    section: Section,
    scenario: str,
    seeds: Sequence[int],
    base: Path,
    *,
    quick: bool,
    journal: Path | None,
    say: Callable[[str], None] = print,
) -> list[TrainingRun]:
    """The trainings of a scenario that have left an evaluated model, in the order of `seeds`.

    Every training tree beside the declared place is looked into, whatever its name: what its manifests state has to be
    what section.toml declares. A tree in which a seed was trained otherwise is left out, and `say` is told why.

    Args:
        section: the section.
        scenario: name of one of its scenarios.
        seeds: the declared training seeds.
        base: folder the training trees lie below: the project, or a run's workdir.
        quick: the quick variant, which has one seed.
        journal: the manager's journal, when there is one.
        say: told what was left out.

    Raises:
        NotFound: there is none.
    """
    config = section.agent(scenario)
    config = config.for_quick() if quick else config
    found, candidates, left_out = [], [], []
    for tree in _trees(base / PATH / config.models, scenario):
        try:
            run = _read_run(tree, config, journal)
        except CheckpointCorrupt as error:
            left_out.append(f"{tree.root.name}: {error.message}")
        else:
            candidates += [run] if run is not None else []
    for seed in [config.seed] if quick else seeds:
        declared = identity_of(section, scenario, PROJECT, quick=quick, seed=seed)
        now = sources_of(section, scenario, PROJECT)
        of_seed = [run for run in candidates if run.seed == seed or seed is None]
        fitting = [run for run in of_seed if not run.differences(declared, now)]
        # Two of one seed are copies of one training, or one went further.
        fitting.sort(key=lambda run: (run.head.step, run.head.sha256))
        found += fitting[-1:]
        if not fitting:
            left_out += [
                f"{run.tree.root.name} (seed {seed}) is another experiment than section.toml declares: "
                + "; ".join(run.differences(declared, now))
                for run in of_seed
            ]
    for each in left_out:
        say(f"WARNING: {each}")
    if not found:
        raise NotFound(
            f"No training of {scenario} below {base} has left an evaluated model of the declared experiment."
            + "".join(f" {each}." for each in left_out),
            safe="nothing was written.",
            next_step="train it first, or name the folder of its run with --workdir.",
        )
    return found


def _trees(place: Path, scenario: str) -> list[TrainingTree]:
    """The trees of a scenario in the folder in which `place` is: by what lies in them, whatever they are called."""
    manifests = place.parent.glob(f"*/checkpoints/{scenario}_checkpoint_*{MANIFEST_SUFFIX}")
    roots = sorted({manifest.parents[1] for manifest in manifests})
    # Neither one that was set aside, with the reason in it, nor one that is being put in place.
    return [TrainingTree(root, scenario) for root in roots if not root.suffix and not (root / "reason.txt").exists()]


def _read_run(tree: TrainingTree, config: ScenarioConfig, journal: Path | None) -> TrainingRun | None:
    store = CheckpointStore(tree)
    head, best, final = store.find_latest_checkpoint(), store.best(), store.final()
    if head is None or best is None:
        return None
    metadata = read_metadata(tree.metadata)
    lineage = head.manifest.lineage
    session_ends, session_seconds = _sessions(journal, lineage.run_id)
    return TrainingRun(
        tree=tree,
        config=config,
        seed=int(head.manifest.identity["seed"]),
        head=head.manifest,
        levels={"best": best, **({"final": final} if final is not None else {})},
        latest_steps=tuple(sorted(checkpoint.step for checkpoint in store.valid_checkpoints())),
        curves=_read_curves(tree.history),
        session_ends=session_ends if lineage.generation > 1 else (),
        session_seconds=session_seconds,
        training_seconds=metadata.training_seconds if metadata else None,
        evaluation_seconds=metadata.evaluation_seconds if metadata else None,
        device=metadata.device if metadata else "",
        sources=head.sources(),
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


def _sessions(journal: Path | None, run_id: str) -> tuple[tuple[int, ...] | None, float | None]:
    """Ends and seconds of a run's sessions; None when there is no journal, it cannot be read, or does not know it."""
    if journal is None or not journal.exists():
        return None, None
    try:
        with closing(sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True)) as db:
            rows: list[Any] = db.execute(
                "SELECT step, ran_s FROM sessions WHERE run_id = ? ORDER BY generation", (run_id,)
            ).fetchall()
    except sqlite3.Error:
        return None, None
    ends = tuple(int(step) for step, _ in rows if step is not None)
    return (ends[:-1] if ends else None), (sum(ran_s or 0.0 for _, ran_s in rows) if rows else None)
