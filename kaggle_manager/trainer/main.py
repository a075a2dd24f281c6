"""The trainer of a session, from its launch order to its result.

Promises: `session_start.json` says what is continued before anything is trained; a session sent to continue something
else than what is mounted leaves within seconds; `session_result.json` is written last, whatever happened, and a crash
is called one. Everything is written under the working folder.
"""

from __future__ import annotations

import os
import platform
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy
import torch

from kaggle_manager.checkpoints import Manifest, TrainingTree, unpack_tree
from kaggle_manager.errors import KaggleManagerError, WrongAccelerator
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.protocol.file_names import TREE_FOLDER
from kaggle_manager.protocol.launch_order import LaunchOrder, read_order
from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.protocol.session_start import ResumedFrom, SessionStart, Versions
from kaggle_manager.sections.identity import sources_of
from kaggle_manager.sections.input_folders import find_inputs, identity_of_inputs, offer
from kaggle_manager.sections.inputs import read_input
from kaggle_manager.sections.model import SECTION_FILE, load_section
from kaggle_manager.system.accelerators import is_what_was_asked
from kaggle_manager.trainer.runtime.gpu import driver_version, gpu_name
from kaggle_manager.trainer.runtime.input_mount import MOUNT_WAIT_S, check_lineage, check_vouched, find_mount
from kaggle_manager.trainer.runtime.log_lines import Emit, complain, emit_to_log, say, streams_kept, warn
from kaggle_manager.trainer.runtime.missing import in_words, missing_in
from kaggle_manager.trainer.runtime.output_folder import OutputWatch
from kaggle_manager.trainer.runtime.session_clock import SessionClock, stop_signals
from kaggle_manager.trainer.runtime.session_files import failure, session_fields, write_result, write_start
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, find_resume_point
from kaggle_manager.trainer.sb3.trainer import SessionOutcome, train
from kaggle_manager.trainer.sb3.training_config import from_scenario

CODE = Path(__file__).resolve().parents[2]


def run(order: dict[str, Any]) -> int:
    """Carry out one launch order (see docs/architecture.md).

    Returns:
        the exit code of the kernel: 0 completed or interrupted, 1 crashed or diverged, 3 refused, 7 incompatible
        checkpoint.
    """
    # Absolute: the user's code may change the current folder.
    working = Path(os.environ.get("KAGGLE_WORKING_DIR", "/kaggle/working")).absolute()
    inputs = Path(os.environ.get("KAGGLE_INPUT_DIR", "/kaggle/input")).absolute()
    working.mkdir(parents=True, exist_ok=True)
    session = session_fields(order)
    emit = emit_to_log(session_tag(session["run_id"], session["generation"]))
    with ExitStack() as until_the_result_is_written:
        until_the_result_is_written.enter_context(streams_kept())
        result = _result(order, session, working, inputs, emit, until_the_result_is_written)
        write_result(working, result, emit)
    return result.exit_code


def _result(
    order: dict[str, Any], session: dict[str, Any], working: Path, inputs: Path, emit: Emit, signals: ExitStack
) -> SessionResult:
    try:
        checked = read_order(order)
        # Importing torch takes seconds, on a busy machine many of them; they are the session's too.
        clock = SessionClock(checked.deadline_s, max_steps=checked.max_steps, started=checked.trainer_started)
        watched = OutputWatch(working, clock.request_stop, warn).after(emit)
        signals.enter_context(stop_signals(clock, second_interrupts=False))
        outcome = _session(checked, clock, working, inputs, watched)
        return SessionResult(
            **session,
            outcome=outcome.kind,
            reason=outcome.reason,
            exit_code=0,
            step=outcome.step,
            resumed_from_step=outcome.resumed_from,
            timings={"install": checked.elapsed_s, **outcome.timings, "total": round(clock.elapsed(), 3)},
            counts=outcome.counts,
            accelerator_gain=outcome.accelerator_gain,
        )
    except BaseException as error:
        if isinstance(error, KaggleManagerError):
            complain(str(error))
        else:
            complain(traceback.format_exc())
        if missing := missing_in(error):
            complain(in_words(missing))
        return SessionResult(**session, **failure(error))


def _session(order: LaunchOrder, clock: SessionClock, working: Path, inputs: Path, emit: Emit) -> SessionOutcome:
    device = _device(order.accelerator)
    section = load_section(CODE / order.section_folder / SECTION_FILE)
    scenario = section.scenario(order.scenario)
    tree = TrainingTree(working / TREE_FOLDER, order.scenario)
    asked = [read_input(text) for text in order.inputs]
    found = find_inputs(inputs, asked, wait_s=MOUNT_WAIT_S)
    offer(found)
    origin = _origin(order, tree, inputs)
    head = origin.checkpoint
    start = SessionStart(
        run_id=order.run_id,
        generation=order.generation,
        bundle_sha256=order.bundle_sha256,
        device=device,
        accelerator=order.accelerator,
        target=order.target,
        resumed=ResumedFrom(step=origin.step, manifest_sha256=head.manifest.sha256) if head else None,
        from_zero=None if head else origin.reason,
        versions=_versions(),
    )
    write_start(working, start)
    scenario = scenario.for_quick() if order.quick else scenario
    settings = from_scenario(
        order.scenario,
        scenario if order.seed is None else scenario.for_seed(order.seed),
        total=order.target,
        tree=tree.root,
        lineage=order.lineage,
        save_every=order.save_every,
        device=device,
        identity={**order.identity, **identity_of_inputs(asked, found)},
        sources=sources_of(section, order.scenario, CODE),
        accept_changes=order.accept_changes,
        accepted_files=order.accepted_files,
        bundle_sha256=order.bundle_sha256,
        image=order.image,
    )
    return train(settings, origin, clock, emit=emit)


def _versions() -> Versions:
    return Versions(
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=numpy.__version__,
        cuda=torch.version.cuda,
        driver=driver_version() or None,
    )


def _origin(order: LaunchOrder, tree: TrainingTree, inputs: Path) -> ResumePoint:
    parent = order.parent
    if parent is None:
        return ResumePoint(None, "--fresh was given" if order.fresh else f"generation {order.generation} has no parent")
    unpack_tree(find_mount(inputs, parent), tree.root, warn=warn)

    def check(head: Manifest) -> None:
        check_lineage(order, parent, head)
        check_vouched(parent)

    origin = find_resume_point(tree, fresh=False, warn=warn, check=check)
    if origin.checkpoint is None:
        check_lineage(order, parent, None)
    return origin


def _device(accelerator: str | None) -> str:
    """The torch device to train on.

    Raises:
        WrongAccelerator: what was asked for is not what is there; the session ends before it costs anything.
    """
    if accelerator is None:
        return "cpu"
    emulated = os.environ.get("KAGGLE_ACCELERATOR_EMULATED") == "1"
    found = os.environ.get("KAGGLE_ACCELERATOR_FOUND", "") if emulated else gpu_name()
    if not is_what_was_asked(accelerator, found):
        raise WrongAccelerator(
            f"The session was to have the accelerator {accelerator}, and has {found or 'no GPU'}.",
            safe="nothing was trained; the session ends at once, so that it uses no quota.",
            next_step="check the accelerator of this kernel and the weekly quota.",
        )
    if emulated:
        say(f"The accelerator {accelerator} is only a name on this machine: training on the CPU.")
        return "cpu"
    return "cuda"
