"""Checks of what a section trains, on this machine, in seconds, before any session is spent on it.

    python -m kaggle_manager.trainer.sb3.preflight SECTION [--scenario NAME ...] [--json]

They hold for every Stable-Baselines3 training: the environment can be made, resets and steps, the algorithm takes it
(`env_check`), and the trainer as it is saves, survives a kill, resumes and learns. How varied the rewards of random
actions are is told, not judged. A section with promises of its own has a `preflight` module beside its section.toml,
which builds on these and takes the same options. It trains a few steps in a folder of its own, which it removes, and
touches no training tree. The manager runs it in what travels, see `kaggle_manager.sessions.try_out`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.errors import Busy, Diverged
from kaggle_manager.sections.agent_tables import Evaluation
from kaggle_manager.sections.model import ScenarioConfig, Section
from kaggle_manager.system.accelerators import WORTHWHILE_GAIN
from kaggle_manager.system.patience import Patience
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trainer.runtime.as_in_session import try_out
from kaggle_manager.trainer.runtime.checks import CheckResult, add_options, report
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import acting, algorithms, code_first, evaluation_share, sizes
from kaggle_manager.trainer.sb3.code_first import Built
from kaggle_manager.trainer.sb3.env_check import (
    BRIEF,
    OF_EPISODES,
    SEED,
    THOROUGH,
    Effort,
    Pool,
    check_env,
    check_environment,
    check_settings,
    told,
)
from kaggle_manager.trainer.sb3.env_files import FilesUsed, not_fingerprinted
from kaggle_manager.trainer.sb3.lane_gain import measure_lanes
from kaggle_manager.trainer.sb3.local_training import open_project, train_here, tree_of
from kaggle_manager.trainer.sb3.network_share import NetworkShare, measure_share, share_of_built
from kaggle_manager.trainer.sb3.resume_proof import own_code, prove_resume
from kaggle_manager.trainer.sb3.vec_env_speed import measure_vec_env, speeds_of

FIRST_SAVE_S, MAKINGS = 120.0, 10
"""A trainer that has computed for so long, and for as long as making its environment so often takes, and has saved
nothing is taken to save nothing."""
LONGEST_HELD_S = 20.0


def preflight(
    project: Path,
    section: Section,
    scenarios: Sequence[str] = (),
    *,
    effort: Effort = BRIEF,
    quick: bool = False,
    evaluations: bool = False,
) -> Iterator[CheckResult]:
    """Run every check for the named scenarios, or for all.

    Args:
        quick: what is to follow is a quick run, which is a trial training itself: leave that out.
        evaluations: measure what they take all the same.

    Raises:
        ConfigError: the section has no such scenario.
    """
    for name in scenarios or section.scenarios:
        works = True
        for result in _of_scenario(project, section, name, effort, quick):
            works = works and result.ok
            yield replace(result, name=f"{name}: {result.name}")
        if works and quick and evaluations and section.agent(name).build is None:
            yield replace(found := check_evaluations(section.agent(name)), name=f"{name}: {found.name}")


def _of_scenario(project: Path, section: Section, name: str, effort: Effort, quick: bool) -> Iterator[CheckResult]:
    scenario = section.agent(name)
    if scenario.build is not None:
        yield from _of_build(project, section, name, effort, quick)
        return
    works, rollout, patience_s = True, 1, FIRST_SAVE_S
    with Pool() as made:
        is_other = scenario.for_quick().environment_kwargs != scenario.environment_kwargs
        for result in check_environment(scenario.for_quick(), effort, made):
            works = works and result.ok
            yield _of_quick(result) if is_other and result.name in OF_EPISODES else result
        if works and quick:
            yield _of_quick(check_sizes(scenario.for_quick(), made))
        if works and not quick:
            # `quick` may replace the very settings that the whole training has wrong.
            whole = check_settings(scenario, made)
            yield whole
            works = whole.ok
            if works:
                yield check_sizes(scenario, made)
                yield from check_accelerator(section, name, made)
                yield check_evaluations(scenario, made)
                yield from check_vec_env(scenario, made)
                yield from check_lanes(project, section, name, made)
                with _model_of(scenario.for_quick(), made) as (model, _):
                    rollout = algorithms.rollout_steps(model)  # an algorithm of one's own says it in no text
                patience_s += MAKINGS * made.longest_s
    if works and not quick:
        trained = check_training(project, section, name, effort, rollout=rollout, patience_s=patience_s)
        yield from map(_of_quick, trained)
        if all(result.ok for result in trained) and (own := own_code(scenario)):
            proof = prove_resume(project, section, name, effort.training_s, rollout=rollout)
            yield CheckResult(f"a resume ends with the same bits ({', '.join(own)})", True, proof)
    if warning := scenario.overshoot(scenario.timesteps):  # not a failure: it trains, only further than asked
        yield CheckResult("a rollout fits the target", True, f"WARNING: {warning}")


def _of_quick(result: CheckResult) -> CheckResult:
    """Figures that are none of the whole training are called that."""
    return replace(result, detail=f"{result.detail} (with --quick)")


def _of_build(project: Path, section: Section, name: str, effort: Effort, quick: bool) -> Iterator[CheckResult]:
    """Of a training that is a function of the user's: what it makes, and whether that is saved and resumed."""
    scenario = section.agent(name)
    rollout, used = 1, FilesUsed()
    for made, what in ((scenario.for_quick(), "makes a training"), (scenario, "makes the whole training")):
        try:
            with contextlib.redirect_stdout(io.StringIO()), code_first.tried(made, SEED) as built:
                model, here = built.model, built.environments
                rollout = rollout if made is scenario else algorithms.rollout_steps(model)
                env = here.wrapped(here.factory())
                with contextlib.closing(env):
                    ok, detail = check_env(env, acting.takes_masks(type(model)))
                detail = detail if not ok else f"a {type(model).__name__} on {model.n_envs} environments; {detail}"
                found = [CheckResult(f"{scenario.build} {what}", ok, detail)]
                if ok and quick is (made is not scenario):
                    fits = _fits(model, sizes.rows_of_buffer(model), made.timesteps)
                    found.append(_of_quick(fits) if quick else fits)
                if found[-1].ok and not quick and made is scenario:
                    found += _of_built(section, scenario, built)
        except Exception as error:
            found = [CheckResult(f"{scenario.build} {what}", False, told(error))]
        yield from found
        if not all(result.ok for result in found):
            return
    if try_out.project != try_out.code and (warning := not_fingerprinted(scenario, used)):
        yield CheckResult("its files are fingerprinted", True, warning)
    if not quick:
        trained = check_training(project, section, name, effort, rollout=rollout)
        yield from map(_of_quick, trained)
        if all(result.ok for result in trained):
            proof = prove_resume(project, section, name, effort.training_s, rollout=rollout)
            own = ", ".join(own_code(scenario))
            yield CheckResult(f"a resume ends with the same bits ({own})", True, proof)


