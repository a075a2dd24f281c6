"""What comes of a trial that is over: a score, a failure of its own, or an error that no trial is to blame for."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import AuthError, Diverged, KernelFailed
from kaggle_manager.orchestrator.campaign import Member
from kaggle_manager.sections.sweep import Sweep
from kaggle_manager.sections.trial import study_folder
from kaggle_manager.sweeps import loop as sweeping
from kaggle_manager.sweeps.loop import SweepLoop, _alike, result_of
from kaggle_manager.sweeps.study import Result, Study

SECTION = """
name = "toy"
title = "Toy"
trains = true
default_scenario = "fit"

[scenarios.fit]
script = "train.py"
arguments = ["--lr", "0.1"]
target = 40
models = "models"
quick = { models = "quick" }
"""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    folder = tmp_path / "sections" / "toy"
    folder.mkdir(parents=True)
    (folder / "section.toml").write_text(SECTION)
    space = {"arguments.lr": {"low": 0.0, "high": 1}}
    sweep = Sweep.model_validate({"metric": "loss", "direction": "minimize", "trials": 3, "space": space})
    Study.begin(study_folder(tmp_path / "work", "toy"), "fit", (40,), sweep, "it").add({"arguments.lr": 0.5}, 0)
    where: dict[str, Any] = {"workdir": tmp_path / "work", "project_root": tmp_path, "environ": {}}
    return build_config("toy", scenario="fit_trial_0", **where)


def over(config: RunConfig, step: int, **told: float) -> Member:
    history = config.tree / "history"
    history.mkdir(parents=True, exist_ok=True)
    lines = [{"step": int(name[1:]), "name": name[0], "value": value} for name, value in told.items()]
    (history / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "no metric\n{}\n")
    return Member(config, 10, SimpleNamespace(step=step, state="ready"))  # type: ignore[arg-type]


def test_a_run_of_a_trial_is_a_run_of_its_scenario(config: RunConfig) -> None:
    assert config.trial is not None
    assert (config.scenario_name, config.scenario_in_section) == ("fit_trial_0", "fit")
    assert config.tree.name == "models_trial_0"
    assert config.section.scenario("fit_trial_0").model_dump()["arguments"] == ["--lr", "0.5"]
    assert "--scenario fit_trial_0" in config.command("run")


def test_the_score_is_the_newest_value_up_to_its_step(config: RunConfig) -> None:
    member = over(config, 10, l5=3.0, l10=2.0, l11=1.0, m10=9.0)
    assert member.is_over
    assert result_of(member, "l") == Result(trial=0, step=10, score=2.0)
    assert replace(member, pause_at=30).next_session.max_steps == 20, "from where it is to the next pause"


def test_a_metric_that_nobody_reports_is_a_failure_that_names_those_there_are(config: RunConfig) -> None:
    for told in ({"m5": 3.0, "n5": 1.0}, {"l5": float("nan"), "m5": 3.0}):
        result = result_of(over(config, 10, **told), "l")
        assert (result.score, result.alike != "") == (None, True)
        assert f"no finite l until step 10 (it told {', '.join(sorted(name[0] for name in told))})" in result.failure


def test_what_is_no_fault_of_a_trial_ends_the_sweep_when_no_other_is_on_its_way(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "write_storage", lambda study: None)  # Optuna may not be here
    study = Study.read(study_folder(config.state, "toy"))
    other = replace(config, trial=study.add({"arguments.lr": 0.7}, 5))
    shown = Reporter(io.StringIO())
    loop = SweepLoop(None, study, lambda scenario, seed: config, shown, 3)  # type: ignore[arg-type]
    broken, going = over(config, 0), Member(other, 10)
    broken.error, loop.campaign.members = AuthError("no credentials"), [broken, going]
    loop._collect()
    going.error = KernelFailed("Run x was stopped.\nLast: session 1 KeyError")
    with pytest.raises(AuthError):
        loop._collect()
    assert [(each.trial, each.alike) for each in study.state.results] == [(1, "session # KeyError")]


def failed(run: str, why: str) -> KernelFailed:
    return KernelFailed(f"Run {run} was stopped: 3 sessions in a row ended so: {why}.\nLast: session 3 {why}")


def test_failures_at_the_start_are_alike_whatever_run_and_number_they_name() -> None:
    one = _alike(failed("54e9ec588cf649eea9a33149a339b284", "KeyError: 'lr' at 0x7f3a1c2d4e50"), 0)
    other = _alike(failed("0a11ec588cf649eea9a33149a339b999", "KeyError: 'lr' at 0x7f3a00000000"), 0)
    assert one == other != ""
    assert _alike(failed("54e9ec588cf649eea9a33149a339b284", "KeyError: 'rl'"), 0) not in ("", one)


def test_what_had_trained_or_ran_away_says_nothing_about_the_next_trial() -> None:
    assert _alike(failed("54e9ec588cf649eea9a33149a339b284", "KeyError: 'lr'"), 64) == ""
    assert _alike(Diverged("Run x was stopped.\nLast: session 1 diverged"), 0) == ""
