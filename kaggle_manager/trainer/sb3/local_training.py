"""One session of a section's training on this machine, without a platform; the next one continues where it stopped.

The training tree is the project's own, or lies below another folder. Nothing is written elsewhere, but a line for each
checkpoint into the state folder, so that the next call knows its own.
"""

from __future__ import annotations

import argparse
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kaggle_manager.checkpoints import Disk, Lineage, Manifest, TrainingTree
from kaggle_manager.checkpoints.atomic_io import write_atomic
from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.errors import Diverged
from kaggle_manager.sections.agent_tables import Evaluation
from kaggle_manager.sections.identity import identity_of, sources_of
from kaggle_manager.sections.input_folders import identity_of_inputs, inputs_here, offer
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import find_project, get_section, state_of
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session import SessionOutcome
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.resume_point import find_resume_point
from kaggle_manager.trainer.sb3.trainer import train
from kaggle_manager.trainer.sb3.training_config import from_scenario

DIVERGED_FILE = "diverged.txt"
"""In a training tree of this machine: how its training diverged."""

IF_TRUSTED = "if you trust who made it"
"""What comes before the command that opens a tree from elsewhere."""


def open_project(section: str) -> tuple[Path, Section]:
    """The project a command is about, and its section; from here on the project's modules can be imported.

    Raises:
        ConfigError: there is no such section, or its file is not valid.
    """
    project = find_project(Path.cwd(), section)
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    return project, get_section(project, section)


def tree_of(
    project: Path, section: Section, scenario: str, base: Path, *, quick: bool, seed: int | None = None
) -> TrainingTree:
    """The training tree of a scenario below `base`."""
    declared = section.agent(scenario)
    declared = declared.for_quick() if quick else declared
    declared = declared if seed is None else declared.for_seed(seed)
    return TrainingTree(base / section.folder.relative_to(project) / declared.models, scenario)


def again(parser: argparse.ArgumentParser, given: Sequence[str], option: str) -> str:
    """The command that was typed, with one more option."""
    return shlex.join([*parser.prog.split(), *(word for word in given if word != option), option])


def may_be_opened(
    vouched: Vouched, tree: TrainingTree, trust: bool, doing: str = "Training on"
) -> Callable[[Manifest], str]:
    """The check of a tree on this machine; see `find_resume_point`."""
    with_trust = "the same with --trust"  # who was given a command line names it whole, see `again`
    return lambda manifest: vouched.require(manifest, tree=tree.root, doing=doing, again=with_trust, trust=trust)


def train_here(
    project: Path,
    section: Section,
    scenario: str,
    *,
    base: Path,
    clock: SessionClock,
    quick: bool = False,
    fresh: bool = False,
    timesteps: int | None = None,
    save_every: int | None = None,
    evaluation: Evaluation | None = None,
    trust: bool = False,
    accept_changes: bool = False,
) -> SessionOutcome:
    """Train towards the target until `clock` says stop.

    Args:
        project: folder of the section's sources.
        base: folder the training tree lies below.
        timesteps: the target over all sessions; the scenario's own when absent.
        save_every: timesteps between checkpoints; the scenario's own when absent.
        evaluation: how it evaluates; as the scenario says when absent.
        trust: continue a tree that is not trusted here.
        accept_changes: continue though the environment or the reward was changed, on purpose.

    Raises:
        Diverged: the training ran away, now or when it was last started; only a fresh start trains again.
        UntrustedTree: the tree was made elsewhere.
        InputMissing: data that the scenario reads is not on this machine.
        KaggleManagerError: whatever the trainer raises.
    """
    tree = tree_of(project, section, scenario, base, quick=quick)
    declared, inputs = section.agent(scenario), section.inputs_of(scenario)
    trained = declared.for_quick() if quick else declared
    found = inputs_here(inputs, state_of(project, base), state_of(project, project))
    offer(found)
    with hold_tree(tree.root):
        vouched = Vouched(state_of(project, base))
        resume_point = find_resume_point(tree, fresh=fresh, warn=warn, check=may_be_opened(vouched, tree, trust))
        parent = resume_point.checkpoint.manifest if resume_point.checkpoint else None
        config = from_scenario(
            scenario,
            trained if evaluation is None else trained.model_copy(update={"evaluation": evaluation}),
            total=timesteps,
            tree=tree.root,
            lineage=Lineage(
                run_id=parent.lineage.run_id if parent else f"local-{secrets.token_hex(4)}",
                generation=parent.lineage.generation + 1 if parent else 1,
                parent_sha256=parent.sha256 if parent else None,
                min_step=resume_point.step,
            ),
            save_every=save_every,
            identity={**identity_of(section, scenario, project, quick=quick), **identity_of_inputs(inputs, found)},
            sources=sources_of(section, scenario, project),
            accept_changes=accept_changes,
            vouched=vouched,
        )
        with _not_resumed_once_diverged(tree.root / DIVERGED_FILE):
            return train(config, resume_point, clock)


@contextmanager
def _not_resumed_once_diverged(note: Path) -> Iterator[None]:
    """From the newest checkpoint the training would diverge again; a fresh start moves the note aside with its tree."""
    if note.exists():
        raise Diverged(
            note.read_text(encoding="utf-8"),
            safe=f"the checkpoints in {note.parent} are finite, and stay.",
            next_step="lower the learning rate in section.toml and start from zero with --fresh.",
        )
    try:
        yield
    except Diverged as error:
        write_atomic(Disk(), note, error.message.encode())
        raise
