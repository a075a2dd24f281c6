"""Watch one session: its log live, its status at a pace that follows the phase, until it ends or for one look.

Promises: a failed poll is never a verdict and UNKNOWN never an end; an end that the log does not show is asked for
twice before it is acted on; the end of the log asks for the status at once, so
waiting costs few requests; a session that runs and prints nothing is reported as wedged, once, and left alone. Stopping
to watch never stops the session.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import AuthError, KaggleManagerError, NotFound, RemoteError
from kaggle_manager.platforms.platform import LogLine, Platform, SessionRef, SessionState, SessionStatus
from kaggle_manager.protocol.events import ProgressEvent, parse_event
from kaggle_manager.sessions.log_reader import LogQueue, LogReader
from kaggle_manager.sessions.log_rendering import show_event, show_progress
from kaggle_manager.sessions.progress import SessionProgress
from kaggle_manager.system.formatting import duration

# A session Kaggle has denied for this long does not exist (any more).
UNKNOWN_FOR_S = 600.0
# How long a session whose result is in the log may still be called running; then it counts as ended.
RESULT_GRACE_S = 600.0
# From when on a wait in the queue is worth a word, and how often again.
QUEUED_LONG_S, QUEUED_REMIND_S = 15 * 60.0, 3600.0
# How often trouble that lasts is told again, and how often `on_seen` is called.
REMIND_EVERY_S, SEEN_EVERY_S = 60.0, 10.0
# The loop comes round at least so often: on Windows, Ctrl-C has to wait for it.
_LONGEST_WAIT_S = 1.0
# A machine that was away this long slept: what was silent meanwhile was this program.
_SLEPT_S = 120.0
# One look at a live log: how long to wait for its first line and after each, and for how long in all.
_FIRST_LINE_S, _NEXT_LINE_S, _LONGEST_LOOK_S = 5.0, 0.7, 30.0
# A log that never stops must not keep the status waiting.
_MOST_LINES_AT_ONCE = 1_000
# What is left of the log of a session that has ended; a stream that hangs is not waited for longer.
_REST_OF_LOG_S = 5.0

Wait = Callable[[LogQueue, float], LogLine | None]


def _wait(lines: LogQueue, seconds: float) -> LogLine | None:
    """The next line, waited for so long.

    Raises:
        queue.Empty: none came.
    """
    return lines.get(timeout=seconds) if seconds > 0 else lines.get_nowait()


def watch(
    client: Platform,
    version: SessionRef,
    reporter: Reporter,
    *,
    tag: str,
    bundle_sha256: str,
    until: float | None = None,
    earlier: SessionProgress | None = None,
    on_seen: Callable[[SessionProgress], None] | None = None,
    session_s: float | None = None,
    lane: str = "",
    log_copy: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    random_share: Callable[[], float] = random.random,
    wait: Wait = _wait,
    read_log: Callable[[Platform, SessionRef, Path | None, str], LogReader] = LogReader,
) -> SessionStatus:
    """Return the final status of exactly this version, or after `until` the newest one.

    A status that is not final is returned in two cases: `until` has passed, or the session's result was in the log
    ten minutes ago and the platform still has not noticed (`ended_by_log`).

    Args:
        tag: what this session's events are known by (`protocol.events.session_tag`).
        bundle_sha256: the code that was built; a session that says it runs other code is reported at once.
        until: a moment on `clock`; 0 is one look: the status, and what the log has by now.
        earlier: what an earlier call saw; its lines are not shown again, its waits count on.
        on_seen: told what was seen: when the first line came, then at most every ten seconds, and at the end.
        session_s: seconds this session may run in all, for the forecast that is shown.
        lane: in which lane of it the run is (`protocol.lanes`), whose lines alone are shown.
        log_copy: a file that holds what has come of the log so far.
        clock, wall, random_share, wait, read_log: injectable; `wall` gives Unix seconds.

    Raises:
        AuthError: the credentials stopped working.
        NotFound: the platform has denied this session for ten minutes: its kernel was deleted, or is somebody else's.
        RemoteError: `until` has passed and no status could be read.
        KeyboardInterrupt: passed on; the session is left alone.
    """
    reader = read_log(client, version, log_copy, lane)
    watching = _Watch(
        client,
        version,
        reporter,
        tag,
        bundle_sha256,
        reader,
        earlier or SessionProgress(),
        session_s,
        clock,
        wall,
        wait,
    )
    reader.start()
    if until is None:
        watching.show_progress()
    polls = PollInterval(clock(), random_share)
    hurried = False
    tell = on_seen or (lambda seen: None)
    told_at, was_silent = clock(), watching.seen.last_line_at is None
    try:
        while True:
            moment = clock()
            rest_s = float("inf") if until is None else until - moment
            watching.take_lines(max(0.0, min(_LONGEST_WAIT_S, polls.due - moment, rest_s)))
            if watching.is_ending and not hurried:
                hurried = True
                polls.hurry(clock())
            is_over = until is not None and clock() >= until
            if clock() >= polls.due or is_over:
                status = watching.ask(or_raise=is_over)
                if status is not None and status.state.is_terminal:
                    watching.take_rest()
                    return status
                if status is not None and watching.has_outlived_its_result():
                    return replace(status, ended_by_log=True)
                if is_over and watching.status is not None:
                    watching.look_at_log()
                    return watching.status
                state = None if status is None else status.state
                slowest = slowest_s(state, log_is_live=watching.log_is_live, is_ending=watching.is_ending)
                polls.asked(clock(), slowest)
            watching.remark()
            is_silent = watching.seen.last_line_at is None
            if clock() - told_at >= SEEN_EVERY_S or is_silent != was_silent:
                told_at, was_silent = clock(), is_silent
                tell(watching.seen)
    finally:
        reader.stop()
        tell(watching.seen)


class _Watch:
    """One watch: what was seen so far, and what was said about it."""

    def __init__(
        self,
        client: Platform,
        version: SessionRef,
        reporter: Reporter,
        tag: str,
        bundle_sha256: str,
        reader: LogReader,
        earlier: SessionProgress,
        session_s: float | None,
        clock: Callable[[], float],
        wall: Callable[[], float],
        wait: Wait,
    ) -> None:
        self._client, self._version, self._reporter = client, version, reporter
        self._tag, self._bundle_sha256 = tag, bundle_sha256
        self._reader, self._earlier, self._session_s = reader, earlier, session_s
        self._clock, self._wall, self._wait = clock, wall, wait
        self.seen = earlier
        self.status: SessionStatus | None = None
        self._log_ended = False
        self._lines_now = 0
        self._gap = False  # the newest line was empty, and is shown if no event follows it
        self._begun = self._last_round = clock()
        self._said_status = (earlier.state, "")
        self._said_trouble, self._said_trouble_at = "", clock()
        self._said_queued_s = 0.0
        # Silence is measured here, where a machine that sleeps does not count.
        silent_before_s = max(0.0, wall() - earlier.last_line_at) if earlier.last_line_at else 0.0
        self._silent_since = clock() - silent_before_s

    @property
    def is_ending(self) -> bool:
        return self._log_ended or self.seen.result_at is not None

    @property
    def log_is_live(self) -> bool:
        return self._lines_now > 0 and not self._log_ended and not self._reader.in_trouble

    def take_lines(self, wait_s: float) -> bool:
        """Show the lines there are, waiting so long for the first; False when none came."""
        came = False
        try:
            for _ in range(_MOST_LINES_AT_ONCE):
                line = self._wait(self._reader.lines, 0.0 if came else wait_s)
                if line is None:
                    self._log_ended = True
                    break
                came = True
                self._take(line)
        except queue.Empty:
            pass
        return came

    def take_rest(self) -> None:
        """Show what is left of the log of a session that has ended."""
        deadline = self._clock() + _REST_OF_LOG_S
        while not self._log_ended and (left_s := deadline - self._clock()) > 0:
            self.take_lines(left_s)

    def look_at_log(self) -> None:
        """Show what the log of a running session has by now."""
        if self.seen.state != SessionState.RUNNING.name:
            return
        deadline, wait_s = self._clock() + _LONGEST_LOOK_S, _FIRST_LINE_S
        while not self._log_ended and self._clock() < deadline and self.take_lines(wait_s):
            wait_s = _NEXT_LINE_S
        if self._lines_now:  # a log that cannot be read is not silent
            self.remark()
        self.show_progress(now=True)

    def show_progress(self, *, now: bool = False) -> None:
        """Show how far the training is, as far as anything was seen of it."""
        left_s = None
        if self._session_s is not None and self.seen.running_since is not None:
            left_s = self._session_s - (self._wall() - self.seen.running_since)
        show_progress(self.seen, self._reporter, left_s=left_s, now=now)

    def ask(self, *, or_raise: bool) -> SessionStatus | None:
        """Ask for the status; None when there was no answer.

        Args:
            or_raise: raise what is otherwise tried again.
        """
        try:
            status = self._client.status(self._version)
            if status.state.is_terminal and not self.is_ending:  # nothing but this answer says so: it is asked twice
                status = self._client.status(self._version)
        except AuthError:
            raise
        except NotFound as error:
            # Kaggle may not know a session yet in the minutes after its push.
            self.seen = self.seen.after_denial(self._wall())
            if self.seen.denied_s > UNKNOWN_FOR_S:
                raise
            self._warn_of(error)
            self.status = self.status or SessionStatus(SessionState.UNKNOWN, error.message, "not found")
            return None
        except RemoteError as error:
            self.seen = self.seen.not_denied()
            if or_raise and self.status is None:
                raise
            self._warn_of(error)
            return None
        self.status, self._said_trouble = status, ""
        self.seen = self.seen.after_status(status, self._wall())
        if (status.state.name, status.failure_message) != self._said_status and not status.state.is_terminal:
            self._said_status = (status.state.name, status.failure_message)
            why = f": {status.failure_message}" if status.failure_message else ""
            self._reporter.line(
                f"  session {self._version.ref} is {status.state.name} (after "
                f"{duration(self._clock() - self._begun)}){why}"
            )
            self._reporter.phase(_PHASES.get(status.state, f"the session is {status.state.value}"))
        return status

    def has_outlived_its_result(self) -> bool:
        """Whether the trainer left long ago, and the platform has not noticed."""
        said_at = self.seen.result_at
        if said_at is None or abs(self._wall() - said_at) < RESULT_GRACE_S:  # abs: the clock may be set back
            return False
        self._reporter.warn(
            f"session {self._version.ref} printed its result {duration(self._wall() - said_at)} ago and the platform "
            f"still calls it {self.seen.state}: downloading its output anyway"
        )
        return True

    def remark(self) -> None:
        """Say what lasts too long: a wait in the queue, or silence."""
        moment = self._clock()
        if moment - self._last_round > _SLEPT_S:
            self._silent_since += moment - self._last_round
        self._last_round = moment
        if self.seen.state == SessionState.QUEUED.name and self.seen.queued_since is not None:
            self._remark_queue(self._wall() - self.seen.queued_since)
        is_silent = self.seen.state == SessionState.RUNNING.name and not self.is_ending and not self._reader.in_trouble
        silent_s = moment - self._silent_since
        if is_silent and not self.seen.wedged and silent_s > self.seen.silence_bound_s:
            self.seen = replace(self.seen, wedged=True)
            page = self._client.page(self._version.owner, self._version.slug)
            self._reporter.warn(
                f"session {self._version.ref} is RUNNING and has printed nothing for {duration(silent_s)}: it may be "
                "wedged. Nothing is done about it here: the platform ends it at its time limit at the latest, and "
                "what it saved is downloaded then. To end it now and continue from what it saved: `stop`, then `run`"
                f"{f'; its page is {page}' if page else ''}"
            )

    def _remark_queue(self, queued_s: float) -> None:
        if queued_s - self._said_queued_s > (QUEUED_REMIND_S if self._said_queued_s else QUEUED_LONG_S):
            self._said_queued_s = queued_s
            why = self.status.failure_message if self.status else ""
            self._reporter.line(
                f"  session {self._version.ref} has been QUEUED for {duration(queued_s)}: "
                f"{why or 'no machine of its kind is free; waiting costs no quota'}",
                "yellow",
            )

    def _take(self, line: LogLine) -> None:
        self._lines_now += 1
        if not self._earlier.has(line):
            if self.seen.wedged:
                self._reporter.line(f"  session {self._version.ref} prints again")
            self.seen = self.seen.after_line(line, self._wall())
            self._silent_since = self._clock()
            self._understand(line.text)

    def _understand(self, text: str) -> None:
        event = parse_event(text, self._tag)
        if event is None:
            if self._gap:
                self._reporter.kernel("")
            self._gap = not text.strip()
            if not self._gap:
                self._reporter.kernel(text)
            return
        self._gap = False
        self.seen = self.seen.after_event(event, self._wall(), bundle_sha256=self._bundle_sha256)
        if isinstance(event, ProgressEvent):
            self.show_progress()
        else:
            show_event(event, self._reporter, self._bundle_sha256)

    def _warn_of(self, error: KaggleManagerError) -> None:
        moment = self._clock()
        if error.message != self._said_trouble or moment - self._said_trouble_at > REMIND_EVERY_S:
            self._reporter.warn(
                f"the status could not be read and is asked again: {error.message} The session is not touched "
                f"by this; watched for {duration(moment - self._begun)} so far, Ctrl-C is safe"
            )
            self._said_trouble, self._said_trouble_at = error.message, moment


_PHASES = {
    SessionState.QUEUED: "waiting in the queue",
    SessionState.RUNNING: "the session runs",
    SessionState.CANCEL_REQUESTED: "the session is being cancelled",
}


FIRST_POLL_S = 1.0
GROWTH = 1.5
# The longest pause: while the end is near, while nothing but the status tells it, while a live log would tell it.
SLOWEST_AT_END_S, SLOWEST_POLL_S, SLOWEST_WITH_LOG_S = 20.0, 60.0, 240.0


def slowest_s(state: SessionState | None, *, log_is_live: bool, is_ending: bool) -> float:
    """The longest pause between two polls in this phase."""
    if is_ending or state is SessionState.CANCEL_REQUESTED:
        return SLOWEST_AT_END_S
    return SLOWEST_WITH_LOG_S if state is SessionState.RUNNING and log_is_live else SLOWEST_POLL_S


class PollInterval:
    """When the next poll is due. `share` gives a number in [0, 1)."""

    def __init__(self, now: float, share: Callable[[], float]) -> None:
        self.due = now
        self._share = share
        self._pause_s = FIRST_POLL_S

    def hurry(self, now: float) -> None:
        """Something happened: ask at once, and briskly from here on."""
        self.due, self._pause_s = now, FIRST_POLL_S

    def asked(self, now: float, slowest: float) -> None:
        """A poll was made."""
        self._pause_s = min(slowest, self._pause_s * GROWTH)
        self.due = now + max(FIRST_POLL_S, self._share() * self._pause_s)
