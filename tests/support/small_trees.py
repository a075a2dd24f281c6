"""Small training trees with real checkpoints, for tests that look at trees and move them."""

from __future__ import annotations

import io
import zipfile
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.checkpoints import CheckpointStore, Lineage, ReplayCommit, SegmentRef, TrainingTree
from kaggle_manager.checkpoints.sealed_json import seal
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.system.files import sha256_bytes

SECTION, SCENARIO = "section_7_6_rl_performance", "traffic_light_control"
IDENTITY = {
    "algorithm": "DQN",
    "hyperparameters": {"learning_rate": 0.001, "policy_kwargs": {"net_arch": [64, 64]}},
    "environment_fingerprint": "e" * 64,
    "reward_fingerprint": "r" * 64,
    "versions": {"torch": "2.13.0"},
}


def config_in(folder: Path, *, quick: bool = False) -> RunConfig:
    return build_config(SECTION, workdir=folder, quick=quick, environ={})


def plant(
    root: Path,
    steps: Sequence[int] = (1, 2),
    *,
    run_id: str = "run",
    generation: int = 1,
    score: float = -5.0,
    identity: Mapping[str, Any] = IDENTITY,
    rows: int = 1000,
    saved_at: str | None = None,
) -> TrainingTree:
    """A tree with two latest that share a sealed replay segment, a best, a final, a curve and metadata."""
    tree = TrainingTree(root, SCENARIO)
    clock = {} if saved_at is None else {"now": lambda: saved_at}
    store = CheckpointStore(tree, warn=pytest.fail, **clock)
    common: dict[str, Any] = {"target": 9, "lineage": Lineage(run_id, generation, None, 0), "bundle_sha256": "b" * 64}
    common["identity"] = identity
    tree.replay.mkdir(parents=True, exist_ok=True)
    sealed = b"sealed rows " * rows
    (tree.replay / "segment_0.bin").write_bytes(sealed)
    shared = SegmentRef("segment_0.bin", 0, 1, len(sealed), sha256_bytes(sealed))
    for step in steps:
        data = f"rows of {run_id} to {step}".encode()
        (tree.replay / f"segment_{step}.bin").write_bytes(data)
        own = SegmentRef(f"segment_{step}.bin", 1, step + 1, len(data), sha256_bytes(data))
        store.save_latest(
            step=step,
            files={"model": f"model {run_id} {step}".encode(), "state": f"state {step}".encode()},
            replay=ReplayCommit(step, 8, (shared, own)),
            exact={"arithmetic": {"probe": "p", "torch": "2.13.0"}},
            certificate=f"certificate {step}",
            **common,
        )
    store.save_best(score=score, step=steps[0], files={"model": b"best " + run_id.encode()}, **common)
    store.save_final(step=steps[-1], files={"model": b"final"}, **common)
    tree.history.mkdir(exist_ok=True)
    (tree.history / "evaluations.npz").write_bytes(curve([(step, [score + step, score]) for step in steps]))
    return tree


def curve(points: Sequence[tuple[int, Sequence[float]]]) -> bytes:
    """An evaluations.npz as Stable-Baselines3 writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("timesteps.npy", npy("<i8", array("q", [step for step, _ in points]), [len(points)]))
        returns = array("d", [value for _, row in points for value in row])
        archive.writestr("results.npy", npy("<f8", returns, [len(points), len(points[0][1])]))
    return stream.getvalue()


def npy(kind: str, values: array[Any], shape: Sequence[int]) -> bytes:
    header = repr({"descr": kind, "fortran_order": False, "shape": tuple(shape)}).encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values.tobytes()


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def reseal(listing: dict[str, Any]) -> bytes:
    """The bytes of a listing a hostile store could serve: changed, and sealed again."""
    body = {name: value for name, value in listing.items() if name not in ("seal", "schema")}
    return seal(body, schema=listing["schema"])
