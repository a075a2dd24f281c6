"""One session of a scenario's trainer on this machine, as the study and the preflight need it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_manager.checkpoints import Lineage, TrainingTree
from kaggle_manager.section import SECTION_FILE, SECTIONS_FOLDER, identity_of, load_section

if TYPE_CHECKING:
    from kernels.rl_training.trainer import SessionOutcome

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parents[1]


def train(
    name: str, *, base: Path, seed: int | None = None, quick: bool = False, timesteps: int | None = None
) -> SessionOutcome:
    """Train a scenario to its target, from wherever its tree below `base` is; Ctrl-C stops it in good order.

    Args:
        name: the scenario.
        base: folder the training tree lies below.
        seed: of the training; the scenario's own when absent.
        quick: the quick variant.
        timesteps: the target; the scenario's own when absent.

    Raises:
        KaggleManagerError: whatever the trainer raises.
    """
    # Imported here: the report, which this module's neighbours import, needs no torch to draw.
    from kernels.rl_training.log_lines import warn
    from kernels.rl_training.origin import find_origin
    from kernels.rl_training.session_clock import SessionClock, stop_signals
    from kernels.rl_training.settings import from_scenario
    from kernels.rl_training.trainer import train as train_session

    section = load_section(FOLDER / SECTION_FILE)
    config = section.scenario(name)
    config = config.for_quick() if quick else config
    config = config if seed is None else config.for_seed(seed)
    tree = TrainingTree(base.resolve() / SECTIONS_FOLDER / section.name / config.models, name)
    origin = find_origin(tree, fresh=False, warn=warn)
    parent = origin.checkpoint.manifest if origin.checkpoint else None
    settings = from_scenario(
        name,
        config,
        total=timesteps,
        tree=tree.root,
        lineage=Lineage(
            run_id=parent.lineage.run_id if parent else f"local-{secrets.token_hex(4)}",
            generation=parent.lineage.generation + 1 if parent else 1,
            parent_sha256=parent.sha256 if parent else None,
            min_step=origin.step,
        ),
        identity=identity_of(section, name, PROJECT, quick=quick, seed=seed),
    )
    settings = replace(settings, evaluate_every=config.evaluates_every(settings.total))
    clock = SessionClock()
    with stop_signals(clock):
        return train_session(settings, origin, clock)
