"""Whatever needs the user is told once until it changes, also when the journal cannot remember it."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import campaign_stage
import pytest
from campaign_stage import SECTION

from kaggle_manager.cli.run import Asked
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import AuthError, ConfigError, KaggleManagerError, RateLimited, StorageError, Unavailable
from kaggle_manager.notify.notifier import Delivery, Notifier, Occasion
from kaggle_manager.orchestrator import command as boundary
from kaggle_manager.orchestrator import notifications, told
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.runs import journal as journal_module
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.system.formatting import iso

HOUR = 3600.0


class Messages(Notifier):
    """Remembers what was sent, and to nobody while nobody can be reached."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "sent", [])
        object.__setattr__(self, "reachable", [True])

    def send(self, occasion: Occasion, title: str, body: str, data: Any = None) -> tuple[Delivery, ...]:
        if self.reachable[0]:  # type: ignore[attr-defined]
            self.sent.append(f"{title}: {body}")  # type: ignore[attr-defined]
        return (Delivery("a test", self.reachable[0]),)  # type: ignore[attr-defined]


class World:
    """A project with an unfinished run, and commands on it that end as they are told."""

    def __init__(self, folder: Path) -> None:
        self.config: RunConfig = build_config(SECTION, project_root=campaign_stage.make_project(folder), environ={})
        self.notifier, self.now = Messages(), 1.8e9
        self.config.state.mkdir()
        row = RunRow(
            "a" * 32, SECTION, "little_task", 4, False, str(self.config.tree), "local", "me", "slug", iso(1.8e9)
        )
        with closing(Journal(self.config.journal)) as journal:
            journal.add_run(row)

    @property
    def sent(self) -> list[str]:
        return self.notifier.sent  # type: ignore[attr-defined,no-any-return]

    def ends_with(self, error: Exception | None, times: int = 1, every_s: float = 1200.0) -> None:
        for _ in range(times):
            self.now += every_s
            passing = suppress(KaggleManagerError, ZeroDivisionError)
            with passing, boundary.command(self.config, self.notifier, lambda: self.now):
                if error is not None:
                    raise error

    def goes_on(self) -> None:
        """A session is closed."""
        with closing(Journal(self.config.journal)) as journal:
            RunState(journal, journal.runs()[0]).note("closed", 1, iso(self.now))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(told, "user_state_path", lambda *_, **__: tmp_path / "home")
    return World(tmp_path / "project")


def test_what_needs_the_user_is_told_once_until_the_run_goes_on(world: World) -> None:
    world.ends_with(AuthError("The token ended 3 minutes ago."))
    for minute in range(4, 9):
        world.ends_with(AuthError(f"The token ended {minute} minutes ago."))
        world.ends_with(Unavailable("a moment"))
    assert len(world.sent) == 1
    world.ends_with(ZeroDivisionError("a defect"), times=3)
    world.ends_with(AuthError("The token ended 9 minutes ago."), times=3)
    assert len(world.sent) == 2
    assert "ZeroDivisionError" in world.sent[1]
    world.goes_on()
    world.ends_with(AuthError("The token ended 3 minutes ago."), times=3)
    assert len(world.sent) == 3


def test_a_message_that_nobody_got_is_sent_again(world: World) -> None:
    world.notifier.reachable[0] = False  # type: ignore[attr-defined]
    world.ends_with(AuthError("The token ended."), times=2)
    world.notifier.reachable[0] = True  # type: ignore[attr-defined]
    world.ends_with(AuthError("The token ended."), times=3)
    assert len(world.sent) == 1


def test_passing_trouble_is_not_told_and_lasting_trouble_is_told_once_a_day_after_the_last_success(
    world: World,
) -> None:
    for _ in range(6):  # a blip at times, and a success between two of them
        world.ends_with(Unavailable("no answer"), every_s=5 * HOUR)
        world.goes_on()
    world.ends_with(Unavailable("no answer"), times=5, every_s=5 * HOUR)
    assert world.sent == []
    world.ends_with(RateLimited("slow down"), times=4, every_s=5 * HOUR)
    assert len(world.sent) == 1
    assert "has not answered for a day" in world.sent[0]
    world.goes_on()
    world.ends_with(Unavailable("no answer"), times=7, every_s=5 * HOUR)
    assert len(world.sent) == 2


def test_a_journal_that_cannot_be_opened_is_told_once(world: World) -> None:
    whole = world.config.journal.read_bytes()
    for turn in (1, 2):
        world.config.journal.write_bytes(b"no journal" * 1000)
        for _ in range(4):
            with pytest.raises(StorageError) as caught:
                Journal(world.config.journal)
            world.ends_with(caught.value)
        assert len(world.sent) == turn
        world.config.journal.write_bytes(whole)
        world.ends_with(None)


