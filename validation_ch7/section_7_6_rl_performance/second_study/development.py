"""What is tried before the declaration, on development seeds: parameters of the baselines, and variants of the agent.

    python -m validation_ch7.section_7_6_rl_performance.second_study.development baselines --jobs 2
    python -m validation_ch7.section_7_6_rl_performance.second_study.development agents --only main dqn
    python -m validation_ch7.section_7_6_rl_performance.second_study.development table

`development.toml` says what. Every finished item is kept as a small file in `development/`, to be committed, and is not
computed again unless the code or its values changed: the same line goes on after anything.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, median
from typing import Any

import kaggle_manager.trainer  # noqa: F401  # it pins the arithmetic, which has to be before NumPy is loaded
from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.atomic_io import Disk, write_atomic
from kaggle_manager.errors import Interrupted, KaggleManagerError
from kaggle_manager.sections.identity import source_digests
from kaggle_manager.sections.model import SECTION_FILE, ScenarioConfig, Section, load_section
from kaggle_manager.sections.trial import changed
from validation_ch7.section_7_6_rl_performance import webster
from validation_ch7.section_7_6_rl_performance.intersection import Intersection, find_intersection
from validation_ch7.section_7_6_rl_performance.second_study.agents import agent
from validation_ch7.section_7_6_rl_performance.second_study.contenders import KEPT, RULES, Contender, contender
from validation_ch7.section_7_6_rl_performance.second_study.episodes import Episode, play
from validation_ch7.section_7_6_rl_performance.training import FOLDER, PATH, PROJECT, train

PLAN = Path(__file__).with_suffix(".toml")
SITES = ("cologne1", "ingolstadt1")
Parameters = dict[str, Any]
# What no baseline's episode depends on.
_OF_AGENTS = ("double_dqn.py", "observation.py", "phase_network.py", "reward.py")


def seeds_of(which: str) -> list[int]:
    """The traffic seeds that `development.toml` has for this."""
    declared = _plan()["seeds"][which]
    return list(range(declared["first"], declared["first"] + declared["count"]))


class Tuning:
    """The table of everything tried with the baselines of one site, and what was chosen.

    Args:
        site: the intersection.
        file: where the table is kept.
        env_kwargs: of the environment, besides its site.
        seeds: of the traffic.
        jobs: episodes at a time.
    """

    def __init__(
        self, site: Intersection, file: Path, env_kwargs: Mapping[str, Any], seeds: Sequence[int], jobs: int = 1
    ) -> None:
        self._site, self._file, self._jobs = site, file, jobs
        self._env_kwargs, self._seeds = {**env_kwargs, "site": site.name}, seeds
        self._shortest, self._longest = env_kwargs.get("min_green_s", 5), env_kwargs.get("max_green_s", 50)
        self._head = {"sources": _sources(apart=_OF_AGENTS), "seeds": list(seeds), "environment": self._env_kwargs}
        self.tried: list[dict[str, Any]] = []
        kept = _read(file)
        if {key: kept.get(key) for key in self._head} == self._head:
            self.tried = kept["tried"]

    def run(self, plan: Mapping[str, Mapping[str, Any]]) -> None:
        """Try whatever `plan` says and has not been tried.

        First every combination of the values; then, where there are steps, single phases of the best one are changed by
        each step while that helps, and by all steps again until none does.
        """
        for name, values in plan.items():
            self._try(name, self._combinations(name, values))
            before: Parameters = {}
            while before != self.chosen()[name]:
                before = self.chosen()[name]
                for step_s in values.get("step_s", ()):
                    self._change_phases(name, step_s)

    def chosen(self) -> dict[str, Parameters]:
        """Of each baseline, the parameters with the lowest mean delay, those without gridlock before all others."""
        best: dict[str, dict[str, Any]] = {}
        for row in self.tried:
            known = best.get(row["name"])
            if known is None or _rank(row) < _rank(known):
                best[row["name"]] = row
        return {name: row["parameters"] for name, row in best.items()}

    def _try(self, name: str, candidates: Sequence[Parameters]) -> None:
        known = [row["parameters"] for row in self.tried if row["name"] == name]
        todo = [parameters for parameters in candidates if parameters not in known]
        with ThreadPoolExecutor(self._jobs) as pool:
            for row in pool.map(lambda parameters: self._row(name, parameters), todo):
                self.tried.append(row)
                _write(self._file, {**self._head, "tried": self.tried, "chosen": self.chosen()})
                print(f"{self._site.name}: {name} {row['parameters']}: {row['mean_delay_s']:.2f} s", flush=True)

    def _row(self, name: str, parameters: Parameters) -> dict[str, Any]:
        episodes = list(play(contender(name, parameters), self._env_kwargs, self._seeds))
        return {"name": name, "parameters": parameters, **summary(episodes)}

    def _combinations(self, name: str, values: Mapping[str, Any]) -> list[Parameters]:
        if name == "fixed_time_tuned":
            # yellow_s: 3 s of yellow and 1 s of clearance
            first = webster.greens(self._site, yellow_s=4, min_green_s=self._shortest)
            return [{"greens_s": [min(self._longest, round(green)) for green in first]}]
        tried = {key: value for key, value in values.items() if key != "step_s"}
        if "longest_s" in tried:  # the same for each phase, to begin with
            tried["longest_s"] = [[longest_s] * len(self._site.greens) for longest_s in tried["longest_s"]]
        return [dict(zip(tried, each, strict=True)) for each in itertools.product(*tried.values())]

    def _change_phases(self, name: str, step_s: int) -> None:
        while True:
            before = self.chosen()[name]
            self._try(name, list(self._neighbours(before, step_s)))
            if self.chosen()[name] == before:
                return

    def _neighbours(self, parameters: Parameters, step_s: int) -> Iterator[Parameters]:
        (key,) = (key for key, value in parameters.items() if isinstance(value, list))
        for phase, change in itertools.product(range(len(parameters[key])), (-step_s, step_s)):
            changed_s = [value + change * (number == phase) for number, value in enumerate(parameters[key])]
            if self._shortest <= changed_s[phase] <= self._longest:
                yield {**parameters, key: changed_s}


def _rank(row: Mapping[str, Any]) -> tuple[bool, float]:
    return row["gridlocked"] > 0, row["mean_delay_s"]


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What the tables say of some episodes of one contender; seconds a trip."""
    delays = [episode.mean_delay_s for episode in episodes]
    return {
        "episodes": len(episodes),
        "mean_delay_s": round(fmean(delays), 3),
        "median_delay_s": round(median(delays), 3),
        "worst_delay_s": round(max(delays), 3),
        "mean_outside_s": round(fmean(episode.mean_outside_s for episode in episodes), 3),
        "gridlocked": sum(episode.gridlock_onset_s is not None for episode in episodes),
        "switches_h": round(fmean(episode.switches_h for episode in episodes), 1),
        "longest_red_s": max(episode.longest_red_s for episode in episodes),
    }


