"""The script of a session's job, and the words by which `sbatch` is asked to run it. Pure."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence

from kaggle_manager.platforms.slurm.job_state import NO_FOLDER, NOT_MINE
from kaggle_manager.platforms.slurm.settings import SlurmSettings

OLDEST_PYTHON = (3, 11)
_TELLS_PYTHON = "import sys; print('km_python %d.%d' % sys.version_info[:2])"
_CHECKS_PYTHON = """import sys
if sys.version_info < {oldest}: sys.exit('it is Python %d.%d: sessions need {words} or newer' % sys.version_info[:2])"""
# It is the same for every session of a run. That it began and how it ended it writes beside itself, for Slurm forgets.
# `claimed` is made once, by the job or by who withdraws the session: so a job that comes twice, or late, does nothing.
# What fails before the training ends the job with its own words, whether it returns or exits.
_SCRIPT = """\
#!/bin/bash -l
# One session of a training. What it leaves is beside this file: log, output, ended.
km_here=$1
cd -- "$km_here" || exit {no_folder}
umask 077
mkdir claimed 2>/dev/null || exit {not_mine}
exec >> log 2>&1
printf '%s\\n' "$SLURM_JOB_ID" > started.tmp && mv -f started.tmp started
trap : TERM INT HUP USR1  # for the trainer, which saves and leaves; this script writes how it ended
km_ended() {{
    trap - EXIT
    cd -- "$km_here" || exit 1
    if [ -n "$km_step" ]; then
        [ "$1" != 0 ] || set -- 1
        km_step="before the training, '$km_step' failed: $(tail -c 2000 log | tail -n 3)"
    fi
    printf '%s\\n%s\\n' "$1" "$km_step" > ended.tmp && mv -f ended.tmp ended
    exit "$1"
}}
km_step=
trap 'km_ended $?' EXIT
{setup}
km_step={python_word}
{python} -c {check} || km_ended $?
km_step=
trap 'km_ended $?' EXIT
cd -- "$km_here" || exit 1
export KM_WORKING_DIR="$km_here/output" KM_INPUT_DIR="$km_here/input"
export KM_MACHINE_NAME="$(uname -n)-$SLURM_JOB_ID"
{python} -u script.py
"""


def job_script(settings: SlurmSettings, python: str) -> str:
    """What the job runs in its session's folder.

    Args:
        python: the interpreter where the section names none.
    """
    return _SCRIPT.format(
        no_folder=NO_FOLDER,
        not_mine=NOT_MINE,
        setup="\n".join(map(_step, settings.setup)),
        python=(word := _path(settings.python or python)),
        python_word=shlex.quote(word),
        check=shlex.quote(_CHECKS_PYTHON.format(oldest=OLDEST_PYTHON, words=in_words(OLDEST_PYTHON))),
    )


def _path(text: str) -> str:
    """As a word of a shell."""
    return f"~/{shlex.quote(text[2:])}" if text.startswith("~/") else shlex.quote(text)


def _step(line: str) -> str:
    return f"km_step={shlex.quote(line)}\neval {shlex.quote(line)} || km_ended $?"


def ask_for_python(settings: SlurmSettings, python: str) -> str:
    """Lines of bash whose output `read_python` reads; arguments as `job_script`."""
    setup = [f"eval {shlex.quote(line)} || exit" for line in settings.setup]
    return "\n".join([*setup, f"{_path(settings.python or python)} -c {shlex.quote(_TELLS_PYTHON)}"])


def read_python(text: str) -> tuple[int, ...] | None:
    """The version in it, such as (3, 11); None for none."""
    found = re.findall(r"^km_python (\d+)\.(\d+)$", text, re.MULTILINE)
    return tuple(map(int, found[-1])) if found else None


def in_words(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def comment_of(slug: str, number: str) -> str:
    """By what a job is found again whose number nobody has written down."""
    return f"km:{slug}/{number}"


def sbatch(
    settings: SlurmSettings, *, folder: str, slug: str, number: str, timeout_s: int | None, needs_gpu: bool
) -> Sequence[str]:
    """The command that submits a session.

    Args:
        folder: of the session, absolute.
        timeout_s: seconds after which Slurm ends it; None: as the settings say.
        needs_gpu: the section asks for an accelerator; it gets one GPU where the settings do not say which.
    """
    gpus = settings.gpus if settings.gpus is not None else "1" if needs_gpu else None
    values = {
        "job-name": slug,
        "comment": comment_of(slug, number),
        "chdir": "/",
        "output": "/dev/null",  # the script names its log itself: Slurm would read `%j` in a folder's name
        "partition": settings.partition,
        "account": settings.account,
        "time": _minutes(timeout_s) if timeout_s else settings.time,
        "gpus": gpus if gpus != "0" else None,
        "cpus-per-task": settings.cpus,
        "mem": settings.memory,
    }
    options = [f"--{name}={value}" for name, value in values.items() if value is not None]
    # The user's own come last and win, except for what a session is not one without.
    return ("sbatch", "--parsable", *options, *settings.sbatch_options, "--no-requeue", f"{folder}/job.sh", folder)


def _minutes(seconds: int) -> str:
    """Slurm counts in minutes; one more for what the script does beside the session."""
    return str(math.ceil(seconds / 60) + 1)
