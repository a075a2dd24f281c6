"""One session as both kinds of trainers find it: what it is to train, where, with what, and for how long."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from kaggle_manager.checkpoints import Checkpoint, TrainingTree
from kaggle_manager.errors import WrongAccelerator
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.protocol.launch_order import LaunchOrder
from kaggle_manager.protocol.session_start import ResumedFrom, SessionStart, Versions
from kaggle_manager.sections.input_folders import find_inputs, identity_of_inputs, offer
from kaggle_manager.sections.inputs import read_input
from kaggle_manager.sections.model import SECTION_FILE, Section, load_section
from kaggle_manager.system.accelerators import is_what_was_asked
from kaggle_manager.trainer.runtime.gpu import driver_version, gpu_name
from kaggle_manager.trainer.runtime.input_mount import MOUNT_WAIT_S
from kaggle_manager.trainer.runtime.log_lines import Emit, say
from kaggle_manager.trainer.runtime.origin import Origin
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.runtime.session_files import write_start


@dataclass(frozen=True)
class SessionOutcome:
    """How a session ended.

    Attributes:
        kind: `completed` when the target is reached, else `interrupted`.
        reason: why it was interrupted, or what was left out of the final model.
        step: steps in the newest checkpoint; None when there is none.
        resumed_from: steps it started from.
        timings: seconds by name.
        counts: whole numbers by name.
        accelerator_gain: how many times faster than the CPU the accelerator was; None where that was not measured.
        early: why it is complete before its target; "" when it is not.
        digests: of the finished training, by item; empty when interrupted, or where they are not known.
    """

    kind: Literal["completed", "interrupted"]
    reason: str
    step: int | None
    resumed_from: int
    timings: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    accelerator_gain: float | None = None
    digests: dict[str, str] = field(default_factory=dict)
    early: str = ""


@dataclass(frozen=True)
class Session:
    """What a trainer is given.

    Attributes:
        code: the folder that the bundle was unpacked in.
        working, inputs: the platform's folders for outputs and for data.
        device: "cpu" or "cuda".
        tree: the training tree it fills.
        identity: of the experiment, as far as it is known before the training is made.
    """

    order: LaunchOrder
    clock: SessionClock
    emit: Emit
    code: Path
    working: Path
    inputs: Path
    device: str
    section: Section
    tree: TrainingTree
    identity: Mapping[str, Any]

    def start(self, origin: Origin, versions: Versions) -> None:
        """Say what is continued, before anything is trained: write `session_start.json`."""
        order, head = self.order, origin.checkpoint
        start = SessionStart(
            run_id=order.run_id,
            generation=order.generation,
            bundle_sha256=order.bundle_sha256,
            device=self.device,
            accelerator=order.accelerator,
            target=order.target,
            resumed=_resumed_from(head) if head else None,
            from_zero=None if head else origin.reason,
            versions=versions,
        )
        write_start(self.working, start)


def open_session(
    order: LaunchOrder, clock: SessionClock, emit: Emit, code: Path, working: Path, inputs: Path
) -> Session:
    """Find what the session is about: its device, its section and its data.

    Raises:
        WrongAccelerator: the device is another one.
        InputMissing: some of its data is not mounted.
        ConfigError: its section cannot be read.
    """
    device = device_for(order.accelerator)
    section = load_section(code / order.section_folder / SECTION_FILE)
    section = order.trial.added_to(section) if order.trial else section
    section.scenario(order.scenario)
    asked = [read_input(text) for text in order.inputs]
    found = find_inputs(inputs, asked, wait_s=MOUNT_WAIT_S)
    offer(found)
    return Session(
        order=order,
        clock=clock,
        emit=emit,
        code=code,
        working=working,
        inputs=inputs,
        device=device,
        section=section,
        tree=TrainingTree(working / TREE_FOLDER, order.scenario),
        identity={**order.identity, **identity_of_inputs(asked, found)},
    )


def device_for(accelerator: str | None) -> str:
    """The device to train on, by torch's name.

    Raises:
        WrongAccelerator: what was asked for is not what is there; the session ends before it costs anything.
    """
    if accelerator is None:
        return "cpu"
    emulated = os.environ.get("KM_EMULATED_ACCELERATOR")  # the name of one that is not there; "" for none
    found = gpu_name() if emulated is None else emulated
    if not is_what_was_asked(accelerator, found):
        raise WrongAccelerator(
            f"The session was to have the accelerator {accelerator}, and has {found or 'no GPU'}.",
            safe="nothing was trained; the session ends at once, so that it uses no quota.",
            next_step="check the accelerator of this kernel and the weekly quota.",
        )
    if emulated is not None:
        say(f"The accelerator {accelerator} is only a name on this machine: training on the CPU.")
        return "cpu"
    return "cuda"


def versions(cuda: str | None = None) -> Versions:
    """What this session computes with, as it is installed; nothing is imported for it.

    Args:
        cuda: that torch was built for, from who has imported it.
    """
    return Versions(
        python=platform.python_version(),
        torch=_installed("torch"),
        numpy=_installed("numpy"),
        cuda=cuda,
        driver=driver_version() or None,
    )


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _resumed_from(head: Checkpoint) -> ResumedFrom:
    return ResumedFrom(step=head.step, manifest_sha256=head.manifest.sha256)
