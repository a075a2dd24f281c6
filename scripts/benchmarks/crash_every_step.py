"""The manager is killed before and after everything it does in a run of three sessions; the same command goes on.

A run that nobody kills shows the points: before and after every write of the journal, every request and every move of
a tree, the first three of what happens more often. The kills are dealt out over runs of their own, `--together` in
each; a run that does not end like the untouched one - the same bytes of final model and checkpoints, one push a
session, every event once - is named with its points and taken apart with one kill a run.

    python scripts/benchmarks/crash_every_step.py                  by `run` and by repeated `tick`; print the table
    python scripts/benchmarks/crash_every_step.py --write          and keep it in docs/robustness_data.md
    python scripts/benchmarks/crash_every_step.py --together 1     one kill a run
    python scripts/benchmarks/crash_every_step.py --folder F       goes on where an earlier call was interrupted
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/support"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from kept_section import replace_section
from killed_manager import GENERATIONS, Left, Point, kill_at, left_by, points_of, wrong_with
from small_project import Bench, installed, make_project

from kaggle_manager.local_kaggle.launcher import ensure_running, stop
from kaggle_manager.sessions import bundle

WAYS = ("run", "tick")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--together", type=int, default=12, help="kills in one run")
    parser.add_argument("--by", nargs="+", default=list(WAYS), choices=WAYS, help="kill in these ways alone")
    parser.add_argument("--folder", type=Path, help="where everything is written; given again, only the rest is done")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/robustness_data.md")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="km_crash_"))
    ways = [Way(folder / by, by) for by in arguments.by]
    for way in ways:
        way.kill_everywhere(arguments.together)
    lines = as_lines(ways, arguments.together)
    print("\n".join(["", *lines]))
    if arguments.write:
        replace_section("crash at every step", "## Crash at every step", lines)
    return 0 if all(identical for way in ways for identical in way.verdicts.values()) else 1


class Way:
    """One way of giving the same command, and what came of each kill so far, which is kept in the folder."""

    def __init__(self, folder: Path, by: str) -> None:
        self.by, self._folder = by, folder
        self.points: list[Point] = []
        self.verdicts: dict[Point, bool] = {}
        self._kept = folder / "verdicts.json"
        if self._kept.exists():
            kept = json.loads(self._kept.read_text())
            self.points = [Point.of(text) for text in kept["points"]]
            self.verdicts = {Point.of(text): verdict for text, verdict in kept["verdicts"].items()}

    def kill_everywhere(self, together: int) -> None:
        kaggle = self._folder / "kaggle"
        kaggle.mkdir(parents=True, exist_ok=True)
        (kaggle / "limits.json").write_text('{"ingestion_s": 0.0, "gpu_week_s": 1e9}', encoding="utf-8")
        self._server = ensure_running(kaggle, idle_exit_s=300)
        try:
            self._look()
            for share in (together, max(1, together // 4), 1):  # polls are not the same number in every run
                left = [point for point in self.points if point not in self.verdicts]
                runs = -(-len(left) // share)
                for number in range(runs):
                    self._kill(left[number::runs])
                    print(f"{self.by}: {len(self.verdicts)} of {len(self.points)}, {self.bad} bad", flush=True)
        finally:
            stop(kaggle)

    def _look(self) -> None:
        """A run that nobody kills: what every other must leave, and where it can be killed."""
        self._project = self._folder / "project"
        if not self._project.exists():
            make_project(self._project)
        bundle.INSTALLED = installed(self._project)
        untouched = self._bench()
        points = points_of(untouched, self.by, self._folder / "reached")
        self.points = self.points or points
        self._expected: Left = left_by(untouched)
        generations = tuple(range(1, GENERATIONS + 1))
        if (self._expected.generations, self._expected.versions) != (generations, GENERATIONS):
            raise RuntimeError(f"a run that nobody killed is wrong: {self._expected}")

    def _bench(self) -> Bench:
        return Bench(self._project, Path(tempfile.mkdtemp(dir=self._folder)), self._server)

    def _kill(self, points: Sequence[Point]) -> None:
        bench = self._bench()
        struck = kill_at(bench, self.by, points, self._folder / "reached")
        wrong = wrong_with(left_by(bench), self._expected)
        if wrong and len(points) > 1:
            print(f"{self.by}: {', '.join(wrong)} differ after kills at {'; '.join(map(str, struck))}", flush=True)
            for point in struck:
                self._kill([point])
            return
        if wrong:
            print(f"{self.by}: {', '.join(wrong)} differ after a kill at {struck[0]}", flush=True)
        self.verdicts |= dict.fromkeys(struck, not wrong)
        verdicts = {str(point): verdict for point, verdict in self.verdicts.items()}
        self._kept.write_text(json.dumps({"points": [str(point) for point in self.points], "verdicts": verdicts}))

    @property
    def bad(self) -> int:
        return sum(not identical for identical in self.verdicts.values())


def as_lines(ways: Sequence[Way], together: int) -> list[str]:
    """The text between the markers of docs/robustness_data.md: a row a sort of deed, kills and identical ends."""
    rows: dict[str, None] = {}
    for way in ways:
        for point in way.points:
            rows.setdefault(sort_of(point), None)
    cells: dict[tuple[str, str, str], str] = {}
    for way in ways:
        for side in ("before", "after"):
            chosen = [point for point in way.points if point.side == side]
            asked = Counter(sort_of(point) for point in chosen)
            struck = Counter(sort_of(point) for point in chosen if point in way.verdicts)
            same = Counter(sort_of(point) for point in chosen if way.verdicts.get(point))
            cells |= {(row, way.by, side): cell(asked[row], struck[row], same[row]) for row in rows}
    total = sum(len(way.verdicts) for way in ways)
    identical = total - sum(way.bad for way in ways)
    missed = sum(point not in way.verdicts for way in ways for point in way.points)
    not_met = f" {missed} were not come to again: polls and downloads are not as many each time." if missed else ""
    counted = " and ".join(f"{len(way.points)} points by `{way.by}`" for way in ways)
    head = [f"{side}, `{way.by}`" for way in ways for side in ("before", "after")]
    summary = (
        f"{counted}: {total} SIGKILLs, up to {together} in one run of {GENERATIONS} sessions; **{identical} ended like "
        f"the run nobody killed** (the bytes of the final model and of both checkpoints, {GENERATIONS} versions of the "
        f"kernel, every event of every session once), {total - identical} did not.{not_met}"
    )
    return [
        summary,
        "",
        "A cell: kills that struck / identical ends. The first three of a sort in each session are points.",
        "",
        f"| killed before or after | {' | '.join(head)} |",
        f"|---|{'---|' * len(head)}",
        *(
            f"| {row} | {' | '.join(cells[row, way.by, side] for way in ways for side in ('before', 'after'))} |"
            for row in rows
        ),
    ]


def cell(asked: int, struck: int, same: int) -> str:
    if not asked:
        return "–"
    return f"{struck} / {same}" if struck == same else f"**{struck} / {same}**"


def sort_of(point: Point) -> str:
    """A point's deed without what differs between generations."""
    return point.deed.replace(f"before_generation_{point.sessions}", "the copy that is kept")


if __name__ == "__main__":
    sys.exit(main())
