"""What goes in and out of the adapter: typed requests and answers, without the SDK's types.

Values only: nothing here talks to anybody. Signed addresses and sources stay out of every repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from kaggle_manager.system.accelerators import find


@dataclass(frozen=True)
class KernelVersion:
    """One pushed version of a kernel: one session."""

    owner: str
    slug: str
    version: int

    @property
    def ref(self) -> str:
        return f"{self.owner}/{self.slug}/{self.version}"

    @property
    def label(self) -> str:
        """How a request pins this version; a bare number is not found."""
        return f"v{self.version}"

    @property
    def about(self) -> str:
        """What a message calls a question about this version."""
        return f"kernel {self.owner}/{self.slug} {self.label}"

    def pin(self, request: Any) -> Any:
        """`request`, asking about exactly this version."""
        request.user_name, request.kernel_slug, request.version_label = self.owner, self.slug, self.label
        return request


# How many sessions an account runs at once, by what they run on.
ROOM = {"GPU": 2, "CPU": 5, "TPU": 1}


def runs_on(accelerator: str | None) -> str:
    """What a session of this machine shape counts as: a key of `ROOM`."""
    machine = find(accelerator or "")
    return machine.kind if machine else "CPU"


class KernelState(Enum):
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
        return self in (KernelState.COMPLETE, KernelState.ERROR, KernelState.CANCELLED)

    @classmethod
    def parse(cls, raw: str) -> KernelState:
        """From Kaggle's word, in any of the spellings the SDK accepts; an absent word is the default, QUEUED."""
        word = raw.replace("_", "").lower().removeprefix("kernelworkerstatus")
        return _STATES.get(word, cls.UNKNOWN)


_STATES = {
    "": KernelState.QUEUED,
    "queued": KernelState.QUEUED,
    "running": KernelState.RUNNING,
    "complete": KernelState.COMPLETE,
    "error": KernelState.ERROR,
    "cancelrequested": KernelState.CANCEL_REQUESTED,
    "cancelacknowledged": KernelState.CANCELLED,
}


@dataclass(frozen=True)
class KernelStatus:
    """Answer to "how is this session?".

    Attributes:
        state: what it means here.
        failure_message: Kaggle's reason, or "".
        raw: Kaggle's own word, for logs and for states unknown here.
        ended_by_log: the state is not final, but the trainer's result was in the log long ago: its outputs can be
            fetched. Set by who read the log, never by Kaggle.
    """

    state: KernelState
    failure_message: str
    raw: str
    ended_by_log: bool = False


@dataclass(frozen=True)
class KernelPush:
    """A session to start.

    Attributes:
        source: the whole script; Kaggle takes less than 1 MB.
        accelerator: Kaggle's machine shape such as "NvidiaTeslaT4"; None runs on CPU.
        dataset_sources: datasets to mount, as "owner/slug", or "owner/slug/3" for a version that is not the newest.
        competition_sources: competitions whose data is mounted, by name.
        model_sources: models to mount, as "owner/model/framework/variation/version".
        session_timeout_s: Kaggle ends the session after this many seconds; None leaves Kaggle's own limit.
        image: digest of the docker image it runs in; "" takes Kaggle's newest.
    """

    owner: str
    slug: str
    source: str = field(repr=False)
    language: str = "python"
    kernel_type: str = "script"
    accelerator: str | None = None
    internet: bool = False
    private: bool = True
    dataset_sources: tuple[str, ...] = ()
    competition_sources: tuple[str, ...] = ()
    model_sources: tuple[str, ...] = ()
    session_timeout_s: int | None = None
    image: str = ""


@dataclass(frozen=True)
class PushedKernel:
    """A session that was started, at the address that was asked for and with every input."""

    version: KernelVersion
    url: str
    kernel_id: int | None


@dataclass(frozen=True)
class OutputFile:
    """One output of a session: its checked relative name, and a signed address that expires."""

    name: str
    url: str = field(repr=False)


@dataclass(frozen=True)
class OutputListing:
    """Every output of one session, and its log as Kaggle stores it; `log_lines.parse_log` reads that.

    `not_plain` has the names that are no plain path inside a folder: nothing is ever written under them.
    """

    files: tuple[OutputFile, ...]
    log: str = field(repr=False)
    not_plain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quota:
    """Weekly time of one kind of accelerator, in seconds. Running sessions reserve time they may not use.

    Attributes:
        refresh_time: when the week starts again, aware UTC; None when Kaggle did not say.
    """

    used_s: float
    reserved_s: float
    total_s: float
    refresh_time: datetime | None

    @property
    def left_s(self) -> float:
        return max(0.0, self.total_s - self.used_s - self.reserved_s)
