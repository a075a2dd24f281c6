"""The page as one file that asks for nothing: style, script, charts and numbers inside it.

Promises: no address is in it that a browser would ask; its own policy forbids all requests, and any script but its own.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from kaggle_manager.checkpoints.atomic_io import Disk, write_atomic
from kaggle_manager.dashboard.markup import Markup, h, join
from kaggle_manager.dashboard.page import STATIC, Asked, document, look
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.errors import StorageError


def write_html(state: Path, path: Path) -> None:
    """Write every run of a state folder into one HTML file; checkpoints are read and compared with their hashes first.

    Raises:
        StorageError: the file cannot be written, or the journal cannot be read.
        KaggleManagerError: what else there is that cannot be shown, as by every other command.
    """
    content = look(Dashboard(state), Asked(), everything=True)
    if content.problem:
        raise content.problem
    style, script = ((STATIC / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # Neither text may end its element early; both are this program's own.
    assert "</" not in style
    assert "</" not in script
    head = join(
        h("meta", http_equiv="Content-Security-Policy", content=policy),
        h("style", Markup(style)),
        h("script", Markup(script), type="module"),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(Disk(), path, document(content, head, live=False).encode())
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}.", next_step="name another file"
        ) from error


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
