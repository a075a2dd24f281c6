"""Every error this project raises on purpose, as one tree.

KaggleManagerError                    1   something went wrong; see the subclass
├── RunError                          1   the training failed
│   ├── KernelFailed                      the kernel crashed; carries the last line of its traceback
│   ├── Diverged                          parameters, losses or scores ran away; the run is not resumed
│   └── ScriptFailed                      a script ended with an error of its own
│       └── ContractBroken                a script that does not keep to docs/scripts.md
│           ├── EndedEarly                it ended before its target, and nobody had asked it to
│           ├── NothingSaved              it trained and committed no checkpoint
│           ├── SavedBackwards            it saved an earlier step than it had saved before
│           ├── CheckpointChanged         it wrote into a checkpoint that it had committed
│           └── StopIgnored               it was asked to stop, and had to be killed
├── ConfigError                       2   an option, a file or an environment variable is invalid
│   ├── BundleTooLarge                    the kernel source would be over the platform's limit
│   ├── NoSuchPackage                     a pin that no package index has
│   ├── NotebookNotFound                  a start that is refused because no session of that name is found
│   └── PushMismatch                      a session was started, but not as asked; carries which
├── VerificationError                 3   a checksum, a lineage or a state does not match
│   ├── OutputDamaged                     a downloaded file is truncated, altered or missing
│   ├── LineageMismatch                   outputs of another run, another session or an older step
│   ├── InputMissing                      input data of a training is not where its code would read it
│   ├── UnsafePath                        a name that would leave its folder
│   ├── UnsafePickle                      a file from outside whose pickle could run code
│   ├── UntrustedTree                     a training tree that would run code, and that is not trusted here
│   ├── CheckpointCorrupt                 a checkpoint whose files do not match its manifest
│   ├── WrongAccelerator                  a session that got another device than it asked for
│   └── SimulationDiverged                a simulator that did not repeat an episode
├── AuthError                         4   no usable credentials, or the platform refused them
├── QuotaError                        5   the weekly accelerator quota does not allow this session now
├── RemoteError                       6   the platform did not answer as it should; try again later
│   ├── Unavailable                       connection refused or reset, time-out, 5xx
│   │   └── NoVersionShown                a name is there, and the platform can show no session of it
│   ├── RateLimited                       429; carries the wait the server asked for
│   ├── CapacityReached                   too many sessions run at once; waiting costs nothing
│   ├── AmbiguousPush                     a push whose answer never came: look before pushing again
│   └── ProtocolError                     an answer that cannot be understood
├── CheckpointIncompatible            7   the checkpoint belongs to another experiment
├── NotFinished                       8   the target is not reached yet; the next call resumes the run
├── NotFound                          9   a run, kernel, dataset or checkpoint that does not exist
│   └── CheckpointNotFound
├── Busy                             10   another command is at work on the same run; it passes by itself
├── StorageError                      1   disk error on this machine (full, read-only, no permission)
└── Interrupted                     130   the user pressed Ctrl-C

A message answers three questions: what happened, what is safe, and which command comes next. Each class knows whether
time alone can help (`retryable`). Code that can say more about an error on its way does so with `error_context`.
A message may quote what a session or a server said, so every message is `printable`.
Standard library only: this module travels into the session.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

UPDATE = "update kaggle-manager, then run the same command again"
"""What comes next where a later version has written a file: it is read by every version from that one on."""

LONGEST_TEXT = 20_000
"""In characters; a longer text from outside is cut."""
# What a terminal takes for colours, cursor movements, titles and links: CSI and OSC sequences, whole.
_SEQUENCES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*+(?:\x07|\x1b\\|\x9c)")


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """`text` from outside as everything may show it: lines of visible characters, at most `longest` of them.

    Without terminal sequences, control characters, direction marks, characters of no width and halves of characters;
    blanks of other widths are blanks, tabs and line ends stay. A longer text ends by saying how much is missing. The
    cost is linear, and cleaning twice changes nothing.
    """
    if len(text) > longest:
        end = f"… ({len(text):,} characters)"
        text = text[: max(0, longest - len(end))] + end
    if text.isprintable():
        return text
    return "".join(map(_shown, _SEQUENCES.sub("", text)))


def one_line(text: str, longest: int = LONGEST_TEXT) -> str:
    """As `printable`, with a blank for every line end and tab."""
    return printable(text, longest).replace("\n", " ").replace("\t", " ")


def _shown(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return " " if character.isspace() and character > "\x7f" else ""


class KaggleManagerError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: what happened, in one or two sentences.
        safe: what was not touched or is still there.
        next_step: the command or action that comes next.
    """

    exit_code: ClassVar[int] = 1
    # Whether the same command, run again later, may succeed although nobody has changed anything.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, safe: str = "", next_step: str = "") -> None:
        # The next step is a command of ours, in which a path must stay what it is.
        self.message, self.safe, self.next_step = printable(message), printable(safe), next_step
        super().__init__(self.message)

    def __str__(self) -> str:
        parts = [self.message]
        if self.safe:
            parts.append(f"Safe: {self.safe}")
        if self.next_step:
            parts.append(f"Next: {self.next_step}")
        return "\n".join(parts)