def test_a_disk_that_is_full_for_the_journal_too_is_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = journal_module.open_to_write

    def on_a_full_disk(path: Path) -> sqlite3.Connection:
        database = opened(path)
        database.execute(f"PRAGMA max_page_count={database.execute('PRAGMA page_count').fetchone()[0]}")
        return database

    with monkeypatch.context() as full:
        full.setattr(journal_module, "open_to_write", on_a_full_disk)
        for _ in range(3):
            error = StorageError("No space left on device. " + "x" * 5000)
            world.ends_with(error)
            assert "could not be saved in the journal" in error.message
            assert "full" in error.message
    assert len(world.sent) == 1
    world.ends_with(StorageError("No space left on device. " + "x" * 5000), times=2)
    assert len(world.sent) == 1, "the journal has taken over what the file remembers"
    world.goes_on()
    world.ends_with(StorageError("No space left on device. " + "x" * 5000))
    assert len(world.sent) == 2


def test_an_error_that_cannot_be_noted_is_told_and_raised_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError("no entry")

    monkeypatch.setattr(boundary, "current_run", denied)
    for _ in range(3):
        error = AuthError("The token ended.")
        with (
            pytest.raises(AuthError, match="could not be saved in the journal: no entry"),
            boundary.command(world.config, world.notifier, lambda: 0.0),
        ):
            raise error
    assert len(world.sent) == 1


def test_a_state_folder_that_is_read_only_is_told_once(world: World) -> None:
    world.config.journal.unlink()
    world.config.state.rmdir()
    world.config.state.write_text("a file in its place")
    world.ends_with(None, times=3)
    assert len(world.sent) == 1


@pytest.mark.parametrize(
    ("slips_h", "least", "most"),
    [([1] * 5, 0, 0), ([1] * 145, 5, 25), ([3, -3] * 10, 0, 0), ([7], 1, 1), ([-19, 19], 0, 0), ([145], 1, 1)],
    ids=["little", "slowly", "to and fro", "at once", "back from an early one", "by days"],
)
def test_a_forecast_slips_against_the_one_that_the_user_knows(
    slips_h: list[int], least: int, most: int, world: World
) -> None:
    with closing(Journal(world.config.journal)) as journal:
        run = SimpleNamespace(state=RunState(journal, journal.runs()[0]), config=world.config)
        done_h = 20.0
        for slip_h in (0, *slips_h):
            done_h += slip_h
            made_at, done_at = iso(world.now), iso(world.now + done_h * HOUR)
            run.state.note("forecast", 1, made_at, done_at=done_at, sessions=1, accelerator_s=1, made_at=made_at)
            run.row = run.state.row
            notifications.forecast_slipped(world.notifier, run)  # type: ignore[arg-type]
    assert least <= len(world.sent) <= most


def test_settings_that_cannot_be_read_are_told_once_where_a_run_depends_on_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = world.config.project_root
    monkeypatch.chdir(project)
    toml = project / "sections" / SECTION / "section.toml"
    whole = toml.read_text()

    def connect(config: RunConfig) -> Any:
        raise Unavailable("not now")

    def tick(times: int = 1) -> None:
        for _ in range(times):
            manager = ValidationKaggleManager(project_root=project, connect_to=connect, notifier=world.notifier)
            with suppress(KaggleManagerError):
                manager.tick(SECTION)

    for turn in (1, 2):
        toml.write_text(whole.replace("[kernel]", "[kernel"))
        tick(3)
        assert len(world.sent) == turn
        toml.write_text(whole)
        tick()
    world.config.journal.unlink()
    toml.write_text("")
    with pytest.raises(ConfigError):
        ValidationKaggleManager(project_root=project, notifier=world.notifier).tick(SECTION)
    assert len(world.sent) == 2, "nothing runs unattended"


def test_a_broken_section_is_told_once_whatever_commands_meet_it_and_again_when_it_breaks_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.config.project_root)
    monkeypatch.setattr(Notifier, "from_environment", lambda **_: world.notifier)
    toml = world.config.project_root / "sections" / SECTION / "section.toml"
    whole = toml.read_text()

    def tick(**options: Any) -> None:
        asked = Asked(SECTION, **options)
        with suppress(KaggleManagerError), asked.settings_told(Reporter()):
            asked.config()

    for turn in (1, 2):
        toml.write_text(whole.replace("[kernel]", "[kernel"))
        for _ in range(2):
            tick()
            tick(platform="local")
        assert len(world.sent) == turn
        toml.write_text(whole)
        tick(platform="local")
    for _ in range(3):
        tick(scenario="renamed")
        tick()
    assert len(world.sent) == 3, "a command that is well does not let the error of another be told again"