def variant(section: Section, name: str, declared: Mapping[str, Any]) -> ScenarioConfig:
    """The scenario of a variant, with a training tree of its own."""
    config = changed(section.agent(declared["scenario"]), declared.get("values", {}))
    assert isinstance(config, ScenarioConfig)
    own = {"models": f"data/models_development/{name}"} | {
        key: declared[key] for key in ("algorithm", "policy", "timesteps") if key in declared
    }
    return config.model_copy(update=own)


def train_variant(name: str, declared: Mapping[str, Any], seed: int, base: Path, kept: Path) -> None:
    """Train a variant with one seed, judge its models and keep what came out; nothing where that is kept already."""
    section = load_section(FOLDER / SECTION_FILE)
    config = variant(section, name, declared)
    section = section.model_copy(update={"scenarios": {**section.scenarios, name: config}})
    file = kept / "agents" / f"{name}_seed_{seed}.json"
    head = {"name": name, "seed": seed, "sources": _sources(), "scenario": _meaning(config), "declared": dict(declared)}
    known = _read(file)
    if {key: known.get(key) for key in head} == head:
        return
    began_s = _cpu_s()
    outcome = train(name, base=base, seed=seed, section=section)
    if outcome.kind == "interrupted":
        raise Interrupted(
            f"{name}, seed {seed}: {outcome.reason}.",
            safe=f"the checkpoint of step {outcome.step} is kept.",
            next_step="run the same command again to go on.",
        )
    cpu_s = _cpu_s() - began_s
    store = CheckpointStore(TrainingTree(base / PATH / config.for_seed(seed).models, name))
    judged = {
        level: {"step": found.step, **summary(_judged(agent(config, found.read("model")), config))}
        for level, found in (("best", store.best()), ("final", store.final()))
        if found is not None
    }
    _write(file, {**head, "cpu_s": round(cpu_s, 1), "judged": judged})
    print(f"{name}, seed {seed}: {judged}", flush=True)


