"""What a platform is asked with, and what it answers; addresses and sources stay out of every repr. See `platform`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Literal

LONGEST_LINE = 10_000
"""Characters of a `LogLine` at most."""

# The least that any takes: Kaggle refuses a source of 1 MB or more; the margin is for what its JSON encoding adds.
SOURCE_LIMIT_BYTES = 1_000_000

Progress = Callable[[str, int, int | None], None]
"""Told of a transfer: name of the file, bytes so far, and bytes in all where that is known."""


@dataclass(frozen=True)
class SessionRef:
    """Which session: the account, the name under which a run starts its sessions, and which of these it is.

    Attributes:
        owner: the account, as `whoami` gives it.
        slug: the name of the run at the platform: lower-case letters, digits and hyphens, 50 characters at most.
        id: the platform's own text for one session, such as a version or the number of a job. The manager keeps it,
            compares it for equality and shows it; it reads nothing in it. Without spaces; never "".
    """

    owner: str
    slug: str
    id: str

    @property
    def address(self) -> str:
        return f"{self.owner}/{self.slug}"

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> SessionRef:
        """The same from its `ref`."""
        owner, slug, of_platform = text.split("/", 2)
        return cls(owner, slug, of_platform)


class SessionState(Enum):
    """State of a session. UNKNOWN is a word this program does not know yet: a state like another, never an end."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    ERROR = "error"
    CANCEL_REQUESTED = "cancel requested"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        return self in (SessionState.COMPLETE, SessionState.ERROR, SessionState.CANCELLED)


class EndCause(StrEnum):
    """Why a session ended without a result, where the platform knows: what follows depends on it.

    TIME_LIMIT and MEMORY: it used up what it had been given. PLATFORM: the platform took its machine away. SETTINGS:
    what the user asks of the platform cannot work, and another session would end in the same way.
    """

    UNKNOWN = ""
    TIME_LIMIT = "time limit"
    MEMORY = "out of memory"
    PLATFORM = "platform failure"
    SETTINGS = "settings"


@dataclass(frozen=True)
class SessionStatus:
    """Answer to "how is this session?".

    Attributes:
        failure_message: why, in the platform's words; "" when there is nothing to say.
        raw: the state in the platform's own word.
        cause: why it ended, of a session that has.
        ran_s: seconds that it has run, or had run when it ended, without its wait in a queue; None where the platform
            does not say.
        ended_by_log: the state is not final, but the trainer's result was in the log long ago: its outputs can be
            downloaded. Set by who read the log, never by a platform.
    """

    state: SessionState
    failure_message: str
    raw: str
    cause: EndCause = EndCause.UNKNOWN
    ran_s: float | None = None
    ended_by_log: bool = False


@dataclass(frozen=True)
class SessionRequest:
    """A session to start.

    Attributes:
        source: the whole program, one Python script that needs the standard library to start. The platform sets
            `KM_WORKING_DIR`, the folder that it writes its outputs into, `KM_INPUT_DIR`, the one below which it reads
            its inputs, and `KM_MACHINE_NAME`, which it prints first of all: what `cancel` is told. The working folder
            is empty, and the session's own.
        accelerator: the kind of machine as `section.toml` names it; None runs on the CPU.
        internet: the session may use the network.
        inputs: what `publish_inputs` has published, as "owner/slug", or "owner/slug/3" for a version that is not the
            newest. The session finds the files of each in a folder named after its slug.
        competitions, models: data of others, where a platform has it.
        session_timeout_s: the platform ends the session after this many seconds of running, whatever it does; None
            leaves it its own limit. The program knows of it, and ends before.
        image: of a platform that has images: the one it runs in; "" takes the newest.
    """

    owner: str
    slug: str
    source: str = field(repr=False)
    accelerator: str | None = None
    internet: bool = False
    inputs: tuple[str, ...] = ()
    competitions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    session_timeout_s: int | None = None
    image: str = ""


@dataclass(frozen=True)
class StartedSession:
    """A session that was started as it was asked for, with every input; `url` is where the user finds it, or ""."""

    version: SessionRef
    url: str


@dataclass(frozen=True)
class LogLine:
    """One line a session printed.

    Attributes:
        index: its place in the log, from 0.
        stream: "stdout" or "stderr".
        time_s: seconds since the session started, as the platform counts them; 0 where it does not.
        text: printable (see `errors.one_line`), `LONGEST_LINE` characters at most, without its line end.
    """

    index: int
    stream: str
    time_s: float
    text: str


@dataclass(frozen=True)
class OutputFile:
    """One output of a session: its checked relative name, and where the platform finds it."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class OutputListing:
    """Every output of one session, and its log as the platform has kept it.

    `not_plain` has the names that are no plain path inside a folder: nothing is ever written under them.
    """

    files: tuple[OutputFile, ...]
    log: tuple[LogLine, ...] = field(repr=False)
    not_plain: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExpectedFile:
    """A file that is wanted, and the hash of its bytes; None where it is not known."""

    name: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class Quota:
    """Weekly time of one kind of accelerator, in seconds. Running sessions reserve time they may not use.

    Attributes:
        refresh_time: when the week starts again, aware UTC; None when the platform did not say.
    """

    used_s: float
    reserved_s: float
    total_s: float
    refresh_time: datetime | None

    @property
    def left_s(self) -> float:
        return max(0.0, self.total_s - self.used_s - self.reserved_s)


@dataclass(frozen=True)
class Limits:
    """What a platform bounds.

    Attributes:
        longest_session_s: seconds that one session may last.
        room: how many sessions an account runs at once, by what they run on: "CPU", "GPU" or "TPU". What is not named
            has no bound here: a platform that queues what it has no room for needs none.
        source_bytes: the `source` of a session is smaller than this. This program's own code takes about
            300,000 of them.
        session_installs: a session may install packages into its Python, which is gone with it. Where it may not, one
            that lacks what the section pins says so and ends.
        memory_bytes: of a session; None where it is not known. What will not fit is said before one is started.
        output_bytes, output_files: of what a session leaves in its working folder, the bytes that are kept and the
            number of files that are listed; None for no bound. A session keeps within them.
    """

    longest_session_s: float
    room: Mapping[str, int]
    source_bytes: int
    session_installs: bool = False
    memory_bytes: int | None = None
    output_bytes: int | None = None
    output_files: int | None = None


@dataclass(frozen=True)
class PublishedInputs:
    """One published version of a folder of files. `caution`: what the platform lists differently from it, or ""."""

    owner: str
    slug: str
    version: int
    caution: str = ""

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}/{self.version}"


@dataclass(frozen=True)
class Submission:
    """A version that was ordered, or is about to be: what to look for, also in another process.

    Attributes:
        after: the current version before it; 0 when there was none.
        newest: the highest number that it may have got.
        sizes: bytes of each of its files.
    """

    after: int
    newest: int
    sizes: Mapping[str, int]


class NotReady(Enum):
    """What a submission is that is not the current version."""

    PROCESSED = "the platform is processing it, or may be"
    LOST = "it was never accepted, or does not become current any more"


@dataclass(frozen=True)
class Belonging:
    """What an account has at the platform: the sessions of a name ("session"), or published files ("input").

    Attributes:
        slug: its name; "" for one that the platform lists without.
        changed_at: when it ran or was changed last, seconds since the epoch; None when the platform does not say.
        size: bytes; None when the platform does not say.
    """

    kind: Literal["session", "input"]
    slug: str
    changed_at: float | None = None
    size: int | None = None
