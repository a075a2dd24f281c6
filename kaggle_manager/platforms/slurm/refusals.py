"""What `sbatch` says when it names no job: was nothing submitted, or is that not known? Pure."""

from __future__ import annotations

import re

from kaggle_manager.errors import (
    AmbiguousPush,
    CapacityReached,
    ConfigError,
    KaggleManagerError,
    Unavailable,
    one_line,
)
from kaggle_manager.platforms.platform import SessionRef

_UNREACHED = ("Unable to contact slurm controller", "Connection refused", "Zero Bytes were transmitted")
_DOUBTFUL = ("Socket timed out", "Transport endpoint", "Unexpected message", "Slurm backup controller in standby")
_FULL = ("MaxSubmitJob", "Job violates accounting/QOS policy", "Slurm temporarily unable to accept job", "QOSMax")
_NOTHING = "no session was started"


def is_doubtful(said: str) -> bool:
    """Whether a job may be there all the same."""
    return any(words in said for words in _DOUBTFUL)


def in_doubt(ref: SessionRef, why: str) -> AmbiguousPush:
    return AmbiguousPush(
        f"Whether Slurm took a job for {ref.ref} is not known: {_last_line(why)}",
        safe="it was not submitted again",
        next_step=f"nothing: it is looked for by its name, squeue --name={ref.slug}",
    )


def refusal(ref: SessionRef, said: str) -> KaggleManagerError:
    """Of a job that will never work, in the words of sbatch."""
    why = _last_line(said)
    if any(words in said for words in _UNREACHED):
        return Unavailable(f"Slurm's controller does not answer: {why}", safe=_NOTHING)
    if any(words in said for words in _FULL):
        return CapacityReached(f"Slurm takes no more jobs of this account now: {why}", safe=_NOTHING)
    return ConfigError(
        f"Slurm refused the job of {ref.ref}: {why}",
        safe=_NOTHING,
        next_step="correct [platform.slurm] in section.toml, or KM_SLURM_*, as Slurm's message says",
    )


def _last_line(said: str) -> str:
    lines = [line for line in said.strip().splitlines() if not line.startswith("Try ")]  # of the manual
    return one_line(re.sub(r"^sbatch: (error: )?", "", lines[-1])) if lines else "no reason given"
