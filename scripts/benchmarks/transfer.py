"""Our download against `kaggle kernels output`, of the same session on the same local Kaggle, in one run.

Two sessions: many small files, and one large file. The small ones twice: over the loopback as it is, and with every
answer later by a network's round trip. Each side runs in turns as a process of its own, start included, and says how
long its transfer alone took, which is what counts in a program that runs already: ours in `download_outputs`, the
official client's in `KaggleApi.kernels_output`. Ours verifies the sha256 of every file; the official client verifies
nothing. Then both meet every kind of damage, and what each takes for good is counted; then what an unchanged tree
saves.
Prints seconds, peak memory and ratios; ends with 1 when a promise is not kept.

    python scripts/benchmarks/transfer.py                          200 files of 20 kB, one file of 2 GB
    python scripts/benchmarks/transfer.py --large-mb 300 --rounds 5
"""

from __future__ import annotations

import argparse
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

from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.outputs import download_outputs
from kaggle_manager.platforms.local_files import take_what_is_here
from kaggle_manager.platforms.platform import ExpectedFile, SessionRef, SessionRequest
from kaggle_manager.system.files import sha256_of

KERNEL = """
import os, random
from pathlib import Path
working = Path(os.environ["KM_WORKING_DIR"])
block = random.Random(1).randbytes(1_000_000)
for number in range(FILES):
    with (working / f"{number:04}.bin").open("wb") as stream:
        left = SIZE - stream.write(number.to_bytes(8, "big"))  # no two files are alike
        while left:
            left -= stream.write(block[: min(left, len(block))])
"""
OURS = """
import json, sys, time
from pathlib import Path
from kaggle_manager.platforms.kaggle.client import KaggleClient, SessionRef
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import ExpectedFile
from kaggle_manager.platforms.kaggle.outputs import download_outputs
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
order = json.load(sys.stdin)
token = Credentials("token", None, order["token"], "the benchmark")
patience = RetryPolicy(attempts=3, base_s=0.05, cap_s=0.1) if order["hurry"] else RetryPolicy()
with KaggleClient(token, endpoint=order["url"], retry=patience) as client:
    files = [ExpectedFile(*entry) for entry in order["files"]]
    begun = time.monotonic()
    download_outputs(client, SessionRef(*order["version"]), files, Path(order["folder"]))
print(time.monotonic() - begun)
"""
# The official client as another program would call it: what its own command does, without the start of a process.
THEIRS_INSIDE = """
import contextlib, io, json, sys, time
order = json.load(sys.stdin)
with contextlib.redirect_stdout(io.StringIO()):
    from kaggle.api.kaggle_api_extended import KaggleApi
    api = KaggleApi()
    api.authenticate()
    begun = time.monotonic()
    api.kernels_output_cli(order["kernel"], path=order["folder"], quiet=True)
    took = time.monotonic() - begun
print(took)
"""
UPLOAD = """
import json, sys, time
from pathlib import Path
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.datasets import publish_dataset
order = json.load(sys.stdin)
with KaggleClient(Credentials("token", None, order["token"], "the benchmark"), endpoint=order["url"]) as client:
    begun = time.monotonic()
    publish_dataset(client, owner=order["owner"], slug="km-upload", files=[Path(order["file"])], notes="a benchmark")
print(time.monotonic() - begun)
"""
DAMAGE: dict[str, dict[str, object]] = {
    "half of the bytes": {"kind": "truncate", "length": "kept"},
    "half of the bytes, no length": {"kind": "truncate", "length": "none"},
    "one flipped bit": {"kind": "flip"},
    "another file's bytes": {"kind": "swap"},
    "a web page instead": {"kind": "refuse", "status": 200, "body": "html"},
    "503 and a web page": {"kind": "refuse", "status": 503, "body": "html"},
    "an address that has run out": {"kind": "expired_link"},
}


@dataclass(frozen=True)
class Taken:
    """What one transfer took: wall seconds, CPU seconds, peak memory in MB; what its process said; its exit code."""

    seconds: float
    cpu_s: float
    peak_mb: float
    said: str
    code: int = 0


def measured(command: list[str], given: str, environment: dict[str, str], *, may_fail: bool = False) -> Taken:
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
        if process.returncode != 0 and not may_fail:
            raise SystemExit(f"{command[:3]} failed: {text[-2000:]}")
    in_bytes = 1 if sys.platform == "darwin" else 1024
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * in_bytes / 1e6, text, process.returncode)


def session(client: KaggleClient, slug: str, files: int, size: int) -> SessionRef:
    """A finished session that left so many files of this size."""
    source = KERNEL.replace("FILES", str(files)).replace("SIZE", str(size))
    version = client.start(SessionRequest(client.whoami(), slug, source)).version
    while not (status := client.status(version)).state.is_terminal:
        time.sleep(0.1)
    if status.failure_message:
        raise SystemExit(status.failure_message)
    return version


