"""What the doctor says of one thing: how it is, in one line, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from kaggle_manager.errors import VerificationError

State = Literal["ok", "caution", "problem"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: `problem` keeps a run from going well; `caution` is worth knowing.
        says: one line; never the value of a secret.
        todo: what to do about it, or "".
        exit_code: of the command when this is the first problem.
    """

    name: str
    state: State
    says: str
    todo: str = ""
    exit_code: int = VerificationError.exit_code

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}
