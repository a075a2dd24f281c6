"""What a session says of itself: its `session_result.json`, read as something from outside.

The trainer's own last word outranks the platform's status. Unknown fields are ignored; with a missing or malformed one
the file is `OutputDamaged`; a claim made for another run, generation or bundle is a `LineageMismatch`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from kaggle_manager.errors import LineageMismatch, OutputDamaged

RESULT_FILE = "session_result.json"
START_FILE = "session_start.json"
TREE_FOLDER = "training_tree"
# A result is a page of JSON; anything much larger is not one.
LARGEST_RESULT_BYTES = 4_000_000

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _FromOutside(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class OutputEntry(_FromOutside):
    """One output file, as the trainer left it."""

    name: str
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class SessionError(_FromOutside):
    """Why a trainer crashed: exception type, message, last line of the traceback."""

    type: str = ""
    message: str = ""
    last_line: str = ""


class SessionResult(_FromOutside):
    """The trainer's last word.

    Attributes:
        step: timesteps in the newest checkpoint it left; None when it left none.
        resumed_from_step: timesteps it started from; 0 for a start from zero.
        timings: seconds by name (setup, train, evaluate, save, total, ...).
        counts: whole numbers by name (updates, evaluations, checkpoints, ...).
        accelerator_gain: how many times faster than the CPU the accelerator trained; None when it was not measured.
    """

    outcome: Literal["completed", "interrupted", "crashed", "refused"]
    reason: str = ""
    exit_code: int
    run_id: str
    generation: int
    bundle_sha256: str
    step: int | None = None
    resumed_from_step: int = 0
    timings: dict[str, float] = {}
    counts: dict[str, int] = {}
    accelerator_gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    error: SessionError | None = None
    files: tuple[OutputEntry, ...] = ()

    @field_validator("files")
    @classmethod
    def _names_differ(cls, files: tuple[OutputEntry, ...]) -> tuple[OutputEntry, ...]:
        """Also on a disk that does not tell capitals from small letters."""
        if len({file.name.casefold() for file in files}) != len(files):
            raise ValueError("a file is named twice")
        return files

    @property
    def refused_its_order(self) -> bool:
        """Whether the kernel cannot do what it was told, however often it is told."""
        return self.outcome == "refused" and self.error is not None and self.error.type == "ConfigError"

    @property
    def cause(self) -> str:
        """Why it ended badly, in one line; '' when it does not say."""
        if self.error is None:
            return ""
        first_line = next(iter(self.error.message.strip().splitlines()), "")
        return f"{self.error.type}: {first_line}" if first_line else self.error.last_line


def parse_result(content: bytes, *, run_id: str, generation: int, bundle_sha256: str) -> SessionResult:
    """Read a result and hold it against the session it must be of.

    Raises:
        OutputDamaged: not a session result.
        LineageMismatch: the result of another run, generation or code.
    """
    try:
        if len(content) > LARGEST_RESULT_BYTES:
            raise ValueError(f"{len(content):,} bytes, where a page of JSON is expected")
        result = SessionResult.model_validate_json(content)
    except ValueError as error:  # pydantic's among them
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
        raise OutputDamaged(
            f"{RESULT_FILE} is not a session's result ({why}).", safe="the local training tree is untouched"
        ) from error
    expected = {"run_id": run_id, "generation": generation, "bundle_sha256": bundle_sha256}
    wrong = {name: getattr(result, name) for name, value in expected.items() if getattr(result, name) != value}
    if wrong:
        details = ", ".join(f"{name}: expected {expected[name]!r}, found {found!r}" for name, found in wrong.items())
        raise LineageMismatch(
            f"These outputs are of another session ({details}).",
            safe="nothing was restored; the local training tree is untouched",
        )
    return result


def normalised_failure(text: str) -> str:
    """A failure without what changes from one time to the next: numbers, addresses, hashes, temporary names."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text.strip().splitlines()[-1] if text.strip() else "")
    text = re.sub(r"km_code_\w+|\b[0-9a-f]{8,}\b|\btmp\w{8}\b", "…", text)
    return re.sub(r"\d+", "N", text)[:300]


def last_traceback_line(log: str) -> str:
    """The last line of the last Python traceback in a log: the exception; '' when there is none."""
    start = log.rfind("Traceback (most recent call last):")
    if start < 0:
        return ""
    # The exception is the first line after the header that is not indented.
    for line in log[start:].splitlines()[1:]:
        if line.strip() and not line.startswith((" ", "\t")):
            return line.strip()
    return ""
