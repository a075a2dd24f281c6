"""A section's preflight, run beside the manager in a process of its own: is it worth a session?

`check_section` tries what travels (`try_out`) and returns what was found. `run_preflight` does so once for each
content, before a push of it, and refuses to go on when a check fails. Nothing is imported from the section here, and no
training tree is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Disk
from kaggle_manager.checkpoints.atomic_io import write_atomic
from kaggle_manager.config import RunConfig
from kaggle_manager.console.checks import counted, show
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import InputMissing, VerificationError
from kaggle_manager.platforms.platform import Limits
from kaggle_manager.sections.input_folders import as_variable, inputs_here
from kaggle_manager.sections.inputs import VARIABLE
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import module_of
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sessions.bundle import build_bundle
from kaggle_manager.sessions.connection import limits_of
from kaggle_manager.sessions.kept_spaces import refuse_other_spaces, spaces_now
from kaggle_manager.sessions.known_before import doubts, lacking_imports, modules_not_here, not_installed, problems
from kaggle_manager.sessions.missing import advice_on
from kaggle_manager.sessions.try_out import TryOutPlace, unpacked
from kaggle_manager.system.accelerators import remark
from kaggle_manager.system.command_line import WhichTree
from kaggle_manager.system.file_lock import hold
from kaggle_manager.system.formatting import count, duration
from kaggle_manager.system.own_group import run_in_group

GENERIC, OF_SCRIPTS = "kaggle_manager.trainer.sb3.preflight", "kaggle_manager.trainer.script.preflight"
LONGEST_S, LONGEST_THOROUGH_S = 600.0, 3600.0
"""Seconds that may pass, or be computed on a busy machine, from one result to the next."""
LOOK_S = 0.2
MOST_REMEMBERED = 200

Check = dict[str, Any]
"""`{"name", "ok", "detail"}`; `line`: what to write into section.toml, where that would make it better; `lane_bytes`:
memory that the training takes, where it was measured."""


def missing_packages(section: Section, project: Path | None = None) -> list[str]:
    """What this machine would have to install to train `section` itself; a kernel installs it for its session.

    Args:
        project: where its scripts are, of which the modules they import are looked for as well.
    """
    missing = not_installed(section)
    scripts = [each for each in section.scenarios.values() if isinstance(each, ScriptScenario)]
    modules = [name for each in scripts if project for name in modules_not_here(project, section, each)]
    return [*missing, *(name for name in dict.fromkeys(modules) if name not in missing)]


def check_section(
    project: Path,
    section: Section,
    scenarios: Sequence[str] = (),
    *,
    inputs: Mapping[str, Path] | None = None,
    limits: Limits | None = None,
    quick: bool = False,
    thorough: bool = False,
    evaluations: bool = False,
    on_result: Callable[[Check], None] = lambda check: None,
    on_wait: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run the section's own preflight, or the one that holds for every section, in what travels.

    Args:
        inputs: where the data is that the scenarios read, see `inputs_of`.
        limits: of the platform that is to train them; None where they do not matter.
        quick: without a trial training, which a quick run is itself.
        thorough: longer looks at everything.
        evaluations: measure what they take, also where `quick` is given; for a section without a preflight of its own.
        on_result: called with each check as soon as it is over.
        on_wait: called every second meanwhile.

    Returns:
        `{"schema": 1, "ok": bool, "checks": [{"name", "ok", "detail", "line", "lane_bytes"}, ...]}`.

    Raises:
        VerificationError: the checks could not be carried out; carries the last lines of their process.
        ConfigError: a file that is to travel is not there.
    """
    if known := known_failures(project, section, scenarios):
        for check in known:
            on_result(check)
        return {"schema": 1, "ok": False, "checks": known}
    doubtful: list[Check] = [
        {"name": "section.toml", "ok": True, "detail": f"WARNING: {text}"} for text in doubts(section)
    ]
    for check in doubtful:
        on_result(check)
    options = [name for name, asked in (("--quick", quick), ("--thorough", thorough)) if asked]
    options += ["--evaluations"] if evaluations else []
    own = section.folder / "preflight.py"
    if own.is_file():
        trials = [([module_of(project, own)], [*scenarios])]
    else:
        scripts = {name for name, each in section.scenarios.items() if isinstance(each, ScriptScenario)}
        names = [*(scenarios or section.scenarios)]
        agents = [name for name in names if name not in scripts]
        trials = [([GENERIC, section.name], agents if scripts else [*scenarios])] if agents or not names else []
        # A quick run is stopped and resumed itself.
        if of_scripts := [name for name in names if name in scripts and not quick]:
            trials.append(([OF_SCRIPTS, section.name], of_scripts))
    checks = doubtful
    ok, advised = True, partial(_advised, project, section)
    for module, named in trials:
        command = [*module, "--json", *options, *(["--scenario", *named] if named else [])]
        longest_s = LONGEST_THOROUGH_S if thorough else LONGEST_S
        place = unpacked(project, section, limits)
        result = _tried(place, section, command, inputs, longest_s, lambda check: on_result(advised(check)), on_wait)
        checks, ok = [*checks, *map(advised, result["checks"])], ok and result["ok"]
    return {"schema": 1, "ok": ok, "checks": checks}


