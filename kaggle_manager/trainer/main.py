"""The trainer of a session, from its launch order to its result.

Promises: `session_start.json` says what is continued before anything is trained; a session sent to continue something
else than what is mounted leaves within seconds; `session_result.json` is written last, whatever happened, and a crash
is called one. Everything is written under the working folder. Imports no library of training before it knows what is
to be trained.
"""

from __future__ import annotations

import os
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.protocol.events import session_tag
from kaggle_manager.protocol.launch_order import read_order
from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.system import garbage
from kaggle_manager.trainer.runtime.log_lines import Emit, complain, emit_to_log, streams_kept, warn
from kaggle_manager.trainer.runtime.missing import in_words, missing_in
from kaggle_manager.trainer.runtime.origin import origin_of_session
from kaggle_manager.trainer.runtime.output_folder import OutputWatch
from kaggle_manager.trainer.runtime.session import Session, SessionOutcome, open_session
from kaggle_manager.trainer.runtime.session_clock import SessionClock, stop_signals
from kaggle_manager.trainer.runtime.session_files import failure, listed_files_in, session_fields, write_result

CODE = Path(__file__).resolve().parents[2]


def run(order: dict[str, Any]) -> int:
    """Carry out one launch order (see docs/architecture.md).

    Returns:
        the exit code of the kernel: 0 completed or interrupted, 1 crashed or diverged, 3 refused, 7 incompatible
        checkpoint.
    """
    # Absolute: the user's code may change the current folder.
    working = Path(os.environ["KM_WORKING_DIR"]).absolute()
    inputs = Path(os.environ["KM_INPUT_DIR"]).absolute()
    working.mkdir(parents=True, exist_ok=True)
    session = session_fields(order)
    emit = emit_to_log(session_tag(session["run_id"], session["generation"]))
    with ExitStack() as until_the_result_is_written:
        until_the_result_is_written.enter_context(streams_kept())
        result = _result(order, session, working, inputs, emit, until_the_result_is_written)
        write_result(working, result, emit, listed_files_in(order))
    return result.exit_code


def _result(
    order: dict[str, Any], session: dict[str, Any], working: Path, inputs: Path, emit: Emit, signals: ExitStack
) -> SessionResult:
    try:
        checked = read_order(order)
        # What was imported until here took its time, and torch takes seconds; they are the session's too.
        clock = SessionClock(checked.deadline_s, max_steps=checked.max_steps, started=checked.trainer_started)
        kept = OutputWatch(working, checked.output_bytes, checked.output_files, clock.request_stop, warn)
        signals.enter_context(stop_signals(clock, second_interrupts=False))
        outcome = _trained(open_session(checked, clock, kept.after(emit), CODE, working, inputs))
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
            early=outcome.early,
        )
    except BaseException as error:
        if isinstance(error, KaggleManagerError):
            complain(str(error))
        else:
            complain(traceback.format_exc())
        if missing := missing_in(error):
            complain(in_words(missing))
        return SessionResult(**session, **failure(error))


def _trained(session: Session) -> SessionOutcome:
    origin = origin_of_session(session.order, session.tree, session.inputs)
    if isinstance(session.section.scenario(session.order.scenario), ScriptScenario):
        from kaggle_manager.trainer.script import session as script

        return script.run(session, origin)
    with garbage.importing():
        from kaggle_manager.trainer.sb3 import session as sb3

    return sb3.run(session, origin)
