"""A workflow of GitHub Actions.

A runner starts empty, so what a run must remember - the journal and the training tree, neither of which holds a
secret - travels between ticks in the repository's cache. A cache and not an artifact, because a pull request from a
fork cannot write into the cache of the default branch, reading it needs no token, and it is kept as long as it is
used. Both can be lost; a scheduled tick that finds no state therefore stops instead of starting a run once more from
zero: a run begins when a user starts the workflow with `start` ticked.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_manager.checkpoints.vouched import FILE_NAME as VOUCHED
from kaggle_manager.cli.schedule.entry import WRITTEN_BY, Entry
from kaggle_manager.cli.schedule.job import PATIENT_CODES, TickJob, one_line
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.project import STATE_FOLDER, sections_folder

_ACCEPTED = "give what pip installs, such as git+https://...@TAG, the version you have tried, or . for this repository"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def entry(job: TickJob) -> Entry:
    """The workflow's file; without a `package` an empty one, which is enough to remove it.

    Raises:
        ConfigError: the job names a folder of this machine or its Kaggle, the project is not the root of its
            repository, or a runner could not install what `package` names.
    """
    if job.workdir or job.local_asked:
        raise _refused(
            "A runner of GitHub has neither the folders nor the local Kaggle.",
            "leave out --workdir and --platform local",
        )
    root = next((folder for folder in (job.project, *job.project.parents) if (folder / ".git").exists()), job.project)
    if root != job.project:
        raise _refused(
            f"GitHub reads workflows at the root of a repository, which is {root}; the project is {job.project}.",
            "give the project a repository of its own, or choose cron, systemd or windows",
        )
    file = job.project / f".github/workflows/{job.label}.yml"
    return Entry(
        name=job.label,
        files={file: b"" if job.package is None else _workflow(job, job.package).encode()},
        activate=(
            "gh secret set KAGGLE_API_TOKEN        # the API token of kaggle.com/settings; asks for its value",
            # The runner checks the repository out: what the section needs must be in it as well.
            f"git add {_quoted(file, job.project / sections_folder(job.project), root=root)} && git commit && git push",
            f"gh workflow run {job.label}.yml -f start=true",
        ),
        deactivate=(f"git rm --cached {_quoted(file, root=root)}; git commit && git push",),
        words=f"""\
GitHub runs one tick every {job.every} on a machine of its own, from the default branch, later than asked when it is
busy. The token comes from the repository's secret KAGGLE_API_TOKEN and is seen by one step alone; the secrets
KM_NOTIFY and KM_NOTIFY_ON, when set, say where messages go. Journal and training tree travel in the repository's
cache: in a public repository a pull request can read them. The first tick is started by hand with `start` ticked; a
later one that finds no state stops and says so. In a private repository each tick counts against the minutes of your
plan, and in a public one GitHub switches schedules off after 60 days without a commit.""",
    )


def _quoted(*paths: Path, root: Path) -> str:
    return shlex.join(str(path.relative_to(root)) for path in paths)


def _install(package: str, project: Path) -> str:
    """The line that installs this program on a runner; `package` is one word of it, whatever it holds."""
    package = package.strip()
    if not package or package.startswith("-") or not package.isprintable():
        raise _refused(f"--package {package!r} names no package.", _ACCEPTED)
    if package.startswith((".", "/", "~", "\\")):
        place = (project / package).resolve()
        if not place.is_relative_to(project.resolve()) or not (place.is_file() or (place / "pyproject.toml").is_file()):
            raise _refused(f"--package {package} is no package that {project} holds.", _ACCEPTED)
    if re.search(r"https?://[^/\s]*@", package):
        raise _refused("--package holds a user name or a password, and the workflow is no place for one.", _ACCEPTED)
    constraints = ["--constraint", "constraints.txt"] if (project / "constraints.txt").is_file() else []
    return _line(["python", "-m", "pip", "install", "--quiet", *constraints, package], "--package")


def _line(words: Sequence[str], what: str) -> str:
    """A line of a shell script in the workflow.

    Raises:
        ConfigError: it holds a line break, or what GitHub replaces before the shell sees it.
    """
    line = one_line(shlex.join(words), what)
    if "${{" in line:
        raise _refused(f"{what} holds ${{{{, which GitHub would replace.", "leave it out")
    return line


def _refused(message: str, next_step: str) -> ConfigError:
    return ConfigError(message, safe="nothing was written", next_step=next_step)


def _workflow(job: TickJob, package: str) -> str:
    trees = [Path(tree).relative_to(job.project).as_posix() for tree in job.trees]
    options = [*job.arguments, "--platform", "kaggle"]
    install = _install(package, job.project)
    command = _line(["python", "-m", "kaggle_manager.cli", "tick", *options], "An option of this run")
    hours = ",".join(map(str, job.slots.hours)) or "*"
    times = f"{','.join(map(str, job.slots.minutes))} {hours} * * *"
    journal = f"{STATE_FOLDER}/journal.sqlite"
    vouched = f"{STATE_FOLDER}/{VOUCHED}"
    kept = "\n            ".join([f"{journal}*", vouched, *(name for tree in trees for name in (tree, f"{tree}.*"))])
    content = f"hashFiles({', '.join(repr(name) for name in [f'{journal}*', *(f'{tree}/**' for tree in trees)])})"
    patient = "|".join(str(code) for code in (0, *PATIENT_CODES))
    # JSON is YAML: a quoted value stays what it is.
    return f"""\
# {WRITTEN_BY}
name: {json.dumps(job.label)}
on:
  schedule:
    - cron: {json.dumps(times)}
  workflow_dispatch:
    inputs:
      start:
        description: Begin a run when there is no state of one
        type: boolean
        default: false
permissions:
  contents: read
# Ticks wait for each other: each goes on from the state the one before it left.
concurrency:
  group: {json.dumps(job.label)}
  cancel-in-progress: false
jobs:
  tick:
    runs-on: ubuntu-latest
    timeout-minutes: 75
    steps:
      - uses: actions/checkout@v6
        with:
          persist-credentials: false
      - uses: actions/setup-python@v6
        with:
          python-version: {json.dumps(_PYTHON)}
      - name: Install the manager, without the training libraries
        run: |
          {install}
      - name: Restore what the last tick knew
        id: state
        uses: actions/cache/restore@v5
        with:
          path: |
            {kept}
          key: {job.label}/state-
          restore-keys: {job.label}/state-
      - name: Never start from zero by accident
        if: steps.state.outputs.cache-matched-key == '' && !inputs.start
        run: |
          echo "::error::No state of this run was found. To begin one, run this workflow by hand with 'start' ticked."
          exit 1
      - name: Tick
        timeout-minutes: 60
        env:
          KAGGLE_API_TOKEN: ${{{{ secrets.KAGGLE_API_TOKEN }}}}
          KM_NOTIFY: ${{{{ secrets.KM_NOTIFY }}}}
          KM_NOTIFY_ON: ${{{{ secrets.KM_NOTIFY_ON }}}}
        run: |
          code=0
          {command} || code=$?
          case $code in
            {patient}) echo "tick ended with $code: done, or the next tick continues" ;;
            *) exit "$code" ;;
          esac
      # Named by its content: a tick that changed nothing stores nothing.
      - name: Keep what this tick knows
        if: always() && hashFiles('{journal}') != ''
        uses: actions/cache/save@v5
        with:
          path: |
            {kept}
          key: {job.label}/state-${{{{ {content} }}}}
"""
