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
command continues from there. Under kaggle-manager, which runs it in sessions, target, seed, folders and the
time to stop come from the manager (KM_SESSION_*), whatever the script says. Processes that train together
(torch.distributed) save and stop at the same step: all enter the block, and it is committed when all have left it.
A second training in the same saves folder is refused while the first runs (not on Windows).
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class SessionError(RuntimeError):
    """Why a training cannot go on, in one line; what was saved before stays."""


class Session:
    """What this process continues (`resume`, `step`), how far it goes (`target`), and when it saves and stops.

    `save_every` counts steps, `save_minutes` minutes since the last save; whichever comes first. `seed` is for the
    script to use. The saves folder holds `<step>/` for each checkpoint and `metrics.jsonl`; without a manager, the two
    newest checkpoints and the newest that was saved as best are kept.

    Raises SessionError, here and where it saves, where the folder or the disk refuses, or what is to be saved is wrong.
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
        self.saved = 0  # the newest step that cannot be lost
        given = {name[11:]: value for name, value in os.environ.items() if name.startswith("KM_SESSION_") and value}
        self.target = int(given.get("TARGET", target))
        self.seed = int(given.get("SEED", seed))
        self.saves = Path(given.get("SAVES", saves)).absolute()
        with self._in_words(f"{self.saves} cannot be saved into"):
            self.saves.mkdir(parents=True, exist_ok=True)
        self._managed = "SAVES" in given
        self._is_first = os.environ.get("RANK", "0") == "0"
        if self._is_first and not self._managed:  # a manager gives each session a folder of its own
            with self._in_words(f"{self.saves} cannot be saved into"):
                _hold(self.saves)
        if self._managed:
            self.step = int(given.get("STEP", 0))
            self.resume = Path(given["RESUME"]) if "RESUME" in given else None
        else:
            committed = self._committed()
            self.step = max(committed, default=0)
            self.resume = committed[self.step] if self.step else None
        self.saved = self.step
        self._deadline, self._stop_at = float(given.get("DEADLINE", "inf")), float(given.get("STOP_AT", "inf"))
        self._every, self._seconds, self._saved_at = save_every, 60 * save_minutes, time.monotonic()
        self._told = self._ending = False
        if self._is_first:
            with self._in_words(f"{self.saves} cannot be saved into"):
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

        Raises SessionError also where `step` is not after the newest checkpoint: the script did not resume from it.
        """
        step = operator.index(step)
        if step < 1:
            raise SessionError(f"step {step} is before the first one, which is 1: count a step, then save it")
        if step <= self.saved:
            raise SessionError(f"step {step} is not after step {self.saved}, the newest that is saved in {self.saves}")
        folder = self.saves / f"{step}.tmp"
        if self._is_first:
            with self._in_words(f"step {step} cannot be saved"):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
        _agreed()
        yield folder
        (self._ending,) = _agreed(self.stopping or step >= self._stop_at)  # it may have been told meanwhile
        if self._is_first:
            with self._in_words(f"step {step} cannot be saved"):
                if best:
                    (folder / "BEST").touch()
                _to_disk(folder)
                folder.replace(self.saves / str(step))  # the commit
        self.saved, self._saved_at = step, time.monotonic()
        if self._is_first and not self._managed:
            self._keep_two()

    def log(self, step: int, name: str, value: float | None) -> None:
        """One point of a curve, for `metrics.jsonl`; None is a value that is not known.

        Raises SessionError where it is NaN or infinite: the training has diverged, and would replace its good saves.
        """
        if not self._is_first:
            return
        number = None if value is None else float(value)  # also of an array or a tensor
        line = json.dumps({"step": operator.index(step), "name": name, "value": number}).encode() + b"\n"
        with self._in_words("metrics.jsonl cannot be written"), (self.saves / "metrics.jsonl").open("ab+") as file:
            if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n":
                line = b"\n" + line  # the rest of a line that could not be written whole
            file.write(line)
        if number is not None and not math.isfinite(number):
            raise SessionError(f"the training has diverged at step {step}: {name} is {number}. {self._safe}")

    def stop(self, number: int = 0, _frame: object = None) -> None:
        """Ask for a last save; this is what SIGTERM and Ctrl-C do. A second Ctrl-C ends the script at once."""
        self._told = True
        if number == signal.SIGINT:
            os.write(2, b"\nresumable: saving at the end of this step, then leaving (Ctrl-C again: leaving now)\n")
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @property
    def _safe(self) -> str:
        return f"Step {self.saved} stays saved." if self.saved else "Nothing had been saved before."

    @contextlib.contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SessionError(f"{what}: {error}. {self._safe}") from error

    def _committed(self) -> dict[int, Path]:
        """The folder of each checkpoint, from the first one to the newest."""
        names = [each for each in self.saves.iterdir() if each.name.isascii() and each.name.isdecimal()]
        for each in names:
            if not each.is_dir():
                raise SessionError(f"{each} has the name of a checkpoint and is no folder: move it away. {self._safe}")
        return {int(each.name): each for each in sorted(names, key=lambda each: int(each.name))}

    def _keep_two(self) -> None:
        committed = self._committed()
        best = [step for step, folder in committed.items() if (folder / "BEST").exists()]
        for step in {*list(committed)[:-2]} - {*best[-1:]}:
            with self._in_words(f"the checkpoint of step {step} cannot be deleted"):
                shutil.rmtree(committed[step].replace(self.saves / f"{step}.tmp"), ignore_errors=True)

    def _forget_what_was_lost(self) -> None:
        """A process that was killed may have left half a checkpoint, and points of steps that are made again."""
        for left in self.saves.glob("*.tmp"):
            if left.stem.isdecimal():
                shutil.rmtree(left, ignore_errors=True)
        metrics = self.saves / "metrics.jsonl"
        if os.path.lexists(metrics) and not metrics.is_file():
            raise OSError(f"{metrics} is no file")
        if metrics.exists():
            partial = self.saves / "metrics.jsonl.new"
            with metrics.open("rb") as lines, partial.open("wb") as kept:
                kept.writelines(line.rstrip(b"\n") + b"\n" for line in lines if _step_of(line) <= self.step)
            partial.replace(metrics)


def _hold(saves: Path) -> None:
    """Refuse a folder that another process saves into; the system forgets who held it when that process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    file = os.open(saves / ".in_use", os.O_RDWR | os.O_CREAT, 0o666)  # open until this process ends
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise SessionError(
            f"process {os.read(file, 20).decode()} is training into {saves}: end it first, or give this training a "
            "folder of its own, Session(saves=...). Processes that train together each need a RANK, which torchrun sets"
        ) from None
    except OSError:  # a file system without locks
        return
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())


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
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and not path.is_file():  # opening a pipe would wait for ever
            raise OSError(f"{path} is no file: a link to a folder or to what is not there, a pipe, a device")
        if os.name == "posix" or not is_folder:
            handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):  # a torn line is forgotten; a whole one that is something else stays
        return 0 if line.endswith(b"\n") else math.inf


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