def _judged(model: Contender, config: ScenarioConfig) -> list[Episode]:
    return list(play(model, config.environment_kwargs, seeds_of("judging")))


def table(kept: Path) -> str:
    """Everything that was tried, as Markdown."""
    columns = ("mean_delay_s", "median_delay_s", "worst_delay_s", "gridlocked", "switches_h", "longest_red_s")
    lines = []
    for site in SITES:
        tried = _read(kept / f"baselines_{site}.json").get("tried", [])
        lines += ["", f"**{site}**", "", f"| baseline | parameters | {' | '.join(columns)} |", "|---" * 8 + "|"]
        for row in sorted(tried, key=lambda row: (list(RULES).index(row["name"]), _rank(row))):
            cells = (str(row[column]) for column in columns)
            lines.append(f"| {row['name']} | `{json.dumps(row['parameters'])}` | {' | '.join(cells)} |")
    lines += ["", f"| agent | seed | model | {' | '.join(columns)} |", "|---" * 9 + "|"]
    for file in sorted((kept / "agents").glob("*.json")):
        found = _read(file)
        for level, row in found["judged"].items():
            cells = (str(row[column]) for column in columns)
            lines.append(f"| {found['name']} | {found['seed']} | {level} | {' | '.join(cells)} |")
    return "\n".join(lines).strip()


def _cpu_s() -> float:
    """CPU seconds of this process and of those it has ended, simulators among them."""
    return sum(os.times()[:4])


def _plan() -> dict[str, Any]:
    return tomllib.loads(PLAN.read_text(encoding="utf-8"))


def _sources(apart: Sequence[str] = ()) -> str:
    """Digest of the code that an episode depends on, `apart` from what it does not."""
    folder = Path(__file__).resolve().parent
    names = sorted({file.name for file in folder.glob("*.py")} - {"agents.py", "development.py", *apart})
    return hashlib.sha256(json.dumps(source_digests(folder, names)).encode()).hexdigest()[:16]


def _meaning(config: ScenarioConfig) -> str:
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _write(file: Path, body: Mapping[str, Any]) -> None:
    disk = Disk()
    disk.make_folder(file.parent)
    write_atomic(disk, file, (json.dumps(body, indent=1) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    plan = _plan()
    parser = argparse.ArgumentParser(
        prog="python -m validation_ch7.section_7_6_rl_performance.second_study.development", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", choices=("baselines", "agents", "table"))
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=plan["seeds"]["training"], help="agents: those to train"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="sites, or agents; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="baselines: how many are played at a time")
    parser.add_argument(
        "--workdir", type=Path, default=PROJECT, help="agents: the training trees lie below this folder"
    )
    parser.add_argument("--kept", type=Path, default=KEPT, help="what is finished is kept in this folder")
    options = parser.parse_args(arguments)
    try:
        if options.what == "baselines":
            for site in options.only or SITES:
                file = options.kept / f"baselines_{site}.json"
                Tuning(find_intersection(site), file, {}, seeds_of("tuning"), options.jobs).run(plan["baselines"])
        elif options.what == "agents":
            for seed, name in itertools.product(options.seeds, options.only or plan["agents"]):
                train_variant(name, plan["agents"][name], seed, options.workdir.resolve(), options.kept)
        else:
            print(table(options.kept))
    except KaggleManagerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
