"""Our download against `kaggle kernels output`, of the same session on the same local Kaggle, in one run.

Two sessions: many small files, and one large file. The small ones twice: over the loopback as it is, and with every
answer later by a network's round trip. Each side runs as a process of its own, start included, in turns; a manager has
started long before, so what ours takes without its start is printed too.
Ours verifies the sha256 of every file; the official command verifies nothing. Prints seconds, peak memory and ratios.

    python scripts/benchmarks/transfer.py                          200 files of 20 kB, one file of 2 GB
    python scripts/benchmarks/transfer.py --large-mb 300 --rounds 5
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.kaggle_api.client import KaggleClient, KernelPush, KernelVersion
from kaggle_manager.kaggle_api.credentials import Credentials
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop

KERNEL = """
import os, random
from pathlib import Path
working = Path(os.environ.get("KAGGLE_WORKING_DIR", "/kaggle/working"))
block = random.Random(1).randbytes(1_000_000)
for number in range(FILES):
    with (working / f"{number:04}.bin").open("wb") as stream:
        left = SIZE
        while left:
            left -= stream.write(block[: min(left, len(block))])
"""
OURS = """
import json, sys, time
from pathlib import Path
from kaggle_manager.kaggle_api.client import KaggleClient, KernelVersion
from kaggle_manager.kaggle_api.credentials import Credentials
from kaggle_manager.kaggle_api.outputs import ExpectedFile, download_outputs
order = json.load(sys.stdin)
token = Credentials("token", None, order["token"], "the benchmark")
with KaggleClient(token, endpoint=order["url"]) as client:
    files = [ExpectedFile(*entry) for entry in order["files"]]
    begun = time.monotonic()
    download_outputs(client, KernelVersion(*order["version"]), files, Path(order["folder"]))
print(time.monotonic() - begun)
"""


@dataclass(frozen=True)
class Taken:
    """What one download took: wall seconds, CPU seconds, peak memory in MB; what its process said."""

    seconds: float
    cpu_s: float
    peak_mb: float
    said: str


def measured(command: list[str], given: str, environment: dict[str, str]) -> Taken:
    """Run a command to its end."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment)
        assert process.stdin is not None
        process.stdin.write(given.encode())
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begun
        said.seek(0)
        text = said.read().decode()
        if process.returncode != 0:
            raise SystemExit(f"{command[:3]} failed: {text[-2000:]}")
    in_bytes = 1 if sys.platform == "darwin" else 1024
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * in_bytes / 1e6, text)


def session(client: KaggleClient, slug: str, files: int, size: int) -> KernelVersion:
    """A finished session that left so many files of this size."""
    source = KERNEL.replace("FILES", str(files)).replace("SIZE", str(size))
    version = client.push_kernel(KernelPush(client.whoami(), slug, source)).version
    while not (status := client.kernel_status(version)).state.is_terminal:
        time.sleep(0.1)
    if status.failure_message:
        raise SystemExit(status.failure_message)
    return version


class Contest:
    """Both sides of one comparison."""

    def __init__(self, server: ServerInfo, version: KernelVersion, scratch: Path) -> None:
        self._server, self._version, self._scratch = server, version, scratch
        working = max((server.root / "sessions").iterdir()) / "working"  # of the newest session
        self._truth = [
            (path.name, path.stat().st_size, hashlib.file_digest(path.open("rb"), "sha256").hexdigest())
            for path in sorted(working.iterdir())
        ]

    def ours(self) -> Taken:
        server, folder = self._server, self._fresh()
        version = [self._version.owner, self._version.slug, self._version.version]
        order = {
            "token": server.token,
            "url": server.url,
            "files": self._truth,
            "version": version,
            "folder": str(folder),
        }
        taken = measured([sys.executable, "-c", OURS], json.dumps(order), dict(os.environ))
        self._check(folder)
        return taken

    def theirs(self) -> Taken:
        folder, home = self._fresh(), self._scratch / "home"
        home.mkdir(exist_ok=True)
        key = json.loads((self._server.root / "account.json").read_text())["key"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self._server.url,
            "KAGGLE_USERNAME": self._server.username,
            "KAGGLE_KEY": key,
        }
        command = str(Path(sys.executable).with_name("kaggle"))
        kernel = f"{self._version.owner}/{self._version.slug}"
        taken = measured([command, "kernels", "output", kernel, "-p", str(folder)], "", environment)
        self._check(folder)
        return taken

    def _fresh(self) -> Path:
        folder = self._scratch / "out"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _check(self, folder: Path) -> None:
        """Every file is there in its size; the side that checks hashes did so itself, on the clock."""
        for name, size, _ in self._truth:
            if (folder / name).stat().st_size != size:
                raise SystemExit(f"{name} has the wrong size")


