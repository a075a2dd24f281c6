"""The real command in processes of its own, with a small project and a Kaggle that nobody else uses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from small_project import SECTION, TRAINER, installed

from kaggle_manager.errors import NotFinished, retryable_exit_codes
from kaggle_manager.local_kaggle.launcher import stop

# Of the JSON of a run that has a session.
IS_LIVE = re.compile(r'"state": "(queued|running)"')
# What such a small trainer has to offer a preflight; a section may bring its own.
PREFLIGHT = 'import json\nprint(json.dumps({"schema": 1, "ok": True, "checks": []}, indent=2))\n'


@dataclass
class Shell:
    """The command in a project of its own, without anybody's credentials or settings."""

    project: Path
    work: Path

    @property
    def section_folder(self) -> Path:
        return self.project / "sections" / SECTION

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE_", "KM_"))}
        home = str(self.project)
        settings = {"KM_PLATFORM": "local", "KM_WORKDIR": str(self.work)}
        return {**kept, **settings, "PYTHONPATH": str(installed(self.project)), "HOME": home, "USERPROFILE": home}

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kaggle_manager.cli", *arguments],
            env=self.environment,
            cwd=self.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ends_with(self, code: int, *arguments: str) -> str:
        """Run it; all that it said, after a look at how it said it."""
        with self.popen(*arguments) as process:
            out, err = process.communicate(timeout=500)
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{out}{err}"
        assert "Traceback" not in err
        if code and code != NotFinished.exit_code and "--json" in arguments:
            document = json.loads(out)
            assert (document["schema"], document["state"], document["exit_code"]) == (1, "error", code)
            assert document["human_action_required"] == (code not in retryable_exit_codes())
        return out + err

    def limits(self, **limits: float) -> None:
        """Other limits of the local Kaggle, from its next start."""
        stop(self.work / "local_kaggle")
        (self.work / "local_kaggle").mkdir(parents=True, exist_ok=True)
        (self.work / "local_kaggle/limits.json").write_text(json.dumps({"ingestion_s": 0.0, **limits}))

    def does(self, plan: dict[int, str]) -> None:
        """What the trainer does, by generation."""
        main = installed(self.project) / TRAINER
        lines = [f"PLAN = {plan}" if line.startswith("PLAN =") else line for line in main.read_text().splitlines()]
        main.write_text("\n".join(lines) + "\n")
