"""A training's own description: its identity, for the compatibility check, and the metadata file, for readers.

The manager fingerprints what text can tell; what only a built model knows - spaces, network, library versions - is
added here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.checkpoints import Checkpoint, TrainingMetadata
from kaggle_manager.checkpoints.compatibility import HARMLESS_HYPERPARAMETERS, MADE_BY_BUILD
from kaggle_manager.trainer.sb3.algorithms import parameters_of
from kaggle_manager.trainer.sb3.arguments import text_of
from kaggle_manager.trainer.sb3.code_first import Built
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, RunRecord
from kaggle_manager.trainer.sb3.training_config import TrainingConfig

_LIBRARIES = ("python", "torch", "stable_baselines3", "gymnasium", "numpy")


def complete_identity(config: TrainingConfig, built: Built, record: RunRecord) -> dict[str, Any]:
    """The identity that goes into every manifest of this training; JSON values.

    Args:
        built: as it was made: nothing of a checkpoint is put back yet.
    """
    model = built.model
    given = {name: value for name, value in config.identity.items() if value is not None}
    return {
        "scenario": config.scenario,
        "algorithm": config.algorithm,
        "policy": text_of(config.policy),
        "hyperparameters": {name: text_of(value) for name, value in config.hyperparameters.items()},
        "policy_architecture": text_of(getattr(model.policy, "net_arch", None)),
        **({} if config.build is None else _made_by_code(built)),
        **spaces_of(model),
        "n_envs": model.n_envs,
        **given,
        "evaluation": {"episodes": config.evaluation_episodes, "deterministic": config.evaluate_deterministically},
        # The seed that was drawn, when none was given.
        "seed": record.seed,
        "versions": {name: record.arithmetic[name] for name in _LIBRARIES},
    }


def _made_by_code(built: Built) -> dict[str, Any]:
    """What a section would say, and here only what was made does: it may be of a file that the code reads."""
    model, made = built.model, built.environments
    names = parameters_of(type(model)).keys() - {"policy", "env"} - HARMLESS_HYPERPARAMETERS
    around = {"env_wrapper": list(made.wrappers), "vec_env_wrapper": list(made.vec_wrappers)}
    found = {name: text_of(value) for name, value in (vars(model) | around).items() if name in names | around.keys()}
    return {"model": text_of(type(model)), MADE_BY_BUILD: found}


def spaces_of(model: BaseAlgorithm) -> dict[str, Any]:
    """What an identity says of the spaces; JSON values."""
    return {
        "observation_space": str(model.observation_space),
        "observation_space_shape": shape_of(model.observation_space),
        "action_space": str(model.action_space),
        "action_space_shape": shape_of(model.action_space),
    }


def shape_of(space: spaces.Space[Any]) -> Any:
    """Shape of a space as JSON: `[n]` for n discrete values, a shape for each key of a dictionary."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.Dict):
        return {key: shape_of(inner) for key, inner in space.spaces.items()}
    return list(space.shape or ())


def metadata(
    config: TrainingConfig,
    identity: Mapping[str, Any],
    record: RunRecord,
    resume_point: ResumePoint,
    *,
    step: int,
    training_seconds: float,
    evaluation_seconds: float,
    best: Checkpoint | None,
    left_out: str,
) -> TrainingMetadata:
    """The content of training_metadata.json at a checkpoint.

    Args:
        best: the best model that is on disk.
        left_out: what the final model goes without, and why.
    """
    return TrainingMetadata(
        scenario=config.scenario,
        algorithm=config.algorithm,
        hyperparameters=identity["hyperparameters"],
        observation_space_shape=identity["observation_space_shape"],
        action_space_shape=identity["action_space_shape"],
        policy_architecture=identity["policy_architecture"],
        environment_fingerprint=identity.get("environment_fingerprint"),
        reward_fingerprint=identity.get("reward_fingerprint"),
        library_versions=identity["versions"],
        device=record.arithmetic["device"],
        timesteps_target=config.total,
        timesteps_done=step,
        training_seconds=round(training_seconds, 3),
        evaluation_seconds=round(evaluation_seconds, 3),
        updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        best_score=best.manifest.score if best else None,
        best_step=best.step if best else None,
        resumed_from=_resumed_from(resume_point.checkpoint),
        strategy={
            "latest": f"every {config.saves_every} timesteps, the two newest are kept; a resume is always from here",
            "best": f"{_evaluated(config)}; replaced by a strictly higher score only",
            "final": "written once, when the target is reached" + (f"; {left_out}" if left_out else ""),
        },
        run_id=config.lineage.run_id,
        generation=config.lineage.generation,
        exact=record.describe(),
    )


def _evaluated(config: TrainingConfig) -> str:
    every, share = f"evaluated every {config.evaluates_every} timesteps", config.evaluation_share
    return every if share is None else f"{every}, where that is at most {share:.0%} of all environment steps"


def _resumed_from(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    manifest = checkpoint.manifest
    return {"step": manifest.step, "manifest_sha256": manifest.sha256, "generation": manifest.lineage.generation}