def compare(title: str, contest: Contest, rounds: int) -> tuple[float, float]:
    """Both sides in turns; prints the medians; returns (ratio of wall seconds, our peak memory in MB)."""
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(contest.theirs())
        ours.append(contest.ours())

    def middle(taken: list[Taken], what: str) -> float:
        return statistics.median(getattr(one, what) for one in taken)

    print(f"\n{title}, {rounds} rounds, medians")
    for side, taken in (("kaggle kernels output", theirs), ("ours, hashes verified", ours)):
        spread = f"{min(one.seconds for one in taken):.2f}–{max(one.seconds for one in taken):.2f}"
        print(
            f"  {side:22} {middle(taken, 'seconds'):6.2f} s ({spread})   CPU {middle(taken, 'cpu_s'):5.2f} s"
            f"   peak {middle(taken, 'peak_mb'):6.0f} MB"
        )
    ratio = middle(theirs, "seconds") / middle(ours, "seconds")
    alone_s = statistics.median(float(one.said) for one in ours)
    print(f"  ours is {ratio:.2f} x as fast; inside a manager that runs already {alone_s:.2f} s,", end="")
    print(f" {middle(theirs, 'seconds') / alone_s:.2f} x")
    return ratio, middle(ours, "peak_mb")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=200, help="how many small files")
    parser.add_argument("--small-kb", type=int, default=20, help="size of a small file")
    parser.add_argument("--large-mb", type=int, default=2000, help="size of the large file")
    parser.add_argument("--round-trip-ms", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder when absent")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="transfer-", dir=given.folder) as folder:
        server = ensure_running(Path(folder) / "kaggle", idle_exit_s=3600)
        token = Credentials("token", None, server.token, "the benchmark")
        try:
            with KaggleClient(token, endpoint=server.url) as client:
                small = session(client, "km-small-files", given.files, given.small_kb * 1000)
                contest = Contest(server, small, Path(folder))
                title = f"{given.files} files of {given.small_kb} kB"
                small_ratio, small_mb = compare(title, contest, given.rounds)
                stop(server.root)
                plan = {"fault": [{"kind": "delay", "seconds": given.round_trip_ms / 1000}]}
                (Path(folder) / "far.json").write_text(json.dumps(plan))
                ensure_running(server.root, faults=Path(folder) / "far.json", idle_exit_s=3600)
                far_ratio, _ = compare(f"{title}, {given.round_trip_ms} ms away", contest, given.rounds)
                stop(server.root)
                ensure_running(server.root, idle_exit_s=3600)
                large = session(client, "km-large-file", 1, given.large_mb * 1_000_000)
                contest = Contest(server, large, Path(folder))
                large_ratio, large_mb = compare(f"1 file of {given.large_mb} MB", contest, given.rounds)
        finally:
            stop(server.root)
    print(f"\nmany files: {small_ratio:.2f} x; {given.round_trip_ms} ms away {far_ratio:.2f} x")
    print(f"one large file: {large_ratio:.2f} x; our peak memory {small_mb:.0f} and {large_mb:.0f} MB")
    return 0 if far_ratio >= 2 and large_ratio >= 1 else 1  # Kaggle is not on the loopback


if __name__ == "__main__":
    sys.exit(main())
