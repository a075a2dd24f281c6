"""What a quick run exists to show, looked for when it has finished."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from kaggle_manager.errors import VerificationError, one_line
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.protocol.metrics import FILE, parse_metric
from kaggle_manager.sections.script import ScriptScenario

# Counted by the trainer and the manager, never assumed.
REQUIRED_BY_QUICK = {"updates": "gradient update", "evaluations": "evaluation", "restores": "restore"}
REQUIRED_OF_SCRIPTS = {"restores": "restore"}
_METRICS_READ = 1_000_000


def check_quick_run(run: RunContext, counts: Mapping[str, int]) -> None:
    """Hold a finished quick run against what it promises.

    Raises:
        VerificationError: something a quick run must exercise did not happen; names what.
    """
    scenario = run.config.scenario
    script = scenario if isinstance(scenario, ScriptScenario) else None
    required = REQUIRED_OF_SCRIPTS if script else REQUIRED_BY_QUICK
    missing = [name for key, name in required.items() if counts.get(key, 0) < 1]
    steps = sorted(checkpoint.step for checkpoint in run.store.valid_checkpoints())
    # Not always at the target itself: algorithms that train in rollouts end with the one that reaches it.
    next_step = f"do not start a long run on this; fix the {'script' if script else 'trainer'} first"
    if script and not counts.get("restores"):
        next_step += ": where KM_SESSION_STOP_AT is set, it is to save and end at that step"
    if run.config.target >= 2 and (len(steps) < 2 or steps[-1] < run.config.target):
        if script is None and steps and steps[-1] >= run.config.target:  # where the text does not say how long one is
            next_step = (
                f"the one rollout that it trained has {steps[-1]:,} timesteps: in section.toml, set quick.timesteps of "
                f"{run.config.scenario_name} to {2 * steps[-1]}, and run the same command again"
            )
        missing.append(f"two valid checkpoints, the newer at step {run.config.target} (found {steps})")
    if run.store.best() is None and (script is None or script.best):
        by_metric = f"best checkpoint by {script.best.metric} ({_told(run)})" if script and script.best else ""
        missing.append(by_metric or "best model")
    if run.store.final() is None:
        missing.append("final model")
    if script is None and not run.tree.metadata.is_file():
        missing.append("training metadata")
    if missing:
        raise VerificationError(
            f"The quick run reached its target but did not show: {', '.join(missing)}.",
            safe=f"what it made is in {run.config.tree}",
            next_step=next_step,
        )


def _told(run: RunContext) -> str:
    """In words, of which metrics a script has told values."""
    names: dict[str, None] = {}
    with contextlib.suppress(OSError), (run.tree.history / FILE).open("rb") as file:
        for line in file.read(_METRICS_READ).splitlines():
            if metric := parse_metric(line):
                names[one_line(metric.name, 40)] = None
    return f"it told {', '.join([*names][:20])}" if names else "it told no metric"
