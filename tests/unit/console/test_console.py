"""Whoever looks sees what is going on, on any console; and nothing that is shown can end the program."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable

import pytest

from kaggle_manager.console.live_line import FRAMES_PER_S, Activity, Glyphs, line_of
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.console.transfer_progress import TransferMeter
from kaggle_manager.protocol.events import EvaluationEvent, ProgressEvent
from kaggle_manager.protocol.sentences import progress
from kaggle_manager.sessions.log_rendering import show_event, show_progress
from kaggle_manager.sessions.progress import SessionProgress
from kaggle_manager.system.formatting import count, duration, size

UNICODE = Glyphs.of(ascii_only=False)


class Turned:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def an_ordinary_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def clock() -> Turned:
    return Turned()


def on_a_terminal(
    show: Callable[[Reporter], None], *, encoding: str = "utf-8", is_enough: Callable[[str], bool] = lambda _: True
) -> str:
    """What `show` writes to a terminal of this encoding, and what is written after it until that is enough."""
    master, slave = pty.openpty()
    written = bytearray()

    def drain() -> None:
        try:
            while chunk := os.read(master, 65536):
                written.extend(chunk)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=drain)
    reader.start()
    with os.fdopen(slave, "w", encoding=encoding) as stream, Reporter(stream) as reporter:
        show(reporter)
        while not is_enough(written.decode(encoding, "replace")):
            time.sleep(0.02)
    reader.join()
    os.close(master)
    return written.decode(encoding, "replace")


def test_one_of_a_thing_is_no_plural() -> None:
    assert (count(1, "episode"), count(2, "episode"), count(0, "step")) == ("1 episode", "2 episodes", "0 steps")
    assert count(2, "entry", "entries") == "2 entries"
    assert count(12000, "step") == "12,000 steps"


def test_sizes_and_times_are_said_in_words() -> None:
    assert [size(n) for n in (0, 999, 1000, 2_500_000, 2 * 10**9)] == ["0 B", "999 B", "1.0 kB", "2.5 MB", "2.0 GB"]
    assert [duration(s) for s in (0.4, 59.4, 185, 7_800, 200_000)] == [
        "0 s",
        "59 s",
        "3 min 05 s",
        "2 h 10 min",
        "2 d 7 h",
    ]


def test_the_live_line_shows_phase_time_share_and_quota() -> None:
    activity = Activity("push x", 10.0, "downloading", 0.5, "21.5 h of quota left")
    line = line_of(activity, 75.0, UNICODE, 100)
    assert line == "⠴ 1 min 05 s · ━━━━━━────── downloading · 21.5 h of quota left"
    assert line_of(Activity("push x", 10.0), 12.0, UNICODE, 100) == "⠹ 2 s · push x"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, "⠋ 10 min 00 s · step 300000/1000000 · target in 1 h 08 min"),
        (100, "⠋ 10 min 00 s · ━━━───────── step 300000/1000000 · target in 1 h 08 min · 170 steps/s · reward -12.3"),
    ],
)
def test_the_time_left_is_shown_before_what_a_narrow_terminal_has_no_room_for(width: int, shown: str) -> None:
    event = ProgressEvent(step=300_000, target=1_000_000, steps_per_s=170.0, reward=-12.3, checkpoint=299_000)
    activity = Activity("train", 0.0, progress(event), 0.3, "21.5 h of quota left")
    line = line_of(activity, 600.0, UNICODE, width)
    assert line == shown
    assert len(line) <= width


def test_the_live_line_moves_with_every_drawing() -> None:
    drawn = [line_of(Activity("x", 0.0), frame / FRAMES_PER_S, UNICODE, 100)[0] for frame in range(10)]
    assert "".join(drawn) == UNICODE.spinner


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_console_without_these_characters_gets_plain_ones(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    glyphs = Glyphs.of(ascii_only=Reporter(stream).console.options.ascii_only)
    line_of(Activity("x", 0.0, "", 0.5), 1.0, glyphs, 100).encode("ascii")


def test_a_log_cannot_drive_the_terminal_through_the_live_line() -> None:
    assert "\x1b" not in line_of(Activity("x", 0.0, "\x1b[2Jgone\nnext"), 1.0, UNICODE, 100)
    assert "\n" not in line_of(Activity("x", 0.0, "gone\nnext"), 1.0, UNICODE, 100)


def test_twelve_hours_of_the_live_line_are_few_drawings() -> None:
    def count_drawings(reporter: Reporter) -> None:
        assert reporter._live is not None
        drawings.append(reporter._live.refresh_per_second * 12 * 3600)

    drawings: list[float] = []
    on_a_terminal(count_drawings)
    assert drawings[0] < 50_000  # at 0.1 ms each


def test_a_terminal_shows_something_alive_from_the_first_moment() -> None:
    def show(reporter: Reporter) -> None:
        reporter.step(2, "push x")
        reporter.status("step 5/10", share=0.5)

    def frames(written: str) -> set[str]:
        return set(re.findall("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", written))

    written = on_a_terminal(show, is_enough=lambda written: "step 5/10" in written and len(frames(written)) >= 2)
    assert "starting" in written
    assert "[STEP2] push x" in written
    assert "step 5/10" in written
    assert written.rstrip().endswith("\x1b[2K")  # the live line is gone at the end


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(reporter: Reporter) -> None:
        reporter.warn("careful")
        reporter.status("working")

    assert "\x1b[33m" in on_a_terminal(show)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.findall("\x1b\\[[0-9;]*3[0-9]m", on_a_terminal(show))


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    written = on_a_terminal(lambda reporter: reporter.status("working"))
    assert written.strip() == "working"


def test_a_console_that_cannot_show_a_text_does_not_end_the_program() -> None:
    raw = io.BytesIO()
    reporter = Reporter(io.TextIOWrapper(raw, encoding="cp1252", write_through=True))
    reporter.kernel("日本語 é …")
    assert raw.getvalue().decode("cp1252").rstrip() == "  | ??? é …"
    assert "日本" not in on_a_terminal(lambda it: it.kernel("日本語"), encoding="cp1252")


def test_a_pipe_gets_a_line_now_and_then_and_fewer_later(clock: Turned) -> None:
    said = io.StringIO()
    with Reporter(said, clock=clock) as reporter:
        reporter.phase("training")
        for second in range(3600):
            clock.now = float(second)
            reporter.status(f"step {second}")
        reporter.status("the last", now=True)
    lines = said.getvalue().splitlines()
    assert lines[:2] == ["  step 0", "  step 5"]
    assert 600 / 5 + 3000 / 60 - 2 <= len(lines) <= 600 / 5 + 3000 / 60 + 3
    assert lines[-1] == "  the last"
    assert "\x1b" not in said.getvalue()


def test_a_new_phase_shows_its_first_word_at_once(clock: Turned) -> None:
    said = io.StringIO()
    reporter = Reporter(said, clock=clock)
    for phase in ("one", "two"):
        reporter.phase(phase)
        reporter.status(f"in {phase}")
        reporter.status("again")
    assert said.getvalue().split("\n")[:2] == ["  in one", "  in two"]


def test_the_forecasts_of_target_and_session(clock: Turned) -> None:
    def said(seen: SessionProgress, left_s: float | None) -> str:
        out = io.StringIO()
        show_progress(seen, Reporter(out, clock=clock), left_s=left_s)
        return out.getvalue().strip()

    seen = SessionProgress(step=1000, target=4000, steps_per_s=0.5, reward=-1.25, last_checkpoint=900)
    start, rest = "step 1000/4000 · target in 1 h 40 min", "0.5 steps/s · reward -1.25 · last checkpoint 900"
    assert said(seen, None) == f"{start} · {rest}"
    assert said(seen, 7000.0) == f"{start} · {rest}", "this session reaches it"
    assert said(seen, 600.0) == f"{start} · session ends in 10 min 00 s · {rest}"
    there = SessionProgress(step=4000, target=4000, steps_per_s=0.5)
    assert said(there, 600.0) == "step 4000/4000 · session ends in 10 min 00 s · 0.5 steps/s"
    assert said(SessionProgress(), 600.0) == ""


def test_an_evaluation_of_one_episode() -> None:
    out = io.StringIO()
    event = EvaluationEvent(step=5, score=1.5, best=True, episodes=1, env_steps=9, seconds=3.21)
    show_event(event, Reporter(out), "")
    assert out.getvalue().strip() == "| evaluated at step 5: mean reward 1.500 (1 episode in 3.21 s), the best so far"


def test_a_transfer_shows_files_bytes_speed_and_time_left(clock: Turned) -> None:
    out = io.StringIO()
    reporter = Reporter(out, clock=clock)
    meter = TransferMeter(reporter, "downloading", 2, 30_000_000, clock=clock)
    meter("a", 10_000_000, 20_000_000)  # a part that was here: no speed
    clock.now = 5.0
    meter("a", 15_000_000, 20_000_000)
    assert out.getvalue().splitlines() == [
        "  downloading 0 of 2 files · 15 s left · 15.0 MB of 30.0 MB · 1.0 MB/s",
    ]
    assert (meter.done, meter.moved) == (15_000_000, 5_000_000)
    clock.now = 10.0
    meter("a", 20_000_000, 20_000_000)
    clock.now = 15.0
    meter("b", 10_000_000, 10_000_000)
    assert "downloading 2 of 2 files · 30.0 MB of 30.0 MB" in out.getvalue()


def test_a_transfer_of_a_moment_leaves_no_line_in_a_pipe_and_one_that_lasts_leaves_some(clock: Turned) -> None:
    out = io.StringIO()
    meter = TransferMeter(Reporter(out, clock=clock), "downloading", 10, 0, clock=clock)
    for file in range(10):
        clock.now = 0.4 * file
        meter(str(file), 5, 5)
    assert out.getvalue() == ""
    meter = TransferMeter(Reporter(out, clock=clock), "downloading", 10, 0, clock=clock)
    for file in range(10):
        clock.now = 4.0 + 2.0 * file
        meter(str(file), 5, 5)
    assert [line.split(" · ")[0] for line in out.getvalue().splitlines()] == [
        "  downloading 4 of 10 files",
        "  downloading 7 of 10 files",
        "  downloading 10 of 10 files",
    ]


def test_the_speed_is_that_of_the_last_seconds(clock: Turned) -> None:
    out = io.StringIO()
    meter = TransferMeter(Reporter(out, clock=clock), "uploading", 1, 10**9, clock=clock)
    meter("a", 0, 10**9)
    for second in range(1, 101):  # 10 MB/s, then a tenth of it
        clock.now = float(second)
        meter("a", 10**7 * min(second, 50) + 10**6 * max(0, second - 50), 10**9)
    assert "550.0 MB of 1.0 GB · 1.0 MB/s" in out.getvalue().splitlines()[-1]


def test_of_several_runs_each_line_says_which_it_is_about() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    with reporter.about("seed 3"):
        reporter.step(1, "launching")
    reporter.warn("of all of them")
    assert stream.getvalue().splitlines() == ["seed 3: [STEP1] launching", "[WARNING] of all of them"]


def test_a_reporter_that_nobody_entered_draws_nothing() -> None:
    reporter = Reporter(sys.stdout)
    before = threading.active_count()
    reporter.phase("x")
    reporter.status("y")
    assert threading.active_count() == before
