"""What the doctor says of one thing: how it is, in one line, and what to do about it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kaggle_manager.errors import KaggleManagerError, VerificationError

State = Literal["ok", "unknown", "caution", "problem"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: `problem` keeps a run from going well; `caution` is worth knowing; `unknown` cannot be seen from here.
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


def problem(name: str, error: KaggleManagerError) -> Check:
    return Check(name, "problem", error.message, error.next_step, error.exit_code)


def guarded(name: str, look: Callable[[], Check | Sequence[Check]]) -> list[Check]:
    """What `look` finds. A check that fails by itself is a problem: what it was to look at is not known to be well."""
    try:
        found = look()
    except KaggleManagerError as error:
        return [problem(name, error)]
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        says = (
            f"this check itself failed ({type(error).__name__} at {at.name}, line {at.lineno}); nothing is known of it"
        )
        # No text of the error: it may quote a header or an address with a password.
        todo = "report it: it is a defect of this program"
        return [Check(name, "problem", says, todo, KaggleManagerError.exit_code)]
    return [found] if isinstance(found, Check) else list(found)
