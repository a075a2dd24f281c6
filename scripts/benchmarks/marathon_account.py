"""What a marathon came to, from its folder alone: whether it has the bits it must have, and where the time went.

A session's seconds are the platform's own; how they were spent is what the journal measured of each session. Changes
nothing in the folder.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.local_kaggle import disk
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import SessionRow

NAME = "marathon"
SEEN_FILE = "marathon.json"
STATE = Path(".kaggle_manager")
KEPT = "timesteps kept, at the speed of bare `learn()`"
SETUP = "set-up: imports, packages, environment (`install` and `setup`)"
SAVES = "waiting for saves"
EVALUATIONS = "evaluations"
OTHER = "restore, own callbacks, and the machine slower or faster than at the measurements (rest of `train`)"
ENDS = "start of the process, output hashes and the result"
REPEATED = "sessions without a result: set-up, and work that was repeated"


@dataclass(frozen=True)
class Account:
    """Lines of Markdown, and whether everything is as it must be."""

    lines: list[str]
    is_good: bool


def account_of(project: Path) -> Account:
    """Judge a finished marathon.

    Raises:
        RuntimeError: it is not finished.
    """
    seen = disk.read_json(project / SEEN_FILE)
    cut, uncut = final_of(project), final_of(project / "uncut")
    if seen is None or cut is None or uncut is None:
        raise RuntimeError(f"the marathon in {project} is not finished")
    items, wanted = dict(cut.manifest.exact["items"]), dict(uncut.manifest.exact["items"])
    differing = sorted(name for name in items.keys() | wanted.keys() if items.get(name) != wanted.get(name))
    ours, theirs = parameters_of(cut), parameters_of(uncut)
    if ours != theirs:
        differing.append("parameters")
    sessions, pushes = sessions_of(project), len(folders_of_sessions(project / STATE))
    once = [session.generation for session in sessions] == list(range(1, pushes + 1))
    kills = list(seen["session_kills"].values())
    ends = ", ".join(seen["other_ends"]) or "none"
    faults = (project / "faults.toml").read_text(encoding="utf-8").count("[[fault]]")
    longest = max(session.facts["planned"]["timeout_s"] for session in sessions)
    what = (
        f"DQN on CartPole-v1 to {seen['target']} timesteps in {len(sessions)} sessions of at most {longest:g} s "
        f"({pushes} pushes), {seen['wall_s'] / 60:.0f} minutes in all. SIGKILLs: {seen['manager_kills']} of the "
        f"manager, {kills.count('trainer')} of a trainer, {kills.count('machine')} of a session with everything in it; "
        f"the platform played {faults} faults (`FAULTS` in the script). Other ends of the manager: {ends}."
    )
    verdict = f"**different: {', '.join(differing)}**" if differing else "**identical**"
    bits = (
        f"Final model against the training that was never interrupted: {verdict}, {len(items)} digests of its "
        f"certificate (`{items['all']}`); its parameters have sha256 `{ours}`."
    )
    lines = [what, "", bits, "", *where_time_went(seen, sessions, seconds_of(project)), "", *ends_of(project, sessions)]
    return Account(lines, not differing and cut.step == seen["target"] and once)


def where_time_went(seen: dict[str, Any], sessions: list[SessionRow], seconds: dict[int, float]) -> list[str]:
    """A table over the seconds that sessions ran."""
    speeds = sorted(steps / took for steps, took in seen["bare"])
    speed = sum(steps for steps, _ in seen["bare"]) / sum(took for _, took in seen["bare"])
    total, kept = sum(seconds.values()), seen["target"] / speed
    parts = {KEPT: kept} | dict.fromkeys((SETUP, SAVES, EVALUATIONS, OTHER, ENDS, REPEATED), 0.0)
    for session in sessions:
        ran, gained = seconds.get(int(session.version or 0), 0.0), session.facts.get("gained", 0)
        timings = session.facts.get("timings") or {}
        if "total" not in timings:  # what it kept is all that is known
            parts[REPEATED] += ran - gained / speed
            continue
        setup = timings.get("install", 0.0) + timings["setup"]
        parts[SETUP] += setup
        parts[SAVES] += timings["save"]
        parts[EVALUATIONS] += timings["evaluate"]
        parts[OTHER] += timings["train"] - gained / speed
        parts[ENDS] += ran - setup - timings["train"] - timings["save"] - timings["evaluate"]
    goodput = (
        f"**Goodput {kept / total:.0%}**: sessions ran {total:.0f} s, where bare `learn()` makes {total * speed:.0f} "
        f"timesteps at {speed:.0f}/s ({len(speeds)} measurements before, between and after the sessions, "
        f"{speeds[0]:.0f} to {speeds[-1]:.0f}/s); {seen['target']} were kept."
    )
    outside = (
        f"Besides, {seen['wall_s'] - total:.0f} s of {seen['wall_s']:.0f} s had no session: downloading, publishing, "
        "queueing, waits after failures, the manager dead or starting again."
    )
    table = [f"| {name} | {took:.0f} | {took / total:.0%} |" for name, took in parts.items()]
    head = ["| where the sessions' time went | seconds | share |", "|---|---:|---:|"]
    return [goodput, "", *head, *table, "", outside]


def ends_of(project: Path, sessions: list[SessionRow]) -> list[str]:
    seconds = seconds_of(project)
    rows = ["| session | seconds | timesteps kept | how it ended |", "|---:|---:|---:|---|"]
    for session in sessions:
        ran, gained = seconds.get(int(session.version or 0), 0.0), session.facts.get("gained", 0)
        rows.append(f"| {session.generation} | {ran:.0f} | {gained} | {session.why.split(';')[0]} |")
    return rows


def sessions_of(project: Path) -> list[SessionRow]:
    path = project / STATE / "journal.sqlite"
    if not path.exists():
        return []
    with closing(Journal(path)) as journal:
        return [session for run in journal.runs() for session in journal.sessions(run.run_id)]


def folders_of_sessions(state: Path) -> list[Path]:
    """The local Kaggle's folders of the sessions below a state folder, the first one first."""
    folders = (state / "local_kaggle/sessions").glob("[0-9]*")
    return sorted(folders, key=lambda folder: int(folder.name))


def seconds_of(project: Path) -> dict[int, float]:
    """How long each version of the kernel ran; until its last line, where its supervisor was killed with it."""
    seconds = {}
    for version, folder in enumerate(folders_of_sessions(project / STATE), start=1):
        started, verdict = disk.read_json(folder / "started.json"), disk.read_json(folder / "verdict.json")
        if started is not None:
            ended = verdict["ended_at"] if verdict else (folder / "log.jsonl").stat().st_mtime
            seconds[version] = ended - started["started_at"]
    return seconds


def final_of(base: Path) -> Checkpoint | None:
    return CheckpointStore(TrainingTree(base / f"sections/{NAME}/data/models", NAME)).final()


def parameters_of(final: Checkpoint) -> str:
    """sha256 of the network's parameters, as stock Stable-Baselines3 loads them."""
    from stable_baselines3 import DQN

    hasher = hashlib.sha256()
    for name, tensor in sorted(DQN.load(final.tree.final).policy.state_dict().items()):
        hasher.update(name.encode() + tensor.cpu().numpy().tobytes())
    return hasher.hexdigest()