def _of_built(section: Section, scenario: ScenarioConfig, built: Built) -> list[CheckResult]:
    """What is measured of a training that a function of the user's has made."""
    training = functools.cache(lambda: share_of_built(built.model))
    found = [_gain(training)] if section.kernel.accelerator else []
    found.append(_evaluations(lambda: evaluation_share.measure_built(scenario, built, training())))
    if (here := built.environments).n_envs > 1:
        used = "subproc" if here.processes else "dummy"
        speeds = functools.partial(speeds_of, here, type(built.model))
        found.append(_speeds(here.n_envs, used, speeds, "give make_vec_env the vec_env_cls of {}"))
    return found


def check_sizes(scenario: ScenarioConfig, made: Pool) -> CheckResult:
    """A training's replay buffer, in memory and as a file, against what a session has; nothing of it is filled here."""
    try:
        with _model_of(scenario, made) as (model, capacity):
            return _fits(model, capacity // model.n_envs, scenario.timesteps)
    except Exception as error:
        return CheckResult(FITS, False, told(error))


@contextlib.contextmanager
def _model_of(scenario: ScenarioConfig, made: Pool) -> Iterator[tuple[BaseAlgorithm, int]]:
    """What a scenario trains, with a replay buffer of one row, and how many that was to have."""
    with contextlib.closing(made.environments(scenario).vectorised("none", SEED)) as vec:
        given, capacity = algorithms.without_buffer(scenario.algorithm, scenario.hyperparameters)
        yield algorithms.build_model(scenario.algorithm, scenario.policy, given, vec, seed=SEED, device="cpu"), capacity


FITS = "fits a session"


def _fits(model: BaseAlgorithm, capacity: int, timesteps: int) -> CheckResult:
    """`capacity` are the rows of its replay buffer, each over all environments."""
    rows, row = min(capacity, -(-timesteps // model.n_envs)), sizes.row_bytes(model)
    there, kept = try_out.memory_bytes, try_out.output_bytes
    if there and (found := sizes.too_large_for_memory(model, rows, row, there, "a session")):
        return CheckResult(FITS, False, found)
    said = f"the replay buffer takes {sizes.gigabytes(rows * row)} of memory" if rows else "it has no replay buffer"
    file = capacity * row  # stock Stable-Baselines3 writes every row of the buffer, however few are filled
    if kept and file > kept:
        said += (
            f"; WARNING: a session may leave {sizes.gigabytes(kept)}: the first save says how much of it the "
            "replay log will take, and the final model goes without the file of its buffer"
        )
    elif file > sizes.LARGE_FILE_BYTES:
        said += f"; its file beside the final model, which is downloaded as well, has {sizes.gigabytes(file)}"
        if rows < capacity:
            said += f"; WARNING: that is all {capacity:,} rows, and {rows:,} are filled: a smaller buffer_size will do"
    return CheckResult(FITS, True, said)


def check_training(
    project: Path,
    section: Section,
    name: str,
    effort: Effort = BRIEF,
    *,
    rollout: int | None = None,
    patience_s: float = FIRST_SAVE_S,
) -> list[CheckResult]:
    """The trainer as it is, on the quick variant: killed after its first save, resumed, and learning.

    Args:
        rollout: of the training, where the section does not say it.
        patience_s: seconds that it may compute before its first save, see `Patience`.
    """
    quick = section.agent(name).for_quick()
    rollout = rollout or quick.rollout
    target = -(-quick.timesteps // rollout) * rollout  # where it ends
    with scratch_folder("km_preflight_") as base:
        tree = tree_of(project, section, name, base, quick=True)
        command = [sys.executable, "-m", "kaggle_manager.trainer.sb3.train_dqn", "--quick", "--workdir", str(base)]
        command += ["--section", section.name, "--scenario", name]
        with (base / "log.txt").open("w+", encoding="utf-8") as log:
            with subprocess.Popen(
                command, cwd=project, env=_with_code(), stdout=log, stderr=subprocess.STDOUT
            ) as trainer:
                try:
                    _wait_for_save(trainer, tree.checkpoints, patience_s)
                finally:
                    trainer.kill()
            _wait_until_free(tree.root)
            log.seek(0)
            said = log.read().strip().splitlines()[-1:]
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                # Further than the first was to go: it may have got there before it was killed.
                outcome = train_here(
                    project,
                    section,
                    name,
                    base=base,
                    clock=SessionClock(effort.training_s),
                    quick=True,
                    timesteps=2 * target,
                    # Once, and of one episode, for each makes its environment anew.
                    evaluation=Evaluation(episodes=1, every=2 * target),
                )
        except Diverged as error:
            return [CheckResult("does not diverge", False, f"{error.message} Lower the learning rate in section.toml.")]
        except Exception as error:
            return [CheckResult("resumes after a kill", False, f"{told(error)}; the trainer said: {''.join(said)}")]
    if not outcome.resumed_from:
        look = f"the trainer saved nothing before it ended or had computed for {patience_s:.0f} s: {''.join(said)}"
        return [CheckResult("saves", False, look)]
    seen = f"killed, resumed from step {outcome.resumed_from}, ended at {outcome.step} of {2 * target}"
    if outcome.kind == "interrupted":
        seen += f"; WARNING: it was not waited for beyond {effort.training_s:.0f} s; --thorough waits longer"
        return [CheckResult("resumes after a kill", True, seen)]
    updates = outcome.counts.get("updates", 0)
    wanted = "" if updates else ": look at learning_starts and train_freq under `quick`"
    return [
        CheckResult("resumes after a kill", 2 * target <= (outcome.step or 0), seen),
        CheckResult("gradient updates are made", updates > 0, f"{updates} updates{wanted}"),
    ]


def check_accelerator(section: Section, name: str, made: Pool | None = None) -> list[CheckResult]:
    """What a GPU can gain at most, where sessions are to have one: said before the first costs quota; no failure."""
    if section.kernel.accelerator is None:
        return []
    scenario = section.agent(name)
    return [_gain(lambda: measure_share(scenario, made.environments(scenario) if made else None))]


def _gain(measure: Callable[[], NetworkShare | None]) -> CheckResult:
    what = "what the accelerator can gain"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            seen = measure()
    except Exception as error:
        return CheckResult(what, True, f"not known: {told(error)}")
    if seen is None:
        return CheckResult(what, True, "not known: no update came within seconds")
    said = (
        f"{seen.gain_at_most:.2g} times the speed of this CPU at most: the network takes {seen.share:.0%} of a timestep"
    )
    if seen.gain_at_most < WORTHWHILE_GAIN:
        said = f"WARNING: {said}; without `accelerator` in section.toml it costs none of the weekly quota"
    return CheckResult(what, True, said)


def check_vec_env(scenario: ScenarioConfig, made: Pool | None = None) -> list[CheckResult]:
    """Whether several environments step faster in processes of their own; no failure."""
    if scenario.n_envs == 1:
        return []

    def measure() -> dict[str, float]:
        return measure_vec_env(scenario, made.environments(scenario) if made else None)

    return [_speeds(scenario.n_envs, scenario.vec_env, measure, 'in section.toml: vec_env = "{}"')]


def _speeds(n_envs: int, used: str, measure: Callable[[], dict[str, float]], line: str) -> CheckResult:
    """`line` says how to have the kind `{}`."""
    what = "how its environments step"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            speeds = measure()
    except Exception as error:
        return CheckResult(what, True, f"not known: {told(error)}")
    faster = max(speeds, key=lambda kind: speeds[kind])
    said = ", ".join(f"{kind} {speed:,.0f}" for kind, speed in speeds.items())
    said = f"{n_envs} together, in steps a second with random actions on {os.cpu_count()} cores: {said}"
    if speeds[faster] > WORTHWHILE_GAIN * speeds[used]:
        said = f"WARNING: {said}; {line.format(faster)}"
    return CheckResult(what, True, said)


def check_lanes(project: Path, section: Section, name: str, made: Pool) -> list[CheckResult]:
    """Where a section has many runs: what two trainings side by side gain, and how many fit a session; no failure."""
    if section.kernel.lanes == 1 and section.sweep is None and len(section.training_seeds) < 2:
        return []
    what = "how several side by side train"
    scenario = section.agent(name)
    try:
        seen = measure_lanes(project, section.name, name, _with_code())
        with _model_of(scenario, made) as (model, capacity):
            rows = min(capacity, scenario.timesteps) // model.n_envs
            takes = (seen.process_bytes if seen else 0) + rows * sizes.row_bytes(model)
    except Exception as error:
        return [CheckResult(what, True, f"not known: {told(error)}")]
    if seen is None:
        return [CheckResult(what, True, "not known: no update came within seconds")]
    said = f"two train {seen.gain:.2g} times as much as one on {seen.cores} cores, with {sizes.gigabytes(takes)} each"
    fits, line, asked = (try_out.memory_bytes or sys.maxsize) // max(takes, 1), "", section.kernel.lanes
    if asked > max(fits, 1):
        said = f"WARNING: {said}; of lanes = {asked} no more than {max(fits, 1)} fit a session, and are used"
    elif asked == 1 and fits > 1 and seen.gain >= WORTHWHILE_GAIN:
        line = "lanes = 2"
        said += f"; several seeds or trials train so in one session with `{line}` under [kernel] in section.toml"
    elif asked > 1 and seen.gain < WORTHWHILE_GAIN:
        said = f"WARNING: {said}; lanes = {asked} may take longer than one session after the other"
    return [CheckResult(what, True, said, line, lane_bytes=takes)]


def check_evaluations(scenario: ScenarioConfig, made: Pool | None = None) -> CheckResult:
    """What evaluations take beside the training, and how often they could come; no failure."""
    return _evaluations(lambda: evaluation_share.measure(scenario, made))


def _seconds(number: float) -> str:
    return f"{number:.2g} s" if number < 10 else f"{number:,.0f} s"


def _evaluations(measure: Callable[[], evaluation_share.EvaluationShare | None]) -> CheckResult:
    what = "what evaluations take"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            seen = measure()
    except Exception as error:
        return CheckResult(what, True, f"not known: {told(error)}")
    if seen is None:
        return CheckResult(what, True, "not known: no update came within seconds")
    said = (
        f"each takes {seen.bound} {_seconds(seen.evaluation_s)} per {_seconds(seen.every * seen.step_s)} of training "
        f"({seen.every:,} timesteps): {seen.share:.0%} of the time of one processor"
        f"{f'; {seen.why}' if seen.why else ''}"
    )
    line = f"every = {seen.advised:_}" if seen.advised else ""
    if seen.is_too_much:
        said = f"WARNING: {said}; `{line}` under `evaluation` in section.toml makes it less than a tenth"
    elif seen.share >= evaluation_share.MOST:
        said += f"; evaluating less often would leave fewer than {evaluation_share.FEWEST}; use fewer `episodes`"
    return CheckResult(what, True, said, line)


def _wait_for_save(trainer: subprocess.Popen[bytes], checkpoints: Path, patience_s: float) -> None:
    """Return once a checkpoint was committed, the trainer ended, or patience with it did."""
    patience = Patience(trainer.pid, patience_s)
    for look in itertools.count():
        if trainer.poll() is not None or any(checkpoints.glob("*.manifest.json")):
            return
        if look % 100 == 0 and patience.is_over:  # which reads much
            return
        time.sleep(0.01)


def _wait_until_free(tree: Path) -> None:
    """Return once nobody holds the tree: what a trainer was just forking when it was killed does for a moment."""
    deadline = time.monotonic() + LONGEST_HELD_S
    while time.monotonic() < deadline:
        try:
            with hold_tree(tree):
                return
        except Busy:
            time.sleep(0.05)


def _with_code() -> dict[str, str]:
    """The environment of a process that shall find the same modules as this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a section; see `report`."""
    parser = argparse.ArgumentParser(prog="python -m kaggle_manager.trainer.sb3.preflight", description=__doc__)
    parser.add_argument("section")
    add_options(parser)
    options = parser.parse_args(arguments)

    def check() -> Iterator[CheckResult]:
        project, section = open_project(options.section)
        effort = THOROUGH if options.thorough else BRIEF
        return preflight(
            project, section, options.scenario, effort=effort, quick=options.quick, evaluations=options.evaluations
        )

    return report(check, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
