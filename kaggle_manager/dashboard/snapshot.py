"""The journal as it is at one moment, copied into memory: the file is opened for reading only and never held locked.

A manager may be writing to it at the same time; journals of earlier versions are completed in the copy alone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from kaggle_manager.errors import StorageError
from kaggle_manager.journal import SCHEMA, Journal

JOURNAL_FILE = "journal.sqlite"


class Snapshot(Journal):
    """What a journal holds now; empty when there is no file yet.

    Raises:
        StorageError: the file is not a journal, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            if path.is_file():
                with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as file:
                    file.backup(self._db)
            self._db.executescript(SCHEMA)
            self._add_later_columns()
        except (sqlite3.Error, OSError) as error:
            self._db.close()
            raise StorageError(
                f"The journal {path} cannot be read: {error}.",
                safe="nothing was changed; checkpoints and running kernels are untouched",
                next_step="if the file itself is damaged, move it away and run the same command again: the run goes on "
                "from its training tree",
            ) from error
