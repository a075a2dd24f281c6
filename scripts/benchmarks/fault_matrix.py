"""Every fault of the hostile local Kaggle x every call of the adapter that can meet it, over real HTTP.

Each cell is judged twice, with the fault striking once and striking for ever: the right answer and the right bytes, or
a typed error that names a next step; never a wrong file, never a foreign exception, never a wait beyond its bound.

    python scripts/benchmarks/fault_matrix.py                     print the table
    python scripts/benchmarks/fault_matrix.py --write             and keep it in docs/robustness_data.md
    python scripts/benchmarks/fault_matrix.py --only flip reset   these faults alone
"""

from __future__ import annotations

import argparse
import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import hostile_stage as acts
from hostile_stage import Act, Stage, Wrong, stage
from kept_section import replace_section

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.local_kaggle.faults import fault_plan

# The longest a cell may take: six tries of IMPATIENT_S each for two requests, and the machine's own slowness.
BOUND_S = 60.0
STAGES = 6

# (row, fault): the fault as a plan has it, without `on` and `times`.
FAULTS: dict[str, dict[str, object]] = {
    "429": {"kind": "refuse", "status": 429},
    "429 + Retry-After": {"kind": "refuse", "status": 429, "retry_after_s": 7},
    "500 JSON": {"kind": "refuse", "status": 500},
    "502 HTML": {"kind": "refuse", "status": 502, "body": "html"},
    "503 empty": {"kind": "refuse", "status": 503, "body": "empty"},
    "503 after doing it": {"kind": "refuse", "status": 503, "carried_out": True},
    "HTML under 200": {"kind": "refuse", "status": 200, "body": "html"},
    "reset": {"kind": "reset"},
    "reset after doing it": {"kind": "reset", "carried_out": True},
    "reset in the body": {"kind": "reset", "after_bytes": 20},
    "stall": {"kind": "stall", "seconds": 60},
    "stall in the body": {"kind": "stall", "seconds": 60, "after_bytes": 20},
    "late answer": {"kind": "delay", "seconds": 0.1},
    "slow drip": {"kind": "drip", "bytes_per_s": 10},
    "cut": {"kind": "truncate"},
    "cut, length fits": {"kind": "truncate", "length": "kept"},
    "cut, no length": {"kind": "truncate", "length": "none"},
    "length too short": {"kind": "length", "says": "short"},
    "length too long": {"kind": "length", "says": "long"},
    "no length": {"kind": "length", "says": "none"},
    "flipped bit": {"kind": "flip"},
    "another file": {"kind": "swap"},
    "expired link": {"kind": "expired_link"},
    "expired token": {"kind": "token_expires"},
    "push refused": {"kind": "push_refused"},
    "still RUNNING": {"kind": "says_status", "says": "RUNNING"},
    "still being cancelled": {"kind": "says_status", "says": "CANCEL_REQUESTED"},
    "version ignored": {"kind": "ignores_version"},
    "partial listing": {"kind": "partial_list"},
    "log without head": {"kind": "log_cut", "lost_bytes": 333},
    "quota shrinks": {"kind": "quota_shrinks", "hours": 1},
    "quota held by others": {"kind": "says_quota"},
    "other sizes": {"kind": "says_sizes"},
    "newest image moves": {"kind": "image_moves"},
    "slow ingestion": {"kind": "slow_ingestion", "seconds": 2},
    "inputs dropped": {"kind": "dropped_sources"},
    "old input mounted": {"kind": "stale_mount"},
    "empty mount": {"kind": "empty_mount"},
    "wrong accelerator": {"kind": "wrong_accelerator"},
    "killed, nothing kept": {"kind": "killed_at_wall", "after_s": 1},
}
# (column, what the adapter does, the call that is struck)
COLUMNS: list[tuple[str, Act, str]] = [
    ("whoami", acts.whoami, "IntrospectToken"),
    ("push", acts.push, fault_plan.PUSH),
    ("push with input", acts.push_with_input, fault_plan.PUSH),
    ("status", acts.kernel_status, fault_plan.STATUS),
    ("newest version", acts.newest_kernel, "GetKernel"),
    ("own kernels", acts.own_kernels, "ListKernels"),
    ("list outputs", acts.list_outputs, fault_plan.OUTPUTS),
    ("cancel", acts.cancel_session, "CancelKernelSession"),
    ("delete", acts.delete_kernel, "DeleteKernel"),
    ("quota", acts.quota, "GetAcceleratorQuotaStatistics"),
    ("publish: begin upload", acts.publish, "StartBlobUpload"),
    ("publish: upload", acts.publish, fault_plan.UPLOAD),
    ("publish: create", acts.publish, "CreateDataset"),
    ("publish: new version", acts.publish_again, "CreateDatasetVersion"),
    ("publish: look", acts.publish, "GetDataset"),
    ("publish: status", acts.publish, "GetDatasetStatus"),
    ("publish: list files", acts.publish, "ListDatasetFiles"),
    ("download: list", acts.download, fault_plan.OUTPUTS),
    ("download", acts.download, fault_plan.DOWNLOAD),
    ("download, no hash", acts.download_unvouched, fault_plan.DOWNLOAD),
    ("stored log", acts.stored_log, fault_plan.LOG),
    ("live log", acts.live_log, fault_plan.LOG),
]
# Where a server's lie cannot be seen in the answer that carries it, and who sees it instead.
ACCEPTED = {
    ("still RUNNING", "status"): "the session's own result, and the bound on silence",
    ("still being cancelled", "status"): "the same; asked again, for it is no end",
    ("version ignored", "status"): "the lineage in the outputs",
    ("version ignored", "list outputs"): "the hash of every file; the lineage in the outputs",
    ("version ignored", "stored log"): "the code's hash, which the log names first",
    ("quota held by others", "quota"): "the next question, an hour later at most",
    ("partial listing", "list outputs"): "the session's own list of its files; without one, its log and its manifests",
    ("cut, length fits", "download, no hash"): "the checkpoint manifest inside the tree",
    ("cut, no length", "download, no hash"): "the checkpoint manifest inside the tree",
    ("length too short", "download, no hash"): "the checkpoint manifest inside the tree",
    ("flipped bit", "download, no hash"): "the checkpoint manifest inside the tree",
}


