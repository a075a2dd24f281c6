"""How large a training becomes, in memory and on the disk, and what does not fit: known while it can still be changed.

A replay buffer takes its memory only as it fills, so a training whose buffer does not fit starts, and is killed for its
memory hours later; the session after that as well. The same holds for what a session leaves on the disk.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.checkpoints import Manifest
from kaggle_manager.checkpoints.atomic_io import SPACE_MARGIN
from kaggle_manager.errors import ConfigError
from kaggle_manager.trainer.sb3 import replay_rows

LARGE_FILE_BYTES = 500 * 10**6
"""A file of a replay buffer that is worth a word before it is made: minutes of most downloads."""


def row_bytes(model: BaseAlgorithm) -> int:
    """Memory that one row of the replay buffer takes, over all environments; 0 without a replay buffer."""
    return sum(int(array[0].nbytes) for array in replay_rows.arrays(model).values())


def rows_in_the_end(model: BaseAlgorithm, total: int) -> int:
    """Rows that the buffer holds after `total` timesteps."""
    return min(rows_of_buffer(model), -(-total // model.n_envs))


def rows_of_buffer(model: BaseAlgorithm) -> int:
    """Rows that its replay buffer can hold, each over all environments; 0 without one."""
    buffer = replay_rows.buffer_of(model)
    return 0 if buffer is None else int(buffer.buffer_size)


def gigabytes(size: float) -> str:
    if size < 1e7:
        return "under 0.01 GB"
    return f"{size / 1e9:.2g} GB" if size < 9.95e9 else f"{size / 1e9:,.0f} GB"


def too_large_for_memory(model: BaseAlgorithm, rows: int, row: int, there: int, where: str) -> str:
    """In words, that a buffer of `rows` rows does not fit into `there` bytes, and what would; '' when it fits."""
    if rows * row <= there:
        return ""
    fits = there // row * model.n_envs
    return (
        f"the replay buffer comes to {gigabytes(rows * row)} and {where} has {gigabytes(there)} of memory: a "
        f"buffer_size of {int(fits * 0.8):,} leaves room for the rest, and so do smaller observations or "
        "optimize_memory_usage"
    )


def check_memory(model: BaseAlgorithm, total: int) -> None:
    """Before the first step of a run.

    Raises:
        ConfigError: the replay buffer alone will not fit into the memory of this machine.
    """
    there = available_memory()
    if there is None:
        return
    if found := too_large_for_memory(model, rows_in_the_end(model, total), row_bytes(model), there, "this machine"):
        raise ConfigError(
            f"This training cannot end: {found}.",
            safe="nothing was trained, and no checkpoint was touched.",
            next_step="change the scenario's hyperparameters in section.toml, or train where there is more memory.",
        )


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes this process may still take: of the machine, and of the container it runs in; None where nobody says."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    names = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
    for limit, used in names:
        try:  # "max" is no number: there is no limit
            taken = int((cgroup / used).read_text()) - _cached(cgroup / Path(used).with_name("memory.stat"))
            found.append(max(0, int((cgroup / limit).read_text()) - taken))
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def _cached(stat: Path) -> int:
    """Bytes of files that a container is charged for, and that make room when it is needed."""
    values = dict(line.split() for line in stat.read_text().splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def too_large_for_disk(tree: Path, manifest: Manifest, rows: int, kept_bytes: int | None) -> str:
    """In words, that what a session leaves will not fit, judged by its first save; '' when it will.

    Args:
        tree: folder of the training tree.
        manifest: of the checkpoint that was saved.
        rows: that the replay log will hold in the end.
        kept_bytes: what the platform keeps of a session; None for all.
    """
    replay = manifest.replay
    if replay is None or not replay.rows:
        return ""
    log = sum(segment.length for segment in replay.segments)
    saved = sum(segment.end_row - segment.first_row for segment in replay.segments)
    # A segment is dropped when none of its rows is needed any more, so there is up to one more than the ring holds.
    growth = log / saved * max(0, rows - saved)
    there, kept = shutil.disk_usage(tree).free, math.inf if kept_bytes is None else kept_bytes
    if not growth or (growth * SPACE_MARGIN <= there and used_by(tree) + growth <= kept):
        return ""
    limit = f"a session may leave {gigabytes(kept)} and " if kept_bytes is not None else ""
    limit += f"{gigabytes(there)} are free"
    return (
        f"at {log / saved:,.0f} bytes a row the replay log grows by {gigabytes(growth)} to {rows:,} rows, and {limit}: "
        "a smaller buffer_size or smaller observations would fit; a run that has begun takes them with --fresh"
    )


def buffer_file_left_out(size: int, tree: Path, kept_bytes: int | None) -> str:
    """In words, why the final model goes without the file of its replay buffer, of `size` bytes; '' when it fits.

    It is written in blocks and needs no memory; the disk it needs, and room in what a session may leave.
    """
    there, used = shutil.disk_usage(tree).free, used_by(tree)
    if kept_bytes is not None and used + size > kept_bytes:
        why = f"with it the training tree would have {gigabytes(used + size)}, of {gigabytes(kept_bytes)} at most"
    elif size * SPACE_MARGIN > there:
        why = f"{gigabytes(there)} are free on the disk"
    else:
        return ""
    return (
        f"its replay buffer, a file of {gigabytes(size)}, was left to the replay log ({why}); "
        "`checkpoints export-sb3 latest FOLDER`, with the options of this training, makes it"
    )


def used_by(tree: Path) -> int:
    """Bytes of all files of a training tree."""
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