class Contest:
    """Both sides of one comparison."""

    def __init__(self, server: ServerInfo, version: SessionRef, scratch: Path) -> None:
        self._server, self._version, self._scratch = server, version, scratch
        working = max((server.root / "sessions").iterdir()) / "working"  # of the newest session
        self._truth = [(path.name, path.stat().st_size, sha256_of(path)) for path in sorted(working.iterdir())]

    def ours(self, *, damaged: bool = False) -> Taken:
        folder = self._fresh()
        order = {
            "token": self._server.token,
            "url": self._server.url,
            "files": self._truth,
            "version": [self._version.owner, self._version.slug, self._version.id],
            "folder": str(folder),
            "hurry": damaged,
        }
        taken = measured([sys.executable, "-c", OURS], json.dumps(order), dict(os.environ), may_fail=damaged)
        return taken if damaged else self._checked(folder, taken)

    def theirs(self, *, damaged: bool = False) -> Taken:
        folder = self._fresh()
        command = [str(Path(sys.executable).with_name("kaggle")), "kernels", "output", self._kernel, "-p", str(folder)]
        taken = measured(command, "", self._their_environment(), may_fail=damaged)
        return taken if damaged else self._checked(folder, taken)

    def theirs_inside(self) -> Taken:
        folder = self._fresh()
        order = json.dumps({"kernel": self._kernel, "folder": str(folder)})
        taken = measured([sys.executable, "-c", THEIRS_INSIDE], order, self._their_environment())
        return self._checked(folder, taken)

    def taken_for_good(self) -> int:
        """How many files have their final name and other bytes than the session left."""
        folder = self._scratch / "out"
        kept = [(folder / name, sha256) for name, _, sha256 in self._truth if (folder / name).is_file()]
        return sum(sha256_of(path) != sha256 for path, sha256 in kept)

    @property
    def truth(self) -> list[tuple[str, int, str]]:
        return self._truth

    @property
    def _kernel(self) -> str:
        return f"{self._version.owner}/{self._version.slug}"

    def _their_environment(self) -> dict[str, str]:
        home = self._scratch / "home"
        home.mkdir(exist_ok=True)
        key = json.loads((self._server.root / "account.json").read_text())["key"]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self._server.url,
            "KAGGLE_USERNAME": self._server.username,
            "KAGGLE_KEY": key,
        }

    def _fresh(self) -> Path:
        folder = self._scratch / "out"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _checked(self, folder: Path, taken: Taken) -> Taken:
        """Every file is there in its size; the side that checks hashes did so itself, on the clock."""
        for name, size, _ in self._truth:
            if (folder / name).stat().st_size != size:
                raise SystemExit(f"{name} has the wrong size")
        return taken


def middle(taken: list[Taken], what: str) -> float:
    return statistics.median(getattr(one, what) for one in taken)


def compare(title: str, contest: Contest, rounds: int) -> tuple[float, float, float]:
    """Both sides in turns; prints the medians.

    Returns (ratio of wall seconds of processes, ratio inside programs that run already, our peak memory in MB).
    """
    ours, theirs, theirs_inside = [], [], []
    for _ in range(rounds):
        theirs.append(contest.theirs())
        ours.append(contest.ours())
        theirs_inside.append(contest.theirs_inside())
    inside = {
        "kaggle kernels output": statistics.median(float(one.said.split()[-1]) for one in theirs_inside),
        "ours, hashes verified": statistics.median(float(one.said) for one in ours),
    }
    print(f"\n{title}, {rounds} rounds, medians")
    for side, taken in (("kaggle kernels output", theirs), ("ours, hashes verified", ours)):
        spread = f"{min(one.seconds for one in taken):.2f}–{max(one.seconds for one in taken):.2f}"
        print(
            f"  {side:22} process {middle(taken, 'seconds'):6.2f} s ({spread})   inside {inside[side]:6.2f} s"
            f"   CPU {middle(taken, 'cpu_s'):5.2f} s   peak {middle(taken, 'peak_mb'):6.0f} MB"
        )
    as_process = middle(theirs, "seconds") / middle(ours, "seconds")
    as_library = inside["kaggle kernels output"] / inside["ours, hashes verified"]
    print(f"  ours is {as_process:.2f} x as fast as a process, {as_library:.2f} x inside a program that runs already")
    return as_process, as_library, middle(ours, "peak_mb")


