"""The jobs of a name that wait or work: which Slurm has, and how they are ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kaggle_manager.errors import Unavailable, one_line
from kaggle_manager.platforms.slurm.job_script import comment_of
from kaggle_manager.platforms.slurm.shell import Shell

# How long a job that is ended may take: Slurm's own patience (KillWait) and what its trainer still writes.
_LEAVES_WITHIN_S = 90.0
_LOOK_S = 1.0


def ask(shell: Shell, *command: str) -> str:
    """What Slurm answers.

    Raises:
        Unavailable: it does not.
    """
    done = shell.ask_slurm(*command)
    if done.code:
        said = one_line(done.error.strip().rpartition("\n")[2])
        raise Unavailable(f"{command[0]} got no answer from Slurm: {said or f'exit code {done.code}'}")
    return done.out


def jobs_of(shell: Shell, slug: str) -> list[tuple[str, str]]:
    """The jobs of this name, each with its comment.

    Raises:
        Unavailable: Slurm does not say.
    """
    asked = ask(shell, "squeue", "--noheader", f"--name={slug}", "--format=%i|%k")
    return [(job, comment) for job, _, comment in (line.strip().partition("|") for line in asked.splitlines())]


def end_all(shell: Shell, slug: str) -> None:
    """End the jobs of this name, and wait until they have left.

    Raises:
        Unavailable: Slurm does not say, or one is still there.
    """
    _end(shell, lambda: [job for job, _ in jobs_of(shell, slug)])


def end_forsaken(shell: Shell, slug: str, folder: str) -> None:
    """End jobs whose session is not in the folder of their name: nobody reads it, and the next may have its number.

    Raises:
        Unavailable: one is still there.
    """

    def forsaken() -> list[str]:
        try:
            jobs = jobs_of(shell, slug)
        except Unavailable:
            return []  # what is submitted next is refused as well, in Slurm's words
        # Asked after the jobs: a folder is made before its job.
        there = {comment_of(slug, number) for number in shell.run("ls", "--", folder).out.split()} if jobs else set()
        return [job for job, comment in jobs if comment.startswith(comment_of(slug, "")) and comment not in there]

    _end(shell, forsaken)


def _end(shell: Shell, left: Callable[[], Sequence[str]]) -> None:
    if not (jobs := left()):
        return
    shell.ask_slurm("scancel", "--full", *jobs)  # one that has just ended is none to end
    deadline = time.monotonic() + _LEAVES_WITHIN_S
    while jobs := left():
        if time.monotonic() > deadline:
            raise Unavailable(f"Job {jobs[0]} was ended and has not left yet.", safe="nothing was started or deleted")
        time.sleep(_LOOK_S)