class RunError(KaggleManagerError):
    """The training failed."""


class KernelFailed(RunError):
    """The kernel crashed or ended without reaching an orderly end."""


class Diverged(RunError):
    """A training ran away: parameters or losses that are not finite, or a score below what the section allows.

    It is not resumed: from the same state it would run away again. A lower learning rate starts from zero.
    """


class ScriptFailed(RunError):
    """A script ended with an error of its own."""


class ContractBroken(ScriptFailed):
    """A script that does not keep to the contract of docs/scripts.md; the same script would do so again."""


class EndedEarly(ContractBroken):
    """It ended before its target, and nobody had asked it to."""


class NothingSaved(ContractBroken):
    """It trained and committed no checkpoint."""


class SavedBackwards(ContractBroken):
    """It saved an earlier step than it had saved before."""


class CheckpointChanged(ContractBroken):
    """It wrote into a checkpoint that it had committed."""


class StopIgnored(ContractBroken):
    """It was asked to stop, and had to be killed."""


class ConfigError(KaggleManagerError):
    """An option, a file or an environment variable is invalid."""

    exit_code = 2


class NoSuchPackage(ConfigError):
    """No package index has a version that a section pins, so no session can install it."""


class BundleTooLarge(ConfigError):
    """The kernel source would be over the platform's size limit."""


class NotebookNotFound(ConfigError):
    """The platform refuses a start because it finds no session of that name, though the name may be taken."""


class PushMismatch(ConfigError):
    """The platform started a session but not as asked: it dropped an input, or filed it under another address.

    Args:
        message: what came back instead of what was asked.
        started: the session that now exists, as "owner/slug/version".
    """

    def __init__(self, message: str, *, started: str, safe: str = "", next_step: str = "") -> None:
        super().__init__(message, safe=safe, next_step=next_step)
        self.started = started


class VerificationError(KaggleManagerError):
    """Verification failed: a checksum, a lineage or a state does not match."""

    exit_code = 3


class OutputDamaged(VerificationError):
    """A downloaded file is truncated, altered or missing."""


class LineageMismatch(VerificationError):
    """Outputs of another run, of another session, or of an older step."""


class InputMissing(VerificationError):
    """Input data of a training is not where its code would read it."""


class UnsafePath(VerificationError):
    """A name from outside that would leave its folder."""


class UnsafePickle(VerificationError):
    """A file from outside whose pickle asks for more than the data it should hold; it could run code."""


class UntrustedTree(VerificationError):
    """A training tree that would run code when it is continued, and that is not trusted here."""


class CheckpointCorrupt(VerificationError):
    """A checkpoint whose files do not match its manifest."""


