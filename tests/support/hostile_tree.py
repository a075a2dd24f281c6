"""A real training tree whose every pickle runs code when it is opened, with all manifests sealed again."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kaggle_manager.checkpoints import FileEntry, Manifest
from kaggle_manager.checkpoints.manifest import parse_manifest
from kaggle_manager.trainer.sb3.pickles import Apart, read_plain


class Runs:
    """Its pickle makes a folder when it is opened."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> Any:
        return os.makedirs, (self._marker, 0o777, True)


def make_hostile(tree: Path, marker: Path, *, whole_state: bool = False) -> None:
    """Change a tree in place: nobody who looks at its hashes sees that opening it makes a folder at `marker`.

    Args:
        whole_state: the state is one such pickle; else it is plain, and only what is the environment's own runs code.
    """
    for path in sorted(tree.rglob("*.manifest.json")):
        manifest = parse_manifest(path.read_bytes())
        files = []
        for entry in manifest.files:
            file = path.with_name(entry.name)
            file.write_bytes(_hostile(file.name, file.read_bytes(), marker, whole_state))
            made = FileEntry.of(entry.name, file.read_bytes())
            files.append(replace(entry, size=made.size, sha256=made.sha256))
        sealed: Manifest = replace(manifest, files=tuple(files))
        path.write_bytes(sealed.to_bytes())


def _hostile(name: str, data: bytes, marker: Path, whole_state: bool) -> bytes:
    evil = pickle.dumps(Runs(marker))
    if name.endswith(".zip"):
        return _hostile_model(data, evil, marker)
    if whole_state or not name.endswith(".state"):
        return evil
    state = read_plain(data)
    state["items"]["environment"] = Apart(evil)
    return pickle.dumps(state)


def _hostile_model(data: bytes, evil: bytes, marker: Path) -> bytes:
    changed, tensors = io.BytesIO(), io.BytesIO()
    torch.save({"weight": Runs(marker)}, tensors)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                attributes = json.loads(content)
                attributes["learning_rate"] = {":type:": "float", ":serialized:": base64.b64encode(evil).decode()}
                content = json.dumps(attributes).encode()
            elif name.endswith("optimizer.pth"):
                content = tensors.getvalue()
            new.writestr(name, content)
    return changed.getvalue()
