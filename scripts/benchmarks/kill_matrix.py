"""Every algorithm x every option that keeps state of its own, killed with SIGKILL and resumed again and again.

Each cell is one proof of `kaggle_manager.trainer.sb3.selftest`: a training that was never cut and never saved on the
way, and one that was killed at random rollouts and inside saves. Both must have the same digests of networks,
optimizers, replay rows, random generators, environments, counters, episodes, evaluations, best model and curves.

    python scripts/benchmarks/kill_matrix.py                       print the table
    python scripts/benchmarks/kill_matrix.py --write               and keep it in docs/robustness_data.md
    python scripts/benchmarks/kill_matrix.py --only gsde traffic   these options alone
    python scripts/benchmarks/kill_matrix.py --kept cells.jsonl    in parts: what is good in this file is not run again
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kept_section import commit, replace_section

from kaggle_manager.trainer.sb3 import determinism
from kaggle_manager.trainer.sb3.selftest import Proof, prove
from kaggle_manager.trainer.sb3.selftest_cases import ALGORITHMS, CASES, OPTIONS

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
    "scheduled": "cosine learning rate, linear clip range (ARS: noise), a schedule of the user",
    "code": "code first: `build`, 2 environments, `VecNormalize`, an `eval_env` and a callback of its own",
    "own": "an algorithm of the user as `module:Class`, with `state()` and `load_state()`",
    "atari": "ALE/Breakout-v5 with `AtariWrapper` and `VecFrameStack`, 2 environments",
}


@dataclass(frozen=True)
class Cell:
    """A case and what came of it at a commit: a proof, or the error that ended it."""

    name: str
    commit: str
    proof: Proof | None
    error: str = ""

    @property
    def is_good(self) -> bool:
        return self.proof is not None and not self.proof.fault and self.proof.kills > 0

    def __str__(self) -> str:
        if self.proof is None or self.proof.fault:
            return f"**{self.error if self.proof is None else self.proof.fault}**"
        return f"identical, {self.proof.kills} ({self.proof.kills_in_saves})"


def judge(name: str, kills: int, seed: int) -> Cell:
    with tempfile.TemporaryDirectory(prefix="km_kill_matrix_") as folder:
        try:
            return Cell(name, commit(), prove(name, Path(folder), kills=kills, seed=seed))
        except RuntimeError as error:
            return Cell(name, commit(), None, str(error).splitlines()[-1])


def read(kept: Path | None) -> dict[str, Cell]:
    """The good cells of a file with one in a line."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept and kept.exists() else []
    cells = [Cell(**{**each, "proof": each["proof"] and Proof(**each["proof"])}) for each in map(json.loads, lines)]
    return {cell.name: cell for cell in cells if cell.is_good}


def as_table(judged: Sequence[Cell]) -> list[str]:
    """Markdown, two tables: a row an option, a column an algorithm."""
    by_case = {(case.option, case.algorithm): "not run" for case in CASES.values()}
    usual = Counter(cell.commit for cell in judged).most_common(1)[0][0]
    for cell in judged:
        when = "" if cell.commit == usual else f", at {cell.commit}"
        by_case[CASES[cell.name].option, CASES[cell.name].algorithm] = f"{cell}{when}"
    names = {algorithm: CASES[algorithm].algorithm_name for algorithm in ALGORITHMS}
    options = list(dict.fromkeys(option for option, _ in by_case))
    lines: list[str] = []
    for columns in (ALGORITHMS[:COLUMNS], ALGORITHMS[COLUMNS:]):
        head = [names[algorithm] for algorithm in columns]
        lines += ["", f"| | {' | '.join(head)} |", f"|---|{'---|' * len(head)}"]
        rows = {option: [by_case.get((option, algorithm), "–") for algorithm in columns] for option in options}
        lines += [f"| {MEANING[it]} | {' | '.join(cells)} |" for it, cells in rows.items() if set(cells) != {"–"}]
    return lines[1:]


def section(judged: Sequence[Cell], skipped: Sequence[str], command: str) -> list[str]:
    """The text between the markers of docs/robustness_data.md."""
    proofs = [cell.proof for cell in judged if cell.proof is not None]
    kills, inside = sum(proof.kills for proof in proofs), sum(proof.kills_in_saves for proof in proofs)
    commits = Counter(cell.commit for cell in judged)
    at = ", ".join(f"{name} ({count} trainings)" if len(commits) > 1 else name for name, count in commits.items())
    here = determinism.fingerprint()
    versions = ", ".join(f"{name} {here[name]}" for name in ("stable_baselines3", "torch", "numpy", "gymnasium"))
    summary = (
        f"`{command}` at commit {at}: {len(judged)} trainings, {kills} SIGKILLs that struck, {inside} of them inside a "
        f"save, in {sum(proof.seconds for proof in proofs) / 60:.0f} min: "
        f"{sum(cell.is_good for cell in judged)} identical, {sum(not cell.is_good for cell in judged)} not. "
        f"({versions}, {here['instruction_set']}, {here['threads']} thread, no GPU.)"
    )
    return [
        summary,
        "",
        "A cell: the end of the training that was killed, how many kills struck, and how many of them inside a save.",
        "Identical is also what each says of itself: a training that is called inexact would be named.",
        "–: the algorithm does not have the option, or not the actions.",
        *skipped,
        "",
        *as_table(judged),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=list(OPTIONS), choices=OPTIONS, metavar="OPTION")
    parser.add_argument("--algo", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--kills", type=int, default=4, help="for each training; every other one inside a save")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments of the kills")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/robustness_data.md")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="each cell is added to it at once")
    arguments = parser.parse_args()
    kept = read(arguments.kept)
    away = {name: about.needs for name, about in OPTIONS.items() if about.needs and not _is_here(about.needs)}
    chosen = [name for name, it in CASES.items() if it.option in arguments.only and it.algorithm in arguments.algo]
    skipped = [
        f"Skipped, as {away[option]} is not installed: {count} trainings ({MEANING[option]})."
        for option, count in Counter(CASES[name].option for name in chosen).items()
        if option in away
    ]
    print(*skipped, sep="\n", flush=True)
    for name in chosen:
        if CASES[name].option not in away and name not in kept:
            kept[name] = judge(name, arguments.kills, arguments.seed + list(CASES).index(name))
            if arguments.kept:
                with arguments.kept.open("a", encoding="utf-8") as lines:
                    print(json.dumps(asdict(kept[name])), file=lines)
            print(f"{name:30} {kept[name]}", flush=True)
    judged = [kept[name] for name in CASES if name in kept]
    text = section(judged, skipped, " ".join(["python scripts/benchmarks/kill_matrix.py", *sys.argv[1:]]))
    print(*text, sep="\n")
    if arguments.write:
        replace_section("kill matrix", "## Kill matrix", text)
    return 0 if all(cell.is_good for cell in judged) else 1


def _is_here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


if __name__ == "__main__":
    sys.exit(main())
