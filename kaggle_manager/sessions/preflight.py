"""A section's preflight, run beside the manager in a process of its own: is it worth a session on Kaggle?

`check_section` runs the checks and returns what they found. `run_preflight` runs them once for each state of the code,
and refuses to go on when one does not hold. Nothing is imported from the section here, and no training tree is touched.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kaggle_manager.accelerators import remark
from kaggle_manager.config import RunConfig
from kaggle_manager.console.formatting import count
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError, InputMissing, VerificationError
from kaggle_manager.sections.input_folders import as_variable, inputs_here
from kaggle_manager.sections.inputs import VARIABLE
from kaggle_manager.sections.model import Section
from kaggle_manager.sections.project import module_of
from kaggle_manager.sessions.bundle import INSTALLED, PACKAGE, build_bundle
from kaggle_manager.system.arithmetic import pinned
from kaggle_manager.system.command_line import WhichTree
from kaggle_manager.system.own_group import run_in_group

GENERIC = "kaggle_manager.trainer.sb3.preflight"
LONGEST_S = 600.0


def missing_packages(section: Section) -> list[str]:
    """What this machine would have to install to train `section` itself; a kernel installs it for its session."""
    wanted = ["torch", *(package.partition("==")[0].partition("[")[0] for package in section.kernel.packages)]
    return [name for name in wanted if not _is_installed(name)]


def check_section(
    project: Path,
    section: Section,
    scenarios: Sequence[str] = (),
    *,
    environment_only: bool = False,
    inputs: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Run the section's own preflight, or the one that holds for every section; of that, the environment's part alone.

    Args:
        inputs: where the data is that the scenarios read, see `inputs_of`.

    Returns:
        `{"schema": 1, "ok": bool, "checks": [{"name", "ok", "detail"}, ...]}`.

    Raises:
        VerificationError: the checks could not be carried out; carries the last words of their process.
    """
    _check_not_hidden(project)
    own = section.folder / "preflight.py"
    module = [module_of(project, own)] if own.is_file() else [GENERIC, section.name]
    if environment_only:
        module = [GENERIC, section.name, "--environment-only"]
    command = [sys.executable, "-m", *module, "--json", *(["--scenario", *scenarios] if scenarios else [])]
    places = filter(None, [str(project), os.environ.get("PYTHONPATH")])
    try:
        # A preflight of the section's own may load NumPy before the trainer.
        environ = {**pinned(os.environ), "PYTHONPATH": os.pathsep.join(places), "PYTHONIOENCODING": "utf-8"}
        environ |= {VARIABLE: as_variable(inputs)} if inputs else {}
        done = run_in_group(command, timeout=LONGEST_S, cwd=project, env=environ)
        # The environment itself may print, before it and after.
        result, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.rindex('{\n  "schema"'))
    except subprocess.TimeoutExpired as error:
        raise _not_carried_out(section, f"they took longer than {LONGEST_S:.0f} s") from error
    except ValueError as error:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise _not_carried_out(section, " ".join(said[-3:])) from error
    return dict(result)


def _check_not_hidden(project: Path) -> None:
    """Python would import a `kaggle_manager` of the project instead of this program, and check something else."""
    other = next((place for place in (project / PACKAGE, project / f"{PACKAGE}.py") if place.exists()), None)
    if other is not None and other.resolve() != (INSTALLED / PACKAGE).resolve():
        raise ConfigError(
            f"{other} has the name of this program, which Python would not find beside it.",
            safe="nothing was pushed",
            next_step="rename it; in a checkout of this program, use the environment that `scripts/bootstrap.py` makes",
        )


def run_preflight(config: RunConfig, reporter: Reporter) -> None:
    """Check what `config` trains before its first push; at once when this very code has passed before.

    Raises:
        VerificationError: a check does not hold; names each, and what to look at.
    """
    for warning in (config.scenario.overshoot(config.target), remark(config.section.kernel.accelerator)):
        if warning:
            reporter.warn(warning)
    if missing := missing_packages(config.section):
        reporter.line(f"  preflight skipped: {', '.join(missing)} would have to be installed here")
        return
    try:
        inputs = inputs_of(config)
    except InputMissing as error:
        reporter.line(f"  preflight skipped: {error.message} To have it: {error.next_step}")
        return
    name = f"{config.section.name}/{config.scenario_name}"
    if _passed(config).get(name) == _state_of(config):
        return
    reporter.line(
        f"  preflight of {config.scenario_name}, before a session is spent on it (once; longer for a slow environment)"
    )
    checks = check_section(config.project_root, config.section, [config.scenario_name], inputs=inputs)["checks"]
    failed = [f"{check['name']}: {check['detail']}" for check in checks if not check["ok"]]
    if failed:
        raise VerificationError(
            f"The preflight of {name} does not hold:\n  " + "\n  ".join(failed),
            safe="nothing was pushed; no training tree was touched",
            next_step=f"correct what it names, and try: {config.command('preflight')}",
        )
    for check in checks:
        if "WARNING: " in check["detail"]:
            reporter.warn(f"{check['name']}: {check['detail']}")
    reporter.line(f"  preflight: {count(len(checks), 'check')} passed")
    remember_passed(config)


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


def remember_passed(config: RunConfig) -> None:
    """From now on `run_preflight` lets this very code of this scenario pass at once."""
    passed = {**_passed(config), f"{config.section.name}/{config.scenario_name}": _state_of(config)}
    file = _file(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.tmp")
    unfinished.write_text(json.dumps(passed, indent=2), encoding="utf-8")
    unfinished.replace(file)


def _state_of(config: RunConfig) -> str:
    """Digest of everything a preflight's result depends on: the code of the kernel, its own, and the libraries'."""
    digest = hashlib.sha256(build_bundle(config.project_root, config.section).sha256.encode())
    names = ["torch", *(package.partition("==")[0].partition("[")[0] for package in config.section.kernel.packages)]
    digest.update(repr([sys.version, *((name, importlib.metadata.version(name)) for name in names)]).encode())
    return digest.hexdigest()


def _file(config: RunConfig) -> Path:
    return config.state / "preflight.json"


def _passed(config: RunConfig) -> dict[str, str]:
    """What has passed before; nothing when the file is not there or cannot be read: then it is found out anew."""
    try:
        known = json.loads(_file(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _not_carried_out(section: Section, why: str) -> VerificationError:
    return VerificationError(
        f"The preflight of {section.name} could not be carried out: {why}",
        safe="nothing was pushed; no training tree was touched",
        next_step=f"remove the cause, and try: {WhichTree(section.name).command('preflight')}",
    )
