"""First code that runs in a kernel: names the code, unpacks it, installs what the image lacks, hands over.

`kaggle_manager.sessions.bundle` puts this file, unchanged, at the head of every kernel script and calls `main` at its
end; so it uses the standard library only and imports nothing of the project. What it repeats of
`kaggle_manager.protocol` is held to it by tests/unit/protocol/test_entry_literals.py. It promises that the bundle's
hash is the first thing in the log, that code whose hash differs never runs, and that this session's
`session_result.json` exists at the end even when the trainer died before it could write one, or the user's code wrote
another in its place. It never writes code into the output folder.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

# Run in a process of its own: the trainer may start worker processes that import the main module again.
TRAINER = "import json, sys; from kaggle_manager.trainer.main import run; sys.exit(run(json.load(open(sys.argv[1]))))"
# What this file cannot list itself is listed by the code of the bundle, in a process that has run none of the user's.
EPILOGUE = (
    "import json, sys; from kaggle_manager.trainer.runtime.session_files import write_result_of_the_dead; "
    "write_result_of_the_dead(json.load(open(sys.argv[1])), int(sys.argv[2]))"
)
RESULT_FILE, TREE_FOLDER = "session_result.json", "training_tree"
RESULT_SCHEMA, LARGEST_RESULT_BYTES = 3, 4_000_000
CRASHED, REFUSED = 1, 3
# In characters; the event is one line of the log.
LONGEST_EVENT_REASON = 300


def main(*, bundle_sha256: str, order: dict[str, Any], payload: str) -> int:
    """Run one session and return the exit code of the kernel (see docs/architecture.md).

    Args:
        bundle_sha256: sha256 of the uncompressed code archive.
        order: the launch order.
        payload: the code archive, xz-compressed, in base 85.
    """
    started = time.monotonic()
    emit(order, "KM_BUNDLE", sha256=bundle_sha256)
    emit(order, "KM_SESSION", container=os.environ.get("KAGGLE_CONTAINER_NAME", "unknown")[:200])
    working = Path(os.environ.get("KAGGLE_WORKING_DIR", "/kaggle/working"))
    try:
        archive = lzma.decompress(base64.b85decode("".join(payload.split())))
    except (ValueError, lzma.LZMAError):
        archive = b""
    if hashlib.sha256(archive).hexdigest() != bundle_sha256:
        why = "the code in this kernel is not the code that was built"
        return give_up(working, order, "refused", why, REFUSED, error="BundleDamaged")
    code = Path(tempfile.mkdtemp(prefix="km_code_"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(code, filter="data")
    if problem := install_missing(order.get("packages", [])):
        return give_up(working, order, "crashed", problem, CRASHED, error="InstallFailed")

    elapsed = time.monotonic() - started
    # This clock is the same in every process of a machine.
    order = {**order, "elapsed_s": round(elapsed, 3), "trainer_started": time.monotonic()}
    if order.get("deadline_s") is not None:
        order["deadline_s"] -= elapsed
    order_file = code / "launch_order.json"
    order_file.write_text(json.dumps(order), encoding="utf-8")
    say(f"ready to train after {elapsed:.1f} s")
    exit_code = run_trainer(code, order_file)
    if is_result_of(working / RESULT_FILE, order):
        return exit_code
    # What the trainer had saved before it died is worth as much as ever. If this fails, its manifests say what that is.
    run_of_bundle(code, EPILOGUE, order_file, str(exit_code)).wait()
    if not is_result_of(working / RESULT_FILE, order) and not (working / TREE_FOLDER).exists():
        return give_up(working, order, "crashed", f"the trainer ended with code {exit_code}", exit_code or CRASHED)
    return exit_code or CRASHED


def say(text: str) -> None:
    print(text, flush=True)


def emit(order: dict[str, Any], kind: str, **values: Any) -> None:
    """Write one event of this session; see kaggle_manager/protocol/events.py."""
    tag = f"{str(order.get('run_id', ''))[:8]}/{order.get('generation')}"
    sys.stdout.write(f"\n{kind} {json.dumps({'session': tag, **values})}\n")
    sys.stdout.flush()


def install_missing(packages: list[str]) -> str:
    """Install the pinned packages (`name==version`) this image lacks; return what went wrong, or ''."""
    missing = [package for package in packages if not is_installed(package)]
    if not missing:
        return ""
    say(f"installing {', '.join(missing)}")
    started = time.monotonic()
    # Few retries: without internet pip would otherwise spend minutes of the session before saying so.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "2", "--timeout", "30", *missing]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        return (
            f"pip could not install {', '.join(missing)} (code {done.returncode}); "
            "a kernel has internet only when it is switched on and the account's phone number is verified"
        )
    say(f"installed in {time.monotonic() - started:.1f} s")
    return ""


def is_installed(package: str) -> bool:
    name, _, version = package.partition("==")
    try:
        # A build tag such as 1.0+cpu is the same release.
        return importlib.metadata.version(name).partition("+")[0] == version
    except importlib.metadata.PackageNotFoundError:
        return False


def run_of_bundle(code: Path, program: str, order_file: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-u", "-c", program, str(order_file), *arguments]
    return subprocess.Popen(command, env=environment, cwd=code)


def run_trainer(code: Path, order_file: Path) -> int:
    trainer = run_of_bundle(code, TRAINER, order_file)
    for name in ("SIGTERM", "SIGINT"):
        # A request to stop is the trainer's to answer: it saves and leaves; this process only waits for it.
        signal.signal(getattr(signal, name), lambda number, _frame: trainer.send_signal(number))
    return trainer.wait()


def is_result_of(path: Path, order: dict[str, Any]) -> bool:
    """Whether this is the result of this session: by what it says of itself, for the user's code may use any name."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_RESULT_BYTES:
            return False
        result = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(result, dict):
        return False
    own = order.get("run_id"), order.get("generation"), order.get("bundle_sha256")
    return (result.get("run_id"), result.get("generation"), result.get("bundle_sha256")) == own


def give_up(working: Path, order: dict[str, Any], outcome: str, reason: str, exit_code: int, *, error: str = "") -> int:
    """Write the result of a session whose trainer was never started; `error` names the cause where the log cannot."""
    result: dict[str, Any] = {
        "schema": RESULT_SCHEMA,
        "outcome": outcome,
        "reason": reason,
        "error": {"type": error, "message": reason} if error else None,
        "exit_code": exit_code,
        "run_id": order.get("run_id"),
        "generation": order.get("generation"),
        "bundle_sha256": order.get("bundle_sha256"),
    }
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
    print(reason, file=sys.stderr, flush=True)
    return exit_code
