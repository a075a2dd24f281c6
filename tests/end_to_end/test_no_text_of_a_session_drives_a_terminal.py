"""Text from a session is cleaned where it enters: whatever a session puts into any field, no output shows it raw.

Real sessions set every text they can set: lines of the log, events, the result, manifests, file names, the type and
the message of an exception. Then the bytes of every face are read.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_project import SCENARIO, SECTION, TRAINER, Bench, Told, installed, make_project
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.dashboard.export_html import write_html
from kaggle_manager.errors import KernelFailed
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.notify.notifier import Notifier, Occasion
from kaggle_manager.sessions import bundle, output_listing, reconcile, watch

pytestmark = pytest.mark.slow

# CSI and OSC sequences in both spellings, C0 and C1 controls, NUL, directions, no width, half a character, more than is
# shown; and a line end, behind which a text would pass for a line of its own.
HOSTILE = (
    "T\x1b[31mE\x1b]0;title\x07X\x9b2JT\x9d0;t\x9c\x1bc\x07\x08\x7f\x85\x00\r\u2028\u202e\u2066\u200b\ufeff\ud800"
    f"\nFORGED{'x' * 30_000}"
)
SAID = HOSTILE.replace("FORGED", "SAID")  # where a line of its own is no forgery

SETS_EVERYTHING = f"""
import json
HOSTILE, SAID = {HOSTILE!r}, {SAID!r}
train = session


def told(order, kind, **fields):
    tag = session_tag(order.run_id, order.generation)
    print("\\n" + kind + " " + json.dumps({{"session": tag, **fields}}), flush=True)


def session(order, working, inputs, emit):
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogatepass")
    print(SAID)
    print(SAID.replace("\\n", " "), file=sys.stderr)
    told(order, "KM_SESSION", container=HOSTILE[:100])
    told(order, "KM_RESUME", step=0, target=4, manifest_sha256=HOSTILE, from_zero=HOSTILE, exact=HOSTILE)
    told(order, "KM_BUNDLE", sha256=HOSTILE)
    for name in ("a\\x1b[31mb", "a\\nFORGED", "a\\u202eb", "x" * 200, "odd\\udce9.csv"):
        (working / name).write_text(name, errors="replace")
    (working / "kernel.log").write_bytes(SAID.encode("utf-8", "surrogatepass"))
    if order.generation > 1:
        name = SAID.replace("\\0", "").replace("\\ud800", "")  # no class can be called so
        raise type("E" + name, (Exception,), {{}})(f"{{SAID[:200]}} {{order.generation}}")
    hostile = {{HOSTILE: HOSTILE, "list": [HOSTILE]}}
    save = CheckpointStore.save_latest
    def save_latest(self, **given):
        given["identity"] = {{**given["identity"], "versions": hostile, HOSTILE: HOSTILE}}
        return save(self, **given, exact={{"kind": HOSTILE, **hostile}}, metrics=hostile)
    CheckpointStore.save_latest = save_latest
    facts = train(order, working, inputs, emit)
    quarantine = working / "training_tree/quarantine/1"
    quarantine.mkdir(parents=True)
    (quarantine / "reason.txt").write_text(HOSTILE, errors="replace")
    return {{**facts, "reason": HOSTILE, "counts": {{HOSTILE: 1}}, "timings": {{HOSTILE: 1.0, "total": 1.0}},
             "error": {{"type": HOSTILE, "message": HOSTILE, "last_line": HOSTILE}}}}
