"""What a preflight reports: its results as they come, and what every preflight is called with."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from types import FrameType

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.system import garbage
from kaggle_manager.trainer.runtime.as_in_session import try_out


@dataclass(frozen=True)
class CheckResult:
    """One promise: kept or not, and what was seen or what to look at.

    Attributes:
        line: what to write into section.toml, as `key = value`, where that would make it better.
        lane_bytes: memory that the training takes, where it was measured; 0 where it was not.
    """

    name: str
    ok: bool
    detail: str
    line: str = ""
    lane_bytes: int = 0


def report(check: Callable[[], Iterable[CheckResult]], *, as_json: bool) -> int:
    """Print the results of `check`; 0 when all hold, 1 when one does not, else the code of what kept it from trying."""
    results = []
    garbage.settle()
    try:
        with _sigterm_in_order():
            for result in check():
                results.append(result)
                try_out.tell(asdict(result))
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    ok = all(result.ok for result in results)
    if as_json:
        print(json.dumps({"schema": 1, "ok": ok, "checks": [asdict(result) for result in results]}, indent=2))
    else:
        for result in results:
            print(f"{'ok    ' if result.ok else 'FAILED'} {result.name}: {result.detail}")
    return 0 if ok else 1


@contextlib.contextmanager
def _sigterm_in_order() -> Iterator[None]:
    """SIGTERM is a SystemExit inside: the trainer that was started here ends, and its folder is removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every preflight is called with, also one that a section brings."""
    parser.add_argument("--scenario", nargs="+", default=[], help="default: all")
    parser.add_argument("--quick", action="store_true", help="without a training, which a quick run is itself")
    parser.add_argument("--evaluations", action="store_true", help="what they take, also with --quick")
    parser.add_argument("--thorough", action="store_true", help="longer looks at everything")
    parser.add_argument("--json", action="store_true")
