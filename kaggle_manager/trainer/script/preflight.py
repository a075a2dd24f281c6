"""Whether a script keeps to the contract of docs/scripts.md, tried on this machine in what travels.

    python -m kaggle_manager.trainer.script.preflight SECTION [--scenario NAME ...] [--json]

Its quick variant is run for a moment; then once more, asked to stop at its first checkpoint, resumed, killed at the
next, and resumed again. Its checkpoints are committed, refused and given back as in a session, in the same words. Where
those of both are the same, byte for byte, the resumes have lost nothing. What is the same in no two runs is told as
that. No training tree of the project is touched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import find_project, get_section
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.system.formatting import count
from kaggle_manager.system.scratch import scratch_folder
from kaggle_manager.trainer.runtime.checks import CheckResult, add_options, report
from kaggle_manager.trainer.script import tried
from kaggle_manager.trainer.script.differences import different, entries, listed, summed_up
from kaggle_manager.trainer.script.tried import Ended, Training

MOMENT_S, THOROUGH_S = 60.0, 600.0
"""Seconds that each of the runs may take."""
# With so many times the target it is asked to stop after so many times as long, well into its training.
_MORE, _LATER = 100, 1.5
_LONGER = "try it longer, with --thorough"
# Shares of the time of a whole run, after which one that has saved and told nothing yet is asked to stop: while it
# imports its libraries it cannot answer, so a later one is tried.
_ASKED_AT = (0.6, 0.85, 0.95)


def preflight(
    project: Path, section: Section, scenarios: Sequence[str] = (), *, moment_s: float = MOMENT_S
) -> Iterator[CheckResult]:
    """Run every check for the named scenarios, or for all that are scripts."""
    for name in scenarios or section.scenarios:
        scenario = section.scenario(name)
        if isinstance(scenario, ScriptScenario):
            for result in _of_scenario(project, section, name, scenario.for_quick(), moment_s):
                yield replace(result, name=f"{name}: {result.name}")


def _of_scenario(
    project: Path, section: Section, name: str, scenario: ScriptScenario, moment_s: float
) -> Iterator[CheckResult]:
    with scratch_folder("km_preflight_") as folder:

        def training(which: str, times: int = 1) -> Training:
            more = scenario.model_copy(update={"target": times * scenario.target})
            return Training(folder / which, project, section, name, more, moment_s)

        whole = training("whole")
        try:
            ended = whole.run("run")
        except ConfigError as error:
            yield CheckResult("starts", False, error.message)
            return
        result = _trained(whole, ended)
        yield result
        if not result.ok or not whole.saved:
            return
        for words in whole.told:
            yield CheckResult("what a session keeps", True, f"WARNING: {words}")
        cut = training("cut")
        cut.moment_s = max(moment_s, 1.5 * ended.seconds)
        for share in _ASKED_AT:
            stopped = cut.run("stop", stop_after_s=share * ended.seconds)
            if cut.saved or stopped.stopped_s is None or stopped.refused:
                break
        if not stopped.refused and not scenario.target > max(cut.saved, default=0) > 0:
            # It was at its beginning or its end when it was asked; with more to do it can show that it stops.
            longer = training("longer", times=_MORE)
            yield _stopped(longer, longer.run("stop", stop_after_s=_LATER * ended.seconds))
        else:
            yield _stopped(cut, stopped)
        if stopped.refused:
            return
        before = cut.newest
        killed = cut.run("kill") if max(cut.saved, default=0) < scenario.target else None
        last = cut.run("run") if max(cut.saved, default=0) < scenario.target else killed
        resumed = [each for each in (killed, last) if each is not None]
        failed = next((each for each in resumed if each.code), None)
        for each in resumed:
            if each.refusal:
                yield CheckResult("resumes", False, each.refusal)
                return
            if from_zero := each.resumed.perhaps_from_zero if each.code else each.resumed.from_zero:
                yield CheckResult("resumes", False, from_zero + (f" ({each.words})" if each.code else ""))
                return
        if failed is not None:
            at = f"step {before.step:,}" if before else "zero"
            yield CheckResult(
                "resumes", False, f"continued from {at}, it ended with exit code {failed.code}: {failed.words}"
            )
            return
        yield from _compared(whole, cut, training("again"), resumed)


def _trained(whole: Training, ended: Ended) -> CheckResult:
    what, scenario = "trains and saves", whole.scenario
    last = max(whole.saved, default=0)
    if ended.refused:
        return CheckResult(what, False, ended.refusal)
    if ended.code is not None and ended.code != 0 and ended.stopped_s is None:
        return CheckResult(what, False, f"it ended with exit code {ended.code}: {ended.words}")
    if not whole.saved:
        left = f"; in its saves folder there is {', '.join(ended.left[:5])}" if ended.left else ""
        if ended.stopped_s is None:
            words = f"it ended after {ended.seconds:.0f} s and had committed no checkpoint"
            return CheckResult(what, False, words + left)
        return _saved_nothing(whole, ended, left)
    if ended.code == 0 and ended.stopped_s is None and last < scenario.target:
        return CheckResult(what, False, f"it ended by itself at {last:,} of {scenario.target:,} {scenario.unit}")
    assert whole.newest is not None
    size = whole.newest.manifest.size
    return CheckResult(
        what,
        True,
        f"{count(len(whole.saved), 'checkpoint')}, the last at {last:,} of {scenario.target:,} "
        f"{scenario.unit} and of {size / 1e6:.1f} MB, in {ended.seconds:.0f} s (with --quick)",
    )


def _saved_nothing(whole: Training, ended: Ended, left: str) -> CheckResult:
    """Of one that was asked to stop when its time was over."""
    assert ended.stopped_s is not None
    how = f"in {ended.seconds - ended.stopped_s:.0f} s, and after SIGTERM, it committed no checkpoint{left}"
    why = "save into KM_SESSION_SAVES/<step>.tmp and rename that folder to <step>, often enough and when SIGTERM comes"
    reached = (
        f"it had reached step {ended.highest:,}"
        if ended.highest is not None
        else "no step was reached, as far as it told"
    )
    told_one = ended.lowest == ended.highest
    # Who has tried for ten minutes, and sees no step, may have a slow machine and a script that is right.
    if whole.moment_s >= THOROUGH_S and told_one and ended.code != 0:
        return CheckResult(
            "trains and saves",
            True,
            f"WARNING: not known: {how}; {reached}. Give `quick` a smaller target, or `arguments` by which a step "
            "takes less",
        )
    slow = "" if whole.moment_s >= THOROUGH_S or not told_one else f". If it is slow here: {_LONGER}"
    return CheckResult("trains and saves", False, f"{how}; {reached}: {why}{slow}")


def _stopped(cut: Training, ended: Ended) -> CheckResult:
    what = "stops when asked"
    if ended.refused:
        return CheckResult(what, False, ended.refusal)
    if ended.stopped_s is None:
        return CheckResult(
            what, True, "WARNING: not known: it had ended before it could be asked; give `quick` a larger target"
        )
    if max(cut.saved, default=0) >= cut.scenario.target:
        return CheckResult(what, True, "WARNING: not known: it reached its target before it heeded SIGTERM")
    if ended.code is None:
        return CheckResult(
            what,
            True,
            f"WARNING: it had not ended {tried.GRACE_S:.0f} s after SIGTERM; a session would kill it, and what it "
            "did since its newest checkpoint would be done again",
        )
    if ended.code != 0:
        return CheckResult(
            what,
            True,
            "WARNING: SIGTERM ended it without a last checkpoint (0 is owed): what it did since the newest "
            "one would be done again",
        )
    if not cut.saved:
        return CheckResult(what, True, "WARNING: it ended with 0 and had saved nothing")
    return CheckResult(what, True, f"it saved step {max(cut.saved):,} and ended {ended.stopped_s:.1f} s after SIGTERM")


def _compared(whole: Training, cut: Training, again: Training, resumed: Sequence[Ended]) -> Iterator[CheckResult]:
    what, unit = "a resume loses nothing", whole.scenario.unit
    first = min(cut.saved, default=0)
    common = [step for step in sorted({*whole.saved} & {*cut.saved}) if step > first]
    if not common and any(each.was_too_slow for each in resumed):
        yield CheckResult(
            what,
            True,
            f"WARNING: not known: it had to be stopped after {cut.moment_s:.0f} s, before its work was done; {_LONGER}",
        )
        return
    if not common:
        at = f"{sorted(whole.saved)[-3:]} and {sorted(cut.saved)[-3:]}"
        yield CheckResult(what, True, f"WARNING: not known: the runs have no later checkpoint in common ({at} {unit})")
        return
    differing = [step for step in common if different(whole.saved[step], cut.saved[step])]
    if not differing:
        files = count(len(whole.saved[common[-1]]), "file")
        yield CheckResult(
            what,
            True,
            f"stopped, killed and resumed, its {files} of step {common[-1]:,} are those of a "
            "run that was never cut, bit for bit",
        )
        return
    if again_from_zero := next(filter(None, (each.resumed.perhaps_from_zero for each in resumed)), ""):
        yield CheckResult("resumes", False, again_from_zero)
        return
    again.run("run")
    yield CheckResult(what, True, _lost(whole, cut, again, differing))


def _lost(whole: Training, cut: Training, again: Training, differing: list[int]) -> str:
    """In words, what differs after a resume and is the same in two runs that were never cut."""
    step = differing[-1]
    names = different(whole.saved[step], cut.saved[step])
    unlike = different(whole.saved[step], again.saved[step]) if step in again.saved else []
    chance: list[str] = []
    opened = all(each.newest is not None and each.newest.step == step for each in (whole, cut, again))
    lost = [name for name in names if name not in unlike and _entries_of(whole, cut, name, opened) != []]
    for name in (name for name in names if name in unlike):
        by_cut, by_chance = _entries_of(whole, cut, name, opened), _entries_of(whole, again, name, opened)
        if by_cut is None or by_chance is None:
            return (
                f"WARNING: not known: two runs that were never cut differ as well, at step {step:,} in {listed(unlike)}"
                "; seed everything by KM_SESSION_SEED, and keep times and paths out of checkpoints"
            )
        chance += [f"{name}: {entry}" for entry in by_chance]
        lost += [f"{name}: {entry}" for entry in by_cut if entry not in by_chance]
    if lost:
        inside = [f"{name}: {entry}" for name in lost for entry in _entries_of(whole, cut, name, opened) or ()]
        return (
            f"WARNING: it lost something: at step {step:,} {listed(summed_up(inside or lost))}: not what a run that "
            "was never cut has; save the optimizer, every random generator and the position in the data as well"
        )
    unseeded = " (not seeded?)" if any("random" in each for each in chance) else ""
    by_chance_alone = (
        f", but for what differs between any two runs: {listed(summed_up(chance))}{unseeded}" if chance else ""
    )
    return (
        f"stopped, killed and resumed, at step {step:,} everything is as in a run that was never cut{by_chance_alone}"
    )


def _entries_of(one: Training, two: Training, name: str, opened: bool) -> list[str] | None:
    """Entries in which a file of theirs differs; None where nobody can tell."""
    return entries(one.file(name), two.file(name)) if opened and ": " not in name else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the scripts of a section; see `checks.report`."""
    parser = argparse.ArgumentParser(prog="python -m kaggle_manager.trainer.script.preflight", description=__doc__)
    parser.add_argument("section")
    add_options(parser)
    options = parser.parse_args(arguments)

    def check() -> Iterator[CheckResult]:
        project = find_project(Path.cwd(), options.section)
        moment_s = THOROUGH_S if options.thorough else MOMENT_S
        return preflight(project, get_section(project, options.section), options.scenario, moment_s=moment_s)

    return report(check, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
