"""First code that runs in a session: names the code, unpacks it, installs what the image lacks, hands over.

`kaggle_manager.sessions.bundle` puts this file, unchanged, at the head of every kernel script and calls `main` at its
end; so it uses the standard library only and imports nothing of the project. What it repeats of
`kaggle_manager.protocol` is held to it by tests/unit/protocol/test_entry_literals.py. It promises that the bundle's
hash is the first thing in the log, that code whose hash differs never runs, that this session's `session_result.json`
exists at the end even when the trainer died before it could write one, or the user's code wrote another in its place,
that a session ends with its training whatever the user's code has started, and that a request to stop reaches the
trainer once, whenever it comes. It never writes code into the output folder. A session may carry several runs, each in
a lane: a trainer of its own, with its own folder of outputs, its share of the cores, and its prefix in the log.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import lzma
import os
import re
import runpy
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

# Run in a process of its own: the trainer may start worker processes that import the main module again. What the user's
# code does when a process ends (threads, exit handlers, child processes) is waited for so many seconds, not for ever.
LAST_WORDS_S = 30
TRAINER = """
import json, os, sys, threading

def leave():
    try:
        os.write(2, b"\\nThreads, exit handlers or child processes of the user's code do not end: they are ended.\\n")
    finally:
        os._exit(code)

code = 1
try:
    from kaggle_manager.trainer.main import run
    code = run(json.load(open(sys.argv[1])))
finally:
    last_words = threading.Timer(float(sys.argv[2]), leave)
    last_words.daemon = True
    last_words.start()
sys.exit(code)
"""
# What this file cannot list itself is listed by the code of the bundle, in a process that has run none of the user's.
EPILOGUE = (
    "import json, sys; from kaggle_manager.trainer.runtime.session_files import close_folder; "
    "close_folder(json.load(open(sys.argv[1])), int(sys.argv[2]))"
)
# In a process of its own as well: what was imported before it is not what is installed after.
INSTALLER = "import sys; from kaggle_manager.trainer.packages import main; main(sys.argv[1], sys.argv[2])"
# What floating-point results depend on; the bundle's own, which needs the standard library only.
ARITHMETIC = "kaggle_manager/system/arithmetic.py"
RESULT_FILE, TREE_FOLDER = "session_result.json", "training_tree"
RESULT_SCHEMA, LARGEST_RESULT_BYTES = 4, 4_000_000
CRASHED, REFUSED = 1, 3
# Of the files that a platform lists, so many may be left.
LEFT_SHARE = 0.9
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
# In characters; the event is one line of the log.
LONGEST_EVENT_REASON = 300
# In bytes, of what the trainer prints in a session: kept from its beginning as it comes, and from its end. Events have
# room of their own: a session of 12 h writes about 2 MB of them. A longer line is taken in parts.
HEAD_OF_LOG, TAIL_OF_LOG, EVENTS_IN_LOG, LONGEST_LINE = 4_000_000, 1_000_000, 16_000_000, 64_000
# A process that the user's code left behind may hold the trainer's output open; it is not waited for longer.
REST_OF_LOG_S = 5.0
# So often it is looked whether there is a result; and so long after it the trainer has ended, else it is ended. In
# between it makes room among what the user's code left, which may be gigabytes.
LOOK_S, AFTER_RESULT_S = 10.0, 300.0


def main(*, bundle_sha256: str, order: dict[str, Any], payload: str, beside: Sequence[dict[str, Any]] = ()) -> int:
    """Run one session and return the exit code of the kernel (see docs/architecture.md).

    Args:
        bundle_sha256: sha256 of the uncompressed code archive.
        order: the launch order.
        payload: the code archive, xz-compressed, in base 85.
        beside: launch orders of other runs that this session carries; they pin the same packages.
    """
    started = time.monotonic()
    stop = StopRequests()
    stop.listen()
    orders = [order, *beside]
    for each in orders:
        emit(each, "KM_BUNDLE", sha256=bundle_sha256)
        emit(each, "KM_SESSION", container=os.environ.get("KM_MACHINE_NAME", "unknown")[:200])
    try:
        archive = lzma.decompress(base64.b85decode("".join(payload.split())))
    except (ValueError, lzma.LZMAError):
        archive = b""
    if hashlib.sha256(archive).hexdigest() != bundle_sha256:
        why = "the code in this kernel is not the code that was built"
        return give_up(orders, "refused", why, REFUSED, error="BundleDamaged")
    with contextlib.ExitStack() as folders:
        codes = [unpack(archive, folders) for _ in orders]  # a folder for each, in which the user's code may write
        return carry_out(orders, codes, started, stop)


def carry_out(orders: Sequence[dict[str, Any]], codes: Sequence[Path], started: float, stop: StopRequests) -> int:
    """Install what the orders need, and train each in a lane of its own; the exit code of the kernel."""
    order = orders[0]
    if order.get("packages") and (problem := install(codes[0], write_order(codes[0], order))):
        if problem["refused"]:
            return give_up(orders, "refused", problem["reason"], REFUSED, error="PackagesRefused")
        if problem["unfit"]:
            return give_up(orders, "crashed", problem["reason"], CRASHED, error="WheelsUnfit")
        return give_up(orders, "crashed", problem["reason"], CRASHED, error="InstallFailed")

    elapsed = time.monotonic() - started
    say(f"ready to train after {elapsed:.1f} s")
    if len(orders) == 1:
        return train(codes[0], order, elapsed, stop, {})
    exit_codes = [CRASHED] * len(orders)
    gpus = visible_gpus()

    def carry(lane: int) -> None:
        own_cores(lane, len(orders))
        own_gpu = {"CUDA_VISIBLE_DEVICES": gpus[lane % len(gpus)]} if len(gpus) > 1 else {}
        exit_codes[lane] = train(codes[lane], orders[lane], elapsed, stop, own_gpu)

    lanes = [threading.Thread(target=carry, args=(lane,)) for lane in range(len(orders))]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        while thread.is_alive():
            thread.join(LOOK_S)
    hold_signals(True)
    return max(exit_codes)


def unpack(archive: bytes, folders: contextlib.ExitStack) -> Path:
    """The code in a folder that goes with `folders`: where sessions share a machine, another one is next."""
    code = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="km_code_", ignore_cleanup_errors=True)))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(code, filter="data")
    return code


def write_order(code: Path, order: dict[str, Any]) -> Path:
    file = code / "launch_order.json"
    file.write_text(json.dumps(order), encoding="utf-8")
    return file


def folder_of(order: dict[str, Any]) -> Path:
    """Where the session of this order leaves its outputs."""
    return Path(os.environ["KM_WORKING_DIR"]) / str(order.get("lane", ""))


def own_cores(lane: int, lanes: int) -> None:
    """Let this thread, and what it starts, run on its share of the cores; where there are too few, on all."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if share := cores[lane * len(cores) // lanes : (lane + 1) * len(cores) // lanes]:
            os.sched_setaffinity(0, share)