@dataclass(frozen=True)
class Cell:
    """What became of one call under one fault."""

    fault: str
    column: str
    lasting: bool
    verdict: str
    seconds: float
    detail: str = ""

    @property
    def is_good(self) -> bool:
        return not self.verdict.isupper()


def cells(faults: Iterable[str] = FAULTS, columns: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(fault, column) of everything that can meet."""
    kinds = {name: fault_plan.KINDS[str(FAULTS[name]["kind"])] for name in faults}
    found = []
    for name, kind in kinds.items():
        for column, act, call in COLUMNS:
            input_fault = name in ("inputs dropped", "old input mounted", "empty mount")
            if call not in kind.meets or (columns and column not in columns):
                continue
            if (act is acts.push_with_input) != input_fault and call == fault_plan.PUSH:
                continue
            if name == "quota shrinks" and column != "quota":
                continue
            if name == "version ignored" and column in ("newest version", "live log"):
                continue  # the newest is what is asked for
            found.append((name, column))
    return found


def judge(at: Stage, name: str, column: str, *, lasting: bool) -> Cell:
    """Let one call meet one fault."""
    _, act, call = next(item for item in COLUMNS if item[0] == column)
    outcome: list[tuple[str, str]] = []
    limits = at.state.limits

    def perform() -> None:
        try:
            with at.client() as client:
                outcome.append((act(at, client), ""))
        except KaggleManagerError as error:
            verdict = type(error).__name__ if error.next_step else "NO NEXT STEP"
            outcome.append((verdict, str(error)))
        except Wrong as error:
            who = ACCEPTED.get((name, column))
            outcome.append(("accepted" if who else "WRONG", who or str(error)))
        except BaseException as error:
            outcome.append(("FOREIGN", repr(error)))

    # A token that has expired is no longer known either, to whoever asks about it.
    on = [call, "IntrospectToken"] if FAULTS[name]["kind"] == "token_expires" else [call]
    at.play({**FAULTS[name], "on": on} | ({} if lasting else {"times": 1}))
    begun = time.monotonic()
    thread = threading.Thread(target=perform, daemon=True)
    thread.start()
    thread.join(BOUND_S)
    at.play()
    at.state.limits = limits
    verdict, detail = outcome[0] if outcome else ("HANG", "")
    return Cell(name, column, lasting, verdict, time.monotonic() - begun, detail)


def judge_all(pairs: Sequence[tuple[str, str]]) -> list[Cell]:
    """Every pair, with the fault striking once and for ever; on several stages, since most of it is waiting."""
    todo: queue.SimpleQueue[tuple[int, str, str, bool]] = queue.SimpleQueue()
    for number, (name, column) in enumerate(pairs):
        for lasting in (False, True):
            todo.put((2 * number + lasting, name, column, lasting))
    judged: dict[int, Cell] = {}

    def work(folder: Path) -> None:
        with stage(folder) as at:
            while True:
                try:
                    number, name, column, lasting = todo.get_nowait()
                except queue.Empty:
                    return
                judged[number] = judge(at, name, column, lasting=lasting)

    with tempfile.TemporaryDirectory(prefix="fault-matrix-") as root, ThreadPoolExecutor(STAGES) as pool:
        for stage_over in [pool.submit(work, Path(root) / str(number)) for number in range(STAGES)]:
            stage_over.result()
    return [judged[number] for number in sorted(judged)]


def as_table(judged: Sequence[Cell]) -> list[str]:
    """Markdown: a row a fault, a column a call; "once / for ever", or one word where both are the same."""
    words: dict[tuple[str, str], list[str]] = {}
    for cell in judged:
        words.setdefault((cell.fault, cell.column), []).append(cell.verdict)
    columns = [column for column, _, _ in COLUMNS if any(key[1] == column for key in words)]
    lines = [f"| fault | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for fault in dict.fromkeys(cell.fault for cell in judged):
        row = [" / ".join(dict.fromkeys(words.get((fault, column), ["–"]))) for column in columns]
        lines.append(f"| {fault} | {' | '.join(row)} |")
    return lines


def section(judged: Sequence[Cell], seconds: float) -> list[str]:
    """The text between the markers of docs/robustness_data.md."""
    counts = Counter("typed error" if cell.verdict[0].isupper() else cell.verdict for cell in judged if cell.is_good)
    bad = [cell for cell in judged if not cell.is_good]
    slowest = max(judged, key=lambda cell: cell.seconds)
    told = ", ".join(f"{number} {word}" for word, number in counts.most_common())
    accepted = sorted({(cell.fault, cell.column, cell.detail) for cell in judged if cell.verdict == "accepted"})
    return [
        f"{len(judged)} judgements in {seconds:.0f} s: {told}; {len(bad)} bad.",
        f"The slowest, {slowest.fault} x {slowest.column}, took {slowest.seconds:.1f} s.",
        f"The read time-out was {acts.IMPATIENT_S} s where the fault is silence, and a call tries six times.",
        "",
        *as_table(judged),
        "",
        "Accepted, because the answer itself cannot show that it is wrong; who does:",
        "",
        *(f"* {fault}, {column}: {who}." for fault, column, who in accepted),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=list(FAULTS), choices=FAULTS, metavar="FAULT")
    parser.add_argument("--columns", nargs="+", default=[], metavar="CALL")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/robustness_data.md")
    arguments = parser.parse_args()
    begun = time.monotonic()
    judged = judge_all(cells(arguments.only, arguments.columns))
    for cell in judged:
        if not cell.is_good:
            when = "for ever" if cell.lasting else "once"
            print(f"{cell.verdict}: {cell.fault} x {cell.column}, {when}: {cell.detail}")
    lines = section(judged, time.monotonic() - begun)
    print("\n".join(lines))
    if arguments.write:
        replace_section("fault matrix", "## Fault matrix", lines)
    return 0 if all(cell.is_good for cell in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
