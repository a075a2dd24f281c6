"""Every algorithm x every option that keeps state of its own, killed with SIGKILL and resumed again and again.

Each cell is one proof of `kaggle_manager.trainer.sb3.selftest`: a training that was never cut and never saved on the
way, and one that was killed at random rollouts and inside saves. Both must have the same digests of networks,
optimizers, replay rows, random generators, environments, counters, episodes, evaluations, best model and curves.

    python scripts/benchmarks/kill_matrix.py                       print the table
    python scripts/benchmarks/kill_matrix.py --write               and keep it in docs/robustness.md
    python scripts/benchmarks/kill_matrix.py --only gsde traffic   these options alone
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.trainer.sb3 import determinism
from kaggle_manager.trainer.sb3.selftest import Proof, prove
from kaggle_manager.trainer.sb3.selftest_cases import ALGORITHMS, CASES, OPTIONS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/robustness.md"
TITLE = "## Kill matrix"
BEGIN, END = "<!-- kill matrix: begin -->", "<!-- kill matrix: end -->"
COLUMNS = 5
"""Of the first table: the algorithms after these are in a second one."""
MEANING = {
    "plain": "nothing beside the algorithm",
    "replay": "a simulator that cannot be pickled, put back by replaying its actions",
    "environments": "4 environments in one process",
    "workers": "2 environments, each in a process of its own",
    "normalized": "`VecNormalize`, 2 environments",
    "wrapped": "2 worker processes, `env_wrapper`, `VecFrameStack`, `VecMonitor`, `VecNormalize`, a piecewise schedule",
    "dictionary": "`Dict` observations, 2 environments",
    "hindsight": "`HerReplayBuffer` with the infos kept, 2 environments",
    "n-step": "3-step returns",
    "compact": "`optimize_memory_usage`",
    "by-episode": "`train_freq=(1, 'episode')`",
    "noise": "Ornstein-Uhlenbeck action noise, 2 environments",
    "gsde": "state-dependent exploration",
    "batch-norm": "batch normalisation in the networks and their targets",
    "images": "images, a CNN, `VecFrameStack`",
    "traffic": "the traffic signal of section 7.6, real SUMO",
    "workers-normalized": "2 worker processes, `VecMonitor`, `VecNormalize`, `VecFrameStack`",
    "callbacks": "a callback of the user with `state()` and `load_state()`",
    "atari": "ALE/Breakout-v5 with `AtariWrapper` and `VecFrameStack`, 2 environments",
}


@dataclass(frozen=True)
class Cell:
    """A case and what came of it: a proof, or the error that ended it."""

    name: str
    proof: Proof | None
    error: str = ""

    @property
    def is_good(self) -> bool:
        return self.proof is not None and not self.proof.differing and self.proof.kills > 0

    def __str__(self) -> str:
        if self.proof is None:
            return f"**{self.error}**"
        if self.proof.differing:
            return f"**differs: {', '.join(self.proof.differing)}**"
        return f"identical, {self.proof.kills} ({self.proof.kills_in_saves})"


def judge(name: str, kills: int, seed: int) -> Cell:
    with tempfile.TemporaryDirectory(prefix="km_kill_matrix_") as folder:
        try:
            return Cell(name, prove(name, Path(folder), kills=kills, seed=seed))
        except RuntimeError as error:
            return Cell(name, None, str(error).splitlines()[-1])


def as_table(judged: Sequence[Cell]) -> list[str]:
    """Markdown, two tables: a row an option, a column an algorithm."""
    by_case = {(CASES[cell.name].option, CASES[cell.name].algorithm): str(cell) for cell in judged}
    names = {case.algorithm: case.algorithm_name for case in CASES.values()}
    options = list(dict.fromkeys(option for option, _ in by_case))
    lines: list[str] = []
    for columns in (ALGORITHMS[:COLUMNS], ALGORITHMS[COLUMNS:]):
        head = [names[algorithm] for algorithm in columns]
        lines += ["", f"| | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
        rows = {option: [by_case.get((option, algorithm), "–") for algorithm in columns] for option in options}
        lines += [f"| {MEANING[it]} | {' | '.join(cells)} |" for it, cells in rows.items() if set(cells) != {"–"}]
    return lines[1:]


def section(judged: Sequence[Cell], seconds: float) -> list[str]:
    """The text between the markers of docs/robustness.md."""
    proofs = [cell.proof for cell in judged if cell.proof is not None]
    kills, inside = sum(proof.kills for proof in proofs), sum(proof.kills_in_saves for proof in proofs)
    here = determinism.fingerprint()
    versions = ", ".join(f"{name} {here[name]}" for name in ("stable_baselines3", "torch", "numpy", "gymnasium"))
    summary = (
        f"{len(judged)} trainings, {kills} SIGKILLs that struck, {inside} of them inside a save, in {seconds:.0f} s: "
        f"{sum(cell.is_good for cell in judged)} identical, {sum(not cell.is_good for cell in judged)} not. "
        f"({versions}, {here['instruction_set']}, {here['threads']} thread, no GPU.)"
    )
    return [
        summary,
        "",
        "A cell: the end of the training that was killed, how many kills struck, and how many of them inside a save.",
        "–: the algorithm does not have the option, or not the actions. Atari is tried where it is installed.",
        "",
        *as_table(judged),
    ]


def write(lines: Sequence[str]) -> None:
    """Replace what is between the markers; make the section where it is missing."""
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else "# Robustness\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{TITLE}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *lines, "", END]) + after, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=list(OPTIONS), choices=OPTIONS, metavar="OPTION")
    parser.add_argument("--algo", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--kills", type=int, default=4, help="for each training; every other one inside a save")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the kills")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/robustness.md")
    arguments = parser.parse_args()
    begun = time.monotonic()
    judged: list[Cell] = []
    for name, case in CASES.items():
        missing = (needs := OPTIONS[case.option].needs) and importlib.util.find_spec(needs) is None
        if case.option in arguments.only and case.algorithm in arguments.algo and not missing:
            judged.append(judge(name, arguments.kills, arguments.seed + len(judged)))
            print(f"{name:20} {judged[-1]}", flush=True)
    lines = section(judged, time.monotonic() - begun)
    print("\n".join(["", *lines]))
    if arguments.write:
        write(lines)
    return 0 if all(cell.is_good for cell in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
