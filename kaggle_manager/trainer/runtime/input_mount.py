"""The training tree as it comes into a kernel: found in either mount layout, and fenced.

A session continues exactly what its order names, or nothing: another run's tree, another generation's, an older step or
another manifest ends the session within seconds, saying what was asked and what is there. Never writes into the mount.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kaggle_manager.checkpoints import Manifest
from kaggle_manager.checkpoints.archive import PACK_NAME
from kaggle_manager.errors import LineageMismatch, UntrustedTree
from kaggle_manager.protocol.launch_order import LaunchOrder, Parent

# A dataset may be mounted some time after the process starts; users report up to a minute.
MOUNT_WAIT_S = 120.0
_POLL_S = 0.5


def find_mount(
    inputs: Path,
    parent: Parent,
    *,
    wait_s: float = MOUNT_WAIT_S,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """The folder the tree's dataset is mounted in.

    Args:
        inputs: what `KM_INPUT_DIR` names.
        parent: names the dataset.
        wait_s: seconds to wait for it to appear.

    Raises:
        LineageMismatch: it did not appear; the message lists what is mounted.
    """
    owner, _, slug = parent.dataset.partition("/")
    candidates = [inputs / "datasets" / owner / slug, inputs / slug]
    deadline = now() + wait_s
    while True:
        for folder in candidates:
            if (folder / PACK_NAME).is_file():
                return folder
        if now() >= deadline:
            break
        sleep(_POLL_S)
    found = sorted(str(path.relative_to(inputs)) for path in inputs.glob("*/*"))[:20] if inputs.is_dir() else []
    raise LineageMismatch(
        f"The training tree, {parent.dataset}, is not under {inputs} after {wait_s:.0f} s. "
        f"Mounted: {', '.join(found) or 'nothing'}.",
        safe="nothing was trained; the tree on the manager's side is untouched.",
        next_step="push this session again once that is published.",
    )


def check_lineage(order: LaunchOrder, parent: Parent, head: Manifest | None) -> None:
    """Hold the newest checkpoint of the mounted tree against the order.

    Raises:
        LineageMismatch: naming every difference.
    """
    if head is None:
        raise _mismatch(["the mounted tree has no checkpoint"])
    problems = []
    if head.lineage.run_id != order.run_id:
        problems.append(f"run: asked {order.run_id}, mounted {head.lineage.run_id}")
    if head.lineage.generation >= order.generation:
        problems.append(f"session: this is {order.generation}, mounted is of {head.lineage.generation}")
    if head.step < parent.min_step:
        problems.append(f"step: asked at least {parent.min_step}, mounted {head.step}")
    if head.sha256 != parent.manifest_sha256:
        problems.append(f"manifest: asked {parent.manifest_sha256[:12]}, mounted {head.sha256[:12]}")
    if problems:
        raise _mismatch(problems)


def check_vouched(parent: Parent) -> None:
    """Obey the manager, which knows where a tree comes from.

    Raises:
        UntrustedTree: it does not say that the checkpoint may be opened.
    """
    if not parent.vouched_by:
        raise UntrustedTree(
            "The order of this session does not say why the checkpoint it is to continue is trusted, whose pickles can "
            "run any code.",
            safe="nothing of it was opened, and nothing was trained.",
            next_step="if you trust who made the tree, run the same command again with --trust.",
        )


def _mismatch(problems: list[str]) -> LineageMismatch:
    return LineageMismatch(
        f"What is mounted is not what this session was sent to continue ({'; '.join(problems)}).",
        safe="nothing was trained; the tree on the manager's side is untouched.",
        next_step="push this session again once its newest version is the current one.",
    )