def visible_gpus() -> list[str]:
    """What CUDA calls the GPUs that this session may use."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(("nvidia-smi", "-L"), capture_output=True, text=True, timeout=60, check=True)
        return [str(number) for number in range(listed.stdout.count("GPU "))]
    return []


def train(code: Path, order: dict[str, Any], elapsed: float, stop: StopRequests, environment: dict[str, str]) -> int:
    """Carry out one order with a trainer of its own, and return its exit code.

    Args:
        elapsed: seconds that it took to come here.
        environment: variables of its trainer.
    """
    working = folder_of(order)
    environment = {**environment, "KM_WORKING_DIR": str(working)}
    # This clock is the same in every process of a machine.
    order = {**order, "elapsed_s": round(elapsed, 3), "trainer_started": time.monotonic()}
    if order.get("deadline_s") is not None:
        order["deadline_s"] -= elapsed
    order_file = write_order(code, order)
    result = working / RESULT_FILE
    log = Log(session_tag(order), log_prefix(order))
    exit_code = run_trainer(code, order_file, log, stop, lambda: bool(result_of(result, order)), environment)
    hold_signals(True)  # what is left to do ends by itself; an interpreter that ends has no handlers any more
    written = result_of(result, order)
    # A process that was ended, or died, while it was leaving, has a code that says nothing of the training.
    if isinstance(said := written.get("exit_code"), int):
        exit_code = said
    listed = order.get("output_files")
    if written and (listed is None or sum(len(names) for _, _, names in os.walk(working)) <= LEFT_SHARE * listed):
        return exit_code
    # What the trainer had saved before it died is worth as much as ever, and the user's code may have left files until
    # its process ended. If this fails, the manifests say what was saved.
    run_of_bundle(code, EPILOGUE, order_file, str(exit_code), environment=environment).wait()
    if result_of(result, order):
        return exit_code
    if not (working / TREE_FOLDER).exists():
        return give_up([order], "crashed", f"the trainer ended with code {exit_code}", exit_code or CRASHED)
    return exit_code or CRASHED


class StopRequests:
    """Requests to stop are the trainer's to answer: it saves and leaves, and this process only waits for it.

    One that comes before the trainer runs is handed on when it does. A signal that was ignored stays so (`nohup`).
    """

    def __init__(self) -> None:
        self._trainers: list[subprocess.Popen[bytes]] = []
        self._asked: int | None = None

    def listen(self) -> None:
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hand_on)

    def give_to(self, trainer: subprocess.Popen[bytes]) -> None:
        self._trainers.append(trainer)
        if self._asked is not None:
            trainer.send_signal(self._asked)

    def _hand_on(self, number: int, _frame: Any) -> None:
        self._asked = number
        for trainer in self._trainers:
            trainer.send_signal(number)


def say(text: str) -> None:
    # One call: of `print`, an unbuffered output makes two, and what another process prints may come between them.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit(order: dict[str, Any], kind: str, **values: Any) -> None:
    """Write one event of this session; see kaggle_manager/protocol/events.py."""
    sys.stdout.write(f"\n{log_prefix(order)}{kind} {json.dumps({'session': session_tag(order), **values})}\n")
    sys.stdout.flush()


def session_tag(order: dict[str, Any]) -> str:
    return f"{str(order.get('run_id', ''))[:8]}/{order.get('generation')}"


def log_prefix(order: dict[str, Any]) -> str:
    """What each line of a lane begins with; see kaggle_manager/protocol/lanes.py."""
    return f"{order['lane']}| " if order.get("lane") else ""


def install(code: Path, order_file: Path) -> dict[str, Any]:
    """Install what the section pins and this image lacks; what went wrong, as `packages.main` says it, else {}."""
    problem = order_file.with_name("install_problem.json")
    exit_code = run_of_bundle(code, INSTALLER, order_file, str(problem)).wait()
    if problem.exists():
        said: dict[str, Any] = json.loads(problem.read_bytes())
        return said
    if not exit_code:
        return {}
    return {"reason": f"installing packages ended with code {exit_code}", "refused": False, "unfit": False}


class Log:
    """What the trainer prints, within bounds: its head as it comes, then the session's events alone, its tail last.

    Args:
        tag: by which the session's events are known.
        prefix: of each line, which is then whole; "" writes everything as it comes.
    """

    _writing = threading.Lock()  # lanes write to one log

    def __init__(self, tag: str, prefix: str = "") -> None:
        self._prefix = prefix.encode()
        self._event = re.compile(rb'KM_[A-Z]+ \{"session": ' + re.escape(json.dumps(tag).encode()))
        self._lock = threading.Lock()
        self._head_left, self._events_left, self._tail_left = HEAD_OF_LOG, EVENTS_IN_LOG, TAIL_OF_LOG
        self._tail: deque[tuple[int, bytes]] = deque()
        self._cut = False
        self._left_out = self._left_out_bytes = 0

    def copy(self, pipe: IO[bytes], to: int) -> None:
        """Read `pipe` to its end, however little of it is written to the file descriptor `to`."""
        begun, begun_in_log = b"", 0  # a line without its end; how much more of it may follow where it was begun
        with pipe:
            for chunk in self._chunks(pipe):
                with self._lock:
                    if self._head_left > 0:
                        self._head_left -= len(chunk)
                        self._write(to, chunk)
                        begun_in_log = 0 if chunk.endswith(b"\n") else LONGEST_LINE
                        continue
                    if begun_in_log > 0:
                        end = chunk.find(b"\n") + 1
                        self._write(to, chunk[: end or len(chunk)])
                        begun_in_log = 0 if end else begun_in_log - len(chunk)
                        chunk = chunk[end:] if end else b""
                    *lines, begun = (begun + chunk).split(b"\n")
                    if len(begun) > LONGEST_LINE:
                        lines, begun = [*lines, begun], b""
                    for line in lines:
                        self._keep(to, line)
        with self._lock:
            self._keep(to, begun)

    def _chunks(self, pipe: IO[bytes]) -> Iterator[bytes]:
        """What comes through `pipe`: as it comes, or in whole lines that have a prefix."""
        begun = b""
        while chunk := os.read(pipe.fileno(), LONGEST_LINE):
            if not self._prefix:
                yield chunk
                continue
            *lines, begun = (begun + chunk).split(b"\n")
            if len(begun) > LONGEST_LINE:
                lines, begun = [*lines, begun], b""
            if lines:
                yield b"".join(b"%s%s\n" % (self._prefix, line) for line in lines)
        if begun:
            yield b"%s%s\n" % (self._prefix, begun)

    def _keep(self, to: int, line: bytes) -> None:
        if not line:
            return
        if not self._cut:
            self._cut = True
            self._say(to, f"beyond {HEAD_OF_LOG:,} bytes only events are shown, and at the end the last lines")
        if len(line) <= self._events_left and self._event.search(line):
            self._events_left -= len(line)
            self._write(to, b"\n%s\n" % line)
            return
        self._tail.append((to, line))
        self._tail_left -= len(line)
        while self._tail_left < 0:
            _, oldest = self._tail.popleft()
            self._tail_left += len(oldest)
            self._left_out, self._left_out_bytes = self._left_out + 1, self._left_out_bytes + len(oldest)

    def end(self) -> None:
        """Say what was left out, and write the tail."""
        with self._lock:
            if self._left_out:
                self._say(1, f"{self._left_out:,} lines, {self._left_out_bytes:,} bytes, are left out here")
            for to, line in self._tail:
                self._write(to, line + b"\n")

    def _say(self, to: int, what: str) -> None:
        self._write(to, b"\n%s%s\n" % (self._prefix, f"[… the log of this session is long: {what} …]".encode()))

    def _write(self, to: int, data: bytes) -> None:
        # A log that nobody takes any more must not end a training.
        with self._writing, contextlib.suppress(OSError):
            while data:
                data = data[os.write(to, data) :]


def run_of_bundle(
    code: Path,
    program: str,
    order_file: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own: signals of a terminal reach it from here alone, and once."""
    # From the start of its process: what Python itself loads on its way, the user's `sitecustomize`, may load NumPy.
    environment = {**os.environ, **(environment or {})}
    if (code / ARITHMETIC).is_file():
        environment = runpy.run_path(str(code / ARITHMETIC))["pinned"](environment)
    environment |= {"PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-u", "-c", program, str(order_file), *arguments]
    return subprocess.Popen(command, env=environment, cwd=code, process_group=0, **options)


