"""What a session is started with: its names, its order, its inputs.

The caller has written the intent to the journal before anything here reaches the platform.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kaggle_manager.checkpoints import Checkpoint, TrainingTree, pack_tree, read_index
from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.console.transfer_progress import TransferMeter
from kaggle_manager.errors import ConfigError, OutputDamaged
from kaggle_manager.platforms.platform import (
    Limits,
    NotReady,
    Platform,
    PublishedInputs,
    SessionRef,
    SessionRequest,
    Submission,
)
from kaggle_manager.protocol.document import first_problem
from kaggle_manager.protocol.launch_order import LaunchOrder, Parent, Wheels
from kaggle_manager.runs.leftovers import PREFIX, TREE_SUFFIX
from kaggle_manager.runs.rows import RunRow, SessionRow
from kaggle_manager.sections.model import Section
from kaggle_manager.sessions.bundle import Bundle
from kaggle_manager.sessions.inputs import SettledInput
from kaggle_manager.system.accelerators import ANY_GPU
from kaggle_manager.system.scratch import scratch_folder

# Kaggle cuts titles, and with them slugs, at 50 characters.
SLUG_LENGTH = 50
DATASET_SUFFIX = TREE_SUFFIX
# How many names a run has for its kernel; all are shorter than the longest slug, for a dataset's suffix is longer.
NAMES = 9


def kernel_names(scenario: str, run_id: str) -> tuple[str, ...]:
    """Slugs of a run's kernel: the first, and those it takes one after the other where an empty kernel is kept.

    Its title is the same text, so that the same slug is derived from it.
    """
    words = re.sub("[^0-9a-z]+", "-", scenario.lower()).strip("-") or "run"
    tail = f"-{re.sub('[^0-9a-z]', '', run_id.lower())[-8:]}"
    room = SLUG_LENGTH - len(PREFIX) - len(tail) - len(DATASET_SUFFIX)
    first = f"{PREFIX}{words[:room].rstrip('-')}{tail}"
    return (first, *(f"{first}-{number}" for number in range(2, NAMES + 1)))


def tree_dataset(run: RunRow) -> str:
    """Slug of the dataset with a run's training tree, whatever name its kernel has by now.

    Another one follows when it was deleted, see `runs.leftovers`.
    """
    return str(run.settings.get("tree_dataset") or kernel_names(run.scenario, run.run_id)[0] + DATASET_SUFFIX)


def kernel_of(run: RunRow, session: SessionRow) -> tuple[str, str]:
    """Owner and slug that a session was pushed to: of another run, which led it, or of an earlier name of this one."""
    owner, _, slug = (session.address or run.address).partition("/")
    return owner, slug


def version_of(run: RunRow, session: SessionRow) -> SessionRef:
    """Where a session whose push was accepted is: the run may have another name, or another platform, since."""
    assert session.version is not None, "only called for sessions whose push was accepted"
    return SessionRef(*kernel_of(run, session), session.version)


def _accelerator_of(section: Section) -> str | None:
    """What a session checks that it has; None for the CPU. The names of one platform mean nothing on another."""
    asked = section.kernel.accelerator
    return asked if asked is None or section.has_image else ANY_GPU


def launch_order(
    config: RunConfig,
    run: RunRow,
    generation: int,
    *,
    lane: str = "",
    parent: Checkpoint | None,
    vouched_by: str,
    bundle: Bundle,
    limits: Limits,
    wheels: Wheels | None = None,
    inputs: Sequence[SettledInput] = (),
    identity: Mapping[str, Any],
    accept_changes: bool,
    accepted_files: Mapping[str, str],
    deadline_s: float,
    image: str = "",
) -> LaunchOrder:
    """What the session is told.

    Args:
        lane: which one is the run's in a session that it may share; "" in one of its own.
        parent: the checkpoint it continues; None to start from zero.
        vouched_by: who vouches for that checkpoint.
        accept_changes: it continues that checkpoint though the environment or the reward was changed since.
        accepted_files: the files of inputs that this is said of.
        limits: of its platform.
        wheels: what it installs from; None: from the package index.
        deadline_s: seconds after which it must have ended, from its start.
        image: digest of the docker image it is asked to run in; "" for the newest.

    Raises:
        ConfigError: an option has a value that no session accepts.
    """
    dataset = f"{run.owner}/{tree_dataset(run)}"
    try:
        return LaunchOrder(
            run_id=run.run_id,
            generation=generation,
            section=config.section.name,
            section_folder=config.section_path.as_posix(),
            scenario=config.scenario_name,
            lane=lane,
            trial=config.trial,
            target=config.target,
            seed=config.seed,
            quick=config.quick,
            fresh=config.fresh,
            parent=Parent(
                manifest_sha256=parent.manifest.sha256, min_step=parent.step, dataset=dataset, vouched_by=vouched_by
            )
            if parent
            else None,
            deadline_s=deadline_s,
            max_steps=config.max_steps,
            save_every=config.save_every,
            accelerator=_accelerator_of(config.section),
            image=image,
            packages=tuple(config.section.kernel.packages),
            installs=limits.session_installs,
            output_bytes=limits.output_bytes,
            output_files=limits.output_files,
            wheels=wheels,
            inputs=tuple(each.input.text for each in inputs),
            bundle_sha256=bundle.sha256,
            identity={**identity, "inputs": {each.input.name: each.input.version for each in inputs}},
            accept_changes=accept_changes,
            accepted_files=dict(accepted_files),
        )
    except ValidationError as error:
        raise ConfigError(
            f"This run cannot be asked of a session: {first_problem(error)}.",
            safe="nothing was pushed",
            next_step="correct the option or the setting in section.toml that it names",
        ) from error


def publish_tree(
    client: Platform,
    run: RunRow,
    tree: TrainingTree,
    parent: Checkpoint,
    generation: int,
    *,
    reporter: Reporter | None = None,
    uploads: Path | None = None,
    on_order: Callable[[Submission], None] = lambda submission: None,
    on_accepted: Callable[[], None] = lambda: None,
) -> PublishedInputs | NotReady:
    """Upload what verifies of the training tree as a private dataset; the version, once it would be mounted.

    Args:
        reporter: where the upload's progress is shown.
        uploads: a private folder where an upload is written down while it lasts; the next process continues with it.
        on_order, on_accepted: as for `publish_dataset`.

    Raises:
        OutputDamaged: the parent is not the newest checkpoint that verifies.
    """
    if reporter:
        reporter.phase("packing the training tree")
    with scratch_folder("km_pack_") as folder:
        files = pack_tree(tree, folder)
        if read_index(folder).head_manifest_sha256 != parent.manifest.sha256:
            raise OutputDamaged(
                f"The checkpoint of step {parent.step:,} in {tree.root} was damaged a moment ago.",
                safe="nothing was uploaded or started.",
                next_step="run the same command again: it continues from what verifies.",
            )
        total = sum(file.stat().st_size for file in files)
        return client.publish_inputs(
            owner=run.owner,
            slug=tree_dataset(run),
            files=files,
            notes=f"run {run.run_id} before session {generation}",
            on_progress=TransferMeter(reporter, "uploading", len(files), total) if reporter else None,
            on_uploaded=(lambda: reporter.phase("waiting until sessions can read the tree")) if reporter else None,
            uploads=uploads,
            on_order=on_order,
            on_accepted=on_accepted,
        )


def kernel_push(
    config: RunConfig,
    run: RunRow,
    script: str,
    *,
    trees: Sequence[str] = (),
    timeout_s: float,
    wheels: Wheels | None = None,
    inputs: Sequence[SettledInput] = (),
    image: str = "",
) -> SessionRequest:
    """A session to start.

    Args:
        trees: datasets with the training trees that it continues.
        timeout_s: seconds after which the platform ends it.
        wheels, inputs: what else it reads.
    """

    def sources(kind: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.source for each in inputs if each.input.kind == kind))

    return SessionRequest(
        owner=run.owner,
        slug=run.slug,
        source=script,
        accelerator=config.section.kernel.accelerator,
        internet=config.section.kernel.internet,
        inputs=(*trees, *((wheels.dataset,) if wheels else ()), *sources("dataset")),
        competitions=sources("competition"),
        models=sources("model"),
        session_timeout_s=int(timeout_s),  # never more than was planned: it may be all that is left of the quota
        image=image,
    )
