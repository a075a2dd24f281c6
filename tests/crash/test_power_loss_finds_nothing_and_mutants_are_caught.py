"""Every state a power failure can leave is recovered; and each step of the protocol is needed.

Leave one step out, and the same enumeration finds a state that breaks an invariant.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import crash_workload as workload
import pytest
from crash_disks import Call, RecordingDisk
from crash_workload import Promises
from power_loss import crash_states, materialise

from kaggle_manager.checkpoints import store
from kaggle_manager.errors import KaggleManagerError

pytestmark = pytest.mark.slow

Trace = list[Call]


def record(folder: Path, *, steps: int = 3) -> Trace:
    """Run the workload once and return what it did, with its promises in between."""
    root, promised = folder / "recorded", Promises()
    disk = RecordingDisk(root)
    workload.run(root, disk, promised, steps=steps, acknowledge=lambda: disk.acknowledge(deepcopy(promised)))
    shutil.rmtree(root)
    return disk.calls


def first_violation(trace: Trace, folder: Path) -> tuple[str | None, int]:
    """Return what breaks first in the states after `trace`, and how many states were looked at."""
    root, number = folder / "models", 0
    for number, (state, promises) in enumerate(crash_states(trace), start=1):
        materialise(state, root)
        try:
            found = workload.violations(root, promises[-1] if promises else Promises(), go_on=number % 5 == 0)
        except KaggleManagerError as error:  # a checkpoint that was promised is not found at all
            found = [str(error)]
        shutil.rmtree(root)
        if found:
            return f"state {number}: {found[0]}", number
    return None, number


def test_no_state_after_a_power_loss_breaks_an_invariant(quick_folder: Path) -> None:
    violation, states = first_violation(record(quick_folder), quick_folder)
    assert violation is None
    assert states > 500, "the enumeration got smaller than it was when it could find something"


# Each mutant rewrites the recorded trace as if the code had been written that way.


def without(name: str, marker: str) -> Callable[[Trace], Trace]:
    """Leave out the calls `name` whose path holds `marker`."""
    return lambda trace: [call for call in trace if not (call.name == name and marker in call.path)]


def without_commit_point(trace: Trace) -> Trace:
    """Leave out the folder sync between the pending files and their renames."""
    return [
        call
        for call, following in zip(trace, [*trace[1:], Call("end")], strict=True)
        if not (call.name == "sync_folder" and following.name == "replace" and following.path.endswith(".next"))
    ]


def between_promises(rewrite: Callable[[Trace], Trace]) -> Callable[[Trace], Trace]:
    """Apply `rewrite` to the calls of one save at a time."""

    def apply(trace: Trace) -> Trace:
        result: Trace = []
        batch: Trace = []
        for call in trace:
            if call.name == "ack":
                result += [*rewrite(batch), call]
                batch = []
            else:
                batch.append(call)
        return result + rewrite(batch)

    return apply


def is_deletion(call: Call) -> bool:
    return call.name == "unlink" or call.destination.endswith(".deleted")


def delete_first(batch: Trace) -> Trace:
    """Delete the older checkpoint before the newer is written."""
    return [call for call in batch if is_deletion(call)] + [call for call in batch if not is_deletion(call)]


def promise_early(trace: Trace) -> Trace:
    """Tell the user that a save is done before its last folder sync."""
    result = list(trace)
    for index, call in enumerate(result):
        if call.name == "ack":
            last = max(i for i in range(index) if result[i].name == "replace" and result[i].path.endswith(".json.next"))
            first = max((i for i in range(last) if result[i].name == "ack"), default=-1)
            begin = max(first + 1, last - 8)
            result[begin : index + 1] = [call, *result[begin:index]]
    return result


def in_place(trace: Trace) -> Trace:
    """Write every file under its final name at once."""
    renamed = [dataclasses.replace(call, path=call.path.removesuffix(".next")) for call in trace]
    return [call for call in renamed if not (call.name == "replace" and call.path == call.destination)]


def rename_before_the_manifest(batch: Trace) -> Trace:
    """Give the files their final names before the new manifest is on the medium."""
    moves = [call for call in batch if call.name == "replace" and not call.path.endswith(".json.next")]
    moves = [call for call in moves if call.path.endswith(".next")]
    others = [call for call in batch if call not in moves]
    at = next((i for i, call in enumerate(others) if call.path.endswith(".json.next")), len(others))
    return others[:at] + moves + others[at:]


def replay_after_the_manifest(batch: Trace) -> Trace:
    """Commit the manifest before the replay rows it vouches for are written."""
    rows = [call for call in batch if "replay" in call.path and call.name in ("write_at", "sync", "sync_folder")]
    others = [call for call in batch if call not in rows]
    at = max((i for i, call in enumerate(others) if call.destination.endswith(".manifest.json")), default=-1)
    return others[: at + 1] + rows + others[at + 1 :]


MUTANTS: dict[str, Callable[[Trace], Trace]] = {
    "no sync of models": without("sync", ".zip"),
    "no sync of states": without("sync", ".state"),
    "no sync of manifests": without("sync", ".manifest.json"),
    "no sync of replay segments": without("sync", "segment_"),
    "no sync of the checkpoints folder": lambda trace: [
        call for call in trace if (call.name, call.path) != ("sync_folder", "checkpoints")
    ],
    "no sync of the replay folder": without("sync_folder", "replay"),
    "no sync of the best folder": without("sync_folder", "best_model"),
    "no sync at the commit point": without_commit_point,
    "delete first": between_promises(delete_first),
    "promise before the sync": promise_early,
    "write in place": in_place,
    "rename files before their manifest is there": between_promises(rename_before_the_manifest),
    "commit before the replay rows": between_promises(replay_after_the_manifest),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_leaving_out_a_step_is_caught(quick_folder: Path, mutant: str) -> None:
    trace = record(quick_folder)
    mutated = MUTANTS[mutant](trace)
    assert mutated != trace, "the mutant changes nothing"
    violation, _ = first_violation(mutated, quick_folder)
    assert violation is not None


def test_keeping_one_checkpoint_is_caught(quick_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "KEPT", 1)
    trace = record(quick_folder)
    monkeypatch.undo()
    violation, _ = first_violation(trace, quick_folder)
    assert violation is not None
    assert "I1b" in violation
