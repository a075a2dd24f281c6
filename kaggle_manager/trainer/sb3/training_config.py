"""What one training is asked to do: a section's scenario, resolved, with what only this session knows.

`total` is always the run's target over all sessions; how much of it remains is computed from the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Lineage
from kaggle_manager.checkpoints.sources import Sources
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.sections.model import ScenarioConfig
from kaggle_manager.trainer.sb3.environments import Environments, environments_of


def adaptive_save_every(total: int) -> int:
    """Timesteps between checkpoints for a run of `total` timesteps."""
    if total < 5_000:
        return 100
    return 500 if total < 20_000 else 1_000


EVALUATION_SHARE = 0.2
"""Of all environment steps, as much as evaluations may take where the section does not say how often they come: ten
episodes of 1,000 steps after every 1,000 timesteps would be nine steps of ten."""


def adaptive_evaluate_every(save_every: int) -> int:
    """Timesteps between evaluations, given those between checkpoints."""
    return max(save_every, 1_000)


@dataclass(frozen=True)
class TrainingConfig:
    """One training.

    Attributes:
        scenario: its name; names the files.
        algorithm: as `algorithms.algorithm_class` takes it.
        policy: policy name of Stable-Baselines3, `module:Class`, or a class.
        hyperparameters: keyword arguments of the algorithm.
        environments: how its environments are made.
        noise: kind and standard deviation of the noise on its actions; None for what `hyperparameters` say.
        callbacks: of the user, as `user_callbacks.made_of` takes them.
        build: a function that makes environments and model, see `code_first`, instead of `algorithm` and
            `environments`.
        total: timesteps the run is to reach, over all sessions.
        tree: folder of the training tree.
        lineage: what this session continues.
        seed: the run's seed; None draws one, which the checkpoints then carry.
        save_every, evaluate_every: timesteps; None for the adaptive cadence.
        evaluation_episodes: episodes of an evaluation of an environment that is not deterministic.
        evaluate_deterministically: greedy actions in evaluations.
        diverged_below: an evaluation whose mean return is below this ends the training; None for no such bound.
        enough_at: the first evaluation whose mean return is so high completes it; None for no such bound.
        device: "cpu" or "cuda".
        identity: what the manager fingerprinted; the trainer adds what only it can measure.
        sources: what these fingerprints are made of, kept in each checkpoint.
        accept_changes: continue though the environment or the reward was changed, on purpose.
        accepted_files: the files of inputs that this is said of, as `checkpoints.compare`.
        bundle_sha256: content hash of the code, '' outside a kernel.
        image: digest of the docker image that the session was asked to run in; "" for the newest, or for none.
        kept_bytes: what the platform keeps of a session; None for all, and where there is none.
        vouched: the list that its checkpoints are written to; None in a kernel, whose manager vouches for what it left.
    """

    scenario: str
    algorithm: str
    policy: str | type
    hyperparameters: Mapping[str, Any]
    environments: Environments
    total: int
    tree: Path
    lineage: Lineage
    seed: int | None = None
    save_every: int | None = None
    evaluate_every: int | None = None
    evaluation_episodes: int = 10
    evaluate_deterministically: bool = True
    diverged_below: float | None = None
    enough_at: float | None = None
    noise: tuple[str, float] | None = None
    callbacks: Sequence[Any] = ()
    build: str | None = None
    device: str = "cpu"
    identity: Mapping[str, Any] = field(default_factory=dict)
    sources: Sources = field(default_factory=dict)
    accept_changes: bool = False
    accepted_files: Mapping[str, str] | None = None
    bundle_sha256: str = ""
    image: str = ""
    kept_bytes: int | None = None
    vouched: Vouched | None = None

    @property
    def saves_every(self) -> int:
        return self.save_every or adaptive_save_every(self.total)

    @property
    def evaluates_every(self) -> int:
        return self.evaluate_every or adaptive_evaluate_every(self.saves_every)

    @property
    def evaluation_share(self) -> float | None:
        """Most that evaluations may take of all environment steps; None where the section says how often they come."""
        return None if self.evaluate_every else EVALUATION_SHARE

    @property
    def curves_every(self) -> int:
        """Timesteps between the points of TensorBoard's curves; save_every does not change them."""
        return adaptive_save_every(self.total)


def from_scenario(
    name: str,
    scenario: ScenarioConfig,
    *,
    total: int | None,
    tree: Path,
    lineage: Lineage,
    save_every: int | None = None,
    device: str = "cpu",
    identity: Mapping[str, Any] | None = None,
    sources: Sources | None = None,
    accept_changes: bool = False,
    accepted_files: Mapping[str, str] | None = None,
    bundle_sha256: str = "",
    image: str = "",
    kept_bytes: int | None = None,
    vouched: Vouched | None = None,
) -> TrainingConfig:
    """Settings of a section's scenario; `total` and `save_every` given here come before the section's."""
    return TrainingConfig(
        scenario=name,
        algorithm=scenario.algorithm,
        policy=scenario.policy,
        hyperparameters=scenario.hyperparameters,
        environments=environments_of(scenario, f"scenarios.{name}."),
        noise=(scenario.noise.type, scenario.noise.std) if scenario.noise else None,
        callbacks=scenario.callbacks,
        build=scenario.build,
        total=total or scenario.timesteps,
        tree=tree,
        lineage=lineage,
        seed=scenario.seed,
        save_every=save_every or scenario.save_every,
        evaluate_every=scenario.evaluates_every(total or scenario.timesteps),
        evaluation_episodes=scenario.evaluation.episodes,
        evaluate_deterministically=scenario.evaluation.deterministic,
        diverged_below=scenario.divergence.reward_below,
        enough_at=scenario.stop_when.reward,
        device=device,
        identity=identity or {},
        sources=sources or {},
        accept_changes=accept_changes,
        accepted_files=accepted_files,
        bundle_sha256=bundle_sha256,
        image=image,
        kept_bytes=kept_bytes,
        vouched=vouched,
    )