"""


@dataclass
class World:
    """What a user has after hostile sessions, and what was said meanwhile."""

    bench: Bench
    said: str
    hook: Path


@pytest.fixture(scope="module")
def world(kaggle_here: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (watch, "FIRST_POLL_S", 0.1),
            (reconcile, "LOOK_EVERY_S", 0.0),
            (output_listing, "LOOK_EVERY_S", 0.0),
            (bundle, "INSTALLED", installed(folder / "project")),
        ):
            patch.setattr(module, name, value)
        bench = Bench(make_project(folder / "project"), folder / "work", kaggle_here)
        main = installed(bench.project) / TRAINER
        main.write_text(main.read_text() + SETS_EVERYTHING)
        # What is passed to a program of the user's is a face like any other.
        received = folder / "received.jsonl"
        program = folder / "hook.py"
        program.write_text(
            "import json, os, sys\n"
            f"with open({str(received)!r}, 'a') as file:\n"
            "    told = [*sys.argv[1:], *(v for k, v in os.environ.items() if k.startswith('KM_'))]\n"
            "    file.write(json.dumps([*told, sys.stdin.read()]) + '\\n')\n"
        )
        bench.notifier = Notifier(hook=(sys.executable, str(program)), wanted=frozenset(Occasion))
        with pytest.raises(KernelFailed) as of_run:
            bench.run(timesteps=4)
        said, bench.told = bench.output, Told()
        with pytest.raises(KernelFailed) as of_tick:
            bench.manager().tick(SECTION, timesteps=4)
        said += f"{of_run.value}\n{bench.output}\n{of_tick.value}\n"
        patch.setenv("KM_PROJECT", str(bench.project))
        yield World(bench, said, received)


def check(text: str, *forged: str) -> None:
    forged = forged or ("FORGED", "SAID")
    raw = {character for character in text if not (character.isprintable() or character in "\t\n")}
    assert {f"U+{ord(c):04X} {unicodedata.name(c, '')}" for c in raw} == set()
    assert not [line for line in text.splitlines() if line.strip(" |!\"'").startswith(forged)]
    assert max(map(len, text.splitlines()), default=0) < 90_000


def test_what_a_run_and_a_tick_say(world: World) -> None:
    assert "EXT" in world.said
    check(world.said, "FORGED")


FACES = [
    "status",
    "history",
    "forecast",
    "logs --session 1",
    "logs --session 2",
    "checkpoints ls",
    "checkpoints show",
    "checkpoints verify",
    "checkpoints diff SECTION latest 1",
    "checkpoints diff SECTION latest best",
]


@pytest.mark.parametrize(
    ("command", "as_json"),
    [(command, as_json) for command in FACES for as_json in (False, True) if not (as_json and "logs" in command)],
)
def test_what_a_command_says(world: World, command: str, as_json: bool) -> None:
    line = command if "SECTION" in command else f"{command} SECTION"
    words = [*line.replace("SECTION", SECTION).split(), "--workdir", str(world.bench.workdir)]
    done = CliRunner().invoke(app, [*words, *(["--json"] if as_json else [])])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (0, 1, 3, 8, 9), done.output
    assert done.output
    check(done.output, *(["FORGED"] if command.startswith("logs") else []))
    if as_json:
        for text in strings(json.loads(done.stdout)):
            check(text)


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def test_what_a_download_says(world: World) -> None:
    world.bench.told = Told()
    world.bench.manager().download_outputs(SECTION, 1)
    assert world.bench.output
    check(world.bench.output)


def test_what_the_page_shows(world: World, tmp_path: Path) -> None:
    write_html(world.bench.workdir, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_bytes().decode()
    assert SCENARIO in text
    check(text.partition("</style>")[2].rpartition("<script")[0])


def test_what_a_hook_is_given(world: World) -> None:
    calls = [json.loads(line) for line in world.hook.read_text().splitlines()]
    assert calls
    for text in strings(calls):
        check(text)


def test_what_lies_in_the_journal(world: World) -> None:
    (journal,) = world.bench.workdir.rglob("journal.sqlite")
    import sqlite3

    with closing(sqlite3.connect(journal)) as db, db:
        for table in ("runs", "sessions", "events"):
            for row in db.execute(f"SELECT * FROM {table}"):
                for value in row:
                    found = value
                    if isinstance(value, str) and value.startswith(("{", "[")):
                        found = json.loads(value)
                    for text in strings(found):
                        check(text)
    db.close()
