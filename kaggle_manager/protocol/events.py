"""Events: what a session tells the manager through its log.

Each is one line, in which `session` comes first and says which session of which run it is of:

    KM_PROGRESS {"session": "3fa85f64/2", "step": 1200, "target": 3000, ...}

An event is written with one call and begins with a line end of its own, so that text which the user's code left without
one does not swallow it. It is found anywhere in a line; an event of another session, such as a log that the user's code
prints, is a line of text like any other. Everything read here is a claim of the log, nothing is verified.
"""

from __future__ import annotations

import json
import math
import re
from itertools import zip_longest
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from kaggle_manager.protocol.document import Line, Part, Sha256
from kaggle_manager.protocol.session_result import OutcomeName

# JSON numbers above this are not exact everywhere; no training is so long.
_LARGEST = 2**53
_LONGEST_TAG = 40


def _finite(value: Any) -> Any:
    """A number that is not finite is not known; JSON has no sign for it."""
    try:
        return value if not isinstance(value, int | float) or math.isfinite(value) else None
    except OverflowError:
        return None


Steps = Annotated[int, Field(strict=True, ge=0, lt=_LARGEST)]
Real = Annotated[Annotated[float, Field(strict=True)] | None, BeforeValidator(_finite)]


class BundleEvent(Part):
    """The first event of a session: the sha256 of the code it runs."""

    kind: ClassVar[str] = "KM_BUNDLE"
    sha256: Sha256


class ContainerEvent(Part):
    """What the session calls itself on the platform; its id is part of the name."""

    kind: ClassVar[str] = "KM_SESSION"
    container: Annotated[Line, Field(max_length=200)]


class ResumeEvent(Part):
    """What is continued: timesteps, and the checkpoint's manifest, or why it starts from zero.

    `exact` is how the environment is put back (`pickle`, `action-replay`, `none`).
    """

    kind: ClassVar[str] = "KM_RESUME"
    step: Steps
    target: Steps
    manifest_sha256: Line | None = None
    from_zero: Line | None = None
    exact: Line | None = None


class ProgressEvent(Part):
    """Timesteps trained and asked for, speed, mean return of the newest episodes, step of the newest checkpoint.

    Of a script `reward` is the metric by which its best checkpoint is chosen, and `metric` the name of that.
    """

    kind: ClassVar[str] = "KM_PROGRESS"
    step: Steps
    target: Steps
    steps_per_s: Real = None
    reward: Real = None
    metric: Annotated[Line, Field(max_length=200)] | None = None
    checkpoint: Steps | None = None


class EvaluationEvent(Part):
    """One evaluation: its mean return, whether it is the best so far, what it played and how long that took."""

    kind: ClassVar[str] = "KM_EVAL"
    step: Steps
    score: Real
    best: bool
    episodes: Steps
    env_steps: Steps
    seconds: Real


class ResultEvent(Part):
    """The last event: how the session ended, as `session_result.json` says at more length."""

    kind: ClassVar[str] = "KM_RESULT"
    run_id: Line
    generation: int
    bundle_sha256: Line
    outcome: OutcomeName
    reason: Line
    exit_code: int
    step: Steps | None
    output_files: Steps


Event = BundleEvent | ContainerEvent | ResumeEvent | ProgressEvent | EvaluationEvent | ResultEvent

_BY_KIND: dict[str, type[Event]] = {
    each.kind: each for each in (BundleEvent, ContainerEvent, ResumeEvent, ProgressEvent, EvaluationEvent, ResultEvent)
}
# Inside a JSON string a quotation mark is escaped, so this occurs only where an event begins.
_BEGIN = re.compile(rf'({"|".join(_BY_KIND)}) (?=\{{"session": "([^"\\]{{1,{_LONGEST_TAG}}})")')
_DECODER = json.JSONDecoder()


def session_tag(run_id: str, generation: int) -> str:
    """What a session's events are known by."""
    return f"{run_id[:8]}/{generation}"


def format_event(event: Event, tag: str) -> str:
    """The text of an event, with a line end before and after it; to be written with one call.

    Args:
        tag: of the session that writes it (`session_tag`).
    """
    return f"\n{event.kind} {json.dumps({'session': tag, **event.model_dump(mode='json')})}\n"


def parse_event(line: str, tag: str) -> Event | None:
    """The first event of this session in a line; None when there is none that is whole.

    The cost is linear in the length of the line, whatever it holds: a text is read up to where the next event begins.
    """
    begins = [*_BEGIN.finditer(line)]
    for begin, after in zip_longest(begins, begins[1:]):
        if begin[2] != tag:
            continue
        try:
            body, _ = _DECODER.raw_decode(line[begin.end() : after.start() if after else None])
            return _BY_KIND[begin[1]].model_validate(body)
        except (ValueError, RecursionError):
            continue
    return None
