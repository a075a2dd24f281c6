"""A journal with a flipped bit or damaged bytes: every command ends in words and with its JSON document, or works.

python tests/crash/test_a_damaged_journal_is_an_error_in_words.py 300 150     so many of each, in all commands
"""

from __future__ import annotations

import gc
import json
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import pytest
from campaign import Campaign
from campaign_draw import HOUR, draw
from campaign_stage import SECTION, make_project, stage
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.orchestrator.manager import ValidationKaggleManager

pytestmark = pytest.mark.slow

COMMANDS = {
    "status": ["status", "--json"],
    "tick": ["tick", SECTION, "--platform", "kaggle", "--json"],
    "history": ["history", "--json"],
    "forecast": ["forecast", SECTION, "--platform", "kaggle", "--json"],
    "dashboard": ["dashboard", "--html", "page.html", "--json"],
    "doctor": ["doctor", SECTION, "--json"],
    "stop": ["stop", SECTION, "--platform", "kaggle", "--json"],
    "notify": ["notify", "test", "--json"],
}


class World:
    """A run that has had sessions, on a simulated Kaggle, and its journal as it was."""

    def __init__(self, folder: Path) -> None:
        drawn = replace(draw(3), target=10**6, limit_s=HOUR, jumps=0.0, disk_fills=0.0, kills=0.0)
        self.campaign = Campaign(3, folder / "campaign", make_project(folder / "project"), drawn)
        with stage(self.campaign.mortality):
            for _ in range(30):
                self.campaign.tick()
                self.campaign.clock.sleep(0.6 * HOUR)
        assert len(self.campaign.kaggle.sessions) > 5
        self.journal = self.campaign.config.journal
        self.whole = self.journal.read_bytes()

    def put(self, content: bytes) -> None:
        gc.collect()  # SQLite closes the file with the last cursor, and a command that failed left one in its traceback
        for beside in self.journal.parent.glob("journal.sqlite-*"):
            beside.unlink()
        self.journal.write_bytes(content)

    @contextmanager
    def commands(self) -> Iterator[CliRunner]:
        """The command line of this world."""
        manager = {
            "connect_to": self.campaign._connect,
            "clock": self.campaign.clock,
            "sleep": self.campaign.clock.sleep,
            "watch_session": self.campaign.manager()._passes.watch_session,
        }
        with (
            stage(self.campaign.mortality),
            chdir(self.campaign.project),
            mock.patch.dict(ValidationKaggleManager.__init__.__kwdefaults__, manager),
            mock.patch("kaggle_manager.sessions.connection.connect", self.campaign._connect),
        ):
            yield CliRunner(env={"KM_WORKDIR": str(self.campaign.workdir), "KAGGLE_CONFIG_DIR": "/nowhere"})


def problem_of(runner: CliRunner, arguments: list[str]) -> str:
    """What is wrong with how a command ends; "" for nothing."""
    done = runner.invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return "".join(traceback.format_exception(done.exception))
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return f"exit code {done.exit_code}, and no document: {done.stdout[:200]!r} {done.stderr[-500:]}"
    if done.exit_code not in (0, 8, 130) and "schema" not in document:
        return f"exit code {done.exit_code}, and {document}"
    return ""


def damages(world: World, flips: int, smears: int) -> Iterator[tuple[str, bytes]]:
    rng = random.Random(12)
    for number in range(flips):
        content = bytearray(world.whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        yield f"flip {number}", bytes(content)
    for number in range(smears):
        content = bytearray(world.whole)
        at = rng.randrange(len(content) - 20)
        content[at : at + 20] = rng.randbytes(20)
        yield f"smear {number}", bytes(content)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("command", ["status", "tick", "history", "forecast", "stop"])
def test_every_command_ends_in_words(command: str, world: World) -> None:
    with world.commands() as runner:
        for name, content in damages(world, 5, 5):
            world.put(content)
            assert problem_of(runner, COMMANDS[command]) == "", name


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(dir="/dev/shm"))
    there, ends = World(place), Counter[str]()
    with there.commands() as shell:
        for name, content in damages(there, int(sys.argv[1]), int(sys.argv[2])):
            for command in sys.argv[3:] or COMMANDS:
                there.put(content)
                if problem := problem_of(shell, COMMANDS[command]):
                    ends[command] += 1
                    print(name, command, problem[-1500:], flush=True)
    shutil.rmtree(place)
    print(dict(ends) or "all in words")
