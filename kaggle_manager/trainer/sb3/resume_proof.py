"""Whether a training of a new kind resumes with the same bits, tried out before a session is spent on it.

A new kind is one with code that is neither Stable-Baselines3's nor sb3-contrib's: an algorithm, a policy, a buffer, a
schedule of one's own. Its quick variant is trained three times, each in a process of its own: to the end; half of it,
with a save; and that one loaded again and trained to the end. Both ends are compared, item by item.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.sections.agent_tables import Evaluation
from kaggle_manager.sections.model import ScenarioConfig, Section
from kaggle_manager.sections.project import get_section
from kaggle_manager.system.formatting import count
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3.local_training import train_here, tree_of
from kaggle_manager.trainer.sb3.state_digest import differing
from kaggle_manager.trainer.sb3.unsaved import KNOWN_PACKAGES

LOG = "log.txt"
SEED = 101
_OBJECT = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")
# The probe tries these.
_OF_ENVIRONMENTS = frozenset({"environment", "environment_kwargs", "eval_env_kwargs", "env_wrapper", "quick"})


def own_code(scenario: ScenarioConfig) -> list[str]:
    """What of a scenario is an object of code that is not known, as `module:Name`."""
    said = {key: value for key, value in scenario.model_dump().items() if key not in _OF_ENVIRONMENTS}
    names = (name for text in _texts(said) if (name := _OBJECT.fullmatch(text)))
    return list(dict.fromkeys(name[0] for name in names if name[1].partition(".")[0] not in KNOWN_PACKAGES))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from (str(key), *_texts(part))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def prove_resume(project: Path, section: Section, scenario: str, seconds: float, *, rollout: int | None = None) -> str:
    """What came of it, in words; one that is not exact begins with `WARNING`.

    Args:
        seconds: that each of the three trainings may take.
        rollout: of the training, where the section does not say it.
    """
    with scratch_folder("km_proof_") as folder:
        whole, cut = folder / "whole", folder / "cut"
        quick = section.agent(scenario).for_quick()
        rollout = rollout or quick.rollout
        half = -(-quick.timesteps // rollout) * rollout  # where a rollout starts
        for base, steps in ((whole, None), (cut, half), (cut, None)):
            if problem := _train_apart(project, section, scenario, base, 2 * half, steps, seconds):
                return f"WARNING: not tried: {problem}"
        trees = [tree_of(project, section, scenario, base, quick=True) for base in (whole, cut)]
        ends = [end.manifest for tree in trees if (end := CheckpointStore(tree, warn=warn).final()) is not None]
        if len(ends) < 2:
            return f"WARNING: not tried: a training of {count(2 * half, 'timestep')} did not end within {seconds:.0f} s"
        if ends[0].lineage.generation == ends[1].lineage.generation:
            return f"WARNING: not tried: no rollout starts in the middle of {count(2 * half, 'timestep')}; see `quick`"
        return _compared(ends[0].exact, ends[1].exact)


def _compared(whole: Mapping[str, Any], cut: Mapping[str, Any]) -> str:
    """What the manifests of both final models say of exactness, compared, in words."""
    if whole.get("environment") == "none":
        return f"WARNING: exact: none, because of the environment: {whole.get('reason')}"
    items, unsaved = dict(whole.get("items", {})), ", ".join(map(str, cut.get("unsaved", ())))
    because = f"because of {unsaved}, which no save holds" if unsaved else "because of what no save holds"
    if found := differing(items, dict(cut.get("items", {}))):
        return f"WARNING: exact: none, {because}: reloaded and continued it ends with another {', '.join(found)}"
    if unsaved:
        return f"WARNING: exact: none, {because}; in so short a training it made no difference"
    return (
        f"saved and continued, or reloaded and continued, it ends the same in all {len(items) - 1} items of its state"
    )


def _train_apart(
    project: Path, section: Section, scenario: str, base: Path, total: int, steps: int | None, seconds: float
) -> str:
    """One session of `total` timesteps, or until `steps`, in a process of its own; what went wrong, or ''."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        # torch imports the second one at the first optimizer, which takes as long as a small training.
        context.set_forkserver_preload([__name__, "torch._dynamo"])
    base.mkdir(exist_ok=True)
    arguments = (project, section.name, scenario, base, total, steps, seconds, list(sys.path))
    process = context.Process(target=_session, args=arguments)
    process.start()
    process.join(2 * seconds + 60)
    process.kill()
    process.join()
    said = (base / LOG).read_text(errors="replace") if (base / LOG).is_file() else ""
    return "" if process.exitcode == 0 else "".join(said.strip().splitlines()[-1:]) or "its process ended"


def _session(
    project: Path,
    section: str,
    scenario: str,
    base: Path,
    total: int,
    steps: int | None,
    seconds: float,
    path: list[str],
) -> None:
    sys.path[:] = path
    with (
        (base / LOG).open("a", buffering=1, encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            found = get_section(project, section)
            if found.agent(scenario).seed is None:  # each would draw another one
                seeded = found.agent(scenario).model_copy(update={"seed": SEED})
                found = found.model_copy(update={"scenarios": {**found.scenarios, scenario: seeded}})
            train_here(
                project,
                found,
                scenario,
                base=base,
                clock=SessionClock(seconds, max_steps=steps),
                quick=True,
                timesteps=total,
                evaluation=Evaluation(episodes=1, every=total),  # once: each makes its environments anew
            )
        except Exception:
            traceback.print_exc()
            sys.exit(1)
