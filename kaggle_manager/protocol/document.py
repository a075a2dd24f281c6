"""A JSON document that manager and session exchange: one model for the side that writes and the side that reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError

from kaggle_manager.errors import one_line

LONGEST_LINE = 1_000


def _line(value: object) -> object:
    return one_line(value, LONGEST_LINE) if isinstance(value, str) else value


Line = Annotated[str, BeforeValidator(_line)]
"""Text that a session sets and somebody is shown: one printable line of at most `LONGEST_LINE` characters."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(BaseModel):
    """A document, or an object inside one. What it does not know is ignored: a later version may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class LaterSchema(ValueError):
    """A later version of kaggle-manager wrote the document, so that nothing is wrong with it."""


class Document(Part):
    """A document that says by which schema it was written; another schema is refused, never guessed at."""

    SCHEMA: ClassVar[int]

    def as_json(self) -> dict[str, Any]:
        """Plain values, the schema number first."""
        return {"schema": self.SCHEMA, **self.model_dump(mode="json")}

    @classmethod
    def from_json(cls, body: object) -> Self:
        """Check what `json.loads` returned.

        Raises:
            LaterSchema: a later version wrote it.
            ValueError: it is no such document; the message says in one line why.
        """
        if not isinstance(body, Mapping):
            raise ValueError("a JSON object is expected")
        found = body.get("schema")
        if found != cls.SCHEMA:
            said = f"it has schema {found!r} where {cls.SCHEMA} is read"
            raise _refused(said, found, cls.SCHEMA)
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error


def first_problem(error: ValidationError) -> str:
    """The first field that is not accepted, and why, in one line."""
    first = error.errors()[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


def _refused(said: str, found: object, expected: int) -> ValueError:
    if not isinstance(found, int):
        return ValueError(said)
    if found < expected:
        return ValueError(f"{said}; it was written by an earlier development version of kaggle-manager")
    return LaterSchema(f"{said}; it was written by a later version of kaggle-manager")
