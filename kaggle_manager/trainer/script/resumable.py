"""Any training script, resumable: copy this file beside it. Standard library only, Python 3.9 or newer.

    from resumable import Session

    session = Session(target=1_000)
    step = load(session.resume) if session.resume else 0    # the newest checkpoint's folder, or None
    while session.running(step):
        ...                                                 # one step of your training
        step += 1
        if session.due(step):                               # last in the loop: what a step does is done
            with session.checkpoint(step) as folder:
                save(folder)                                # any files; committed when the block ends

On its own, the script saves every ten minutes and at the target, Ctrl-C or SIGTERM saves and ends it, and the same
command goes on from there. Under kaggle-manager, which runs it in sessions on Kaggle, target, seed, folders and the
time to stop come from the manager (KM_SESSION_*), whatever the script says. Processes that train together
(torch.distributed) save and stop at the same step: all enter the block, and it is committed when all have left it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class Session:
    """What this process continues (`resume`, `step`), how far it goes (`target`), and when it saves and stops.

    `save_every` counts steps, `save_minutes` minutes since the last save; whichever comes first. `seed` is for the
    script to use. The saves folder holds `<step>/` for each checkpoint and `metrics.jsonl`; without a manager, the two
    newest checkpoints and the newest that was saved as best are kept.
    """

    def __init__(
        self,
        target: int,
        *,
        seed: int = 0,
        saves: str | os.PathLike[str] = "saves",
        save_every: int | None = None,
        save_minutes: float = 10,
    ) -> None:
        given = {name[11:]: value for name, value in os.environ.items() if name.startswith("KM_SESSION_") and value}
        self.target = int(given.get("TARGET", target))
        self.seed = int(given.get("SEED", seed))
        self.saves = Path(given.get("SAVES", saves)).absolute()
        self.saves.mkdir(parents=True, exist_ok=True)
        self._managed = "SAVES" in given
        if self._managed:
            self.step = int(given.get("STEP", 0))
            self.resume = Path(given["RESUME"]) if "RESUME" in given else None
        else:
            self.step = max(self._committed(), default=0)
            self.resume = self.saves / str(self.step) if self.step else None
        self.saved = self.step  # the newest step that cannot be lost
        self._deadline, self._stop_at = float(given.get("DEADLINE", "inf")), float(given.get("STOP_AT", "inf"))
        self._every, self._seconds, self._saved_at = save_every, 60 * save_minutes, time.monotonic()
        self._told = self._ending = False
        self._is_first = os.environ.get("RANK", "0") == "0"
        if self._is_first:
            self._forget_what_was_lost()
        with contextlib.suppress(ValueError):  # only the main thread may
            for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last is Windows's
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), self.stop)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_leave_signals_to_the_parent)

    def running(self, step: int) -> bool:
        """False at the target, and when told to stop as soon as `step` is saved."""
        return step < self.target and not (self._ending and step == self.saved)

    def due(self, step: int) -> bool:
        """Whether to save now: it is time, or this step is the last."""
        if step == self.saved:
            return False
        by_steps = self._every is not None and step - self.saved >= self._every
        by_time = time.monotonic() - self._saved_at >= self._seconds
        self._ending, by_time = _agreed(self.stopping or step >= self._stop_at, by_time)
        return by_steps or by_time or self._ending or step >= self.target

    @property
    def stopping(self) -> bool:
        """Told to stop: by SIGTERM, by Ctrl-C, or by the session's deadline."""
        return self._told or time.time() >= self._deadline

    @contextlib.contextmanager
    def checkpoint(self, step: int, *, best: bool = False) -> Iterator[Path]:
        """A folder to save into. It counts when the block has ended, whole or not at all; `best` marks it as the best.

        Raises ValueError where `step` is not after the newest checkpoint: the script did not resume from it.
        """
        if step <= self.saved:
            raise ValueError(f"step {step} is not after step {self.saved}, the newest that is saved in {self.saves}")
        folder = self.saves / f"{step}.tmp"
        if self._is_first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        _agreed()
        yield folder
        (self._ending,) = _agreed(self.stopping or step >= self._stop_at)  # it may have been told meanwhile
        if self._is_first:
            if best:
                (folder / "BEST").touch()
            _to_disk(folder)
            folder.replace(self.saves / str(step))  # the commit
            if not self._managed:
                self._keep_two()
        self.saved, self._saved_at = step, time.monotonic()

    def log(self, step: int, name: str, value: float) -> None:
        """One point of a curve, for `metrics.jsonl`."""
        if not self._is_first:
            return
        number = value.item() if hasattr(value, "item") else value  # of an array or a tensor
        line = json.dumps({"step": step, "name": name, "value": float(number)})
        with (self.saves / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def stop(self, number: int = 0, _frame: object = None) -> None:
        """Ask for a last save; this is what SIGTERM and Ctrl-C do. A second Ctrl-C ends the script at once."""
        self._told = True
        if number == signal.SIGINT:
            os.write(2, b"\nresumable: saving at the end of this step, then leaving (Ctrl-C again: leaving now)\n")
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _committed(self) -> list[int]:
        return sorted(int(each.name) for each in self.saves.iterdir() if each.name.isdecimal())

    def _keep_two(self) -> None:
        steps = self._committed()
        best = [step for step in steps if (self.saves / str(step) / "BEST").exists()]
        for step in set(steps[:-2]) - set(best[-1:]):
            shutil.rmtree((self.saves / str(step)).replace(self.saves / f"{step}.tmp"), ignore_errors=True)

    def _forget_what_was_lost(self) -> None:
        """A process that was killed may have left half a checkpoint, and points of steps that are made again."""
        for left in self.saves.glob("*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
        metrics = self.saves / "metrics.jsonl"
        if metrics.exists():
            kept = [line for line in metrics.read_text(encoding="utf-8").splitlines() if _step_of(line) <= self.step]
            partial = self.saves / "metrics.jsonl.new"
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            partial.replace(metrics)


def _agreed(*wishes: bool) -> list[bool]:
    """What any of the processes that train together wishes; each waits for the others here."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [*wishes]
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    wished = torch.tensor([*wishes, True], dtype=torch.int32, device=device)
    torch.distributed.all_reduce(wished, op=torch.distributed.ReduceOp.MAX)
    return [bool(each) for each in wished.tolist()[:-1]]


def _to_disk(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if os.name == "posix" or path.is_file():
            handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
            os.fsync(handle)
            os.close(handle)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")  # torn


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
