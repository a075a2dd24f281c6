"""What a version of the program wrote, kept in tests/fixtures/formats: where it lies, and how it is put to work again.

    project/    the sections and what they train, as they were      export/    an export of `toy`
    work/       the state folder, with its local Kaggle             said/      what was printed or sent, and an order

A folder of the machine that made it is called `PLACE` in it.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/formats"
RELEASES = sorted(
    (path.name for path in FIXTURES.glob("*")), key=lambda name: [int(part) for part in re.findall(r"\d+", name)]
)
PLACE = "/THE_PLACE_OF_THIS_FIXTURE"


def put_to_work(release: str, folder: Path) -> Path:
    """A copy that the program of today can work on: journal and databases name the folder where it is now."""
    place = folder / "place"
    shutil.copytree(FIXTURES / release, place)
    for path in databases(place):
        in_every_text(path, PLACE, place.as_posix())
    return place


def databases(place: Path) -> Iterator[Path]:
    """The SQLite files below a folder."""
    yield from sorted(path for path in place.rglob("*.sqlite*") if path.suffix in (".sqlite", ".sqlite3"))


def in_every_text(path: Path, old: str, new: str) -> None:
    """Replace a text wherever a database has it, and leave one file, in which nothing is left of it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_, hidden in database.execute(f"PRAGMA table_xinfo({table})").fetchall():
                if kind == "TEXT" and not hidden:
                    database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
