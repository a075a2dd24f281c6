"""A wheel made anew of a distribution that is installed here, for a session on this same machine.

It needs no network for what this machine has. Not compressed: it goes no further than this disk.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import zipfile
from pathlib import Path

# What an installer adds to what was in the wheel.
_ADDED = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def repack(name: str, folder: Path) -> Path | None:
    """Write the wheel of the installed `name` into `folder`; None when its files alone do not make one.

    The same installation gives the same bytes.
    """
    try:
        here = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    wheel, record = here.read_text("WHEEL"), here.read_text("RECORD")
    if not wheel or not record or here.read_text("direct_url.json"):  # of no wheel, or of a folder of somebody's
        return None
    commands = {entry.name for entry in here.entry_points if entry.group in ("console_scripts", "gui_scripts")}
    files: dict[str, Path] = {}
    for file in (row[0] for row in csv.reader(record.splitlines()) if row):
        path = Path(str(here.locate_file(file)))
        if file.startswith("..") or Path(file).is_absolute():
            if path.name.removesuffix(".exe") not in commands:
                return None  # it has files elsewhere, which only its own wheel can put there
        elif "__pycache__" not in file and not (".dist-info/" in file and path.name in _ADDED):
            if not path.is_file():
                return None
            files[file] = path
    info = next((file.partition("/")[0] for file in files if file.endswith(".dist-info/WHEEL")), "")
    tags = [line.partition(":")[2].strip().split("-") for line in wheel.splitlines() if line.startswith("Tag:")]
    if not info or not tags:
        return None
    # A wheel for several tags names them all: the parts of each position, joined by dots.
    joined = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    made = folder / f"{info.removesuffix('.dist-info')}-{joined}.whl"
    rows = io.StringIO()
    csv.writer(rows, lineterminator="\n").writerows([file, "", ""] for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(made, "w") as archive:
        for file, path in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(file, _EPOCH), path.read_bytes())
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", _EPOCH), rows.getvalue())
    return made
