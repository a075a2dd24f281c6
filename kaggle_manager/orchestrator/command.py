"""The outermost boundary of a command that carries a run on: alone with it, and every error typed, told and noted.

Whatever ends the command leaves here as an error of `errors.py`. What needs the user is sent as a message, once: the
run's row remembers what was told until something goes on. What time alone may help is only noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from kaggle_manager.config import RunConfig
from kaggle_manager.console.formatting import iso
from kaggle_manager.errors import Busy, Interrupted, KaggleManagerError, StorageError
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.locking import exclusive_lock
from kaggle_manager.orchestrator.notifications import command_ended
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.trees.current_run import current_run


@contextmanager
def command(config: RunConfig, notifier: Notifier, clock: Callable[[], float]) -> Iterator[None]:
    """Carry a run on, perhaps unattended: as `attended`, and the user is told what needs them."""
    try:
        with attended(config):
            yield
    except (Busy, Interrupted):  # another command is at work, or the user is here
        raise
    except KaggleManagerError as error:
        _tell(config, notifier, clock, error)
        raise
    except Exception as defect:  # told like any other end; the traceback is the caller's to show
        _tell(config, notifier, clock, KaggleManagerError(f"a defect of this program: {defect!r}"))
        raise


@contextmanager
def attended(config: RunConfig) -> Iterator[None]:
    """Hold the run of `config` for this process alone while a command that the user waits for is at work on it.

    Raises:
        Busy: another command is at work.
        StorageError, Interrupted: in place of what the machine refused inside, and of Ctrl-C.
    """
    with _typed(config), exclusive_lock(config):
        yield


def without_fresh(config: RunConfig) -> str:
    """What to add to "the same command": a fresh start was made; doing that again would undo what came of it."""
    return " (without --fresh, which would start over once more)" * config.fresh


@contextmanager
def _typed(config: RunConfig) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            "Interrupted. If a session runs, it goes on by itself.",
            safe="everything saved so far, here and on the platform",
            next_step="run the same command again to go on" + without_fresh(config),
        ) from error
    except OSError as error:
        raise StorageError(
            f"This machine refused: {error}.",
            safe=f"the checkpoints in {config.tree}, and what is on the platform",
            next_step="free space or give back the permission, and run the same command again" + without_fresh(config),
        ) from error


def _tell(config: RunConfig, notifier: Notifier, clock: Callable[[], float], error: KaggleManagerError) -> None:
    """Send what needs the user, and note it in the run's row, where there is one."""
    try:
        journal = Journal(config.journal)
    except StorageError:  # the journal may be the very trouble: then nothing remembers what was told
        command_ended(notifier, config, None, error)
        return
    with closing(journal):
        try:
            row = current_run(config, journal)
            if row is None:
                return  # nothing runs unattended yet: the user who has started it reads the error
            run = RunState(journal, row)
            told = command_ended(notifier, config, row, error)
            detail = {"type": type(error).__name__, "message": error.message, "next": error.next_step}
            with run.together():
                run.note("error", None, iso(clock()), **detail, retryable=error.retryable)
                if told:
                    run.change(told=error.message)
        except StorageError as refusal:  # the error itself is what the caller must see
            error.message = f"{error.message}\nIt could not be noted: {refusal.message}"
