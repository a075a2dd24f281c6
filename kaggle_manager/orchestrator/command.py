"""The outermost boundary of a command that carries a run on: alone with it, and every error typed, told and noted.

Whatever ends the command leaves here as an error of `errors.py`. What needs the user is sent as a message, once until
something continues (see `told`); what time alone may help is noted, and sent when it has lasted for a day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from kaggle_manager.config import FROM_SECTION, RunConfig, state_folder
from kaggle_manager.errors import Busy, Interrupted, KaggleManagerError, QuotaError, StorageError
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator import notifications
from kaggle_manager.orchestrator.locking import exclusive_lock
from kaggle_manager.orchestrator.open_run import REFUSALS
from kaggle_manager.orchestrator.told import ToldFiles, cause_of
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.sections.project import STATE_FOLDER, find_project, get_section
from kaggle_manager.system.formatting import iso
from kaggle_manager.trees.current_run import current_run


@contextmanager
def command(
    config: RunConfig, notifier: Notifier, clock: Callable[[], float], *, by_user: bool = False
) -> Iterator[None]:
    """Carry a run on, perhaps unattended: as `attended`, and the user is told what needs them.

    Args:
        by_user: the user has asked for this one, and reads why it is refused.
    """
    try:
        with attended(config):
            yield
    except (Busy, Interrupted, QuotaError):  # another command is at work; the user is here; the run's row says it
        raise
    except KaggleManagerError as error:
        _tell(config, notifier, clock, error, by_user=by_user)
        raise
    except Exception as defect:  # told like any other end; the traceback is the caller's to show
        _tell(config, notifier, clock, KaggleManagerError(f"a defect of this program: {defect!r}"))
        raise
    ToldFiles(config.state, str(config.tree)).clear()


@contextmanager
def settings_told(section: str, workdir: Path | None, notifier: Notifier, about: str) -> Iterator[None]:
    """Find out what a command is about: settings that cannot be read are told where a run depends on them.

    What is wrong with the section is told once, however many commands meet it; what is wrong with one command is that
    command's, and another one that is well does not let it be told again.

    Args:
        about: the command as it was given.
    """
    try:
        yield
    except Exception as raised:
        state = _state_of(workdir)
        if state is None or not _is_unattended(state, section):
            raise
        error = raised if isinstance(raised, KaggleManagerError) else KaggleManagerError(f"{section}: {raised!r}")
        files, cause = ToldFiles(state, about if _is_readable(section) else section), cause_of(error)
        if cause not in files.causes() and notifications.settings_unreadable(notifier, section, error):
            files.add(cause)
        raise
    if (state := _state_of(workdir)) is not None:
        for told in (about, section):
            ToldFiles(state, told).clear()


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
            "Interrupted. A running session continues on its platform.",
            safe="everything saved so far, here and on the platform",
            next_step="run the same command again to resume" + without_fresh(config),
        ) from error
    except OSError as error:
        raise StorageError(
            f"Disk error: {error}.",
            safe=f"the checkpoints in {config.tree}, and what is on the platform",
            next_step="free disk space or fix the permissions, then run the same command again" + without_fresh(config),
        ) from error


def _tell(
    config: RunConfig,
    notifier: Notifier,
    clock: Callable[[], float],
    error: KaggleManagerError,
    *,
    by_user: bool = False,
) -> None:
    """Note the error in the run's row, where there is one, and send what needs the user and is not told yet."""
    files, row, sent, generation = ToldFiles(config.state, str(config.tree)), None, "", 0
    told = known = files.causes()
    try:
        with closing(Journal(config.journal)) as journal:
            row = current_run(config, journal)
            if row is None:
                return  # nothing runs unattended yet: the user who has started it reads the error
            told = known | set(row.told.split())
            run = RunState(journal, row)
            generation = run.newest.generation if run.newest else 0
            if not (by_user and isinstance(error, REFUSALS) and _is_otherwise(row, config)):
                run.note_error(error, iso(clock()), clock())
            sent = notifications.command_ended(notifier, config, run.row, error, told, generation)
            if sent or known:
                run.change(told=" ".join(sorted({*told, sent} - {""})))
    except Exception as refusal:  # whatever it is, the error itself is what the caller must see
        sent = sent or notifications.command_ended(notifier, config, row, error, told, generation)
        if sent:
            files.add(sent)
        why = getattr(refusal, "message", str(refusal))
        if why != error.message:
            error.message = f"{error.message}\nThe error could not be saved in the journal: {why}"
    else:
        files.clear()


def _is_otherwise(row: RunRow, config: RunConfig) -> bool:
    """Whether the run is another thing than the command was about: finished, or on its way to another target."""
    if row.finished_at is not None:
        return not row.quick  # which may not have shown what it is for
    return config.target != row.target and config.sources["timesteps"] != FROM_SECTION


def _state_of(workdir: Path | None) -> Path | None:
    """The state folder, also of a project that cannot be read."""
    with suppress(KaggleManagerError):
        return state_folder(workdir)
    above = [folder / STATE_FOLDER for folder in (Path.cwd(), *Path.cwd().parents)]
    return next((folder for folder in above if folder.is_dir()), None)


def _is_readable(section: str) -> bool:
    """Whether the section itself is well, so that an error is the command's."""
    with suppress(Exception):
        get_section(find_project(Path.cwd(), section), section)
        return True
    return False


def _is_unattended(state: Path, section: str) -> bool:
    """Whether a run of `section` may depend on the command: unfinished, or in a journal that cannot be read."""
    try:
        with closing(Journal.to_read(state / "journal.sqlite")) as journal:
            return any(run.section == section and run.finished_at is None for run in journal.runs())
    except StorageError:
        return True