def meet_damage(server: ServerInfo, contest: Contest, folder: Path) -> int:
    """Both sides under every kind of damage, which lasts; returns how many wrong files ours took for good."""
    accepted = 0
    print(f"\nwrong bytes that last, {len(contest.truth)} files: how many are kept under their final name, exit code")
    for case, fault in DAMAGE.items():
        plan = {"seed": 1, "fault": [fault | {"on": ["Download"]}]}
        (folder / "damage.json").write_text(json.dumps(plan))
        stop(server.root)
        ensure_running(server.root, faults=folder / "damage.json", idle_exit_s=3600)
        found = []
        for side in (contest.theirs, contest.ours):
            code = side(damaged=True).code
            found.append((contest.taken_for_good(), code))
        accepted += found[1][0] + (found[1][1] == 0)
        print(f"  {case:30} kaggle kernels output {found[0][0]} (exit {found[0][1]})   ours {found[1][0]} (refused)")
    stop(server.root)
    ensure_running(server.root, idle_exit_s=3600)
    return accepted


def upload(server: ServerInfo, owner: str, file: Path) -> None:
    """What publishing one large file takes."""
    order = {"token": server.token, "url": server.url, "owner": owner, "file": str(file)}
    taken = measured([sys.executable, "-c", UPLOAD], json.dumps(order), dict(os.environ))
    print(f"\nupload of {file.stat().st_size / 1e6:.0f} MB until it can be mounted: {float(taken.said):.2f} s,", end="")
    print(f" peak {taken.peak_mb:.0f} MB")


def unchanged_tree(client: KaggleClient, server: ServerInfo, folder: Path, segment_mb: int) -> None:
    """What the segments of a replay buffer that did not change save: 7 of 8."""
    version = session(client, "km-segments", 8, segment_mb * 1_000_000)
    truth = Contest(server, version, folder).truth
    files = [ExpectedFile(*entry) for entry in truth]
    local = folder / "tree"
    download_outputs(client, version, files, local)
    (local / truth[-1][0]).write_bytes(b"shorter than it is now")
    print(f"\na replay buffer of 8 segments of {segment_mb} MB, 7 of them unchanged in the local tree")
    for title, copies in (("all travels", {}), ("unchanged ones are copied", {f.name: local / f.name for f in files})):
        into = folder / f"downloaded{len(copies)}"
        begun = time.monotonic()
        found = take_what_is_here(files, into, copies=copies)
        download_outputs(client, version, found.missing, into)
        seconds = time.monotonic() - begun
        travelled = sum(file.size or 0 for file in found.missing)
        if any(sha256_of(into / name) != sha256 for name, _, sha256 in truth):
            raise SystemExit("a copied tree is not the one that was left")
        print(f"  {title:28} {travelled / 1e6:6.0f} MB over the network, {seconds:.2f} s on the loopback")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--files", type=int, default=200, help="how many small files")
    parser.add_argument("--small-kb", type=int, default=20, help="size of a small file")
    parser.add_argument("--large-mb", type=int, default=2000, help="size of the large file")
    parser.add_argument("--segment-mb", type=int, default=40, help="size of one of eight replay segments")
    parser.add_argument("--round-trip-ms", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder when absent")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="transfer-", dir=given.folder) as temporary:
        folder = Path(temporary)
        server = ensure_running(folder / "kaggle", idle_exit_s=3600)
        token = Credentials("token", None, server.token, "the benchmark")
        try:
            with KaggleClient(token, endpoint=server.url) as client:
                few = session(client, "km-few-files", 4, given.small_kb * 1000)
                accepted = meet_damage(server, Contest(server, few, folder), folder)
                small = session(client, "km-small-files", given.files, given.small_kb * 1000)
                contest = Contest(server, small, folder)
                title = f"{given.files} files of {given.small_kb} kB"
                near, near_inside, small_mb = compare(title, contest, given.rounds)
                stop(server.root)
                plan = {"fault": [{"kind": "delay", "seconds": given.round_trip_ms / 1000}]}
                (folder / "far.json").write_text(json.dumps(plan))
                ensure_running(server.root, faults=folder / "far.json", idle_exit_s=3600)
                far, far_inside, _ = compare(f"{title}, {given.round_trip_ms} ms away", contest, given.rounds)
                stop(server.root)
                ensure_running(server.root, idle_exit_s=3600)
                unchanged_tree(client, server, folder, given.segment_mb)
                large = session(client, "km-large-file", 1, given.large_mb * 1_000_000)
                contest = Contest(server, large, folder)
                big, big_inside, large_mb = compare(f"1 file of {given.large_mb} MB", contest, given.rounds)
                upload(server, client.whoami(), folder / "out" / contest.truth[0][0])
        finally:
            stop(server.root)
    print(f"\nmany files: {near:.2f} x as processes, {near_inside:.2f} x inside; ", end="")
    print(f"{given.round_trip_ms} ms away {far:.2f} x and {far_inside:.2f} x")
    print(f"one large file: {big:.2f} x and {big_inside:.2f} x; our peak memory {small_mb:.0f} and {large_mb:.0f} MB")
    print(f"damaged files that ours took for good: {accepted}")
    # Kaggle is not on the loopback: the round trips are part of the promise.
    return 0 if min(far, far_inside) >= 2 and min(big, big_inside) >= 1 and accepted == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
