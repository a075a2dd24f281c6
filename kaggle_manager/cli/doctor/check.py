"""What the doctor says of one thing: how it is, in one line, and what to do about it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from kaggle_manager.errors import KaggleManagerError, VerificationError
from kaggle_manager.system.formatting import count

State = Literal["ok", "unknown", "caution", "problem"]
STATES: tuple[State, ...] = get_args(State)
"""The worst last."""


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


def worst(checks: Sequence[Check]) -> State:
    """The worst state among these: what is not known is never ok."""
    return max((check.state for check in checks), key=STATES.index)


def counted(checks: Sequence[Check]) -> str:
    """`14 checks: 11 ok, 1 unknown, 2 cautions, 0 problems`."""
    number = Counter(check.state for check in checks)
    found = [f"{number['ok']} ok", f"{number['unknown']} unknown"]
    found += [count(number[state], state) for state in ("caution", "problem")]
    return f"{count(len(checks), 'check')}: {', '.join(found)}"


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
