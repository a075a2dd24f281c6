"""One training of a scenario on this machine: as a function, and as a process of its own.

    python -m validation_ch7.section_7_6_rl_performance.training traffic_light_control_cologne1 --seed 43

Promises: goes on from wherever its tree is; a tree of another experiment is refused, never continued and never taken
for done; Ctrl-C stops in good order.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_manager.checkpoints import Lineage, TrainingTree
from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.errors import CheckpointIncompatible, Interrupted, KaggleManagerError, UntrustedTree, error_context
from kaggle_manager.sections.identity import identity_of, sources_of
from kaggle_manager.sections.model import SECTION_FILE, Section, load_section
from kaggle_manager.sections.project import state_of
from validation_ch7.section_7_6_rl_performance.experiment import differences

if TYPE_CHECKING:
    from kaggle_manager.trainer.runtime.session import SessionOutcome

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parents[1]
PATH = FOLDER.relative_to(PROJECT)  # also below a --workdir


def train(
    name: str,
    *,
    base: Path,
    seed: int | None = None,
    quick: bool = False,
    timesteps: int | None = None,
    trust: bool = False,
    section: Section | None = None,
) -> SessionOutcome:
    """Train a scenario to its target, from wherever its tree below `base` is; Ctrl-C stops it in good order.

    Args:
        name: the scenario.
        base: folder the training tree lies below.
        seed: of the training; the scenario's own when absent.
        quick: the quick variant.
        timesteps: the target; the scenario's own when absent.
        trust: continue a tree that is not trusted here.
        section: what `name` is a scenario of; that of section.toml when absent.

    Raises:
        UntrustedTree: the tree was made elsewhere.
        CheckpointIncompatible: the tree is of another experiment.
        KaggleManagerError: whatever the trainer raises.
    """
    # Imported here: the report, which this module's neighbours import, needs no torch to draw.
    from kaggle_manager.checkpoints.vouched import Vouched
    from kaggle_manager.trainer.runtime.log_lines import warn
    from kaggle_manager.trainer.runtime.session_clock import SessionClock, stop_signals
    from kaggle_manager.trainer.sb3.local_training import may_be_opened
    from kaggle_manager.trainer.sb3.resume_point import find_resume_point
    from kaggle_manager.trainer.sb3.trainer import train as train_session
    from kaggle_manager.trainer.sb3.training_config import from_scenario

    section = section or load_section(FOLDER / SECTION_FILE)
    config = section.agent(name)
    config = config.for_quick() if quick else config
    config = config if seed is None else config.for_seed(seed)
    identity = identity_of(section, name, PROJECT, quick=quick, seed=seed)
    sources = sources_of(section, name, PROJECT)
    tree = TrainingTree(base.resolve() / PATH / config.models, name)
    clock = SessionClock()
    with hold_tree(tree.root), stop_signals(clock):
        vouched = Vouched(state_of(PROJECT, base.resolve()))
        origin = find_resume_point(tree, fresh=False, warn=warn, check=may_be_opened(vouched, tree, trust))
        parent = origin.checkpoint.manifest if origin.checkpoint else None
        then = origin.checkpoint.sources() if origin.checkpoint else {}
        if parent and (found := differences(parent.identity, identity, then=then, now=sources)):
            raise CheckpointIncompatible(
                f"{tree.root} holds another experiment than section.toml declares now: {'; '.join(found)}.",
                safe="it was not touched.",
                next_step="move that folder away, give back what it was trained with, or use another --workdir.",
            )
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
            identity=identity,
            sources=sources,
            vouched=vouched,
        )
        return train_session(settings, origin, clock)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m validation_ch7.section_7_6_rl_performance.training")
    parser.add_argument("scenario")
    parser.add_argument("--seed", type=int, help="of the training; default: the scenario's")
    parser.add_argument("--timesteps", type=int, help="the total to reach; default: the scenario's")
    parser.add_argument("--workdir", type=Path, default=PROJECT, help="everything is written below this folder")
    parser.add_argument("--trust", action="store_true", help="continue a tree that was made elsewhere")
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = parser.parse_args(given)
    from kaggle_manager.trainer.sb3.local_training import IF_TRUSTED, again

    try:
        with error_context(UntrustedTree, next_step=lambda _: f"{IF_TRUSTED}: {again(parser, given, '--trust')}"):
            outcome = train(
                options.scenario,
                base=options.workdir,
                seed=options.seed,
                timesteps=options.timesteps,
                trust=options.trust,
            )
        if outcome.kind == "interrupted":
            raise Interrupted(
                f"{options.scenario}: {outcome.reason}.",
                safe=f"the checkpoint of step {outcome.step} is kept.",
                next_step="run the same command again to go on.",
            )
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
