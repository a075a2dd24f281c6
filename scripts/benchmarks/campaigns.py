"""Simulated campaigns: the real manager on a virtual clock, under faults, kills, quota and want of room.

Each seed is one campaign (`tests/support/campaign.py`): a run drawn with its target, speed, limits and fault rates,
ticked as a schedule would until it is over, with the manager killed at random deeds. A campaign ends well when the run
is finished, or waits for the user and says what the user must do; anything else is a broken promise, and its seed is
printed.

    python scripts/benchmarks/campaigns.py --count 300                    print the table
    python scripts/benchmarks/campaigns.py --count 10000 --write          and keep it in docs/robustness_data.md
    python scripts/benchmarks/campaigns.py --only 4711                    one campaign, with all that was said
    python scripts/benchmarks/campaigns.py --count 10000 --keep FILE      goes on from FILE, where it writes each result
    python scripts/benchmarks/campaigns.py --sweeps --count 1000          sweeps of many trials instead of single runs
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from campaign import Result, run_campaign  # noqa: E402
from campaign_draw import draw  # noqa: E402
from campaign_stage import make_project  # noqa: E402
from kept_section import replace_section  # noqa: E402
from sweep_campaign import SweepResult, run_sweep  # noqa: E402
from sweep_draw import draw_sweep  # noqa: E402


@dataclass(frozen=True)
class Kind:
    """What is simulated: one run in a campaign, or a sweep. `name` marks its table in the document, under `title`."""

    name: str
    title: str
    draw: Callable[[int], Any]
    play: Callable[..., Any]
    result: type[Result]
    rows: Callable[[Sequence[Any]], Iterator[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1, help="the first seed; the others follow it")
    parser.add_argument("--only", type=int, help="run this seed alone, aloud")
    parser.add_argument("--share", default="1/1", help="k/n: every n-th seed from the k-th, for several processes")
    parser.add_argument(
        "--keep", type=Path, action="append", default=[], help="results so far; new ones go to the first"
    )
    parser.add_argument("--write", action="store_true", help="keep the table in docs/robustness_data.md")
    parser.add_argument("--report", action="store_true", help="run nothing: the table of what was kept")
    parser.add_argument("--sweeps", action="store_true", help="sweeps instead of single runs")
    options = parser.parse_args()
    kind = SWEEPS if options.sweeps else RUNS
    if options.only is not None:
        return aloud(kind, options.only)
    results = {result.seed: result for path in options.keep for result in kept(kind, path)}
    turn, of = map(int, options.share.split("/"))
    seeds = range(options.seed, options.seed + options.count)
    open_seeds = [seed for seed in seeds if seed not in results or not results[seed].is_well]  # a broken one anew
    missing = [seed for seed in open_seeds if seed % of == turn % of]
    for result in run(kind, missing if not options.report else [], options.keep[0] if options.keep else None):
        results[result.seed] = result
    found = [results[seed] for seed in sorted(results) if seed in seeds]
    lines = list(table(kind, found))
    print("\n".join(lines))
    if options.write:
        replace_section(kind.name, kind.title, lines)
    return 0 if found and all(result.is_well for result in found) else 1


def run(kind: Kind, seeds: Sequence[int], keep: Path | None) -> Iterator[Result]:
    """Run these, one after the other."""
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        for seed in seeds:
            result = kind.play(seed, project)
            if not result.is_well:
                print(f"seed {seed}: {result.outcome}: {result.why}", file=sys.stderr, flush=True)
            if keep is not None:
                with keep.open("a") as file:
                    file.write(json.dumps(vars(result)) + "\n")
            yield result


def kept(kind: Kind, path: Path) -> Iterator[Result]:
    for line in path.read_text().splitlines() if path.is_file() else []:
        yield kind.result(**{**json.loads(line), "faults": Counter(json.loads(line)["faults"])})


def aloud(kind: Kind, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        print(kind.draw(seed))
        result = kind.play(seed, make_project(Path(folder, "project")), Path(folder, "campaign"), aloud=True)
    print(result)
    return 0 if result.is_well else 1


def table(kind: Kind, results: Sequence[Result]) -> Iterator[str]:
    """What these came to, in Markdown."""
    if not results:
        return
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.faults)
    first, last = results[0].seed, results[-1].seed
    broken = [result.seed for result in results if not result.is_well]
    yield f"{len(results):,} {kind.name}, seeds {first} to {last}: {len(broken)} broken promises."
    if broken:
        yield f"Broken: {', '.join(map(str, broken[:20]))}."
    yield ""
    yield "| what | how much |"
    yield "|---|---|"
    yield from kind.rows(results)
    cpu_s = sum(r.cpu_s for r in results)
    yield f"| CPU time | {cpu_s / 60:.0f} min, {1000 * cpu_s / len(results):.0f} ms each |"
    yield ""
    yield "Met on the way: " + ", ".join(f"{name} {count:,}" for name, count in total.most_common() if count) + "."


def rows_of_runs(results: Sequence[Result]) -> Iterator[str]:
    outcomes = Counter(result.outcome for result in results)
    steps, repeated = sum(r.steps for r in results), sum(r.repeated for r in results)
    yield f"| finished, with the final model of an uninterrupted training | {outcomes['finished']:,} |"
    yield f"| wait for the user, who is told what to do | {outcomes['waits for a person']:,} |"
    yield f"| sessions, each session number pushed once | {sum(r.sessions for r in results):,} |"
    yield f"| of them ended without a result | {sum(r.deaths for r in results):,} |"
    yield f"| kills of the manager | {sum(r.kills for r in results):,} |"
    yield f"| times the user fixed something | {sum(r.persons for r in results) - outcomes['waits for a person']:,} |"
    yield f"| passes (`tick`) | {sum(r.ticks for r in results):,} |"
    yield f"| virtual weeks | {sum(r.weeks for r in results):,.0f} |"
    yield f"| timesteps trained more than once | {repeated / max(1, steps):.2%} |"


def rows_of_sweeps(results: Sequence[SweepResult]) -> Iterator[str]:
    outcomes = Counter(result.outcome for result in results)
    yield f"| finished: every trial judged, the best one named | {outcomes['finished']:,} |"
    yield f"| wait for the user, who is told what to do | {outcomes['waits for a person']:,} |"
    yield f"| trials, each once in the study and the journal | {sum(r.trials for r in results):,} |"
    yield f"| promotions, each from the trial's own checkpoint | {sum(r.promoted for r in results):,} |"
    yield f"| trials that failed | {sum(r.failed for r in results):,} |"
    yield f"| of them for their sessions died again and again | {sum(r.unlucky for r in results):,} |"
    yield f"| sessions, each session number pushed once | {sum(r.sessions for r in results):,} |"
    yield f"| of them ended without a result | {sum(r.deaths for r in results):,} |"
    yield f"| kills of the manager | {sum(r.kills for r in results):,} |"
    yield f"| times the user fixed something | {sum(r.persons for r in results) - outcomes['waits for a person']:,} |"


RUNS = Kind("campaigns", "## Campaigns", draw, run_campaign, Result, rows_of_runs)
SWEEPS = Kind("sweeps", "### Sweeps", draw_sweep, run_sweep, SweepResult, rows_of_sweeps)


if __name__ == "__main__":
    raise SystemExit(main())