def run_trainer(
    code: Path,
    order_file: Path,
    log: Log,
    stop: StopRequests,
    has_result: Callable[[], bool],
    environment: dict[str, str],
) -> int:
    """Run the trainer to its end, and end what the user's code left behind; return its exit code."""
    sys.stdout.flush()
    # The trainer inherits this, and has handlers only after the seconds of an import; threads never get a signal.
    hold_signals(True)
    trainer = run_of_bundle(
        code,
        TRAINER,
        order_file,
        str(LAST_WORDS_S),
        environment=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert trainer.stdout is not None
    assert trainer.stderr is not None
    copies = [
        threading.Thread(target=log.copy, args=(pipe, to), daemon=True)
        for pipe, to in ((trainer.stdout, 1), (trainer.stderr, 2))
    ]
    ended = threading.Event()

    def end_overdue() -> None:
        while not ended.wait(LOOK_S):
            if has_result() and not ended.wait(AFTER_RESULT_S):
                say("the trainer has written its result and does not end: it is ended")
                end_group(trainer)
                return

    for thread in (*copies, threading.Thread(target=end_overdue, daemon=True)):
        thread.start()
    hold_signals(False)
    stop.give_to(trainer)
    exit_code = trainer.wait()
    ended.set()
    for copy in copies:
        copy.join(REST_OF_LOG_S)
    end_group(trainer)
    log.end()
    return exit_code


def end_group(trainer: subprocess.Popen[bytes]) -> None:
    """End the trainer, and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(trainer.pid, signal.SIGKILL)
    else:
        trainer.kill()


def hold_signals(hold: bool) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK, STOP_SIGNALS)


def result_of(path: Path, order: dict[str, Any]) -> dict[str, Any]:
    """The result of this session, {} for none: by what it says of itself, for the user's code may use any name."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_RESULT_BYTES:
            return {}
        result = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(result, dict):
        return {}
    own = order.get("run_id"), order.get("generation"), order.get("bundle_sha256")
    return result if (result.get("run_id"), result.get("generation"), result.get("bundle_sha256")) == own else {}


def give_up(orders: Sequence[dict[str, Any]], outcome: str, reason: str, exit_code: int, *, error: str = "") -> int:
    """Write the results of sessions whose trainer was never started; `error` names the cause where the log cannot."""
    for order in orders:
        result: dict[str, Any] = {
            "schema": RESULT_SCHEMA,
            "outcome": outcome,
            "reason": reason,
            "error": {"type": error, "message": reason} if error else None,
            "exit_code": exit_code,
            "run_id": order.get("run_id"),
            "generation": order.get("generation"),
            "bundle_sha256": order.get("bundle_sha256"),
            "python": sys.version.partition(" ")[0],
        }
        working = folder_of(order)
        working.mkdir(parents=True, exist_ok=True)
        unfinished = working / f".{RESULT_FILE}"
        unfinished.write_text(json.dumps(result), encoding="utf-8")
        unfinished.replace(working / RESULT_FILE)
        emit(
            order,
            "KM_RESULT",
            run_id=order.get("run_id"),
            generation=order.get("generation"),
            bundle_sha256=order.get("bundle_sha256"),
            outcome=outcome,
            reason=reason[:LONGEST_EVENT_REASON],
            exit_code=exit_code,
            step=None,
            output_files=0,
        )
    sys.stderr.write(f"{reason}\n")
    sys.stderr.flush()
    return exit_code