def _advised(project: Path, section: Section, check: Check) -> Check:
    """A check with what to do where a script lacks a file of the project."""
    advice = "" if check["ok"] else advice_on(check["detail"], project, section)
    return {**check, "detail": f"{check['detail']}; {advice}"} if advice else check


def _tried(
    unpacking: AbstractContextManager[TryOutPlace],
    section: Section,
    words: Sequence[str],
    inputs: Mapping[str, Path] | None,
    longest_s: float,
    on_result: Callable[[Check], None],
    on_wait: Callable[[], None],
) -> dict[str, Any]:
    """The result of a preflight's process, in what travels."""
    with unpacking as place:
        environ = place.environ | ({VARIABLE: as_variable(inputs)} if inputs else {})
        command = place.command(*words)

        def progress() -> int:
            on_wait()
            return place.progress.stat().st_size if place.progress.exists() else 0

        try:
            with _told_as_they_come(place.progress, on_result):
                done = run_in_group(command, timeout=longest_s, progress=progress, cwd=place.code, env=environ)
            return _result_in(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise _not_carried_out(section, f"they came no further for {longest_s:.0f} s") from error
        except ValueError as error:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
            raise _not_carried_out(section, " ".join(said[-3:])) from error


def _result_in(text: str) -> dict[str, Any]:
    """The newest result in what a preflight printed; the environment itself may print, before it and after.

    Raises:
        ValueError: there is none.
    """
    for found in reversed([*re.finditer(r"\{\s*\"schema\"", text)]):
        with contextlib.suppress(ValueError):
            result, _ = json.JSONDecoder().raw_decode(text, found.start())
            if isinstance(result.get("ok"), bool) and isinstance(result.get("checks"), list):
                return dict(result)
    raise ValueError("no result")


def known_failures(project: Path, section: Section, scenarios: Sequence[str] = ()) -> list[Check]:
    """What text alone says will fail, in the whole training or in its quick variant.

    Raises:
        ConfigError: a file that is to travel is not there.
    """
    bundle = build_bundle(project, section)
    found = []
    for name in scenarios or section.scenarios:
        whole = section.scenario(name)
        wrong = dict.fromkeys(
            text for each in (whole, whole.for_quick()) for text in problems(project, section, each, bundle)
        )
        found += [{"name": f"{name}: section.toml", "ok": False, "detail": text} for text in wrong]
    return found


def run_preflight(config: RunConfig, reporter: Reporter, stated: Mapping[str, Any] | None = None) -> None:
    """Check what `config` is about to push; at once when this very content has passed before.

    Args:
        stated: the identity of the checkpoint it continues with a change that the user accepts; None for no change.

    Raises:
        CheckpointIncompatible: the spaces are not those that are stated.
        VerificationError: a check failed; names each, and what to look at.
        ConfigError: a file that is to travel is not there.
    """
    is_script = isinstance(config.scenario, ScriptScenario)
    if stated and not is_script and not _not_here(config):
        reporter.line(
            "  making the environment, to compare its spaces with the checkpoint's, for a change was accepted"
        )
        refuse_other_spaces(config, stated, spaces_now(config, inputs_of(config)))
    if warning := config.scenario.overshoot(config.target):
        reporter.warn(warning)
    if _passed(config).get(_content_of(config), {}).get("depth", -1) >= _depth(config):
        return
    accelerator = config.section.kernel.accelerator if config.section.has_image else None  # else one of another name
    if warning := remark(accelerator):
        reporter.warn(warning)
    refuse_mistakes(config)
    if not_here := _not_here(config):
        lacking = lacking_imports(config.project_root, config.section, config.scenario)
        for doubt in (*doubts(config.section), *lacking):
            reporter.warn(doubt)
        reporter.line(f"  preflight: names and files were checked; skipped is what needs {not_here}")
        return
    if is_script and config.quick and not (config.section.folder / "preflight.py").is_file():
        reporter.line(
            "  preflight: names and files were checked; a quick run leaves the trial out, for it is stopped and "
            f"resumed itself. To try it here, in a minute or two: {_again(config)}"
        )
        for doubt in doubts(config.section):
            reporter.warn(doubt)
        remember_passed(config)
        return
    reporter.line(
        f"  preflight of {config.scenario_in_section}, before a session is spent on it (once for each state of it)"
    )
    names, inputs = [config.scenario_in_section], inputs_of(config)
    given = {"inputs": inputs, "limits": limits_of(config), "quick": config.quick}
    checks = shown(reporter, config.project_root, config.section, names, **given)["checks"]
    _raise_for_failed(config, checks)
    remember_passed(config, checks)


def shown(
    reporter: Reporter, project: Path, section: Section, scenarios: Sequence[str], **options: Any
) -> dict[str, Any]:
    """As `check_section`, which takes the `options`: each check as it comes, what happens meanwhile, and the counts."""
    told: list[Check] = []

    def tell(check: Check) -> None:
        told.append(check)
        show(reporter, check)

    reporter.phase("preflight")
    began = time.monotonic()

    def wait() -> None:
        reporter.status(f"preflight: {count(len(told), 'check')} so far, in {duration(time.monotonic() - began)}")

    result = check_section(project, section, scenarios, on_result=tell, on_wait=wait, **options)
    for check in result["checks"][len(told) :]:  # one that a preflight of the section's own has kept to itself
        show(reporter, check)
    reporter.line(counted(result["checks"]))
    return result


def refuse_mistakes(config: RunConfig) -> None:
    """Raise VerificationError for what is wrong by the text alone, such as a misspelt hyperparameter."""
    _raise_for_failed(config, known_failures(config.project_root, config.section, [config.scenario_name]))


def _raise_for_failed(config: RunConfig, checks: Sequence[Check]) -> None:
    failed = [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
    if failed:
        raise VerificationError(
            f"The preflight of {config.section.name}/{config.scenario_name} failed:\n  " + "\n  ".join(failed),
            safe="nothing was pushed; no training tree was touched",
            next_step=f"correct what it names, and try: {_again(config)}",
        )


def _again(config: RunConfig) -> str:
    """The command that tries the same for its platform."""
    return config.command("preflight", *(["--platform", config.platform] if config.trains_elsewhere else []))


def _not_here(config: RunConfig) -> str:
    """What this machine lacks to try it, and how to have it; '' for nothing."""
    if missing := missing_packages(config.section, config.project_root):
        return f"{', '.join(missing)}, which would have to be installed here"
    try:
        inputs_of(config)
    except InputMissing as error:
        return f"its input data. {error.message} To have it: {error.next_step}"
    return ""


def inputs_of(*configs: RunConfig) -> dict[str, Path]:
    """Where on this machine the data is that these scenarios read.

    Raises:
        InputMissing: some of it is not here.
    """
    found: dict[str, Path] = {}
    for config in configs:
        asked = config.section.inputs_of(config.scenario_name)
        found |= inputs_here(asked, config.state)
    return found


def remember_passed(config: RunConfig, checks: Sequence[Check] = ()) -> None:
    """From now on `run_preflight` lets this content pass at once, and what its checks have measured is known."""
    content = _content_of(config)
    own = [check for check in checks if check["name"].startswith(f"{config.scenario_in_section}: ")]
    measured = [int(check.get("lane_bytes", 0)) for check in own]
    found = {"depth": _depth(config), "lane_bytes": max(measured, default=0)}
    file = _file(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    with hold(file.with_suffix(".lock"), wait_s=10.0):
        known = _passed(config)
        before = known.get(content, {})
        passed = {**known, content: {name: max(value, before.get(name, -1)) for name, value in found.items()}}
        newest = dict([*passed.items()][-MOST_REMEMBERED:])
        write_atomic(Disk(), file, json.dumps(newest, indent=2).encode())


def lanes_that_fit(config: RunConfig, limits: Limits) -> int:
    """How many such trainings fit the memory of one session, as far as it was measured."""
    takes = _passed(config).get(_content_of(config), {}).get("lane_bytes", 0)
    return max(1, limits.memory_bytes // takes) if limits.memory_bytes and takes else sys.maxsize


def _content_of(config: RunConfig) -> str:
    """Digest of what a session would run: its code, section.toml with it, and which of its scenarios.

    Another seed is the same content, and so are other versions of the libraries of this machine; a session that does
    not have an image, or has another amount of memory, is another one.
    """
    bundle = build_bundle(config.project_root, config.section)
    what = [
        bundle.sha256,
        config.section.name,
        config.scenario_in_section,
        *["elsewhere"] * (not config.section.has_image),
        limits_of(config).memory_bytes,
    ]
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _depth(config: RunConfig) -> int:
    """How much has to be tried, whatever the target: a whole training's checks are those of a quick run, and more."""
    return 0 if config.quick else 1


def _file(config: RunConfig) -> Path:
    return config.state / "preflight.json"


def _passed(config: RunConfig) -> dict[str, dict[str, int]]:
    """Content -> how much of it has passed (`_depth`), and what was measured; nothing without a file to be read."""
    try:
        known = json.loads(_file(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = known if isinstance(known, dict) else {}
    return {
        content: {name: value for name, value in said.items() if isinstance(value, int)}
        for content, said in known.items()
        if isinstance(said, dict)
    }


@contextlib.contextmanager
def _told_as_they_come(file: Path, on_result: Callable[[Check], None]) -> Iterator[None]:
    """Call `on_result` with each line that is appended to `file`, from a thread of its own."""
    ended, told = threading.Event(), 0

    def tell_new() -> None:
        nonlocal told
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        for line in lines[told:]:
            told += 1
            with contextlib.suppress(ValueError):
                on_result(json.loads(line))

    def watch() -> None:
        while not ended.wait(LOOK_S):
            tell_new()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell_new()


def _not_carried_out(section: Section, why: str) -> VerificationError:
    return VerificationError(
        f"The preflight of {section.name} could not be carried out: {why}",
        safe="nothing was pushed; no training tree was touched",
        next_step=f"remove the cause, and try: {WhichTree(section.name).command('preflight')}",
    )
