"""A workflow of GitHub Actions.

A runner starts empty, so what a run must remember - the journal and the training tree, neither of which holds a
secret - travels between ticks in the repository's cache. A cache and not an artifact, because a pull request from a
fork cannot write into the cache of the default branch, reading it needs no token, and it is kept as long as it is
used. Both can be lost; a scheduled tick that finds no state therefore stops instead of starting a run once more from
zero: a run begins when a person starts the workflow with `start` ticked.
"""

from __future__ import annotations

import json
import shlex
import sys

from kaggle_manager.cli.schedule.entry import Entry
from kaggle_manager.cli.schedule.job import PATIENT_CODES, TickJob, one_line
from kaggle_manager.config import STATE_FOLDER
from kaggle_manager.errors import ConfigError

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def entry(job: TickJob) -> Entry:
    """Raises:
    ConfigError: the job names a folder of this machine or its Kaggle, or the project does not hold this program,
        which the workflow installs from there.
    """
    if job.workdir or job.local_asked:
        raise ConfigError(
            "A runner of GitHub has neither the folders nor the Kaggle of this machine.",
            safe="nothing was written",
            next_step="leave out --workdir and --platform local",
        )
    if not (job.project / "kaggle_manager").is_dir() or not (job.project / "constraints.txt").is_file():
        raise ConfigError(
            f"The workflow would install the manager from the repository, and {job.project} does not hold it.",
            safe="nothing was written",
            next_step="choose cron, systemd or windows, or keep the section in a copy of the whole project",
        )
    file = job.project / f".github/workflows/{job.label}.yml"
    return Entry(
        name=job.label,
        files={file: _workflow(job).encode()},
        activate=(
            "gh secret set KAGGLE_API_TOKEN        # the API token of kaggle.com/settings; asks for its value",
            f"git add {shlex.quote(str(file.relative_to(job.project)))} && git commit && git push",
            f"gh workflow run {job.label}.yml -f start=true",
        ),
        deactivate=(f"git rm --cached {shlex.quote(str(file.relative_to(job.project)))}; git commit && git push",),
        words=f"""\
GitHub runs one tick every {job.every} on a machine of its own, from the default branch, later than asked when it is
busy. The token comes from the repository's secret KAGGLE_API_TOKEN and is seen by one step alone; the secrets
KM_NOTIFY and KM_NOTIFY_ON, when set, say where messages go. Journal and training tree travel in the repository's
cache: in a public repository a pull request can read them. The first tick is started by hand with `start` ticked; a
later one that finds no state stops and says so. In a private repository each tick counts against the minutes of your
plan, and in a public one GitHub switches schedules off after 60 days without a commit.""",
    )


def _workflow(job: TickJob) -> str:
    tree = job.tree.relative_to(job.project).as_posix()
    options = [*job.arguments, "--platform", "kaggle"]
    command = one_line(shlex.join(["python", "-m", "kaggle_manager.cli", "tick", *options]), "An option of this run")
    hours = ",".join(map(str, job.slots.hours)) or "*"
    times = f"{','.join(map(str, job.slots.minutes))} {hours} * * *"
    journal = f"{STATE_FOLDER}/journal.sqlite"
    content = f"hashFiles('{journal}*', '{tree}/**')"
    patient = "|".join(str(code) for code in (0, *PATIENT_CODES))
    # JSON is YAML: a quoted value stays what it is.
    return f"""\
# Written by kaggle-manager schedule; --remove takes it out.
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
        run: python -m pip install --quiet --constraint constraints.txt --editable .
      - name: Fetch what the last tick knew
        id: state
        uses: actions/cache/restore@v5
        with:
          path: |
            {journal}*
            {tree}
            {tree}.*
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
            {patient}) echo "tick ended with $code: done, or the next tick goes on" ;;
            *) exit "$code" ;;
          esac
      # Named by its content: a tick that changed nothing stores nothing.
      - name: Keep what this tick knows
        if: always() && hashFiles('{journal}') != ''
        uses: actions/cache/save@v5
        with:
          path: |
            {journal}*
            {tree}
            {tree}.*
          key: {job.label}/state-${{{{ {content} }}}}
"""
