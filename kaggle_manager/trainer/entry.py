"""First code that runs in a kernel: names the code, unpacks it, installs what the image lacks, hands over.

`kaggle_manager.sessions.bundle` puts this file, unchanged, at the head of every kernel script and calls `main` at its
end; so it uses the standard library only and imports nothing of the project. What it repeats of
`kaggle_manager.protocol` is held to it by tests/unit/protocol/test_entry_literals.py. It promises that the bundle's
hash is the first thing in the log, that code whose hash differs never runs, and that `session_result.json` exists at
the end even when the trainer died before it could write one. It never writes code into the output folder.
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
RESULT_FILE, RESULT_SCHEMA = "session_result.json", 3
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
    if not (working / RESULT_FILE).exists():
        why = (
            f"the trainer's process ended with code {exit_code} before it wrote its result; its traceback is in the log"
        )
        return give_up(working, order, "crashed", why, exit_code or CRASHED)
    return exit_code


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


def run_trainer(code: Path, order_file: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    trainer = subprocess.Popen([sys.executable, "-u", "-c", TRAINER, str(order_file)], env=environment, cwd=code)
    for name in ("SIGTERM", "SIGINT"):
        # A request to stop is the trainer's to answer: it saves and leaves; this process only waits for it.
        signal.signal(getattr(signal, name), lambda number, _frame: trainer.send_signal(number))
    return trainer.wait()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_text(name: str) -> bool:
    """Whether a file name can be written in a result, and so be asked for."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def give_up(working: Path, order: dict[str, Any], outcome: str, reason: str, exit_code: int, *, error: str = "") -> int:
    """Write the result for a trainer that could not; `error` names its cause where the log cannot."""
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
    # What the trainer had saved before it died is worth as much as ever.
    files = [
        {"name": path.relative_to(working).as_posix(), "size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(working.rglob("*"))
        if path.is_file() and not path.is_symlink() and is_text(path.relative_to(working).as_posix())
    ]
    unfinished = working / f".{RESULT_FILE}"
    unfinished.write_text(json.dumps({**result, "files": files}), encoding="utf-8")
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
        output_files=len(files),
    )
    print(reason, file=sys.stderr, flush=True)
    return exit_code