class WrongAccelerator(VerificationError):
    """A session got another device than the one it asked for, or none."""


class SimulationDiverged(VerificationError):
    """A simulator, given the same seed and actions, gave other observations."""


class AuthError(KaggleManagerError):
    """No usable credentials were found, or the platform refused them."""

    exit_code = 4


class QuotaError(KaggleManagerError):
    """The weekly accelerator quota does not allow this session now."""

    exit_code = 5
    retryable = True


class RemoteError(KaggleManagerError):
    """The platform did not answer as it should; try again later.

    Args:
        message: what happened.
        retry_after_s: seconds the server asked to wait; None when it did not say.
    """

    exit_code = 6
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        safe: str = "",
        next_step: str = "run the same command again in a few minutes; it continues where it stopped",
    ) -> None:
        super().__init__(message, safe=safe, next_step=next_step)
        self.retry_after_s = retry_after_s


class Unavailable(RemoteError):
    """Connection refused or reset, time-out, or a 5xx answer."""


class NoVersionShown(Unavailable):
    """The platform knows that name and can show no session of it: it has none, or the platform is in trouble."""


class RateLimited(RemoteError):
    """The platform asked to slow down (429)."""


class CapacityReached(RemoteError):
    """Too many sessions of the account run at once; waiting costs nothing."""


class AmbiguousPush(RemoteError):
    """A push whose answer never came: it may have started a session."""


class ProtocolError(RemoteError):
    """An answer that cannot be understood."""


class CheckpointIncompatible(KaggleManagerError):
    """The checkpoint belongs to another experiment.

    Args:
        message: what differs.
        input_files: digest of the files of each input that are others than the checkpoint's, by its name.
        can_be_accepted: whether all of it is a change that a user may make on purpose.
    """

    exit_code = 7

    def __init__(
        self,
        message: str,
        *,
        input_files: Mapping[str, str] | None = None,
        can_be_accepted: bool = False,
        safe: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(message, safe=safe, next_step=next_step)
        self.input_files, self.can_be_accepted = dict(input_files or {}), can_be_accepted


class NotFinished(KaggleManagerError):
    """The target is not reached yet; the next call resumes the run."""

    exit_code = 8
    retryable = True


class NotFound(KaggleManagerError):
    """A run, kernel, dataset or checkpoint that does not exist."""

    exit_code = 9


class CheckpointNotFound(NotFound):
    """There is no checkpoint where one is needed."""


class Busy(KaggleManagerError):
    """Another command holds the training tree; the message says which, since when and by which file."""

    exit_code = 10
    retryable = True


class StorageError(KaggleManagerError):
    """Disk error on this machine: full, read-only, or no permission."""


class Interrupted(KaggleManagerError):
    """The user pressed Ctrl-C. SIGTERM ends a command in the same way, with 143."""

    exit_code = 130


Edit = str | Callable[[str], str]
"""A new text, or what makes it of the old one."""


@contextmanager
def error_context(
    kind: type[KaggleManagerError] = KaggleManagerError,
    *,
    message: Edit | None = None,
    safe: Edit | None = None,
    next_step: Edit | None = None,
) -> Iterator[None]:
    """Say more about an error raised inside: what happened, what is safe, what comes next.

    Args:
        kind: the errors it is about.
    """
    try:
        yield
    except kind as error:
        for name, edit in (("message", message), ("safe", safe), ("next_step", next_step)):
            if edit is not None:
                setattr(error, name, edit if isinstance(edit, str) else edit(getattr(error, name)))
        raise


def retryable_exit_codes() -> tuple[int, ...]:
    """Exit codes after which a scheduled command simply runs again."""
    return tuple(sorted({kind.exit_code for kind in _tree(KaggleManagerError) if kind.retryable}))


def _tree(kind: type[KaggleManagerError]) -> Iterator[type[KaggleManagerError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _tree(subclass)
