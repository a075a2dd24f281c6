"""Output folders as a user's code may leave them: one session each, on the local Kaggle, and no step may be lost.

Each is drawn by `tests/support/hostile_outputs.py`: files that grow, vanish or have any name, links, pipes, sockets,
thousands of files, what looks like the trainer's own, and five ends of a session. The real bundle runs on the local
Kaggle with a trainer that writes a real tree; the real manager downloads and restores what it left over HTTP.

    python scripts/benchmarks/hostile_outputs.py --count 200
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/support"))

from hostile_outputs import HostileRun, Spec, specs
from small_project import Bench, installed, make_project

from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.sessions import bundle, reconcile, watch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    watch.FIRST_POLL_S, reconcile.LOOK_EVERY_S = 0.1, 0.0
    with tempfile.TemporaryDirectory(prefix="km_hostile_") as name:
        folder = Path(name)
        (folder / "kaggle").mkdir()
        (folder / "kaggle/limits.json").write_text('{"ingestion_s": 0.0, "gpu_week_s": 1e9}')
        server = ensure_running(folder / "kaggle", idle_exit_s=900)
        bundle.INSTALLED = installed(folder / "project")
        run = HostileRun(Bench(make_project(folder / "project"), folder / "work", server))
        try:
            run.begin()
            return survey(run, options.count, options.seed)
        finally:
            stop(folder / "kaggle")


def survey(run: HostileRun, count: int, first: int) -> int:
    """Run `count` sessions and print what was in them."""
    tried: Counter[str] = Counter()
    lost: list[tuple[Spec, AssertionError]] = []
    began = time.monotonic()

    @seed(first)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(spec=specs)
    def each(spec: Spec) -> None:
        acts = [act[0] for when in ("before", "during", "at exit") for act in spec[when]]
        tried.update({f"end: {spec['end']}", "sessions", *acts})
        try:
            run.survives(spec)
        except AssertionError as error:
            lost.append((spec, error))
            print(f"LOST {spec}\n{error}", flush=True)

    each()
    print(f"{'in the session':<24}sessions")
    for name, number in sorted(tried.items()):
        print(f"{name:<24}{number:>8}")
    print(f"steps lost in {len(lost)} of {tried['sessions']} sessions; {time.monotonic() - began:.0f} s")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
