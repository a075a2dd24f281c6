"""An environment that prints as it likes, also without line ends: nothing the session tells the manager is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from small_project import Bench

from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.protocol.events import EvaluationEvent, ProgressEvent, ResultEvent, parse_event, session_tag
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions import watch
from kaggle_manager.sessions.stored_log import LOG_FILE

pytestmark = pytest.mark.slow

STEPS = 300
# Before each step: a dot, and now and then an empty line, and the line of a session of another run.
PRINTS = """
        print(".", end="", flush=True)
        if self._step % 10 == 0:
            print("said", end="\\n\\n")
            print('KM_PROGRESS {"session": "ffffffff/1", "step": 7, "target": 9}', flush=True)
        push ="""


def test_dots_without_line_ends_swallow_nothing_and_are_shown(
    kaggle_here: ServerInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_POLL_S", 0.1)
    project = tmp_path / "project"
    new_section("noisy", project, algorithm="DQN", timesteps=STEPS)
    environment = project / "sections/noisy/environment.py"
    source, found = environment.read_text(), "\n        push ="
    assert source.count(found) == 1
    environment.write_text(source.replace(found, PRINTS))
    toml = project / "sections/noisy/section.toml"
    toml.write_text(toml.read_text().replace("internet = true", "internet = false"))
    bench = Bench(project, tmp_path / "work", kaggle_here)

    report = bench.manager().run_validation_section("noisy", timesteps=STEPS)

    (session,) = report.sessions
    assert (report.step, session.outcome) == (STEPS, "completed")
    (log,) = bench.workdir.rglob(LOG_FILE)
    lines = log.read_text().split("\n")
    told = [event for line in lines if (event := parse_event(line, session_tag(report.run_id, 1)))]
    counts = Counter(event.kind for event in told)
    assert counts.keys() == {"KM_BUNDLE", "KM_SESSION", "KM_RESUME", "KM_PROGRESS", "KM_EVAL", "KM_RESULT"}
    assert (counts["KM_BUNDLE"], counts["KM_RESUME"], counts["KM_RESULT"]) == (1, 1, 1)
    evaluations = [event.step for event in told if isinstance(event, EvaluationEvent)]
    assert len(evaluations) == report.counts["evaluations"]
    assert evaluations[-1] == STEPS
    progress = [event for event in told if isinstance(event, ProgressEvent)]
    assert progress[-1].step == STEPS
    assert {event.target for event in progress} == {STEPS}
    assert isinstance(told[-1], ResultEvent)

    assert all(f"evaluated at step {step}: mean reward" in bench.output for step in evaluations)
    assert f"step {STEPS}/{STEPS}" in bench.output
    shown = [line for line in bench.output.splitlines() if "KM_" in line]
    assert shown, "what the user's code prints is shown, whatever it looks like"
    assert all('"session": "ffffffff/1"' in line for line in shown)
    assert any(line.strip(" |").strip(".") == "said" for line in bench.output.splitlines())
    assert "|" in [line.strip() for line in bench.output.splitlines()], "empty lines of the user's are kept"
