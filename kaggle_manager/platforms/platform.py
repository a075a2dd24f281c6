"""What a platform must do for runs to be trained on it: where sessions get machine time, and keep what they leave.

`Platform` is all that the manager asks for. Implement its methods in a class, and name that class where a platform is
asked for: `--platform my_package.my_module:MyPlatform`. What is `abstract` here has to be written; the rest says what
is so on a platform that does not have the thing, and may be left as it is. The class is called with two arguments:
what the table `[platform."my_package.my_module:MyPlatform"]` of section.toml says, `{}` without one, and the state
folder, in which it may keep files of its own. Each command makes one, and asks it about sessions that others started.

A platform promises: a session that `start` was asked for is started once or not at all, and `newest` finds it again
when the answer was lost; a state that is not known is `UNKNOWN`, and never an end; once an end is told, `outputs` has
all that the session has left, and it stays until `delete` is called. A session that was killed has left what it had
written by then. A platform starts no session anew, and does not judge what one left: the manager does, with hashes.

Errors are those of `kaggle_manager.errors`. `RemoteError` (of which `Unavailable` is the usual one) says that asking
again may help; `AuthError` and `ConfigError` that the user has to do something; `NotFound` that it is not there.
Others, such as an `OSError`, are taken for a defect and end the command. No call waits without end: `Unavailable`.

The values that it is asked with and answers are to be imported from here, too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from kaggle_manager.errors import ConfigError
from kaggle_manager.platforms.values import (
    LONGEST_LINE,
    SOURCE_LIMIT_BYTES,
    Belonging,
    EndCause,
    ExpectedFile,
    Limits,
    LogLine,
    NotReady,
    OutputFile,
    OutputListing,
    Progress,
    PublishedInputs,
    Quota,
    SessionRef,
    SessionRequest,
    SessionState,
    SessionStatus,
    StartedSession,
    Submission,
)

__all__ = [
    "LONGEST_LINE",
    "SOURCE_LIMIT_BYTES",
    "Belonging",
    "EndCause",
    "ExpectedFile",
    "Limits",
    "LogLine",
    "NotReady",
    "OutputFile",
    "OutputListing",
    "Platform",
    "Progress",
    "PublishedInputs",
    "Quota",
    "SessionRef",
    "SessionRequest",
    "SessionState",
    "SessionStatus",
    "StartedSession",
    "Submission",
]


@runtime_checkable
class Platform(Protocol):
    """What the manager asks of a platform. Methods may be called from several threads."""

    def __repr__(self) -> str:
        """Where it is, in words: commands show it. Never a secret."""
        return type(self).__name__

    # --- the account --------------------------------------------------------------------------------------------------

    @abstractmethod
    def whoami(self) -> str:
        """The account: the same text at each call, without spaces and slashes. It is asked first; what does not answer
        here is not used.

        Raises:
            AuthError: it is not let in. RemoteError: no usable answer.
        """

    @abstractmethod
    def limits(self) -> Limits:
        """What this platform bounds now; asks nobody, for it is called before each start and while room is awaited."""

    def has_this_python(self) -> bool:
        """Whether sessions run this Python with what is installed for it here: what lacks is known before a start."""
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
        """Start one session, or queue it. What it is given and has to find there is said at `SessionRequest`.

        The manager has written down that it will call, before; it never repeats a call by itself.

        Raises:
            CapacityReached: no room now. QuotaError, RateLimited, AuthError, Unavailable: nothing was started either.
            ConfigError, BundleTooLarge: nothing was started, and the same request will not be accepted.
            PushMismatch: a session was started, but not as asked.
            AmbiguousPush: whether one was started is not known: the manager asks `newest`, several times, before it
                starts another.
        """

    @abstractmethod
    def status(self, version: SessionRef) -> SessionStatus:
        """State of exactly this session, also long after its end. While one runs it is asked several times a minute.

        Raises:
            NotFound: no such session, or not visible yet: denied for ten minutes, it is given up.
            AuthError, RemoteError: not known now; it is asked again.
        """

    @abstractmethod
    def newest(self, owner: str, slug: str) -> tuple[SessionRef, str] | None:
        """The session of this name that was started last, and its `source`; None when there is none.

        The only way to find a session whose `start` was not answered: one that may still come to life is found, or the
        call raises. By its source, in which line ends may have changed, the manager tells whose it is.

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
        """Ask for the end of a running session, and do not wait for it; what it has saved stays.

        At SIGTERM its program ends in order, within some minutes, with what it had to save; killing it loses that.

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

        Standard output and standard error, in one order. `stop` is asked at least every few seconds, also while
        nothing is printed. Of a session that waits, nothing comes until it runs.

        Raises:
            NotFound, AuthError, RemoteError: it cannot be read now; it is called again, and what came before left out.
        """

    @abstractmethod
    def outputs(self, version: SessionRef) -> OutputListing:
        """What a session that has ended left in its working folder, and its log.

        Every file below that folder, under its name relative to it, with "/" between folders; no folders, no links.

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

        A file appears under its name when it is whole; what was broken off is continued or begun anew by the next call.

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

        A version is seen whole or not at all, and stays as it is; versions are numbered from 1 on. Beside the newest
        the one before it is kept, which a session that was started with it may still read. Where the version is there
        when this returns, none of the functions has to be called.

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
    def download_inputs(self, owner: str, slug: str, names: Sequence[str], folder: Path) -> None:
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
