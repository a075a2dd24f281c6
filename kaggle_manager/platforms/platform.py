"""What a platform must do for runs to be trained on it: where sessions get machine time, and keep what they leave.

`Platform` is all that the manager asks for. Implement its methods in a class, and name that class where a platform is
asked for: `--platform my_package.my_module:MyPlatform`. What is `abstract` here has to be written; the rest says what
is so on a platform that does not have the thing, and may be left as it is.

A platform promises: a session that `start` was asked for is started once or not at all, and `newest` finds it again
when the answer was lost; a state that is not known is `UNKNOWN`, and never an end; what a session has saved is there
until `delete` is called. It does not judge what a session left, which the manager does with hashes.

Errors are those of `kaggle_manager.errors`. `RemoteError` (of which `Unavailable` is the usual one) says that asking
again may help; `AuthError` and `ConfigError` that the user has to do something; `NotFound` that it is not there.

Values only, beside the protocol: nothing here talks to anybody. Addresses and sources stay out of every repr.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

from kaggle_manager.errors import ConfigError

LONGEST_LINE = 10_000
"""Characters of a `LogLine` at most."""

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


@dataclass(frozen=True)
class SessionStatus:
    """Answer to "how is this session?".

    Attributes:
        failure_message: why, in the platform's words; "" when there is nothing to say.
        raw: the state in the platform's own word.
        ended_by_log: the state is not final, but the trainer's result was in the log long ago: its outputs can be
            fetched. Set by who read the log, never by a platform.
    """

    state: SessionState
    failure_message: str
    raw: str
    ended_by_log: bool = False


@dataclass(frozen=True)
class SessionRequest:
    """A session to start.

    Attributes:
        source: the whole program, one Python script that needs the standard library to start. It writes into the
            folder that `KAGGLE_WORKING_DIR` names, and reads its inputs below the one of `KAGGLE_INPUT_DIR` (else
            `/kaggle/working` and `/kaggle/input`); first of all it prints the name in `KAGGLE_CONTAINER_NAME`.
        accelerator: the kind of machine as `section.toml` names it; None runs on the CPU.
        internet: the session may use the network.
        dataset_sources: what `publish_inputs` has published, as "owner/slug", or "owner/slug/3" for a version that is
            not the newest. The session finds the files of each in a folder named after its slug.
        competition_sources, model_sources: data of others, where a platform has it.
        session_timeout_s: the platform ends the session after this many seconds; None leaves it its own limit.
        image: of a platform that has images: the one it runs in; "" takes the newest.
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
        source_bytes: the `source` of a session is smaller than this.
    """

    longest_session_s: float
    room: Mapping[str, int]
    source_bytes: int


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
    """What an account has at the platform: the sessions of a name ("kernel"), or published files ("dataset").

    Attributes:
        slug: its name; "" for one that the platform lists without.
        changed_at: when it ran or was changed last, seconds since the epoch; None when the platform does not say.
        size: bytes; None when the platform does not say.
    """

    kind: Literal["kernel", "dataset"]
    slug: str
    changed_at: float | None = None
    size: int | None = None


@runtime_checkable
class Platform(Protocol):
    """What the manager asks of a platform. Methods may be called from several threads."""

    # --- the account --------------------------------------------------------------------------------------------------

    @abstractmethod
    def whoami(self) -> str:
        """The account. It is asked first; what does not answer here is not used.

        Raises:
            AuthError: it is not let in. RemoteError: no usable answer.
        """

    @abstractmethod
    def limits(self) -> Limits:
        """What this platform bounds; asks nobody."""

    def has_this_python(self) -> bool:
        """Whether sessions run this Python with what is installed for it here: then nothing has to be sent to them."""
        return False

    def quota(self, machine: str = "") -> Quota | None:
        """The time that is left for sessions with this accelerator; None where there is no quota.

        Raises:
            AuthError, RemoteError: the platform cannot say now; the manager then takes it to be enough.
        """
        return None

    def live(self, owner: str) -> Counter[str]:
        """How many sessions of `owner` wait or run, by what they run on: "CPU", "GPU", "TPU".

        Raises:
            AuthError, RemoteError.
        """
        return Counter()

    def page(self, owner: str, slug: str) -> str:
        """Where the user finds the sessions of this name: an address, or a folder in words; "" for nowhere."""
        return ""

    # --- sessions -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, push: SessionRequest) -> StartedSession:
        """Start one session. The manager has written down that it will, before; it never repeats a call by itself.

        Raises:
            CapacityReached: no room now. QuotaError, RateLimited, AuthError, Unavailable: nothing was started either.
            ConfigError, BundleTooLarge: nothing was started, and the same request will not be accepted.
            PushMismatch: a session was started, but not as asked.
            AmbiguousPush: whether one was started is not known: the manager asks `newest`, several times, before it
                starts another.
        """

    @abstractmethod
    def status(self, version: SessionRef) -> SessionStatus:
        """State of exactly this session, also long after its end.

        Raises:
            NotFound: no such session, or not visible yet: denied for ten minutes, it is given up.
            AuthError, RemoteError: not known now; it is asked again.
        """

    @abstractmethod
    def newest(self, owner: str, slug: str) -> tuple[SessionRef, str] | None:
        """The session of this name that was started last, and its `source`; None when there is none.

        The only way to find a session whose `start` was not answered: one that may still come to life is found, or the
        call raises. By its source the manager tells whose it is.

        Raises:
            NoVersionShown: the name is there, and no session of it can be shown. AuthError, RemoteError.
        """

    @abstractmethod
    def is_later(self, of_platform: str, than: str) -> bool:
        """Whether the session with this `SessionRef.id` was started after that one of the same name; asks nobody."""

    def others_between(self, before: str, version: SessionRef) -> str:
        """Sessions of this name that were started after the one with id `before` and before this one, in words."""
        return ""

    def mine(self, owner: str) -> list[str]:
        """Names of the sessions that `owner` started last, the newest first: where a start may have been filed else.

        Raises:
            AuthError, RemoteError.
        """
        return []

    def shows_nothing_of(self, owner: str, slug: str) -> bool:
        """Whether no session of this name can exist, after `newest` raised `NoVersionShown`.

        Raises:
            AuthError, RemoteError.
        """
        return False

    @abstractmethod
    def cancel(self, version: SessionRef, told: str) -> bool:
        """Ask for the end of a running session; what it has saved stays.

        Args:
            told: the name of its machine as the session printed it; "" while it has printed none.

        Returns:
            False: this platform ends a session by what it tells, and it has not told that yet.

        Raises:
            NotFound: there is no such session, or it has ended. AuthError, RemoteError.
        """

    @abstractmethod
    def delete(self, owner: str, slug: str) -> None:
        """Delete every session of this name with its outputs; one that runs is ended. This cannot be undone.

        Raises:
            NotFound: there is none. AuthError, RemoteError.
        """

    def image_of(self, version: SessionRef) -> str:
        """The image this session ran in, as `SessionRequest.image` takes it; "" where there are none, or not known.

        Raises:
            NotFound, AuthError, RemoteError.
        """
        return ""

    # --- what a session prints and leaves -----------------------------------------------------------------------------

    @abstractmethod
    def follow_log(self, version: SessionRef, *, stop: Callable[[], bool]) -> Iterator[LogLine]:
        """The lines of a session as it prints them, from the first one on; ends when its log does, or at `stop`.

        Raises:
            NotFound, AuthError, RemoteError: it cannot be read now; it is called again, and what came before left out.
        """

    @abstractmethod
    def outputs(self, version: SessionRef) -> OutputListing:
        """What a session that has ended left in its working folder, and its log.

        Raises:
            NotFound, AuthError, RemoteError.
        """

    def output_named(self, version: SessionRef, name: str) -> OutputFile | None:
        """One output that `outputs` may have left out, asked for by its name; None when there is none."""
        return None

    @abstractmethod
    def download(
        self,
        version: SessionRef,
        names: Sequence[ExpectedFile],
        folder: Path,
        *,
        listing: OutputListing | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Bring these outputs into `folder`, under their own names; those that are there whole are left as they are.

        Args:
            listing: the session's outputs, when they were just listed.
            on_progress: may be called from several threads; what it raises ends the call.

        Raises:
            OutputDamaged: a file is missing, or its bytes are not those that are expected. UnsafePath: a name leaves
                the folder. StorageError: this machine's disk refused. NotFound, AuthError, RemoteError.
        """

    @abstractmethod
    def download_file(self, file: OutputFile, destination: Path, *, size: int | None, sha256: str | None) -> None:
        """Bring one output that was listed to `destination`.

        Raises:
            as `download`.
        """

    # --- what a session is given --------------------------------------------------------------------------------------

    @abstractmethod
    def publish_inputs(
        self,
        *,
        owner: str,
        slug: str,
        files: Sequence[Path],
        notes: str,
        on_progress: Callable[[str, int, int], None] | None = None,
        on_uploaded: Callable[[], None] | None = None,
        on_order: Callable[[Submission], None] = lambda submission: None,
        on_accepted: Callable[[], None] = lambda: None,
        uploads: Path | None = None,
        replaces: bool = False,
    ) -> PublishedInputs | NotReady:
        """Publish these files for sessions to read, privately, as the newest version of `slug`.

        A version is seen whole or not at all, and stays as it is. Where it is there when this returns, none of the
        functions has to be called.

        Args:
            files: they become the flat content, under their own names.
            on_progress: told (file name, bytes sent, bytes in all). on_uploaded: every byte has arrived.
            on_order: called before the platform is asked for the version, with what `find_published` needs.
            on_accepted: called when it has said that it takes it.
            uploads: a private folder of this machine, where a transfer is written down that another process continues.
            replaces: versions before it are deleted.

        Returns:
            the version, or that the platform still processes it.

        Raises:
            ConfigError: these files or this name cannot be published. Unavailable: nothing was accepted.
            AuthError, RemoteError.
        """

    def find_published(
        self, *, owner: str, slug: str, submission: Submission, accepted: bool, age_s: float
    ) -> PublishedInputs | NotReady:
        """What became of a version that was ordered, perhaps by another process; nothing is ordered here.

        Args:
            accepted: the platform has said that it takes it.
            age_s: seconds since it was ordered.

        Raises:
            ConfigError: it cannot become one, or somebody else publishes there. AuthError, RemoteError.
        """
        return NotReady.LOST

    @abstractmethod
    def fetch_inputs(self, owner: str, slug: str, names: Sequence[str], folder: Path) -> None:
        """Bring files of the newest published version into `folder`.

        Raises:
            NotFound: no such version or file. AuthError, RemoteError, StorageError.
        """

    @abstractmethod
    def input_versions(self, owner: str, slug: str) -> tuple[int, frozenset[int]]:
        """The newest published version, 0 for none that is ready, and all that can be asked for.

        Raises:
            NotFound: there is nothing of that name. AuthError, RemoteError.
        """

    def check_competition(self, name: str) -> None:
        """Whether sessions can read the data of this competition.

        Raises:
            ConfigError: they cannot. NotFound, AuthError, RemoteError.
        """
        raise ConfigError("This platform has no competitions.", safe="nothing was started", next_step=_ONLY_DATASETS)

    def newest_model_version(self, owner: str, model: str, framework: str, variation: str) -> int:
        """The newest version of a published model.

        Raises:
            ConfigError: there are none here. NotFound, AuthError, RemoteError.
        """
        raise ConfigError("This platform has no models.", safe="nothing was started", next_step=_ONLY_DATASETS)

    # --- what lies there ----------------------------------------------------------------------------------------------

    def belongings(self, owner: str) -> list[Belonging]:
        """What `owner` has there, for `clean`; a list that ends early is taken as it is.

        Raises:
            AuthError, RemoteError.
        """
        return []

    def delete_inputs(self, owner: str, slug: str) -> None:
        """Delete every published version of this name.

        Raises:
            NotFound: there is none. AuthError, RemoteError.
        """
        raise ConfigError("This platform deletes no inputs.", safe="nothing was deleted", next_step="delete them there")

    def asked_once(self) -> Self:
        """The same platform without patience: what fails for a moment is not asked again."""
        return self

    def close(self) -> None:
        """Nothing more is asked."""


_ONLY_DATASETS = "name only datasets in `inputs`, or train this section on a platform that has them"
