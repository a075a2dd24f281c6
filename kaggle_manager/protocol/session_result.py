"""What a session says of itself in the end: its `session_result.json`, which outranks the platform's status.

The trainer writes it and the manager reads it, as something from outside: a missing or malformed field is
`OutputDamaged`, a result of another run, generation or bundle is a `LineageMismatch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import from_json

from kaggle_manager.errors import UPDATE, CheckpointIncompatible, LineageMismatch, OutputDamaged, printable
from kaggle_manager.protocol.document import Document, LaterSchema, Line, Part, Sha256
from kaggle_manager.protocol.file_names import RESULT_FILE

# A result is a page of JSON; anything much larger is not one.
LARGEST_RESULT_BYTES = 4_000_000
# Exit codes of a session that did not end in good order.
CRASHED, REFUSED, INCOMPATIBLE = 1, 3, 7

OutcomeName = Literal["completed", "interrupted", "crashed", "refused", "diverged"]


class OutputEntry(Part):
    """One output file of the trainer, as the session left it: its name relative to the output folder, bytes, sha256."""

    name: str
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class OtherFile(Part):
    """A file that the user's code left, as far as its name can be written down, and its bytes."""

    name: Line
    size: Annotated[int, Field(ge=0)]


class OtherFiles(Part):
    """What the user's code left in the output folder. Nothing of it is needed, so nothing of it is verified.

    Attributes:
        count, size: files, and bytes of them all.
        packed: how many more are in the archive `file_names.OTHERS_ARCHIVE`, which is one of them.
        named: the first of them by name.
    """

    count: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=0)] = 0
    packed: Annotated[int, Field(ge=0)] = 0
    named: tuple[OtherFile, ...] = ()


def _text(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


class Missing(Part):
    """What a session's code asked for and a session does not have: a module, or a file (see `trainer.runtime`).

    The file is relative to the folder of the code, else absolute.
    """

    module: Line = ""
    file: Line = ""


class SessionError(Part):
    """Why a session ended badly.

    Attributes:
        type: of the exception.
        last_line: of the traceback.
        missing: what it lacked, if it did.
        input_files: digest of the files of each input that are others than its checkpoint's, by the input's name.
        can_be_accepted: whether all that refuses its checkpoint is a change that a user may make on purpose.
    """

    type: Line = ""
    message: Annotated[str, BeforeValidator(_text)] = ""
    last_line: Line = ""
    missing: Missing | None = None
    input_files: dict[Line, Sha256] = Field(default_factory=dict)
    can_be_accepted: bool = False


# More than this is no measurement of a session, and not exact in every reader of JSON.
_LARGEST = 2**53


def _measured(values: object) -> object:
    """A figure that is no finite number within bounds is not known; it must not cost the result."""
    if isinstance(values, Mapping):
        return {name: value for name, value in values.items() if _is_figure(value)}
    return values if _is_figure(values) else None


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _gain(value: object) -> object:
    return value if isinstance(value, int | float) and _is_figure(value) and value >= 0 else None


def _whole(values: object) -> object:
    measured = _measured(values)
    if isinstance(measured, dict):
        return {name: value for name, value in measured.items() if value == int(value)}
    return measured


class SessionResult(Document):
    """How a session ended, and what it left.

    Attributes:
        outcome: `completed` when the target is reached; `interrupted` when the next session can go on;
            `crashed`; `refused` when it ended before training because something did not match its order; `diverged`
            when the training ran away (`errors.Diverged`), which no session continues.
        reason: why it ended so; of a completed one, what was left out of its final model.
        exit_code: of the kernel's process: 0, or one of the codes above.
        step: timesteps in the newest checkpoint it left; None when it left none.
        resumed_from_step: timesteps it started from; 0 for a start from zero.
        timings: seconds by name (install, setup, train, evaluate, save, total).
        counts: whole numbers by name (steps, updates, evaluations, checkpoints).
        accelerator_gain: how many times faster than the CPU the accelerator trained; None when it was not measured.
        early: why it is complete before its target; "" when it is not.
        files: what the next session needs: each checkpoint, best and final model that verified as the session ended.
        optional: what the trainer wrote besides: learning curves, a summary, the session's first file.
        others: what the user's code left.
        python: the version of Python of a session whose trainer never started; "" of one that says it as it starts.
    """

    SCHEMA: ClassVar[int] = 4

    outcome: OutcomeName
    reason: Line = ""
    exit_code: int
    run_id: Line
    generation: int
    bundle_sha256: Line
    step: int | None = None
    resumed_from_step: int = 0
    timings: Annotated[dict[Line, float], BeforeValidator(_measured)] = Field(default_factory=dict)
    counts: Annotated[dict[Line, int], BeforeValidator(_whole)] = Field(default_factory=dict)
    accelerator_gain: Annotated[float | None, BeforeValidator(_gain)] = None
    early: Line = ""
    error: SessionError | None = None
    files: tuple[OutputEntry, ...] = ()
    optional: tuple[OutputEntry, ...] = ()
    others: OtherFiles = OtherFiles()
    python: Line = ""

    @field_validator("files", "optional")
    @classmethod
    def _names_differ(cls, files: tuple[OutputEntry, ...]) -> tuple[OutputEntry, ...]:
        """Also on a disk that does not distinguish upper and lower case."""
        if len({file.name.casefold() for file in files}) != len(files):
            raise ValueError("a file is named twice")
        return files

    @property
    def cause(self) -> str:
        """Why it ended badly, in one line; '' when it does not say."""
        if self.error is None:
            return ""
        first_line, *others = self.error.message.strip().splitlines() or [""]
        if first_line.endswith(":") and others:  # what it announces is what there is to know
            first_line = f"{first_line} {others[0].strip()}"
        return f"{self.error.type}: {first_line}" if first_line else self.error.last_line


def parse_result(content: bytes, *, run_id: str, generation: int, bundle_sha256: str) -> SessionResult:
    """Read a result and compare it with the session it must be of.

    Raises:
        OutputDamaged: not a session result.
        CheckpointIncompatible: a later version of kaggle-manager wrote it; downloading it again would change nothing.
        LineageMismatch: the result of another run, session or code.
    """
    try:
        if len(content) > LARGEST_RESULT_BYTES:
            raise ValueError(f"{len(content):,} bytes, where a page of JSON is expected")
        # Stricter than `json`: no text that cannot be stored, no nesting without end.
        result = SessionResult.from_json(from_json(content))
    except LaterSchema as error:
        raise CheckpointIncompatible(
            f"{RESULT_FILE} cannot be read: {error}.", safe="the local training tree is untouched", next_step=UPDATE
        ) from error
    except ValueError as error:
        raise OutputDamaged(
            f"{RESULT_FILE} is not a session's result ({error}).", safe="the local training tree is untouched"
        ) from error
    expected = {"run_id": run_id, "generation": generation, "bundle_sha256": bundle_sha256}
    wrong = {name: getattr(result, name) for name, value in expected.items() if getattr(result, name) != value}
    if wrong:
        called = {"run_id": "run", "generation": "session", "bundle_sha256": "code"}
        details = ", ".join(
            f"{called[name]}: expected {expected[name]!r}, found {found!r}" for name, found in wrong.items()
        )
        raise LineageMismatch(
            f"These outputs are of another session ({details}).",
            safe="nothing was restored; the local training tree is untouched",
        )
    return result
